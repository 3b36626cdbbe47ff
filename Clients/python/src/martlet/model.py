"""What is written to and read from Martlet, as plain values."""

from __future__ import annotations

import dataclasses
import enum
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from .keys import KEY_TAG, new_id

JSON = "application/json"


class Expected(enum.Enum):
    """What the version of an aggregate must be for an append, where it is not a certain version."""

    ANY = "any"
    NONE = "none"
    EXISTS = "exists"

    def __repr__(self) -> str:
        return f"martlet.{self.name}"


#: Any version will do.
ANY = Expected.ANY
#: The aggregate has no events yet.
NONE = Expected.NONE
#: The aggregate has at least one event.
EXISTS = Expected.EXISTS

#: One of ANY, NONE and EXISTS, or exactly that version; 0 is NONE.
Expecting = Expected | int

#: bytes and str (as UTF-8) are sent as they are; a dataclass instance and everything that json can express as JSON.
Payload = Any


@dataclass(frozen=True)
class Metadata:
    """Who and what caused an event; empty means not given. The server stores it and decides nothing by it."""

    user_id: str = ""
    role: str = ""
    #: When it happened by the writer's clock.
    occurred_at: datetime | None = None
    correlation_id: str = ""
    causation_id: str = ""
    request_id: str = ""
    source: str = ""
    #: The W3C trace context of the writer: its headers traceparent and tracestate.
    traceparent: str = ""
    tracestate: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


def _json_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} has no form in JSON here: convert it, or give the payload as bytes")


def encode_payload(payload: Payload) -> bytes:
    """The bytes of a payload. Dataclasses, UUIDs, datetimes, dates and enums are written as JSON, at any depth."""
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return bytes(payload)
    if isinstance(payload, str):
        return payload.encode()
    return json.dumps(payload, default=_json_value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


@dataclass(frozen=True)
class NewEvent:
    """An event to be appended.

    It gets its id when it is made, so appending the same object again is a retry, which stores nothing twice. The
    payload is encoded when the event is made.
    """

    type: str
    payload: Payload = field(default_factory=dict)
    id: uuid.UUID = field(default_factory=new_id)
    schema_version: int = 1
    content_type: str = JSON
    metadata: Metadata = Metadata()
    #: The payload as it is sent.
    body: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "body", encode_payload(self.payload))


@dataclass(frozen=True)
class Event:
    """An event as it is stored, or as upcasters have made it of what is stored."""

    id: uuid.UUID
    type: str
    payload: bytes
    version: int
    position: int
    #: The server's commit time, UTC, in whole microseconds; it never decreases along positions.
    recorded_at: datetime
    aggregate_type: str
    aggregate_id: uuid.UUID
    schema_version: int
    content_type: str
    metadata: Metadata
    #: Not None: the event was upcast from this schema version.
    stored_schema_version: int | None = None
    #: Not None: upcasting changed the type from this one.
    stored_type: str | None = None
    #: Not None: an upcaster failed on the event, which is delivered as it is stored; says why.
    upcast_failure: str | None = None

    def json(self) -> Any:
        """The payload read as JSON."""
        return json.loads(self.payload)

    @property
    def aggregate_key(self) -> str | None:
        """The key of the aggregate, for an event that was appended by key."""
        return self.metadata.tags.get(KEY_TAG)


@dataclass(frozen=True)
class NewSnapshot:
    """An aggregate's state to be saved. The state is encoded as a payload is."""

    state: Payload
    schema_version: int = 1
    content_type: str = JSON


@dataclass(frozen=True)
class Snapshot:
    """An aggregate's state as it is stored, or as upcasters have made it of what is stored."""

    version: int
    payload: bytes
    schema_version: int
    content_type: str
    created_at: datetime
    #: Not None: the snapshot was upcast from this schema version.
    stored_schema_version: int | None = None

    def json(self) -> Any:
        """The state read as JSON."""
        return json.loads(self.payload)


@dataclass(frozen=True)
class SnapshotInfo:
    """What is known of a snapshot without its state."""

    version: int
    schema_version: int
    content_type: str
    created_at: datetime
    payload_bytes: int
    #: Whether length and the rest of the entry are as they were saved.
    intact: bool


@dataclass(frozen=True)
class AggregateRef:
    """Names an aggregate. With a key, the events that are appended to it carry the key as a tag."""

    type: str
    id: uuid.UUID
    key: str | None = None


@dataclass(frozen=True)
class Change:
    """What one append changes in one aggregate."""

    aggregate: AggregateRef
    events: Sequence[NewEvent]
    expecting: Expecting
    #: The state after these events; it is saved with them or not at all.
    snapshot: NewSnapshot | None = None

    def __post_init__(self) -> None:
        if isinstance(self.expecting, bool) or not isinstance(self.expecting, (Expected, int)):
            raise TypeError(f"expecting is martlet.ANY, NONE, EXISTS or a version, not {self.expecting!r}")


def event_list(events: NewEvent | Iterable[NewEvent]) -> tuple[NewEvent, ...]:
    """One event or several, as a tuple."""
    return (events,) if isinstance(events, NewEvent) else tuple(events)


@dataclass(frozen=True)
class AppendedAggregate:
    """Where the events of one aggregate went."""

    type: str
    id: uuid.UUID
    first_version: int
    last_version: int
    #: By the tenant's snapshot policy it is time to save a snapshot. False in a replayed answer.
    snapshot_due: bool


@dataclass(frozen=True)
class Receipt:
    """The answer to an append: the events are durable."""

    aggregates: tuple[AppendedAggregate, ...]
    first_position: int
    last_position: int
    recorded_at: datetime
    #: The append was stored before; this is the original answer.
    replayed: bool
    #: The consumer's checkpoint was stored with the append.
    checkpoint_stored: bool = False

    @property
    def version(self) -> int:
        """The version that the first aggregate of the call has come to."""
        return self.aggregates[0].last_version


@dataclass(frozen=True)
class Head:
    """The end of a tenant's events; position 0 and no time without events."""

    position: int
    recorded_at: datetime | None


@dataclass(frozen=True)
class AsOf:
    """The moment that a load answers for: a version, a position, or a time."""

    kind: str
    value: int | datetime

    @staticmethod
    def version(version: int) -> AsOf:
        """Up to and with that version of the aggregate."""
        return AsOf("version", version)

    @staticmethod
    def position(position: int) -> AsOf:
        """Up to and with that position of the tenant; one beyond the head is refused."""
        return AsOf("position", position)

    @staticmethod
    def time(time: datetime) -> AsOf:
        """Up to and with that time; one still to come is refused."""
        return AsOf("time", time)


@dataclass(frozen=True)
class History:
    """The events of an aggregate, from one consistent view."""

    events: tuple[Event, ...]
    #: The newest usable snapshot, if the load asked for one and found it; the events follow its version.
    snapshot: Snapshot | None
    #: The aggregate's version as of the target; 0 without events.
    version: int
    #: The position that the view stands for: a load as of this position answers the same forever.
    position: int
    #: Snapshots that could not be used.
    snapshots_skipped: int = 0


@dataclass(frozen=True)
class Filter:
    """Which events are meant. The fields combine with AND, the values inside one with OR; an empty field means all."""

    aggregate_types: Sequence[str] = ()
    event_types: Sequence[str] = ()
    aggregate_ids: Sequence[uuid.UUID] = ()


@dataclass(frozen=True)
class Upcasting:
    """In which schema events are delivered; the default is the latest one that the tenant's upcasters lead to."""

    #: Everything is delivered as it is stored.
    raw: bool = False
    #: An event that an upcaster fails on is delivered as it is stored, with upcast_failure set; the call does not end.
    keep_failed: bool = False
    #: Event types with the schema version at which upcasting stops.
    stop_at: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """An event that a subscriber has seen: its position and its id."""

    position: int
    event_id: uuid.UUID

    @staticmethod
    def of(event: Event) -> Place:
        """The place of that event."""
        return Place(event.position, event.id)


#: After which events a subscription starts: a position, or an event that was seen, which the server compares.
After = int | Place | Event


@dataclass(frozen=True)
class Events:
    """Events that a subscription delivers, in the order of their positions."""

    events: tuple[Event, ...]
    head: Head

    @property
    def position(self) -> int:
        """The position of the last of them."""
        return self.events[-1].position


@dataclass(frozen=True)
class CaughtUp:
    """All there is up to the position was delivered or did not match; from here on, events come live."""

    position: int
    head: Head


@dataclass(frozen=True)
class FellBehind:
    """The subscription was live; from here on, events come from storage until the next CaughtUp."""

    position: int
    head: Head


@dataclass(frozen=True)
class Checkpoint:
    """Everything up to the position was delivered or did not match. Comes at least once per heartbeat while idle."""

    position: int
    head: Head

    @property
    def lag(self) -> int:
        """How many positions the subscription is behind the head."""
        return max(0, self.head.position - self.position)


@dataclass(frozen=True)
class UpcastersChanged:
    """The tenant's upcasters changed: events after the position are delivered under the new ones."""

    position: int
    head: Head
    #: The revision of the settings that is in force from here on.
    revision: int


Signal = Events | CaughtUp | FellBehind | Checkpoint | UpcastersChanged


@dataclass(frozen=True)
class Schedule:
    """An event that the server appends when its time has come: once, and never before."""

    #: Names the schedule within its tenant: 1 to 128 bytes of [A-Za-z0-9_.:-].
    key: str
    due: datetime
    aggregate: AggregateRef
    event: NewEvent
    #: Later than this after due, the schedule is parked, in milliseconds; 0 means however late.
    lateness_millis_max: int = 0


@dataclass(frozen=True)
class CancelSchedule:
    """Deletes the schedule of that key."""

    key: str


ScheduleChange = Schedule | CancelSchedule


class ScheduleOutcome(enum.Enum):
    """What became of a change of a schedule."""

    SET = "set"
    MOVED = "moved"
    CANCELLED = "cancelled"
    #: No schedule has that key: nothing was deleted.
    ABSENT = "absent"
    #: The event is stored already: nothing was set.
    FIRED = "fired"


@dataclass(frozen=True)
class ListedSchedule:
    """A schedule in a list: all of it but the event's content."""

    key: str
    due: datetime
    aggregate: AggregateRef
    event_id: uuid.UUID
    event_type: str
    payload_bytes: int
    lateness_millis_max: int
    parked: bool
    parked_reason: str


@dataclass(frozen=True)
class Document:
    """A tenant's settings of one kind; empty where there are none."""

    text: str
    #: The revision of the tenant's settings of all kinds.
    revision: int


@dataclass(frozen=True)
class ServerInfo:
    """What the server is."""

    server_version: str
    identity: str
    tenants: tuple[uuid.UUID, ...]
    all_tenants: bool
    features: tuple[str, ...]
    server_time: datetime
    #: The longest message in bytes.
    frame_bytes_max: int
    #: Limits by the names of their fields in limits.proto.
    limits: Mapping[str, int]
