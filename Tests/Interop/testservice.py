"""gRPC's interoperability cases, against grpc.testing.TestService on Martlet's own gRPC layer, from the stock Python client.

Usage: testservice.py SERVER CERTIFICATE KEY CA [CASE ...]
Starts the server, a program that says `port N`.
Prints a line for each case; exits with 1 if one fails. The cases are those of gRPC's description of its interoperability
tests; the two that it leaves open, flow control and concurrent calls, are described where they stand.
"""

import argparse
import subprocess
import sys
import threading
import time

import grpc
from grpc_testing import empty_pb2, messages_pb2

REQUEST_BYTES = 271_828
RESPONSE_BYTES = 314_159
INPUT_SIZES = [27_182, 8, 1_828, 45_904]
OUTPUT_SIZES = [31_415, 9, 2_653, 58_979]


class Stub:
    """The methods of TestService."""

    def __init__(self, channel):
        def method(kind, name, request, response, service="TestService"):
            return getattr(channel, kind)(
                f"/grpc.testing.{service}/{name}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )

        m = messages_pb2
        self.empty = method("unary_unary", "EmptyCall", empty_pb2.Empty, empty_pb2.Empty)
        self.unary = method("unary_unary", "UnaryCall", m.SimpleRequest, m.SimpleResponse)
        self.output = method(
            "unary_stream", "StreamingOutputCall", m.StreamingOutputCallRequest, m.StreamingOutputCallResponse
        )
        self.input = method(
            "stream_unary", "StreamingInputCall", m.StreamingInputCallRequest, m.StreamingInputCallResponse
        )
        self.duplex = method(
            "stream_stream", "FullDuplexCall", m.StreamingOutputCallRequest, m.StreamingOutputCallResponse
        )
        self.unimplemented = method("unary_unary", "UnimplementedCall", empty_pb2.Empty, empty_pb2.Empty)
        self.unimplemented_service = method(
            "unary_unary", "UnimplementedCall", empty_pb2.Empty, empty_pb2.Empty, "UnimplementedService"
        )


def payload(size):
    return messages_pb2.Payload(body=b"\0" * size)


def output_request(*sizes, **fields):
    return messages_pb2.StreamingOutputCallRequest(
        response_parameters=[messages_pb2.ResponseParameters(size=size) for size in sizes], **fields
    )


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def status_of(call):
    """The code and the message that a call ends with."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


class Feed:
    """An iterator that gives what it is fed, until it is closed."""

    def __init__(self):
        self.items, self.closed, self.condition = [], False, threading.Condition()

    def put(self, item):
        with self.condition:
            self.items.append(item)
            self.condition.notify()

    def close(self):
        with self.condition:
            self.closed = True
            self.condition.notify()

    def __iter__(self):
        return self

    def __next__(self):
        with self.condition:
            while not self.items and not self.closed:
                self.condition.wait()
            if self.items:
                return self.items.pop(0)
            raise StopIteration


def empty_unary(stub):
    check(stub.empty(empty_pb2.Empty()) == empty_pb2.Empty(), "the answer is empty")


def large_unary(stub):
    answer = stub.unary(messages_pb2.SimpleRequest(response_size=RESPONSE_BYTES, payload=payload(REQUEST_BYTES)))
    check(answer.payload.body == b"\0" * RESPONSE_BYTES, "the body is zeros")


def client_streaming(stub):
    requests = (messages_pb2.StreamingInputCallRequest(payload=payload(size)) for size in INPUT_SIZES)
    check(stub.input(requests).aggregated_payload_size == sum(INPUT_SIZES), "the sizes add up")


def server_streaming(stub):
    sizes = [len(answer.payload.body) for answer in stub.output(output_request(*OUTPUT_SIZES))]
    check(sizes == OUTPUT_SIZES, f"{sizes}")


def ping_pong(stub):
    feed = Feed()
    answers = stub.duplex(feed)
    for asked, sent in zip(OUTPUT_SIZES, INPUT_SIZES):
        feed.put(output_request(asked, payload=payload(sent)))
        check(len(next(answers).payload.body) == asked, "one answer for each message")
    feed.close()
    check(list(answers) == [], "nothing follows")


def empty_stream(stub):
    check(list(stub.duplex(iter(()))) == [], "nothing comes of nothing")


def client_compressed_unary(stub, compressed_stub):
    """With its probe, which claims to be compressed and is not."""
    request = messages_pb2.SimpleRequest(response_size=RESPONSE_BYTES, payload=payload(REQUEST_BYTES))
    request.expect_compressed.value = True
    code, _ = status_of(lambda: stub.unary(request))
    check(code == grpc.StatusCode.INVALID_ARGUMENT, f"the probe ends with {code}")
    check(len(compressed_stub.unary(request).payload.body) == RESPONSE_BYTES, "compressed requests are read")
    request.expect_compressed.value = False
    check(len(stub.unary(request).payload.body) == RESPONSE_BYTES, "so are others")


def server_compressed_unary(stub, _):
    for compressed in (True, False):
        request = messages_pb2.SimpleRequest(response_size=RESPONSE_BYTES, payload=payload(REQUEST_BYTES))
        request.response_compressed.value = compressed
        answer, call = stub.unary.with_call(request)
        check(answer.payload.body == b"\0" * RESPONSE_BYTES, "the answer is whole, compressed or not")
        encoding = dict(call.initial_metadata()).get("grpc-encoding")
        check(encoding in (None, "gzip", "identity"), f"grpc-encoding is {encoding}")


def client_compressed_streaming(stub, compressed_stub):
    """With its probe, which claims to be compressed and is not."""

    def requests():
        # The client sends as it is what compression does not make shorter.
        for size in (27_182, 45_904):
            request = messages_pb2.StreamingInputCallRequest(payload=payload(size))
            request.expect_compressed.value = True
            yield request

    code, _ = status_of(lambda: stub.input(requests()))
    check(code == grpc.StatusCode.INVALID_ARGUMENT, f"the probe ends with {code}")
    size = compressed_stub.input(requests()).aggregated_payload_size
    check(size == 27_182 + 45_904, f"{size}")


def server_compressed_streaming(stub, _):
    request = output_request(31_415, 92_653)
    for parameters, compressed in zip(request.response_parameters, (True, False)):
        parameters.compressed.value = compressed
    check([len(a.payload.body) for a in stub.output(request)] == [31_415, 92_653], "both answers are whole")


def custom_metadata(stub):
    initial, trailing = "test_initial_metadata_value", b"\x0a\x0b\x0a\x0b\x0a\x0b"
    metadata = (("x-grpc-test-echo-initial", initial), ("x-grpc-test-echo-trailing-bin", trailing))
    request = messages_pb2.SimpleRequest(response_size=RESPONSE_BYTES, payload=payload(REQUEST_BYTES))
    _, call = stub.unary.with_call(request, metadata=metadata)

    def verify(call):
        check(dict(call.initial_metadata())["x-grpc-test-echo-initial"] == initial, "initial metadata comes back")
        check(dict(call.trailing_metadata())["x-grpc-test-echo-trailing-bin"] == trailing, "trailing metadata too")

    verify(call)
    answers = stub.duplex(iter([output_request(RESPONSE_BYTES, payload=payload(REQUEST_BYTES))]), metadata=metadata)
    check(len(list(answers)) == 1, "one answer")
    verify(answers)


def echo_status(stub, message):
    status = messages_pb2.EchoStatus(code=2, message=message)
    expected = (grpc.StatusCode.UNKNOWN, message)
    check(status_of(lambda: stub.unary(messages_pb2.SimpleRequest(response_status=status))) == expected, "unary")
    request = messages_pb2.StreamingOutputCallRequest(response_status=status)
    check(status_of(lambda: list(stub.duplex(iter([request])))) == expected, "streaming")


def status_code_and_message(stub):
    echo_status(stub, "test status message")


def special_status_message(stub):
    echo_status(stub, "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n")


def unimplemented_method(stub):
    check(status_of(lambda: stub.unimplemented(empty_pb2.Empty()))[0] == grpc.StatusCode.UNIMPLEMENTED, "its code")


def unimplemented_service(stub):
    code, _ = status_of(lambda: stub.unimplemented_service(empty_pb2.Empty()))
    check(code == grpc.StatusCode.UNIMPLEMENTED, "its code")


def cancel_after_begin(stub):
    feed = Feed()
    call = stub.input.future(feed)
    check(call.cancel(), "it can be cancelled")
    check(call.code() == grpc.StatusCode.CANCELLED, f"{call.code()}")
    feed.close()


def cancel_after_first_response(stub):
    feed = Feed()
    answers = stub.duplex(feed)
    feed.put(output_request(31_415, payload=payload(27_182)))
    next(answers)
    answers.cancel()
    check(status_of(lambda: next(answers))[0] == grpc.StatusCode.CANCELLED, "the stream says so")
    feed.close()


def timeout_on_sleeping_server(stub):
    feed = Feed()
    answers = stub.duplex(feed, timeout=0.001)
    feed.put(output_request(31_415, payload=payload(27_182)))
    code, _ = status_of(lambda: list(answers))
    check(code == grpc.StatusCode.DEADLINE_EXCEEDED, f"{code}")
    feed.close()


def flow_control(stub):
    """A stream of 64 MiB that nobody reads holds up neither the connection nor the server: calls beside it go on, and when
    it is read it is whole."""
    count, size = 256, 256 << 10
    answers = stub.output(output_request(*[size] * count))
    first = next(answers)
    time.sleep(1)
    for _ in range(20):
        check(len(stub.unary(messages_pb2.SimpleRequest(response_size=1_000)).payload.body) == 1_000, "calls go on")
    sizes = [len(first.payload.body)] + [len(answer.payload.body) for answer in answers]
    check(sizes == [size] * count, f"{len(sizes)} of {count} answers")


def concurrent_calls(stub):
    """1,000 calls at a time on one connection, each answered for itself."""
    calls = [stub.unary.future(messages_pb2.SimpleRequest(response_size=1 + index)) for index in range(1_000)]
    for index, call in enumerate(calls):
        check(len(call.result().payload.body) == 1 + index, f"call {index}")
    streams = [stub.output(output_request(*[100 + index] * 3)) for index in range(1_000)]
    for index, stream in enumerate(streams):
        check([len(a.payload.body) for a in stream] == [100 + index] * 3, f"stream {index}")


CASES = [
    empty_unary, large_unary, client_compressed_unary, server_compressed_unary, client_streaming,
    client_compressed_streaming, server_streaming, server_compressed_streaming, ping_pong, empty_stream,
    custom_metadata, status_code_and_message, special_status_message, unimplemented_method, unimplemented_service,
    cancel_after_begin, cancel_after_first_response, timeout_on_sleeping_server, flow_control, concurrent_calls,
]  # fmt: skip


def main():
    parser = argparse.ArgumentParser()
    for name in ("server", "certificate", "key", "ca"):
        parser.add_argument(name)
    parser.add_argument("cases", nargs="*")
    arguments = parser.parse_args()
    with open(arguments.ca, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    server = subprocess.Popen(
        [arguments.server, arguments.certificate, arguments.key], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        failed = run(f"localhost:{server.stdout.readline().split()[1]}", credentials, arguments.cases)
    finally:
        server.stdin.close()
        server.wait()
    sys.exit(1 if failed else 0)


def run(target, credentials, names):
    """Runs the cases of these names, or all; how many failed."""
    failed = 0
    # Compression is a channel's setting in this client, and what one channel learns another does not.
    with grpc.secure_channel(target, credentials) as channel, grpc.secure_channel(
        target, credentials, compression=grpc.Compression.Gzip, options=[("grpc.use_local_subchannel_pool", 1)]
    ) as compressed:
        for case in CASES:
            if names and case.__name__ not in names:
                continue
            stubs = [Stub(channel)]
            if "compressed" in case.__name__:
                stubs.append(Stub(compressed))
            try:
                case(*stubs)
                print(f"{case.__name__}: passed", flush=True)
            except Exception as error:  # Whatever it is, the other cases are run.
                failed += 1
                print(f"{case.__name__}: FAILED: {type(error).__name__}: {error}", flush=True)
    return failed


if __name__ == "__main__":
    main()
