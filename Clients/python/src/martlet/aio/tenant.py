"""Handles of a tenant and of its aggregates, for asyncio."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from .. import answers, methods, requests
from ..client import DEFAULT, Timeout, seconds_of
from ..endpoints import Endpoint
from ..errors import of_status, stream_ended
from ..model import (
    After,
    AggregateRef,
    AsOf,
    CancelSchedule,
    Change,
    Document,
    Event,
    Expecting,
    Filter,
    Head,
    History,
    ListedSchedule,
    NewEvent,
    NewSnapshot,
    Payload,
    Receipt,
    Schedule,
    ScheduleChange,
    ScheduleOutcome,
    Signal,
    Snapshot,
    SnapshotInfo,
    Upcasting,
    event_list,
)
from ..streams import Following, Loading, Reading, Subscribing
from ..v1 import append_pb2, query_pb2, schedule_pb2, settings_pb2, snapshot_pb2
from .client import Client, Stream

if TYPE_CHECKING:
    from ..aggregates import AsyncRepository
    from ..aggregates._aggregate import A
    from ..aggregates._program import SnapshotPolicy
    from ..workers import AsyncConsumer


class Tenant:
    """A tenant: the owner of a closed set of events."""

    def __init__(self, client: Client, id: uuid.UUID) -> None:
        self.client = client
        self.id = id

    def __repr__(self) -> str:
        return f"<martlet.aio.Tenant {self.id}>"

    def aggregate(self, type: str, id: str | uuid.UUID | None = None, *, key: str | None = None) -> AggregateHandle:
        """A handle of an aggregate, by its id or by a key, from which the id is derived.

        A key is 1 to 512 bytes of UTF-8 without control characters. The events that are appended by key carry it in
        their metadata's tag `aggregate_key`.
        """
        return AggregateHandle(self, requests.reference(self.id, type, id, key))

    async def append(
        self,
        changes: Change | Iterable[Change],
        *,
        schedules: Iterable[ScheduleChange] = (),
        checkpoint: append_pb2.AppendCheckpoint | None = None,
        conflicting_events: bool = False,
        timeout: Timeout = DEFAULT,
    ) -> Receipt:
        """Appends to one or more aggregates; all of it is durable when this returns, or nothing is written.

        Sent again with the same event ids while that may help. VersionConflict if an expected version does not hold;
        with `conflicting_events`, it carries the events that came in between. OutcomeUnknown if the time has passed
        and the append may be stored: append the same events again to find out.
        """
        request = requests.append(self.id, requests.changes(changes), schedules, checkpoint, conflicting_events)
        if not conflicting_events:
            return answers.receipt(await self.client.call(methods.APPEND, request, timeout=timeout))

        async def once(endpoint: Endpoint, seconds: float | None) -> append_pb2.AppendResponse:
            # Conflicting events do not fit into the trailers of a unary call.
            call = endpoint.call(methods.APPEND_SESSION)(iter([requests.session(request, seconds)]), timeout=seconds)
            async for response in call:
                if response.HasField("status"):
                    raise of_status(response.status)
                appended: append_pb2.AppendResponse = response.append
                return appended
            raise stream_ended()

        return answers.receipt(await self.client.attempt(once, self.client.attempts(timeout, writes=True)))

    def read(
        self,
        *,
        after: int = 0,
        to: int | datetime | None = None,
        backward: bool = False,
        filter: Filter | None = None,
        max_events: int = 0,
        upcasting: Upcasting | None = None,
        timeout: Timeout = DEFAULT,
    ) -> Stream[Event]:
        """The tenant's events after a position, up to a position, a time or the head of now, oldest or newest first.

        Goes on by itself when the connection is lost. `timeout` bounds the wait for a next page.
        """
        machine = Reading(requests.read(self.id, after, to, backward, filter, max_events, upcasting))
        seconds = seconds_of(timeout, self.client.settings)
        return self.client.stream(machine, timeout=seconds, silence_max=seconds)

    def events(
        self,
        *,
        after: After = 0,
        from_time: datetime | None = None,
        from_head: bool = False,
        filter: Filter | None = None,
        upcasting: Upcasting | None = None,
    ) -> Stream[Event]:
        """Every matching event, first stored ones, then each new one as it is committed, for ever.

        Starts after a position (or an event that was seen), from a time, or with the next event. Lost connections and
        drains are not seen: the iteration goes on after the last event, without gap and without repeat.
        HistoryChanged if the storage has another past than the one that was delivered.
        """
        machine = Following(self._subscribing(after, from_time, from_head, filter, upcasting))
        return self.client.stream(machine, silence_max=self.client.settings.silence_max)

    def signals(
        self,
        *,
        after: After = 0,
        from_time: datetime | None = None,
        from_head: bool = False,
        filter: Filter | None = None,
        upcasting: Upcasting | None = None,
    ) -> Stream[Signal]:
        """The same as `events`, as batches (Events) between CaughtUp, FellBehind, Checkpoint and UpcastersChanged.

        Each carries the tenant's head, so that the lag is known. While idle, a Checkpoint comes every heartbeat.
        """
        machine = self._subscribing(after, from_time, from_head, filter, upcasting)
        return self.client.stream(machine, silence_max=self.client.settings.silence_max)

    def _subscribing(
        self,
        after: After,
        from_time: datetime | None,
        from_head: bool,
        filter: Filter | None,
        upcasting: Upcasting | None,
    ) -> Subscribing:
        return Subscribing(
            self.id,
            after=after,
            from_time=from_time,
            from_head=from_head,
            which=filter,
            upcasting=upcasting,
            heartbeat=self.client.settings.heartbeat,
        )

    async def head(self) -> Head:
        """The end of the tenant's events."""
        request = query_pb2.GetHeadRequest(tenant=self.id.bytes)
        return answers.head((await self.client.call(methods.GET_HEAD, request)).head)

    @property
    def schedules(self) -> Schedules:
        """The events that the server appends when their time has come."""
        return Schedules(self)

    @property
    def upcasters(self) -> SettingsDocument:
        """The tenant's upcasters, one document."""
        return SettingsDocument(self, "upcasters")

    @property
    def snapshot_policies(self) -> SettingsDocument:
        """When snapshots are due, and how many are kept, one document."""
        return SettingsDocument(self, "snapshot-policies")

    def consumer(self, name: str) -> AsyncConsumer:
        """A named place in the tenant's events that the server keeps, and that workers share."""
        from ..workers import AsyncConsumer

        return AsyncConsumer(self.client, self.id, name)

    def repository(
        self, aggregate: type[A], *, snapshots: SnapshotPolicy = "due", decisions_max: int = 20
    ) -> AsyncRepository[A]:
        """Loads the aggregates of a class and carries out commands on them; see `AsyncRepository`."""
        from ..aggregates import AsyncRepository

        return AsyncRepository(self, aggregate, snapshots=snapshots, decisions_max=decisions_max)


class AggregateHandle(AggregateRef):
    """An aggregate of a tenant."""

    tenant: Tenant

    def __init__(self, tenant: Tenant, reference: AggregateRef) -> None:
        super().__init__(reference.type, reference.id, reference.key)
        object.__setattr__(self, "tenant", tenant)

    def change(
        self,
        events: NewEvent | Iterable[NewEvent],
        *,
        expecting: Expecting,
        snapshot: NewSnapshot | None = None,
    ) -> Change:
        """What `Tenant.append` is to do to this aggregate, together with others."""
        return Change(self, event_list(events), expecting, snapshot)

    async def append(
        self,
        events: NewEvent | Iterable[NewEvent],
        *,
        expecting: Expecting,
        snapshot: NewSnapshot | None = None,
        schedules: Iterable[ScheduleChange] = (),
        conflicting_events: bool = False,
        timeout: Timeout = DEFAULT,
    ) -> Receipt:
        """Appends to this aggregate, as `Tenant.append` does."""
        change = self.change(events, expecting=expecting, snapshot=snapshot)
        return await self.tenant.append(
            change, schedules=schedules, conflicting_events=conflicting_events, timeout=timeout
        )

    async def load(
        self,
        *,
        after: int = 0,
        as_of: AsOf | None = None,
        backward: bool = False,
        snapshot: bool | Sequence[int] = False,
        max_events: int = 0,
        upcasting: Upcasting | None = None,
        timeout: Timeout = DEFAULT,
    ) -> History:
        """The aggregate's events after a version, as of a version, position or time, at most so many.

        With `snapshot` (True, or the schema versions that the caller can read), also the newest usable snapshot, and
        only the events after it. An aggregate without events has version 0.
        """
        machine = Loading(requests.load(self.tenant.id, self, after, as_of, backward, snapshot, max_events, upcasting))
        async with self.tenant.client.stream(machine, timeout=timeout) as stream:
            async for _ in stream:
                pass
        return machine.history()

    async def save_snapshot(
        self, state: Payload, *, version: int, schema_version: int = 1, content_type: str = "application/json"
    ) -> bool:
        """Saves the aggregate's state at a version that it has reached; whether the server keeps it."""
        request = requests.save_snapshot(
            self.tenant.id, self, version, NewSnapshot(state, schema_version, content_type)
        )
        return (await self.tenant.client.call(methods.SAVE_SNAPSHOT, request)).kept

    async def load_snapshot(
        self, *, to_version: int = 0, schema_versions: Sequence[int] = (), upcasting: Upcasting | None = None
    ) -> Snapshot | None:
        """The newest usable snapshot, not after that version (0: of all); None if there is none."""
        request = requests.load_snapshot(self.tenant.id, self, to_version, schema_versions, upcasting)
        answer = await self.tenant.client.call(methods.LOAD_SNAPSHOT, request)
        return answers.snapshot(answer.snapshot) if answer.HasField("snapshot") else None

    async def list_snapshots(self) -> list[SnapshotInfo]:
        """The aggregate's snapshots without their states, newest first."""
        request = snapshot_pb2.ListSnapshotsRequest(
            tenant=self.tenant.id.bytes, aggregate=requests.aggregate_name(self)
        )
        return [
            answers.snapshot_info(each)
            for each in (await self.tenant.client.call(methods.LIST_SNAPSHOTS, request)).snapshots
        ]

    async def delete_snapshots(self, version: int = 0) -> int:
        """Deletes the snapshot of a version, or all (0); how many there were."""
        request = snapshot_pb2.DeleteSnapshotsRequest(
            tenant=self.tenant.id.bytes, aggregate=requests.aggregate_name(self), version=version
        )
        return (await self.tenant.client.call(methods.DELETE_SNAPSHOTS, request)).deleted


class Schedules:
    """A tenant's schedules."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    async def change(self, changes: Iterable[ScheduleChange]) -> list[ScheduleOutcome]:
        """Sets and cancels up to 100 schedules, all or none; what became of each."""
        request = schedule_pb2.ChangeSchedulesRequest(
            tenant=self._tenant.id.bytes, changes=[requests.schedule_change(each) for each in changes]
        )
        return answers.schedule_outcomes(await self._tenant.client.call(methods.CHANGE_SCHEDULES, request))

    async def set(
        self, key: str, due: datetime, aggregate: AggregateRef, event: NewEvent, *, lateness_millis_max: int = 0
    ) -> ScheduleOutcome:
        """Has the server append the event when its time has come; replaces the schedule that has the key."""
        return (await self.change([Schedule(key, due, aggregate, event, lateness_millis_max)]))[0]

    async def cancel(self, key: str) -> ScheduleOutcome:
        """Deletes the schedule of that key."""
        return (await self.change([CancelSchedule(key)]))[0]

    async def list(self, *, after: str = "", parked_only: bool = False) -> AsyncIterator[ListedSchedule]:
        """The schedules by key, those after a key; asks for page after page."""
        while True:
            request = schedule_pb2.ListSchedulesRequest(
                tenant=self._tenant.id.bytes,
                after=after,
                parked_only=parked_only,
                count_max=requests.SCHEDULES_PER_PAGE,
            )
            page = (await self._tenant.client.call(methods.LIST_SCHEDULES, request)).schedules
            for each in page:
                yield answers.listed_schedule(each)
            if len(page) < requests.SCHEDULES_PER_PAGE:
                return
            after = page[-1].key


class SettingsDocument:
    """A tenant's settings of one kind: one JSON document, which is replaced as a whole."""

    def __init__(self, tenant: Tenant, kind: str) -> None:
        self._tenant = tenant
        self._kind = kind

    async def apply(self, document: str | bytes, *, expected_revision: int | None = None) -> int:
        """Puts the document in force (an empty one removes the settings); the new revision of the tenant's settings.

        With `expected_revision`, the settings must have that revision. InvalidRequest for a document that is not
        valid; the message names the place.
        """
        request = requests.put_settings(self._tenant.id, self._kind, document, expected_revision)
        repeatable = expected_revision is None
        return (await self._tenant.client.call(methods.PUT_SETTINGS, request, repeatable=repeatable)).revision

    async def get(self) -> Document:
        """The document as it was put, and the revision of the tenant's settings."""
        request = settings_pb2.GetSettingsRequest(tenant=self._tenant.id.bytes, kind=self._kind)
        answer = await self._tenant.client.call(methods.GET_SETTINGS, request)
        return Document(answer.document.decode(), answer.revision)
