"""The client for asyncio against a server, on each engine."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone

import pytest
from processes import pace
from proxy import Proxy
from servers import Server

import martlet.aio
from martlet import ANY, NONE, NewEvent

HEARTBEAT = 1.0


def run(
    server: Server,
    test: Callable[[martlet.aio.Client], Awaitable[None]],
    target: str | None = None,
    heartbeat: float = HEARTBEAT,
) -> None:
    """Runs a test with a client; afterwards no task may be left."""

    async def main() -> None:
        async with martlet.aio.connect(target or server.target, ca=server.ca, heartbeat=heartbeat) as client:
            await test(client)
        await only_task_left()

    asyncio.run(main())


async def only_task_left() -> None:
    """Waits until no other task is there; fails after 20 seconds."""
    for _ in range(2_000):
        if len(asyncio.all_tasks()) == 1:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"tasks are left: {asyncio.all_tasks()}")


def test_the_same_names_do_the_same(server: Server) -> None:
    async def test(client: martlet.aio.Client) -> None:
        tenant = client.tenant(uuid.uuid4())
        order, invoice = tenant.aggregate("order", key="1"), tenant.aggregate("invoice", uuid.uuid4())
        receipt = await tenant.append(
            [
                order.change([NewEvent("A"), NewEvent("B")], expecting=NONE),
                invoice.change(NewEvent("C"), expecting=NONE),
            ]
        )
        assert receipt.last_position == 3
        for with_events in (False, True):
            with pytest.raises(martlet.VersionConflict) as caught:
                await order.append(NewEvent("D"), expecting=1, conflicting_events=with_events)
            assert caught.value.actual == 2
            assert len(caught.value.conflicts[0].events) == with_events
        assert [each.type for each in (await order.load()).events] == ["A", "B"]
        assert await order.save_snapshot({"n": 1}, version=1)
        history = await order.load(snapshot=True)
        assert history.snapshot is not None and history.snapshot.version == 1 and len(history.events) == 1
        assert await order.load_snapshot() == history.snapshot
        assert [each.version for each in await order.list_snapshots()] == [1]
        assert await order.delete_snapshots() == 1
        assert [each.position async for each in tenant.read(backward=True)] == [3, 2, 1]
        assert (await tenant.head()).position == 3
        assert await tenant.upcasters.apply("") == (await tenant.upcasters.get()).revision
        due = datetime.now(timezone.utc) + timedelta(hours=1)
        assert await tenant.schedules.set("k", due, order, NewEvent("E")) is martlet.ScheduleOutcome.SET
        assert [each.key async for each in tenant.schedules.list()] == ["k"]
        assert await tenant.schedules.cancel("k") is martlet.ScheduleOutcome.CANCELLED
        assert (await client.server_info()).all_tenants
        assert (await client.status()).storage_ready
        async for signal in tenant.signals():
            if isinstance(signal, martlet.CaughtUp):
                assert signal.position == 3
                break

    run(server, test)


@pytest.mark.usefixtures("one_engine")
def test_a_thousand_calls_at_once_and_their_cancellation(server: Server) -> None:
    async def test(client: martlet.aio.Client) -> None:
        tenant = client.tenant(uuid.uuid4())
        handles = [tenant.aggregate("order", key=str(number)) for number in range(200)]
        receipts = await asyncio.gather(*(each.append(NewEvent("A"), expecting=NONE) for each in handles))
        assert sorted(each.first_position for each in receipts) == list(range(1, 201))
        since = time.monotonic()
        heads = await asyncio.gather(*(tenant.head() for _ in range(1_000)))
        assert {each.position for each in heads} == {200}
        print(f"1,000 calls at once: {time.monotonic() - since:.2f} s")
        tasks = [asyncio.ensure_future(tenant.head()) for _ in range(1_000)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        since = time.monotonic()
        await asyncio.wait(tasks[::2])
        print(f"500 of 1,000 calls cancelled: {time.monotonic() - since:.2f} s")
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(each, asyncio.CancelledError) for each in done) == 500
        assert sum(isinstance(each, martlet.Head) for each in done) == 500
        await only_task_left()

    # A server that was built for debugging is busy for longer than a second with them, and answers no ping meanwhile.
    run(server, test, heartbeat=10)


@pytest.mark.usefixtures("one_engine")
def test_cancellation_propagates_at_once(server: Server) -> None:
    async def test(client: martlet.aio.Client) -> None:
        tenant = client.tenant(uuid.uuid4())

        async def follow() -> None:
            async for _ in tenant.events():
                pass

        tasks = [asyncio.ensure_future(follow()) for _ in range(100)]
        await asyncio.sleep(0.3)
        since = time.monotonic()
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in done)
        assert time.monotonic() - since < 2
        await only_task_left()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(follow(), 0.2)

    run(server, test)


@pytest.mark.usefixtures("one_engine")
def test_closing_ends_iterators_and_fails_calls(server: Server) -> None:
    async def main() -> None:
        client = martlet.aio.connect(server.target, ca=server.ca)
        tenant = client.tenant(uuid.uuid4())

        async def follow() -> list[martlet.Event]:
            return [each async for each in tenant.events()]

        events = tenant.events()
        one, other = asyncio.ensure_future(follow()), asyncio.ensure_future(events.__anext__())
        await asyncio.sleep(0.2)
        await events.aclose()
        with pytest.raises(StopAsyncIteration):
            await other
        await client.close()
        assert await one == []
        with pytest.raises(martlet.ClientClosed):
            await tenant.head()
        await only_task_left()

    asyncio.run(main())


def test_kills_and_drains_are_not_seen(own_server: Server) -> None:
    async def test(client: martlet.aio.Client) -> None:
        tenant = client.tenant(uuid.uuid4())
        writer_ends = asyncio.Event()
        appended = []

        async def write() -> None:
            aggregate = tenant.aggregate("writer", key="w")
            while not writer_ends.is_set():
                event = NewEvent("Written")
                await aggregate.append(event, expecting=ANY)
                appended.append(event.id)
                await asyncio.sleep(0.005)

        async def strike() -> None:
            for blow in (own_server.kill, own_server.drain):
                await asyncio.sleep(0.3)
                blow()
                await asyncio.to_thread(own_server.wait)
                await asyncio.to_thread(own_server.start)
            await asyncio.sleep(0.3)
            writer_ends.set()
            await writer
            await tenant.aggregate("last", key="l").append(NewEvent("Last"), expecting=NONE)

        writer = asyncio.ensure_future(write())
        striker = asyncio.ensure_future(strike())
        taken = []
        async for event in tenant.events():
            if event.type == "Last":
                break
            taken.append(event)
        await striker
        assert [each.position for each in taken] == list(range(1, len(taken) + 1))
        assert [each.id for each in taken] == appended

    run(own_server, test)


@pytest.mark.usefixtures("one_engine")
def test_a_black_hole_is_noticed_and_passed(server: Server) -> None:
    proxy = Proxy(server.port)

    async def test(client: martlet.aio.Client) -> None:
        tenant = client.tenant(uuid.uuid4())
        aggregate = tenant.aggregate("a", key="1")
        events = tenant.events()
        await aggregate.append(NewEvent("A"), expecting=NONE)
        assert (await events.__anext__()).position == 1
        for version in (1, 2):
            since = proxy.drop()
            append = asyncio.ensure_future(aggregate.append(NewEvent("B"), expecting=version))
            assert (await events.__anext__()).position == version + 1
            took = time.monotonic() - since
            print(f"asyncio: an append and an event got through a black hole after {took:.2f} s")
            assert took < 2 * HEARTBEAT + 1 + 10 * await asyncio.to_thread(pace, server)
            await append
        await events.aclose()

    run(server, test, proxy.target)
    proxy.close()


def test_catching_up_leaves_nothing_out(server: Server) -> None:
    async def test(client: martlet.aio.Client) -> None:
        tenant = client.tenant(uuid.uuid4())
        for _ in range(3):
            aggregate = tenant.aggregate("a", uuid.uuid4())
            await aggregate.append([NewEvent("A") for _ in range(1_000)], expecting=NONE)
        positions = itertools.count(1)
        async for event in tenant.events():
            assert event.position == next(positions)
            if event.position == 3_000:
                break

    run(server, test)
