"""Workers on consumers, in threads and for asyncio: at least once, in order of each key, and never skipped."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import sys
import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import grpc
import pytest
from processes import PATIENCE, environment, seeded, start_python, wait_until, wait_until_gone
from proxy import Proxy
from servers import Server

import martlet
import martlet.aio
from martlet.retry import RetryPolicy
from martlet.v1 import consumer_pb2
from martlet.workers import HEAD, Definition, Delivery, Park, Retry, Worker
from martlet.workers._engine import FAREWELL_SECONDS, Engine, Requests, Stream
from martlet.workers._keys import KeyQueues

MAILER = Path(__file__).with_name("mail_worker.py")
QUICK = Definition(slots=4, tries_max=3, backoff_min=0.02, backoff_max=0.1)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def tenant(server: Server) -> Iterator[martlet.Tenant]:
    with martlet.connect(server.target, ca=server.ca, tenant=uuid.uuid4()) as client:
        yield client.tenant()


def append(tenant: martlet.Tenant, key: str, count: int = 1, event_type: str = "Counted") -> int:
    events = [martlet.NewEvent(event_type, {"number": number}) for number in range(count)]
    return tenant.aggregate("counter", key=key).append(events, expecting=martlet.ANY).last_position


class Running:
    """A worker in a thread."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.worker.run()
        except BaseException as error:
            self.error = error

    def wait(self) -> BaseException | None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the worker does not end"
        return self.error

    def stop(self) -> None:
        self.worker.stop()
        error = self.wait()
        if error is not None:
            raise error


def test_events_of_a_key_are_handled_in_order_and_keys_side_by_side(tenant: martlet.Tenant) -> None:
    consumer = tenant.consumer("mailer")
    assert consumer.put(QUICK) == 1
    assert consumer.put(QUICK) == 1
    handled: dict[str | None, list[int]] = defaultdict(list)
    # With a thread for each of these keys, none waits for another.
    all_of_them = threading.Barrier(8, timeout=PATIENCE)

    def handle(delivery: Delivery) -> None:
        if delivery.event.version == 1 and delivery.event.aggregate_key in [f"k{key}" for key in range(8)]:
            all_of_them.wait()
        handled[delivery.event.aggregate_key].append(delivery.event.version)

    last = 0
    for key in range(10):
        last = append(tenant, f"k{key}", 20)
    running = Running(consumer.worker(handle, threads=8))
    consumer.wait_for(last, timeout=PATIENCE)
    running.stop()
    assert dict(handled) == {f"k{key}": list(range(1, 21)) for key in range(10)}
    wait_until(lambda: not consumer.describe().workers, "the worker has left")
    state = consumer.describe()
    assert (state.settled_to, state.lag, state.blocked_keys) == (last, 0, 0)
    assert state.definition.tries_max == 3 and state.definition.backoff_min == 0.02


def test_a_key_that_is_stuck_holds_up_no_other(tenant: martlet.Tenant) -> None:
    consumer = tenant.consumer("mailer")
    consumer.put(Definition(slots=4, ack_timeout=PATIENCE))
    goes_on = threading.Event()
    handled: list[str | None] = []

    def handle(delivery: Delivery) -> None:
        if delivery.event.aggregate_key == "stuck":
            assert goes_on.wait(PATIENCE)
        handled.append(delivery.event.aggregate_key)

    append(tenant, "stuck", 3)
    keys = [f"k{number}" for number in range(50)]
    for key in keys:
        last = append(tenant, key)
    running = Running(consumer.worker(handle, threads=2))
    wait_until(lambda: len(handled) == 50, "the others are handled")
    assert sorted(map(str, handled)) == sorted(keys)
    goes_on.set()
    consumer.wait_for(last, timeout=PATIENCE)
    running.stop()
    assert handled[50:] == ["stuck"] * 3


def test_turns_of_keys() -> None:
    """Each key's come in order, and between two of one key each other that waits has one."""
    with seeded("turns") as numbers:
        ready: deque[int] = deque()
        queues: KeyQueues[int, int] = KeyQueues(ready.append)
        put: dict[int, int] = defaultdict(int)
        done: dict[int, int] = defaultdict(int)
        at_work: list[int] = []
        for _ in range(20_000):
            choice = numbers.random()
            if choice < 0.4:
                key = numbers.randrange(50)
                queues.put(key, put[key])
                put[key] += 1
            elif choice < 0.7 and ready:
                key = ready.popleft()
                assert key not in at_work
                assert queues.first(key) == done[key]
                at_work.append(key)
            elif at_work:
                key = at_work.pop(numbers.randrange(len(at_work)))
                done[key] += 1
                queues.done(key)
                assert key not in ready or ready[-1] == key
            waiting = {key for key in put if put[key] > done[key]}
            assert sorted(ready) == sorted(waiting - set(at_work))
            assert queues.is_idle == (not waiting)


def test_a_failed_event_is_tried_again_parked_retried_and_skipped(tenant: martlet.Tenant) -> None:
    consumer = tenant.consumer("mailer")
    consumer.put(QUICK)
    handled: list[tuple[str | None, int]] = []
    broken = {"a", "b"}

    def handle(delivery: Delivery) -> None:
        key, version = delivery.event.aggregate_key, delivery.event.version
        if key in broken and version == 2:
            raise RuntimeError(f"{key} is broken")
        if (key, version) in handled:
            # The server has said so, where it took the slot back meanwhile.
            assert delivery.may_be_repeated
        else:
            handled.append((key, version))

    append(tenant, "a", 3)
    append(tenant, "b", 3)
    last = append(tenant, "c", 3)
    running = Running(consumer.worker(handle, threads=2))
    consumer.wait_for(last, timeout=PATIENCE)
    wait_until(lambda: sum(one.parked for one in consumer.blocked()) == 2, "both are parked")
    blocked = {one.key.decode()[-4:]: one for one in consumer.blocked()}
    assert {one.tries for one in blocked.values()} == {3}
    assert {one.reason for one in blocked.values()} == {"RuntimeError: a is broken", "RuntimeError: b is broken"}
    assert sorted(handled) == [("a", 1), ("b", 1), ("c", 1), ("c", 2), ("c", 3)]
    a = next(one for one in blocked.values() if one.reason.startswith("RuntimeError: a"))
    b = next(one for one in blocked.values() if one.reason.startswith("RuntimeError: b"))
    broken.remove("a")
    assert consumer.retry([a]) == 1
    assert consumer.skip([b]) == 1
    wait_until(lambda: not consumer.blocked(), "no key is blocked")
    wait_until(lambda: {("a", 3), ("b", 3)} <= set(handled), "the rest of both is handled")
    running.stop()
    assert [one for one in handled if one[0] == "a"] == [("a", 1), ("a", 2), ("a", 3)]
    assert [one for one in handled if one[0] == "b"] == [("b", 1), ("b", 3)]


def test_a_handler_says_what_becomes_of_its_event(tenant: martlet.Tenant) -> None:
    consumer = tenant.consumer("mailer")
    consumer.put(Definition(slots=1, tries_max=3))
    tries: list[float] = []

    def handle(delivery: Delivery) -> None:
        if delivery.event.aggregate_key == "parked":
            raise Park("never")
        tries.append(time.monotonic())
        if len(tries) < 3:
            raise Retry("the mail server is away", after=0.1)

    append(tenant, "parked")
    append(tenant, "late")
    running = Running(consumer.worker(handle))
    wait_until(lambda: len(tries) == 3, "it is tried again")
    wait_until(lambda: [one.reason for one in consumer.blocked()] == ["never"], "the other one is parked")
    running.stop()
    assert all(later - earlier >= 0.1 for earlier, later in itertools.pairwise(tries))


def test_where_a_consumer_begins_and_what_it_is_about(tenant: martlet.Tenant) -> None:
    append(tenant, "a", 3)
    fresh, filtered = tenant.consumer("fresh"), tenant.consumer("filtered")
    fresh.put(start=HEAD)
    filtered.put(Definition(filter=martlet.Filter(event_types=["Mailed"]), key="tag:city"), start=2)
    last = append(tenant, "a", 1, "Mailed")
    positions: dict[str, list[int]] = {"fresh": [], "filtered": []}
    works = [
        Running(one.worker(lambda delivery, name=one.name: positions[name].append(delivery.event.position)))
        for one in (fresh, filtered)
    ]
    fresh.wait_for(last, timeout=PATIENCE)
    filtered.wait_for(last, timeout=PATIENCE)
    for one in works:
        one.stop()
    assert positions == {"fresh": [4], "filtered": [4]}
    definition = filtered.describe().definition
    assert definition.key == "tag:city" and definition.filter == martlet.Filter(event_types=("Mailed",))
    filtered.reset()
    assert filtered.describe().settled_to == 3
    filtered.reset(datetime.now(timezone.utc))
    filtered.delete()
    with pytest.raises(martlet.NotFound):
        filtered.describe()
    with pytest.raises(martlet.AlreadyExists):
        fresh.put(Definition(slots=2))
    with pytest.raises(martlet.DeadlineExceeded):
        fresh.wait_for(last + 1, timeout=0.2)


def test_a_worker_is_replaced_by_a_newer_one_of_its_name(tenant: martlet.Tenant) -> None:
    consumer = tenant.consumer("mailer")
    consumer.put(QUICK)
    first = Running(consumer.worker(lambda _: None, name="same"))
    wait_until(lambda: consumer.describe().workers == ("same",), "the first is there")
    second = Running(consumer.worker(lambda _: None, name="same"))
    error = first.wait()
    assert isinstance(error, martlet.MartletError) and error.reason == "WORKER_REPLACED"
    second.stop()


def test_workers_that_are_killed_leave_nothing_out(tmp_path: Path) -> None:
    server = Server()
    tenant_id = uuid.uuid4()
    path = tmp_path / "mails"
    try:
        with (
            seeded("workers") as chance,
            martlet.connect(server.target, ca=server.ca, tenant=tenant_id) as client,
        ):
            tenant = client.tenant()
            consumer = tenant.consumer("mailer")
            consumer.put(QUICK)

            def start(number: int) -> Any:
                return start_python(
                    MAILER, "mailer", f"w{number}", str(path), environment=environment(server, tenant_id),
                    log=tmp_path / f"w{number}.log",
                )  # fmt: skip

            workers = [start(0), start(1)]
            try:
                for number in range(4):
                    for _ in range(40):
                        append(tenant, f"k{chance.randrange(10)}", 5)
                    time.sleep(chance.uniform(0.0, 0.5))
                    if number == 2:
                        server.kill()
                        server.start()
                    else:
                        victim = chance.randrange(2)
                        workers[victim].kill()
                        workers[victim].wait()
                        if number == 3:
                            # So that it is the new one that is seen below, not the one that was killed.
                            wait_until_gone(consumer, f"w{victim}")
                        workers[victim] = start(victim)
                consumer.wait_for(tenant.head().position, timeout=PATIENCE)
                wait_until(lambda: set(consumer.describe().workers) == {"w0", "w1"}, "both are there")
                for worker in workers:
                    worker.send_signal(signal.SIGTERM)
                assert [worker.wait(PATIENCE) for worker in workers] == [0, 0]
            finally:
                for worker in workers:
                    worker.kill()
                    worker.wait()
            lines = path.read_text().splitlines()
            assert lines.count("ended") == 2
            # None was left out, and those of one key came in order, apart from repeats.
            first: dict[str, list[int]] = defaultdict(list)
            for key, position in (line.split() for line in lines if line != "ended"):
                if int(position) not in first[key]:
                    first[key].append(int(position))
            assert sorted(itertools.chain.from_iterable(first.values())) == list(range(1, 801))
            assert all(positions == sorted(positions) for positions in first.values())
    finally:
        server.close()


def test_a_black_hole_is_noticed(server: Server) -> None:
    proxy = Proxy(server.port)
    handled: list[int] = []
    heartbeat = 1.0
    with (
        contextlib.closing(proxy),
        martlet.connect(proxy.target, ca=server.ca, tenant=uuid.uuid4(), heartbeat=heartbeat) as client,
        martlet.connect(server.target, ca=server.ca) as other,
    ):
        tenant = other.tenant(client.tenant().id)
        consumer = tenant.consumer("mailer")
        consumer.put(QUICK)
        worker = client.tenant().consumer("mailer").worker(lambda one: handled.append(one.event.position))
        running = Running(worker)
        consumer.wait_for(append(tenant, "a", 5), timeout=PATIENCE)
        proxy.drop()
        started = time.monotonic()
        consumer.wait_for(append(tenant, "a", 5), timeout=PATIENCE)
        seconds = time.monotonic() - started
        print(f"black hole: a worker went on after {seconds:.1f} s, heartbeat {heartbeat:g} s")
        running.stop()
        assert sorted(set(handled)) == list(range(1, 11))
        assert seconds < 10


# The engine, without a server.


class Connection:
    """A server whose streams a test feeds."""

    lease_seconds = 0.3

    def __init__(self, feed: Callable[[Requests, Any], Iterator[consumer_pb2.ConsumeResponse]]) -> None:
        self.said: list[consumer_pb2.ConsumeRequest] = []
        self.said_at: list[float] = []
        self._feed = feed
        self.is_cancelled = threading.Event()
        self.has_left = threading.Event()

    def consume(self, requests: Requests) -> Any:
        def read() -> None:
            for request in requests:
                self.said_at.append(time.monotonic())
                self.said.append(request)
            self.has_left.set()

        reader = threading.Thread(target=read)
        reader.start()
        feed = self._feed(requests, self)

        class Call:
            def __iter__(self) -> Iterator[consumer_pb2.ConsumeResponse]:
                return feed

            def cancel(self) -> None:
                connection.is_cancelled.set()

        connection = self
        return Call()

    def failure(self, error: Exception) -> martlet.MartletError:
        return martlet.Unavailable("lost", reason="CONNECTION_LOST", retryable=True)


class Idle:
    keeps_time = False
    batch_max: int | None = None

    def epoch_above(self, engine: Engine) -> int:
        return 7

    def key_of(self, delivery: Delivery) -> int:
        return 0

    def check(self, stream: Stream) -> None: ...
    def begin(self, slot: consumer_pb2.AssignedSlot, stream: Stream) -> None: ...
    def handle(self, deliveries: list[Delivery], stream: Stream) -> None: ...
    def tick(self, stream: Stream) -> None: ...
    def close(self) -> None: ...


def test_an_idle_worker_says_that_it_is_there_and_comes_again() -> None:
    streams: list[Connection] = []

    def feed(_: Requests, connection: Connection) -> Iterator[consumer_pb2.ConsumeResponse]:
        yield consumer_pb2.ConsumeResponse(assigned=consumer_pb2.SlotsAssigned())
        if len(streams) == 1:
            wait_until(lambda: len(connection.said) > 8, "it has said eight times that it is there")
            raise grpc.RpcError
        engine.stop()
        assert connection.has_left.wait(PATIENCE)

    def connect() -> Connection:
        streams.append(Connection(feed))
        return streams[-1]

    engine = Engine(
        Idle(),
        name="test",
        start=lambda epoch, keeps_time: consumer_pb2.ConsumeStart(epoch_above=epoch, keeps_time=keeps_time),
        connect=connect,
        threads=1,
        policy=RetryPolicy(first_wait=0.01, longest_wait=0.02),
    )
    engine.run()
    first, second = streams
    assert first.said[0].start.epoch_above == 7
    alive = [at for at, one in zip(first.said_at, first.said, strict=True) if one.HasField("replies")]
    assert all(reply.HasField("alive") for one in first.said for reply in one.replies.replies)
    # Once in a third of the lease, looked after four times as often. A busy machine makes some of them late, not all.
    waits = [later - earlier for earlier, later in itertools.pairwise(alive)]
    every = first.lease_seconds / 3
    assert sum(waits) >= (len(waits) - 0.5) * every and min(waits) < 1.5 * every
    assert second.said[0].HasField("start")


# asyncio.


def test_asyncio(server: Server) -> None:
    async def main() -> None:
        async with martlet.aio.connect(server.target, ca=server.ca, tenant=uuid.uuid4()) as client:
            tenant = client.tenant()
            consumer = tenant.consumer("mailer")
            await consumer.put(QUICK)
            handled: dict[str | None, list[int]] = defaultdict(list)

            async def handle(delivery: Delivery) -> None:
                await asyncio.sleep(0.001)
                if delivery.event.aggregate_key == "broken" and delivery.attempt < 3:
                    # What the handler has cancelled itself is a failure as any other.
                    raise RuntimeError("not yet") if sys.version_info < (3, 11) else asyncio.CancelledError("not yet")
                handled[delivery.event.aggregate_key].append(delivery.event.version)

            keys = ["broken", *(f"k{number}" for number in range(9))]
            for key in keys:
                events = [martlet.NewEvent("Counted") for _ in range(10)]
                receipt = await tenant.aggregate("counter", key=key).append(events, expecting=martlet.NONE)
            before = asyncio.all_tasks()
            worker = consumer.worker(handle, concurrency=8)
            running = asyncio.create_task(worker.run())
            await consumer.wait_for(receipt.last_position, timeout=PATIENCE)
            while await consumer.blocked():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            worker.stop()
            await asyncio.wait_for(running, PATIENCE)
            assert dict(handled) == {key: list(range(1, 11)) for key in keys}
            # Cancelled, it does not wait for the server's farewell, and no task of it is left.
            again = asyncio.create_task(consumer.worker(handle, name="again").run())
            while "again" not in (await consumer.describe()).workers:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            started = time.monotonic()
            again.cancel()
            with pytest.raises(asyncio.CancelledError):
                await again
            assert time.monotonic() - started < FAREWELL_SECONDS
            while not asyncio.all_tasks() <= before | {asyncio.current_task()}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            with pytest.raises(martlet.NotFound):
                await tenant.consumer("nothing").run(handle)

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_asyncio_handles_keys_side_by_side(server: Server) -> None:
    async def main() -> None:
        async with martlet.aio.connect(server.target, ca=server.ca, tenant=uuid.uuid4()) as client:
            tenant = client.tenant()
            consumer = tenant.consumer("mailer")
            await consumer.put(Definition(slots=4, ack_timeout=PATIENCE))
            goes_on = asyncio.Event()
            handled: list[str | None] = []
            arrived: set[str | None] = set()
            all_of_them, others = asyncio.Event(), asyncio.Event()

            async def handle(delivery: Delivery) -> None:
                key = delivery.event.aggregate_key
                if key == "stuck":
                    await goes_on.wait()
                elif not all_of_them.is_set():
                    # All seven that are free are at work at once.
                    arrived.add(key)
                    if len(arrived) == 7:
                        all_of_them.set()
                    await asyncio.wait_for(all_of_them.wait(), PATIENCE)
                handled.append(key)
                if len(handled) == 150:
                    others.set()

            for key in ["stuck", *(f"k{number}" for number in range(50))]:
                events = [martlet.NewEvent("Counted") for _ in range(3)]
                receipt = await tenant.aggregate("counter", key=key).append(events, expecting=martlet.NONE)
            worker = consumer.worker(handle, concurrency=8)
            running = asyncio.create_task(worker.run())
            await others.wait()
            assert "stuck" not in handled
            goes_on.set()
            await consumer.wait_for(receipt.last_position, timeout=PATIENCE)
            worker.stop()
            await asyncio.wait_for(running, PATIENCE)
            assert handled[150:] == ["stuck"] * 3

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_asyncio_goes_on_after_the_server_was_killed() -> None:
    server = Server()

    async def main() -> None:
        async with martlet.aio.connect(server.target, ca=server.ca, tenant=uuid.uuid4()) as client:
            tenant = client.tenant()
            consumer = tenant.consumer("mailer")
            await consumer.put(QUICK)
            handled: set[int] = set()

            async def handle(delivery: Delivery) -> None:
                handled.add(delivery.event.position)

            running = asyncio.create_task(consumer.worker(handle, name="w").run())
            counter = tenant.aggregate("counter", key="a")
            await counter.append([martlet.NewEvent("Counted") for _ in range(50)], expecting=martlet.ANY)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            receipt = await counter.append([martlet.NewEvent("Counted") for _ in range(50)], expecting=martlet.ANY)
            await consumer.wait_for(receipt.last_position, timeout=PATIENCE)
            assert handled == set(range(1, 101))
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    try:
        asyncio.run(main())
    finally:
        server.close()
