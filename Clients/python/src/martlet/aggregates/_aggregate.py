"""The base of aggregates, and what loading and executing them returns."""

from __future__ import annotations

import dataclasses
import sys
import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from ._schema import Schema, SchemaError, Upcaster, events_of

if TYPE_CHECKING:
    from ..model import Receipt


class Aggregate:
    """A state that is built from its events, and decides what happens next.

    ```python
    @dataclass
    class Order(Aggregate, type="order"):
        cents: int = 0

        def apply(self, event: Placed | Paid) -> None:
            match event:
                case Placed(cents):
                    self.cents = cents
                case Paid():
                    self.cents = 0
    ```

    The class needs no arguments to be made: `Order()` is the state before the first event. The annotation of `apply`'s
    parameter says which events it has. `apply` changes the state and never refuses an event, because it has happened.
    Other methods decide: they change nothing, and return an event, several, or None; or they raise.
    """

    martlet_schema: ClassVar[Schema]

    def __init_subclass__(
        cls,
        *,
        type: str | None = None,
        unknown_events: Literal["fail", "skip"] = "fail",
        snapshot_version: int = 1,
        snapshot_upcasters: Mapping[int, Upcaster] | None = None,
        **others: Any,
    ) -> None:
        """Declares a class of aggregates.

        Args:
            type: the aggregate type, 1 to 128 bytes of [A-Za-z0-9_.:-]; a class without one is only a base of others.
            unknown_events: whether events of a type that `apply` does not name fail a load or are passed over.
            snapshot_version: the schema version of its snapshots. Raise it when fields change their meaning.
            snapshot_upcasters: for each older version, a function from the JSON value of a state to the next one's.

        Raises:
            SchemaError: `apply` has no such annotation, or a chain of upcasters has a gap.
        """
        super().__init_subclass__(**others)
        if type is None:
            return
        cls.martlet_schema = Schema(
            cls,
            type,
            events_of(cls, sys._getframe(1).f_locals),
            unknown_events=unknown_events,
            snapshot_version=snapshot_version,
            snapshot_upcasters=snapshot_upcasters or {},
        )

    def apply(self, event: Any) -> None:
        """Takes in an event of the aggregate's."""
        raise NotImplementedError(f"{self.__class__.__name__} has no apply")


A = TypeVar("A", bound=Aggregate)


def schema_of(cls: type[Any]) -> Schema:
    """The schema of a class of aggregates.

    Raises:
        SchemaError: it has no type.
    """
    schema = getattr(cls, "martlet_schema", None)
    if not isinstance(schema, Schema):
        raise SchemaError(f"{cls.__name__} has no type: class {cls.__name__}(Aggregate, type=…)")
    if schema.cls is not cls and issubclass(cls, schema.cls) and schema.cls.__qualname__ == cls.__qualname__:
        # What @dataclass(slots=True) makes of the class is another class.
        schema.cls = cls
    return schema


class AggregateNotFound(LookupError):
    """The aggregate has no events."""


@dataclasses.dataclass
class Loaded(Generic[A]):
    """An aggregate as of a version."""

    state: A
    """The state after all events up to `version`."""
    id: uuid.UUID
    """The aggregate's id."""
    key: str | None = None
    """The key that it was loaded by."""
    version: int = 0
    """The version of the last event in it; 0 without events."""
    position: int = 0
    """The position of the tenant that the state stands for: as of it, the answer is the same for ever."""
    snapshot_version: int = 0
    """The version of the snapshot that it was loaded from; 0 without one."""
    events_replayed: int = 0
    """How many events were applied to load it."""


@dataclasses.dataclass(frozen=True)
class Executed(Generic[A]):
    """What became of a command."""

    aggregate: Loaded[A]
    """The aggregate after it."""
    events: list[object]
    """What was decided; empty if there was nothing to do."""
    receipt: Receipt | None
    """Where the events went; None without events."""
    decisions: int
    """How often it was decided: once, and again for each time that another writer was faster."""

    @property
    def state(self) -> A:
        """The state after it."""
        return self.aggregate.state


def decided(result: object) -> list[object]:
    """What a command returns, as a list: None, an event, or several."""
    if result is None:
        return []
    if isinstance(result, Iterable) and not dataclasses.is_dataclass(result):
        return list(result)
    return [result]
