"""Makes the messages of requests: pure, shared by the blocking and the asyncio client."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime

from .keys import KEY_TAG, aggregate_id
from .model import (
    AggregateRef,
    AsOf,
    CancelSchedule,
    Change,
    Expected,
    Expecting,
    Filter,
    Metadata,
    NewEvent,
    NewSnapshot,
    ScheduleChange,
    Upcasting,
)
from .times import to_micros
from .v1 import append_pb2, event_pb2, query_pb2, schedule_pb2, settings_pb2, snapshot_pb2


def aggregate_name(aggregate: AggregateRef) -> event_pb2.AggregateName:
    return event_pb2.AggregateName(type=aggregate.type, id=aggregate.id.bytes)


def expected(expecting: Expecting) -> event_pb2.ExpectedVersion:
    if isinstance(expecting, Expected):
        return event_pb2.ExpectedVersion(**{expecting.value: True})
    if expecting < 0:
        raise ValueError(f"an expected version is 0 or more, not {expecting}")
    return event_pb2.ExpectedVersion(exact=expecting)


def metadata(of: Metadata, key: str | None) -> event_pb2.Metadata | None:
    """The metadata with the aggregate's key among the tags; None when nothing is given."""
    tags = dict(of.tags)
    if key is not None:
        tags[KEY_TAG] = key
    message = event_pb2.Metadata(
        user_id=of.user_id,
        role=of.role,
        occurred_at_micros=to_micros(of.occurred_at) if of.occurred_at is not None else 0,
        correlation_id=of.correlation_id,
        causation_id=of.causation_id,
        request_id=of.request_id,
        source=of.source,
        traceparent=of.traceparent,
        tracestate=of.tracestate,
        tags=[event_pb2.Tag(key=name, value=value) for name, value in tags.items()],
    )
    return message if message.ByteSize() else None


def event(of: NewEvent, key: str | None = None) -> event_pb2.Event:
    return event_pb2.Event(
        id=of.id.bytes,
        type=of.type,
        content_type=of.content_type,
        schema_version=of.schema_version,
        metadata=metadata(of.metadata, key),
        payload=of.body,
    )


def new_snapshot(of: NewSnapshot) -> snapshot_pb2.NewSnapshot:
    from .model import encode_payload

    return snapshot_pb2.NewSnapshot(
        schema_version=of.schema_version, content_type=of.content_type, payload=encode_payload(of.state)
    )


def schedule_change(change: ScheduleChange) -> schedule_pb2.ScheduleChange:
    if isinstance(change, CancelSchedule):
        return schedule_pb2.ScheduleChange(cancel=change.key)
    return schedule_pb2.ScheduleChange(
        set=schedule_pb2.Schedule(
            key=change.key,
            due_micros=to_micros(change.due),
            aggregate=aggregate_name(change.aggregate),
            event=event(change.event, change.aggregate.key),
            lateness_millis_max=change.lateness_millis_max,
        )
    )


def append(
    tenant: uuid.UUID,
    changes: Iterable[Change],
    schedules: Iterable[ScheduleChange] = (),
    checkpoint: append_pb2.AppendCheckpoint | None = None,
    conflicting_events: bool = False,
) -> append_pb2.AppendRequest:
    return append_pb2.AppendRequest(
        tenant=tenant.bytes,
        aggregates=[
            append_pb2.AggregateAppend(
                aggregate=aggregate_name(change.aggregate),
                expected=expected(change.expecting),
                events=[event(each, change.aggregate.key) for each in change.events],
                snapshot=new_snapshot(change.snapshot) if change.snapshot is not None else None,
            )
            for change in changes
        ],
        include_conflicting_events=conflicting_events,
        checkpoint=checkpoint,
        schedules=[schedule_change(each) for each in schedules],
    )


def event_filter(of: Filter | None) -> event_pb2.EventFilter | None:
    if of is None:
        return None
    return event_pb2.EventFilter(
        aggregate_types=_texts(of.aggregate_types),
        event_types=_texts(of.event_types),
        aggregate_ids=[each.bytes for each in of.aggregate_ids],
    )


def _texts(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise TypeError(f"a filter takes a list of names, not the text {texts!r}")
    return list(texts)


def upcasting(of: Upcasting | None) -> event_pb2.Upcasting | None:
    if of is None:
        return None
    policy = event_pb2.UPCAST_FAILURE_POLICY_RAW if of.keep_failed else event_pb2.UPCAST_FAILURE_POLICY_UNSPECIFIED
    return event_pb2.Upcasting(
        raw=of.raw,
        on_failure=policy,
        stop_at=[event_pb2.SchemaVersionMax(event_type=k, schema_version=v) for k, v in of.stop_at.items()],
    )


def snapshot_use(snapshot: bool | Sequence[int]) -> snapshot_pb2.SnapshotUse | None:
    """True: any schema version; a list of those that the caller can read; False: none."""
    if snapshot is False:
        return None
    return snapshot_pb2.SnapshotUse(schema_versions=[] if snapshot is True else snapshot)


def load(
    tenant: uuid.UUID,
    aggregate: AggregateRef,
    after: int,
    as_of: AsOf | None,
    backward: bool,
    snapshot: bool | Sequence[int],
    max_events: int,
    upcast: Upcasting | None,
) -> query_pb2.LoadRequest:
    request = query_pb2.LoadRequest(
        tenant=tenant.bytes,
        aggregate=aggregate_name(aggregate),
        after_version=after,
        direction=_direction(backward),
        events_max=max_events,
        snapshot=snapshot_use(snapshot),
        upcasting=upcasting(upcast),
    )
    if as_of is None:
        return request
    if isinstance(as_of.value, datetime):
        request.as_of_time_micros = to_micros(as_of.value)
    elif as_of.kind == "version":
        request.to_version = as_of.value
    else:
        request.as_of_position = as_of.value
    return request


def read(
    tenant: uuid.UUID,
    after: int,
    to: int | datetime | None,
    backward: bool,
    which: Filter | None,
    max_events: int,
    upcast: Upcasting | None,
) -> query_pb2.ReadRequest:
    request = query_pb2.ReadRequest(
        tenant=tenant.bytes,
        after_position=after,
        direction=_direction(backward),
        filter=event_filter(which),
        events_max=max_events,
        upcasting=upcasting(upcast),
    )
    if isinstance(to, datetime):
        request.as_of_time_micros = to_micros(to)
    elif to is not None:
        request.to_position = to
    return request


def _direction(backward: bool) -> query_pb2.Direction:
    return query_pb2.DIRECTION_BACKWARD if backward else query_pb2.DIRECTION_FORWARD


def save_snapshot(
    tenant: uuid.UUID, aggregate: AggregateRef, version: int, snapshot: NewSnapshot
) -> snapshot_pb2.SaveSnapshotRequest:
    return snapshot_pb2.SaveSnapshotRequest(
        tenant=tenant.bytes, aggregate=aggregate_name(aggregate), version=version, snapshot=new_snapshot(snapshot)
    )


def load_snapshot(
    tenant: uuid.UUID,
    aggregate: AggregateRef,
    to_version: int,
    schema_versions: Sequence[int],
    upcast: Upcasting | None,
) -> snapshot_pb2.LoadSnapshotRequest:
    return snapshot_pb2.LoadSnapshotRequest(
        tenant=tenant.bytes,
        aggregate=aggregate_name(aggregate),
        to_version=to_version,
        use=snapshot_pb2.SnapshotUse(schema_versions=schema_versions),
        upcasting=upcasting(upcast),
    )


def put_settings(
    tenant: uuid.UUID, kind: str, document: str | bytes, expected_revision: int | None
) -> settings_pb2.PutSettingsRequest:
    request = settings_pb2.PutSettingsRequest(
        tenant=tenant.bytes, kind=kind, document=document.encode() if isinstance(document, str) else document
    )
    if expected_revision is not None:
        request.expected_revision = expected_revision
    return request


#: Schedules of one page of a list.
SCHEDULES_PER_PAGE = 500


def reference(tenant: uuid.UUID, type: str, id: str | uuid.UUID | None, key: str | None) -> AggregateRef:
    """The aggregate with that id, or with the id that is derived from the key."""
    if (id is None) == (key is None):
        raise ValueError("an aggregate has either an id or a key")
    if key is not None:
        return AggregateRef(type, aggregate_id(tenant, type, key), key)
    return AggregateRef(type, id if isinstance(id, uuid.UUID) else uuid.UUID(id))


def changes(given: Change | Iterable[Change]) -> list[Change]:
    """One change or several, as a list."""
    return [given] if isinstance(given, Change) else list(given)


def session(request: append_pb2.AppendRequest, seconds: float | None) -> append_pb2.AppendSessionRequest:
    """The only append of a session."""
    millis = 0 if seconds is None else max(1, int(seconds * 1000))
    return append_pb2.AppendSessionRequest(request_id=1, append=request, timeout_millis=millis)
