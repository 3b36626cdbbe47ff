"""A proxy between a driver and its server that plants a wrong answer: does the driver find it?"""

import asyncio
import ssl
import threading

from .servers import CERTS

# Answers at least as long have events in them; those of appends are shorter.
EVENTS_BYTES = 200
# How many of its connection's answers a late one lets pass: more than it has subscribers.
LATE_ANSWERS = 10


def varint(bytes_, at):
    value = shift = 0
    while True:
        byte = bytes_[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def encoded(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def fields(message):
    """A message's fields in turn: number, value (an integer, or bytes)."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        value, at = varint(message, at)
        if key & 7 == 2:
            value, at = message[at:at + value], at + value
        yield key >> 3, value


def message_of(pairs):
    out = b""
    for number, value in pairs:
        if isinstance(value, int):
            out += encoded(number << 3) + encoded(value)
        else:
            out += encoded(number << 3 | 2) + encoded(len(value)) + value
    return out


class Native:
    """The frames of martlet/1: a byte, a length, a Frame, whose last field is the answer."""

    protocol = "martlet/1"

    def __init__(self):
        self.rest = b""

    def pass_on(self, received, change):
        self.rest += received
        out = b""
        while len(self.rest) >= 5 and len(self.rest) >= 5 + int.from_bytes(self.rest[1:5], "big"):
            end = 5 + int.from_bytes(self.rest[1:5], "big")
            frame, self.rest = self.rest[:end], self.rest[end:]
            *head, (number, answer) = fields(frame[5:])
            if not isinstance(answer, bytes):
                out += frame
                continue
            for changed in change([answer]):
                body = message_of([*head, (number, changed)])
                out += b"\0" + len(body).to_bytes(4, "big") + body
        return out


class GRPC:
    """HTTP/2: the messages of each stream's DATA frames are put together, and sent on in frames of 16 KiB."""

    protocol = "h2"

    def __init__(self):
        self.rest, self.streams = b"", {}

    def pass_on(self, received, change):
        self.rest += received
        out = b""
        while len(self.rest) >= 9 and len(self.rest) >= 9 + int.from_bytes(self.rest[:3], "big"):
            end = 9 + int.from_bytes(self.rest[:3], "big")
            frame, self.rest = self.rest[:end], self.rest[end:]
            out += self.data(frame[5:9], frame[9:], change) if frame[3] == 0 and frame[4] == 0 else frame
        return out

    def data(self, stream, part, change):
        kept = self.streams.pop(stream, b"") + part
        messages = []
        while len(kept) >= 5 and len(kept) >= 5 + int.from_bytes(kept[1:5], "big"):
            end = 5 + int.from_bytes(kept[1:5], "big")
            messages.append(kept[5:end])
            kept = kept[end:]
        if kept:
            self.streams[stream] = kept
        content = b"".join(b"\0" + len(one).to_bytes(4, "big") + one for one in change(messages))
        parts = [content[at:at + 16384] for at in range(0, len(content), 16384)]
        return b"".join(len(one).to_bytes(3, "big") + b"\0\0" + stream + one for one in parts)


class NATSLines:
    """Lines; those that begin with MSG or HMSG say how much follows them."""

    protocol = None

    def __init__(self):
        self.rest = b""

    def pass_on(self, received, change):
        self.rest += received
        out = b""
        while b"\r\n" in self.rest:
            line = self.rest[:self.rest.index(b"\r\n") + 2]
            is_message = line.startswith((b"MSG", b"HMSG"))
            end = len(line) + (int(line.split()[-1]) + 2 if is_message else 0)
            if len(self.rest) < end:
                break
            whole, self.rest = self.rest[:end], self.rest[end:]
            # Replies to appends and to questions go to an inbox.
            out += b"".join(change([whole])) if is_message and b" _INBOX." not in line else whole
        return out


class Fault:
    """What is done to answers, once; `mute` from then on, to all of one connection's."""

    def __init__(self, kind, after):
        self.kind, self.after, self.seen = kind, after, 0
        self.planted, self.muted, self.held, self.waited = False, None, None, 0

    def change(self, connection, answers):
        return [changed for answer in answers for changed in self.changed(connection, answer)]

    def changed(self, connection, answer):
        if self.kind in ("count", "positions"):
            return [self.answered(answer)]
        if len(answer) < EVENTS_BYTES:
            return [answer]
        if self.held and self.held[0] is connection:
            self.waited += 1
            if self.waited == LATE_ANSWERS:
                late, self.held = self.held[1], None
                return [answer, late]
        if self.muted is connection:
            return []
        self.seen += 1
        if self.kind is None or self.planted or self.seen <= self.after:
            return [answer]
        self.planted = True
        if self.kind == "late":
            self.held = connection, answer
        if self.kind == "mute":
            self.muted = connection
        return [answer, answer] if self.kind == "repeat" else []

    def answered(self, answer):
        """An AppendResponse, or the AppendSessionResponse that has one: other positions than the events got."""
        if len(answer) >= EVENTS_BYTES or self.planted:
            return answer
        pairs = list(fields(answer))
        if [number for number, _ in pairs] == [1, 2]:
            return message_of([pairs[0], (2, self.answered(pairs[1][1]))])
        if not {1, 2, 3} <= {number for number, _ in pairs}:
            return answer
        self.seen += 1
        if self.seen <= self.after:
            return answer
        self.planted = True
        changed = (3,) if self.kind == "count" else (2, 3)
        return message_of([(number, value ^ 1 if number in changed else value) for number, value in pairs])


class Proxy:
    """On a port of its own, with the development certificate, in a thread."""

    def __init__(self, port, form, fault):
        self.upstream, self.form, self.fault = port, form, fault
        started = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._run(started)), daemon=True)
        self.thread.start()
        started.wait()

    async def _run(self, started):
        self.loop, self.stopped = asyncio.get_running_loop(), asyncio.Event()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTS / "server.pem", CERTS / "server.key")
        self.outward = ssl.create_default_context(cafile=str(CERTS / "ca.pem"))
        if self.form.protocol:
            context.set_alpn_protocols([self.form.protocol])
            self.outward.set_alpn_protocols([self.form.protocol])
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self.stopped.wait()

    def stop(self):
        self.loop.call_soon_threadsafe(self.stopped.set)
        self.thread.join()

    async def _serve(self, reader, writer):
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.upstream, ssl=self.outward,
                                                               server_hostname="localhost")
        form = self.form()
        try:
            await asyncio.gather(
                self._pipe(reader, far_writer, lambda received: received),
                self._pipe(far_reader, writer, lambda received: form.pass_on(
                    received, lambda answers: self.fault.change(form, answers))))
        except asyncio.CancelledError:
            # The proxy stops. asyncio's own callback fails for connections whose task ends as cancelled.
            pass

    @staticmethod
    async def _pipe(reader, writer, pass_on):
        try:
            while received := await reader.read(1 << 18):
                writer.write(pass_on(received))
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()
