"""Iterators of the blocking client through kills, drains, black holes and slow readers, on each engine."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Iterator

import pytest
from processes import PATIENCE, pace
from proxy import Proxy
from servers import Server, resident_bytes
from test_client import fill

import martlet
from martlet import ANY, NONE, NewEvent
from martlet.streams import Reading, Subscribing
from martlet.v1 import query_pb2, subscribe_pb2

# Silence is noticed within two of these, in seconds.
HEARTBEAT = 1.0


@pytest.fixture
def own_client(own_server: Server) -> Iterator[martlet.Client]:
    with martlet.connect(own_server.target, ca=own_server.ca, heartbeat=HEARTBEAT) as client:
        yield client


class Writer(threading.Thread):
    """Appends an event every few milliseconds until it is stopped, whatever becomes of the server."""

    def __init__(self, tenant: martlet.Tenant) -> None:
        super().__init__()
        self.tenant, self.stopping, self.appended = tenant, threading.Event(), []
        self.start()

    appended: list[uuid.UUID]

    def run(self) -> None:
        aggregate = self.tenant.aggregate("writer", key="w")
        while not self.stopping.wait(0.005):
            event = NewEvent("Written")
            aggregate.append(event, expecting=ANY)
            self.appended.append(event.id)

    def stop(self) -> list[uuid.UUID]:
        self.stopping.set()
        self.join()
        return self.appended


def take_through(tenant: martlet.Tenant, server: Server, blows: list[str]) -> None:
    """Follows a tenant while it is written to and the server is killed and drained: no gap, no repeat."""
    writer = Writer(tenant)
    taken = []
    done = threading.Event()

    def strike() -> None:
        for blow in blows:
            time.sleep(0.3)
            getattr(server, blow)()
            server.wait()
            server.start()
        time.sleep(0.3)
        done.set()

    striker = threading.Thread(target=strike)
    striker.start()
    with tenant.events() as events:
        for event in events:
            taken.append(event)
            if done.is_set() and not writer.stopping.is_set():
                writer.stop()
            if writer.stopping.is_set() and len(taken) == len(writer.appended):
                break
    striker.join()
    assert [each.position for each in taken] == list(range(1, len(taken) + 1))
    assert [each.id for each in taken] == writer.appended


def test_kills_and_drains_are_not_seen(own_client: martlet.Client, own_server: Server) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    blows = ["kill", "drain", "kill", "drain"]
    random.Random(seed).shuffle(blows)
    take_through(own_client.tenant(uuid.uuid4()), own_server, blows)


def test_a_read_goes_on_after_a_kill(own_client: martlet.Client, own_server: Server) -> None:
    tenant = own_client.tenant(uuid.uuid4())
    fill(tenant, 100, payload_bytes=60_000, per_append=50)
    for backward in (False, True):
        taken = []
        for event in tenant.read(backward=backward, max_events=99):
            taken.append(event.position)
            if len(taken) == 5:
                own_server.kill()
                own_server.start()
                tenant.aggregate("other", uuid.uuid4()).append(NewEvent("Later"), expecting=NONE)
        first = tenant.head().position - 1 if backward else 1
        assert taken == list(range(first, first - 99, -1) if backward else range(1, 100))


@pytest.mark.usefixtures("one_engine")
def test_a_black_hole_is_noticed_and_passed(server: Server) -> None:
    proxy = Proxy(server.port)
    with (
        martlet.connect(proxy.target, ca=server.ca, heartbeat=HEARTBEAT) as client,
        martlet.connect(server.target, ca=server.ca) as direct,
    ):
        tenant, writing = client.tenant(uuid.uuid4()), None
        writing = direct.tenant(tenant.id).aggregate("a", key="1")
        events = tenant.events()
        writing.append([NewEvent("A"), NewEvent("B")], expecting=NONE)
        taken = [next(events), next(events)]
        for answers in (True, False):
            connections = len(proxy.accepted_at)
            since = proxy.drop(requests=not answers, answers=True)
            writing.append([NewEvent("C"), NewEvent("D")], expecting=ANY)
            taken += [next(events), next(events)]
            noticed = proxy.accepted_at[connections] - since
            print(f"an iterator noticed the black hole after {noticed:.2f} s, two heartbeats are {2 * HEARTBEAT:.0f} s")
            assert noticed < 2 * HEARTBEAT + 1 + 10 * pace(server)
        assert [each.position for each in taken] == list(range(1, 7))
        events.close()
    proxy.close()


@pytest.mark.usefixtures("one_engine")
def test_a_black_hole_is_noticed_by_calls_under_way(server: Server) -> None:
    proxy = Proxy(server.port)
    with martlet.connect(proxy.target, ca=server.ca, heartbeat=HEARTBEAT) as client:
        tenant = client.tenant(uuid.uuid4())
        aggregate = tenant.aggregate("a", key="1")
        aggregate.append(NewEvent("A"), expecting=NONE)
        for version, requests in ((1, True), (2, False)):
            since = proxy.drop(requests=requests, answers=True)
            receipt = aggregate.append(NewEvent("B"), expecting=version)
            took = time.monotonic() - since
            print(f"an append got through a black hole after {took:.2f} s, replayed: {receipt.replayed}")
            # Without answers, the first attempt was stored; without requests, it never came.
            assert receipt.replayed is not requests
            assert took < 2 * HEARTBEAT + 1 + 10 * pace(server)
        assert [each.version for each in aggregate.load().events] == [1, 2, 3]
    proxy.close()


@pytest.mark.usefixtures("one_engine")
def test_a_stopped_server_is_noticed(own_server: Server) -> None:
    """The kernel still acknowledges what comes, but nobody answers."""
    with martlet.connect(own_server.target, ca=own_server.ca, heartbeat=HEARTBEAT, timeout=2.5) as client:
        tenant = client.tenant(uuid.uuid4())
        tenant.head()
        own_server.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, own_server.process.pid, os.WSTOPPED)
        since = time.monotonic()
        with pytest.raises((martlet.Unavailable, martlet.DeadlineExceeded)):
            tenant.head()
        assert time.monotonic() - since < 6
        own_server.process.send_signal(signal.SIGCONT)
        assert tenant.head().position == 0


@pytest.mark.usefixtures("one_engine")
def test_a_slow_reader_holds_little(server: Server, tenant: martlet.Tenant) -> None:
    fill(tenant, 512, payload_bytes=65_536, per_append=32)
    events = tenant.events()
    next(events)
    ours, theirs = resident_bytes(), server.resident_bytes()
    for _ in itertools.islice(events, 20):
        time.sleep(0.05)
    growth = resident_bytes() - ours, server.resident_bytes() - theirs
    print(f"a slow reader of 32 MiB: {growth[0] >> 10} KiB more here, {growth[1] >> 10} KiB more in the server")
    assert growth[0] < 12 << 20 and growth[1] < 24 << 20
    assert sum(1 for _ in itertools.islice(events, 512 - 21)) == 491
    events.close()


@pytest.mark.usefixtures("one_engine")
def test_an_iterator_is_closed_from_another_thread(tenant: martlet.Tenant) -> None:
    events = tenant.events()
    threading.Timer(0.2, events.close).start()
    assert list(events) == []
    assert list(events) == []


@pytest.mark.usefixtures("one_engine")
def test_closing_the_client_ends_iterators(server: Server) -> None:
    client = martlet.connect(server.target, ca=server.ca)
    iterators = [client.tenant(uuid.uuid4()).events(), client.tenant(uuid.uuid4()).signals()]
    taken: list[list[object]] = []
    threads = [threading.Thread(target=lambda each=each: taken.append(list(each))) for each in iterators]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    client.close()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert (len(taken) == 2 and taken[0] == []) or taken[1] == []


@pytest.mark.usefixtures("one_engine")
def test_an_iterator_is_closed_while_there_is_no_server(own_client: martlet.Client, own_server: Server) -> None:
    tenant = own_client.tenant(uuid.uuid4())
    tenant.aggregate("a", key="1").append(NewEvent("A"), expecting=NONE)
    events = tenant.events()
    next(events)
    own_server.kill()
    threading.Timer(0.5, events.close).start()
    since = time.monotonic()
    assert list(events) == []
    assert time.monotonic() - since < 4
    own_server.start()


def test_another_past_is_reported(tenant: martlet.Tenant) -> None:
    tenant.aggregate("a", key="1").append([NewEvent("A"), NewEvent("B")], expecting=NONE)
    with pytest.raises(martlet.HistoryChanged) as caught:
        next(tenant.events(after=martlet.Place(2, uuid.uuid4())))
    assert caught.value.comparable_position < 2
    with pytest.raises(martlet.OutOfRange):
        next(tenant.events(after=3))
    (first, second) = tenant.read()
    assert next(tenant.events(after=first)) == second


def test_a_restored_backup_is_reported_to_who_follows(own_client: martlet.Client, own_server: Server) -> None:
    if own_server.engine != "sqlite":
        pytest.skip("the storage of this test is a file")
    tenant = own_client.tenant(uuid.uuid4())
    aggregate, folder = tenant.aggregate("a", key="1"), pathlib.Path(own_server.folder.name)
    aggregate.append(NewEvent("A"), expecting=NONE)
    own_server.drain()
    own_server.wait()
    shutil.copytree(folder, folder / "backup")
    own_server.start()
    aggregate.append([NewEvent("B"), NewEvent("C")], expecting=1)
    events = tenant.events()
    assert [next(events).position for _ in range(3)] == [1, 2, 3]
    own_server.kill()
    for file in folder.glob("m.db*"):
        file.unlink()
    shutil.copytree(folder / "backup", folder, dirs_exist_ok=True)
    own_server.start()
    aggregate.append([NewEvent("D") for _ in range(3)], expecting=1)
    with pytest.raises(martlet.HistoryChanged) as caught:
        next(events)
    assert caught.value.comparable_position <= 1
    assert list(events) == []


def test_a_subscription_starts_where_it_is_told(tenant: martlet.Tenant) -> None:
    aggregate = tenant.aggregate("a", key="1")
    receipt = aggregate.append([NewEvent("A"), NewEvent("B")], expecting=NONE)
    assert next(tenant.events(from_time=receipt.recorded_at)).position == 1
    assert next(tenant.events(after=1)).position == 2
    signals = tenant.signals(from_head=True)
    assert isinstance(next(signals), martlet.CaughtUp)
    aggregate.append(NewEvent("C"), expecting=2)
    signal = next(signals)
    assert isinstance(signal, martlet.Events) and signal.position == 3
    with pytest.raises(ValueError):
        tenant.events(after=1, from_head=True)


@pytest.mark.usefixtures("one_engine")
def test_an_idle_subscription_says_so_every_heartbeat(own_client: martlet.Client) -> None:
    signals = own_client.tenant(uuid.uuid4()).signals()
    since = time.monotonic()
    kinds = [type(next(signals)) for _ in range(3)]
    assert kinds == [martlet.CaughtUp, martlet.Checkpoint, martlet.Checkpoint]
    assert 1.8 * HEARTBEAT < time.monotonic() - since < 6 * HEARTBEAT


# The machines, without a server.


def recorded(position: int) -> dict[str, object]:
    event = {"id": uuid.UUID(int=position).bytes, "type": "E"}
    return {"position": position, "version": position, "aggregate_id": uuid.UUID(int=1).bytes, "event": event}


def response(*positions: int, **signal: object) -> subscribe_pb2.SubscribeResponse:
    return subscribe_pb2.SubscribeResponse(
        events=[recorded(each) for each in positions],  # type: ignore[misc]
        head={"position": 100},
        **signal,  # type: ignore[arg-type]
    )


def test_a_subscription_resumes_by_position_and_id() -> None:
    machine = Subscribing(uuid.UUID(int=7), from_head=True, heartbeat=10, which=martlet.Filter(event_types=["E"]))
    assert machine.request().from_head
    machine.receive(response(started={"after_position": 4}))
    request = machine.request()
    assert request.after_position == 4 and not request.HasField("last_seen")
    machine.receive(response(6, 8))
    machine.receive(response(checkpoint={"position": 20}))
    request = machine.request()
    assert (request.after_position, request.last_seen.position) == (20, 8)
    assert request.last_seen.event_id == uuid.UUID(int=8).bytes
    assert json.dumps(list(request.filter.event_types)) == '["E"]'


def test_a_gap_or_a_repeat_is_never_passed_on() -> None:
    for positions in ((1, 3), (2,), (1, 1)):
        machine = Subscribing(uuid.UUID(int=7), heartbeat=10)
        with pytest.raises(martlet.Internal):
            machine.receive(response(*positions))


def test_a_read_that_goes_on_compares_its_last_event() -> None:
    machine = Reading(query_pb2.ReadRequest(events_max=5))
    view = {"to_position": 9}
    machine.request()
    assert [e.position for e in machine.receive(page(1, 2, view=view))] == [1, 2]
    request = machine.request()
    assert (request.after_position, request.to_position, request.events_max) == (1, 9, 4)
    assert [e.position for e in machine.receive(page(2, 3, view=view))] == [3]
    machine.request()
    changed = page(3, 4, view=view)
    changed.events[0].event.id = uuid.UUID(int=77).bytes
    with pytest.raises(martlet.HistoryChanged):
        machine.receive(changed)


def page(*positions: int, **fields: object) -> query_pb2.ReadResponse:
    events = [recorded(each) for each in positions]
    return query_pb2.ReadResponse(events=events, **fields)  # type: ignore[arg-type]
