"""RFC 9113, sections 6 and 7: each type of frame, and error codes."""

import struct
import uuid

from .clauses import GOES_ON, OK, clause, goaway, stream_error
from .connection import PROTOCOL, SIZE
from .peer import (
    ACK, APPEND, CONTINUATION, DATA, ENABLE_PUSH, END_HEADERS, END_STREAM, FRAME_SIZE, GOAWAY, HEADERS, HEADER_LIST_SIZE,
    INITIAL_WINDOW, PADDED, PING, PRIORITY, PUSH_PROMISE, READ, RST_STREAM, SETTINGS, STREAMS_MAX, TABLE_SIZE, WINDOW_UPDATE,
    WITH_PRIORITY, Peer, append_content, frame, message, ping, request_fields, reset, settings, tenant_message, window_update)

WINDOW_MAX = (1 << 31) - 1


def sends(name, number, sent, made, *expected, **options):
    """A test that sends bytes on a fresh connection, or on one with an open stream where `made` takes its number."""
    def body(peer):
        if callable(made):
            stream = peer.open()
            peer.send(made(stream))
            return peer.outcome(stream)
        peer.send(made)
        return peer.outcome()
    body.__name__ = name
    clause(number, sent, *expected, **options)(body)


# 6.1: DATA

sends("data_on_root", "6.1", "DATA on stream 0", frame(DATA, 0, 0, b"x"), PROTOCOL)
sends("data_padding_too_long", "6.1", "DATA whose padding is as long as its payload",
      lambda stream: frame(DATA, PADDED, stream, b"\x05abcd"), PROTOCOL)
sends("data_padded_and_empty", "6.1", "DATA that is padded and has no byte",
      lambda stream: frame(DATA, PADDED, stream), SIZE, PROTOCOL)


@clause("6.1", "a call whose DATA is padded by 255 bytes", OK)
def padded_data(peer):
    stream = peer.open()
    peer.send(frame(DATA, PADDED | END_STREAM, stream, b"\xff" + tenant_message() + bytes(255)))
    return peer.outcome(stream, waits=True)


@clause("6.1", "a call whose DATA comes byte by byte, with empty frames in between", OK)
def small_data(peer):
    stream = peer.open()
    for byte in tenant_message():
        peer.send(frame(DATA, 0, stream, bytes([byte])), frame(DATA, 0, stream))
    peer.send(frame(DATA, END_STREAM, stream))
    return peer.outcome(stream, waits=True)


# 6.2: HEADERS

sends("headers_on_root", "6.2", "HEADERS on stream 0", frame(HEADERS, END_HEADERS, 0, b"\x82"), PROTOCOL)
sends("headers_padding_too_long", "6.2", "HEADERS whose padding is as long as its payload",
      frame(HEADERS, PADDED | END_HEADERS, 1, b"\x05\x82\x86\x84\x41"), PROTOCOL)
sends("headers_priority_cut", "6.2", "HEADERS with PRIORITY, and 4 bytes",
      frame(HEADERS, WITH_PRIORITY | END_HEADERS, 1, bytes(4)), SIZE, PROTOCOL)


@clause("6.2", "a call whose HEADERS has padding and a priority", OK)
def padded_headers(peer):
    stream = peer.stream()
    block = peer.encoder.encode(request_fields())
    peer.send(frame(HEADERS, PADDED | WITH_PRIORITY | END_HEADERS, stream, b"\x0a" + bytes(4) + b"\x10" + block + bytes(10)),
              frame(DATA, END_STREAM, stream, tenant_message()))
    return peer.outcome(stream, waits=True)


# 6.3: PRIORITY

sends("priority_on_root", "6.3", "PRIORITY on stream 0", frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL)
sends("priority_of_4_bytes", "6.3", "PRIORITY of 4 bytes", lambda stream: frame(PRIORITY, 0, stream, bytes(4)),
      stream_error("FRAME_SIZE_ERROR"))
sends("priority_of_itself", "6.3", "PRIORITY of a stream that depends on itself",
      lambda stream: frame(PRIORITY, 0, stream, struct.pack(">IB", stream, 1)), GOES_ON, stream_error("PROTOCOL_ERROR"))

# 6.4: RST_STREAM

sends("reset_on_root", "6.4", "RST_STREAM on stream 0", reset(0), PROTOCOL)
sends("reset_of_3_bytes", "6.4", "RST_STREAM of 3 bytes", lambda stream: frame(RST_STREAM, 0, stream, bytes(3)), SIZE)
sends("reset_of_5_bytes", "6.4", "RST_STREAM of 5 bytes", lambda stream: frame(RST_STREAM, 0, stream, bytes(5)), SIZE)
sends("reset_unknown_code", "7", "RST_STREAM with an unknown code", lambda stream: reset(stream, 0xDEADBEEF), GOES_ON)

# 6.5: SETTINGS

sends("settings_on_stream", "6.5", "SETTINGS on stream 1", lambda stream: frame(SETTINGS, 0, stream), PROTOCOL)
sends("settings_ack_with_payload", "6.5", "an acknowledgement of SETTINGS that has a payload",
      frame(SETTINGS, ACK, 0, bytes(6)), SIZE)
sends("settings_of_5_bytes", "6.5", "SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, bytes(5)), SIZE)
sends("settings_push_2", "6.5.2", "SETTINGS_ENABLE_PUSH 2", settings((ENABLE_PUSH, 2)), PROTOCOL)
sends("settings_window_too_large", "6.5.2", "SETTINGS_INITIAL_WINDOW_SIZE 2^31", settings((INITIAL_WINDOW, 1 << 31)),
      goaway("FLOW_CONTROL_ERROR"))
sends("settings_frame_too_small", "6.5.2", "SETTINGS_MAX_FRAME_SIZE 16,383", settings((FRAME_SIZE, 16_383)), PROTOCOL)
sends("settings_frame_too_large", "6.5.2", "SETTINGS_MAX_FRAME_SIZE 2^24", settings((FRAME_SIZE, 1 << 24)), PROTOCOL)
sends("settings_unasked_ack", "6.5.3", "an acknowledgement of SETTINGS that nobody waits for", frame(SETTINGS, ACK, 0),
      GOES_ON, PROTOCOL)
sends("settings_list_size_0", "6.5.2", "SETTINGS_MAX_HEADER_LIST_SIZE 0, which is advice", settings((HEADER_LIST_SIZE, 0)),
      GOES_ON)


@clause("6.5.3", "three SETTINGS, one of them empty: three acknowledgements", "3 acknowledgements")
def settings_acknowledged(peer):
    before = peer.settings_acks
    peer.send(settings((STREAMS_MAX, 5)), settings(), settings((INITIAL_WINDOW, 100_000)))
    peer.wait(lambda: peer.settings_acks >= before + 3, 2)
    return f"{peer.settings_acks - before} acknowledgements"


@clause("6.5.3", "two values of one setting in a frame, window 0 and then 65,535: the last one holds", OK)
def settings_in_order(peer):
    peer.send(settings((INITIAL_WINDOW, 0), (INITIAL_WINDOW, 65_535)))
    return peer.outcome(peer.call(), waits=True)


@clause("6.5.2", "SETTINGS_HEADER_TABLE_SIZE 0: answers refer to no table", OK)
def settings_table_0(peer):
    peer.outcome(peer.call(), waits=True)
    peer.send(settings((TABLE_SIZE, 0)))
    peer.sync()
    peer.decoder.max_allowed_table_size = 0
    first = peer.outcome(peer.call(), waits=True)
    return first if first != OK else peer.outcome(peer.call(), waits=True)


@clause("6.5.2", "SETTINGS_HEADER_TABLE_SIZE 2^32 - 1: the server keeps a table of its own size", OK)
def settings_table_max(peer):
    peer.decoder.max_allowed_table_size = (1 << 32) - 1
    peer.send(settings((TABLE_SIZE, (1 << 32) - 1)))
    peer.sync()
    return peer.outcome(peer.call(), waits=True)


# 6.6: PUSH_PROMISE

sends("push_promise", "6.6, 8.4", "PUSH_PROMISE, which is a server's",
      lambda stream: frame(PUSH_PROMISE, END_HEADERS, stream, b"\0\0\0\x02\x82"), PROTOCOL)
sends("push_promise_on_root", "6.6", "PUSH_PROMISE on stream 0",
      frame(PUSH_PROMISE, END_HEADERS, 0, b"\0\0\0\x02\x82"), PROTOCOL)

# 6.7: PING

sends("ping_on_stream", "6.7", "PING on a stream", lambda stream: frame(PING, 0, stream, bytes(8)), PROTOCOL)
sends("ping_of_6_bytes", "6.7", "PING of 6 bytes", frame(PING, 0, 0, bytes(6)), SIZE)
sends("ping_of_9_bytes", "6.7", "PING of 9 bytes", frame(PING, 0, 0, bytes(9)), SIZE)
sends("ping_unasked_ack", "6.7", "an acknowledgement of PING that nobody waits for", ping(b"nobody's", ACK), GOES_ON)


@clause("6.7", "three PINGs: their contents come back in order", "3 in order")
def ping_content(peer):
    contents = [b"first   ", b"\xff" * 8, b"third   "]
    peer.send(*(ping(content) for content in contents))
    peer.wait(lambda: len(peer.pongs) >= 3)
    return f"{len(peer.pongs)} in order" if peer.pongs == contents else f"{peer.pongs}"


# 6.8: GOAWAY

sends("goaway_on_stream", "6.8", "GOAWAY on a stream", lambda stream: frame(GOAWAY, 0, stream, bytes(8)), PROTOCOL)
sends("goaway_of_7_bytes", "6.8", "GOAWAY of 7 bytes", frame(GOAWAY, 0, 0, bytes(7)), SIZE)


@clause("6.8", "GOAWAY beside an open call, with text and an unknown code (7): the call is answered", OK, alone=True)
def goaway_beside_call(peer):
    stream = peer.open()
    peer.send(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0xDEADBEEF) + b"bye"))
    peer.sync()
    peer.send(frame(DATA, END_STREAM, stream, tenant_message()))
    return peer.outcome(stream, waits=True)


@clause("6.8", "GOAWAY with nothing open", GOES_ON, "close", "GOAWAY NO_ERROR", alone=True)
def goaway_alone(peer):
    peer.send(frame(GOAWAY, 0, 0, bytes(8)))
    return peer.outcome()


# 6.9: WINDOW_UPDATE

sends("window_update_0_stream", "6.9", "WINDOW_UPDATE of 0 on a stream", lambda stream: window_update(stream, 0),
      stream_error("PROTOCOL_ERROR"))
sends("window_update_0_connection", "6.9", "WINDOW_UPDATE of 0 on the connection", window_update(0, 0), PROTOCOL)
sends("window_update_of_3_bytes", "6.9", "WINDOW_UPDATE of 3 bytes", frame(WINDOW_UPDATE, 0, 0, bytes(3)), SIZE)
sends("window_update_of_5_bytes", "6.9", "WINDOW_UPDATE of 5 bytes", frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\x01\0"), SIZE)
sends("window_update_reserved_bit", "6.9", "WINDOW_UPDATE of 1 with the reserved bit set",
      window_update(0, 1 | 1 << 31), GOES_ON)
sends("window_overflow_stream", "6.9.1", "WINDOW_UPDATE that takes a stream's window over 2^31 - 1",
      lambda stream: window_update(stream, WINDOW_MAX), stream_error("FLOW_CONTROL_ERROR"))
sends("window_overflow_connection", "6.9.1", "WINDOW_UPDATE that takes the connection's window over 2^31 - 1",
      window_update(0, WINDOW_MAX), goaway("FLOW_CONTROL_ERROR"))
sends("window_overflow_settings", "6.9.2", "SETTINGS_INITIAL_WINDOW_SIZE that takes a stream's window over 2^31 - 1",
      lambda stream: window_update(stream, WINDOW_MAX - 65_535) + settings((INITIAL_WINDOW, 65_536)),
      goaway("FLOW_CONTROL_ERROR"))


@clause("6.9.1", "DATA of one byte more than the stream's window", stream_error("FLOW_CONTROL_ERROR"),
        goaway("FLOW_CONTROL_ERROR"))
def stream_window_exceeded(peer):
    stream = peer.open()
    # A message as long as the window: as long as it is not whole, nothing more is granted.
    peer.send(frame(DATA, 0, stream, struct.pack(">BI", 0, 65_530) + bytes(16_379)),
              *[frame(DATA, 0, stream, bytes(16_384))] * 3)
    return peer.outcome(stream)


@clause("6.9.1", "a message of one byte more than the stream's window: the server grants what is missing",
        "answer 200, grpc-status 3")
def message_beyond_window(peer):
    stream = peer.open()
    peer.send(frame(DATA, 0, stream, struct.pack(">BI", 0, 65_531) + bytes(16_379)),
              *[frame(DATA, 0, stream, bytes(16_384))] * 2, frame(DATA, 0, stream, bytes(16_383)))
    peer.wait(lambda: any(type(one).__name__ == "WindowUpdateFrame" and one.stream_id == stream for one in peer.frames), 1)
    if not any(type(one).__name__ == "WindowUpdateFrame" and one.stream_id == stream for one in peer.frames):
        return "no window"
    peer.send(frame(DATA, END_STREAM, stream, b"\0"))
    return peer.outcome(stream, waits=True)


@clause("6.9.1", "DATA of one byte more than the connection's window", goaway("FLOW_CONTROL_ERROR"))
def connection_window_exceeded(peer):
    peer.sync()
    granted = 65_535 + sum(one.window_increment for one in peer.frames
                           if type(one).__name__ == "WindowUpdateFrame" and one.stream_id == 0)
    peer.replenishes = False
    parts = []
    left = granted + 1
    # Half of it are messages that are not whole and wait for more. The other half is taken at once, and is not yet granted
    # again as long as it is one byte less than that.
    while left > 0:
        stream = peer.stream()
        parts.append(peer.headers(stream, request_fields()))
        sent = min(left, 16_384)
        is_whole = len(parts) >= 16 and left > 2
        if is_whole:
            sent -= left <= 16_384 + 1
        parts.append(frame(DATA, END_STREAM if is_whole else 0, stream, (
            struct.pack(">BI", 0, sent - 5 if is_whole else 60_000) + bytes(16_379))[:sent]))
        left -= sent
    peer.send(*parts)
    return peer.outcome()


def data_of(peer, stream):
    return sum(len(one.data) for one in peer.frames if type(one).__name__ == "DataFrame" and one.stream_id == stream)


@clause("6.9.1", "a stream's window of 0, then of 1, then of more: DATA as long as the window, each time",
        "0, 1, all, grpc-status 0", alone=True)
def stream_window_kept(peer):
    peer.send(settings((INITIAL_WINDOW, 0)))
    peer.sync()
    stream = peer.call()
    peer.wait(lambda: False, 0.2)
    seen = [data_of(peer, stream)]
    peer.send(window_update(stream, 1))
    peer.sync()
    peer.wait(lambda: False, 0.1)
    seen.append(data_of(peer, stream) - seen[0])
    peer.send(window_update(stream, 1_000))
    peer.wait(lambda: peer.is_done(stream))
    rest = "all" if data_of(peer, stream) > seen[0] + seen[1] else "nothing"
    return f"{seen[0]}, {seen[1]}, {rest}, grpc-status {peer.field(stream, 'grpc-status')}"


@clause("6.9.2", "windows that SETTINGS makes negative: no DATA until they are positive again", "0, all, grpc-status 0", alone=True)
def negative_window(peer):
    peer.send(settings((INITIAL_WINDOW, 10)))
    peer.sync()
    stream = peer.open()
    peer.sync()
    # 10 - 10 - 5: WINDOW_UPDATE is of the stream, SETTINGS of all.
    peer.send(settings((INITIAL_WINDOW, 0)), window_update(stream, 5), settings((INITIAL_WINDOW, 20)),
              settings((INITIAL_WINDOW, 0)))
    peer.sync()
    peer.send(settings((INITIAL_WINDOW, 5)), settings((INITIAL_WINDOW, 0)))
    peer.sync()
    peer.send(frame(DATA, END_STREAM, stream, tenant_message()))
    peer.wait(lambda: stream in peer.fields)
    peer.wait(lambda: False, 0.1)
    early = data_of(peer, stream) - 5
    peer.send(window_update(stream, 1_000))
    peer.wait(lambda: peer.is_done(stream))
    rest = "all" if data_of(peer, stream) > 5 else "nothing"
    return f"{early}, {rest}, grpc-status {peer.field(stream, 'grpc-status')}"


@clause("6.9.2", "SETTINGS that opens the windows of open streams: their answers come", OK)
def settings_open_windows(peer):
    peer.send(settings((INITIAL_WINDOW, 0)))
    peer.sync()
    stream = peer.call()
    peer.wait(lambda: False, 0.2)
    peer.send(settings((INITIAL_WINDOW, 65_535)))
    return peer.outcome(stream, waits=True)


@clause("6.9.1", "an answer larger than the connection's window: 65,535 bytes come, and the rest when it opens",
        "65535 bytes, then all")
def connection_window_kept(peer):
    tenant = uuid.uuid4().bytes
    for _ in range(3):
        outcome = peer.outcome(peer.call(request_fields(APPEND), message(append_content(tenant, 30_000))), waits=True)
        assert outcome == OK, outcome
    with Peer(peer.target, peer.ca, first_settings=[(INITIAL_WINDOW, 1 << 20)]) as reader:
        reader.replenishes = False
        stream = reader.call(request_fields(READ), tenant_message(tenant))
        reader.wait(lambda: data_of(reader, stream) >= 65_535)
        reader.wait(lambda: False, 0.1)
        early = data_of(reader, stream)
        reader.send(window_update(0, 1 << 20))
        outcome = reader.outcome(stream, waits=True)
        return f"{early} bytes, then " + ("all" if outcome == OK and data_of(reader, stream) > 90_000 else outcome)


# 6.10: CONTINUATION

sends("continuation_on_root", "6.10", "CONTINUATION on stream 0", frame(CONTINUATION, END_HEADERS, 0, b"\x82"), PROTOCOL)
sends("continuation_after_headers", "6.10", "CONTINUATION after HEADERS with END_HEADERS",
      lambda stream: frame(CONTINUATION, END_HEADERS, stream, b"\x82"), PROTOCOL)
sends("continuation_after_data", "6.10", "CONTINUATION after DATA",
      lambda stream: frame(DATA, 0, stream, b"\0") + frame(CONTINUATION, END_HEADERS, stream), PROTOCOL)


@clause("6.10", "CONTINUATION after a CONTINUATION with END_HEADERS", PROTOCOL)
def continuation_after_end(peer):
    stream = peer.stream()
    peer.send(peer.headers(stream, request_fields(), flags=0), frame(CONTINUATION, END_HEADERS, stream),
              frame(CONTINUATION, END_HEADERS, stream))
    return peer.outcome()


@clause("6.10", "a call whose block is cut into HEADERS and 5 CONTINUATIONs, one of them empty", OK)
def continuations(peer):
    stream = peer.stream()
    block = peer.encoder.encode(request_fields())
    parts = [block[:1], block[1:2], b"", block[2:10], block[10:20], block[20:]]
    peer.send(frame(HEADERS, 0, stream, parts[0]),
              *(frame(CONTINUATION, 0, stream, part) for part in parts[1:-1]),
              frame(CONTINUATION, END_HEADERS, stream, parts[-1]), frame(DATA, END_STREAM, stream, tenant_message()))
    return peer.outcome(stream, waits=True)
