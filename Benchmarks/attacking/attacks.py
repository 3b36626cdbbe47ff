"""What one tenant's peers do to a server: attacks, and beside each as many harmless calls.

Each attack is a thread with connections of its own. It is called once in `period` seconds, with the same number of calls
whether `hostile` or not; harmless calls bring and ask for little, and read what they get.
"""

import gc
import json
import os
import resource
import select
import socket
import ssl
import struct
import threading
import time

from martlet.v1 import admin_pb2, append_pb2, event_pb2, frame_pb2, query_pb2, settings_pb2, snapshot_pb2, subscribe_pb2
from martlet_client import Connection, aggregate, event

# Attackers come from an address of their own, so that a limit of their address is not one of the other tenant's.
SOURCE = "127.0.0.2"
BYTES = "application/octet-stream"


def encode(frame):
    body = frame.SerializeToString()
    return b"\0" + struct.pack(">I", len(body)) + body


def request(call_id, credit_bytes=0, **body):
    return encode(frame_pb2.ClientFrame(call_id=call_id, credit_bytes=credit_bytes, **body))


def cancel(call_id):
    return encode(frame_pb2.ClientFrame(call_id=call_id, cancel=frame_pb2.Cancel()))


class Peer:
    """A connection that sends floods; what comes is read and dropped, or not read at all."""

    def __init__(self, target, reads=True):
        self.socket = Connection("127.0.0.1", target.port, target.ca, timeout=20, source=SOURCE).socket
        self.last_id = 0
        # One thread at a time is inside of TLS.
        self.lock = threading.Lock()
        self.is_closed = False
        self.socket.setblocking(False)
        if reads:
            threading.Thread(target=self.drop, daemon=True).start()

    def drop(self):
        try:
            while not self.is_closed:
                select.select([self.socket], [], [], 0.5)
                with self.lock:
                    while not self.is_closed:
                        try:
                            if not self.socket.recv(1 << 18):
                                return
                        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                            break
        except (OSError, ValueError):
            pass

    def ids(self, count):
        self.last_id += count
        return range(self.last_id - count + 1, self.last_id + 1)

    def send(self, data):
        rest = memoryview(data)
        end = time.monotonic() + 20
        while rest:
            with self.lock:
                try:
                    sent = self.socket.send(rest[: 1 << 16])
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    sent = 0
            rest = rest[sent:]
            if not sent:
                if time.monotonic() > end:
                    raise TimeoutError("the server takes nothing")
                select.select([], [self.socket], [], 0.1)

    def close(self):
        with self.lock:
            self.is_closed = True
            self.socket.close()


class Target:
    """The attacked server and the one tenant whose peers attack."""

    def __init__(self, port, ca, tenant, hostile):
        self.port, self.ca, self.tenant, self.hostile = port, ca, tenant, hostile
        self.conflicted, self.many, self.stated, self.listed = (aggregate("target") for _ in range(4))
        self.heavy = aggregate("target")
        self.client = Connection("127.0.0.1", port, ca, timeout=60, source=SOURCE)

    def append_request(self, name, events, expected=None, conflicting=False):
        part = append_pb2.AggregateAppend(
            aggregate=name, expected=expected or event_pb2.ExpectedVersion(any=True), events=events)
        return append_pb2.AppendRequest(
            tenant=self.tenant, aggregates=[part], include_conflicting_events=conflicting)

    def append(self, name, events):
        self.client.unary(append=self.append_request(name, events))

    def put(self, kind, document):
        self.client.unary(put_settings=settings_pb2.PutSettingsRequest(
            tenant=self.tenant, kind=kind, document=json.dumps(document).encode()))

    def save(self, name, version, size):
        snapshot = snapshot_pb2.NewSnapshot(schema_version=1, content_type=BYTES, payload=b"x" * size)
        self.client.unary(save_snapshot=snapshot_pb2.SaveSnapshotRequest(
            tenant=self.tenant, aggregate=name, version=version, snapshot=snapshot))

    def seed(self):
        """What attacks are about; a harmless tenant has as many events and snapshots, small ones, and no upcasters."""
        size = (4 << 20) - (64 << 10) if self.hostile else 100
        self.put("snapshot-policies", {"policies": [{"keep": 100}]})
        self.append(self.conflicted, tiny("Grow", 60))
        for _ in range(13):
            self.append(self.many, tiny("Grow", 200))
        self.append(self.stated, tiny("Other", 1))
        self.save(self.stated, 1, size)
        self.append(self.listed, tiny("Other", 30))
        for version in range(1, 31):
            self.save(self.listed, version, size)
        if self.hostile:
            self.put("upcasters", {"upcasters": growing(1_750_000) + heavy()})
        self.client.close()


def tiny(kind, count):
    return [event(kind, b"{}", content_type="application/json", schema_version=1) for _ in range(count)]


def growing(size):
    """A step that makes `size` bytes of two."""
    return [{"event": "Grow", "from": 1, "operations": [
        {"set": {"path": "/a", "value": "x" * (size // 2)}}, {"copy": {"from": "/a", "to": "/b"}}]}]


def heavy():
    """100 steps that spend what one payload's chain may spend."""
    first = {"event": "Heavy", "from": 1, "operations": [{"set": {"path": "/s", "value": "a," * 4_000}}]}
    pair = [{"split": {"path": "/s", "separator": "b", "to": "/s"}}, {"join": {"path": "/s", "separator": "b", "into": "/s"}}]
    return [first] + [{"event": "Heavy", "from": step, "operations": pair * 10} for step in range(2, 101)]


class Attacks:
    def __init__(self, target, lethal):
        self.target, self.hostile, self.lethal = target, target.hostile, lethal
        self.peers = {}
        self.calls = {}
        self.errors = {}
        self.silent = []

    # Each of these is one attack: its number in the issue, and how often it comes.
    PLAN = [("conflicts", 1.0), ("deadly_conflict", 12.0), ("upcasting", 1.0), ("unread", 3.0), ("cancelled", 1.0),
            ("silent_sockets", 1.0), ("subscriptions", 3.0), ("status", 0.5), ("padded_appends", 0.5)]

    def peer(self, name, **flags):
        if name not in self.peers:
            self.peers[name] = Peer(self.target, **flags)
        return self.peers[name]

    def count(self, name, calls):
        self.calls[name] = self.calls.get(name, 0) + calls

    def conflict(self, name, aggregate_name):
        peer = self.peer(name)
        none = event_pb2.ExpectedVersion(none=True)
        append = self.target.append_request(aggregate_name, tiny("Grow", 1), none, conflicting=True)
        peer.send(request(peer.ids(1)[0], append=append))
        self.count(name, 1)

    def conflicts(self):
        """1: 60 events that grow."""
        self.conflict("conflicts", self.target.conflicted)

    def deadly_conflict(self):
        """1: 2,600 events that grow."""
        if self.lethal:
            self.conflict("deadly_conflict", self.target.many)

    def upcasting(self):
        """2: live events that are dear to upcast."""
        if "upcasting" not in self.peers:
            peer = self.peer("upcasting")
            raw = event_pb2.Upcasting(on_failure=event_pb2.UPCAST_FAILURE_POLICY_RAW)
            subscribe = subscribe_pb2.SubscribeRequest(tenant=self.target.tenant, from_head=True, upcasting=raw)
            subscribe.filter.event_types.append("Heavy")
            for call_id in peer.ids(2):
                peer.send(request(call_id, credit_bytes=1 << 40, subscribe=subscribe))
        peer = self.peers["upcasting"]
        append = self.target.append_request(self.target.heavy, tiny("Heavy", 40))
        peer.send(request(peer.ids(1)[0], append=append))
        self.count("upcasting", 1)

    def unread(self):
        """3: answers that nobody reads, and a byte of credit for each snapshot."""
        for name in ("unread", "without_credit"):
            old = self.peers.pop(name, None)
            if old:
                old.close()
        load = snapshot_pb2.LoadSnapshotRequest(tenant=self.target.tenant, aggregate=self.target.stated)
        peer = self.peer("unread", reads=not self.hostile)
        peer.send(b"".join(request(call_id, load_snapshot=load) for call_id in peer.ids(200)))
        whole = query_pb2.LoadRequest(
            tenant=self.target.tenant, aggregate=self.target.stated, snapshot=snapshot_pb2.SnapshotUse())
        peer = self.peer("without_credit")
        credit = 1 if self.hostile else 8 << 20
        peer.send(b"".join(request(call_id, credit_bytes=credit, load=whole) for call_id in peer.ids(100)))
        self.count("unread", 300)

    def cancelled(self):
        """4: lists of large snapshots, cancelled at once."""
        peer = self.peer("cancelled")
        frames = []
        listed = self.target.listed if self.hostile else self.target.stated
        listing = snapshot_pb2.ListSnapshotsRequest(tenant=self.target.tenant, aggregate=listed)
        for call_id in peer.ids(2_000):
            frames += [request(call_id, list_snapshots=listing), cancel(call_id)]
        peer.send(b"".join(frames))
        self.count("cancelled", 2_000)

    def silent_sockets(self):
        """5: connections that say nothing."""
        # The server closes them after 10 s; until then they count.
        for one in self.silent[:-4_000]:
            one.close()
        self.silent = self.silent[-4_000:]
        for _ in range(300):
            one = socket.create_connection(("127.0.0.1", self.target.port), timeout=5, source_address=(SOURCE, 0))
            if self.hostile:
                self.silent.append(one)
            else:
                one.close()
        self.count("silent_sockets", 300)

    def subscriptions(self):
        """6: many subscriptions of one tenant that end at once; harmless are as many calls that end by themselves."""
        head = query_pb2.GetHeadRequest(tenant=self.target.tenant)
        subscribe = subscribe_pb2.SubscribeRequest(tenant=self.target.tenant, from_head=True)
        subscribe.filter.event_types.append("Never")
        body = {"subscribe": subscribe} if self.hostile else {"get_head": head}
        for number in range(3):
            old = self.peers.pop(f"subscriptions {number}", None)
            if old:
                old.close()
            peer = self.peer(f"subscriptions {number}")
            peer.send(b"".join(request(call_id, credit_bytes=1 << 16, **body) for call_id in peer.ids(1_000)))
        self.count("subscriptions", 3_000)

    def status(self):
        """6: calls that read files."""
        peer = self.peer("status")
        head = query_pb2.GetHeadRequest(tenant=self.target.tenant)
        body = {"get_status": admin_pb2.GetStatusRequest()} if self.hostile else {"get_head": head}
        peer.send(b"".join(request(call_id, **body) for call_id in peer.ids(100)))
        self.count("status", 100)

    def padded_appends(self):
        """7: small appends, each in a large read of its own."""
        peer = self.peer("padded_appends")
        # A ping with a field that nobody knows.
        filler = b"x" * (120_000 if self.hostile else 10)
        ping = b"\x08\x01\x7a" + varint(len(filler)) + filler
        body = b"\x3a" + varint(len(ping)) + ping
        padding = b"\0" + struct.pack(">I", len(body)) + body
        for call_id in peer.ids(20):
            peer.send(padding + request(call_id, append=self.target.append_request(aggregate("a"), tiny("Other", 1))))
        self.count("padded_appends", 20)

    def run(self, start, seconds):
        threads = [threading.Thread(target=self.repeat, args=(name, period, start, start + seconds), daemon=True)
                   for name, period in self.PLAN]
        for thread in threads:
            thread.start()
        time.sleep(max(0.0, start + seconds - time.monotonic()))
        for thread in threads:
            thread.join(2)

    def repeat(self, name, period, start, end):
        due = start + 0.2
        while due < end:
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                getattr(self, name)()
            except (OSError, EOFError) as error:
                self.errors[f"{name}: {type(error).__name__}"] = self.errors.get(f"{name}: {type(error).__name__}", 0) + 1
                for key in [key for key in self.peers if key.startswith(name)]:
                    self.peers.pop(key).close()
            due += period


def varint(value):
    parts = []
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(parts + [value])


def work(port, ca, tenant, hostile, lethal, seconds, ready, go, cpu, results):
    """The body of a process."""
    os.sched_setaffinity(0, {cpu})
    # The other tenant's process is not to wait for this one.
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    try:
        target = Target(port, ca, tenant, hostile)
        target.seed()
        attacks = Attacks(target, lethal)
        ready.set()
        go.wait()
        gc.disable()
        attacks.run(go.start.value, seconds)
        results.put(("attacker", attacks.calls, attacks.errors))
    except Exception as error:  # noqa: BLE001: the parent waits for an answer
        ready.set()
        results.put(("attacker", {}, {f"{type(error).__name__}: {error}": 1}))
