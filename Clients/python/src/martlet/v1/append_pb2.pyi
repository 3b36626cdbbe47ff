from martlet.v1 import event_pb2 as _event_pb2
from martlet.v1 import schedule_pb2 as _schedule_pb2
from martlet.v1 import snapshot_pb2 as _snapshot_pb2
from martlet.v1 import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AggregateAppend(_message.Message):
    __slots__ = ["aggregate", "events", "expected", "snapshot"]
    AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    aggregate: _event_pb2.AggregateName
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    expected: _event_pb2.ExpectedVersion
    snapshot: _snapshot_pb2.NewSnapshot
    def __init__(self, aggregate: _Optional[_Union[_event_pb2.AggregateName, _Mapping]] = ..., expected: _Optional[_Union[_event_pb2.ExpectedVersion, _Mapping]] = ..., events: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ..., snapshot: _Optional[_Union[_snapshot_pb2.NewSnapshot, _Mapping]] = ...) -> None: ...

class AppendCheckpoint(_message.Message):
    __slots__ = ["consumer", "epoch", "event_id", "key", "key_blocked", "position", "slot"]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_BLOCKED_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    consumer: str
    epoch: int
    event_id: bytes
    key: bytes
    key_blocked: bool
    position: int
    slot: int
    def __init__(self, consumer: _Optional[str] = ..., slot: _Optional[int] = ..., epoch: _Optional[int] = ..., position: _Optional[int] = ..., event_id: _Optional[bytes] = ..., key: _Optional[bytes] = ..., key_blocked: bool = ...) -> None: ...

class AppendRequest(_message.Message):
    __slots__ = ["aggregates", "checkpoint", "include_conflicting_events", "schedules", "tenant"]
    AGGREGATES_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_CONFLICTING_EVENTS_FIELD_NUMBER: _ClassVar[int]
    SCHEDULES_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    aggregates: _containers.RepeatedCompositeFieldContainer[AggregateAppend]
    checkpoint: AppendCheckpoint
    include_conflicting_events: bool
    schedules: _containers.RepeatedCompositeFieldContainer[_schedule_pb2.ScheduleChange]
    tenant: bytes
    def __init__(self, tenant: _Optional[bytes] = ..., aggregates: _Optional[_Iterable[_Union[AggregateAppend, _Mapping]]] = ..., include_conflicting_events: bool = ..., checkpoint: _Optional[_Union[AppendCheckpoint, _Mapping]] = ..., schedules: _Optional[_Iterable[_Union[_schedule_pb2.ScheduleChange, _Mapping]]] = ...) -> None: ...

class AppendResponse(_message.Message):
    __slots__ = ["aggregates", "checkpoint_stored", "first_position", "last_position", "recorded_at_micros", "replayed"]
    AGGREGATES_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_STORED_FIELD_NUMBER: _ClassVar[int]
    FIRST_POSITION_FIELD_NUMBER: _ClassVar[int]
    LAST_POSITION_FIELD_NUMBER: _ClassVar[int]
    RECORDED_AT_MICROS_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    aggregates: _containers.RepeatedCompositeFieldContainer[AppendedAggregate]
    checkpoint_stored: bool
    first_position: int
    last_position: int
    recorded_at_micros: int
    replayed: bool
    def __init__(self, aggregates: _Optional[_Iterable[_Union[AppendedAggregate, _Mapping]]] = ..., first_position: _Optional[int] = ..., last_position: _Optional[int] = ..., recorded_at_micros: _Optional[int] = ..., replayed: bool = ..., checkpoint_stored: bool = ...) -> None: ...

class AppendSessionRequest(_message.Message):
    __slots__ = ["append", "request_id", "timeout_millis"]
    APPEND_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MILLIS_FIELD_NUMBER: _ClassVar[int]
    append: AppendRequest
    request_id: int
    timeout_millis: int
    def __init__(self, request_id: _Optional[int] = ..., append: _Optional[_Union[AppendRequest, _Mapping]] = ..., timeout_millis: _Optional[int] = ...) -> None: ...

class AppendSessionResponse(_message.Message):
    __slots__ = ["append", "request_id", "status"]
    APPEND_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    append: AppendResponse
    request_id: int
    status: _status_pb2.CallStatus
    def __init__(self, request_id: _Optional[int] = ..., append: _Optional[_Union[AppendResponse, _Mapping]] = ..., status: _Optional[_Union[_status_pb2.CallStatus, _Mapping]] = ...) -> None: ...

class AppendedAggregate(_message.Message):
    __slots__ = ["aggregate", "first_version", "last_version", "snapshot_due"]
    AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    FIRST_VERSION_FIELD_NUMBER: _ClassVar[int]
    LAST_VERSION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_DUE_FIELD_NUMBER: _ClassVar[int]
    aggregate: _event_pb2.AggregateName
    first_version: int
    last_version: int
    snapshot_due: bool
    def __init__(self, aggregate: _Optional[_Union[_event_pb2.AggregateName, _Mapping]] = ..., first_version: _Optional[int] = ..., last_version: _Optional[int] = ..., snapshot_due: bool = ...) -> None: ...
