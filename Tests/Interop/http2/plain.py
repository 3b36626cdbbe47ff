"""Requests of plain HTTP, as suites send them that know no gRPC, and each representation of fields (RFC 7541, 6)."""

import struct

from .clauses import GOES_ON, OK, clause, goaway, stream_error
from .connection import CLOSED, PROTOCOL
from .field_blocks import integer
from .peer import (
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW, PING, PRIORITY, WITH_PRIORITY, frame,
    request_fields, reset, settings, tenant_message, window_update)

NOT_FOUND = "answer 404"
MALFORMED = stream_error("PROTOCOL_ERROR")


def fields(method="GET", *more):
    return [(":method", method), (":scheme", "https"), (":path", "/"), (":authority", "localhost"), *more]


def open_request(peer, method="GET", *more):
    """Begins a request that is not complete."""
    return peer.open(fields(method, *more))


def whole(peer, method="GET", *more):
    return peer.open(fields(method, *more), flags=END_HEADERS | END_STREAM)


def data_of(peer, stream):
    return len(peer.data.get(stream, b""))


@clause("8.1", "HEAD /: an answer without content", "answer 404, 0 bytes")
def head_request(peer):
    stream = whole(peer, "HEAD")
    return f"{peer.outcome(stream, waits=True)}, {data_of(peer, stream)} bytes"


@clause("8.1", "POST / with DATA", NOT_FOUND)
def post_request(peer):
    stream = open_request(peer, "POST")
    peer.send(frame(DATA, 0, stream, b"te"), frame(DATA, END_STREAM, stream, b"st"))
    return peer.outcome(stream, waits=True)


@clause("8.1", "POST / with DATA and trailers", NOT_FOUND)
def post_with_trailers(peer):
    stream = open_request(peer, "POST", ("trailer", "x-test"))
    peer.send(frame(DATA, 0, stream, b"test"), peer.headers(stream, [("x-test", "ok")], flags=END_HEADERS | END_STREAM))
    return peer.outcome(stream, waits=True)


@clause("8.1", "POST / with 48 KiB that have no end: the answer does not wait for it", NOT_FOUND)
def post_without_end(peer):
    stream = open_request(peer, "POST")
    peer.send(*[frame(DATA, 0, stream, bytes(16_384))] * 3)
    return peer.outcome(stream, waits=True)


@clause("8.1", "a second HEADERS without END_STREAM on GET /", MALFORMED)
def second_headers(peer):
    stream = open_request(peer)
    peer.send(peer.headers(stream, fields()))
    return peer.outcome(stream, waits=True)


@clause("8.1.1", "content-length 1, and 4 bytes in one DATA", MALFORMED)
def length_mismatch(peer):
    stream = open_request(peer, "POST", ("content-length", "1"))
    peer.send(frame(DATA, END_STREAM, stream, b"test"))
    return peer.outcome(stream, waits=True)


@clause("8.1.1", "content-length 1, and 8 bytes in two DATA", MALFORMED)
def length_mismatch_of_two(peer):
    stream = open_request(peer, "POST", ("content-length", "1"))
    peer.send(frame(DATA, 0, stream, b"test"), frame(DATA, END_STREAM, stream, b"test"))
    return peer.outcome(stream, waits=True)


def on_open(name, number, sent, made, *expected):
    def body(peer):
        stream = open_request(peer)
        peer.send(made(peer, stream))
        return peer.outcome(stream)
    body.__name__ = name
    clause(number, f"{sent}, on GET / without END_STREAM", *expected)(body)


on_open("plain_window_update_0", "6.9", "WINDOW_UPDATE of 0", lambda peer, stream: window_update(stream, 0), MALFORMED)
on_open("plain_window_overflow", "6.9.1", "two WINDOW_UPDATE of 2^31 - 1",
        lambda peer, stream: window_update(stream, (1 << 31) - 1) * 2, stream_error("FLOW_CONTROL_ERROR"))
on_open("plain_priority_of_4_bytes", "6.3", "PRIORITY of 4 bytes", lambda peer, stream: frame(PRIORITY, 0, stream, bytes(4)),
        stream_error("FRAME_SIZE_ERROR"))
on_open("plain_priority_of_itself", "6.3", "PRIORITY of a stream that depends on itself",
        lambda peer, stream: frame(PRIORITY, 0, stream, struct.pack(">IB", stream, 255)), MALFORMED)
on_open("plain_data_after_reset", "5.1", "RST_STREAM and DATA",
        lambda peer, stream: reset(stream) + frame(DATA, END_STREAM, stream, b"test"), CLOSED, stream_error("STREAM_CLOSED"))
on_open("plain_headers_after_reset", "5.1", "RST_STREAM and HEADERS",
        lambda peer, stream: reset(stream) + peer.headers(stream, fields(), flags=END_HEADERS | END_STREAM), CLOSED,
        stream_error("STREAM_CLOSED"))
on_open("plain_continuation_after_reset", "5.1", "RST_STREAM and CONTINUATION",
        lambda peer, stream: reset(stream) + frame(CONTINUATION, END_HEADERS, stream, b"\x82"), CLOSED, PROTOCOL)


def on_answered(name, sent, made, *expected):
    def body(peer):
        stream = whole(peer)
        peer.wait(lambda: stream in peer.ended)
        peer.send(made(peer, stream))
        outcome = peer.outcome(stream)
        return GOES_ON if outcome == NOT_FOUND else outcome
    body.__name__ = name
    clause("5.1", f"{sent} after GET / has been answered", *expected)(body)


on_answered("plain_data_after_answer", "DATA", lambda peer, stream: frame(DATA, END_STREAM, stream, b"test"), CLOSED,
            stream_error("STREAM_CLOSED"))
on_answered("plain_headers_after_answer", "HEADERS",
            lambda peer, stream: peer.headers(stream, fields(), flags=END_HEADERS | END_STREAM), CLOSED)
on_answered("plain_continuation_after_answer", "CONTINUATION",
            lambda peer, stream: frame(CONTINUATION, END_HEADERS, stream, b"\x82"), CLOSED, PROTOCOL)


def on_whole(name, sent, made, *expected):
    def body(peer):
        stream = peer.stream()
        peer.send(peer.headers(stream, fields(), flags=END_HEADERS | END_STREAM), made(peer, stream))
        return peer.outcome(stream)
    body.__name__ = name
    clause("5.1", f"{sent} right behind a whole GET /", *expected)(body)


on_whole("plain_data_after_end", "DATA", lambda peer, stream: frame(DATA, END_STREAM, stream, b"test"), CLOSED,
         stream_error("STREAM_CLOSED"))
on_whole("plain_headers_after_end", "HEADERS",
         lambda peer, stream: peer.headers(stream, fields(), flags=END_HEADERS | END_STREAM), CLOSED,
         stream_error("STREAM_CLOSED"))


@clause("6.9.1", "SETTINGS_INITIAL_WINDOW_SIZE 1, then GET /: one byte comes, and the rest after WINDOW_UPDATE",
        "1 byte, then answer 404", alone=True)
def window_of_1(peer):
    peer.send(settings((INITIAL_WINDOW, 1)))
    peer.sync()
    stream = whole(peer)
    peer.wait(lambda: data_of(peer, stream) > 0)
    peer.sync()
    early = data_of(peer, stream)
    peer.send(window_update(stream, 1_000))
    return f"{early} byte, then {peer.outcome(stream, waits=True)}"


@clause("6.9.2", "GET / with a window of 0, then SETTINGS_INITIAL_WINDOW_SIZE 1: one byte comes", "0 bytes, then 1", alone=True)
def window_changes_after_headers(peer):
    peer.send(settings((INITIAL_WINDOW, 0)))
    peer.sync()
    stream = whole(peer)
    peer.sync()
    early = data_of(peer, stream)
    peer.send(settings((INITIAL_WINDOW, 1)))
    peer.wait(lambda: data_of(peer, stream) > 0)
    peer.sync()
    return f"{early} bytes, then {data_of(peer, stream)}"


@clause("6.9.2", "GET / with a window of 3, then of 2, then WINDOW_UPDATE of 2: one byte more", "3 bytes, then 1", alone=True)
def window_negative(peer):
    peer.send(settings((INITIAL_WINDOW, 3)))
    peer.sync()
    stream = whole(peer)
    peer.wait(lambda: data_of(peer, stream) >= 3)
    peer.sync()
    early = data_of(peer, stream)
    peer.send(settings((INITIAL_WINDOW, 2)), window_update(stream, 2))
    peer.wait(lambda: data_of(peer, stream) > early)
    peer.sync()
    return f"{early} bytes, then {data_of(peer, stream) - early}"


@clause("6.5.3", "SETTINGS_INITIAL_WINDOW_SIZE 100 and 1 in one frame, then GET /: one byte comes", "1 byte", alone=True)
def two_windows(peer):
    peer.send(settings((INITIAL_WINDOW, 100), (INITIAL_WINDOW, 1)))
    peer.sync()
    stream = whole(peer)
    peer.wait(lambda: data_of(peer, stream) > 0)
    peer.sync()
    return f"{data_of(peer, stream)} byte"


# 4.1, 5.3: flags, reserved bits, priorities

@clause("4.1", "PING with undefined flags and the reserved bit set: it is answered", "pong")
def ping_with_flags(peer):
    peer.send(frame(PING, 0xFE, 1 << 31, b"undefine"))
    peer.wait(lambda: peer.pongs)
    return "pong" if peer.pongs == [b"undefine"] else peer.outcome()


def with_priority(name, sent, content, *expected):
    def body(peer):
        stream = peer.stream()
        block = peer.encoder.encode(request_fields())
        peer.send(frame(HEADERS, WITH_PRIORITY | END_HEADERS, stream, content(stream) + block),
                  frame(DATA, END_STREAM, stream, tenant_message()))
        return peer.outcome(stream, waits=True)
    body.__name__ = name
    clause("5.3", f"HEADERS with {sent}", *expected)(body)


with_priority("headers_weight_1", "weight 1", lambda stream: struct.pack(">IB", 0, 0), OK)
with_priority("headers_weight_256", "weight 256", lambda stream: struct.pack(">IB", 0, 255), OK)
with_priority("headers_exclusive", "an exclusive dependency on an idle stream",
              lambda stream: struct.pack(">IB", 1 << 31 | stream + 100, 16), OK)
with_priority("headers_of_itself", "a dependency on its own stream, an error in RFC 7540 (5.3.1)",
              lambda stream: struct.pack(">IB", stream, 255), OK, MALFORMED, PROTOCOL)


def with_priorities(name, sent, made):
    def body(peer):
        peer.send(made)
        return peer.outcome(peer.call(), waits=True)
    body.__name__ = name
    clause("5.3", f"PRIORITY {sent}, then a call", OK)(body)


with_priorities("priority_weights", "of weights 1 and 256",
                frame(PRIORITY, 0, 1, bytes(5)) + frame(PRIORITY, 0, 1, b"\0\0\0\0\xff"))
with_priorities("priority_exclusive", "with an exclusive dependency", frame(PRIORITY, 0, 1, b"\x80\0\0\x09\x10"))
with_priorities("priority_of_later_stream", "of a stream with a greater number", frame(PRIORITY, 0, 99, bytes(5)))


# RFC 7541, 6: representations

def representation(name, number, sent, made):
    """A request for / with one field more, which the answer does not depend on."""
    def body(peer):
        stream = peer.stream()
        peer.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x82\x87\x84\x41\x09localhost" + made))
        first = peer.outcome(stream, waits=True)
        again = whole(peer)
        return first if first != NOT_FOUND else peer.outcome(again, waits=True)
    body.__name__ = name
    clause(number, sent, NOT_FOUND)(body)


# "test" in Huffman's code is 01001 00101 01000 01001, and ones to fill the byte.
HUFFMAN_TEST = b"\x83\x49\x50\x9f"
PLAIN_TEST = b"\x04test"
representation("indexed_static", "RFC 7541 6.1", "a field of the static table", b"\x90")
representation("indexed_dynamic", "RFC 7541 6.1", "a field, and an index that refers to it",
               b"\x40" + PLAIN_TEST + PLAIN_TEST + b"\xbe")
for _kind, _bits, _first, _number in [("indexed", 6, 0x40, "6.2.1"), ("not_indexed", 4, 0, "6.2.2"),
                                      ("never_indexed", 4, 0x10, "6.2.3")]:
    _shown = _kind.replace("_", " ")
    for _coded, _name, _value in [("plain", PLAIN_TEST, PLAIN_TEST), ("huffman", HUFFMAN_TEST, HUFFMAN_TEST)]:
        # 58 is user-agent.
        representation(f"{_kind}_known_name_{_coded}", f"RFC 7541 {_number}", f"a field {_shown}, a name's index, {_coded}",
                       integer(58, _bits, _first) + _value)
        representation(f"{_kind}_new_name_{_coded}", f"RFC 7541 {_number}", f"a field {_shown}, a new name, {_coded}",
                       bytes([_first]) + _name + _value)


@clause("RFC 7541 6.3", "two table sizes before the first field, 128 and 4,096", NOT_FOUND)
def table_size_changes(peer):
    stream = peer.stream()
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, stream,
                    integer(128, 5, 0x20) + integer(4_096, 5, 0x20) + b"\x82\x87\x84\x41\x09localhost"))
    return peer.outcome(stream, waits=True)
