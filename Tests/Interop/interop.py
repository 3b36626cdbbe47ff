"""Appends, loads, subscribes and provokes each error, against a running server; exit code 1 if a check fails.

    interop.py --port 7311 --ca ca.pem --tenant UUID [--cert FILE --key FILE] [--other-tenant UUID]

With --cert the server is one that asks for client certificates, and --other-tenant a tenant that it does not name.
"""

import argparse
import ssl
import struct
import sys
import time
import traceback
import uuid
from types import SimpleNamespace

from martlet.v1 import admin_pb2, append_pb2, event_pb2, frame_pb2, query_pb2, subscribe_pb2

import consumers
import rehydration
import schedules
from martlet_client import Connection, MartletError, aggregate, entries_size, event

parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--ca", required=True)
parser.add_argument("--cert")
parser.add_argument("--key")
parser.add_argument("--tenant", type=uuid.UUID, required=True)
parser.add_argument("--other-tenant", type=uuid.UUID)
options = parser.parse_args()
TENANT = options.tenant.bytes
checks = []


def check(function):
    checks.append(function)
    return function


def connect(**extra):
    return Connection(options.host, options.port, options.ca, options.cert, options.key, **extra)


def expected(**condition):
    return event_pb2.ExpectedVersion(**condition)


def append_request(*parts, **fields):
    return append_pb2.AppendRequest(
        tenant=fields.pop("tenant", TENANT),
        aggregates=[
            append_pb2.AggregateAppend(aggregate=name, expected=condition, events=events)
            for name, condition, events in parts
        ],
        **fields,
    )


def append(connection, *parts, **fields):
    return connection.unary(append=append_request(*parts, **fields))


def refused(reason, function, on_connection=False):
    """The status of a call that must be refused for that reason."""
    try:
        function()
    except MartletError as error:
        assert error.reason == reason, f"expected {reason}, got {error}"
        assert error.on_connection == on_connection, f"{reason} ended the wrong thing"
        assert error.status.message and error.status.code, "a status names its code and says what to do"
        return error.status
    raise AssertionError(f"expected {reason}, and nothing failed")


def load(connection, name, **fields):
    parts = list(connection.stream(load=query_pb2.LoadRequest(tenant=TENANT, aggregate=name, **fields)))
    assert parts[0].HasField("view"), "the first part carries the view"
    return parts[0].view, [one for part in parts for one in part.events]


def head(connection):
    return connection.unary(get_head=query_pb2.GetHeadRequest(tenant=TENANT)).head


@check
def welcome_tells_limits_and_tenants():
    welcome = connect().welcome
    assert welcome.protocol_version == 1 and welcome.limits.frame_bytes_max > 0
    if options.cert:
        assert not welcome.all_tenants and TENANT in list(welcome.tenants) and welcome.identity
    else:
        assert welcome.all_tenants


@check
def append_and_load_verbatim():
    connection, name = connect(), aggregate("interop.order")
    payload = b'{ "amount" : 12345678901234567890.10,\n "name":"\\u0000 \xc3\xa4" }'
    tags = [event_pb2.Tag(key="b", value="2"), event_pb2.Tag(key="a", value="1")]
    metadata = event_pb2.Metadata(user_id="u", tags=tags, tracestate="congo=t61")
    first = event("Placed", payload, metadata=metadata, schema_version=3)
    blob = event("Attached", bytes(range(256)), content_type="application/octet-stream")
    answer = append(connection, (name, expected(none=True), [first, blob]))
    assert not answer.replayed and answer.last_position == answer.first_position + 1
    assert (answer.aggregates[0].first_version, answer.aggregates[0].last_version) == (1, 2)
    view, events = load(connection, name)
    assert view.version == 2 and [one.version for one in events] == [1, 2]
    assert events[0].event.payload == payload and events[0].event.schema_version == 3
    assert events[0].event.content_type == "application/json"
    assert [tag.key for tag in events[0].event.metadata.tags] == ["a", "b"]
    assert events[1].event.payload == bytes(range(256)) and events[1].position == answer.last_position
    assert load(connection, name, direction=query_pb2.DIRECTION_BACKWARD)[1][0].version == 2
    assert [one.version for one in load(connection, name, after_version=1)[1]] == [2]
    assert [one.version for one in load(connection, name, to_version=1)[1]] == [1]
    view, events = load(connection, name, as_of_position=answer.first_position)
    assert view.version == 1 and len(events) == 1
    view, events = load(connection, name, as_of_time_micros=answer.recorded_at_micros)
    assert view.version == 2 and view.position >= answer.last_position
    assert load(connection, aggregate("interop.order"))[0].version == 0


@check
def replay_conflict_and_reuse():
    connection, name = connect(), aggregate("interop.order")
    one = event("Placed", b"1")
    original = append(connection, (name, expected(none=True), [one]))
    append(connection, (name, expected(exact=1), [event("Paid", b"2")]))
    again = append(connection, (name, expected(none=True), [one]))
    assert again.replayed and again.first_position == original.first_position
    changed = event("Placed", b"3", id=one.id)
    status = refused("EVENT_ID_REUSED", lambda: append(connection, (name, expected(any=True), [changed])))
    assert status.reused_event_ids[0].event_id == one.id and status.reused_event_ids[0].version == 1
    other = aggregate("interop.order")
    status = refused(
        "VERSION_CONFLICT",
        lambda: append(
            connection,
            (name, expected(exact=1), [event("X", b"1")]),
            (other, expected(exists=True), [event("X", b"1")]),
            (aggregate("interop.order"), expected(none=True), [event("X", b"1")]),
            include_conflicting_events=True,
        ),
    )
    assert [conflict.actual for conflict in status.conflicts] == [2, 0]
    assert [one.event.type for one in status.conflicts[0].events] == ["Paid"]
    assert load(connection, other)[0].version == 0, "a refused call writes nothing"


@check
def read_by_position_with_filter():
    connection, name = connect(), aggregate("interop.read")
    before = head(connection).position
    append(connection, (name, expected(none=True), [event("A", b"1"), event("B", b"2"), event("A", b"3")]))
    request = query_pb2.ReadRequest(
        tenant=TENANT, after_position=before, filter=event_pb2.EventFilter(event_types=["A"], aggregate_ids=[name.id])
    )
    parts = list(connection.stream(read=request))
    assert parts[0].view.to_position >= before + 3
    assert [one.position - before for part in parts for one in part.events] == [1, 3]


def receive_on(connection, call_id):
    while True:
        frame = connection.receive()
        if frame.call_id == call_id:
            return frame


@check
def subscribe_from_storage_to_live():
    writer, reader, name = connect(), connect(), aggregate("interop.sub")
    before = head(writer).position
    append(writer, (name, expected(none=True), [event("Old", b"1")]))
    call = reader.start(
        credit_bytes=1 << 20,
        subscribe=subscribe_pb2.SubscribeRequest(
            tenant=TENANT,
            after_position=before,
            filter=event_pb2.EventFilter(aggregate_types=["interop.sub"]),
            heartbeat_millis=100,
        ),
    )
    first = receive_on(reader, call).subscribe
    assert first.WhichOneof("signal") == "started" and first.started.after_position == before
    seen, caught_up, heartbeat = [], False, False
    while not (caught_up and heartbeat):
        message = receive_on(reader, call).subscribe
        assert message.HasField("head")
        seen += [one.event.type for one in message.events]
        caught_up |= message.WhichOneof("signal") == "caught_up"
        heartbeat |= message.WhichOneof("signal") == "heartbeat"
    assert seen == ["Old"]
    append(writer, (name, expected(exact=1), [event("New", b"1"), event("Newer", b"2")]))
    while len(seen) < 3:
        seen += [one.event.type for one in receive_on(reader, call).subscribe.events]
    assert seen == ["Old", "New", "Newer"]
    reader.cancel(call)
    while True:
        frame = receive_on(reader, call)
        if frame.WhichOneof("body") == "status":
            assert frame.status.reason == "CANCELLED"
            return


@check
def credit_is_never_exceeded():
    connection, name = connect(), aggregate("interop.credit")
    before = head(connection).position
    append(connection, (name, expected(none=True), [event("Big", b'"' + b"x" * 500 + b'"') for _ in range(20)]))
    call = connection.start(
        credit_bytes=1500,
        subscribe=subscribe_pb2.SubscribeRequest(tenant=TENANT, after_position=before, heartbeat_millis=100),
    )
    left, got, waiting = 1500, 0, 0
    while got < 20:
        message = receive_on(connection, call).subscribe
        left -= entries_size(message.events)
        got += len(message.events)
        assert left >= 0, "more came than was granted"
        if message.WhichOneof("signal") == "heartbeat":
            waiting = message.heartbeat.waiting_for_credit_bytes
            assert waiting > left, "a heartbeat says what the next event needs"
            connection.grant(call, 1500)
            left += 1500
    assert waiting, "the subscription had to wait"


@check
def wrong_fields_are_refused():
    connection, name = connect(), aggregate("interop.bad")

    def attempt(reason, *events, on=name, **fields):
        return refused(reason, lambda: append(connection, (on, expected(any=True), list(events)), **fields))

    attempt("INVALID_FIELD", event("X", b"1", id=b"123456789012345"))
    attempt("INVALID_FIELD", event("", b"1"))
    attempt("INVALID_FIELD", event("a\x07b", b"1"))
    attempt("INVALID_FIELD", event("a\x00b", b"1"))
    attempt("INVALID_FIELD")
    attempt("INVALID_FIELD", event("X", b"1"), tenant=b"123")
    attempt("INVALID_FIELD", event("X", b"1"), on=event_pb2.AggregateName(type="no spaces", id=name.id))
    one = event("X", b"1")
    attempt("INVALID_FIELD", one, one)
    attempt("INVALID_JSON", event("X", b"{"))
    attempt("INVALID_JSON", event("X", b"[1,]", content_type="application/problem+json; charset=utf-8"))
    status = attempt("LIMIT_EXCEEDED", *[event("X", b"1") for _ in range(1001)])
    assert (status.limit.name, status.limit.limit, status.limit.actual) == ("events_per_append_max", 1000, 1001)
    attempt("LIMIT_EXCEEDED", event("X", b'"' + b"x" * (1 << 20) + b'"'))
    attempt("LIMIT_EXCEEDED", event("X", b"1", metadata=event_pb2.Metadata(source="x" * (16 << 10))))
    refused("INVALID_FIELD", lambda: connection.unary(append=append_pb2.AppendRequest(tenant=TENANT)))
    refused(
        "LIMIT_EXCEEDED",
        lambda: append(connection, *[(aggregate("x"), expected(any=True), [event("X", b"1")]) for _ in range(101)]),
    )
    refused("INVALID_FIELD", lambda: append(connection, (name, event_pb2.ExpectedVersion(), [event("X", b"1")])))
    # Text that is no UTF-8: bytes that no honest encoder makes.
    raw = append_request((name, expected(any=True), [event("Type-", b"1")])).SerializeToString()
    body = raw.replace(b"Type-", b"Type\xff")
    connection.last_call_id += 1
    frame = b"\x08" + bytes([connection.last_call_id]) + b"\x82\x01" + bytes([len(body)]) + body
    connection.send_bytes(b"\0" + struct.pack(">I", len(frame)) + frame)
    assert connection.receive().status.reason == "INVALID_FIELD"
    assert load(connection, name)[0].version == 0, "nothing of all this was stored"


def with_unknown(message, number=31_999):
    """The message's bytes with an unknown varint, and an unknown group with a field inside."""
    return message.SerializeToString() + b"".join(
        [varint(number << 3), varint(150), varint(number << 3 | 3), b"\x08\x01", varint(number << 3 | 4)]
    )


@check
def unknown_fields_are_refused_in_writes_and_skipped_elsewhere():
    connection = connect()
    name = aggregate("unknown")

    def send(field, body):
        connection.last_call_id += 1
        frame = varint(1 << 3) + varint(connection.last_call_id) + varint(3 << 3) + varint(1 << 20)
        frame += varint(field << 3 | 2) + varint(len(body)) + body
        connection.send_bytes(b"\0" + struct.pack(">I", len(frame)) + frame)
        return connection.receive()

    request = append_request((name, expected(none=True), [event("Placed", b"1")]))
    status = send(16, with_unknown(request)).status
    assert status.reason == "INVALID_FIELD" and "31999" in status.message, status
    assert load(connection, name)[0].version == 0, "nothing is written"
    append(connection, *[(part.aggregate, part.expected, part.events) for part in request.aggregates])
    answer = send(16, with_unknown(request))
    assert answer.append.replayed, "a retry of what is stored is answered"
    found = send(20, with_unknown(query_pb2.GetHeadRequest(tenant=TENANT)))
    assert found.get_head.head.position > 0, "a read skips them"
    half = query_pb2.LoadRequest(tenant=TENANT).SerializeToString()
    rest = query_pb2.LoadRequest(aggregate=name).SerializeToString()
    body = varint(17 << 3 | 2) + varint(len(half)) + half + varint(17 << 3 | 2) + varint(len(rest)) + rest
    connection.last_call_id += 1
    frame = varint(1 << 3) + varint(connection.last_call_id) + varint(3 << 3) + varint(1 << 20) + body
    connection.send_bytes(b"\0" + struct.pack(">I", len(frame)) + frame)
    part = connection.receive()
    assert part.load.view.version == 1, "a body in two parts is merged"


@check
def out_of_range_is_refused():
    connection, name = connect(), aggregate("interop.bad")
    future = int(time.time() * 1e6) + 3_600_000_000
    refused("TIME_IN_FUTURE", lambda: load(connection, name, as_of_time_micros=future))
    refused("POSITION_BEYOND_HEAD", lambda: load(connection, name, as_of_position=1 << 60))

    def subscribe(**fields):
        return list(connection.stream(subscribe=subscribe_pb2.SubscribeRequest(tenant=TENANT, **fields)))

    refused("POSITION_BEYOND_HEAD", lambda: subscribe(after_position=1 << 60))
    refused("TIME_IN_FUTURE", lambda: subscribe(from_time_micros=future))
    refused("LIMIT_EXCEEDED", lambda: subscribe(filter=event_pb2.EventFilter(event_types=[f"t{i}" for i in range(257)])))


@check
def calls_end_by_deadline_and_unknown_ones_are_refused():
    connection = connect()
    request = subscribe_pb2.SubscribeRequest(tenant=TENANT, from_head=True)
    refused("DEADLINE_EXCEEDED", lambda: list(connection.stream(subscribe=request, timeout_millis=200)))
    refused("UNKNOWN_CALL", lambda: connection.unary())
    assert connection.unary(get_status=admin_pb2.GetStatusRequest()).storage_ready
    info, welcome = connection.unary(get_server_info=admin_pb2.GetServerInfoRequest()), connection.welcome
    assert (info.limits, info.identity, info.all_tenants) == (welcome.limits, welcome.identity, welcome.all_tenants)
    assert info.tenants == welcome.tenants and info.server_version and "consumers" in info.features
    assert sorted(info.features) == list(info.features)


@check
def too_many_calls_are_refused():
    connection = connect()
    limit = connection.welcome.limits.calls_per_connection_max
    request = subscribe_pb2.SubscribeRequest(tenant=TENANT, from_head=True)
    calls = [connection.start(subscribe=request) for _ in range(limit + 1)]
    while True:
        frame = connection.receive()
        if frame.WhichOneof("body") == "status":
            assert frame.call_id == calls[-1] and frame.status.reason == "TOO_MANY_CALLS" and frame.status.retryable
            return


@check
def tenants_of_others_are_refused():
    if not options.other_tenant:
        return
    connection, name = connect(), aggregate("interop.x")
    other = options.other_tenant.bytes
    refused("TENANT_NOT_ALLOWED", lambda: append(connection, (name, expected(any=True), [event("X", b"1")]), tenant=other))
    refused("TENANT_NOT_ALLOWED", lambda: connection.unary(get_head=query_pb2.GetHeadRequest(tenant=other)))
    try:
        Connection(options.host, options.port, options.ca)
    except (MartletError, ssl.SSLError, EOFError, ConnectionError):
        return
    raise AssertionError("a client without a certificate was let in")


@check
def connection_faults_close_the_connection_after_saying_why():
    def fault(reason, *data, hello=True):
        connection = connect(hello=hello)

        def run():
            for piece in data:
                connection.send_bytes(piece)
            connection.receive()

        refused(reason, run, on_connection=True)
        try:
            connection.receive()
        except (EOFError, ssl.SSLError, ConnectionError):
            return
        raise AssertionError(f"after {reason} the connection stayed open")

    def framed(message):
        body = message.SerializeToString()
        return b"\0" + struct.pack(">I", len(body)) + body

    status_call = frame_pb2.ClientFrame(call_id=7, get_status=admin_pb2.GetStatusRequest())
    fault("HELLO_EXPECTED", framed(status_call), hello=False)
    fault("HELLO_EXPECTED", framed(frame_pb2.ClientFrame(hello=frame_pb2.Hello(protocol_versions=[1]))))
    wrong_version = frame_pb2.ClientFrame(hello=frame_pb2.Hello(protocol_versions=[99]))
    fault("PROTOCOL_VERSION_UNSUPPORTED", framed(wrong_version), hello=False)
    fault("BAD_FRAME", b"\1\0\0\0\0")
    fault("BAD_FRAME", b"\0" + struct.pack(">I", 4) + b"\xff\xff\xff\xff")
    fault("FRAME_TOO_LARGE", b"\0" + struct.pack(">I", (8 << 20) + 1))
    fault("BAD_FRAME", b"GET / HTTP/1.1\r\n\r\n")
    fault("INVALID_CALL_ID", framed(frame_pb2.ClientFrame(call_id=0, get_status=admin_pb2.GetStatusRequest())))
    fault("INVALID_CALL_ID", framed(frame_pb2.ClientFrame(call_id=9, cancel=frame_pb2.Cancel())))
    # A million empty sub-messages: field 2 of AppendRequest, field 16 of ClientFrame.
    empty = b"\x12\x00" * 1_000_000
    bomb = b"\x08\x01\x82\x01" + varint(len(empty)) + empty
    fault("DECODE_BUDGET_EXCEEDED", b"\0" + struct.pack(">I", len(bomb)) + bomb)
    connection = connect()
    call = connection.start(subscribe=subscribe_pb2.SubscribeRequest(tenant=TENANT, from_head=True))
    request = frame_pb2.ClientFrame(call_id=call, get_status=admin_pb2.GetStatusRequest())

    def reuse():
        connection.send(request)
        while True:
            connection.receive()

    refused("INVALID_CALL_ID", reuse, on_connection=True)


@check
def a_client_without_the_protocol_is_refused():
    for alpn in ((), ("h3",)):
        try:
            connect(alpn=alpn)
        except (ssl.SSLError, EOFError, ConnectionError):
            continue
        raise AssertionError(f"ALPN {alpn} was let in")


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


tools = SimpleNamespace(connect=connect, append=append, expected=expected, refused=refused, load=load, tenant=TENANT)
checks += rehydration.checks(tools) + consumers.checks(tools) + schedules.checks(tools)
failed = 0
for one in checks:
    try:
        one()
        print(f"ok    {one.__name__}", flush=True)
    except Exception:
        failed += 1
        print(f"FAIL  {one.__name__}\n{traceback.format_exc()}", flush=True)
print(f"interop: {len(checks) - failed} of {len(checks)} checks passed")
sys.exit(1 if failed else 0)
