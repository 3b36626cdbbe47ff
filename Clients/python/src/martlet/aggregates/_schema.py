"""What an aggregate's events and snapshots are stored as: names, today's schema versions, and how older ones become
those of today."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from ._values import Undecodable, from_json, to_json

if typing.TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Callable[[Any], Any]:
        return lambda decorated: decorated


E = TypeVar("E")

# An upcaster: gets the JSON value of a payload (or of a snapshot) and returns the one of the next schema version.
Upcaster = Callable[[Any], Any]

_NAME = "__martlet_event__"


class SchemaError(TypeError):
    """A class cannot be an event or an aggregate. Raised where it is declared."""


class EventUndecodable(Exception):
    """A stored event cannot be turned into an event of today. The message names the event and what is wrong."""


class SnapshotUndecodable(Exception):
    """A stored snapshot cannot be turned into a state. A load passes it over and replays the events."""


@dataclasses.dataclass(frozen=True)
class EventKind:
    """How events of a class are stored."""

    name: str
    version: int = 1
    formerly: tuple[str, ...] = ()
    upcasters: Mapping[int, Upcaster] = dataclasses.field(default_factory=dict)

    def check(self, what: str) -> None:
        _check_chain(what, self.version, self.upcasters)


def _check_chain(what: str, version: int, upcasters: Mapping[int, Upcaster]) -> None:
    if version < 1:
        raise SchemaError(f"{what}: schema versions begin at 1, not at {version}")
    beyond = [step for step in upcasters if not 1 <= step < version]
    if beyond:
        raise SchemaError(f"{what}: an upcaster from version {beyond[0]} leads beyond version {version}, today's")
    for step in range(min(upcasters, default=version), version):
        if step not in upcasters:
            raise SchemaError(f"{what}: the upcaster from version {step} is missing")


@typing.overload
def event(cls: type[E], /) -> type[E]: ...


@typing.overload
def event(
    *,
    name: str | None = None,
    version: int = 1,
    formerly: Iterable[str] = (),
    upcasters: Mapping[int, Upcaster] | None = None,
) -> Callable[[type[E]], type[E]]: ...


@dataclass_transform(frozen_default=True)
def event(
    cls: type[Any] | None = None,
    /,
    *,
    name: str | None = None,
    version: int = 1,
    formerly: Iterable[str] = (),
    upcasters: Mapping[int, Upcaster] | None = None,
) -> Any:
    """Makes a class an event: a frozen dataclass, whose payload is the JSON of its fields.

    A dataclass without the decorator can be an event, too: its type is the name of its class, its schema version 1.

    Args:
        name: the event type that it is stored as, 1 to 256 bytes; the name of the class if omitted.
        version: the schema version of today, from 1.
        formerly: older names of the event type.
        upcasters: for each older schema version, a function from the JSON value of its payload to that of the next.

    Raises:
        SchemaError: a step of the upcasters is missing, or leads beyond `version`.
    """

    def declare(decorated: type[Any]) -> type[Any]:
        made = decorated if dataclasses.is_dataclass(decorated) else dataclasses.dataclass(frozen=True)(decorated)
        kind = EventKind(name or decorated.__name__, version, tuple(formerly), dict(upcasters or {}))
        kind.check(f"event {kind.name}")
        setattr(made, _NAME, kind)
        return made

    return declare if cls is None else declare(cls)


def kind_of(cls: type[Any]) -> EventKind:
    """How events of that class are stored."""
    kind = cls.__dict__.get(_NAME)
    return kind if isinstance(kind, EventKind) else EventKind(cls.__name__)


@dataclasses.dataclass(frozen=True)
class StoredEvent:
    """An event as it is stored: its type, the schema version, and the JSON of its payload."""

    type: str
    schema_version: int
    payload: bytes


class Schema:
    """The events and snapshots of a class of aggregates."""

    def __init__(
        self,
        cls: type[Any],
        aggregate_type: str,
        events: Iterable[type[Any]],
        *,
        unknown_events: str,
        snapshot_version: int,
        snapshot_upcasters: Mapping[int, Upcaster],
    ) -> None:
        self.cls = cls
        self.aggregate_type = aggregate_type
        self.unknown_events = unknown_events
        self.snapshot_version = snapshot_version
        self.snapshot_upcasters = dict(snapshot_upcasters)
        self.kinds: dict[type[Any], EventKind] = {}
        self.classes: dict[str, type[Any]] = {}
        if unknown_events not in ("fail", "skip"):
            raise SchemaError(f"{cls.__name__}: unknown_events is 'fail' or 'skip', not {unknown_events!r}")
        for one in events:
            if not dataclasses.is_dataclass(one) and not callable(getattr(one, "to_dict", None)):
                raise SchemaError(f"{cls.__name__}: {one.__name__} is not a dataclass and has no to_dict()")
            kind = kind_of(one)
            for name in (kind.name, *kind.formerly):
                if name in self.classes:
                    raise SchemaError(f"{cls.__name__}: two events are stored as {name}")
                self.classes[name] = one
            self.kinds[one] = kind
        _check_chain(f"snapshots of {cls.__name__}", snapshot_version, snapshot_upcasters)

    # Snapshots need a state that can be written and read. A class may become a dataclass after it was declared.
    @property
    def has_snapshots(self) -> bool:
        """Whether states can be saved: of dataclasses, and of classes with `to_dict` and `from_dict`."""
        has_own = callable(getattr(self.cls, "to_dict", None)) and callable(getattr(self.cls, "from_dict", None))
        return has_own or dataclasses.is_dataclass(self.cls)

    @property
    def readable_snapshots(self) -> list[int]:
        """The schema versions of snapshots that can be read."""
        return sorted({*self.snapshot_upcasters, self.snapshot_version})

    @property
    def stop_at(self) -> dict[str, int]:
        """The schema versions by event type that the server's upcasters must not go beyond."""
        return {kind.name: kind.version for kind in self.kinds.values()}

    def encode(self, value: object) -> StoredEvent:
        """An event as it is stored.

        Raises:
            SchemaError: it is not one of the aggregate's events.
        """
        kind = self.kinds.get(type(value))
        if kind is None:
            known = ", ".join(cls.__name__ for cls in self.kinds)
            raise SchemaError(f"{type(value).__name__} is not an event of {self.aggregate_type}: those are {known}")
        return StoredEvent(kind.name, kind.version, dump(to_json(value)))

    def decode(self, stored: StoredEvent, place: str) -> object | None:
        """An event of today; None for one of an unknown type, where those are skipped.

        Raises:
            EventUndecodable: it cannot be read.
        """
        cls = self.classes.get(stored.type)
        if cls is None:
            if self.unknown_events == "skip":
                return None
            raise EventUndecodable(f"{place}: {self.cls.__name__}.apply has no event {stored.type}")
        kind = self.kinds[cls]
        try:
            value = _upcast(json.loads(stored.payload), stored.schema_version, kind.version, kind.upcasters)
            return cast(object, from_json(cls, value))
        except Exception as error:
            raise EventUndecodable(
                f"{place}, {stored.type} of schema version {stored.schema_version}: {_message(error)}"
            ) from error

    def read_back(self, value: object) -> object:
        """The event as it will be read when it has been stored.

        Raises:
            EventUndecodable: it could not be read again, so it must not be stored.
        """
        back = self.decode(self.encode(value), "the new event")
        return value if back is None else back

    def encode_state(self, state: object) -> bytes:
        """A snapshot's payload."""
        return dump(to_json(state))

    def decode_state(self, payload: bytes, schema_version: int) -> Any:
        """The state that a snapshot holds.

        Raises:
            SnapshotUndecodable: it cannot be read.
        """
        try:
            value = _upcast(json.loads(payload), schema_version, self.snapshot_version, self.snapshot_upcasters)
            return from_json(self.cls, value)
        except Exception as error:
            raise SnapshotUndecodable(_message(error)) from error


def dump(value: Any) -> bytes:
    """JSON without blanks; NaN and the infinities are refused."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _message(error: Exception) -> str:
    return str(error) if isinstance(error, Undecodable) else f"{type(error).__name__}: {error}"


def _upcast(value: Any, version: int, today: int, upcasters: Mapping[int, Upcaster]) -> Any:
    if version > today:
        raise Undecodable(f"version {version} is newer than this program, which knows {today}")
    for step in range(version, today):
        if step not in upcasters:
            raise Undecodable(f"no upcaster leads from version {step} to {step + 1}")
        value = upcasters[step](value)
    return value


def events_of(cls: type[Any], scope: Mapping[str, Any]) -> list[type[Any]]:
    """The event classes that the annotation of `apply`'s parameter names.

    Raises:
        SchemaError: there is no such annotation, or it names something else.
    """
    apply = getattr(cls, "apply", None)
    names = list(getattr(apply, "__annotations__", {}).items())
    annotated = next(((name, kind) for name, kind in names if name != "return"), None)
    if annotated is None:
        raise SchemaError(_annotate(cls))
    annotation = annotated[1]
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, vars(sys.modules[cls.__module__]), dict(scope))
        except NameError as error:
            raise SchemaError(f"{cls.__name__}: {error}: define the events before the aggregate") from error
    found = list(_classes(annotation))
    if not found or not all(isinstance(one, type) and one not in (object, Any) for one in found):
        raise SchemaError(_annotate(cls))
    return found


def _annotate(cls: type[Any]) -> str:
    return f"{cls.__name__}: annotate the parameter of apply with the aggregate's events: A | B"


def _classes(annotation: Any) -> Iterable[Any]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for option in typing.get_args(annotation):
            yield from _classes(option)
    else:
        yield annotation
