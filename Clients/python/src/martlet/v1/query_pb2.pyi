from martlet.v1 import event_pb2 as _event_pb2
from martlet.v1 import snapshot_pb2 as _snapshot_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor
DIRECTION_BACKWARD: Direction
DIRECTION_FORWARD: Direction
DIRECTION_UNSPECIFIED: Direction

class GetHeadRequest(_message.Message):
    __slots__ = ["tenant"]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    tenant: bytes
    def __init__(self, tenant: _Optional[bytes] = ...) -> None: ...

class GetHeadResponse(_message.Message):
    __slots__ = ["head"]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    head: Head
    def __init__(self, head: _Optional[_Union[Head, _Mapping]] = ...) -> None: ...

class Head(_message.Message):
    __slots__ = ["position", "recorded_at_micros"]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    RECORDED_AT_MICROS_FIELD_NUMBER: _ClassVar[int]
    position: int
    recorded_at_micros: int
    def __init__(self, position: _Optional[int] = ..., recorded_at_micros: _Optional[int] = ...) -> None: ...

class LoadRequest(_message.Message):
    __slots__ = ["after_version", "aggregate", "as_of_position", "as_of_time_micros", "direction", "events_max", "snapshot", "tenant", "to_version", "upcasting"]
    AFTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    AS_OF_POSITION_FIELD_NUMBER: _ClassVar[int]
    AS_OF_TIME_MICROS_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    EVENTS_MAX_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    TO_VERSION_FIELD_NUMBER: _ClassVar[int]
    UPCASTING_FIELD_NUMBER: _ClassVar[int]
    after_version: int
    aggregate: _event_pb2.AggregateName
    as_of_position: int
    as_of_time_micros: int
    direction: Direction
    events_max: int
    snapshot: _snapshot_pb2.SnapshotUse
    tenant: bytes
    to_version: int
    upcasting: _event_pb2.Upcasting
    def __init__(self, tenant: _Optional[bytes] = ..., aggregate: _Optional[_Union[_event_pb2.AggregateName, _Mapping]] = ..., after_version: _Optional[int] = ..., to_version: _Optional[int] = ..., as_of_position: _Optional[int] = ..., as_of_time_micros: _Optional[int] = ..., direction: _Optional[_Union[Direction, str]] = ..., events_max: _Optional[int] = ..., snapshot: _Optional[_Union[_snapshot_pb2.SnapshotUse, _Mapping]] = ..., upcasting: _Optional[_Union[_event_pb2.Upcasting, _Mapping]] = ...) -> None: ...

class LoadResponse(_message.Message):
    __slots__ = ["events", "snapshot", "view", "waiting_for_credit_bytes"]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_CREDIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.RecordedEvent]
    snapshot: _snapshot_pb2.Snapshot
    view: LoadView
    waiting_for_credit_bytes: int
    def __init__(self, events: _Optional[_Iterable[_Union[_event_pb2.RecordedEvent, _Mapping]]] = ..., view: _Optional[_Union[LoadView, _Mapping]] = ..., snapshot: _Optional[_Union[_snapshot_pb2.Snapshot, _Mapping]] = ..., waiting_for_credit_bytes: _Optional[int] = ...) -> None: ...

class LoadView(_message.Message):
    __slots__ = ["position", "snapshots_skipped", "version"]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    position: int
    snapshots_skipped: int
    version: int
    def __init__(self, version: _Optional[int] = ..., position: _Optional[int] = ..., snapshots_skipped: _Optional[int] = ...) -> None: ...

class ReadRequest(_message.Message):
    __slots__ = ["after_position", "as_of_time_micros", "direction", "events_max", "filter", "tenant", "to_position", "upcasting"]
    AFTER_POSITION_FIELD_NUMBER: _ClassVar[int]
    AS_OF_TIME_MICROS_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    EVENTS_MAX_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    TO_POSITION_FIELD_NUMBER: _ClassVar[int]
    UPCASTING_FIELD_NUMBER: _ClassVar[int]
    after_position: int
    as_of_time_micros: int
    direction: Direction
    events_max: int
    filter: _event_pb2.EventFilter
    tenant: bytes
    to_position: int
    upcasting: _event_pb2.Upcasting
    def __init__(self, tenant: _Optional[bytes] = ..., after_position: _Optional[int] = ..., to_position: _Optional[int] = ..., as_of_time_micros: _Optional[int] = ..., direction: _Optional[_Union[Direction, str]] = ..., filter: _Optional[_Union[_event_pb2.EventFilter, _Mapping]] = ..., events_max: _Optional[int] = ..., upcasting: _Optional[_Union[_event_pb2.Upcasting, _Mapping]] = ...) -> None: ...

class ReadResponse(_message.Message):
    __slots__ = ["events", "view", "waiting_for_credit_bytes"]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_CREDIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.RecordedEvent]
    view: ReadView
    waiting_for_credit_bytes: int
    def __init__(self, events: _Optional[_Iterable[_Union[_event_pb2.RecordedEvent, _Mapping]]] = ..., view: _Optional[_Union[ReadView, _Mapping]] = ..., waiting_for_credit_bytes: _Optional[int] = ...) -> None: ...

class ReadView(_message.Message):
    __slots__ = ["head", "to_position"]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    TO_POSITION_FIELD_NUMBER: _ClassVar[int]
    head: Head
    to_position: int
    def __init__(self, to_position: _Optional[int] = ..., head: _Optional[_Union[Head, _Mapping]] = ...) -> None: ...

class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []
