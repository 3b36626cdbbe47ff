"""Tests of aggregates without a server: given what happened, when a command comes, then this is decided."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from typing import Any, Generic

from ._aggregate import A, decided, schema_of
from ._schema import Schema, StoredEvent, dump
from ._values import to_json


class ScenarioFailure(AssertionError):
    """A command decided something else than expected. The message has what was expected, and what came."""


def stored(event_type: str, schema_version: int, payload: Any) -> StoredEvent:
    """An event of an older schema version, as it is stored: it goes through the upcasters.

    Args:
        event_type: its type.
        schema_version: the schema version that it is stored in, from 1.
        payload: the JSON value of its payload.
    """
    return StoredEvent(event_type, schema_version, dump(payload))


def given(cls: type[A], *events: object) -> Given[A]:
    """An aggregate to which this has happened; nothing, if there are no events.

    ```python
    given(Order, Placed(500)).when(Order.pay).then(Paid())
    given(Order).when(lambda order: order.pay()).then_raises(NotPlaced)
    ```

    Args:
        cls: the class of the aggregate.
        events: what has happened, oldest first. They go through JSON, as events on a server do.
    """
    return Given(cls, schema_of(cls), list(events))


@dataclasses.dataclass(frozen=True)
class Given(Generic[A]):
    """An aggregate to which something has happened."""

    cls: type[A]
    schema: Schema
    events: list[object]

    def state(self) -> A:
        """The state that the events lead to."""
        made = self.cls()
        for number, event in enumerate(self.events, 1):
            kept = event if isinstance(event, StoredEvent) else self.schema.encode(event)
            read = self.schema.decode(kept, f"given event {number}")
            if read is not None:
                made.apply(read)
        return made

    def when(self, command: Callable[[A], object]) -> Decision[A]:
        """A command comes: a method of the aggregate, or any function of its state."""
        state = self.state()
        untouched = copy.deepcopy(state)
        try:
            events = decided(command(state))
        except Exception as error:
            return Decision(self, state, [], error)
        events = [self.schema.read_back(one) for one in events]
        if self.schema.has_snapshots and to_json(state) != to_json(untouched):
            raise ScenarioFailure(
                f"the command changed the state: it returns events, and only {self.cls.__name__}.apply changes it"
            )
        return Decision(self, state, events, None)


@dataclasses.dataclass(frozen=True)
class Decision(Generic[A]):
    """What a command decided."""

    given: Given[A]
    _state: A
    events: list[object]
    error: Exception | None

    def then(self, *expected: object) -> Given[A]:
        """Exactly these events are decided, in this order; none, if there are none. Returns the aggregate after them.

        Raises:
            ScenarioFailure: something else was decided, or the command was refused.
        """
        self._refuse()
        lines, wanted = self._lines(self.events), self._lines(expected)
        if lines != wanted:
            raise ScenarioFailure(f"expected {_list(wanted)}, but {self.given.cls.__name__} decided {_list(lines)}")
        return Given(self.given.cls, self.given.schema, [*self.given.events, *self.events])

    def then_state(self, check: Callable[[A], bool]) -> Given[A]:
        """The state after the command is as the check wants it. Returns the aggregate after it.

        Raises:
            ScenarioFailure: it is not, or the command was refused.
        """
        self._refuse()
        after = Given(self.given.cls, self.given.schema, [*self.given.events, *self.events])
        state = after.state()
        if not check(state):
            raise ScenarioFailure(f"{self.given.cls.__name__} reached an unexpected state: {state}")
        return after

    def then_raises(self, expected: type[Exception] | Exception) -> None:
        """The command is refused with an error of that class, or with one equal to that.

        Raises:
            ScenarioFailure: it is not refused, or with another error.
        """
        if self.error is None:
            raise ScenarioFailure(
                f"expected {expected!r}, but {self.given.cls.__name__} decided {_list(self._lines(self.events))}"
            )
        if isinstance(expected, type):
            fits = isinstance(self.error, expected)
        else:
            fits = type(self.error) is type(expected) and self.error.args == expected.args
        if not fits:
            raise ScenarioFailure(f"expected {expected!r}, but {self.given.cls.__name__} raised {self.error!r}")

    def _refuse(self) -> None:
        if self.error is not None:
            raise ScenarioFailure(f"{self.given.cls.__name__} refused the command: {self.error!r}") from self.error

    def _lines(self, events: tuple[object, ...] | list[object]) -> list[str]:
        encoded = [self.given.schema.encode(one) for one in events]
        return [f"{one.type} {json.dumps(json.loads(one.payload), sort_keys=True)}" for one in encoded]


def _list(lines: list[str]) -> str:
    return ", ".join(lines) or "nothing"
