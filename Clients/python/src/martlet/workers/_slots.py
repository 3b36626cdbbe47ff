"""The slots that a worker has on a stream: which deliveries it may handle, and what it answers. Without I/O."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Iterator

from .. import answers
from ..v1 import consumer_pb2
from ._model import Delivery, Park, Retry, StopSlot

log = logging.getLogger("martlet.workers")

REPLIES_MAX = 1_000
REASON_BYTES_MAX = 1_024


@dataclasses.dataclass
class _Slot:
    epoch: int
    # The positions of events that have failed: later events of their keys are passed over until they come again.
    failed: dict[bytes, int] = dataclasses.field(default_factory=dict)


class Slots:
    """The slots of one stream. May be used by several threads.

    - A delivery is handled only while its slot is this worker's, under the epoch that it was delivered under.
    - Once an event is rejected, later events of its key are passed over, without a reply, until it comes again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[int, _Slot] = {}

    def assign(self, slot: int, epoch: int) -> None:
        """The worker has the slot from now on."""
        with self._lock:
            self._slots[slot] = _Slot(epoch)

    def revoke(self, slot: int) -> None:
        """The worker no longer has the slot."""
        with self._lock:
            self._slots.pop(slot, None)

    def revoke_all(self) -> None:
        """The stream is over."""
        with self._lock:
            self._slots.clear()

    @property
    def count(self) -> int:
        """How many slots the worker has."""
        with self._lock:
            return len(self._slots)

    def deliveries(self, message: consumer_pb2.EventsDelivered) -> Iterator[Delivery]:
        """The deliveries of a message whose slots the worker has."""
        for recorded, delivery in zip(message.events, message.deliveries, strict=True):
            with self._lock:
                slot = self._slots.get(delivery.slot)
            if slot is None:
                continue
            yield Delivery(
                event=answers.event(recorded),
                attempt=delivery.attempt,
                may_be_repeated=delivery.may_be_repeated,
                key=delivery.key,
                slot=delivery.slot,
                epoch=slot.epoch,
                number=delivery.delivery,
                key_blocked=delivery.key_blocked,
            )

    def has(self, slot: int, epoch: int) -> bool:
        """Whether the worker has the slot under that epoch."""
        with self._lock:
            kept = self._slots.get(slot)
            return kept is not None and kept.epoch == epoch

    def admits(self, delivery: Delivery) -> bool:
        """Whether the delivery is to be handled. To be asked right before that."""
        with self._lock:
            slot = self._slots.get(delivery.slot)
            if slot is None or slot.epoch != delivery.epoch:
                return False
            failed_at = slot.failed.get(delivery.key)
            if failed_at is None:
                return True
            if delivery.event.position > failed_at:
                return False
            del slot.failed[delivery.key]
            return True

    def fail(self, delivery: Delivery) -> None:
        """The delivery has failed: what follows it of its key is passed over."""
        with self._lock:
            slot = self._slots.get(delivery.slot)
            if slot is not None and slot.epoch == delivery.epoch:
                slot.failed[delivery.key] = delivery.event.position


def acknowledgement(delivery: Delivery) -> consumer_pb2.WorkerReply:
    """Says that a delivery is settled."""
    return consumer_pb2.WorkerReply(acknowledge=consumer_pb2.Acknowledgement(delivery=delivery.number))


def rejection(delivery: Delivery, error: BaseException) -> consumer_pb2.WorkerReply:
    """Says that a delivery has failed, and what becomes of it by the kind of the error."""
    reject = consumer_pb2.Rejection(delivery=delivery.number, reason=reason_of(error))
    if isinstance(error, Park):
        reject.park = True
    elif isinstance(error, StopSlot):
        reject.stop = True
    elif isinstance(error, Retry) and error.after is not None:
        reject.retry_after_millis = max(0, min(round(error.after * 1_000), 0xFFFF_FFFF))
    else:
        reject.retry = True
    return consumer_pb2.WorkerReply(reject=reject)


def alive() -> consumer_pb2.WorkerReply:
    """Says that the worker is there."""
    return consumer_pb2.WorkerReply(alive=consumer_pb2.WorkerAlive())


def reason_of(error: BaseException) -> str:
    """Why a delivery failed, for a person."""
    own = isinstance(error, (Retry, Park, StopSlot))
    text = str(error) if own else f"{type(error).__name__}: {error}"
    return text.encode(errors="replace")[:REASON_BYTES_MAX].decode(errors="ignore")


def log_failure(delivery: Delivery, error: BaseException) -> None:
    """Logs that a handler has failed, and where."""
    event = delivery.event
    unexpected = not isinstance(error, (Retry, Park, StopSlot))
    log.warning(
        "the handler of event %s at position %d, %s, failed in try %d: %s",
        event.id,
        event.position,
        event.type,
        delivery.attempt,
        reason_of(error),
        exc_info=error if unexpected else None,
    )
