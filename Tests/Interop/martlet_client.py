"""A small Martlet client, written from Docs/PROTOCOL.md and Protos/ alone.

Needs the standard library, and modules that protoc generated from Protos/ (`protoc --python_out`).
One thread, one call at a time unless frames are sent by hand: it is for tests and for reading, not for speed.
"""

import os
import socket
import ssl
import struct
import time
import uuid

from martlet.v1 import event_pb2, frame_pb2

ALPN = "martlet/1"
WINDOW_BYTES = 4 << 20


class MartletError(Exception):
    """The status that ended a call, or (on_connection) the connection."""

    def __init__(self, status, on_connection=False):
        super().__init__(f"{status.reason}: {status.message}")
        self.status = status
        self.reason = status.reason
        self.on_connection = on_connection


def new_id():
    """A UUIDv7: 48 bits of milliseconds, then random bits."""
    value = bytearray(struct.pack(">Q", int(time.time() * 1000) << 16)[:6] + os.urandom(10))
    value[6] = 0x70 | value[6] & 0x0F
    value[8] = 0x80 | value[8] & 0x3F
    return bytes(value)


def event(kind, payload, **fields):
    return event_pb2.Event(id=fields.pop("id", None) or new_id(), type=kind, payload=payload, **fields)


def aggregate(kind, name=None):
    return event_pb2.AggregateName(type=kind, id=(name or uuid.uuid4()).bytes)


class Connection:
    """A TLS connection that speaks frames; `source` is the address that it comes from."""

    def __init__(self, host, port, ca, cert=None, key=None, timeout=20, alpn=(ALPN,), hello=True, source=None):
        context = ssl.create_default_context(cafile=ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if cert:
            context.load_cert_chain(cert, key)
        plain = socket.create_connection((host, port), timeout=timeout, source_address=source and (source, 0))
        # A request that follows a grant of credit is not to wait for the acknowledgement of the grant, up to 40 ms.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain, server_hostname=host)
        self.timeout = timeout
        self.received = b""
        self.last_call_id = 0
        self.welcome = None
        if hello:
            self.welcome = self.hello()

    def close(self):
        self.socket.close()

    # Frames: one flag byte, four bytes of length, big-endian, one message.

    def send_bytes(self, data):
        self.socket.settimeout(self.timeout)
        self.socket.sendall(data)

    def send(self, frame):
        body = frame.SerializeToString()
        self.send_bytes(b"\0" + struct.pack(">I", len(body)) + body)

    def receive(self, seconds=None):
        """The next frame; waits at most `seconds` for each part of it. Answers pings."""
        while True:
            while len(self.received) < 5 or len(self.received) < 5 + struct.unpack(">I", self.received[1:5])[0]:
                self.socket.settimeout(seconds or self.timeout)
                data = self.socket.recv(1 << 16)
                if not data:
                    raise EOFError("the server closed the connection")
                self.received += data
            length = struct.unpack(">I", self.received[1:5])[0]
            assert self.received[0] == 0, "flag byte"
            frame = frame_pb2.ServerFrame.FromString(self.received[5 : 5 + length])
            self.received = self.received[5 + length :]
            if frame.WhichOneof("body") == "ping":
                self.send(frame_pb2.ClientFrame(pong=frame_pb2.Pong(token=frame.ping.token)))
            elif frame.call_id == 0 and frame.WhichOneof("body") == "status":
                raise MartletError(frame.status, on_connection=True)
            else:
                return frame

    def receive_within(self, seconds):
        """The next frame, or None if it is not there in time; then a part of it may be, which is kept."""
        try:
            return self.receive(seconds)
        except TimeoutError:
            return None

    def hello(self, versions=(1,)):
        self.send(frame_pb2.ClientFrame(hello=frame_pb2.Hello(protocol_versions=versions, client_name="interop")))
        return self.receive().welcome

    # Calls.

    def start(self, timeout_millis=0, credit_bytes=0, **request):
        self.last_call_id += 1
        self.send(
            frame_pb2.ClientFrame(
                call_id=self.last_call_id, timeout_millis=timeout_millis, credit_bytes=credit_bytes, **request
            )
        )
        return self.last_call_id

    def grant(self, call_id, size):
        self.send(frame_pb2.ClientFrame(call_id=call_id, credit=frame_pb2.Credit(bytes=size)))

    def cancel(self, call_id):
        self.send(frame_pb2.ClientFrame(call_id=call_id, cancel=frame_pb2.Cancel()))

    def unary(self, **request):
        """The answer to a call that has one."""
        call_id = self.start(**request)
        frame = self.receive()
        while frame.WhichOneof("body") == "go_away":
            frame = self.receive()
        assert frame.call_id == call_id, "the answer is for another call"
        kind = frame.WhichOneof("body")
        if kind == "status":
            raise MartletError(frame.status)
        return getattr(frame, kind)

    def stream(self, credit_bytes=WINDOW_BYTES, **request):
        """The parts of an answer that streams; credit is given back as they are taken, and raised when that waits."""
        call_id = self.start(credit_bytes=credit_bytes, **request)
        while True:
            frame = self.receive()
            if frame.call_id != call_id:
                continue
            kind = frame.WhichOneof("body")
            if kind == "status":
                if frame.status.code:
                    raise MartletError(frame.status)
                return
            part = getattr(frame, kind)
            if kind != "subscribe" and part.waiting_for_credit_bytes:
                # All that came was granted again: the call has the whole credit.
                missing = part.waiting_for_credit_bytes - credit_bytes
                if missing > 0:
                    self.grant(call_id, missing)
                    credit_bytes = part.waiting_for_credit_bytes
                continue
            yield part
            if part.events:
                self.grant(call_id, entries_size(part.events))


def entries_size(events):
    """What events cost of a credit: key, length and record of each, as they travel."""
    size = 0
    for one in events:
        length = one.ByteSize()
        size += 1 + max(1, (length.bit_length() + 6) // 7) + length
    return size
