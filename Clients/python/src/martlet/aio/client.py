"""The asyncio client: a thin layer that carries out what the pure modules decide."""

from __future__ import annotations

import asyncio
import collections
import math
import os
import uuid
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio

from .. import answers, methods
from ..client import DEFAULT, Timeout, seconds_of
from ..endpoints import Endpoint, Endpoints
from ..errors import ClientClosed, MartletError, of_rpc, server_silent, stream_ended
from ..methods import Method, Request, Response
from ..model import ServerInfo
from ..retry import Attempts, RetryPolicy
from ..settings import Settings, read_settings, system_authorities, tenant_id
from ..streams import Item, Machine
from ..v1 import admin_pb2

if TYPE_CHECKING:
    from .tenant import Tenant

Answer = TypeVar("Answer")

# gRPC reports the end of a cancelled call to the event loop a moment after the call has ended for its caller, and logs
# an error if the loop is closed by then. Closing a client waits for so long, in seconds, if calls were cancelled.
SETTLING_SECONDS = 0.05


def connect(
    server: str | Sequence[str] | None = None,
    *,
    ca: str | os.PathLike[str] | None = None,
    cert: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
    tenant: str | uuid.UUID | None = None,
    heartbeat: float = 10.0,
    timeout: float | None = 30.0,
    retry: RetryPolicy | None = None,
) -> Client:
    """A client, as `martlet.connect` makes one; it belongs to the event loop of its first call."""
    return Client(
        read_settings(
            server, ca=ca, cert=cert, key=key, tenant=tenant, heartbeat=heartbeat, timeout=timeout, retry=retry
        )
    )


class Client:
    """A connection to Martlet, to be shared by all tasks of one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._endpoints = Endpoints(settings, settings.open_channel or self._open_channel)
        self._closed = False
        self._streams: weakref.WeakSet[Stream[Any]] = weakref.WeakSet()
        #: A call was cancelled, by whomever.
        self.has_cancelled = False
        self._pauses: set[asyncio.Future[None]] = set()

    def _open_channel(self, server: str, options: list[tuple[str, Any]]) -> grpc.aio.Channel:
        settings = self.settings
        credentials = grpc.ssl_channel_credentials(settings.ca or system_authorities(), settings.key, settings.cert)
        return grpc.aio.secure_channel(server, credentials, options)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends open iterators, fails calls under way with ClientClosed, and closes the connections."""
        self._closed = True
        for stream in list(self._streams):
            await stream.aclose()
        for pause in list(self._pauses):
            if not pause.done():
                pause.set_result(None)
        for channel in self._endpoints.channels():
            await channel.close()
        if self.has_cancelled:
            await asyncio.sleep(SETTLING_SECONDS)

    def tenant(self, tenant: str | uuid.UUID | None = None) -> Tenant:
        """A handle of a tenant; without argument, of the one in the settings. ValueError if there is none."""
        from .tenant import Tenant

        return Tenant(self, tenant_id(tenant, self.settings))

    async def server_info(self) -> ServerInfo:
        """Asks what the server is: its version, its limits, and what this client may use."""
        return answers.server_info(await self.call(methods.GET_SERVER_INFO, admin_pb2.GetServerInfoRequest()))

    async def status(self) -> admin_pb2.GetStatusResponse:
        """Asks how the server is doing."""
        return await self.call(methods.GET_STATUS, admin_pb2.GetStatusRequest())

    # What other modules of the package build on.

    async def call(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        timeout: Timeout = DEFAULT,
        repeatable: bool = True,
    ) -> Response:
        """Makes a unary call, again and again while that may help and time is left.

        `repeatable` is false for a write that would do something else the second time.
        """

        async def once(endpoint: Endpoint, seconds: float | None) -> Response:
            answer: Response = await endpoint.call(method)(request, timeout=seconds)
            return answer

        return await self.attempt(once, self.attempts(timeout, writes=method.writes, repeatable=repeatable))

    async def attempt(self, once: Callable[[Endpoint, float | None], Awaitable[Answer]], attempts: Attempts) -> Answer:
        """Carries out one attempt after the other; each gets an endpoint and its time in seconds."""
        while True:
            endpoint = None
            try:
                endpoint = await self.endpoint(attempts)
                return await once(endpoint, attempts.remaining())
            except (grpc.RpcError, grpc.aio.UsageError, MartletError) as error:
                failure = self.failure(error, endpoint)
            except asyncio.CancelledError:
                self.has_cancelled = True
                # grpc.aio says it so, too, when the channel was closed.
                if self._closed and not being_cancelled():
                    raise ClientClosed() from None
                raise
            await self.pause(attempts.failed(failure))

    def attempts(self, timeout: Timeout = DEFAULT, *, writes: bool = False, repeatable: bool = True) -> Attempts:
        """The attempts of one call."""
        seconds = seconds_of(timeout, self.settings)
        return Attempts(self.settings.retry, seconds, writes=writes, repeatable=repeatable)

    async def endpoint(self, attempts: Attempts) -> Endpoint:
        """The endpoint to call. grpc.RpcError if the server has to be asked for its limits, and cannot be."""
        if self._closed:
            raise ClientClosed()
        endpoint = self._endpoints.current()
        if endpoint.must_ask:
            seconds = min(attempts.remaining() or math.inf, 2 * self.settings.heartbeat)
            info = await endpoint.call(methods.GET_SERVER_INFO)(admin_pb2.GetServerInfoRequest(), timeout=seconds)
            endpoint = self._endpoints.learned(endpoint, info)
        return endpoint

    def failure(self, error: Exception, endpoint: Endpoint | None) -> MartletError:
        """What a failed call means; the next call goes to another server if this one cannot be reached."""
        if self._closed:
            return ClientClosed()
        if isinstance(error, MartletError):
            return error
        if not isinstance(error, grpc.RpcError):
            raise error
        failure = of_rpc(error)
        failure.__cause__ = error
        return self._endpoints.judge(failure, endpoint)

    async def pause(self, seconds: float, until: asyncio.Future[None] | None = None) -> None:
        """Waits before the next attempt, or until the future is done; ClientClosed after closing."""
        if self.settings.retry.sleep is not None:
            self.settings.retry.sleep(seconds)
        else:
            loop = asyncio.get_running_loop()
            pause = until if until is not None else loop.create_future()
            self._pauses.add(pause)
            timer = loop.call_later(seconds, lambda: pause.done() or pause.set_result(None))
            try:
                await pause
            finally:
                timer.cancel()
                self._pauses.discard(pause)
        if self._closed:
            raise ClientClosed()

    def stream(
        self, machine: Machine[Item], *, timeout: Timeout = DEFAULT, silence_max: float | None = None
    ) -> Stream[Item]:
        """An iterator over what a machine makes of its calls' messages.

        A call whose next message is awaited for longer than `silence_max` seconds counts as dead.
        """
        attempts = self.attempts(timeout)
        if machine.advances:
            # The time begins with the first failure, not here.
            attempts.progress()
        stream = Stream(self, machine, attempts, silence_max)
        self._streams.add(stream)
        return stream


def being_cancelled() -> bool:
    """Whether the task itself is being cancelled, as far as this Python tells (3.11 on)."""
    task = asyncio.current_task()
    cancelling = getattr(task, "cancelling", None)
    return bool(cancelling is not None and cancelling() > 0)


class Stream(AsyncIterator[Item]):
    """An iterator over a stream that goes on when connections end. Cancelling its task ends the call at once."""

    def __init__(self, client: Client, machine: Machine[Item], attempts: Attempts, silence_max: float | None) -> None:
        self._client = client
        self._machine = machine
        self._attempts = attempts
        self._silence_max = silence_max
        self._items: collections.deque[Item] = collections.deque()
        self._endpoint: Endpoint | None = None
        self._call: Any = None
        self._closed = False
        self._ended = False
        self._silent = False
        self._pause: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Stream[Item]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the iteration, also one that waits in another task."""
        self._closed = True
        self._cancel()
        if self._pause is not None and not self._pause.done():
            self._pause.set_result(None)

    def _cancel(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            self._client.has_cancelled = True
            call.cancel()

    def __aiter__(self) -> Stream[Item]:
        return self

    async def __anext__(self) -> Item:
        while not self._closed:
            if self._items:
                return self._items.popleft()
            if self._ended:
                break
            try:
                await self._advance()
            except BaseException as error:
                if isinstance(error, ClientClosed) and self._closed:
                    break
                self._ended = True
                self._cancel()
                raise
        raise StopAsyncIteration

    async def _advance(self) -> None:
        """Takes the next message, or deals with the end of the call."""
        try:
            message = await self._receive()
            if message is grpc.aio.EOF and self._machine.endless:
                raise stream_ended()
        except asyncio.CancelledError:
            # Also what a call that was cancelled by aclose or for its silence ends with.
            if being_cancelled() or not (self._closed or self._silent):
                raise
            failure = server_silent()
        except (grpc.RpcError, grpc.aio.UsageError, MartletError) as error:
            failure = ClientClosed() if self._closed else self._client.failure(error, self._endpoint)
        else:
            if message is grpc.aio.EOF:
                self._call = None
                self._ended = True
                return
            items = self._machine.receive(message)
            if self._machine.advances:
                self._attempts.progress(endless=self._machine.patient)
            self._items.extend(items)
            return
        self._call, self._silent = None, False
        if self._closed:
            return
        seconds = self._attempts.failed(self._machine.explain(failure))
        self._pause = asyncio.get_running_loop().create_future()
        await self._client.pause(seconds, self._pause)

    async def _receive(self) -> Any:
        """The next message of the call, which is opened if there is none."""
        if self._call is None:
            self._endpoint = None
            endpoint = await self._client.endpoint(self._attempts)
            self._endpoint = endpoint
            if self._closed:
                raise ClientClosed()
            seconds = None if self._machine.advances else self._attempts.remaining()
            self._call = endpoint.call(self._machine.method)(self._machine.request(), timeout=seconds)
        call = self._call
        if self._silence_max is None:
            return await call.read()

        def silent() -> None:
            self._silent = True
            call.cancel()

        timer = asyncio.get_running_loop().call_later(self._silence_max, silent)
        try:
            return await call.read()
        finally:
            timer.cancel()
