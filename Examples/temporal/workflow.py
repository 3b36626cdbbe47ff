"""The workflow: reserve an order, charge for it, and cancel it if that is refused."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities import Booking, OrderActivities


@workflow.defn
class OrderWorkflow:
    @workflow.run
    async def run(self, booking: Booking) -> str:
        timeout = timedelta(seconds=30)
        await workflow.execute_activity_method(OrderActivities.reserve, booking, start_to_close_timeout=timeout)
        try:
            await workflow.execute_activity_method(
                OrderActivities.charge,
                booking,
                start_to_close_timeout=timeout,
                retry_policy=RetryPolicy(maximum_attempts=10),
            )
        except ActivityError:
            await workflow.execute_activity_method(OrderActivities.cancel, booking, start_to_close_timeout=timeout)
            return "cancelled"
        return "confirmed"
