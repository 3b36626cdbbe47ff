"""How a worker reaches its server over the client's channels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from .. import methods
from ..errors import MartletError
from ..v1 import admin_pb2, consumer_pb2

if TYPE_CHECKING:
    from ..aio.client import Client as AsyncClient
    from ..client import Client
    from ..endpoints import Endpoint
    from ._engine import Requests

LEASE_SECONDS_MIN = 0.1


class ClientConnection:
    """A server of a client, which was asked for its limits."""

    def __init__(self, client: Client | AsyncClient, endpoint: Endpoint, info: admin_pb2.GetServerInfoResponse) -> None:
        self._client = client
        self._endpoint = endpoint
        self.lease_seconds = max(LEASE_SECONDS_MIN, info.limits.consumer_lease_millis / 1_000)

    def consume(self, requests: Requests | AsyncIterator[consumer_pb2.ConsumeRequest]) -> Any:
        """Opens the stream."""
        try:
            return self._endpoint.call(methods.CONSUME)(requests)
        except (ValueError, grpc.aio.UsageError) as error:
            # The channel was closed with its client.
            raise self._client.failure(error, self._endpoint) from error

    def failure(self, error: Exception) -> MartletError:
        """What the end of a call means; the next stream goes to another server if this one cannot be reached."""
        return self._client.failure(error, self._endpoint)


def connect(client: Client) -> ClientConnection:
    """The server to use now.

    Raises:
        MartletError: it cannot be asked for its limits.
    """
    seconds = 2 * client.settings.heartbeat
    endpoint = None
    try:
        endpoint = client.endpoint(client.attempts(seconds))
        info = endpoint.call(methods.GET_SERVER_INFO)(admin_pb2.GetServerInfoRequest(), timeout=seconds)
        return ClientConnection(client, endpoint, info)
    except (grpc.RpcError, ValueError) as error:
        raise client.failure(error, endpoint) from error


async def connect_async(client: AsyncClient) -> ClientConnection:
    """As `connect`."""
    seconds = 2 * client.settings.heartbeat
    endpoint = None
    try:
        endpoint = await client.endpoint(client.attempts(seconds))
        info = await endpoint.call(methods.GET_SERVER_INFO)(admin_pb2.GetServerInfoRequest(), timeout=seconds)
        return ClientConnection(client, endpoint, info)
    except (grpc.RpcError, grpc.aio.UsageError) as error:
        raise client.failure(error, endpoint) from error
