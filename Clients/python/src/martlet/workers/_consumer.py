"""Consumers: named places in a tenant's events that the server keeps, and workers that share them."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from .. import methods
from ..v1 import consumer_pb2
from . import _requests, _slots
from ._connection import connect
from ._engine import Engine, Stream
from ._model import FIRST, BlockedKey, ConsumerState, Definition, Delivery, Start

if TYPE_CHECKING:
    from ..client import Client

Handler = Callable[[Delivery], object]


def default_worker() -> str:
    """A new worker's name: host, process, and a random number."""
    host = "".join(one if one.isascii() and one.isalnum() else "-" for one in socket.gethostname())[:64]
    return f"{host or 'worker'}-{os.getpid()}-{secrets.token_hex(4)}"


class Consumer:
    """A consumer of a tenant: `tenant.consumer("mailer")`. It need not exist yet."""

    def __init__(self, client: Client, tenant: uuid.UUID, name: str) -> None:
        self.client = client
        self.tenant = tenant
        self.name = name

    def put(
        self,
        definition: Definition | None = None,
        *,
        start: Start | int | datetime = FIRST,
        replace: bool | int = False,
    ) -> int:
        """Makes the consumer, or replaces its definition; it keeps its place. Returns the definition's revision.

        Args:
            definition: which events, in which order, delivered how; the defaults if omitted.
            start: where a new consumer begins: with the first event, after a position, with the first event recorded
                at or after a time, or with `HEAD`, the first one from now on.
            replace: whether another definition may be replaced; a number replaces the one of that revision.

        Raises:
            MartletError: CONSUMER_EXISTS if there is one with another definition, CONSUMER_REVISION_CONFLICT,
                CONSUMER_IN_USE if key or slots change while it is not paused or keys are blocked.
        """
        request = _requests.put(self.tenant, self.name, definition or Definition(), start, replace)
        return self.client.call(methods.PUT_CONSUMER, request).revision

    def describe(self) -> ConsumerState:
        """How the consumer is.

        Raises:
            NotFound: there is none of that name.
        """
        request = consumer_pb2.GetConsumerRequest(tenant=self.tenant.bytes, consumer=self.name)
        return _requests.state(self.client.call(methods.GET_CONSUMER, request))

    def delete(self) -> None:
        """Deletes the consumer with its place and its blocked keys.

        Raises:
            NotFound: there is none of that name.
        """
        request = consumer_pb2.DeleteConsumerRequest(tenant=self.tenant.bytes, consumer=self.name)
        self.client.call(methods.DELETE_CONSUMER, request)

    def reset(self, start: Start | int | datetime = FIRST) -> None:
        """Has the consumer begin again from there, with no key blocked."""
        request = consumer_pb2.ResetConsumerRequest(
            tenant=self.tenant.bytes, consumer=self.name, start=_requests.start(start)
        )
        self.client.call(methods.RESET_CONSUMER, request, repeatable=False)

    def blocked(self) -> list[BlockedKey]:
        """The keys whose events are not handled right now, by slot and key."""
        keys: list[BlockedKey] = []
        after: consumer_pb2.KeyPlace | None = None
        while True:
            request = _requests.list_blocked(self.tenant, self.name, after)
            page = self.client.call(methods.LIST_BLOCKED_KEYS, request).keys
            keys += map(_requests.blocked_key, page)
            if len(page) < _requests.BLOCKED_KEYS_PAGE:
                return keys
            after = page[-1].place

    def blocked_in(self, slot: int) -> list[bytes]:
        """The blocked keys of one slot."""
        keys: list[bytes] = []
        after = _requests.before_slot(slot)
        while True:
            request = _requests.list_blocked(self.tenant, self.name, after)
            page = self.client.call(methods.LIST_BLOCKED_KEYS, request).keys
            keys += [one.place.key for one in page if one.place.slot == slot]
            if len(page) < _requests.BLOCKED_KEYS_PAGE or page[-1].place.slot != slot:
                return keys
            after = page[-1].place

    def retry(self, keys: Iterable[BlockedKey]) -> int:
        """Has blocked keys tried again at once, parked ones too. Returns how many were.

        Args:
            keys: of `blocked()`, 1 to 100.
        """
        request = _requests.unblock(self.tenant, self.name, keys, skip=False)
        return self.client.call(methods.UNBLOCK_KEYS, request).unblocked

    def skip(self, keys: Iterable[BlockedKey]) -> int:
        """Passes over the event that each of the keys waits for, and has them go on. Returns how many did.

        Args:
            keys: of `blocked()`, 1 to 100. A key that waits for another event by now is left alone.
        """
        request = _requests.unblock(self.tenant, self.name, keys, skip=True)
        return self.client.call(methods.UNBLOCK_KEYS, request).unblocked

    def wait_for(self, position: int, *, timeout: float = 30.0) -> int:
        """Waits until every event of the consumer up to a position is settled or belongs to a blocked key: after an
        append, for `receipt.last_position`. Returns how far the consumer has come.

        Raises:
            DeadlineExceeded: that took longer than `timeout` seconds.
        """
        request = consumer_pb2.AwaitConsumerRequest(tenant=self.tenant.bytes, consumer=self.name, position=position)
        return self.client.call(methods.AWAIT_CONSUMER, request, timeout=timeout).position

    def worker(self, handler: Handler, *, name: str | None = None, threads: int = 1) -> Worker:
        """A worker, which `run()` starts.

        Args:
            handler: gets a `Delivery`; the event is settled when it returns. It may get an event again. If it raises,
                the event is tried again after the consumer's backoff, and later events of its key wait for it; `Retry`,
                `Park` and `StopSlot` say otherwise. It has `ack_timeout` for an event.
            name: the same each time that the worker comes, and of no other worker of the consumer: a newer one with
                the name ends it. Host, process and a random number if omitted.
            threads: how many handlers may be at work. Events of one key are handled one after the other; keys side by
                side, on whatever thread is free.
        """
        return Worker(self, handler, name or default_worker(), threads)

    def run(
        self,
        handler: Handler,
        *,
        worker: str | None = None,
        threads: int = 1,
        stop_on: Iterable[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
    ) -> None:
        """Works on the consumer until SIGTERM or SIGINT come. As `worker(…).run()`."""
        self.worker(handler, name=worker, threads=threads).run(stop_on=stop_on)


class Worker:
    """Handles events of a consumer, each at least once."""

    def __init__(self, consumer: Consumer, handler: Handler, name: str, threads: int) -> None:
        self.name = name
        self._engine = Engine(
            _HandlerWork(handler),
            name=f"{consumer.name}/{name}",
            start=lambda epoch, keeps_time: _requests.consume(consumer.tenant, consumer.name, name, epoch, keeps_time),
            connect=lambda: connect(consumer.client),
            threads=threads,
            policy=consumer.client.settings.retry,
        )

    def run(self, *, stop_on: Iterable[signal.Signals] = ()) -> None:
        """Works until `stop()`. Comes again when the connection or the server is lost.

        Args:
            stop_on: signals that stop it, if it runs in the main thread; handlers that were set before come back.

        Raises:
            MartletError: a retry does not repair it: the consumer does not exist, another worker has the name, …
        """
        self._engine.run(stop_on)

    def stop(self) -> None:
        """Has `run` return once the handlers at work have returned and their events are settled. Other events come
        again to whoever is next. May be called by any thread and by a signal handler."""
        self._engine.stop()


class _HandlerWork:
    keeps_time = False
    # Keys take turns after each event.
    batch_max: int | None = 1

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def epoch_above(self, engine: Engine) -> int:
        return 0

    def key_of(self, delivery: Delivery) -> bytes:
        return delivery.key

    def check(self, stream: Stream) -> None:
        pass

    def begin(self, slot: consumer_pb2.AssignedSlot, stream: Stream) -> None:
        pass

    def handle(self, deliveries: list[Delivery], stream: Stream) -> None:
        for delivery in deliveries:
            if not stream.goes_on:
                return
            if not stream.slots.admits(delivery):
                continue
            try:
                self._handler(delivery)
            except Exception as error:
                _slots.log_failure(delivery, error)
                stream.slots.fail(delivery)
                stream.reply([_slots.rejection(delivery, error)])
            else:
                stream.reply([_slots.acknowledgement(delivery)])

    def tick(self, stream: Stream) -> None:
        pass

    def close(self) -> None:
        pass
