"""Calls that hold on to the server: half-open ones, answers that wait for windows, messages that are compressed, noise."""

import gzip
import os
import random
import struct
import time

from . import http1
from .flooding import CALM, FILLED, MIB, flood, opened
from .peer import (
    DATA, END_HEADERS, END_STREAM, HEADERS, INITIAL_WINDOW, SUBSCRIBE, frame, request_fields, settings, tenant_message,
    window_update)


@flood("20 connections with 1,024 streams each that are opened and left half-open", "held on")
def half_open(flood):
    def prepare(peer):
        block = opened(peer)
        peer.send(b"".join(frame(HEADERS, END_HEADERS, peer.stream(), block) for _ in range(1_024)))
        flood.frames += 1_024
    flood.hold(20, prepare)


@flood("20 connections with 1,024 half-open streams each, every one with 14 KB of fields", "held on", CALM,
       pools=64 * MIB)
def half_open_with_fields(flood):
    def prepare(peer):
        block = opened(peer)
        # Not in the table, so that nobody can share them.
        block += b"\x00\x01x" + b"\x7f" + b"\xb1\x6c" + os.urandom(7_000).hex().encode()
        for _ in range(64):
            peer.send(b"".join(frame(HEADERS, END_HEADERS, peer.stream(), block) for _ in range(16)))
            peer.read(0.0001)
        flood.frames += 1_024
    flood.hold(20, prepare)


@flood("10 connections with 1,000 messages each that come a byte a second", "held on", pools=64 * MIB)
def slow_messages(flood):
    def prepare(peer):
        block = opened(peer)
        peer.send(b"".join(
            frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, 0, stream, struct.pack(">BI", 0, 60_000) + bytes(200))
            for stream in [peer.stream() for _ in range(1_000)]))
        flood.frames += 2_000
        peer.told = time.monotonic()

    def each(peer):
        if time.monotonic() - peer.told >= 1:
            peer.told = time.monotonic()
            first = peer.next_stream - 2_000
            peer.send(b"".join(frame(DATA, 0, first + 2 * number, b"\0") for number in range(1_000)))
            flood.frames += 1_000
    flood.hold(10, prepare, each)


@flood("10 connections with 1,000 messages each that are said to have 8 MB and stop after 100 bytes", "held on",
       pools=128 * MIB)
def large_promises(flood):
    def prepare(peer):
        block = opened(peer)
        peer.send(b"".join(
            frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, 0, stream, struct.pack(">BI", 0, 8_000_000) + bytes(95))
            for stream in [peer.stream() for _ in range(1_000)]))
        flood.frames += 2_000
    flood.hold(10, prepare)


@flood("20 connections with 1,000 reads of 16 MB each, and stream windows of 0", "held on", CALM, pools=256 * MIB)
def closed_stream_windows(flood):
    def prepare(peer):
        opened(peer)
        reading = request_fields("/martlet.v1.QueryService/Read")
        peer.send(peer.headers(peer.stream(), reading))
        reading = peer.encoder.encode(reading)
        content = tenant_message(FILLED)
        peer.send(settings((INITIAL_WINDOW, 0)))
        peer.send(b"".join(frame(HEADERS, END_HEADERS, stream, reading) + frame(DATA, END_STREAM, stream, content)
                           for stream in [peer.stream() for _ in range(1_000)]))
        flood.frames += 2_000
    flood.hold(20, prepare)


@flood("20 connections with 1,000 reads of 16 MB each, stream windows of 2^31 - 1, and a connection window that stays used up",
       "held on", CALM, pools=256 * MIB)
def closed_connection_window(flood):
    def prepare(peer):
        peer.replenishes = False
        content = tenant_message(FILLED)
        peer.send(settings((INITIAL_WINDOW, (1 << 31) - 1)))
        for _ in range(1_000):
            stream = peer.stream()
            peer.send(peer.headers(stream, request_fields("/martlet.v1.QueryService/Read")),
                      frame(DATA, END_STREAM, stream, content))
        flood.frames += 2_000
    flood.hold(20, prepare)


@flood("5 connections with 100 subscriptions each, and windows of 0: slow subscribers, which get all when they open them",
       "held on", pools=64 * MIB)
def slow_subscribers(flood):
    def prepare(peer):
        opened(peer)
        peer.replenishes = False
        subscribing = request_fields(SUBSCRIBE)
        peer.send(settings((INITIAL_WINDOW, 0)))
        peer.slow = [peer.call(subscribing, tenant_message(FILLED)) for _ in range(100)]
        flood.frames += 200

    def after(peer):
        if peer.is_closed or peer.goaways or any(peer.is_done(stream) for stream in peer.slow):
            return False
        peer.replenishes = True
        first = peer.slow[0]
        peer.send(window_update(0, 1 << 26), window_update(first, 1 << 26))
        # Some of the tenant's 16 MB.
        return peer.wait(lambda: len(peer.data.get(first, b"")) > 4_000_000)
    flood.hold(5, prepare, after=after)


@flood("20 connections with 1,000 requests each for what is not there, and stream windows of 0: the answers wait", "held on",
       CALM)
def answers_that_wait(flood):
    def prepare(peer):
        peer.send(settings((INITIAL_WINDOW, 0)))
        fields = [(":method", "GET"), (":scheme", "https"), (":path", "/nothing"), (":authority", "localhost")]
        peer.send(peer.headers(peer.stream(), fields, flags=END_HEADERS | END_STREAM))
        peer.send(b"".join(frame(HEADERS, END_HEADERS | END_STREAM, peer.stream(), peer.encoder.encode(fields))
                           for _ in range(1_000)))
        flood.frames += 1_000
    flood.hold(20, prepare)


@flood("messages of 8 KB that gzip makes 8 MB of", CALM, "held on", pools=64 * MIB)
def gzip_bombs(flood):
    content = gzip.compress(bytes(8_000_000), 9)
    content = struct.pack(">BI", 1, len(content)) + content

    def chunk(peer):
        # As fast as the connection's window comes back.
        if not peer.wait(lambda: window_left(peer) >= len(content), 1):
            return b""
        stream = peer.stream()
        block = peer.encoder.encode(request_fields("/martlet.v1.QueryService/GetHead", ("grpc-encoding", "gzip")))
        peer.sent = getattr(peer, "sent", 0) + len(content)
        return frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, content)
    flood.repeat(chunk, 2)


@flood("messages of 60 KB that gzip makes 2.8 MB of, which the server lets through", CALM, "held on", pools=64 * MIB)
def gzip_near_bombs(flood):
    # As much as is let through.
    content = gzip.compress(os.urandom(57_000) + bytes(2_700_000), 9)
    content = struct.pack(">BI", 1, len(content)) + content

    def chunk(peer):
        # As fast as the connection's window comes back.
        if not peer.wait(lambda: window_left(peer) >= len(content), 1):
            return b""
        stream = peer.stream()
        block = peer.encoder.encode(request_fields("/martlet.v1.QueryService/GetHead", ("grpc-encoding", "gzip")))
        parts = [content[at:at + 16_000] for at in range(0, len(content), 16_000)]
        peer.sent = getattr(peer, "sent", 0) + len(content)
        return frame(HEADERS, END_HEADERS, stream, block) + b"".join(
            frame(DATA, END_STREAM if part is parts[-1] else 0, stream, part) for part in parts)
    flood.repeat(chunk, 5)


def window_left(peer):
    return 65_535 - getattr(peer, "sent", 0) + sum(
        one.window_increment for one in peer.frames if type(one).__name__ == "WindowUpdateFrame" and one.stream_id == 0)


@flood("HTTP/1.1 that is none: noise, lines without end, fields without end", "ended")
def http1_garbage(flood):
    contents = [os.urandom(65_536), b"GET /" + b"a" * 500_000, b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 100_000,
                b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + bytes(65_536)]
    for content in iter(lambda: random.choice(contents), None):
        if flood.is_over():
            break
        flood.connections += 1
        flood.frames += 1
        try:
            http1.exchange(flood.target, flood.ca, content, seconds=2)
            flood.ends["ended"] += 1
        except OSError as error:
            flood.ends["ended" if isinstance(error, ConnectionError) else repr(error)] += 1
