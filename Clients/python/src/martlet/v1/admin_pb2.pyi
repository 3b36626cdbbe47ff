from martlet.v1 import limits_pb2 as _limits_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetServerInfoRequest(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class GetServerInfoResponse(_message.Message):
    __slots__ = ["all_tenants", "features", "identity", "limits", "server_time_micros", "server_version", "tenants"]
    ALL_TENANTS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_MICROS_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    all_tenants: bool
    features: _containers.RepeatedScalarFieldContainer[str]
    identity: str
    limits: _limits_pb2.Limits
    server_time_micros: int
    server_version: str
    tenants: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, server_version: _Optional[str] = ..., tenants: _Optional[_Iterable[bytes]] = ..., all_tenants: bool = ..., identity: _Optional[str] = ..., limits: _Optional[_Union[_limits_pb2.Limits, _Mapping]] = ..., server_time_micros: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ["connections", "draining", "events_appended", "events_delivered", "process_cpu_micros", "resident_bytes", "resident_peak_bytes", "schema_version", "server_time_micros", "server_version", "snapshots_skipped", "storage_engine", "storage_message", "storage_ready", "subscriptions", "upcast_failures", "uptime_micros", "waiting_append_bytes"]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    EVENTS_APPENDED_FIELD_NUMBER: _ClassVar[int]
    EVENTS_DELIVERED_FIELD_NUMBER: _ClassVar[int]
    PROCESS_CPU_MICROS_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_MICROS_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOTS_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    STORAGE_ENGINE_FIELD_NUMBER: _ClassVar[int]
    STORAGE_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STORAGE_READY_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    UPCAST_FAILURES_FIELD_NUMBER: _ClassVar[int]
    UPTIME_MICROS_FIELD_NUMBER: _ClassVar[int]
    WAITING_APPEND_BYTES_FIELD_NUMBER: _ClassVar[int]
    connections: int
    draining: bool
    events_appended: int
    events_delivered: int
    process_cpu_micros: int
    resident_bytes: int
    resident_peak_bytes: int
    schema_version: int
    server_time_micros: int
    server_version: str
    snapshots_skipped: int
    storage_engine: str
    storage_message: str
    storage_ready: bool
    subscriptions: int
    upcast_failures: int
    uptime_micros: int
    waiting_append_bytes: int
    def __init__(self, server_version: _Optional[str] = ..., storage_engine: _Optional[str] = ..., storage_ready: bool = ..., storage_message: _Optional[str] = ..., schema_version: _Optional[int] = ..., uptime_micros: _Optional[int] = ..., server_time_micros: _Optional[int] = ..., connections: _Optional[int] = ..., subscriptions: _Optional[int] = ..., waiting_append_bytes: _Optional[int] = ..., events_appended: _Optional[int] = ..., events_delivered: _Optional[int] = ..., draining: bool = ..., snapshots_skipped: _Optional[int] = ..., upcast_failures: _Optional[int] = ..., process_cpu_micros: _Optional[int] = ..., resident_bytes: _Optional[int] = ..., resident_peak_bytes: _Optional[int] = ...) -> None: ...
