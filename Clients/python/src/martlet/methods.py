"""The calls of Martlet: their paths, and the classes of their messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .v1 import (
    admin_pb2,
    append_pb2,
    consumer_pb2,
    query_pb2,
    schedule_pb2,
    settings_pb2,
    snapshot_pb2,
    subscribe_pb2,
)

Request = TypeVar("Request")
Response = TypeVar("Response")


@dataclass(frozen=True)
class Method(Generic[Request, Response]):
    """A method of a service. `kind` is the name of the channel's method that makes the call."""

    path: str
    request: type[Request]
    response: type[Response]
    kind: str = "unary_unary"
    #: It may change what is stored.
    writes: bool = False

    def on(self, channel: Any) -> Any:
        """The callable that makes the call over that channel."""
        return getattr(channel, self.kind)(
            self.path,
            request_serializer=self.request.SerializeToString,  # type: ignore[attr-defined]
            response_deserializer=self.response.FromString,  # type: ignore[attr-defined]
        )


def _method(
    service: str,
    name: str,
    request: type[Request],
    response: type[Response],
    kind: str = "unary_unary",
    writes: bool = False,
) -> Method[Request, Response]:
    return Method(f"/martlet.v1.{service}Service/{name}", request, response, kind, writes)


APPEND = _method("Append", "Append", append_pb2.AppendRequest, append_pb2.AppendResponse, writes=True)
APPEND_SESSION = _method(
    "Append", "AppendSession", append_pb2.AppendSessionRequest, append_pb2.AppendSessionResponse, "stream_stream", True
)
LOAD = _method("Query", "Load", query_pb2.LoadRequest, query_pb2.LoadResponse, "unary_stream")
READ = _method("Query", "Read", query_pb2.ReadRequest, query_pb2.ReadResponse, "unary_stream")
GET_HEAD = _method("Query", "GetHead", query_pb2.GetHeadRequest, query_pb2.GetHeadResponse)
SUBSCRIBE = _method(
    "Subscribe", "Subscribe", subscribe_pb2.SubscribeRequest, subscribe_pb2.SubscribeResponse, "unary_stream"
)

PUT_CONSUMER = _method(
    "Consumer", "PutConsumer", consumer_pb2.PutConsumerRequest, consumer_pb2.PutConsumerResponse, writes=True
)
GET_CONSUMER = _method("Consumer", "GetConsumer", consumer_pb2.GetConsumerRequest, consumer_pb2.GetConsumerResponse)
LIST_CONSUMERS = _method(
    "Consumer", "ListConsumers", consumer_pb2.ListConsumersRequest, consumer_pb2.ListConsumersResponse
)
DELETE_CONSUMER = _method(
    "Consumer", "DeleteConsumer", consumer_pb2.DeleteConsumerRequest, consumer_pb2.DeleteConsumerResponse, writes=True
)
RESET_CONSUMER = _method(
    "Consumer", "ResetConsumer", consumer_pb2.ResetConsumerRequest, consumer_pb2.ResetConsumerResponse, writes=True
)
LIST_BLOCKED_KEYS = _method(
    "Consumer", "ListBlockedKeys", consumer_pb2.ListBlockedKeysRequest, consumer_pb2.ListBlockedKeysResponse
)
UNBLOCK_KEYS = _method(
    "Consumer", "UnblockKeys", consumer_pb2.UnblockKeysRequest, consumer_pb2.UnblockKeysResponse, writes=True
)
AWAIT_CONSUMER = _method(
    "Consumer", "AwaitConsumer", consumer_pb2.AwaitConsumerRequest, consumer_pb2.AwaitConsumerResponse
)
CONSUME = _method("Consumer", "Consume", consumer_pb2.ConsumeRequest, consumer_pb2.ConsumeResponse, "stream_stream")

SAVE_SNAPSHOT = _method(
    "Snapshot", "SaveSnapshot", snapshot_pb2.SaveSnapshotRequest, snapshot_pb2.SaveSnapshotResponse, writes=True
)
LOAD_SNAPSHOT = _method("Snapshot", "LoadSnapshot", snapshot_pb2.LoadSnapshotRequest, snapshot_pb2.LoadSnapshotResponse)
LIST_SNAPSHOTS = _method(
    "Snapshot", "ListSnapshots", snapshot_pb2.ListSnapshotsRequest, snapshot_pb2.ListSnapshotsResponse
)
DELETE_SNAPSHOTS = _method(
    "Snapshot",
    "DeleteSnapshots",
    snapshot_pb2.DeleteSnapshotsRequest,
    snapshot_pb2.DeleteSnapshotsResponse,
    writes=True,
)

PUT_SETTINGS = _method(
    "Settings", "PutSettings", settings_pb2.PutSettingsRequest, settings_pb2.PutSettingsResponse, writes=True
)
GET_SETTINGS = _method("Settings", "GetSettings", settings_pb2.GetSettingsRequest, settings_pb2.GetSettingsResponse)

CHANGE_SCHEDULES = _method(
    "Schedule",
    "ChangeSchedules",
    schedule_pb2.ChangeSchedulesRequest,
    schedule_pb2.ChangeSchedulesResponse,
    writes=True,
)
LIST_SCHEDULES = _method(
    "Schedule", "ListSchedules", schedule_pb2.ListSchedulesRequest, schedule_pb2.ListSchedulesResponse
)

GET_STATUS = _method("Admin", "GetStatus", admin_pb2.GetStatusRequest, admin_pb2.GetStatusResponse)
GET_SERVER_INFO = _method("Admin", "GetServerInfo", admin_pb2.GetServerInfoRequest, admin_pb2.GetServerInfoResponse)
