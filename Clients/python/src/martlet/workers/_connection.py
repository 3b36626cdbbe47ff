"""How a worker reaches its server over the client's channels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc

from .. import methods
from ..errors import MartletError
from ..retry import Attempts
from ..v1 import consumer_pb2

if TYPE_CHECKING:
    from ..aio.client import Client as AsyncClient
    from ..client import Client
    from ..endpoints import Endpoint
    from ._engine import Requests

LEASE_SECONDS_MIN = 0.1


class ClientConnection:
    """A server of a client, which was asked for its limits."""

    def __init__(self, client: Client | AsyncClient, endpoint: Endpoint) -> None:
        self._client = client
        self._endpoint = endpoint
        millis = endpoint.info.limits.consumer_lease_millis if endpoint.info is not None else 0
        self.lease_seconds = max(LEASE_SECONDS_MIN, millis / 1_000)

    def consume(self, requests: Requests | AsyncIterator[consumer_pb2.ConsumeRequest]) -> Any:
        """Opens the stream."""
        return self._endpoint.call(methods.CONSUME)(requests)

    def failure(self, error: Exception) -> MartletError:
        """What the end of a call means; the next stream goes to another server if this one cannot be reached."""
        return self._client.failure(error, self._endpoint)


def connect(client: Client) -> ClientConnection:
    """The server to use now.

    Raises:
        MartletError: it cannot be asked for its limits.
    """
    settings = client.settings
    try:
        return ClientConnection(client, client.endpoint(Attempts(settings.retry, 2 * settings.heartbeat)))
    except grpc.RpcError as error:
        raise client.failure(error, None) from error
