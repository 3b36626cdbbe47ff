"""What loading and executing do, as programs without I/O: generators that ask for effects and get their results.

The repositories carry the effects out, one with calls that wait and one with calls that are awaited.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import logging
import random
import uuid
from collections.abc import Callable, Generator, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar

import grpc

from ..errors import MartletError, VersionConflict
from ..keys import new_id
from ..model import AsOf, Change, Event, History, Metadata, NewEvent, NewSnapshot, Receipt, Upcasting
from ._aggregate import A, AggregateNotFound, Executed, Loaded, decided
from ._schema import EventUndecodable, Schema, SnapshotUndecodable, StoredEvent

log = logging.getLogger("martlet.aggregates")

R = TypeVar("R")

SnapshotPolicy = int | Literal["due", "never"]

BACKOFF_SECONDS = 0.005, 1.0


class Handle(Protocol):
    """An aggregate's handle, sync or asyncio, as far as the programs look at it."""

    @property
    def id(self) -> uuid.UUID: ...

    @property
    def key(self) -> str | None: ...

    @property
    def type(self) -> str: ...

    @property
    def tenant(self) -> Any: ...

    def change(
        self, events: Sequence[NewEvent], *, expecting: Any = ..., snapshot: NewSnapshot | None = ...
    ) -> Change: ...


@dataclasses.dataclass
class RepositoryFigures:
    """What a repository has done so far."""

    loads: int = 0
    """Loads, those of commands included."""
    events_replayed: int = 0
    """Events that were applied to rebuild states."""
    snapshots_used: int = 0
    """Loads that began with a snapshot."""
    snapshots_skipped: int = 0
    """Snapshots that the server passed over: of a schema that this program cannot read, damaged, or not upcast."""
    snapshots_undecodable: int = 0
    """Snapshots that came and could not be read here; the events were replayed instead."""
    snapshots_saved: int = 0
    """Snapshots saved."""
    snapshot_saves_failed: int = 0
    """Snapshots that could not be saved; their commands were carried out all the same."""
    commands: int = 0
    """Commands that were carried out, those without events included."""
    conflicts: int = 0
    """Times that a command was decided again on what others had written."""
    unknown_events_skipped: int = 0
    """Events of unknown types that were passed over."""


@dataclasses.dataclass(frozen=True)
class Options:
    """How a repository works."""

    snapshots: SnapshotPolicy = "due"
    decisions_max: int = 20

    def __post_init__(self) -> None:
        if self.decisions_max < 1:
            raise ValueError(f"decisions_max is {self.decisions_max}, but must be at least 1")
        if isinstance(self.snapshots, int) and self.snapshots < 1:
            raise ValueError(f"snapshots is every {self.snapshots} events, but must be at least 1, 'due' or 'never'")


# Effects.


@dataclasses.dataclass(frozen=True)
class Load:
    """Asks for an aggregate's history. Its result is a History."""

    handle: Any
    after: int = 0
    as_of: AsOf | None = None
    snapshot: bool | Sequence[int] = False
    upcasting: Upcasting | None = None


@dataclasses.dataclass(frozen=True)
class Append:
    """Asks to append. Its result is a Receipt."""

    changes: list[Change]


@dataclasses.dataclass(frozen=True)
class SaveSnapshot:
    """Asks to save a snapshot. Its result is whether it was kept."""

    handle: Any
    version: int
    payload: bytes
    schema_version: int


@dataclasses.dataclass(frozen=True)
class Pause:
    """Asks to wait."""

    seconds: float


Effect = Load | Append | SaveSnapshot | Pause
Program = Generator[Effect, Any, R]


@dataclasses.dataclass(frozen=True)
class Target(Generic[A]):
    """An aggregate that a command is for: of a repository, by its key or id."""

    schema: Schema
    cls: type[A]
    handle: Handle
    options: Options
    figures: RepositoryFigures

    @property
    def upcasting(self) -> Upcasting:
        """The server does not upcast beyond what this program knows: an older program can run beside a newer one."""
        return Upcasting(stop_at=self.schema.stop_at)

    @property
    def place(self) -> str:
        """The aggregate, for messages."""
        return f"{self.handle.type}/{self.handle.key or self.handle.id}"


def loading(target: Target[A], as_of: AsOf | None = None, *, may_be_new: bool = False) -> Program[Loaded[A]]:
    """Loads an aggregate from the newest usable snapshot and the events after it.

    Raises:
        AggregateNotFound: it has no events, and `may_be_new` is not set.
    """
    schema, figures = target.schema, target.figures
    figures.loads += 1
    schemas = schema.readable_snapshots if schema.has_snapshots else False
    history: History = yield Load(target.handle, as_of=as_of, snapshot=schemas, upcasting=target.upcasting)
    figures.snapshots_skipped += history.snapshots_skipped
    loaded = _new(target, history)
    if history.snapshot is not None:
        try:
            loaded.state = schema.decode_state(history.snapshot.payload, history.snapshot.schema_version)
            loaded.version = loaded.snapshot_version = history.snapshot.version
            figures.snapshots_used += 1
        except SnapshotUndecodable as problem:
            figures.snapshots_undecodable += 1
            log.warning(
                "%s: the snapshot of version %d cannot be used; the events are replayed: %s",
                target.place,
                history.snapshot.version,
                problem,
            )
            history = yield Load(target.handle, as_of=AsOf.position(history.position), upcasting=target.upcasting)
            loaded = _new(target, history)
    _replay(target, loaded, history.events)
    loaded.version = max(loaded.version, history.version)
    if loaded.version == 0 and not may_be_new:
        raise AggregateNotFound(f"{target.place} has no events{'' if as_of is None else f' as of {as_of}'}")
    return loaded


def _new(target: Target[A], history: History) -> Loaded[A]:
    return Loaded(target.cls(), target.handle.id, target.handle.key, position=history.position)


def catching_up(target: Target[A], loaded: Loaded[A]) -> Program[None]:
    """Brings a loaded aggregate up to date."""
    history: History = yield Load(target.handle, after=loaded.version, upcasting=target.upcasting)
    _replay(target, loaded, history.events)
    loaded.position = max(loaded.position, history.position)


def _replay(target: Target[A], loaded: Loaded[A], events: Sequence[Event]) -> None:
    for event in events:
        place = f"{target.place}, event {event.id} of version {event.version}"
        one = target.schema.decode(StoredEvent(event.type, event.schema_version, event.payload), place)
        if one is None:
            target.figures.unknown_events_skipped += 1
        else:
            try:
                loaded.state.apply(one)
            except Exception as error:
                raise EventUndecodable(f"{place}: apply failed: {type(error).__name__}: {error}") from error
        loaded.version = event.version
        loaded.events_replayed += 1
        target.figures.events_replayed += 1


@dataclasses.dataclass
class _Draft(Generic[A]):
    """What a command decided for an aggregate, on its way to the server."""

    target: Target[A]
    loaded: Loaded[A]
    events: list[object]
    stored: list[NewEvent]
    snapshot: NewSnapshot | None = None

    @property
    def version(self) -> int:
        return self.loaded.version + len(self.events)

    def change(self) -> Change:
        return self.target.handle.change(self.stored, expecting=self.loaded.version, snapshot=self.snapshot)


def executing(
    targets: Sequence[Target[Any]],
    decide: Callable[[list[Any]], Sequence[object]],
    metadata: Metadata | None = None,
) -> Program[list[Executed[Any]]]:
    """Loads aggregates, lets a command decide, and appends what it decides for all of them in one call. If another
    writer was faster, the aggregates are brought up to date and the command decides again.

    Args:
        targets: the aggregates.
        decide: gets their states, and returns for each what happens: None, an event, or several.
        metadata: of all its events.
    """
    if len({(one.handle.type, one.handle.id) for one in targets}) < len(targets):
        raise ValueError("a command names the same aggregate twice")
    metadata = completed(metadata)
    loaded = []
    for target in targets:
        loaded.append((yield from loading(target, may_be_new=True)))
    decisions = 0
    while True:
        decisions += 1
        results = decide([one.state for one in loaded])
        if len(results) != len(targets):
            raise ValueError(f"the command returned {len(results)} results for {len(targets)} aggregates")
        drafts = [
            _draft(target, one, decided(result), metadata)
            for target, one, result in zip(targets, loaded, results, strict=True)
        ]
        try:
            receipt = yield from _appending(drafts)
        except VersionConflict:
            if decisions >= min(one.options.decisions_max for one in targets):
                raise
            for target, one in zip(targets, loaded, strict=True):
                target.figures.conflicts += 1
                yield from catching_up(target, one)
            # The first conflict costs nothing to try again; a crowd is pulled apart.
            if decisions > 1:
                yield Pause(random.uniform(0, min(BACKOFF_SECONDS[0] * 2**decisions, BACKOFF_SECONDS[1])))
            continue
        executed = []
        for draft in drafts:
            draft.target.figures.commands += 1
            yield from _finishing(draft, receipt)
            executed.append(Executed(draft.loaded, draft.events, receipt if draft.events else None, decisions))
        return executed


def _draft(target: Target[A], loaded: Loaded[A], events: list[object], metadata: Metadata) -> _Draft[A]:
    schema = target.schema
    read_back = [schema.read_back(one) for one in events]
    stored = []
    for one in events:
        encoded = schema.encode(one)
        stored.append(
            NewEvent(
                encoded.type, encoded.payload, id=new_id(), schema_version=encoded.schema_version, metadata=metadata
            )
        )
    draft = _Draft(target, loaded, read_back, stored)
    every = target.options.snapshots
    if not events or not isinstance(every, int) or not schema.has_snapshots:
        return draft
    if draft.version - loaded.snapshot_version >= every:
        # The state before stays as it is, for the case that somebody else is faster.
        after = copy.deepcopy(loaded.state)
        for one in read_back:
            after.apply(one)
        draft.snapshot = NewSnapshot(schema.encode_state(after), schema_version=schema.snapshot_version)
    return draft


def _appending(drafts: list[_Draft[Any]]) -> Program[Receipt | None]:
    """Appends; the client itself sends an append again, with the same event ids, until its outcome is known."""
    changed = [draft for draft in drafts if draft.events]
    if not changed:
        return None
    while True:
        try:
            receipt: Receipt = yield Append([draft.change() for draft in changed])
            return receipt
        except VersionConflict:
            raise
        except MartletError as error:
            with_snapshot = [draft for draft in changed if draft.snapshot is not None]
            if error.retryable or error.code is not grpc.StatusCode.INVALID_ARGUMENT or not with_snapshot:
                raise
            # Too large a snapshot, most likely. The events count.
            for draft in with_snapshot:
                _snapshot_failed(draft, error)
                draft.snapshot = None


def _finishing(draft: _Draft[Any], receipt: Receipt | None) -> Program[None]:
    if receipt is None or not draft.events:
        return
    target, loaded = draft.target, draft.loaded
    for one in draft.events:
        loaded.state.apply(one)
    loaded.version = draft.version
    loaded.position = receipt.last_position
    if draft.snapshot is not None:
        target.figures.snapshots_saved += 1
        loaded.snapshot_version = loaded.version
    elif target.options.snapshots == "due" and target.schema.has_snapshots:
        handle = target.handle
        if any(one.snapshot_due for one in receipt.aggregates if (one.type, one.id) == (handle.type, handle.id)):
            yield from saving(draft.target, loaded)


def saving(target: Target[Any], loaded: Loaded[Any]) -> Program[bool]:
    """Saves a snapshot of a loaded aggregate. A failure is logged and counted, not raised."""
    try:
        payload = target.schema.encode_state(loaded.state)
        yield SaveSnapshot(target.handle, loaded.version, payload, target.schema.snapshot_version)
    except (MartletError, TypeError, ValueError) as error:
        target.figures.snapshot_saves_failed += 1
        log.warning("%s: the snapshot of version %d was not saved: %s", target.place, loaded.version, error)
        return False
    target.figures.snapshots_saved += 1
    loaded.snapshot_version = loaded.version
    return True


def _snapshot_failed(draft: _Draft[Any], error: MartletError) -> None:
    draft.target.figures.snapshot_saves_failed += 1
    log.warning("%s: the snapshot of version %d was not saved: %s", draft.target.place, draft.version, error)


def completed(metadata: Metadata | None) -> Metadata:
    """Metadata with the time, and with a correlation and a causation id if it has none."""
    given = metadata or Metadata()
    command = str(new_id())
    return dataclasses.replace(
        given,
        occurred_at=given.occurred_at or datetime.datetime.now(datetime.timezone.utc),
        correlation_id=given.correlation_id or command,
        causation_id=given.causation_id or command,
    )


def caused_by(event: Event) -> Metadata:
    """Metadata for what is done about an event: of the same business transaction, caused by the event."""
    origin = event.metadata
    return Metadata(
        user_id=origin.user_id,
        role=origin.role,
        correlation_id=origin.correlation_id or str(event.id),
        causation_id=str(event.id),
        traceparent=origin.traceparent,
        tracestate=origin.tracestate,
    )
