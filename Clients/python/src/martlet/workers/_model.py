"""What a worker is given, and what it can say."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from collections.abc import Sequence
from datetime import datetime

from ..model import Event, Filter, Head


@dataclasses.dataclass(frozen=True)
class Delivery:
    """An event that is delivered to a worker, until it is settled."""

    event: Event
    """The event."""
    attempt: int
    """How often it was tried, this time included."""
    may_be_repeated: bool
    """The event may have been handled before: its effect must be the same if it is handled again."""
    key: bytes
    """The bytes of the event's key. Events of one key are handled in order."""
    slot: int
    """The number of the slot, from 0."""
    epoch: int
    """The epoch under which this worker has the slot."""
    number: int
    """The number of the delivery on its stream, from 1."""
    key_blocked: bool
    """The key was blocked when the event was delivered, or had been so a moment before."""


class HandlerError(Exception):
    """Raised by a handler to say what becomes of its event. Any other exception is as `Retry()`."""


class Retry(HandlerError):
    """The event is tried again: after the consumer's backoff, or after that time. Later events of its key wait."""

    def __init__(self, reason: str = "", *, after: float | None = None) -> None:
        """Says that.

        Args:
            reason: why, for a person.
            after: seconds; None means the consumer's backoff. Either way, the key is parked after `tries_max` tries.
        """
        super().__init__(reason or "the handler asked for a retry")
        self.after = after


class Park(HandlerError):
    """The event's key is parked: `martlet consumers blocked` lists it, and `retry` or `skip` continues with it."""


class StopSlot(HandlerError):
    """The event's slot stops, until somebody resets the consumer, unblocks keys of the slot or puts its definition."""


class Start(enum.Enum):
    """Where a new consumer begins, where it is not after a position or with a time."""

    FIRST = "first"
    HEAD = "head"


#: With the first event.
FIRST = Start.FIRST
#: With the first event that comes from now on.
HEAD = Start.HEAD


@dataclasses.dataclass(frozen=True)
class Definition:
    """What a consumer is: which events, in which order, delivered how. Times are in seconds.

    `None` means the server's default, which `ConsumerState.definition` shows.
    """

    filter: Filter | None = None
    """Which events it is about; None means all."""
    key: str = "aggregate"
    """What its events are ordered by: "aggregate", "aggregate_type", or "tag:" and the name of a tag."""
    slots: int | None = None
    """Into how many slots the keys are divided, and so how many workers can share it: 1 to 1,024; 16 by default."""
    raw: bool = False
    """Events are delivered as they are stored: no upcaster of the server changes them."""
    paused: bool = False
    """Nothing is delivered."""
    window_events_max: int | None = None
    """Events of a slot that may be read ahead of the oldest one that is not settled; 4,096 by default."""
    in_flight_max: int | None = None
    """Events of a slot that are with its worker at a time; 256 by default."""
    blocked_keys_max: int | None = None
    """Keys of a slot that may be blocked at a time; one more stops the slot; 1,000 by default."""
    retried_keys_max: int | None = None
    """Blocked keys of a slot that are tried at a time; 8 by default."""
    tries_max: int | None = None
    """Tries of an event, after which its key is parked; 5 by default."""
    ack_timeout: float | None = None
    """Time within which a delivery is settled; after it, the delivery counts as failed; 30 s by default."""
    backoff_min: float | None = None
    """Wait before the second try; it doubles with each; 0.5 s by default."""
    backoff_max: float | None = None
    """The longest wait; 60 s by default."""


@dataclasses.dataclass(frozen=True)
class BlockedKey:
    """A key whose events are not handled right now: the first of them failed."""

    slot: int
    key: bytes
    position: int
    """The position of the first event that is not handled."""
    event_id: uuid.UUID | None
    reason: str
    """Why the last try failed, in the worker's words."""
    tries: int
    since: datetime
    retry_at: datetime | None
    """When it is tried again by itself; None if it is parked."""

    @property
    def parked(self) -> bool:
        """Whether it waits until somebody decides."""
        return self.retry_at is None


@dataclasses.dataclass(frozen=True)
class SlotState:
    """A slot that a worker has had."""

    slot: int
    epoch: int
    position: int
    worker: str
    """The worker that has it; empty if none has."""


@dataclasses.dataclass(frozen=True)
class ConsumerState:
    """How a consumer is."""

    name: str
    definition: Definition
    revision: int
    head: Head
    position: int
    """The lowest checkpoint of all its slots."""
    settled_to: int
    """Every event of the consumer up to this position is settled, or belongs to a blocked key."""
    blocked_keys: int
    """How many keys are blocked, those that are parked included; counted up to 1,000."""
    workers: Sequence[str]
    slots: Sequence[SlotState]

    @property
    def lag(self) -> int:
        """How many positions of the tenant are still to come."""
        return max(0, self.head.position - self.settled_to)
