"""A raw peer of HTTP/2 over TLS: it sends whatever bytes it is told to, and keeps what comes back."""

import socket
import ssl
import struct
import time
import uuid

import hpack
from hyperframe.frame import (
    ContinuationFrame, DataFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame, SettingsFrame)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
TABLE_SIZE, ENABLE_PUSH, STREAMS_MAX, INITIAL_WINDOW, FRAME_SIZE, HEADER_LIST_SIZE = range(1, 7)

ERRORS = [
    "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED",
    "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"]

GET_HEAD = "/martlet.v1.QueryService/GetHead"
READ = "/martlet.v1.QueryService/Read"
APPEND = "/martlet.v1.AppendService/Append"
SUBSCRIBE = "/martlet.v1.SubscribeService/Subscribe"


def error_name(code):
    return ERRORS[code] if code < len(ERRORS) else f"error {code:#x}"


def frame(kind, flags, stream, payload=b"", length=None):
    """A frame's bytes; `length` may lie."""
    length = len(payload) if length is None else length
    return struct.pack(">HBBBI", length >> 8, length & 0xFF, kind, flags, stream) + payload


def settings(*pairs):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", name, value) for name, value in pairs))


def window_update(stream, increment):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def reset(stream, code=8):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def ping(content=b"\0" * 8, flags=0):
    return frame(PING, flags, 0, content)


def message(content):
    """A message of gRPC that is not compressed."""
    return struct.pack(">BI", 0, len(content)) + content


def tenant_message(tenant=None):
    """A request whose only field is the tenant, as GetHead and Subscribe take it."""
    return message(b"\x0a\x10" + (tenant or uuid.uuid4().bytes))


def field(number, content):
    """A field of protobuf that has a length."""
    length, coded = len(content), b""
    while length >= 128:
        coded += bytes([length & 127 | 128])
        length >>= 7
    return bytes([number << 3 | 2]) + coded + bytes([length]) + content


def append_content(tenant, payload_bytes):
    """An append of one event to an aggregate of its own."""
    payload = b'"' + b"x" * (payload_bytes - 2) + b'"'
    event = field(1, uuid.uuid4().bytes) + field(2, b"Filled") + field(15, payload)
    aggregate = field(1, b"order") + field(2, uuid.uuid4().bytes)
    return field(1, tenant) + field(2, field(1, aggregate) + field(2, b"\x08\x01") + field(3, event))


def request_fields(path=GET_HEAD, *more, without=(), method="POST"):
    """The fields of a call, the pseudo-header fields first."""
    fields = [
        (":method", method), (":scheme", "https"), (":path", path), (":authority", "localhost"),
        ("content-type", "application/grpc"), ("te", "trailers")]
    return [field for field in fields if field[0] not in without] + list(more)


def context(ca, protocols):
    """A context for TLS that offers these protocols by ALPN."""
    made = ssl.create_default_context(cafile=ca)
    made.check_hostname = False
    made.set_alpn_protocols(protocols)
    return made


class Closed(Exception):
    """The server has closed the connection."""


class Peer:
    """One connection. Frames that came are in `frames`; fields of headers are decoded in `fields[stream]`."""

    def __init__(self, target, ca, *, start=True, first_settings=(), seconds=5.0, receive_buffer=None):
        host, port = target.rsplit(":", 1)
        self.target = target
        self.ca = ca
        self.seconds = seconds
        plain = socket.socket()
        if receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(seconds)
        plain.connect((host, int(port)))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context(ca, ["h2"]).wrap_socket(plain)
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.decoder.max_header_list_size = 1 << 20
        self.buffer = bytearray()
        self.frames = []
        self.fields = {}
        self.data = {}
        self.ended = set()
        self.resets = {}
        self.goaways = []
        self.pongs = []
        self.settings = None
        self.settings_acks = 0
        self.is_closed = False
        self.acknowledges = True
        self.replenishes = True
        self.next_stream = 1
        self.block = None
        if start:
            self.start(first_settings)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        try:
            self.socket.close()
        except OSError:
            pass

    def start(self, pairs=()):
        """Sends the preface, and waits for the server's settings."""
        self.send(PREFACE + settings(*pairs))
        self.wait(lambda: self.settings is not None and self.settings_acks > 0)

    # What goes out.

    def send(self, *parts):
        """Sends bytes. A server that has hung up is noticed when what it said is read."""
        try:
            self.socket.settimeout(self.seconds)
            self.socket.sendall(b"".join(parts))
        except (BrokenPipeError, ConnectionError, ssl.SSLError):
            pass

    def stream(self):
        """The next stream's number."""
        self.next_stream += 2
        return self.next_stream - 2

    def headers(self, stream, fields, *, flags=END_HEADERS, block=None):
        """A HEADERS frame."""
        return frame(HEADERS, flags, stream, self.encoder.encode(fields, huffman=False) if block is None else block)

    def open(self, fields=None, *, flags=END_HEADERS):
        """Opens a stream."""
        stream = self.stream()
        self.send(self.headers(stream, request_fields() if fields is None else fields, flags=flags))
        return stream

    def call(self, fields=None, content=None):
        """Sends a whole call."""
        stream = self.stream()
        content = tenant_message() if content is None else content
        parts = [content[at:at + 16_384] for at in range(0, len(content), 16_384)]
        self.send(
            self.headers(stream, request_fields() if fields is None else fields),
            *(frame(DATA, 0, stream, part) for part in parts[:-1]), frame(DATA, END_STREAM, stream, parts[-1]))
        return stream

    def subscribe(self):
        """Opens a stream that the server keeps open when the request is complete, and waits until it has begun."""
        stream = self.call(request_fields(SUBSCRIBE))
        self.wait(lambda: stream in self.fields)
        return stream

    # What comes in.

    def wait(self, condition, seconds=None):
        """Reads until the condition holds: whether it does in time, and before the connection ends."""
        deadline = time.monotonic() + (self.seconds if seconds is None else seconds)
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0 or not self.read(left):
                return condition()
        return True

    def read(self, seconds):
        """Takes in what comes next: whether something did."""
        if self.is_closed:
            return False
        try:
            self.socket.settimeout(max(seconds, 0.001))
            content = self.socket.recv(1 << 18)
        except (socket.timeout, ssl.SSLWantReadError):
            return False
        except (OSError, ssl.SSLError):
            content = b""
        self.socket.settimeout(self.seconds)
        if not content:
            self.is_closed = True
            return False
        self.buffer += content
        while len(self.buffer) >= 9:
            head, length = Frame.parse_frame_header(memoryview(self.buffer[:9]))
            if len(self.buffer) < 9 + length:
                break
            head.parse_body(memoryview(bytes(self.buffer[9:9 + length])))
            del self.buffer[:9 + length]
            self.take(head, length)
        return True

    def take(self, one, length):
        stream = one.stream_id
        self.frames.append(one)
        if isinstance(one, (HeadersFrame, ContinuationFrame)):
            self.block = (self.block or b"") + one.data
            if isinstance(one, HeadersFrame) and "END_STREAM" in one.flags:
                self.ended.add(stream)
            if "END_HEADERS" in one.flags:
                self.fields.setdefault(stream, []).extend(self.decoder.decode(self.block))
                self.block = None
        elif isinstance(one, DataFrame):
            self.data[stream] = self.data.get(stream, b"") + one.data
            if "END_STREAM" in one.flags:
                self.ended.add(stream)
            if self.replenishes and length:
                self.send(window_update(0, length))
        elif isinstance(one, RstStreamFrame):
            self.resets.setdefault(stream, one.error_code)
        elif isinstance(one, GoAwayFrame):
            self.goaways.append(one)
        elif isinstance(one, PingFrame):
            if "ACK" in one.flags:
                self.pongs.append(one.opaque_data)
            elif self.acknowledges:
                self.send(ping(one.opaque_data, ACK))
        elif isinstance(one, SettingsFrame):
            if "ACK" in one.flags:
                self.settings_acks += 1
            else:
                self.settings = dict(one.settings)
                if self.acknowledges:
                    self.send(frame(SETTINGS, ACK, 0))

    def sync(self):
        """Waits until the server has taken in all that was sent: whether it is still there."""
        content = uuid.uuid4().bytes[:8]
        self.send(ping(content))
        return self.wait(lambda: content in self.pongs) and not self.goaways

    # What it means.

    def field(self, stream, name):
        """The last value of a field of an answer."""
        return next((value for key, value in reversed(self.fields.get(stream, [])) if key == name), None)

    def is_done(self, stream):
        return stream in self.ended or stream in self.resets

    def outcome(self, stream=None, *, waits=False):
        """What the server did about what was sent, in the words of the table.

        With `waits` the stream is expected to end: else it is enough that the server has taken everything in.
        """
        if waits:
            self.wait(lambda: self.is_done(stream) or self.is_closed)
        elif not self.sync():
            self.wait(lambda: self.is_closed)
        # What is said about the connection comes after what is said about a stream.
        if self.goaways or self.is_closed:
            self.wait(lambda: self.is_closed)
        if self.goaways:
            name = error_name(self.goaways[-1].error_code)
            return f"GOAWAY {name}" + ("" if self.is_closed else ", stays open")
        if self.is_closed:
            return "close"
        # An answer that is complete may be followed by RST_STREAM NO_ERROR (8.1).
        if stream in self.ended:
            status, code = self.field(stream, ":status"), self.field(stream, "grpc-status")
            return f"answer {status}" + (f", grpc-status {code}" if code is not None else "")
        if stream in self.resets:
            return f"RST_STREAM {error_name(self.resets[stream])}"
        if waits:
            return "silence"
        return "goes on"

    def lives(self):
        """Whether a call on this connection is answered as ever."""
        return self.outcome(self.call(), waits=True) == "answer 200, grpc-status 0"
