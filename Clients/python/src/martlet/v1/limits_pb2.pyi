from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Limits(_message.Message):
    __slots__ = ["aggregates_per_append_max", "calls_per_connection_max", "connections_max", "consumer_lease_millis", "consumers_per_tenant_max", "decode_bytes_max", "events_per_append_max", "filter_values_max", "frame_bytes_max", "heartbeat_millis_min", "keepalive_millis", "metadata_bytes_max", "payload_bytes_max", "schedules_per_tenant_max", "settings_bytes_max", "snapshot_bytes_max", "stream_credit_bytes_min", "tenants_per_stream_max", "upcasters", "waiting_append_bytes_max", "waiting_reads_max", "workers_per_consumer_max"]
    AGGREGATES_PER_APPEND_MAX_FIELD_NUMBER: _ClassVar[int]
    CALLS_PER_CONNECTION_MAX_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_MAX_FIELD_NUMBER: _ClassVar[int]
    CONSUMERS_PER_TENANT_MAX_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_LEASE_MILLIS_FIELD_NUMBER: _ClassVar[int]
    DECODE_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    EVENTS_PER_APPEND_MAX_FIELD_NUMBER: _ClassVar[int]
    FILTER_VALUES_MAX_FIELD_NUMBER: _ClassVar[int]
    FRAME_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_MILLIS_MIN_FIELD_NUMBER: _ClassVar[int]
    KEEPALIVE_MILLIS_FIELD_NUMBER: _ClassVar[int]
    METADATA_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    SCHEDULES_PER_TENANT_MAX_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    STREAM_CREDIT_BYTES_MIN_FIELD_NUMBER: _ClassVar[int]
    TENANTS_PER_STREAM_MAX_FIELD_NUMBER: _ClassVar[int]
    UPCASTERS_FIELD_NUMBER: _ClassVar[int]
    WAITING_APPEND_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    WAITING_READS_MAX_FIELD_NUMBER: _ClassVar[int]
    WORKERS_PER_CONSUMER_MAX_FIELD_NUMBER: _ClassVar[int]
    aggregates_per_append_max: int
    calls_per_connection_max: int
    connections_max: int
    consumer_lease_millis: int
    consumers_per_tenant_max: int
    decode_bytes_max: int
    events_per_append_max: int
    filter_values_max: int
    frame_bytes_max: int
    heartbeat_millis_min: int
    keepalive_millis: int
    metadata_bytes_max: int
    payload_bytes_max: int
    schedules_per_tenant_max: int
    settings_bytes_max: int
    snapshot_bytes_max: int
    stream_credit_bytes_min: int
    tenants_per_stream_max: int
    upcasters: UpcasterLimits
    waiting_append_bytes_max: int
    waiting_reads_max: int
    workers_per_consumer_max: int
    def __init__(self, frame_bytes_max: _Optional[int] = ..., payload_bytes_max: _Optional[int] = ..., metadata_bytes_max: _Optional[int] = ..., events_per_append_max: _Optional[int] = ..., aggregates_per_append_max: _Optional[int] = ..., calls_per_connection_max: _Optional[int] = ..., connections_max: _Optional[int] = ..., filter_values_max: _Optional[int] = ..., waiting_append_bytes_max: _Optional[int] = ..., keepalive_millis: _Optional[int] = ..., snapshot_bytes_max: _Optional[int] = ..., settings_bytes_max: _Optional[int] = ..., stream_credit_bytes_min: _Optional[int] = ..., decode_bytes_max: _Optional[int] = ..., waiting_reads_max: _Optional[int] = ..., heartbeat_millis_min: _Optional[int] = ..., upcasters: _Optional[_Union[UpcasterLimits, _Mapping]] = ..., consumers_per_tenant_max: _Optional[int] = ..., workers_per_consumer_max: _Optional[int] = ..., consumer_lease_millis: _Optional[int] = ..., schedules_per_tenant_max: _Optional[int] = ..., tenants_per_stream_max: _Optional[int] = ...) -> None: ...

class UpcasterLimits(_message.Message):
    __slots__ = ["chain_steps_max", "document_bytes_max", "document_depth_max", "operations_per_step_max", "steps_max", "table_entries_max"]
    CHAIN_STEPS_MAX_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_DEPTH_MAX_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_PER_STEP_MAX_FIELD_NUMBER: _ClassVar[int]
    STEPS_MAX_FIELD_NUMBER: _ClassVar[int]
    TABLE_ENTRIES_MAX_FIELD_NUMBER: _ClassVar[int]
    chain_steps_max: int
    document_bytes_max: int
    document_depth_max: int
    operations_per_step_max: int
    steps_max: int
    table_entries_max: int
    def __init__(self, document_bytes_max: _Optional[int] = ..., document_depth_max: _Optional[int] = ..., steps_max: _Optional[int] = ..., operations_per_step_max: _Optional[int] = ..., chain_steps_max: _Optional[int] = ..., table_entries_max: _Optional[int] = ...) -> None: ...
