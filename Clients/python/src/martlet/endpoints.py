"""Which server calls go to: pure bookkeeping, shared by the blocking and the asyncio client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import ANSWER_TOO_LARGE, MartletError, Unavailable, certificate_required
from .methods import Method
from .settings import DEFAULT_MESSAGE_BYTES_MAX, Settings
from .v1 import admin_pb2

# What gRPC makes of the TLS alert with which a server refuses a client that presents no certificate.
_REFUSED_BY_ALERT = ("Unwrap failed", "CERTIFICATE_REQUIRED")


class Endpoint:
    """A channel to one server, which takes answers of so many bytes."""

    def __init__(self, channel: Any, message_bytes_max: int) -> None:
        self.channel = channel
        self.message_bytes_max = message_bytes_max
        #: An answer was too long: the server is asked for its limits before the next call.
        self.must_ask = False
        self._asked = False
        self._calls: dict[str, Any] = {}

    def call(self, method: Method[Any, Any]) -> Any:
        """The callable for a method."""
        found = self._calls.get(method.path)
        if found is None:
            found = self._calls[method.path] = method.on(self.channel)
        return found

    def asks(self) -> bool:
        """Has the server asked for its limits; False if that was done already and did not help."""
        if self._asked:
            return False
        self.must_ask = self._asked = True
        return True


class Endpoints:
    """The servers of a client, of which one is used at a time, and the next one after a failure."""

    def __init__(self, settings: Settings, open_channel: Callable[[str, list[tuple[str, Any]]], Any]) -> None:
        self._settings = settings
        self._open_channel = open_channel
        self._index = 0
        self._open: dict[str, Endpoint] = {}
        self._retired: list[Any] = []

    def current(self) -> Endpoint:
        """The endpoint that calls go to now."""
        server = self._settings.servers[self._index]
        if server not in self._open:
            self._open[server] = self._make(server, DEFAULT_MESSAGE_BYTES_MAX)
        return self._open[server]

    def _make(self, server: str, message_bytes_max: int) -> Endpoint:
        options = self._settings.channel_options(message_bytes_max)
        return Endpoint(self._open_channel(server, options), message_bytes_max)

    def learned(self, endpoint: Endpoint, info: admin_pb2.GetServerInfoResponse) -> Endpoint:
        """The endpoint to use, now that the server has named its limits: another one if its messages are longer."""
        endpoint.must_ask = False
        longest = info.limits.frame_bytes_max
        for server, known in self._open.items():
            if known is endpoint and longest > endpoint.message_bytes_max:
                # Calls that are open on the old channel go on; it is closed with the client.
                self._retired.append(endpoint.channel)
                self._open[server] = self._make(server, longest)
                break
        return self.current()

    def judge(self, failure: MartletError, endpoint: Endpoint | None) -> MartletError:
        """Draws the consequences of a failed call; the error that it ends with, if it is not made again.

        No endpoint: the server could not even be asked for its limits.
        """
        if endpoint is None:
            failure.may_be_done = False
            endpoint = self.current()
        if isinstance(failure, Unavailable):
            # The next server is used, if there are several.
            server = self._settings.servers[self._index]
            if self._open.get(server) is endpoint:
                self._index = (self._index + 1) % len(self._settings.servers)
        if failure.reason == ANSWER_TOO_LARGE:
            failure.retryable = endpoint.must_ask or endpoint is not self.current() or endpoint.asks()
        if self._settings.cert is None and any(text in failure.message for text in _REFUSED_BY_ALERT):
            return certificate_required(failure)
        return failure

    def channels(self) -> list[Any]:
        """All channels that were opened, to be closed."""
        return [each.channel for each in self._open.values()] + self._retired
