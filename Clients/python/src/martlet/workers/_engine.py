"""Follows the stream of a consumer, and hands what comes to threads. Comes again when the stream is lost.

The thread that calls `run` reads the stream. A keeper says that the worker is there, looks after handlers, and ends the
stream when the worker is told to stop. Everything that a signal handler may call takes no lock that the interrupted
thread could hold.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import queue
import signal
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from types import FrameType
from typing import Any, Protocol

import grpc

from .. import errors
from ..errors import MartletError
from ..retry import RetryPolicy
from ..v1 import consumer_pb2
from . import _slots
from ._keys import KeyQueues
from ._model import Delivery
from ._slots import Slots

log = logging.getLogger("martlet.workers")

WINDOW_BYTES = 8 * 1024 * 1024
FAREWELL_SECONDS = 5.0
TICK_SECONDS = 0.2

Reply = consumer_pb2.WorkerReply


class Requests(Iterator[consumer_pb2.ConsumeRequest]):
    """The messages of a worker, as gRPC takes them: replies that wait go together."""

    def __init__(self, start: consumer_pb2.ConsumeStart) -> None:
        self._queue: queue.SimpleQueue[Reply | None] = queue.SimpleQueue()
        self._start: consumer_pb2.ConsumeStart | None = start
        self._is_closed = False
        self.last_at = time.monotonic()

    @property
    def is_waiting(self) -> bool:
        """Whether something waits to be sent."""
        return not self._queue.empty()

    def put(self, reply: Reply) -> None:
        """Sends a reply, after those before it."""
        self._queue.put(reply)

    def close(self) -> None:
        """Sends nothing after what waits: the worker leaves."""
        self._queue.put(None)

    def __next__(self) -> consumer_pb2.ConsumeRequest:
        if self._start is not None:
            start, self._start = self._start, None
            return consumer_pb2.ConsumeRequest(start=start)
        if self._is_closed:
            raise StopIteration
        replies: list[Reply] = []
        reply = self._queue.get()
        while reply is not None:
            replies.append(reply)
            if len(replies) == _slots.REPLIES_MAX:
                break
            try:
                reply = self._queue.get_nowait()
            except queue.Empty:
                break
        self._is_closed = reply is None
        if not replies:
            raise StopIteration
        self.last_at = time.monotonic()
        return consumer_pb2.ConsumeRequest(replies=consumer_pb2.WorkerReplies(replies=replies))


class Window:
    """How many bytes of events wait for a thread."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._used = 0
        self._condition = threading.Condition()

    def take(self, size: int, is_over: Callable[[], bool]) -> None:
        """Waits for room. A message that is larger than the window has it alone."""
        with self._condition:
            while self._used and self._used + size > self._bytes_max and not is_over():
                # Short, so that a signal is noticed.
                self._condition.wait(0.1)
            self._used += size

    def give(self, size: int) -> None:
        """What was taken is handled."""
        with self._condition:
            self._used -= size
            self._condition.notify()


class Connection(Protocol):
    """A server that was asked for its limits."""

    lease_seconds: float
    """After so much silence, the server takes a worker for dead."""

    def consume(self, requests: Requests) -> Any:
        """Opens the stream."""

    def failure(self, error: Exception) -> MartletError:
        """What the end of a call means."""


class Stream:
    """One stream of a worker: from the call to its end."""

    def __init__(
        self, connection: Connection, requests: Requests, is_stopping: Callable[[], bool] = lambda: False
    ) -> None:
        self._connection = connection
        self._call = connection.consume(requests)
        self._requests = requests
        self._is_stopping = is_stopping
        self.slots = Slots()
        self.is_over = False
        self.is_leaving = False
        self.problem: BaseException | None = None

    @property
    def goes_on(self) -> bool:
        """Whether what waits is to be handled."""
        return not self.is_over and self.problem is None and not self._is_stopping()

    def reply(self, replies: Iterable[Reply]) -> None:
        """Says what became of deliveries."""
        for one in replies:
            self._requests.put(one)

    def keep_alive(self, every: float) -> None:
        """Says that the worker is there, if it has said nothing for some time."""
        if time.monotonic() - self._requests.last_at >= every and not self._requests.is_waiting:
            self._requests.put(_slots.alive())

    def abort(self, problem: BaseException) -> None:
        """Ends the stream because of that. The first problem counts."""
        if self.problem is None:
            self.problem = problem
        self._call.cancel()

    def leave(self) -> None:
        """Ends the stream when the replies are sent."""
        self.is_leaving = True
        self._requests.close()

    def leave_for(self, problem: BaseException) -> None:
        """Ends the stream because of that, when the replies are sent."""
        if self.problem is None:
            self.problem = problem
        self.leave()

    def cancel(self) -> None:
        """Ends the stream at once."""
        self._call.cancel()

    def messages(self) -> Iterator[consumer_pb2.ConsumeResponse]:
        """What comes.

        Raises:
            MartletError: the stream has failed.
        """
        try:
            yield from self._call
        except grpc.RpcError as error:
            raise self._connection.failure(error) from error
        finally:
            self.is_over = True
            self._requests.close()


class Work(Protocol):
    """What a worker does with its deliveries."""

    keeps_time: bool

    def epoch_above(self, engine: Engine) -> int:
        """The highest epoch that the worker's own database holds."""

    batch_max: int | None
    """How many deliveries `handle` gets at once; None for all that came together."""

    def key_of(self, delivery: Delivery) -> Hashable:
        """Deliveries with the same are handled one after the other. Of a slot, it is the slot's number."""

    def check(self, stream: Stream) -> None:
        """Slots are about to be assigned."""

    def begin(self, slot: consumer_pb2.AssignedSlot, stream: Stream) -> None:
        """A slot is assigned. Comes before its deliveries, where `key_of` is the slot's number."""

    def handle(self, deliveries: list[Delivery], stream: Stream) -> None:
        """Handles deliveries of one key, and replies."""

    def tick(self, stream: Stream) -> None:
        """Called several times a second, in a thread of its own."""

    def close(self) -> None:
        """Called by each thread that worked, when it ends."""


Task = Callable[[], None]


class Threads:
    """Threads that do what waits: of one key one thing after the other, keys side by side on whatever is free."""

    def __init__(self, count: int, close: Callable[[], None]) -> None:
        """Threads that have begun.

        Args:
            count: how many.
            close: called by each of them at its end.
        """
        self._ready: queue.SimpleQueue[Hashable | None] = queue.SimpleQueue()
        self._queues: KeyQueues[Hashable, Task] = KeyQueues(self._ready.put)
        self._changed = threading.Condition()
        self._close = close
        self._threads = [
            threading.Thread(target=self._run, name=f"martlet-worker-{number}", daemon=True) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, key: Hashable, task: Task) -> None:
        """Has a task done, after those of its key. It must not raise."""
        with self._changed:
            self._queues.put(key, task)

    def wait(self, seconds: float) -> bool:
        """Waits until nothing is left to be done; whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._queues.is_idle, seconds)

    def end(self, patience: float) -> None:
        """Has each thread end after what it is at, and waits for it for so many seconds."""
        for _ in self._threads:
            self._ready.put(None)
        for thread in self._threads:
            thread.join(patience)

    def _run(self) -> None:
        while (key := self._ready.get()) is not None:
            with self._changed:
                task = self._queues.first(key)
            task()
            with self._changed:
                self._queues.done(key)
                if self._queues.is_idle:
                    self._changed.notify_all()
        self._close()


class Engine:
    """Works on a consumer until it is told to stop, or something fails that a retry does not repair."""

    def __init__(
        self,
        work: Work,
        *,
        name: str,
        start: Callable[[int, bool], consumer_pb2.ConsumeStart],
        connect: Callable[[], Connection],
        threads: int,
        policy: RetryPolicy | None = None,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        """An engine that has not begun.

        Args:
            work: what it does.
            name: for the log.
            start: makes the first message from the highest epoch known and `keeps_time`.
            connect: finds a server, before each stream.
            threads: how many.
            policy: how long to wait before it comes again.
            window_bytes: how many bytes of events may wait for their handlers.
        """
        if threads < 1:
            raise ValueError(f"a worker needs at least 1 thread, not {threads}")
        self._work = work
        self._name = name
        self._start = start
        self._connect = connect
        self._thread_count = threads
        self._threads: Threads
        self._policy = policy or RetryPolicy()
        self._window_bytes = window_bytes
        self._is_stopping = False
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._is_stopping

    def stop(self) -> None:
        """What is being handled is finished and settled; the rest comes again to whoever is next. Returns at once. May
        be called by any thread and by a signal handler."""
        self._is_stopping = True
        self._wake.put(None)

    def run(self, stop_on: Iterable[signal.Signals] = ()) -> None:
        """Works. Signals of `stop_on` stop it, if this is the main thread.

        Raises:
            MartletError: what a retry does not repair.
        """
        with self._signals(stop_on):
            self._threads = Threads(self._thread_count, self._work.close)
            patience = FAREWELL_SECONDS
            try:
                self._run()
            except BaseException:
                # A handler may be stuck.
                patience = 0.2
                raise
            finally:
                self._is_stopping = True
                self._threads.end(patience)
                self._work.close()

    @contextlib.contextmanager
    def _signals(self, stop_on: Iterable[signal.Signals]) -> Iterator[None]:
        def stop(_: int, __: FrameType | None) -> None:
            self.stop()

        before = {}
        if threading.current_thread() is threading.main_thread():
            before = {one: signal.signal(one, stop) for one in stop_on}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def _run(self) -> None:
        failures = 0
        while not self._is_stopping:
            problem, had_slots = self._follow()
            if problem is None:
                return
            if not isinstance(problem, MartletError) or not problem.retryable:
                if self._is_stopping and isinstance(problem, MartletError):
                    return
                raise problem
            failures = 0 if had_slots else failures + 1
            bound = min(self._policy.longest_wait, self._policy.first_wait * 2 ** min(failures, 16))
            wait = max(bound * self._policy.random(), problem.retry_after or 0.0)
            log.warning("%s: comes again in %.2f s: %s", self._name, wait, problem)
            self._sleep(wait)

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._is_stopping and time.monotonic() < until:
            time.sleep(min(0.05, seconds))

    def _follow(self) -> tuple[BaseException | None, bool]:
        """One stream. Returns what ended it, and whether the worker had slots."""
        had_slots = False
        try:
            connection = self._connect()
            requests = Requests(self._start(self._work.epoch_above(self), self._work.keeps_time))
            stream = Stream(connection, requests, lambda: self._is_stopping)
        except MartletError as error:
            return error, False
        window = Window(self._window_bytes)
        lease = connection.lease_seconds
        keeper = threading.Thread(target=self._keep, args=(stream, lease), name="martlet-keeper", daemon=True)
        keeper.start()
        problem: BaseException | None = None
        try:
            for message in stream.messages():
                had_slots = self._take(message, stream, window) or had_slots
        except MartletError as error:
            problem = error
        finally:
            stream.is_over = True
            stream.slots.revoke_all()
            self._wake.put(None)
            keeper.join()
        if stream.is_leaving:
            return stream.problem, had_slots
        ended = errors.Unavailable("the server ended the stream", reason=errors.CONNECTION_LOST, retryable=True)
        return stream.problem or problem or ended, had_slots

    def _take(self, message: consumer_pb2.ConsumeResponse, stream: Stream, window: Window) -> bool:
        """Hands out what came. Whether slots were assigned."""
        kind = message.WhichOneof("message")
        if kind == "events":
            self._hand_out(message.events, stream, window)
        elif kind == "assigned" and message.assigned.slots:
            try:
                self._work.check(stream)
            except Exception as error:
                stream.abort(error)
                return False
            for one in message.assigned.slots:
                stream.slots.assign(one.slot, one.epoch)
                self._put(one.slot, stream, functools.partial(self._work.begin, one, stream))
            return True
        elif kind == "revoked":
            for number in message.revoked.slots:
                stream.slots.revoke(number)
        elif kind == "stopped":
            log.error("%s: slot %d has stopped: %s", self._name, message.stopped.slot, message.stopped.reason)
        elif kind == "paused":
            log.info("%s: the consumer %s", self._name, "is paused" if message.paused.paused else "goes on")
        return False

    def _hand_out(self, message: consumer_pb2.EventsDelivered, stream: Stream, window: Window) -> None:
        size = message.ByteSize()
        window.take(size, lambda: not stream.goes_on)
        keys: dict[Hashable, list[Delivery]] = {}
        for delivery in stream.slots.deliveries(message):
            keys.setdefault(self._work.key_of(delivery), []).append(delivery)
        if not keys:
            window.give(size)
            return
        parts = [(key, part) for key, all_of_it in keys.items() for part in _parts(all_of_it, self._work.batch_max)]
        open_parts = len(parts)
        lock = threading.Lock()

        def done() -> None:
            nonlocal open_parts
            with lock:
                open_parts -= 1
                is_last = open_parts == 0
            if is_last:
                window.give(size)

        for key, deliveries in parts:
            self._put(key, stream, functools.partial(self._work.handle, deliveries, stream), done)

    def _put(self, key: Hashable, stream: Stream, task: Task, done: Task = lambda: None) -> None:
        def run() -> None:
            try:
                if stream.goes_on:
                    task()
            except BaseException as error:
                # Whatever it is, a thread must not end in silence.
                stream.abort(error)
            finally:
                done()

        self._threads.put(key, run)

    def _keep(self, stream: Stream, lease: float) -> None:
        """Says that the worker is there, and ends the stream when it is told to stop."""
        every = lease / 3
        while not stream.is_over and not stream.is_leaving and not self._is_stopping:
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=min(TICK_SECONDS, every / 4))
            stream.keep_alive(every)
            self._work.tick(stream)
        if stream.is_over:
            return
        # What is under way is finished, however long it takes; the handlers' own time-outs bound that.
        while not stream.is_over and not stream.is_leaving and not self._threads.wait(min(TICK_SECONDS, every / 4)):
            stream.keep_alive(every)
            self._work.tick(stream)
        stream.leave()
        until = time.monotonic() + FAREWELL_SECONDS
        while not stream.is_over:
            if time.monotonic() >= until:
                stream.cancel()
            time.sleep(0.01)


def _parts(deliveries: list[Delivery], size: int | None) -> Iterator[list[Delivery]]:
    size = size or len(deliveries)
    for first in range(0, len(deliveries), size):
        yield deliveries[first : first + size]
