"""Reads the messages of answers: pure, shared by the blocking and the asyncio client."""

from __future__ import annotations

import uuid

from .errors import Conflict
from .model import (
    ANY,
    EXISTS,
    NONE,
    AggregateRef,
    AppendedAggregate,
    Event,
    Expecting,
    Head,
    ListedSchedule,
    Metadata,
    Receipt,
    ScheduleOutcome,
    ServerInfo,
    Snapshot,
    SnapshotInfo,
)
from .times import from_micros
from .v1 import admin_pb2, append_pb2, event_pb2, query_pb2, schedule_pb2, snapshot_pb2, status_pb2

_NO_METADATA = Metadata()


def metadata(message: event_pb2.Metadata) -> Metadata:
    micros = message.occurred_at_micros
    return Metadata(
        user_id=message.user_id,
        role=message.role,
        occurred_at=from_micros(micros) if micros else None,
        correlation_id=message.correlation_id,
        causation_id=message.causation_id,
        request_id=message.request_id,
        source=message.source,
        traceparent=message.traceparent,
        tracestate=message.tracestate,
        tags={tag.key: tag.value for tag in message.tags},
    )


def event(message: event_pb2.RecordedEvent) -> Event:
    written = message.event
    return Event(
        id=uuid.UUID(bytes=written.id),
        type=written.type,
        payload=written.payload,
        version=message.version,
        position=message.position,
        recorded_at=from_micros(message.recorded_at_micros),
        aggregate_type=message.aggregate_type,
        aggregate_id=uuid.UUID(bytes=message.aggregate_id),
        schema_version=written.schema_version or 1,
        content_type=written.content_type or "application/json",
        metadata=metadata(written.metadata) if written.HasField("metadata") else _NO_METADATA,
        stored_schema_version=message.stored_schema_version or None,
        stored_type=message.stored_type or None,
        upcast_failure=message.upcast_failure or None,
    )


def snapshot(message: snapshot_pb2.Snapshot) -> Snapshot:
    return Snapshot(
        version=message.version,
        payload=message.payload,
        schema_version=message.schema_version or 1,
        content_type=message.content_type or "application/json",
        created_at=from_micros(message.created_at_micros),
        stored_schema_version=message.stored_schema_version or None,
    )


def snapshot_info(message: snapshot_pb2.SnapshotInfo) -> SnapshotInfo:
    return SnapshotInfo(
        version=message.version,
        schema_version=message.schema_version or 1,
        content_type=message.content_type or "application/json",
        created_at=from_micros(message.created_at_micros),
        payload_bytes=message.payload_bytes,
        intact=message.intact,
    )


def head(message: query_pb2.Head) -> Head:
    return Head(message.position, from_micros(message.recorded_at_micros) if message.position else None)


def receipt(message: append_pb2.AppendResponse) -> Receipt:
    return Receipt(
        aggregates=tuple(
            AppendedAggregate(
                type=each.aggregate.type,
                id=uuid.UUID(bytes=each.aggregate.id),
                first_version=each.first_version,
                last_version=each.last_version,
                snapshot_due=each.snapshot_due,
            )
            for each in message.aggregates
        ),
        first_position=message.first_position,
        last_position=message.last_position,
        recorded_at=from_micros(message.recorded_at_micros),
        replayed=message.replayed,
        checkpoint_stored=message.checkpoint_stored,
    )


def expected(message: event_pb2.ExpectedVersion) -> Expecting:
    kind = message.WhichOneof("condition")
    if kind == "exact":
        return message.exact
    return {"any": ANY, "none": NONE, "exists": EXISTS}.get(kind or "any", ANY)


def conflict(message: status_pb2.VersionConflict) -> Conflict:
    return Conflict(
        aggregate_type=message.aggregate.type,
        aggregate_id=uuid.UUID(bytes=message.aggregate.id),
        expected=expected(message.expected),
        actual=message.actual,
        events=tuple(event(each) for each in message.events),
        events_truncated=message.events_truncated,
    )


_OUTCOMES = {
    schedule_pb2.SCHEDULE_OUTCOME_SET: ScheduleOutcome.SET,
    schedule_pb2.SCHEDULE_OUTCOME_MOVED: ScheduleOutcome.MOVED,
    schedule_pb2.SCHEDULE_OUTCOME_CANCELLED: ScheduleOutcome.CANCELLED,
    schedule_pb2.SCHEDULE_OUTCOME_ABSENT: ScheduleOutcome.ABSENT,
    schedule_pb2.SCHEDULE_OUTCOME_FIRED: ScheduleOutcome.FIRED,
}


def schedule_outcomes(message: schedule_pb2.ChangeSchedulesResponse) -> list[ScheduleOutcome]:
    return [_OUTCOMES[each] for each in message.outcomes]


def listed_schedule(message: schedule_pb2.ListedSchedule) -> ListedSchedule:
    return ListedSchedule(
        key=message.key,
        due=from_micros(message.due_micros),
        aggregate=AggregateRef(message.aggregate.type, uuid.UUID(bytes=message.aggregate.id)),
        event_id=uuid.UUID(bytes=message.event_id),
        event_type=message.event_type,
        payload_bytes=message.payload_bytes,
        lateness_millis_max=message.lateness_millis_max,
        parked=message.parked,
        parked_reason=message.parked_reason,
    )


def server_info(message: admin_pb2.GetServerInfoResponse) -> ServerInfo:
    return ServerInfo(
        server_version=message.server_version,
        identity=message.identity,
        tenants=tuple(uuid.UUID(bytes=each) for each in message.tenants),
        all_tenants=message.all_tenants,
        features=tuple(message.features),
        server_time=from_micros(message.server_time_micros),
        frame_bytes_max=message.limits.frame_bytes_max,
        limits={field.name: value for field, value in message.limits.ListFields() if isinstance(value, int)},
    )
