from martlet.v1 import event_pb2 as _event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CallStatus(_message.Message):
    __slots__ = ["code", "conflicts", "conflicts_total", "history_change", "limit", "message", "reason", "retryable", "reused_event_ids", "reused_event_ids_total", "upcast_failure"]
    CODE_FIELD_NUMBER: _ClassVar[int]
    CONFLICTS_FIELD_NUMBER: _ClassVar[int]
    CONFLICTS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    HISTORY_CHANGE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    REUSED_EVENT_IDS_FIELD_NUMBER: _ClassVar[int]
    REUSED_EVENT_IDS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    UPCAST_FAILURE_FIELD_NUMBER: _ClassVar[int]
    code: int
    conflicts: _containers.RepeatedCompositeFieldContainer[VersionConflict]
    conflicts_total: int
    history_change: HistoryChange
    limit: LimitViolation
    message: str
    reason: str
    retryable: bool
    reused_event_ids: _containers.RepeatedCompositeFieldContainer[ReusedEventId]
    reused_event_ids_total: int
    upcast_failure: UpcastFailure
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., retryable: bool = ..., conflicts: _Optional[_Iterable[_Union[VersionConflict, _Mapping]]] = ..., reused_event_ids: _Optional[_Iterable[_Union[ReusedEventId, _Mapping]]] = ..., limit: _Optional[_Union[LimitViolation, _Mapping]] = ..., upcast_failure: _Optional[_Union[UpcastFailure, _Mapping]] = ..., history_change: _Optional[_Union[HistoryChange, _Mapping]] = ..., conflicts_total: _Optional[int] = ..., reused_event_ids_total: _Optional[int] = ...) -> None: ...

class HistoryChange(_message.Message):
    __slots__ = ["comparable_position"]
    COMPARABLE_POSITION_FIELD_NUMBER: _ClassVar[int]
    comparable_position: int
    def __init__(self, comparable_position: _Optional[int] = ...) -> None: ...

class LimitViolation(_message.Message):
    __slots__ = ["actual", "limit", "name"]
    ACTUAL_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    actual: int
    limit: int
    name: str
    def __init__(self, name: _Optional[str] = ..., limit: _Optional[int] = ..., actual: _Optional[int] = ...) -> None: ...

class ReusedEventId(_message.Message):
    __slots__ = ["aggregate", "event_id", "position", "version"]
    AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    aggregate: _event_pb2.AggregateName
    event_id: bytes
    position: int
    version: int
    def __init__(self, event_id: _Optional[bytes] = ..., aggregate: _Optional[_Union[_event_pb2.AggregateName, _Mapping]] = ..., version: _Optional[int] = ..., position: _Optional[int] = ...) -> None: ...

class UpcastFailure(_message.Message):
    __slots__ = ["complaint", "event_id", "event_type", "from_version", "operation", "path", "position"]
    COMPLAINT_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    FROM_VERSION_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    complaint: str
    event_id: bytes
    event_type: str
    from_version: int
    operation: int
    path: str
    position: int
    def __init__(self, position: _Optional[int] = ..., event_id: _Optional[bytes] = ..., event_type: _Optional[str] = ..., from_version: _Optional[int] = ..., operation: _Optional[int] = ..., path: _Optional[str] = ..., complaint: _Optional[str] = ...) -> None: ...

class VersionConflict(_message.Message):
    __slots__ = ["actual", "aggregate", "events", "events_truncated", "expected"]
    ACTUAL_FIELD_NUMBER: _ClassVar[int]
    AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    actual: int
    aggregate: _event_pb2.AggregateName
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.RecordedEvent]
    events_truncated: bool
    expected: _event_pb2.ExpectedVersion
    def __init__(self, events: _Optional[_Iterable[_Union[_event_pb2.RecordedEvent, _Mapping]]] = ..., aggregate: _Optional[_Union[_event_pb2.AggregateName, _Mapping]] = ..., expected: _Optional[_Union[_event_pb2.ExpectedVersion, _Mapping]] = ..., actual: _Optional[int] = ..., events_truncated: bool = ...) -> None: ...
