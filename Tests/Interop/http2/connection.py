"""RFC 9113, sections 3 to 5: how a connection begins, frames, field blocks, streams, errors, extensions."""

import struct

from .clauses import GOES_ON, OK, clause, goaway, stream_error
from .peer import (
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, PRIORITY, SETTINGS, STREAMS_MAX, frame, ping,
    request_fields, reset, settings, tenant_message, window_update)

PROTOCOL = goaway("PROTOCOL_ERROR")
CLOSED = goaway("STREAM_CLOSED")
SIZE = goaway("FRAME_SIZE_ERROR")


# 3.4: the preface

@clause("3.4", "nothing yet: the server's first frame is SETTINGS without ACK", "SETTINGS", start=False)
def server_preface(peer):
    peer.wait(lambda: peer.frames, 2)
    if not peer.frames:
        peer.send(PREFACE + settings())
        peer.wait(lambda: peer.frames)
    first = peer.frames[0]
    seen = type(first).__name__.removesuffix("Frame").upper() + (" ACK" if "ACK" in first.flags else "")
    peer.send(PREFACE + settings())
    peer.wait(lambda: peer.settings_acks)
    return seen


@clause("3.4", "a preface with one byte wrong", PROTOCOL, "close", start=False)
def wrong_preface(peer):
    peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX" + settings())
    return peer.outcome()


@clause("3.4", "an HTTP/1.1 request instead of the preface", PROTOCOL, "close", start=False)
def http1_preface(peer):
    peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    peer.wait(lambda: peer.is_closed)
    return peer.outcome()


@clause("3.4", "HEADERS after the preface, before SETTINGS", PROTOCOL, start=False)
def headers_first(peer):
    peer.send(PREFACE + peer.headers(1, request_fields()))
    return peer.outcome()


@clause("3.4", "PING after the preface, before SETTINGS", PROTOCOL, start=False)
def ping_first(peer):
    peer.send(PREFACE + ping())
    return peer.outcome()


@clause("3.4", "an acknowledgement of SETTINGS after the preface, before SETTINGS", PROTOCOL, start=False)
def ack_first(peer):
    peer.acknowledges = False
    peer.send(PREFACE + frame(SETTINGS, ACK, 0))
    return peer.outcome()


@clause("3.4", "preface and SETTINGS byte by byte, then a call", OK, start=False)
def slow_preface(peer):
    for byte in PREFACE + settings():
        peer.send(bytes([byte]))
    return peer.outcome(peer.call(), waits=True)


@clause("3.4", "a call in one piece with the preface, before the server's SETTINGS are read", OK, start=False)
def eager_call(peer):
    stream = peer.stream()
    peer.send(PREFACE + settings() + peer.headers(stream, request_fields())
              + frame(DATA, END_STREAM, stream, tenant_message()))
    return peer.outcome(stream, waits=True)


# 4.1, 4.2: frames

@clause("4.1", "a call whose stream identifiers have the reserved bit set", OK)
def reserved_bit(peer):
    stream = peer.stream()
    peer.send(peer.headers(stream | 1 << 31, request_fields()),
              frame(DATA, END_STREAM, stream | 1 << 31, tenant_message()))
    return peer.outcome(stream, waits=True)


@clause("4.1", "a call whose frames have all undefined flags set", OK)
def undefined_flags(peer):
    stream = peer.stream()
    peer.send(peer.headers(stream, request_fields(), flags=END_HEADERS | 0xD2),
              frame(DATA, END_STREAM | 0xF6, stream, tenant_message()))
    return peer.outcome(stream, waits=True)


@clause("4.2", "DATA of exactly 16,384 bytes", "answer 200, grpc-status 8", OK, "answer 200, grpc-status 3",
        "answer 200, grpc-status 13")
def largest_data(peer):
    content = struct.pack(">BI", 0, 16_379) + b"\x0a\x10" + bytes(16) + b"\x7a\xe5\x7f" + bytes(16_358)
    assert len(content) == 16_384
    return peer.outcome(peer.call(content=content), waits=True)


@clause("4.2", "DATA of 16,385 bytes", SIZE, stream_error("FRAME_SIZE_ERROR"))
def large_data(peer):
    stream = peer.open()
    peer.send(frame(DATA, 0, stream, bytes(16_385)))
    return peer.outcome(stream)


@clause("4.2", "HEADERS of 16,385 bytes", SIZE)
def large_headers(peer):
    peer.send(frame(HEADERS, END_HEADERS, peer.stream(), bytes(16_385)))
    return peer.outcome()


@clause("4.2", "SETTINGS of 16,386 bytes", SIZE)
def large_settings(peer):
    peer.send(frame(SETTINGS, 0, 0, bytes(16_386)))
    return peer.outcome()


@clause("4.2", "a frame of an unknown type of 16,385 bytes", SIZE, GOES_ON)
def large_unknown(peer):
    peer.send(frame(0x77, 0, 0, bytes(16_385)))
    return peer.outcome()


# 4.3: field blocks



def _interruptions():
    for name, sent, made in [
        ("data", "DATA of the stream", lambda stream: frame(DATA, 0, stream, b"x")),
        ("ping", "PING", lambda stream: ping()),
        ("priority", "PRIORITY of another stream", lambda stream: frame(PRIORITY, 0, stream + 2, bytes(5))),
        ("headers", "HEADERS of another stream", lambda stream: frame(HEADERS, END_HEADERS, stream + 2, b"\x82")),
        ("headers_again", "HEADERS of the same stream", lambda stream: frame(HEADERS, END_HEADERS, stream, b"\x82")),
        ("other_continuation", "CONTINUATION of another stream",
         lambda stream: frame(CONTINUATION, END_HEADERS, stream + 2)),
        ("root_continuation", "CONTINUATION of stream 0", lambda stream: frame(CONTINUATION, END_HEADERS, 0)),
        ("unknown", "a frame of an unknown type (5.5)", lambda stream: frame(0x77, 0, stream)),
    ]:
        def make(made):
            def body(peer):
                stream = peer.stream()
                peer.send(peer.headers(stream, request_fields(), flags=0), made(stream))
                return peer.outcome()
            return body
        body = make(made)
        body.__name__ = f"block_interrupted_by_{name}"
        clause("4.3", f"HEADERS without END_HEADERS, then {sent}", PROTOCOL)(body)


_interruptions()


@clause("4.3", "a block that ends inside a field", goaway("COMPRESSION_ERROR"))
def cut_block(peer):
    stream = peer.stream()
    peer.send(frame(HEADERS, END_HEADERS, stream, peer.encoder.encode(request_fields())[:-3]))
    return peer.outcome()


@clause("4.3", "a block of a stream that the client has reset, whose fields a later call refers to", OK)
def block_of_closed_stream(peer):
    stream = peer.open()
    peer.send(reset(stream))
    peer.sync()
    # A refused block counts for the table all the same: a path that is too much for this server, kept in the table.
    refused = peer.stream()
    peer.send(peer.headers(refused, request_fields("/martlet.v1.QueryService/Nothing"), flags=END_HEADERS | END_STREAM))
    return peer.outcome(peer.call(), waits=True)


@clause("4.3", "trailers for a stream that the server has reset, whose field a later call refers to", OK)
def block_after_servers_reset(peer):
    stream = peer.open(request_fields(without=[":path"]))
    peer.wait(lambda: peer.is_done(stream))
    peer.send(peer.headers(stream, [("x-trailer", "kept in the table")], flags=END_HEADERS | END_STREAM))
    return peer.outcome(peer.call(request_fields("/martlet.v1.QueryService/GetHead", ("x-trailer", "kept in the table"))),
                        waits=True)


# 5.1: states

def on_idle(name, sent, made, *expected):
    def body(peer):
        peer.send(made(peer.next_stream))
        return peer.outcome(peer.next_stream)
    body.__name__ = f"idle_{name}"
    clause("5.1", f"{sent} on an idle stream", *expected)(body)


on_idle("data", "DATA", lambda stream: frame(DATA, 0, stream, b"x"), PROTOCOL)
on_idle("reset", "RST_STREAM", reset, PROTOCOL)
on_idle("window_update", "WINDOW_UPDATE", lambda stream: window_update(stream, 1), PROTOCOL)
on_idle("continuation", "CONTINUATION", lambda stream: frame(CONTINUATION, END_HEADERS, stream), PROTOCOL)
on_idle("priority", "PRIORITY", lambda stream: frame(PRIORITY, 0, stream, bytes(5)), GOES_ON)


def on_half_closed(name, sent, made, *expected):
    def body(peer):
        stream = peer.subscribe()
        peer.send(made(peer, stream))
        return peer.outcome(stream)
    body.__name__ = f"half_closed_{name}"
    clause("5.1", f"{sent} on a stream that is half-closed (remote)", *expected)(body)


def trailers(peer, stream):
    return peer.headers(stream, [("x-trailer", "1")], flags=END_HEADERS | END_STREAM)


on_half_closed("data", "DATA", lambda peer, stream: frame(DATA, 0, stream, b"x"), stream_error("STREAM_CLOSED"))
on_half_closed("headers", "HEADERS", trailers, stream_error("STREAM_CLOSED"), CLOSED)
on_half_closed("continuation", "CONTINUATION", lambda peer, stream: frame(CONTINUATION, END_HEADERS, stream), PROTOCOL)
on_half_closed("window_update", "WINDOW_UPDATE", lambda peer, stream: window_update(stream, 1), GOES_ON)
on_half_closed("priority", "PRIORITY", lambda peer, stream: frame(PRIORITY, 0, stream, bytes(5)), GOES_ON)
on_half_closed("reset", "RST_STREAM (no answer comes, 5.4.2)", lambda peer, stream: reset(stream), GOES_ON)


def on_closed(name, sent, made, *expected):
    def body(peer):
        stream = peer.call()
        peer.wait(lambda: stream in peer.ended)
        peer.send(made(peer, stream))
        outcome = peer.outcome(stream)
        # The answer was there before.
        return GOES_ON if outcome == OK else outcome
    body.__name__ = f"closed_{name}"
    clause("5.1", f"{sent} on a stream that both ends have ended", *expected)(body)


on_closed("data", "DATA", lambda peer, stream: frame(DATA, 0, stream, b"x"), CLOSED, stream_error("STREAM_CLOSED"))
on_closed("headers", "HEADERS", trailers, CLOSED)
on_closed("continuation", "CONTINUATION", lambda peer, stream: frame(CONTINUATION, END_HEADERS, stream), PROTOCOL)
on_closed("window_update", "WINDOW_UPDATE", lambda peer, stream: window_update(stream, 1), GOES_ON)
on_closed("reset", "RST_STREAM", lambda peer, stream: reset(stream), GOES_ON)
on_closed("priority", "PRIORITY", lambda peer, stream: frame(PRIORITY, 0, stream, bytes(5)), GOES_ON)


def on_reset(name, sent, made, *expected):
    def body(peer):
        stream = peer.subscribe()
        peer.send(reset(stream), made(peer, stream))
        return peer.outcome(stream)
    body.__name__ = f"reset_{name}"
    clause("5.1", f"{sent} on a stream that the client has reset", *expected)(body)


on_reset("data", "DATA", lambda peer, stream: frame(DATA, 0, stream, b"x"), CLOSED, stream_error("STREAM_CLOSED"))
on_reset("headers", "HEADERS", trailers, CLOSED, stream_error("STREAM_CLOSED"))


def after_servers_reset(name, sent, made):
    def body(peer):
        stream = peer.open(request_fields(without=[":path"]))
        peer.wait(lambda: stream in peer.resets)
        seen = len(peer.frames)
        peer.send(made(peer, stream))
        outcome = peer.outcome(stream)
        later = [one for one in peer.frames[seen:] if one.stream_id == stream]
        return GOES_ON if outcome == "RST_STREAM PROTOCOL_ERROR" and not later else outcome
    body.__name__ = f"after_servers_reset_{name}"
    clause("5.1", f"{sent} on a stream that the server has just reset: ignored", GOES_ON)(body)


after_servers_reset("data", "DATA", lambda peer, stream: frame(DATA, END_STREAM, stream, b"x"))
after_servers_reset("headers", "HEADERS", trailers)
after_servers_reset("window_update", "WINDOW_UPDATE", lambda peer, stream: window_update(stream, 1))
after_servers_reset("reset", "RST_STREAM", lambda peer, stream: reset(stream))


# 5.1.1, 5.1.2: identifiers, concurrency

@clause("5.1.1", "HEADERS on stream 2", PROTOCOL)
def even_stream(peer):
    peer.send(peer.headers(2, request_fields(), flags=END_HEADERS | END_STREAM))
    return peer.outcome()


@clause("5.1.1", "HEADERS on stream 3 after stream 5", PROTOCOL, CLOSED)
def decreasing_stream(peer):
    peer.send(peer.headers(5, request_fields()), peer.headers(3, request_fields()))
    return peer.outcome()


@clause("5.1.1", "the request again on a stream that has been answered", PROTOCOL, CLOSED)
def stream_used_twice(peer):
    stream = peer.call()
    peer.wait(lambda: stream in peer.ended)
    peer.send(peer.headers(stream, request_fields()))
    return peer.outcome()


@clause("5.1.1", "DATA on stream 1, which stream 5 has closed", CLOSED, PROTOCOL)
def skipped_stream(peer):
    peer.next_stream = 5
    peer.open()
    peer.send(frame(DATA, 0, 1, b"x"))
    return peer.outcome()


@clause("5.1.1", "a call on stream 2,147,483,645, the last but one", OK, alone=True)
def last_streams(peer):
    peer.next_stream = (1 << 31) - 3
    return peer.outcome(peer.call(), waits=True)


@clause("5.1.2", "one stream more than SETTINGS_MAX_CONCURRENT_STREAMS", stream_error("REFUSED_STREAM", "PROTOCOL_ERROR"),
        alone=True)
def too_many_streams(peer):
    opened = [(stream := peer.stream(), peer.headers(stream, request_fields()))
              for _ in range(min(peer.settings[STREAMS_MAX], 5_000) + 1)]
    peer.send(*(part for _, part in opened))
    return peer.outcome(opened[-1][0])


@clause("5.1.2", "1,500 streams, without acknowledging SETTINGS: the server keeps to a bound of its own",
        stream_error("REFUSED_STREAM", "PROTOCOL_ERROR"), goaway("ENHANCE_YOUR_CALM"), start=False, alone=True)
def too_many_streams_without_ack(peer):
    peer.acknowledges = False
    peer.send(PREFACE + settings())
    opened = [(stream := peer.stream(), peer.headers(stream, request_fields())) for _ in range(1_500)]
    peer.send(*(part for _, part in opened))
    return peer.outcome(opened[-1][0])


# 5.2: flow control of what the server has refused to read

def discarded(name, sent, opened):
    def body(peer):
        sent_bytes = 0
    
        def granted():
            return 65_535 + sum(one.window_increment for one in peer.frames
                                if type(one).__name__ == "WindowUpdateFrame" and one.stream_id == 0)
        while sent_bytes < 2 << 20:
            stream = opened(peer)
            peer.wait(lambda: peer.is_done(stream))
            peer.send(frame(DATA, 0, stream, bytes(16_000)))
            sent_bytes += 16_000
            if not peer.wait(lambda: granted() - sent_bytes >= 16_000 or peer.is_closed, 3):
                return f"the window is used up after {sent_bytes} bytes"
            if peer.is_closed:
                break
        return peer.outcome()
    body.__name__ = f"discarded_{name}"
    clause("5.1", f"2 MiB of DATA on streams that {sent}: the connection's window comes back", GOES_ON)(body)


discarded("reset", "the server has reset", lambda peer: peer.open(request_fields(without=[":path"])))
discarded("refused", "the server has answered before their end",
          lambda peer: peer.open(request_fields("/martlet.v1.QueryService/Nothing")))


# 5.4, 5.5

@clause("5.4.1", "a connection error beside an open stream: GOAWAY names the last stream, and says what was wrong",
        "last stream 1, with text")
def goaway_names_streams(peer):
    peer.subscribe()
    peer.send(frame(DATA, 0, 0, b"x"))
    peer.wait(lambda: peer.is_closed)
    if not peer.goaways:
        return "no GOAWAY"
    last = peer.goaways[-1]
    return f"last stream {last.last_stream_id}, " + ("with text" if last.additional_data else "without text")


@clause("5.4.1", "frames after a connection error: not carried out", "GOAWAY PROTOCOL_ERROR")
def frames_after_error(peer):
    stream = peer.stream()
    peer.send(frame(DATA, 0, 0, b"x"), peer.headers(stream, request_fields()),
              frame(DATA, END_STREAM, stream, tenant_message()))
    outcome = peer.outcome()
    return outcome + (", and an answer" if stream in peer.ended else "")


@clause("5.4.2", "a stream error: RST_STREAM, and a stream beside it goes on", "RST_STREAM PROTOCOL_ERROR")
def stream_error_alone(peer):
    other = peer.subscribe()
    broken = peer.open(request_fields(without=[":scheme"]))
    outcome = peer.outcome(broken)
    return outcome + (", and the other's end" if peer.is_done(other) else "")


def unknown_frame(name, sent, stream):
    def body(peer):
        open_stream = peer.subscribe()
        peer.send(frame(0xFA, 0xFF, {"root": 0, "open": open_stream, "idle": 99}[stream], b"whatever this is"))
        return peer.outcome(open_stream)
    body.__name__ = name
    clause("5.5", f"a frame of an unknown type on {sent}", GOES_ON)(body)


unknown_frame("unknown_frame_on_root", "stream 0", "root")
unknown_frame("unknown_frame_on_open", "an open stream", "open")
unknown_frame("unknown_frame_on_idle", "an idle stream", "idle")


@clause("5.5", "settings that nobody has defined, next to one that is", GOES_ON)
def unknown_settings(peer):
    peer.send(settings((0xFFF0, 7), (STREAMS_MAX, 10), (0x7777, 1 << 31)))
    return peer.outcome()


@clause("5.5", "frames of ALTSVC and ORIGIN, which are a server's", GOES_ON)
def servers_extensions(peer):
    peer.send(frame(0xA, 0, 0, b"\x00\x01ah2=\":1\""), frame(0xC, 0, 0, b"\x00\x01a"))
    return peer.outcome()
