from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor
UPCAST_FAILURE_POLICY_FAIL: UpcastFailurePolicy
UPCAST_FAILURE_POLICY_RAW: UpcastFailurePolicy
UPCAST_FAILURE_POLICY_UNSPECIFIED: UpcastFailurePolicy

class AggregateName(_message.Message):
    __slots__ = ["id", "type"]
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    type: str
    def __init__(self, type: _Optional[str] = ..., id: _Optional[bytes] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ["content_type", "id", "metadata", "payload", "schema_version", "type"]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    id: bytes
    metadata: Metadata
    payload: bytes
    schema_version: int
    type: str
    def __init__(self, id: _Optional[bytes] = ..., type: _Optional[str] = ..., content_type: _Optional[str] = ..., schema_version: _Optional[int] = ..., metadata: _Optional[_Union[Metadata, _Mapping]] = ..., payload: _Optional[bytes] = ...) -> None: ...

class EventFilter(_message.Message):
    __slots__ = ["aggregate_ids", "aggregate_types", "event_types"]
    AGGREGATE_IDS_FIELD_NUMBER: _ClassVar[int]
    AGGREGATE_TYPES_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    aggregate_ids: _containers.RepeatedScalarFieldContainer[bytes]
    aggregate_types: _containers.RepeatedScalarFieldContainer[str]
    event_types: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, aggregate_types: _Optional[_Iterable[str]] = ..., event_types: _Optional[_Iterable[str]] = ..., aggregate_ids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ExpectedVersion(_message.Message):
    __slots__ = ["any", "exact", "exists", "none"]
    ANY_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    EXISTS_FIELD_NUMBER: _ClassVar[int]
    NONE_FIELD_NUMBER: _ClassVar[int]
    any: bool
    exact: int
    exists: bool
    none: bool
    def __init__(self, any: bool = ..., none: bool = ..., exists: bool = ..., exact: _Optional[int] = ...) -> None: ...

class Metadata(_message.Message):
    __slots__ = ["causation_id", "correlation_id", "occurred_at_micros", "request_id", "role", "source", "tags", "traceparent", "tracestate", "user_id"]
    CAUSATION_ID_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_ID_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_MICROS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    causation_id: str
    correlation_id: str
    occurred_at_micros: int
    request_id: str
    role: str
    source: str
    tags: _containers.RepeatedCompositeFieldContainer[Tag]
    traceparent: str
    tracestate: str
    user_id: str
    def __init__(self, user_id: _Optional[str] = ..., role: _Optional[str] = ..., occurred_at_micros: _Optional[int] = ..., correlation_id: _Optional[str] = ..., causation_id: _Optional[str] = ..., request_id: _Optional[str] = ..., source: _Optional[str] = ..., traceparent: _Optional[str] = ..., tags: _Optional[_Iterable[_Union[Tag, _Mapping]]] = ..., tracestate: _Optional[str] = ...) -> None: ...

class RecordedEvent(_message.Message):
    __slots__ = ["aggregate_id", "aggregate_type", "checksum", "event", "position", "recorded_at_micros", "stored_schema_version", "stored_type", "upcast_failure", "version"]
    AGGREGATE_ID_FIELD_NUMBER: _ClassVar[int]
    AGGREGATE_TYPE_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    RECORDED_AT_MICROS_FIELD_NUMBER: _ClassVar[int]
    STORED_SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    STORED_TYPE_FIELD_NUMBER: _ClassVar[int]
    UPCAST_FAILURE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    aggregate_id: bytes
    aggregate_type: str
    checksum: int
    event: Event
    position: int
    recorded_at_micros: int
    stored_schema_version: int
    stored_type: str
    upcast_failure: str
    version: int
    def __init__(self, position: _Optional[int] = ..., version: _Optional[int] = ..., recorded_at_micros: _Optional[int] = ..., aggregate_type: _Optional[str] = ..., aggregate_id: _Optional[bytes] = ..., checksum: _Optional[int] = ..., event: _Optional[_Union[Event, _Mapping]] = ..., stored_schema_version: _Optional[int] = ..., stored_type: _Optional[str] = ..., upcast_failure: _Optional[str] = ...) -> None: ...

class SchemaVersionMax(_message.Message):
    __slots__ = ["event_type", "schema_version"]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    event_type: str
    schema_version: int
    def __init__(self, event_type: _Optional[str] = ..., schema_version: _Optional[int] = ...) -> None: ...

class Tag(_message.Message):
    __slots__ = ["key", "value"]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Upcasting(_message.Message):
    __slots__ = ["on_failure", "raw", "stop_at"]
    ON_FAILURE_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    STOP_AT_FIELD_NUMBER: _ClassVar[int]
    on_failure: UpcastFailurePolicy
    raw: bool
    stop_at: _containers.RepeatedCompositeFieldContainer[SchemaVersionMax]
    def __init__(self, raw: bool = ..., on_failure: _Optional[_Union[UpcastFailurePolicy, str]] = ..., stop_at: _Optional[_Iterable[_Union[SchemaVersionMax, _Mapping]]] = ...) -> None: ...

class UpcastFailurePolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = []
