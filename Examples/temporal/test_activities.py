"""The activities in Temporal's activity environment, against a Martlet server: an attempt more appends nothing more."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Awaitable, Callable, Iterator

import pytest
from activities import Booking, OrderActivities
from servers import Server
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import Replayer
from workflow import OrderWorkflow

import martlet
import martlet.aio

BOOKING = Booking("A-17", 4_200)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


def attempt(activity_id: str, number: int = 1, run: str = "run-1") -> ActivityEnvironment:
    """The environment of an attempt of an activity."""
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(
        environment.info, workflow_id="order-A-17", workflow_run_id=run, activity_id=activity_id, attempt=number
    )
    return environment


def run(server: Server, body: Callable[[martlet.aio.Tenant], Awaitable[None]]) -> None:
    async def main() -> None:
        async with martlet.aio.connect(server.target, ca=server.ca, tenant=uuid.uuid4()) as client:
            await body(client.tenant())

    asyncio.run(main())


async def types(tenant: martlet.aio.Tenant) -> list[str]:
    return [event.type async for event in tenant.read()]


def test_each_activity_appends_once_however_often_it_is_tried(server: Server) -> None:
    async def body(tenant: martlet.aio.Tenant) -> None:
        orders = OrderActivities(tenant)
        for number in (1, 2, 3):
            assert await attempt("1", number).run(orders.reserve, BOOKING) == 1
        for number in (1, 2, 3):
            assert await attempt("2", number).run(orders.charge, BOOKING) == 3
        assert await types(tenant) == ["OrderReserved", "PaymentTaken", "OrderConfirmed"]
        # Also when others have appended since.
        assert await attempt("3").run(orders.cancel, BOOKING) == 4
        assert await attempt("1", 4).run(orders.reserve, BOOKING) == 1
        assert await attempt("2", 4).run(orders.charge, BOOKING) == 3
        assert await types(tenant) == ["OrderReserved", "PaymentTaken", "OrderConfirmed", "OrderCancelled"]

    run(server, body)


def test_an_attempt_whose_answer_was_lost(server: Server) -> None:
    async def body(tenant: martlet.aio.Tenant) -> None:
        orders = OrderActivities(tenant)
        first = attempt("1")
        task = asyncio.create_task(first.run(orders.reserve, BOOKING))
        # The worker is lost at some moment; what it has sent may arrive or not.
        await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await attempt("1", 2).run(orders.reserve, BOOKING) == 1
        assert await types(tenant) == ["OrderReserved"]

    for _ in range(10):
        run(server, body)


def test_another_activity_or_run_is_not_a_retry(server: Server) -> None:
    async def body(tenant: martlet.aio.Tenant) -> None:
        orders = OrderActivities(tenant)
        await attempt("1").run(orders.reserve, BOOKING)
        for other in (attempt("2"), attempt("1", run="run-2")):
            with pytest.raises(ApplicationError) as refused:
                await other.run(orders.reserve, BOOKING)
            assert refused.value.non_retryable and "VERSION_CONFLICT" in str(refused.value)
        assert await types(tenant) == ["OrderReserved"]

    run(server, body)


def test_a_cancelled_order_is_not_charged(server: Server) -> None:
    async def body(tenant: martlet.aio.Tenant) -> None:
        orders = OrderActivities(tenant)
        await attempt("1").run(orders.reserve, BOOKING)
        await attempt("2").run(orders.cancel, BOOKING)
        with pytest.raises(ApplicationError, match="was cancelled"):
            await attempt("3").run(orders.charge, BOOKING)

    run(server, body)


def test_the_workflow_can_be_run_in_the_sandbox() -> None:
    Replayer(workflows=[OrderWorkflow])
