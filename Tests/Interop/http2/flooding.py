"""What a flood is: connections that pour frames into the server, or hold on to it, and how they end."""

import collections
import select
import ssl
import time
import uuid

from .bystander import stock_channel
from .peer import Peer, append_content, error_name, request_fields

MIB = 1 << 20
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
        return Peer(self.target, self.ca, seconds=PATIENCE, **options)

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
                if not pending:
                    continue
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

    def hold(self, count, prepare, each=lambda peer: None, after=lambda peer: True):
        """Keeps many connections, each as `prepare` leaves it, until the time is up; `after` says whether it is well then."""
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
            if not after(peer):
                self.ends["lost something"] += 1
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


# A tenant with 16 MB of events.
FILLED = uuid.uuid4().bytes


def fill(target, ca):
    """Appends the events that reads are to find."""
    with stock_channel(target, ca) as channel:
        append = channel.unary_unary("/martlet.v1.AppendService/Append")
        for _ in range(16):
            append(append_content(FILLED, 999_000), timeout=60)
