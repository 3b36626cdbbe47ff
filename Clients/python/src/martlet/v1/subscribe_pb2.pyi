from martlet.v1 import event_pb2 as _event_pb2
from martlet.v1 import query_pb2 as _query_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CaughtUp(_message.Message):
    __slots__ = ["position"]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    position: int
    def __init__(self, position: _Optional[int] = ...) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ["position"]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    position: int
    def __init__(self, position: _Optional[int] = ...) -> None: ...

class FellBehind(_message.Message):
    __slots__ = ["position"]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    position: int
    def __init__(self, position: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ["position", "waiting_for_credit_bytes"]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_CREDIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    position: int
    waiting_for_credit_bytes: int
    def __init__(self, position: _Optional[int] = ..., waiting_for_credit_bytes: _Optional[int] = ...) -> None: ...

class SeenEvent(_message.Message):
    __slots__ = ["event_id", "position"]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    event_id: bytes
    position: int
    def __init__(self, position: _Optional[int] = ..., event_id: _Optional[bytes] = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ["after_position", "filter", "from_head", "from_time_micros", "heartbeat_millis", "last_seen", "tenant", "upcasting"]
    AFTER_POSITION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    FROM_HEAD_FIELD_NUMBER: _ClassVar[int]
    FROM_TIME_MICROS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_MILLIS_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    UPCASTING_FIELD_NUMBER: _ClassVar[int]
    after_position: int
    filter: _event_pb2.EventFilter
    from_head: bool
    from_time_micros: int
    heartbeat_millis: int
    last_seen: SeenEvent
    tenant: bytes
    upcasting: _event_pb2.Upcasting
    def __init__(self, tenant: _Optional[bytes] = ..., after_position: _Optional[int] = ..., from_time_micros: _Optional[int] = ..., from_head: bool = ..., filter: _Optional[_Union[_event_pb2.EventFilter, _Mapping]] = ..., heartbeat_millis: _Optional[int] = ..., upcasting: _Optional[_Union[_event_pb2.Upcasting, _Mapping]] = ..., last_seen: _Optional[_Union[SeenEvent, _Mapping]] = ...) -> None: ...

class SubscribeResponse(_message.Message):
    __slots__ = ["caught_up", "checkpoint", "events", "fell_behind", "head", "heartbeat", "started", "upcasters_changed"]
    CAUGHT_UP_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    FELL_BEHIND_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    UPCASTERS_CHANGED_FIELD_NUMBER: _ClassVar[int]
    caught_up: CaughtUp
    checkpoint: Checkpoint
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.RecordedEvent]
    fell_behind: FellBehind
    head: _query_pb2.Head
    heartbeat: Heartbeat
    started: SubscriptionStarted
    upcasters_changed: UpcastersChanged
    def __init__(self, events: _Optional[_Iterable[_Union[_event_pb2.RecordedEvent, _Mapping]]] = ..., head: _Optional[_Union[_query_pb2.Head, _Mapping]] = ..., started: _Optional[_Union[SubscriptionStarted, _Mapping]] = ..., caught_up: _Optional[_Union[CaughtUp, _Mapping]] = ..., fell_behind: _Optional[_Union[FellBehind, _Mapping]] = ..., checkpoint: _Optional[_Union[Checkpoint, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., upcasters_changed: _Optional[_Union[UpcastersChanged, _Mapping]] = ...) -> None: ...

class SubscriptionStarted(_message.Message):
    __slots__ = ["after_position"]
    AFTER_POSITION_FIELD_NUMBER: _ClassVar[int]
    after_position: int
    def __init__(self, after_position: _Optional[int] = ...) -> None: ...

class UpcastersChanged(_message.Message):
    __slots__ = ["position", "revision"]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    position: int
    revision: int
    def __init__(self, position: _Optional[int] = ..., revision: _Optional[int] = ...) -> None: ...
