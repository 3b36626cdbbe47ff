"""Which events a worker handles together and in which order, in threads and for asyncio, without a server."""

from __future__ import annotations

import asyncio
import random
import threading
import time
import uuid
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from processes import PATIENCE, seeded

import martlet
from martlet.retry import RetryPolicy
from martlet.v1 import consumer_pb2
from martlet.workers import AsyncConsumer, AsyncWorker, Consumer, Delivery, Worker, _async, _consumer

CLIENT: Any = SimpleNamespace(settings=SimpleNamespace(retry=RetryPolicy()), _closed=False)
TENANT = uuid.UUID(int=7)


def assigned(slot: int = 0, epoch: int = 1) -> consumer_pb2.ConsumeResponse:
    slots = [consumer_pb2.AssignedSlot(slot=slot, epoch=epoch)]
    return consumer_pb2.ConsumeResponse(assigned=consumer_pb2.SlotsAssigned(slots=slots))


def revoked(slot: int = 0) -> consumer_pb2.ConsumeResponse:
    return consumer_pb2.ConsumeResponse(revoked=consumer_pb2.SlotsRevoked(slots=[slot]))


def delivered(*keys: str, first: int = 1) -> consumer_pb2.ConsumeResponse:
    """An event of each of these keys, one position after the other."""
    message = consumer_pb2.EventsDelivered()
    for position, key in enumerate(keys, first):
        recorded = message.events.add(position=position, version=1, aggregate_id=TENANT.bytes)
        recorded.event.id, recorded.event.type = uuid.UUID(int=position).bytes, "Counted"
        message.deliveries.add(delivery=position, attempt=1, key=key.encode())
    return consumer_pb2.ConsumeResponse(events=message)


class Threads:
    """A worker in threads, and a server that says some messages and then waits for the worker to leave."""

    lease_seconds = 1_000.0

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_consumer, "connect", lambda _: self)
        self.all_said, self.is_cancelled, self._has_left = (threading.Event() for _ in range(3))
        self.replies: list[consumer_pb2.WorkerReply] = []

    def run(
        self,
        messages: list[consumer_pb2.ConsumeResponse],
        handle: Callable[[Delivery], object],
        *,
        threads: int,
        settled: int | None = None,
    ) -> None:
        """Works until so many events are settled, or the test stops `worker`. `all_said` is set when the worker has
        queued all that came."""
        self._messages, self._settled = messages, settled
        self.worker = Consumer(CLIENT, TENANT, "c").worker(handle, threads=threads)
        self.worker.run(stop_on=())

    def consume(self, requests: Iterator[consumer_pb2.ConsumeRequest]) -> Any:
        threading.Thread(target=self._hear, args=(requests,), daemon=True).start()
        return self

    def _hear(self, requests: Iterator[consumer_pb2.ConsumeRequest]) -> None:
        for request in requests:
            self.replies.extend(request.replies.replies)
            if self._settled is not None and len(self.replies) >= self._settled:
                self.worker.stop()
        self._has_left.set()

    def __iter__(self) -> Iterator[consumer_pb2.ConsumeResponse]:
        yield from self._messages
        self.all_said.set()
        assert self._has_left.wait(PATIENCE)

    def cancel(self) -> None:
        self.is_cancelled.set()

    def failure(self, error: Exception) -> martlet.MartletError:
        raise error


class Tasks:
    """As `Threads`, for asyncio."""

    lease_seconds = 1_000.0

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def connect(_: Any) -> Tasks:
            return self

        monkeypatch.setattr(_async, "connect_async", connect)
        self.replies: list[consumer_pb2.WorkerReply] = []

    def run(
        self,
        messages: list[consumer_pb2.ConsumeResponse],
        handle: Callable[[Delivery], Awaitable[object]],
        *,
        concurrency: int,
        settled: int | None = None,
    ) -> None:
        async def main() -> None:
            self.all_said, self._has_left = asyncio.Event(), asyncio.Event()
            self.worker = AsyncConsumer(CLIENT, TENANT, "c").worker(handle, concurrency=concurrency)
            await asyncio.wait_for(self.worker.run(), PATIENCE)

        self._messages, self._settled = messages, settled
        asyncio.run(main())

    def consume(self, requests: AsyncIterator[consumer_pb2.ConsumeRequest]) -> Any:
        self._hearing = asyncio.ensure_future(self._hear(requests))
        return self

    async def _hear(self, requests: AsyncIterator[consumer_pb2.ConsumeRequest]) -> None:
        async for request in requests:
            self.replies.extend(request.replies.replies)
            if self._settled is not None and len(self.replies) >= self._settled:
                self.worker.stop()
        self._has_left.set()

    async def __aiter__(self) -> AsyncIterator[consumer_pb2.ConsumeResponse]:
        for message in self._messages:
            yield message
        self.all_said.set()
        await self._has_left.wait()

    def cancel(self) -> None:
        self._hearing.cancel()

    def failure(self, error: Exception) -> martlet.MartletError:
        raise error


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    return Threads(monkeypatch)


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Tasks:
    return Tasks(monkeypatch)


def key_of(delivery: Delivery) -> str:
    return delivery.key.decode()


# As many keys as handlers: all are at work at once, whatever a hash says of them.

COLLIDING = [key for key in map(str, range(200)) if zlib.crc32(key.encode()) % 8 == 3][:8]


def test_as_many_keys_as_threads_are_handled_at_once(threads: Threads) -> None:
    at_once = threading.Barrier(8, timeout=PATIENCE)
    threads.run([assigned(), delivered(*COLLIDING)], lambda _: at_once.wait(), threads=8, settled=8)
    assert len(threads.replies) == 8 and all(one.HasField("acknowledge") for one in threads.replies)


def test_as_many_keys_as_tasks_are_handled_at_once(tasks: Tasks) -> None:
    arrived: set[str] = set()
    at_once = asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        arrived.add(key_of(delivery))
        if len(arrived) == 8:
            at_once.set()
        await at_once.wait()

    tasks.run([assigned(), delivered(*COLLIDING)], handle, concurrency=8, settled=8)
    assert arrived == set(COLLIDING)


# A key that is stuck has one handler, and no more.

STUCK = ["stuck", "stuck", *map(str, range(50)), "stuck"]


def test_a_stuck_key_holds_up_no_other_thread(threads: Threads) -> None:
    handled: list[str] = []
    others = threading.Event()

    def handle(delivery: Delivery) -> None:
        if key_of(delivery) == "stuck":
            assert others.wait(PATIENCE)
        handled.append(key_of(delivery))
        if len(handled) == 50:
            others.set()

    threads.run([assigned(), delivered(*STUCK)], handle, threads=2, settled=53)
    assert handled == [*map(str, range(50)), "stuck", "stuck", "stuck"]


def test_a_stuck_key_holds_up_no_other_task(tasks: Tasks) -> None:
    handled: list[str] = []
    others = asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        if key_of(delivery) == "stuck":
            await others.wait()
        handled.append(key_of(delivery))
        if len(handled) == 50:
            others.set()

    tasks.run([assigned(), delivered(*STUCK)], handle, concurrency=2, settled=53)
    assert handled == [*map(str, range(50)), "stuck", "stuck", "stuck"]


# Of each key one after the other, in order.


class Order:
    """What is at work, and what was handled."""

    def __init__(self) -> None:
        self.at_work: set[str] = set()
        self.handled: dict[str, list[int]] = defaultdict(list)

    def begin(self, delivery: Delivery) -> None:
        assert key_of(delivery) not in self.at_work, "two of one key at once"
        self.at_work.add(key_of(delivery))

    def end(self, delivery: Delivery) -> None:
        self.at_work.remove(key_of(delivery))
        self.handled[key_of(delivery)].append(delivery.event.position)


def random_messages(chance: random.Random) -> tuple[list[consumer_pb2.ConsumeResponse], dict[str, list[int]]]:
    """2,000 events of 200 keys, and the positions of each key."""
    messages, expected, position = [assigned()], defaultdict(list), 1
    while position <= 2_000:
        keys = [f"k{chance.randrange(200)}" for _ in range(min(chance.randrange(1, 200), 2_001 - position))]
        messages.append(delivered(*keys, first=position))
        for key in keys:
            expected[key].append(position)
            position += 1
    return messages, expected


def test_threads_keep_the_order_of_each_key(threads: Threads) -> None:
    with seeded("order in threads") as chance:
        messages, expected = random_messages(chance)
        durations = [chance.choice((0.0, 0.0, 0.0005, 0.002)) for _ in range(2_001)]
        order = Order()

        def handle(delivery: Delivery) -> None:
            order.begin(delivery)
            time.sleep(durations[delivery.event.position])
            order.end(delivery)

        threads.run(messages, handle, threads=8, settled=2_000)
        assert order.handled == expected
        assert all(one.HasField("acknowledge") for one in threads.replies)


def test_tasks_keep_the_order_of_each_key(tasks: Tasks) -> None:
    with seeded("order in tasks") as chance:
        messages, expected = random_messages(chance)
        durations = [chance.choice((0.0, 0.0, 0.0005, 0.002)) for _ in range(2_001)]
        order = Order()

        async def handle(delivery: Delivery) -> None:
            order.begin(delivery)
            await asyncio.sleep(durations[delivery.event.position])
            order.end(delivery)

        tasks.run(messages, handle, concurrency=8, settled=2_000)
        assert order.handled == expected
        assert all(one.HasField("acknowledge") for one in tasks.replies)


# A key with a long queue takes turns.

LONG = [assigned(), delivered(*["long"] * 2_000, "short")]


def test_a_long_queue_of_a_key_delays_no_other_in_threads(threads: Threads) -> None:
    handled: list[str] = []

    def handle(delivery: Delivery) -> None:
        assert threads.all_said.wait(PATIENCE)
        handled.append(key_of(delivery))

    threads.run(LONG, handle, threads=1, settled=2_001)
    assert handled == ["long", "short", *["long"] * 1_999]


def test_a_long_queue_of_a_key_delays_no_other_for_asyncio(tasks: Tasks) -> None:
    handled: list[str] = []

    async def handle(delivery: Delivery) -> None:
        await tasks.all_said.wait()
        handled.append(key_of(delivery))

    tasks.run(LONG, handle, concurrency=1, settled=2_001)
    assert handled == ["long", "short", *["long"] * 1_999]


# What waits in a key's queue is looked at again when its turn comes.


def test_after_a_failure_later_events_of_the_key_are_passed_over(threads: Threads, tasks: Tasks) -> None:
    messages = [assigned(), delivered("a", "b", "a", "b", "a")]
    for_both: list[list[int]] = []

    def handle(delivery: Delivery) -> None:
        for_both[-1].append(delivery.event.position)
        if key_of(delivery) == "a":
            raise ValueError("no")

    async def handle_async(delivery: Delivery) -> None:
        handle(delivery)

    for_both.append([])
    threads.run(messages, handle, threads=4, settled=3)
    for_both.append([])
    tasks.run(messages, handle_async, concurrency=4, settled=3)
    assert [sorted(one) for one in for_both] == [[1, 2, 4]] * 2
    for replies in (threads.replies, tasks.replies):
        assert [one.reject.delivery for one in replies if one.HasField("reject")] == [1]


def test_what_waits_is_passed_over_when_the_slot_is_taken_away(threads: Threads, tasks: Tasks) -> None:
    messages = [assigned(), delivered("a", "a", "b"), revoked(), assigned(epoch=2), delivered("a", "b", first=2)]
    handled: set[tuple[int, int]] = set()

    def note(delivery: Delivery, worker: Worker | AsyncWorker) -> None:
        handled.add((delivery.event.position, delivery.epoch))
        if handled >= {(2, 2), (3, 2)}:
            worker.stop()

    def handle(delivery: Delivery) -> None:
        assert threads.all_said.wait(PATIENCE)
        note(delivery, threads.worker)

    async def handle_async(delivery: Delivery) -> None:
        await tasks.all_said.wait()
        note(delivery, tasks.worker)

    # The first may be at work already when the slot goes.
    threads.run(messages, handle, threads=1)
    assert handled - {(1, 1)} == {(2, 2), (3, 2)}
    handled.clear()
    tasks.run(messages, handle_async, concurrency=1)
    assert handled - {(1, 1)} == {(2, 2), (3, 2)}


def test_a_worker_that_stops_finishes_what_is_at_work_and_nothing_more(threads: Threads, tasks: Tasks) -> None:
    messages = [assigned(), delivered("a", "a", "b", "c", "c", "d")]
    ended: list[str] = []
    at_work = threading.Barrier(2, action=lambda: threads.worker.stop(), timeout=PATIENCE)
    arrived: list[str] = []

    def handle(delivery: Delivery) -> None:
        assert threads.all_said.wait(PATIENCE)
        at_work.wait()
        ended.append(key_of(delivery))

    async def handle_async(delivery: Delivery) -> None:
        arrived.append(key_of(delivery))
        while len(arrived) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        tasks.worker.stop()
        await asyncio.sleep(0.01)
        ended.append(key_of(delivery))

    threads.run(messages, handle, threads=2)
    assert sorted(ended) == ["a", "b"]
    ended.clear()
    tasks.run(messages, handle_async, concurrency=2)
    assert sorted(ended) == ["a", "b"]
    for replies in (threads.replies, tasks.replies):
        assert sorted(one.acknowledge.delivery for one in replies) == [1, 3]
