"""Floods of frames that carry nothing, and of fields."""

import os
import random
import ssl
import struct
import uuid

from .flooding import CALM, FILLED, flood, numbered, opened
from .peer import (
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW, PADDED, PRIORITY, frame, ping,
    request_fields, reset, settings, tenant_message, window_update)


@flood("HEADERS and RST_STREAM, again and again (CVE-2023-44487)", CALM)
def rapid_reset(flood):
    flood.repeat(numbered(200, lambda block, stream: frame(HEADERS, END_HEADERS, stream, block) + reset(stream)), 400)


@flood("whole calls, each reset at once", CALM)
def rapid_reset_of_calls(flood):
    content = tenant_message()
    flood.repeat(numbered(200, lambda block, stream: frame(HEADERS, END_HEADERS, stream, block)
                          + frame(DATA, END_STREAM, stream, content) + reset(stream)), 600)


@flood("calls that the server has to reset, for WINDOW_UPDATE of 0 (CVE-2025-8671)", CALM)
def made_reset(flood):
    flood.repeat(numbered(200, lambda block, stream: frame(HEADERS, END_HEADERS, stream, block)
                          + window_update(stream, 0)), 400)


@flood("requests without :method", CALM)
def malformed(flood):
    # :path / and :scheme https, of the static table.
    flood.repeat(numbered(200, lambda block, stream: frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x84\x87")), 200)


@flood("requests with a value that ends with a space", CALM)
def malformed_values(flood):
    flood.repeat(numbered(200, lambda block, stream: frame(HEADERS, END_HEADERS | END_STREAM, stream,
                                                           block + b"\x00\x01x\x02a ")), 200)


@flood("HEADERS without END_HEADERS, then CONTINUATION without end (CVE-2024-27316)", CALM)
def continuation(flood):
    def chunk(peer):
        stream = peer.stream()
        return frame(HEADERS, 0, stream, b"\x82") + frame(CONTINUATION, 0, stream, b"\x00\x01x\x01y") * 500
    flood.repeat(chunk, 501)


@flood("HEADERS without END_HEADERS, then CONTINUATION of 0 bytes", CALM)
def empty_continuation(flood):
    def chunk(peer):
        return frame(HEADERS, 0, peer.stream(), b"\x82") + frame(CONTINUATION, 0, peer.next_stream - 2) * 1_000
    flood.repeat(chunk, 1_001)


@flood("PING", CALM)
def pings(flood):
    flood.repeat(lambda peer: ping() * 1_000, 1_000)


@flood("PING by a peer that does not read", CALM, "closed without GOAWAY")
def unread_pings(flood):
    while not flood.is_over():
        with flood.peer(receive_buffer=4_096) as peer:
            peer.socket.settimeout(0.5)
            try:
                while not flood.is_over():
                    peer.socket.sendall(ping() * 1_000)
                    flood.frames += 1_000
            except (OSError, ssl.SSLError):
                pass
            peer.socket.settimeout(5)
            peer.wait(lambda: peer.is_closed, 1)
            flood.end(peer)


@flood("acknowledgements of PING that nobody waits for", CALM)
def pongs(flood):
    flood.repeat(lambda peer: ping(flags=ACK) * 1_000, 1_000)


@flood("SETTINGS of 6 bytes", CALM)
def settings_frames(flood):
    flood.repeat(lambda peer: settings((INITIAL_WINDOW, 65_535)) * 1_000, 1_000)


@flood("SETTINGS of 16,380 bytes, each with 2,730 windows, over 100 open streams", CALM)
def settings_of_windows(flood):
    long = settings(*[(INITIAL_WINDOW, 65_535), (INITIAL_WINDOW, 65_534)] * 1_365)

    def chunk(peer):
        if peer.next_stream == 1:
            return b"".join(peer.headers(peer.stream(), request_fields()) for _ in range(100)) + long
        return long
    flood.repeat(chunk, 1)


@flood("SETTINGS that change the windows of 1,000 open streams", CALM)
def settings_over_streams(flood):
    pair = settings((INITIAL_WINDOW, 65_535)) + settings((INITIAL_WINDOW, 65_534))

    def chunk(peer):
        if peer.next_stream == 1:
            block = opened(peer)
            return b"".join(frame(HEADERS, END_HEADERS, peer.stream(), block) for _ in range(1_000)) + pair * 500
        return pair * 500
    flood.repeat(chunk, 1_000)


@flood("SETTINGS of 16,380 bytes, each with 2,730 settings that nobody has defined", CALM)
def settings_unknown(flood):
    # The names differ, so that all of them would have to be kept.
    def chunk(peer):
        return b"".join(settings(*[(random.randrange(16, 65_536), 1) for _ in range(2_730)]) for _ in range(4))
    flood.repeat(chunk, 4)


@flood("PRIORITY", CALM)
def priorities(flood):
    flood.repeat(lambda peer: frame(PRIORITY, 0, 1, b"\0\0\0\0\x10") * 1_000, 1_000)


@flood("PRIORITY of streams that are idle, each another one", CALM)
def priorities_of_idle_streams(flood):
    flood.repeat(lambda peer: b"".join(frame(PRIORITY, 0, peer.stream(), b"\0\0\0\0\x10") for _ in range(1_000)), 1_000)


@flood("DATA of 0 bytes", CALM)
def empty_data(flood):
    def chunk(peer):
        if peer.next_stream == 1:
            return peer.headers(peer.stream(), request_fields())
        return frame(DATA, 0, 1) * 1_000
    flood.repeat(chunk, 1_000)


@flood("DATA of 0 bytes with 255 bytes of padding", CALM)
def padding(flood):
    def chunk(peer):
        if peer.next_stream == 1:
            return peer.headers(peer.stream(), request_fields())
        return frame(DATA, PADDED, 1, b"\xff" + bytes(255)) * 100
    flood.repeat(chunk, 100)


@flood("DATA of 0 bytes on a stream that the server has reset", CALM)
def data_of_reset(flood):
    def chunk(peer):
        if peer.next_stream == 1:
            return peer.headers(peer.stream(), request_fields(without=[":path"]))
        return frame(DATA, 0, 1) * 1_000
    flood.repeat(chunk, 1_000)


@flood("a message of 8 MB in DATA of 1 byte", CALM)
def tiny_data(flood):
    def chunk(peer):
        if peer.next_stream == 1:
            return peer.headers(peer.stream(), request_fields("/martlet.v1.AppendService/Append")) + frame(
                DATA, 0, 1, struct.pack(">BI", 0, 8_000_000))
        granted = 65_535 + sum(one.window_increment for one in peer.frames
                               if type(one).__name__ == "WindowUpdateFrame" and one.stream_id == 1)
        overall = 65_535 + sum(one.window_increment for one in peer.frames
                               if type(one).__name__ == "WindowUpdateFrame" and one.stream_id == 0)
        sent = getattr(peer, "sent", 5)
        count = min(1_000, min(granted, overall) - sent)
        peer.sent = sent + count
        if count == 0:
            peer.read(0.05)
        return frame(DATA, 0, 1, b"\0") * count
    flood.repeat(chunk, 1_000)


@flood("WINDOW_UPDATE of 1 on the connection", CALM)
def window_updates(flood):
    flood.repeat(lambda peer: window_update(0, 1) * 1_000, 1_000)


@flood("WINDOW_UPDATE of 1 on a stream whose answer waits for windows", CALM)
def window_updates_of_stream(flood):
    def chunk(peer):
        if peer.next_stream == 1:
            stream = peer.stream()
            return (settings((INITIAL_WINDOW, 0)) + peer.headers(stream, request_fields(
                "/martlet.v1.QueryService/Read")) + frame(DATA, END_STREAM, stream, tenant_message(FILLED)))
        return window_update(1, 1) * 1_000
    flood.repeat(chunk, 1_000)


@flood("WINDOW_UPDATE of 1 on streams that are closed", CALM)
def window_updates_of_closed(flood):
    def chunk(peer):
        if peer.next_stream == 1:
            opened(peer)
        return window_update(1, 1) * 1_000
    flood.repeat(chunk, 1_000)


@flood("GOAWAY with 8 KiB of text", CALM)
def goaways(flood):
    flood.repeat(lambda peer: frame(GOAWAY, 0, 0, bytes(8 + 8_192)) * 8, 8)


@flood("frames of an unknown type, empty", CALM, "held on")
def unknown_frames(flood):
    flood.repeat(lambda peer: frame(0xFA, 0, 0) * 2_000, 2_000)


@flood("frames of an unknown type, 1,000 bytes, of which each read brings the end of one and the beginning of the next",
       CALM, "held on")
def cut_frames(flood):
    frames = frame(0xFA, 0, 0, bytes(1_000)) * 32

    # A record of TLS each, which never ends where a frame ends.
    def chunk(peer):
        at = getattr(peer, "at", 0)
        part = frames[at:at + (16_000 if (at + 16_000) % 1_009 else 15_999)]
        peer.at = (at + len(part)) % 1_009
        return part
    flood.repeat(chunk, 16)


@flood("frames of ALTSVC and ORIGIN", CALM)
def extension_frames(flood):
    flood.repeat(lambda peer: frame(0xC, 0, 0, b"\x00\x01a") * 1_000, 1_000)


@flood("a field of 4,000 bytes in the table, referred to 15,000 times in a block", "GOAWAY COMPRESSION_ERROR, with text")
def field_bomb(flood):
    def chunk(peer):
        stream = peer.stream()
        return (frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x83\x87\x84\x40\x01x\x7f\xa1\x1e" + b"a" * 4_000)
                + frame(HEADERS, END_HEADERS | END_STREAM, peer.stream(), b"\x83\x87\x84" + b"\xbe" * 15_000))
    flood.repeat(chunk, 2)


@flood("calls with 15 KB of fields, from blocks of 20 bytes", "held on")
def field_references(flood):
    def chunk(peer):
        if peer.next_stream == 1:
            opened(peer)
            fields = request_fields() + [("x", "a" * 3_600)] * 4
            peer.send(peer.headers(peer.stream(), fields, flags=END_HEADERS | END_STREAM))
            peer.table_block = peer.encoder.encode(fields)
        # Within the limit of streams.
        peer.wait(lambda: peer.is_closed or len(peer.ended) >= peer.next_stream // 2 - 500, 5)
        return b"".join(frame(HEADERS, END_HEADERS, stream, peer.table_block)
                        + frame(DATA, END_STREAM, stream, tenant_message())
                        for stream in [peer.stream() for _ in range(50)])
    flood.repeat(chunk, 100)


@flood("calls with 300 fields, from blocks of 300 bytes", "held on")
def many_fields(flood):
    # accept-encoding: gzip, deflate, of the static table.
    flood.repeat(numbered(50, lambda block, stream: frame(HEADERS, END_HEADERS, stream, block + b"\x90" * 240)
                          + frame(DATA, END_STREAM, stream, tenant_message())), 100)


@flood("fields beyond the limit: 64 KB in HEADERS and CONTINUATION", CALM)
def field_lists(flood):
    flood.repeat(lambda peer: frame(HEADERS, 0, peer.stream(), bytes(16_000))
                 + frame(CONTINUATION, 0, peer.next_stream - 2, bytes(16_000)) * 3, 4)
