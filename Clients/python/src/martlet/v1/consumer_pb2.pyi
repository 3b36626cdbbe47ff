from martlet.v1 import event_pb2 as _event_pb2
from martlet.v1 import query_pb2 as _query_pb2
from martlet.v1 import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Acknowledgement(_message.Message):
    __slots__ = ["delivery", "up_to"]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    UP_TO_FIELD_NUMBER: _ClassVar[int]
    delivery: int
    up_to: bool
    def __init__(self, delivery: _Optional[int] = ..., up_to: bool = ...) -> None: ...

class AssignedSlot(_message.Message):
    __slots__ = ["checkpoint", "epoch", "slot"]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    checkpoint: ConsumerCheckpoint
    epoch: int
    slot: int
    def __init__(self, slot: _Optional[int] = ..., epoch: _Optional[int] = ..., checkpoint: _Optional[_Union[ConsumerCheckpoint, _Mapping]] = ...) -> None: ...

class AwaitConsumerRequest(_message.Message):
    __slots__ = ["consumer", "position", "tenant"]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    consumer: str
    position: int
    tenant: bytes
    def __init__(self, tenant: _Optional[bytes] = ..., consumer: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class AwaitConsumerResponse(_message.Message):
    __slots__ = ["position"]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    position: int
    def __init__(self, position: _Optional[int] = ...) -> None: ...

class BlockedKey(_message.Message):
    __slots__ = ["first", "first_handled", "parked", "place", "reason", "retry_at_micros", "since_micros", "tries"]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    FIRST_HANDLED_FIELD_NUMBER: _ClassVar[int]
    PARKED_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RETRY_AT_MICROS_FIELD_NUMBER: _ClassVar[int]
    SINCE_MICROS_FIELD_NUMBER: _ClassVar[int]
    TRIES_FIELD_NUMBER: _ClassVar[int]
    first: ConsumerCheckpoint
    first_handled: bool
    parked: bool
    place: KeyPlace
    reason: str
    retry_at_micros: int
    since_micros: int
    tries: int
    def __init__(self, place: _Optional[_Union[KeyPlace, _Mapping]] = ..., first: _Optional[_Union[ConsumerCheckpoint, _Mapping]] = ..., first_handled: bool = ..., retry_at_micros: _Optional[int] = ..., parked: bool = ..., reason: _Optional[str] = ..., tries: _Optional[int] = ..., since_micros: _Optional[int] = ...) -> None: ...

class ConsumeRequest(_message.Message):
    __slots__ = ["replies", "start"]
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    replies: WorkerReplies
    start: ConsumeStart
    def __init__(self, start: _Optional[_Union[ConsumeStart, _Mapping]] = ..., replies: _Optional[_Union[WorkerReplies, _Mapping]] = ...) -> None: ...

class ConsumeResponse(_message.Message):
    __slots__ = ["assigned", "committed", "events", "joined", "left", "paused", "revoked", "stopped", "tenant", "waiting"]
    ASSIGNED_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    JOINED_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    STOPPED_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    assigned: SlotsAssigned
    committed: SlotCommitted
    events: EventsDelivered
    joined: TenantsJoined
    left: TenantLeft
    paused: ConsumerPaused
    revoked: SlotsRevoked
    stopped: SlotStopped
    tenant: bytes
    waiting: WaitingForCredit
    def __init__(self, tenant: _Optional[bytes] = ..., assigned: _Optional[_Union[SlotsAssigned, _Mapping]] = ..., revoked: _Optional[_Union[SlotsRevoked, _Mapping]] = ..., events: _Optional[_Union[EventsDelivered, _Mapping]] = ..., committed: _Optional[_Union[SlotCommitted, _Mapping]] = ..., stopped: _Optional[_Union[SlotStopped, _Mapping]] = ..., paused: _Optional[_Union[ConsumerPaused, _Mapping]] = ..., waiting: _Optional[_Union[WaitingForCredit, _Mapping]] = ..., joined: _Optional[_Union[TenantsJoined, _Mapping]] = ..., left: _Optional[_Union[TenantLeft, _Mapping]] = ...) -> None: ...

class ConsumeStart(_message.Message):
    __slots__ = ["consumer", "epoch_above", "keeps_time", "tenant", "tenants", "worker"]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_ABOVE_FIELD_NUMBER: _ClassVar[int]
    KEEPS_TIME_FIELD_NUMBER: _ClassVar[int]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    consumer: str
    epoch_above: int
    keeps_time: bool
    tenant: bytes
    tenants: TenantSelection
    worker: str
    def __init__(self, tenant: _Optional[bytes] = ..., tenants: _Optional[_Union[TenantSelection, _Mapping]] = ..., consumer: _Optional[str] = ..., worker: _Optional[str] = ..., epoch_above: _Optional[int] = ..., keeps_time: bool = ...) -> None: ...

class ConsumerCheckpoint(_message.Message):
    __slots__ = ["event_id", "position"]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    event_id: bytes
    position: int
    def __init__(self, position: _Optional[int] = ..., event_id: _Optional[bytes] = ...) -> None: ...

class ConsumerDefinition(_message.Message):
    __slots__ = ["aggregate", "aggregate_type", "delivery", "filter", "paused", "raw", "slots", "tag"]
    AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    AGGREGATE_TYPE_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    aggregate: bool
    aggregate_type: bool
    delivery: SlotSettings
    filter: _event_pb2.EventFilter
    paused: bool
    raw: bool
    slots: int
    tag: str
    def __init__(self, filter: _Optional[_Union[_event_pb2.EventFilter, _Mapping]] = ..., aggregate: bool = ..., aggregate_type: bool = ..., tag: _Optional[str] = ..., slots: _Optional[int] = ..., raw: bool = ..., paused: bool = ..., delivery: _Optional[_Union[SlotSettings, _Mapping]] = ...) -> None: ...

class ConsumerPaused(_message.Message):
    __slots__ = ["paused"]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    paused: bool
    def __init__(self, paused: bool = ...) -> None: ...

class ConsumerSlot(_message.Message):
    __slots__ = ["checkpoint", "epoch", "slot", "worker"]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    checkpoint: ConsumerCheckpoint
    epoch: int
    slot: int
    worker: str
    def __init__(self, slot: _Optional[int] = ..., epoch: _Optional[int] = ..., checkpoint: _Optional[_Union[ConsumerCheckpoint, _Mapping]] = ..., worker: _Optional[str] = ...) -> None: ...

class ConsumerStart(_message.Message):
    __slots__ = ["after_position", "from_head", "from_time_micros"]
    AFTER_POSITION_FIELD_NUMBER: _ClassVar[int]
    FROM_HEAD_FIELD_NUMBER: _ClassVar[int]
    FROM_TIME_MICROS_FIELD_NUMBER: _ClassVar[int]
    after_position: int
    from_head: bool
    from_time_micros: int
    def __init__(self, after_position: _Optional[int] = ..., from_time_micros: _Optional[int] = ..., from_head: bool = ...) -> None: ...

class DeleteConsumerRequest(_message.Message):
    __slots__ = ["consumer", "tenant"]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    consumer: str
    tenant: bytes
    def __init__(self, tenant: _Optional[bytes] = ..., consumer: _Optional[str] = ...) -> None: ...

class DeleteConsumerResponse(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class Delivery(_message.Message):
    __slots__ = ["attempt", "delivery", "key", "key_blocked", "may_be_repeated", "slot"]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    KEY_BLOCKED_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    MAY_BE_REPEATED_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    delivery: int
    key: bytes
    key_blocked: bool
    may_be_repeated: bool
    slot: int
    def __init__(self, delivery: _Optional[int] = ..., slot: _Optional[int] = ..., attempt: _Optional[int] = ..., may_be_repeated: bool = ..., key: _Optional[bytes] = ..., key_blocked: bool = ...) -> None: ...

class EventsDelivered(_message.Message):
    __slots__ = ["deliveries", "events"]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    deliveries: _containers.RepeatedCompositeFieldContainer[Delivery]
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.RecordedEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[_event_pb2.RecordedEvent, _Mapping]]] = ..., deliveries: _Optional[_Iterable[_Union[Delivery, _Mapping]]] = ...) -> None: ...

class GetConsumerRequest(_message.Message):
    __slots__ = ["consumer", "tenant"]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    consumer: str
    tenant: bytes
    def __init__(self, tenant: _Optional[bytes] = ..., consumer: _Optional[str] = ...) -> None: ...

class GetConsumerResponse(_message.Message):
    __slots__ = ["blocked_keys", "checkpoint", "consumer", "definition", "head", "last_failure", "oldest", "revision", "settled_to_position", "slots", "stopped_slots", "workers"]
    BLOCKED_KEYS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    LAST_FAILURE_FIELD_NUMBER: _ClassVar[int]
    OLDEST_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SETTLED_TO_POSITION_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    STOPPED_SLOTS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    blocked_keys: int
    checkpoint: ConsumerCheckpoint
    consumer: str
    definition: ConsumerDefinition
    head: _query_pb2.Head
    last_failure: BlockedKey
    oldest: OldestEvent
    revision: int
    settled_to_position: int
    slots: _containers.RepeatedCompositeFieldContainer[ConsumerSlot]
    stopped_slots: _containers.RepeatedCompositeFieldContainer[SlotStopped]
    workers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, consumer: _Optional[str] = ..., definition: _Optional[_Union[ConsumerDefinition, _Mapping]] = ..., revision: _Optional[int] = ..., head: _Optional[_Union[_query_pb2.Head, _Mapping]] = ..., checkpoint: _Optional[_Union[ConsumerCheckpoint, _Mapping]] = ..., blocked_keys: _Optional[int] = ..., settled_to_position: _Optional[int] = ..., oldest: _Optional[_Union[OldestEvent, _Mapping]] = ..., slots: _Optional[_Iterable[_Union[ConsumerSlot, _Mapping]]] = ..., workers: _Optional[_Iterable[str]] = ..., last_failure: _Optional[_Union[BlockedKey, _Mapping]] = ..., stopped_slots: _Optional[_Iterable[_Union[SlotStopped, _Mapping]]] = ...) -> None: ...

class KeyPlace(_message.Message):
    __slots__ = ["key", "slot"]
    KEY_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    slot: int
    def __init__(self, slot: _Optional[int] = ..., key: _Optional[bytes] = ...) -> None: ...

class KeyToUnblock(_message.Message):
    __slots__ = ["place", "skip_position"]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    SKIP_POSITION_FIELD_NUMBER: _ClassVar[int]
    place: KeyPlace
    skip_position: int
    def __init__(self, place: _Optional[_Union[KeyPlace, _Mapping]] = ..., skip_position: _Optional[int] = ...) -> None: ...

class ListBlockedKeysRequest(_message.Message):
    __slots__ = ["after", "consumer", "tenant"]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    after: KeyPlace
    consumer: str
    tenant: bytes
    def __init__(self, tenant: _Optional[bytes] = ..., consumer: _Optional[str] = ..., after: _Optional[_Union[KeyPlace, _Mapping]] = ...) -> None: ...

class ListBlockedKeysResponse(_message.Message):
    __slots__ = ["keys"]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[BlockedKey]
    def __init__(self, keys: _Optional[_Iterable[_Union[BlockedKey, _Mapping]]] = ...) -> None: ...

class ListConsumersRequest(_message.Message):
    __slots__ = ["after", "tenant"]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    after: str
    tenant: bytes
    def __init__(self, tenant: _Optional[bytes] = ..., after: _Optional[str] = ...) -> None: ...

class ListConsumersResponse(_message.Message):
    __slots__ = ["consumers"]
    CONSUMERS_FIELD_NUMBER: _ClassVar[int]
    consumers: _containers.RepeatedCompositeFieldContainer[ListedConsumer]
    def __init__(self, consumers: _Optional[_Iterable[_Union[ListedConsumer, _Mapping]]] = ...) -> None: ...

class ListedConsumer(_message.Message):
    __slots__ = ["consumer", "definition", "revision"]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    consumer: str
    definition: ConsumerDefinition
    revision: int
    def __init__(self, consumer: _Optional[str] = ..., revision: _Optional[int] = ..., definition: _Optional[_Union[ConsumerDefinition, _Mapping]] = ...) -> None: ...

class OldestEvent(_message.Message):
    __slots__ = ["position", "recorded_at_micros"]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    RECORDED_AT_MICROS_FIELD_NUMBER: _ClassVar[int]
    position: int
    recorded_at_micros: int
    def __init__(self, position: _Optional[int] = ..., recorded_at_micros: _Optional[int] = ...) -> None: ...

class PutConsumerRequest(_message.Message):
    __slots__ = ["any", "consumer", "definition", "none", "revision", "start", "tenant"]
    ANY_FIELD_NUMBER: _ClassVar[int]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    NONE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    any: bool
    consumer: str
    definition: ConsumerDefinition
    none: bool
    revision: int
    start: ConsumerStart
    tenant: bytes
    def __init__(self, tenant: _Optional[bytes] = ..., consumer: _Optional[str] = ..., definition: _Optional[_Union[ConsumerDefinition, _Mapping]] = ..., start: _Optional[_Union[ConsumerStart, _Mapping]] = ..., none: bool = ..., any: bool = ..., revision: _Optional[int] = ...) -> None: ...

class PutConsumerResponse(_message.Message):
    __slots__ = ["is_new", "revision"]
    IS_NEW_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    is_new: bool
    revision: int
    def __init__(self, revision: _Optional[int] = ..., is_new: bool = ...) -> None: ...

class Rejection(_message.Message):
    __slots__ = ["delivery", "park", "reason", "retry", "retry_after_millis", "stop"]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    PARK_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MILLIS_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    delivery: int
    park: bool
    reason: str
    retry: bool
    retry_after_millis: int
    stop: bool
    def __init__(self, delivery: _Optional[int] = ..., retry: bool = ..., retry_after_millis: _Optional[int] = ..., park: bool = ..., stop: bool = ..., reason: _Optional[str] = ...) -> None: ...

class ResetConsumerRequest(_message.Message):
    __slots__ = ["consumer", "preview", "start", "tenant"]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    consumer: str
    preview: bool
    start: ConsumerStart
    tenant: bytes
    def __init__(self, tenant: _Optional[bytes] = ..., consumer: _Optional[str] = ..., start: _Optional[_Union[ConsumerStart, _Mapping]] = ..., preview: bool = ...) -> None: ...

class ResetConsumerResponse(_message.Message):
    __slots__ = ["after_position", "before_position"]
    AFTER_POSITION_FIELD_NUMBER: _ClassVar[int]
    BEFORE_POSITION_FIELD_NUMBER: _ClassVar[int]
    after_position: int
    before_position: int
    def __init__(self, after_position: _Optional[int] = ..., before_position: _Optional[int] = ...) -> None: ...

class SlotCommitted(_message.Message):
    __slots__ = ["checkpoint", "slot"]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    checkpoint: ConsumerCheckpoint
    slot: int
    def __init__(self, slot: _Optional[int] = ..., checkpoint: _Optional[_Union[ConsumerCheckpoint, _Mapping]] = ...) -> None: ...

class SlotSettings(_message.Message):
    __slots__ = ["ack_timeout_millis", "backoff_max_millis", "backoff_min_millis", "blocked_keys_max", "in_flight_max", "retried_keys_max", "tries_max", "window_events_max"]
    ACK_TIMEOUT_MILLIS_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_MAX_MILLIS_FIELD_NUMBER: _ClassVar[int]
    BACKOFF_MIN_MILLIS_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_KEYS_MAX_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_MAX_FIELD_NUMBER: _ClassVar[int]
    RETRIED_KEYS_MAX_FIELD_NUMBER: _ClassVar[int]
    TRIES_MAX_FIELD_NUMBER: _ClassVar[int]
    WINDOW_EVENTS_MAX_FIELD_NUMBER: _ClassVar[int]
    ack_timeout_millis: int
    backoff_max_millis: int
    backoff_min_millis: int
    blocked_keys_max: int
    in_flight_max: int
    retried_keys_max: int
    tries_max: int
    window_events_max: int
    def __init__(self, window_events_max: _Optional[int] = ..., in_flight_max: _Optional[int] = ..., blocked_keys_max: _Optional[int] = ..., retried_keys_max: _Optional[int] = ..., tries_max: _Optional[int] = ..., ack_timeout_millis: _Optional[int] = ..., backoff_min_millis: _Optional[int] = ..., backoff_max_millis: _Optional[int] = ...) -> None: ...

class SlotStopped(_message.Message):
    __slots__ = ["reason", "slot"]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    reason: str
    slot: int
    def __init__(self, slot: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class SlotsAssigned(_message.Message):
    __slots__ = ["slots"]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    slots: _containers.RepeatedCompositeFieldContainer[AssignedSlot]
    def __init__(self, slots: _Optional[_Iterable[_Union[AssignedSlot, _Mapping]]] = ...) -> None: ...

class SlotsRevoked(_message.Message):
    __slots__ = ["slots"]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    slots: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, slots: _Optional[_Iterable[int]] = ...) -> None: ...

class TenantLeft(_message.Message):
    __slots__ = ["status"]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: _status_pb2.CallStatus
    def __init__(self, status: _Optional[_Union[_status_pb2.CallStatus, _Mapping]] = ...) -> None: ...

class TenantSelection(_message.Message):
    __slots__ = ["tenants"]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    tenants: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, tenants: _Optional[_Iterable[bytes]] = ...) -> None: ...

class TenantsJoined(_message.Message):
    __slots__ = ["tenants"]
    TENANTS_FIELD_NUMBER: _ClassVar[int]
    tenants: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, tenants: _Optional[_Iterable[bytes]] = ...) -> None: ...

class UnblockKeysRequest(_message.Message):
    __slots__ = ["consumer", "keys", "tenant"]
    CONSUMER_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    consumer: str
    keys: _containers.RepeatedCompositeFieldContainer[KeyToUnblock]
    tenant: bytes
    def __init__(self, tenant: _Optional[bytes] = ..., consumer: _Optional[str] = ..., keys: _Optional[_Iterable[_Union[KeyToUnblock, _Mapping]]] = ...) -> None: ...

class UnblockKeysResponse(_message.Message):
    __slots__ = ["unblocked"]
    UNBLOCKED_FIELD_NUMBER: _ClassVar[int]
    unblocked: int
    def __init__(self, unblocked: _Optional[int] = ...) -> None: ...

class WaitingForCredit(_message.Message):
    __slots__ = ["credit_bytes"]
    CREDIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    credit_bytes: int
    def __init__(self, credit_bytes: _Optional[int] = ...) -> None: ...

class WorkerAlive(_message.Message):
    __slots__ = []
    def __init__(self) -> None: ...

class WorkerReplies(_message.Message):
    __slots__ = ["replies"]
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    replies: _containers.RepeatedCompositeFieldContainer[WorkerReply]
    def __init__(self, replies: _Optional[_Iterable[_Union[WorkerReply, _Mapping]]] = ...) -> None: ...

class WorkerReply(_message.Message):
    __slots__ = ["acknowledge", "alive", "reject"]
    ACKNOWLEDGE_FIELD_NUMBER: _ClassVar[int]
    ALIVE_FIELD_NUMBER: _ClassVar[int]
    REJECT_FIELD_NUMBER: _ClassVar[int]
    acknowledge: Acknowledgement
    alive: WorkerAlive
    reject: Rejection
    def __init__(self, acknowledge: _Optional[_Union[Acknowledgement, _Mapping]] = ..., reject: _Optional[_Union[Rejection, _Mapping]] = ..., alive: _Optional[_Union[WorkerAlive, _Mapping]] = ...) -> None: ...
