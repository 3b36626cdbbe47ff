"""Floods the server in all the ways that HTTP/2 allows, and watches its memory, its processor time and a bystander.

    python -m http2 floods --target 127.0.0.1:7311 --ca ca.pem --pid PID [--seconds 5] [--only NAME]

After each flood the server must answer as ever, and its memory must be within the bound that the flood's row names.
"""

import argparse
import collections
import gzip
import json
import os
import random
import select
import ssl
import struct
import subprocess
import sys
import threading
import time
import uuid

from . import document, http1
from .bystander import stock_channel
from .peer import (
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW, PADDED, PRIORITY, Peer, append_content, error_name, frame, ping, request_fields, reset, settings, tenant_message, window_update)

MIB = 1 << 20
CONNECTION_BYTES = 512 << 10
# What the allocator keeps, and what differs from one moment to the next: the bystander's connection, caches that fill.
SLACK_BYTES = 48 * MIB
# For so long at most a server that is slow may take to end a connection, in seconds.
PATIENCE = 60
CALM = "GOAWAY ENHANCE_YOUR_CALM, with text"


class Flood:
    """One way to flood: connections that pour frames into the server for some seconds, one after the other or at once."""

    def __init__(self, target, ca, seconds, must_end=False):
        self.target = target
        self.ca = ca
        self.deadline = time.monotonic() + seconds
        self.must_end = must_end
        self.ends = collections.Counter()
        self.frames = 0
        self.connections = 0
        self.connections_at_once = 1

    def is_over(self):
        """The time is up; a server that has to end connections, and is slow, has more until it has ended one."""
        now = time.monotonic()
        return now >= self.deadline and (not self.must_end or bool(self.ends) or now >= self.deadline + PATIENCE)

    def peer(self, **options):
        self.connections += 1
        return Peer(self.target, self.ca, seconds=5, **options)

    def end(self, peer):
        """Takes note of how a connection ended, or that it did not."""
        # What was said last is still on its way.
        if not peer.is_closed:
            peer.wait(lambda: peer.is_closed, 0.5 if peer.goaways else 0.02)
        if peer.goaways:
            last = peer.goaways[-1]
            text = "with text" if last.additional_data else "without text"
            self.ends[f"GOAWAY {error_name(last.error_code)}, {text}"] += 1
        elif peer.is_closed:
            self.ends["closed without GOAWAY"] += 1
        elif not self.ends or self.connections_at_once > 1:
            # The last one may still be at it when the time is up.
            self.ends["held on"] += 1
        peer.close()

    def pour(self, peer, chunk, frames):
        """Sends chunks until the server ends the connection or the time is up; `chunk(peer)` makes the next."""
        peer.socket.setblocking(False)
        pending = memoryview(b"")
        while not self.is_over() and not peer.is_closed and not peer.goaways:
            if not pending:
                pending = memoryview(chunk(peer))
                peer.socket.setblocking(False)
            try:
                pending = pending[peer.socket.send(pending):]
                if not pending:
                    self.frames += frames
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
                select.select([peer.socket], [peer.socket], [], 0.05)
            except (OSError, ssl.SSLError):
                peer.socket.settimeout(peer.seconds)
                peer.wait(lambda: peer.is_closed, 1)
                break
            while peer.read(0.0001) and not self.is_over():
                pass
            peer.socket.setblocking(False)
        peer.socket.settimeout(peer.seconds)

    def repeat(self, chunk, frames, **options):
        """Floods on one connection, and on the next when that was ended."""
        while not self.is_over():
            with self.peer(**options) as peer:
                self.pour(peer, chunk, frames)
                self.end(peer)

    def hold(self, count, prepare, each=lambda peer: None):
        """Keeps many connections, each as `prepare` leaves it, until the time is up."""
        self.connections_at_once = count
        peers = []
        for _ in range(count):
            if self.is_over():
                break
            peer = self.peer()
            prepare(peer)
            peers.append(peer)
        while not self.is_over():
            for peer in peers:
                each(peer)
                peer.read(0.001)
            time.sleep(0.01)
        for peer in peers:
            self.end(peer)


FLOODS = []


def flood(sent, *ends, pools=0):
    """Registers a flood: how its connections may end, and bytes of the pools that it may fill."""
    def register(body):
        FLOODS.append((body.__name__, sent, ends, pools, body))
        return body
    return register


def opened(peer):
    """Makes one call, so that its fields are in the table, and gives the block of the next."""
    stream = peer.call()
    peer.wait(lambda: peer.is_done(stream))
    return peer.encoder.encode(request_fields())


def numbered(count, parts):
    """A chunk of so many streams; `parts(block, stream)` makes the frames of one."""
    def chunk(peer):
        if peer.next_stream == 1:
            peer.call_block = opened(peer)
        return b"".join(parts(peer.call_block, peer.stream()) for _ in range(count))
    return chunk


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


@flood("fields beyond the limit: 64 KB in HEADERS and CONTINUATION", "GOAWAY PROTOCOL_ERROR, with text",
       "GOAWAY COMPRESSION_ERROR, with text", CALM)
def field_lists(flood):
    flood.repeat(lambda peer: frame(HEADERS, 0, peer.stream(), bytes(16_000))
                 + frame(CONTINUATION, 0, peer.next_stream - 2, bytes(16_000)) * 3, 4)


@flood("20 connections with 1,024 streams each that are opened and left half-open", "held on")
def half_open(flood):
    def prepare(peer):
        block = opened(peer)
        peer.send(b"".join(frame(HEADERS, END_HEADERS, peer.stream(), block) for _ in range(1_024)))
        flood.frames += 1_024
    flood.hold(20, prepare)


@flood("20 connections with 1,024 half-open streams each, every one with 14 KB of fields", "held on", CALM)
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
        stream = peer.stream()
        block = peer.encoder.encode(request_fields("/martlet.v1.QueryService/GetHead", ("grpc-encoding", "gzip")))
        peer.wait(lambda: window_left(peer) >= len(content) or peer.is_closed, 1)
        peer.sent = getattr(peer, "sent", 0) + len(content)
        return frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, content)
    flood.repeat(chunk, 2)


@flood("messages of 60 KB that gzip makes 2.8 MB of, which the server lets through", CALM, "held on", pools=64 * MIB)
def gzip_near_bombs(flood):
    # As much as is let through.
    content = gzip.compress(os.urandom(57_000) + bytes(2_700_000), 9)
    content = struct.pack(">BI", 1, len(content)) + content

    def chunk(peer):
        stream = peer.stream()
        block = peer.encoder.encode(request_fields("/martlet.v1.QueryService/GetHead", ("grpc-encoding", "gzip")))
        parts = [content[at:at + 16_000] for at in range(0, len(content), 16_000)]
        # As fast as the connection's window comes back.
        peer.wait(lambda: window_left(peer) >= len(content) or peer.is_closed, 1)
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


# A tenant with 16 MB of events.
FILLED = uuid.uuid4().bytes


def fill(target, ca):
    """Appends the events that reads are to find."""
    with stock_channel(target, ca) as channel:
        append = channel.unary_unary("/martlet.v1.AppendService/Append")
        for _ in range(16):
            append(append_content(FILLED, 999_000), timeout=60)


class Watch(threading.Thread):
    """The server's memory, over and over."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid = pid
        self.peak = 0
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(0.02):
            self.peak = max(self.peak, resident(self.pid))


def resident(pid):
    """Bytes in memory."""
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def processor_time(pid):
    """Seconds of processor time."""
    with open(f"/proc/{pid}/stat") as file:
        parts = file.read().rsplit(")", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def attack(options, body, must_end):
    """Floods, and says what was seen."""
    by = subprocess.Popen([sys.executable, "-m", "http2.bystander", options.target, options.ca],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert by.stdout.readline() == "ready\n", "the bystander is not served"
    before, cpu = resident(options.pid), processor_time(options.pid)
    watch = Watch(options.pid)
    watch.start()
    began = time.monotonic()
    flood = Flood(options.target, options.ca, options.seconds, must_end)
    try:
        body(flood)
    finally:
        seconds = time.monotonic() - began
        cpu = processor_time(options.pid) - cpu
        watch.ended.set()
        watch.join()
        bystander = json.loads(by.communicate("\n")[0])
    return flood, before, watch.peak, cpu / seconds, bystander


def main(arguments):
    parser = argparse.ArgumentParser(prog="http2 floods", description=__doc__.splitlines()[0])
    parser.add_argument("--target", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--pid", type=int, required=True, help="the server's process")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--only", help="these floods, with commas between them")
    parser.add_argument("--document", help="Docs/HTTP2.md, into which the table is written")
    parser.add_argument("--bystander-millis", type=float, help="fails where the bystander's p99 is longer")
    options = parser.parse_args(arguments)
    fill(options.target, options.ca)
    failed, rows = 0, []
    chosen = [("quiet", "nothing", ("",), 0, lambda flood: time.sleep(options.seconds))] + FLOODS
    print(f"{'flood':28} {'frames':>9} {'conn':>5} {'rss MB':>14} {'cpu':>5} {'by p50':>7} {'p99':>7} {'max':>8}  ends")
    for name, sent, ends, pools, body in chosen:
        if options.only and name != "quiet" and name not in options.only.split(","):
            continue
        faults = []
        try:
            flood, before, peak, cpu, by = attack(options, body, ends == (CALM,))
        except Exception as error:  # noqa: BLE001: whatever it is, it belongs into the table
            print(f"{name:28} FAILED: {type(error).__name__}: {error}")
            failed += 1
            continue
        bound = before + pools + flood.connections_at_once * CONNECTION_BYTES + SLACK_BYTES
        if peak > bound:
            faults.append(f"memory {peak // MIB} MB is over {bound // MIB} MB")
        faults += [f"a connection {one}" for one in flood.ends if one not in ends]
        if flood.connections and not flood.ends:
            faults.append("no connection came to an end")
        if by["failed"]:
            faults.append(f"the bystander failed {by['failed']} times: {by['failures']}")
        if options.bystander_millis and by["p99"] and by["p99"] > options.bystander_millis:
            faults.append(f"the bystander waited {by['p99']} ms")
        try:
            with Peer(options.target, options.ca) as peer:
                if not peer.lives():
                    faults.append("calls are not answered after it")
        except OSError as error:
            faults.append(f"no connection after it: {error}")
        seen = ", ".join(f"{count} {name}" for name, count in flood.ends.items())
        rows.append((sent, flood, before, peak, cpu, by, seen))
        print(f"{name:28} {flood.frames:9} {flood.connections:5} {before // MIB:6}->{peak // MIB:6} {cpu:5.2f} "
              f"{by['p50'] or 0:7.1f} {by['p99'] or 0:7.1f} {by['max'] or 0:8.1f}  {seen}", flush=True)
        for fault in faults:
            print(f"{'':28} FAILED: {fault}", flush=True)
        failed += bool(faults)
    if options.document:
        document.write_floods(options.document, rows)
    print(f"{len(rows)} floods, {failed} failed")
    return 1 if failed else 0
