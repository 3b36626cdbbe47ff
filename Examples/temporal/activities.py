"""Activities that append to Martlet. Temporal runs one again when its answer is lost, so each must append once."""

import dataclasses

from event_ids import event_id
from temporalio import activity
from temporalio.exceptions import ApplicationError

import martlet
import martlet.aio


@dataclasses.dataclass(frozen=True)
class Booking:
    order: str
    cents: int


class OrderActivities:
    def __init__(self, tenant: martlet.aio.Tenant) -> None:
        self._tenant = tenant

    @activity.defn
    async def reserve(self, booking: Booking) -> int:
        """Records the order. Returns the position at which it stands."""
        events = [martlet.NewEvent("OrderReserved", {"cents": booking.cents}, id=event_id())]
        return await self._append(booking.order, events, expecting=martlet.NONE)

    @activity.defn
    async def charge(self, booking: Booking) -> int:
        """Records the payment: two events, in one append. Refused for an order that was cancelled."""
        history = await self._tenant.aggregate("order", key=booking.order).load()
        # What an earlier attempt has appended holds, whatever has come since.
        is_first = all(event.id != event_id(0) for event in history.events)
        if is_first and any(event.type == "OrderCancelled" for event in history.events):
            raise ApplicationError(f"order {booking.order} was cancelled", non_retryable=True)
        events = [
            martlet.NewEvent("PaymentTaken", {"cents": booking.cents}, id=event_id(0)),
            martlet.NewEvent("OrderConfirmed", {}, id=event_id(1)),
        ]
        # If an earlier attempt has appended, the version is another one. But the server looks at the ids first, and
        # answers as it did the first time.
        return await self._append(booking.order, events, expecting=history.version)

    @activity.defn
    async def cancel(self, booking: Booking) -> int:
        """Records that the order is not carried out."""
        events = [martlet.NewEvent("OrderCancelled", {}, id=event_id())]
        return await self._append(booking.order, events, expecting=martlet.EXISTS)

    async def _append(self, order: str, events: list[martlet.NewEvent], *, expecting: martlet.Expected | int) -> int:
        try:
            receipt = await self._tenant.aggregate("order", key=order).append(events, expecting=expecting)
        except martlet.VersionConflict as conflict:
            # The next attempt decides again, on what is there by then. For an order that must be new, none will do.
            raise ApplicationError(str(conflict), non_retryable=expecting is martlet.NONE) from conflict
        except martlet.MartletError as error:
            raise ApplicationError(str(error), non_retryable=not error.retryable) from error
        if receipt.replayed:
            activity.logger.info("an earlier attempt has appended this")
        return receipt.last_position
