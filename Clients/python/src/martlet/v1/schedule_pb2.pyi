from martlet.v1 import event_pb2 as _event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor
SCHEDULE_OUTCOME_ABSENT: ScheduleOutcome
SCHEDULE_OUTCOME_CANCELLED: ScheduleOutcome
SCHEDULE_OUTCOME_FIRED: ScheduleOutcome
SCHEDULE_OUTCOME_MOVED: ScheduleOutcome
SCHEDULE_OUTCOME_SET: ScheduleOutcome
SCHEDULE_OUTCOME_UNSPECIFIED: ScheduleOutcome

class ChangeSchedulesRequest(_message.Message):
    __slots__ = ["changes", "tenant"]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[ScheduleChange]
    tenant: bytes
    def __init__(self, tenant: _Optional[bytes] = ..., changes: _Optional[_Iterable[_Union[ScheduleChange, _Mapping]]] = ...) -> None: ...

class ChangeSchedulesResponse(_message.Message):
    __slots__ = ["outcomes"]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedScalarFieldContainer[ScheduleOutcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[ScheduleOutcome, str]]] = ...) -> None: ...

class ListSchedulesRequest(_message.Message):
    __slots__ = ["after", "count_max", "parked_only", "tenant"]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    COUNT_MAX_FIELD_NUMBER: _ClassVar[int]
    PARKED_ONLY_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    after: str
    count_max: int
    parked_only: bool
    tenant: bytes
    def __init__(self, tenant: _Optional[bytes] = ..., after: _Optional[str] = ..., parked_only: bool = ..., count_max: _Optional[int] = ...) -> None: ...

class ListSchedulesResponse(_message.Message):
    __slots__ = ["schedules"]
    SCHEDULES_FIELD_NUMBER: _ClassVar[int]
    schedules: _containers.RepeatedCompositeFieldContainer[ListedSchedule]
    def __init__(self, schedules: _Optional[_Iterable[_Union[ListedSchedule, _Mapping]]] = ...) -> None: ...

class ListedSchedule(_message.Message):
    __slots__ = ["aggregate", "due_micros", "event_id", "event_type", "key", "lateness_millis_max", "parked", "parked_reason", "payload_bytes"]
    AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    DUE_MICROS_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    LATENESS_MILLIS_MAX_FIELD_NUMBER: _ClassVar[int]
    PARKED_FIELD_NUMBER: _ClassVar[int]
    PARKED_REASON_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    aggregate: _event_pb2.AggregateName
    due_micros: int
    event_id: bytes
    event_type: str
    key: str
    lateness_millis_max: int
    parked: bool
    parked_reason: str
    payload_bytes: int
    def __init__(self, key: _Optional[str] = ..., due_micros: _Optional[int] = ..., aggregate: _Optional[_Union[_event_pb2.AggregateName, _Mapping]] = ..., event_id: _Optional[bytes] = ..., event_type: _Optional[str] = ..., payload_bytes: _Optional[int] = ..., lateness_millis_max: _Optional[int] = ..., parked: bool = ..., parked_reason: _Optional[str] = ...) -> None: ...

class Schedule(_message.Message):
    __slots__ = ["aggregate", "due_micros", "event", "key", "lateness_millis_max"]
    AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    DUE_MICROS_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    LATENESS_MILLIS_MAX_FIELD_NUMBER: _ClassVar[int]
    aggregate: _event_pb2.AggregateName
    due_micros: int
    event: _event_pb2.Event
    key: str
    lateness_millis_max: int
    def __init__(self, key: _Optional[str] = ..., due_micros: _Optional[int] = ..., aggregate: _Optional[_Union[_event_pb2.AggregateName, _Mapping]] = ..., event: _Optional[_Union[_event_pb2.Event, _Mapping]] = ..., lateness_millis_max: _Optional[int] = ...) -> None: ...

class ScheduleChange(_message.Message):
    __slots__ = ["cancel", "set"]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    SET_FIELD_NUMBER: _ClassVar[int]
    cancel: str
    set: Schedule
    def __init__(self, set: _Optional[_Union[Schedule, _Mapping]] = ..., cancel: _Optional[str] = ...) -> None: ...

class ScheduleOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []
