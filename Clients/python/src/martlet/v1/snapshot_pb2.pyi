from martlet.v1 import event_pb2 as _event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DeleteSnapshotsRequest(_message.Message):
    __slots__ = ["aggregate", "tenant", "version"]
    AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    aggregate: _event_pb2.AggregateName
    tenant: bytes
    version: int
    def __init__(self, tenant: _Optional[bytes] = ..., aggregate: _Optional[_Union[_event_pb2.AggregateName, _Mapping]] = ..., version: _Optional[int] = ...) -> None: ...

class DeleteSnapshotsResponse(_message.Message):
    __slots__ = ["deleted"]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    deleted: int
    def __init__(self, deleted: _Optional[int] = ...) -> None: ...

class ListSnapshotsRequest(_message.Message):
    __slots__ = ["aggregate", "tenant"]
    AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    aggregate: _event_pb2.AggregateName
    tenant: bytes
    def __init__(self, tenant: _Optional[bytes] = ..., aggregate: _Optional[_Union[_event_pb2.AggregateName, _Mapping]] = ...) -> None: ...

class ListSnapshotsResponse(_message.Message):
    __slots__ = ["snapshots"]
    SNAPSHOTS_FIELD_NUMBER: _ClassVar[int]
    snapshots: _containers.RepeatedCompositeFieldContainer[SnapshotInfo]
    def __init__(self, snapshots: _Optional[_Iterable[_Union[SnapshotInfo, _Mapping]]] = ...) -> None: ...

class LoadSnapshotRequest(_message.Message):
    __slots__ = ["aggregate", "tenant", "to_version", "upcasting", "use"]
    AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    TO_VERSION_FIELD_NUMBER: _ClassVar[int]
    UPCASTING_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    aggregate: _event_pb2.AggregateName
    tenant: bytes
    to_version: int
    upcasting: _event_pb2.Upcasting
    use: SnapshotUse
    def __init__(self, tenant: _Optional[bytes] = ..., aggregate: _Optional[_Union[_event_pb2.AggregateName, _Mapping]] = ..., to_version: _Optional[int] = ..., use: _Optional[_Union[SnapshotUse, _Mapping]] = ..., upcasting: _Optional[_Union[_event_pb2.Upcasting, _Mapping]] = ...) -> None: ...

class LoadSnapshotResponse(_message.Message):
    __slots__ = ["snapshot", "snapshots_skipped"]
    SNAPSHOTS_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    snapshot: Snapshot
    snapshots_skipped: int
    def __init__(self, snapshot: _Optional[_Union[Snapshot, _Mapping]] = ..., snapshots_skipped: _Optional[int] = ...) -> None: ...

class NewSnapshot(_message.Message):
    __slots__ = ["content_type", "payload", "schema_version"]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    payload: bytes
    schema_version: int
    def __init__(self, schema_version: _Optional[int] = ..., content_type: _Optional[str] = ..., payload: _Optional[bytes] = ...) -> None: ...

class SaveSnapshotRequest(_message.Message):
    __slots__ = ["aggregate", "snapshot", "tenant", "version"]
    AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    aggregate: _event_pb2.AggregateName
    snapshot: NewSnapshot
    tenant: bytes
    version: int
    def __init__(self, tenant: _Optional[bytes] = ..., aggregate: _Optional[_Union[_event_pb2.AggregateName, _Mapping]] = ..., version: _Optional[int] = ..., snapshot: _Optional[_Union[NewSnapshot, _Mapping]] = ...) -> None: ...

class SaveSnapshotResponse(_message.Message):
    __slots__ = ["kept", "newest_version"]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    NEWEST_VERSION_FIELD_NUMBER: _ClassVar[int]
    kept: bool
    newest_version: int
    def __init__(self, kept: bool = ..., newest_version: _Optional[int] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ["content_type", "created_at_micros", "payload", "schema_version", "stored_schema_version", "version"]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MICROS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    STORED_SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    created_at_micros: int
    payload: bytes
    schema_version: int
    stored_schema_version: int
    version: int
    def __init__(self, version: _Optional[int] = ..., created_at_micros: _Optional[int] = ..., schema_version: _Optional[int] = ..., stored_schema_version: _Optional[int] = ..., content_type: _Optional[str] = ..., payload: _Optional[bytes] = ...) -> None: ...

class SnapshotInfo(_message.Message):
    __slots__ = ["content_type", "created_at_micros", "intact", "payload_bytes", "schema_version", "version"]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_MICROS_FIELD_NUMBER: _ClassVar[int]
    INTACT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_VERSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    content_type: str
    created_at_micros: int
    intact: bool
    payload_bytes: int
    schema_version: int
    version: int
    def __init__(self, version: _Optional[int] = ..., created_at_micros: _Optional[int] = ..., schema_version: _Optional[int] = ..., content_type: _Optional[str] = ..., payload_bytes: _Optional[int] = ..., intact: bool = ...) -> None: ...

class SnapshotUse(_message.Message):
    __slots__ = ["schema_versions"]
    SCHEMA_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    schema_versions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, schema_versions: _Optional[_Iterable[int]] = ...) -> None: ...
