"""Repositories: load the aggregates of a class, and carry out commands on them. One waits, one is awaited."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from ._aggregate import A, Executed, Loaded, schema_of
from ._program import (
    Append,
    Effect,
    Load,
    Options,
    Pause,
    Program,
    R,
    RepositoryFigures,
    SaveSnapshot,
    SnapshotPolicy,
    Target,
    executing,
    loading,
    saving,
)

if TYPE_CHECKING:
    from ..aio.tenant import Tenant as AsyncTenant
    from ..model import AsOf, Metadata
    from ..tenant import Tenant

# An aggregate's key, or its id.
Key = str | uuid.UUID


class _Base(Generic[A]):
    def __init__(self, tenant: Any, cls: type[A], snapshots: SnapshotPolicy, decisions_max: int) -> None:
        self.tenant = tenant
        self.cls = cls
        self.schema = schema_of(cls)
        self.figures = RepositoryFigures()
        """What this repository has done so far."""
        self._options = Options(snapshots, decisions_max)

    def at(self, key: Key) -> Target[A]:
        """Names an aggregate of this repository, for `execute_together`.

        Args:
            key: its key, or its id.
        """
        named = {"id": key} if isinstance(key, uuid.UUID) else {"key": key}
        handle = self.tenant.aggregate(self.schema.aggregate_type, **named)
        return Target(self.schema, self.cls, handle, self._options, self.figures)


class Repository(_Base[A]):
    """Loads the aggregates of one class and tenant, and carries out commands on them. May be used by several threads.

    ```python
    orders = tenant.repository(Order)
    orders.execute("A-17", lambda order: order.place(500))
    orders.load("A-17").state
    ```
    """

    def __init__(
        self, tenant: Tenant, cls: type[A], *, snapshots: SnapshotPolicy = "due", decisions_max: int = 20
    ) -> None:
        """A repository of a tenant's aggregates of that class.

        Args:
            tenant: the tenant.
            cls: the class of aggregates.
            snapshots: "due" saves a snapshot after an append when the server says that one is due by the tenant's
                policy; a number saves one in the same append when so many events have come since the last; "never".
            decisions_max: how often a command is decided in all, when others write to its aggregates in between.
        """
        super().__init__(tenant, cls, snapshots, decisions_max)

    def load(self, key: Key, *, as_of: AsOf | None = None) -> Loaded[A]:
        """The aggregate, now or as of a version, a position or a time: from the newest usable snapshot and the events
        after it.

        Raises:
            AggregateNotFound: it has no events.
            EventUndecodable: one of its events cannot be read.
            MartletError: the call failed.
        """
        return _run(loading(self.at(key), as_of), self.tenant)

    def execute(self, key: Key, command: Callable[[A], object], *, metadata: Metadata | None = None) -> Executed[A]:
        """Carries out a command: loads the aggregate, lets it decide, and appends the events if nothing came in
        between. If something did, it is applied, and the command decides again.

        The events are durable when this returns, and stored once: an append is sent again with the same event ids. An
        aggregate without events decides in the state before the first.

        Args:
            key: the aggregate's key, or its id.
            command: a method of the class or any function of its state. It returns None, an event, or several, and
                changes nothing. It may be called more than once.
            metadata: of the events. The time, and correlation and causation ids if it has none, are added.

        Raises:
            VersionConflict: others were faster `decisions_max` times.
            MartletError: the call failed. After a retryable one, the events may be stored or not: load, and look.
            Exception: whatever the command raises.
        """
        return _run(executing([self.at(key)], _alone(command), metadata), self.tenant)[0]

    def save_snapshot(self, loaded: Loaded[A]) -> bool:
        """Saves a snapshot of a loaded aggregate; whether that succeeded. A failure is logged."""
        return _run(saving(self.at(loaded.key or loaded.id), loaded), self.tenant)


class AsyncRepository(_Base[A]):
    """As `Repository`, for asyncio."""

    def __init__(
        self, tenant: AsyncTenant, cls: type[A], *, snapshots: SnapshotPolicy = "due", decisions_max: int = 20
    ) -> None:
        """As `Repository`."""
        super().__init__(tenant, cls, snapshots, decisions_max)

    async def load(self, key: Key, *, as_of: AsOf | None = None) -> Loaded[A]:
        """As `Repository.load`."""
        return await _run_async(loading(self.at(key), as_of), self.tenant)

    async def execute(
        self, key: Key, command: Callable[[A], object], *, metadata: Metadata | None = None
    ) -> Executed[A]:
        """As `Repository.execute`. The command itself is an ordinary function: it decides and does not wait."""
        return (await _run_async(executing([self.at(key)], _alone(command), metadata), self.tenant))[0]

    async def save_snapshot(self, loaded: Loaded[A]) -> bool:
        """As `Repository.save_snapshot`."""
        return await _run_async(saving(self.at(loaded.key or loaded.id), loaded), self.tenant)


def _alone(command: Callable[[A], object]) -> Callable[[list[Any]], Sequence[object]]:
    return lambda states: [command(states[0])]


# Commands over several aggregates.

First = TypeVar("First", bound=Any)
Second = TypeVar("Second", bound=Any)


@overload
def execute_together(
    first: Target[First],
    second: Target[Second],
    /,
    *,
    command: Callable[[First, Second], tuple[object, object]],
    metadata: Metadata | None = None,
) -> tuple[Executed[First], Executed[Second]]: ...


@overload
def execute_together(
    *targets: Target[Any], command: Callable[..., Sequence[object]], metadata: Metadata | None = None
) -> tuple[Executed[Any], ...]: ...


def execute_together(
    *targets: Target[Any], command: Callable[..., Sequence[object]], metadata: Metadata | None = None
) -> tuple[Executed[Any], ...]:
    """Carries out a command over several aggregates of a tenant: what it decides for all of them is stored in one
    append, or nothing.

    ```python
    execute_together(orders.at("A-17"), accounts.at("ada"), command=lambda order, ada: (order.pay(), ada.charge(500)))
    ```

    An aggregate for which nothing is decided is not part of the append, so it may have changed meanwhile.

    Args:
        targets: 1 to 100 aggregates, each once.
        command: gets their states, and returns for each None, an event, or several.
        metadata: of the events, as for `Repository.execute`.

    Raises: as `Repository.execute`.
    """
    program = executing(targets, lambda states: command(*states), metadata)
    return tuple(_run(program, targets[0].handle.tenant))


@overload
async def execute_together_async(
    first: Target[First],
    second: Target[Second],
    /,
    *,
    command: Callable[[First, Second], tuple[object, object]],
    metadata: Metadata | None = None,
) -> tuple[Executed[First], Executed[Second]]: ...


@overload
async def execute_together_async(
    *targets: Target[Any], command: Callable[..., Sequence[object]], metadata: Metadata | None = None
) -> tuple[Executed[Any], ...]: ...


async def execute_together_async(
    *targets: Target[Any], command: Callable[..., Sequence[object]], metadata: Metadata | None = None
) -> tuple[Executed[Any], ...]:
    """As `execute_together`, for targets of `AsyncRepository`."""
    program = executing(targets, lambda states: command(*states), metadata)
    return tuple(await _run_async(program, targets[0].handle.tenant))


# Carrying out effects.


def _run(program: Program[R], tenant: Any) -> R:
    try:
        effect = next(program)
        while True:
            try:
                result = _carry_out(effect, tenant)
            except Exception as error:
                effect = program.throw(error)
            else:
                effect = program.send(result)
    except StopIteration as end:
        return cast(R, end.value)


async def _run_async(program: Program[R], tenant: Any) -> R:
    try:
        effect = next(program)
        while True:
            try:
                if isinstance(effect, Pause):
                    await asyncio.sleep(effect.seconds)
                    result = None
                else:
                    result = await _carry_out(effect, tenant)
            except Exception as error:
                effect = program.throw(error)
            else:
                effect = program.send(result)
    except StopIteration as end:
        return cast(R, end.value)


def _carry_out(effect: Effect, tenant: Any) -> Any:
    """Makes the call of an effect; of an asyncio tenant, the result is to be awaited."""
    match effect:
        case Load():
            return effect.handle.load(
                after=effect.after,
                as_of=effect.as_of,
                snapshot=effect.snapshot,
                upcasting=effect.upcasting,
            )
        case Append():
            return tenant.append(effect.changes)
        case SaveSnapshot():
            return effect.handle.save_snapshot(
                effect.payload, version=effect.version, schema_version=effect.schema_version
            )
        case Pause():
            time.sleep(effect.seconds)
            return None
