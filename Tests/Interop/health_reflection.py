"""The stock Python clients of grpc.health.v1 and grpc.reflection against a Martlet server.

Usage: health_reflection.py --port N --ca FILE [--cert FILE --key FILE] PART
Prints a line for each check; exits with 1 if one fails.

Parts:
  reflection   what the server describes, found by the stock client library
  health       what the server says of itself while all is well
  watch        prints a line for each message of the watches it has begun, and for their ends, until all have ended.
               It appends an event whenever a line comes on standard input, and says what became of that
"""

import argparse
import queue
import sys
import threading
import uuid

import grpc
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

STATUS = health_pb2.HealthCheckResponse
TIMEOUT = 20


class Failure(Exception):
    """A check failed."""


def expect(condition, what):
    if not condition:
        raise Failure(what)


def open_channel(arguments):
    def read(path):
        if path is None:
            return None
        with open(path, "rb") as file:
            return file.read()

    credentials = grpc.ssl_channel_credentials(read(arguments.ca), read(arguments.key), read(arguments.cert))
    return grpc.secure_channel(f"127.0.0.1:{arguments.port}", credentials)


# Reflection


def check_services(channel):
    """The services are listed."""
    services = ProtoReflectionDescriptorDatabase(channel).get_services()
    expect(list(services) == sorted(set(services)), f"not sorted, or twice: {services}")
    for name in [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "martlet.v1.AppendService",
        "martlet.v1.QueryService",
    ]:
        expect(name in services, f"{name} is missing in {services}")


def check_methods(channel):
    """Each service is found with its methods, and these with their messages."""
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    for service in described(database):
        descriptor = pool.FindServiceByName(service)
        expect(descriptor.methods, f"{service} has no methods")
        for method in descriptor.methods:
            for message in [method.input_type, method.output_type]:
                found = pool.FindMessageTypeByName(message.full_name)
                expect(found is message, f"{message.full_name} is two messages")


def check_files(channel):
    """Every file is found by its name, and by each symbol that it defines."""
    database = ProtoReflectionDescriptorDatabase(channel)
    seen = {}
    waiting = [database.FindFileContainingSymbol(service) for service in described(database)]
    while waiting:
        file = waiting.pop()
        if file.name in seen:
            continue
        seen[file.name] = file
        expect(not file.HasField("source_code_info"), f"{file.name} has its comments")
        for symbol in symbols(file):
            # Each with a database of its own: one that knows a file asks no more.
            found = ask(channel, file_containing_symbol=symbol)
            expect(found[0].name == file.name, f"{symbol} is in {found[0].name}, not {file.name}")
        waiting += [database.FindFileByName(name) for name in file.dependency]
    for file in seen.values():
        answer = {found.name for found in ask(channel, file_by_filename=file.name)}
        expect(answer == closure(file, seen), f"{file.name} comes with {answer}")
    expect(len(seen) > 5, f"{sorted(seen)}")


def check_generated(channel):
    """The files are those that clients are generated from."""
    import importlib
    import pathlib

    folder = next(pathlib.Path(path) / "martlet/v1" for path in sys.path if (pathlib.Path(path) / "martlet/v1").is_dir())
    modules = sorted(folder.glob("*_pb2.py"))
    expect(modules, f"nothing is generated in {folder}")
    for module in modules:
        ours = descriptor_pb2.FileDescriptorProto()
        importlib.import_module(f"martlet.v1.{module.stem}").DESCRIPTOR.CopyToProto(ours)
        theirs = ask(channel, file_by_filename=ours.name)[0]
        for message in walk_messages(theirs.message_type):
            for field in list(message.field) + list(message.extension):
                # Python's own descriptors leave it away.
                field.ClearField("json_name")
        expect(theirs == ours, f"{ours.name} differs from what is generated from it")


def check_missing(channel):
    """What is not there is answered with an error, and the stream goes on."""
    requests = [
        ({"file_by_filename": "nothing.proto"}, grpc.StatusCode.NOT_FOUND),
        ({"file_containing_symbol": "martlet.v1.Nothing"}, grpc.StatusCode.NOT_FOUND),
        ({"all_extension_numbers_of_type": "martlet.v1.Nothing"}, grpc.StatusCode.NOT_FOUND),
        (
            {
                "file_containing_extension": reflection_pb2.ExtensionRequest(
                    containing_type="grpc.health.v1.HealthCheckRequest", extension_number=7
                )
            },
            grpc.StatusCode.NOT_FOUND,
        ),
        ({}, grpc.StatusCode.INVALID_ARGUMENT),
    ]
    sent = [reflection_pb2.ServerReflectionRequest(**request) for request, _ in requests]
    answers = list(reflect(channel)(iter(sent), timeout=TIMEOUT))
    expect(len(answers) == len(sent), f"{len(answers)} answers")
    for answer, request, (_, code) in zip(answers, sent, requests):
        expect(answer.original_request == request, f"{answer} answers {request}")
        expect(answer.error_response.error_code == code.value[0], f"{request}: {answer.error_response}")
        expect(answer.error_response.error_message, f"{request} has no message")


def check_versions(channel):
    """v1 answers as v1alpha does."""
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    v1 = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    answers = [list(method(iter([request]), timeout=TIMEOUT)) for method in [v1, reflect(channel)]]
    expect(answers[0] == answers[1] and len(answers[0]) == 1, f"{answers}")


def check_many(channel):
    """A client that asks a thousand times before it reads is answered a thousand times."""
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol="martlet.v1.QueryService")
    answers = reflect(channel)(iter([request] * 1_000), timeout=TIMEOUT)
    expect(sum(1 for answer in answers if answer.HasField("file_descriptor_response")) == 1_000, "answers are missing")


def reflect(channel):
    return reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo


def described(database):
    """The services that the server lists and describes."""
    return database.get_services()


def ask(channel, **question):
    """The files of the answer to one request."""
    request = reflection_pb2.ServerReflectionRequest(**question)
    answer = list(reflect(channel)(iter([request]), timeout=TIMEOUT))[0]
    expect(answer.HasField("file_descriptor_response"), f"{question}: {answer}")
    return [
        descriptor_pb2.FileDescriptorProto.FromString(file)
        for file in answer.file_descriptor_response.file_descriptor_proto
    ]


def closure(file, files):
    names = {file.name}
    for name in file.dependency:
        names |= closure(files[name], files)
    return names


def walk_messages(messages):
    for message in messages:
        yield message
        yield from walk_messages(message.nested_type)


def symbols(file):
    """The full names of all that a file defines."""
    prefix = file.package + "."

    def of_enum(enum, prefix):
        yield prefix + enum.name
        for value in enum.value:
            yield prefix + value.name

    def of_message(message, prefix):
        name = prefix + message.name
        yield name
        for part in [*message.field, *message.oneof_decl]:
            yield f"{name}.{part.name}"
        for enum in message.enum_type:
            yield from of_enum(enum, name + ".")
        for nested in message.nested_type:
            yield from of_message(nested, name + ".")

    for message in file.message_type:
        yield from of_message(message, prefix)
    for enum in file.enum_type:
        yield from of_enum(enum, prefix)
    for service in file.service:
        yield prefix + service.name
        for method in service.method:
            yield f"{prefix}{service.name}.{method.name}"


# Health


def check_health(channel):
    """Every service that is listed is serving, and so is the server."""
    stub = health_pb2_grpc.HealthStub(channel)
    services = ProtoReflectionDescriptorDatabase(channel).get_services()
    for service in ["", *services]:
        status = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT).status
        expect(status == STATUS.SERVING, f"{service!r}: {STATUS.ServingStatus.Name(status)}")


def check_list(channel):
    """List, which this version of the stock client does not know, by what reflection says of it."""
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    method = pool.FindServiceByName("grpc.health.v1.Health").FindMethodByName("List")
    request, response = (
        message_factory.MessageFactory(pool).GetPrototype(message) for message in [method.input_type, method.output_type]
    )
    call = channel.unary_unary(
        "/grpc.health.v1.Health/List",
        request_serializer=request.SerializeToString,
        response_deserializer=response.FromString,
    )
    statuses = {name: entry.status for name, entry in call(request(), timeout=TIMEOUT).statuses.items()}
    services = ProtoReflectionDescriptorDatabase(channel).get_services()
    expect(statuses == dict.fromkeys(["", *services], STATUS.SERVING), f"{statuses}")


def check_unknown(channel):
    """An unknown service is not found by Check; Watch says that it is unknown, and stays."""
    stub = health_pb2_grpc.HealthStub(channel)
    try:
        stub.Check(health_pb2.HealthCheckRequest(service="martlet.v1.Nothing"), timeout=TIMEOUT)
        raise Failure("it was found")
    except grpc.RpcError as error:
        expect(error.code() == grpc.StatusCode.NOT_FOUND, f"{error}")
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="martlet.v1.Nothing"), timeout=TIMEOUT)
    statuses = [next(watch).status]
    # Only now, however long the first one took: nothing more comes, and it does not end by itself.
    threading.Timer(0.5, watch.cancel).start()
    try:
        for message in watch:
            statuses.append(message.status)
        raise Failure(f"it ended after {statuses}")
    except grpc.RpcError as error:
        expect(error.code() == grpc.StatusCode.CANCELLED, f"{error}")
        expect(statuses == [STATUS.SERVICE_UNKNOWN], f"{statuses}")


def watch(channel):
    """Reports what watches are told."""
    from martlet.v1 import append_pb2

    stub = health_pb2_grpc.HealthStub(channel)
    append = channel.unary_unary(
        "/martlet.v1.AppendService/Append",
        request_serializer=append_pb2.AppendRequest.SerializeToString,
        response_deserializer=append_pb2.AppendResponse.FromString,
    )
    services = ["", "martlet.v1.AppendService", "martlet.v1.QueryService", "grpc.health.v1.Health"]
    lines = queue.Queue()

    def follow(service):
        name = service or "whole"
        try:
            for message in stub.Watch(health_pb2.HealthCheckRequest(service=service)):
                lines.put(f"{name}: {STATUS.ServingStatus.Name(message.status)}")
            lines.put(f"{name} ended: OK")
        except grpc.RpcError as error:
            lines.put(f"{name} ended: {error.code().name}")
        lines.put(None)

    def append_when_told():
        for line in sys.stdin:
            request = append_pb2.AppendRequest(tenant=uuid.UUID(int=7).bytes)
            part = request.aggregates.add()
            part.aggregate.type = "order"
            part.aggregate.id = uuid.uuid4().bytes
            part.expected.any = True
            payload = b'"' + b"x" * int(line) + b'"'
            part.events.add(id=uuid.uuid4().bytes, type="Placed", payload=payload)
            try:
                append(request, timeout=TIMEOUT)
                lines.put("append: OK")
            except grpc.RpcError as error:
                lines.put(f"append: {error.code().name}")

    for service in services:
        threading.Thread(target=follow, args=[service], daemon=True).start()
    threading.Thread(target=append_when_told, daemon=True).start()
    left = len(services)
    while left:
        line = lines.get()
        if line is None:
            left -= 1
        else:
            print(line, flush=True)


PARTS = {
    "reflection": [
        check_services,
        check_methods,
        check_files,
        check_generated,
        check_missing,
        check_versions,
        check_many,
    ],
    "health": [check_health, check_list, check_unknown],
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("part", choices=[*PARTS, "watch"])
    arguments = parser.parse_args()
    with open_channel(arguments) as channel:
        if arguments.part == "watch":
            watch(channel)
            return 0
        failed = 0
        for check in PARTS[arguments.part]:
            try:
                check(channel)
                print(f"{check.__doc__} passed")
            except (Failure, grpc.RpcError, KeyError, TypeError) as error:
                failed += 1
                print(f"{check.__doc__} FAILED: {error}")
        return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
