"""Consumers and workers for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import grpc

from .. import errors, methods
from ..aio.client import being_cancelled
from ..errors import MartletError
from ..v1 import consumer_pb2
from . import _requests, _slots
from ._connection import connect_async
from ._consumer import default_worker
from ._engine import FAREWELL_SECONDS, WINDOW_BYTES
from ._keys import KeyQueues
from ._model import FIRST, BlockedKey, ConsumerState, Definition, Delivery, Start
from ._slots import Slots

if TYPE_CHECKING:
    from ..aio.client import Client

log = logging.getLogger("martlet.workers")

AsyncHandler = Callable[[Delivery], Awaitable[object]]


class AsyncConsumer:
    """As `Consumer`, for asyncio."""

    def __init__(self, client: Client, tenant: uuid.UUID, name: str) -> None:
        self.client = client
        self.tenant = tenant
        self.name = name

    async def put(
        self,
        definition: Definition | None = None,
        *,
        start: Start | int | datetime = FIRST,
        replace: bool | int = False,
    ) -> int:
        """As `Consumer.put`."""
        request = _requests.put(self.tenant, self.name, definition or Definition(), start, replace)
        return (await self.client.call(methods.PUT_CONSUMER, request)).revision

    async def describe(self) -> ConsumerState:
        """As `Consumer.describe`."""
        request = consumer_pb2.GetConsumerRequest(tenant=self.tenant.bytes, consumer=self.name)
        return _requests.state(await self.client.call(methods.GET_CONSUMER, request))

    async def delete(self) -> None:
        """As `Consumer.delete`."""
        request = consumer_pb2.DeleteConsumerRequest(tenant=self.tenant.bytes, consumer=self.name)
        await self.client.call(methods.DELETE_CONSUMER, request)

    async def reset(self, start: Start | int | datetime = FIRST) -> None:
        """As `Consumer.reset`."""
        request = consumer_pb2.ResetConsumerRequest(
            tenant=self.tenant.bytes, consumer=self.name, start=_requests.start(start)
        )
        await self.client.call(methods.RESET_CONSUMER, request, repeatable=False)

    async def blocked(self) -> list[BlockedKey]:
        """As `Consumer.blocked`."""
        keys: list[BlockedKey] = []
        after: consumer_pb2.KeyPlace | None = None
        while True:
            request = _requests.list_blocked(self.tenant, self.name, after)
            page = (await self.client.call(methods.LIST_BLOCKED_KEYS, request)).keys
            keys += map(_requests.blocked_key, page)
            if len(page) < _requests.BLOCKED_KEYS_PAGE:
                return keys
            after = page[-1].place

    async def retry(self, keys: Iterable[BlockedKey]) -> int:
        """As `Consumer.retry`."""
        request = _requests.unblock(self.tenant, self.name, keys, skip=False)
        return (await self.client.call(methods.UNBLOCK_KEYS, request)).unblocked

    async def skip(self, keys: Iterable[BlockedKey]) -> int:
        """As `Consumer.skip`."""
        request = _requests.unblock(self.tenant, self.name, keys, skip=True)
        return (await self.client.call(methods.UNBLOCK_KEYS, request)).unblocked

    async def wait_for(self, position: int, *, timeout: float = 30.0) -> int:
        """As `Consumer.wait_for`."""
        request = consumer_pb2.AwaitConsumerRequest(tenant=self.tenant.bytes, consumer=self.name, position=position)
        return (await self.client.call(methods.AWAIT_CONSUMER, request, timeout=timeout)).position

    def worker(self, handler: AsyncHandler, *, name: str | None = None, concurrency: int = 16) -> AsyncWorker:
        """As `Consumer.worker`.

        Args:
            handler: an async function.
            name: as there.
            concurrency: how many handlers may be at work. Events of one key are handled one after the other; keys
                side by side.
        """
        return AsyncWorker(self, handler, name or default_worker(), concurrency)

    async def run(self, handler: AsyncHandler, *, worker: str | None = None, concurrency: int = 16) -> None:
        """Works on the consumer until the task is cancelled. As `worker(…).run()`."""
        await self.worker(handler, name=worker, concurrency=concurrency).run()


class _Stream:
    """One stream of a worker: from the call to its end."""

    def __init__(self) -> None:
        self.slots = Slots()
        self.ready: asyncio.Queue[bytes] = asyncio.Queue()
        self.queues: KeyQueues[bytes, tuple[Delivery, Callable[[], None]]] = KeyQueues(self.ready.put_nowait)
        self.replies: asyncio.Queue[consumer_pb2.WorkerReply | None] = asyncio.Queue()
        self.last_at = time.monotonic()
        self.used = 0
        self.room = asyncio.Event()
        self.room.set()
        self.problem: BaseException | None = None
        self.is_over = False

    async def requests(self, start: consumer_pb2.ConsumeStart) -> AsyncIterator[consumer_pb2.ConsumeRequest]:
        """What the worker says; replies that wait go together."""
        yield consumer_pb2.ConsumeRequest(start=start)
        is_closed = False
        while not is_closed:
            replies: list[consumer_pb2.WorkerReply] = []
            reply = await self.replies.get()
            while reply is not None:
                replies.append(reply)
                if len(replies) == _slots.REPLIES_MAX or self.replies.empty():
                    break
                reply = self.replies.get_nowait()
            is_closed = reply is None
            if replies:
                self.last_at = time.monotonic()
                yield consumer_pb2.ConsumeRequest(replies=consumer_pb2.WorkerReplies(replies=replies))


class AsyncWorker:
    """As `Worker`, for asyncio. Its tasks end with `run`."""

    def __init__(self, consumer: AsyncConsumer, handler: AsyncHandler, name: str, concurrency: int) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency is at least 1, not {concurrency}")
        self.name = name
        self._consumer = consumer
        self._handler = handler
        self._concurrency = concurrency
        self._is_stopping = False
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Has `run` return once the handlers at work have returned and their events are settled. To be called by the
        event loop's thread, for example by `loop.add_signal_handler(SIGTERM, worker.stop)`."""
        self._is_stopping = True
        self._stop.set()

    async def run(self) -> None:
        """Works until `stop()`, or until the task is cancelled, which cancels the handlers. Comes again when the
        connection or the server is lost.

        Raises:
            MartletError: as `Worker.run`.
        """
        policy = self._consumer.client.settings.retry
        failures = 0
        while not self._is_stopping:
            stream = _Stream()
            try:
                await self._follow(stream)
                continue
            except MartletError as error:
                if self._is_stopping:
                    return
                if not error.retryable:
                    raise
                problem = error
            failures = failures + 1 if not stream.slots.count else 0
            bound = min(policy.longest_wait, policy.first_wait * 2 ** min(failures, 16))
            wait = max(bound * policy.random(), problem.retry_after or 0.0)
            log.warning("%s/%s: comes again in %.2f s: %s", self._consumer.name, self.name, wait, problem)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait)

    async def _follow(self, stream: _Stream) -> None:
        """One stream.

        Raises:
            MartletError: what ended it. Returns if the worker has left.
        """
        connection = await connect_async(self._consumer.client)
        consumer = self._consumer
        start = _requests.consume(consumer.tenant, consumer.name, self.name, 0, False)
        call: Any = connection.consume(stream.requests(start))
        tasks = [asyncio.create_task(self._work(stream)) for _ in range(self._concurrency)]
        tasks.append(asyncio.create_task(self._keep(stream, connection.lease_seconds, call)))
        for task in tasks:
            task.add_done_callback(functools.partial(_watch, stream=stream, call=call))
        try:
            async for message in call:
                await self._take(message, stream)
            if not self._is_stopping:
                raise errors.Unavailable("the server ended the stream", reason=errors.CONNECTION_LOST, retryable=True)
        except grpc.RpcError as error:
            raise stream.problem or connection.failure(error) from error
        except asyncio.CancelledError:
            # grpc.aio says it so, too, when the call or its channel was ended here.
            if being_cancelled() or not (self._is_stopping or stream.problem or self._consumer.client._closed):
                raise
            if stream.problem is not None or not self._is_stopping:
                raise stream.problem or errors.ClientClosed() from None
        finally:
            stream.is_over = True
            call.cancel()
            for task in tasks:
                task.cancel()
            # None of them outlives the stream.
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, message: consumer_pb2.ConsumeResponse, stream: _Stream) -> None:
        kind = message.WhichOneof("message")
        if kind == "events":
            await self._hand_out(message.events, stream)
        elif kind == "assigned":
            for one in message.assigned.slots:
                stream.slots.assign(one.slot, one.epoch)
        elif kind == "revoked":
            for number in message.revoked.slots:
                stream.slots.revoke(number)
        elif kind == "stopped":
            stopped = message.stopped
            log.error("%s/%s: slot %d has stopped: %s", self._consumer.name, self.name, stopped.slot, stopped.reason)

    async def _hand_out(self, message: consumer_pb2.EventsDelivered, stream: _Stream) -> None:
        size = message.ByteSize()
        while stream.used and stream.used + size > WINDOW_BYTES:
            stream.room.clear()
            await stream.room.wait()
        deliveries = list(stream.slots.deliveries(message))
        stream.used += size if deliveries else 0
        left = len(deliveries)

        def done() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                stream.used -= size
                stream.room.set()

        for delivery in deliveries:
            stream.queues.put(delivery.key, (delivery, done))

    async def _work(self, stream: _Stream) -> None:
        while True:
            key = await stream.ready.get()
            delivery, done = stream.queues.first(key)
            if not self._is_stopping and stream.slots.admits(delivery):
                await self._handle(delivery, stream)
            done()
            stream.queues.done(key)
            stream.ready.task_done()

    async def _handle(self, delivery: Delivery, stream: _Stream) -> None:
        try:
            await self._handler(delivery)
        except (Exception, asyncio.CancelledError) as error:
            # Before Python 3.11, nobody knows whose cancellation it is.
            if isinstance(error, asyncio.CancelledError) and (sys.version_info < (3, 11) or being_cancelled()):
                raise
            _slots.log_failure(delivery, error)
            stream.slots.fail(delivery)
            stream.replies.put_nowait(_slots.rejection(delivery, error))
        else:
            stream.replies.put_nowait(_slots.acknowledgement(delivery))

    async def _keep(self, stream: _Stream, lease: float, call: Any) -> None:
        """Says that the worker is there, and ends the stream when it is told to stop."""
        alive = asyncio.create_task(self._stay_alive(stream, lease / 3))
        try:
            await self._stop.wait()
            # What is under way is finished, what waits is passed over.
            await stream.ready.join()
        finally:
            alive.cancel()
        stream.replies.put_nowait(None)
        await asyncio.sleep(FAREWELL_SECONDS)
        stream.is_over = True
        call.cancel()

    async def _stay_alive(self, stream: _Stream, every: float) -> None:
        while True:
            silence = time.monotonic() - stream.last_at
            if silence >= every:
                stream.last_at = time.monotonic()
                stream.replies.put_nowait(_slots.alive())
                silence = 0
            await asyncio.sleep(every - silence)


def _watch(task: asyncio.Task[None], stream: _Stream, call: Any) -> None:
    """A task must not end in silence."""
    if stream.is_over:
        return
    ended = asyncio.CancelledError() if task.cancelled() else task.exception()
    stream.problem = stream.problem or ended or RuntimeError("a task of the worker has ended")
    call.cancel()
