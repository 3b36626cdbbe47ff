"""A worker of Temporal at localhost:7233, on the Martlet server that the variables MARTLET_* name."""

import asyncio

from activities import OrderActivities
from temporalio.client import Client
from temporalio.worker import Worker
from workflow import OrderWorkflow

import martlet.aio


async def main() -> None:
    temporal = await Client.connect("localhost:7233")
    async with martlet.aio.connect() as client:
        orders = OrderActivities(client.tenant())
        activities = [orders.reserve, orders.charge, orders.cancel]
        await Worker(temporal, task_queue="orders", workflows=[OrderWorkflow], activities=activities).run()


if __name__ == "__main__":
    asyncio.run(main())
