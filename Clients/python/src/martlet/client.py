"""The blocking client: a thin layer that carries out what the pure modules decide."""

from __future__ import annotations

import collections
import math
import os
import queue
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from . import answers, methods
from .endpoints import Endpoint, Endpoints
from .errors import ClientClosed, MartletError, of_rpc, server_silent, stream_ended
from .methods import Method, Request, Response
from .model import ServerInfo
from .retry import Attempts, RetryPolicy
from .settings import Settings, read_settings, system_authorities, tenant_id
from .streams import Item, Machine
from .v1 import admin_pb2

if TYPE_CHECKING:
    from .tenant import Tenant

Answer = TypeVar("Answer")


class _Default:
    """Stands for the client's own timeout."""


DEFAULT = _Default()
#: Seconds, None for no end, or DEFAULT.
Timeout = float | None | _Default


def seconds_of(timeout: Timeout, settings: Settings) -> float | None:
    """The timeout in seconds, that of the settings for DEFAULT."""
    return settings.timeout if isinstance(timeout, _Default) else timeout


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
    """A client. What is not given comes from MARTLET_SERVER, MARTLET_CA, MARTLET_CERT, MARTLET_KEY and MARTLET_TENANT.

    `server` is host:port, or several of one storage. `ca`, `cert` and `key` are files in PEM. A server that is silent
    for two times `heartbeat` seconds counts as gone. `timeout` is the time of a call with all its attempts, in
    seconds. Nothing is sent before the first call. ValueError for settings that cannot be used.
    """
    return Client(
        read_settings(
            server, ca=ca, cert=cert, key=key, tenant=tenant, heartbeat=heartbeat, timeout=timeout, retry=retry
        )
    )


class Client:
    """A connection to Martlet, to be shared by all threads of a process; make it after a fork, not before."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._endpoints = Endpoints(settings, settings.open_channel or self._open_channel)
        # Reentrant, so that a signal handler may close the client.
        self._lock = threading.RLock()
        self._closed = False
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._streams: weakref.WeakSet[Stream[Any]] = weakref.WeakSet()
        self._watchdog: Watchdog | None = None

    def _open_channel(self, server: str, options: list[tuple[str, Any]]) -> grpc.Channel:
        settings = self.settings
        credentials = grpc.ssl_channel_credentials(settings.ca or system_authorities(), settings.key, settings.cert)
        return grpc.secure_channel(server, credentials, options)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends open iterators, fails calls under way with ClientClosed, and closes the connections."""
        self._closed = True
        self._wake.put(None)
        for stream in self.open_streams():
            stream.close()
        if self._watchdog is not None:
            self._watchdog.stop()
        with self._lock:
            channels = self._endpoints.channels()
        for channel in channels:
            channel.close()

    def tenant(self, tenant: str | uuid.UUID | None = None) -> Tenant:
        """A handle of a tenant; without argument, of the one in the settings. ValueError if there is none."""
        from .tenant import Tenant

        return Tenant(self, tenant_id(tenant, self.settings))

    def server_info(self) -> ServerInfo:
        """Asks what the server is: its version, its limits, and what this client may use."""
        return answers.server_info(self.call(methods.GET_SERVER_INFO, admin_pb2.GetServerInfoRequest()))

    def status(self) -> admin_pb2.GetStatusResponse:
        """Asks how the server is doing."""
        return self.call(methods.GET_STATUS, admin_pb2.GetStatusRequest())

    # What other modules of the package build on.

    def call(
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

        def once(endpoint: Endpoint, seconds: float | None) -> Response:
            answer: Response = endpoint.call(method)(request, timeout=seconds)
            return answer

        return self.attempt(once, self.attempts(timeout, writes=method.writes, repeatable=repeatable))

    def attempt(self, once: Callable[[Endpoint, float | None], Answer], attempts: Attempts) -> Answer:
        """Carries out one attempt after the other; each gets an endpoint and its time in seconds."""
        while True:
            endpoint = None
            try:
                endpoint = self.endpoint(attempts)
                return once(endpoint, attempts.remaining())
            except (grpc.RpcError, ValueError, MartletError) as error:
                self.pause(attempts.failed(self.failure(error, endpoint)), self._wake)

    def attempts(self, timeout: Timeout = DEFAULT, *, writes: bool = False, repeatable: bool = True) -> Attempts:
        """The attempts of one call."""
        seconds = seconds_of(timeout, self.settings)
        return Attempts(self.settings.retry, seconds, writes=writes, repeatable=repeatable)

    def endpoint(self, attempts: Attempts) -> Endpoint:
        """The endpoint to call. grpc.RpcError if the server has to be asked for its limits, and cannot be."""
        with self._lock:
            if self._closed:
                raise ClientClosed()
            endpoint = self._endpoints.current()
        if endpoint.must_ask:
            seconds = min(attempts.remaining() or math.inf, 2 * self.settings.heartbeat)
            info = endpoint.call(methods.GET_SERVER_INFO)(admin_pb2.GetServerInfoRequest(), timeout=seconds)
            with self._lock:
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
        with self._lock:
            return self._endpoints.judge(failure, endpoint)

    def pause(self, seconds: float, wake: queue.SimpleQueue[None]) -> None:
        """Waits before the next attempt, or until something is put into the queue; ClientClosed after closing."""
        if self.settings.retry.sleep is not None:
            self.settings.retry.sleep(seconds)
        else:
            # A SimpleQueue, unlike an Event, may be used by a signal handler in the midst of its own use.
            try:
                wake.get(timeout=max(0.0, seconds))
                wake.put(None)
            except queue.Empty:
                pass
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
        with self._lock:
            self._streams.add(stream)
            if silence_max is not None and self._watchdog is None:
                self._watchdog = Watchdog(self.open_streams, self.settings.heartbeat / 10)
        return stream

    def open_streams(self) -> list[Stream[Any]]:
        """The iterators that are not closed."""
        with self._lock:
            return list(self._streams)


class Watchdog:
    """A thread that ends calls which have been silent for too long while somebody waits for them."""

    def __init__(self, streams: Callable[[], list[Stream[Any]]], seconds: float) -> None:
        self._streams = weakref.WeakMethod(streams)
        self._seconds = seconds
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="martlet-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Ends the thread soon."""
        self._wake.put(None)

    def _run(self) -> None:
        while True:
            try:
                return self._wake.get(timeout=self._seconds)
            except queue.Empty:
                pass
            streams = self._streams()
            if streams is None:
                return
            now = time.monotonic()
            for stream in streams():
                stream.check_silence(now)
            del streams


class Stream(Iterator[Item]):
    """An iterator over a stream that goes on when connections end. It may be closed from any thread; it then ends."""

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
        self._waiting_since: float | None = None
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __enter__(self) -> Stream[Item]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Ends the iteration, also one that waits in another thread."""
        # No lock: a signal handler may close the iterator that its own thread is waiting for.
        self._closed = True
        self._wake.put(None)
        call = self._call
        if call is not None:
            call.cancel()

    def check_silence(self, now: float) -> None:
        """Ends the call if its next message has been awaited for too long."""
        since, call = self._waiting_since, self._call
        if since is not None and call is not None and self._silence_max is not None and now - since > self._silence_max:
            self._silent = True
            call.cancel()

    def __iter__(self) -> Stream[Item]:
        return self

    def __next__(self) -> Item:
        while not self._closed:
            if self._items:
                return self._items.popleft()
            if self._ended:
                break
            try:
                self._advance()
            except BaseException as error:
                if isinstance(error, ClientClosed) and self._closed:
                    break
                if isinstance(error, Exception):
                    self._ended = True
                    self._cancel()
                raise
        raise StopIteration

    def _cancel(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _advance(self) -> None:
        """Takes the next message, or deals with the end of the call."""
        try:
            message = self._receive()
            if message is None and self._machine.endless:
                raise stream_ended()
        except (grpc.RpcError, ValueError, MartletError) as error:
            self._call = None
            if self._closed:
                return
            failure = self._client.failure(error, self._endpoint)
            if self._silent:
                failure = server_silent()
            self._silent = False
            self._client.pause(self._attempts.failed(self._machine.explain(failure)), self._wake)
            return
        if message is None:
            self._call = None
            self._ended = True
            return
        items = self._machine.receive(message)
        if self._machine.advances:
            self._attempts.progress(endless=self._machine.patient)
        self._items.extend(items)

    def _receive(self) -> Any:
        """The next message of the call, which is opened if there is none; None after its end."""
        if self._call is None:
            self._endpoint = None
            endpoint = self._client.endpoint(self._attempts)
            self._endpoint = endpoint
            seconds = None if self._machine.advances else self._attempts.remaining()
            call = endpoint.call(self._machine.method)(self._machine.request(), timeout=seconds)
            self._call = call
            if self._closed:
                call.cancel()
        self._waiting_since = time.monotonic()
        try:
            return next(self._call, None)
        finally:
            self._waiting_since = None
