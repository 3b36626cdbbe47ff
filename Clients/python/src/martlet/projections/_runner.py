"""Runs projections: takes the events of a consumer into a read model, each exactly once."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from ..errors import HistoryChanged, MartletError
from ..model import Upcasting
from ..v1 import consumer_pb2
from ..workers import Consumer, Delivery, Park, StopSlot, _requests, _slots
from ..workers._connection import connect
from ..workers._consumer import default_worker
from ..workers._engine import Engine, Stream
from ._database import Cursor, Database, Session, Sessions, TransactionEnded, connect_problem_is_transient
from ._progress import Fenced, Floor, SlotProgress, Transaction
from ._timer import HandlerTimer, Handling, StuckHandler, TooLong

log = logging.getLogger("martlet.projections")

BATCH_EVENTS_MAX = 100
READS_MAX = 3
BACKOFF_SECONDS = 0.1, 2.0

Result = TypeVar("Result")


class _HandlerFailed(Exception):
    """The handler of one delivery has failed; its transaction is rolled back."""

    def __init__(self, delivery: Delivery, error: BaseException) -> None:
        super().__init__(str(error))
        self.delivery = delivery
        self.error = error


class _Over(Exception):
    """The stream has ended, or the projection was told to stop, while the database was waited for."""


class Projection(Generic[Cursor]):
    """Keeps a read model up to date: what the handler writes takes effect once for each event.

    ```python
    def handle(delivery, cursor):
        event = delivery.event
        cursor.execute("INSERT INTO payments (order_id, cents) VALUES (?, ?)", (str(event.aggregate_id), …))

    Projection(tenant.consumer("payments"), handle, SQLite("payments.db")).run()
    ```

    The handler's writes and the projection's progress commit together. If the handler raises, its event is rolled back
    and tried again after the consumer's backoff, and later events of its key wait for it; `Retry`, `Park` and
    `StopSlot` say otherwise. Run as many beside each other as there is work for, in one process or several, each with a
    name of its own.
    """

    def __init__(
        self,
        consumer: Consumer,
        handle: Callable[[Delivery, Cursor], object],
        database: Database[Cursor],
        *,
        tables: str | Sequence[str] = (),
        worker: str | None = None,
        threads: int = 1,
        handler_timeout: float = 30.0,
        handler_grace: float = 10.0,
    ) -> None:
        """A projection, which `run()` starts.

        Args:
            consumer: whose events; it must exist (`consumer.put()`).
            handle: gets a `Delivery` and a cursor of the database. It writes by the cursor, and neither commits nor
                rolls back. It is called in a thread of the projection.
            database: `SQLite(path)` or `PostgreSQL(url)`.
            tables: statements that make the read model's tables where they are missing (`CREATE TABLE IF NOT EXISTS`).
            worker: the same each time that it comes, and of no other worker of the consumer; host, process and a
                random number if omitted.
            threads: how many transactions may be open. Events of one slot are taken in one after the other.
            handler_timeout: seconds that the handler has for an event. Then its statement is interrupted, its
                transaction is rolled back, and the event has failed.
            handler_grace: seconds that an interrupted handler has to return. Then its key is parked, and `run()`
                raises `StuckHandler`.
        """
        name = worker or default_worker()
        self.work = _Work(
            consumer,
            handle,
            database,
            [tables] if isinstance(tables, str) else list(tables),
            HandlerTimer(handler_timeout, handler_grace),
            f"{consumer.name}/{name}",
        )
        self._engine = Engine(
            self.work,
            name=f"{consumer.name}/{name}",
            start=lambda epoch, keeps_time: _requests.consume(consumer.tenant, consumer.name, name, epoch, keeps_time),
            connect=lambda: connect(consumer.client),
            threads=threads,
            policy=consumer.client.settings.retry,
        )

    def run(self, *, stop_on: Iterable[signal.Signals] = (signal.SIGTERM, signal.SIGINT)) -> None:
        """Takes events in until `stop()` or one of the signals. Comes again when the connection, the server or the
        database is lost.

        Args:
            stop_on: signals that stop it, if it runs in the main thread; handlers that were set before come back.

        Raises:
            HistoryChanged: the server no longer has an event that the read model contains.
            StuckHandler: a handler did not return when it was interrupted.
            MartletError: a retry does not repair it: the consumer does not exist, another worker has the name, …
            Exception: what the database raises, except where it is busy or away.
        """
        self._engine.run(stop_on)

    def stop(self) -> None:
        """Has `run` return. What is under way commits; the rest comes again to whoever is next. May be called by any
        thread and by a signal handler."""
        self._engine.stop()


class _Work(Generic[Cursor]):
    keeps_time = True
    batch_max: int | None = None

    def __init__(
        self,
        consumer: Consumer,
        handle: Callable[[Delivery, Cursor], object],
        database: Database[Cursor],
        tables: list[str],
        timer: HandlerTimer,
        name: str,
    ) -> None:
        self._consumer = consumer
        self._handle = handle
        self._database = database
        self._tables = tables
        self._timer = timer
        self._name = name
        self._projection = f"{consumer.tenant}/{consumer.name}"
        self._is_prepared = False
        # What is done for one slot is done one after the other, so each of these is changed by one thread at a time.
        self._slots: dict[int, SlotProgress] = {}
        self._local = threading.local()

    # Engine's side.

    def epoch_above(self, engine: Engine) -> int:
        def ask(transaction: Transaction) -> int:
            if not self._is_prepared:
                transaction.prepare()
                for table in self._tables:
                    transaction.cursor.execute(table)
            return transaction.epoch_max()

        try:
            epoch = self._transaction(ask, lambda: not engine.is_stopping)
        except _Over:
            return 0
        self._is_prepared = True
        return epoch

    def key_of(self, delivery: Delivery) -> int:
        return delivery.slot

    def check(self, stream: Stream) -> None:
        """Compares the last event of all that the read model has."""
        try:
            last = self._transaction(lambda transaction: transaction.last(), lambda: stream.goes_on)
        except _Over:
            return
        if last is not None:
            self._compare(last[1], last[0])

    def begin(self, slot: consumer_pb2.AssignedSlot, stream: Stream) -> None:
        """Steps 2 to 4."""
        progress = SlotProgress(slot.slot, slot.epoch)
        attempts = 0

        def claim(transaction: Transaction) -> Floor:
            nonlocal attempts
            attempts += 1
            return transaction.claim(slot.slot, slot.epoch, attempts > 1)

        try:
            self._compare(self._transaction(claim, lambda: stream.goes_on), slot.slot)
            blocked = self._consumer.blocked_in(slot.slot)
            position = slot.checkpoint.position
            progress.keys = self._transaction(
                lambda transaction: progress.begin(blocked, position, transaction), lambda: stream.goes_on
            )
            self._slots[slot.slot] = progress
        except Fenced:
            self._fenced(progress, stream)
        except _Over:
            stream.slots.revoke(slot.slot)

    def handle(self, deliveries: list[Delivery], stream: Stream) -> None:
        parts: dict[int, list[Delivery]] = {}
        for delivery in deliveries:
            parts.setdefault(delivery.slot, []).append(delivery)
        for number, part in parts.items():
            for first in range(0, len(part), BATCH_EVENTS_MAX):
                slot = self._slots.get(number)
                if not stream.goes_on:
                    return
                if slot is None or not stream.slots.has(number, slot.epoch):
                    break
                try:
                    self._take(slot, part[first : first + BATCH_EVENTS_MAX], stream)
                except Fenced:
                    self._fenced(slot, stream)
                    break
                except _Over:
                    return

    def tick(self, stream: Stream) -> None:
        """Interrupts handlers that take too long. Parks the key of one that does not return, and ends the stream."""
        stuck = self._timer.look_after()
        if stuck is None:
            return
        delivery = stuck.delivery
        problem = StuckHandler(delivery, self._timer.elapsed(stuck))
        log.critical("%s: %s", self._name, problem)
        stuck.session.release()
        sessions = Sessions(self._database)
        try:
            slot = SlotProgress(delivery.slot, delivery.epoch)
            session = sessions.take()
            with session.transaction() as cursor:
                slot.note(delivery.key, Transaction(session, cursor, self._projection))
            stream.reply([_slots.rejection(delivery, Park(str(problem)))])
        except Exception as error:
            # Without its row, the key must not be rejected: the next worker gets the event, and finds out by itself.
            log.error("%s: the key cannot be parked: %s", self._name, error)
        finally:
            sessions.close()
        stream.leave_for(problem)

    def close(self) -> None:
        sessions = getattr(self._local, "sessions", None)
        if sessions is not None:
            sessions.close()

    # A slot.

    def _take(self, slot: SlotProgress, deliveries: list[Delivery], stream: Stream) -> None:
        """Takes events of a slot in, in one transaction, or each in its own if one of them fails."""
        wanted = [one for one in deliveries if stream.slots.admits(one)]
        if not wanted:
            return
        try:
            self._commit(slot, wanted, stream)
        except _HandlerFailed as failed:
            if len(wanted) == 1:
                self._reject(slot, wanted[0], failed.error, stream)
                return
            for one in wanted:
                if not stream.goes_on or not stream.slots.has(slot.number, slot.epoch):
                    return
                if isinstance(failed.error, TooLong) and one is failed.delivery:
                    # It has had its time: the others do not wait for it once more.
                    if stream.slots.admits(one):
                        self._reject(slot, one, failed.error, stream)
                else:
                    self._take(slot, [one], stream)

    def _commit(self, slot: SlotProgress, deliveries: list[Delivery], stream: Stream) -> None:
        def take(transaction: Transaction) -> dict[bytes, int]:
            session: Any = self._sessions.take()

            def handle(delivery: Delivery) -> None:
                try:
                    with self._timer.handling(Handling(delivery, session)):
                        self._handle(delivery, transaction.cursor)
                    session.check_transaction()
                except TransactionEnded:
                    raise
                except Exception as error:
                    if session.is_transient(error) and not isinstance(error, TooLong):
                        raise
                    raise _HandlerFailed(delivery, error) from error

            return slot.take(deliveries, handle, transaction)

        try:
            slot.keys = self._transaction(take, lambda: stream.goes_on, lambda: _forget(slot))
        except TransactionEnded as error:
            raise RuntimeError(f"{self._projection}: {error}") from error
        except Exception as error:
            # A constraint that is checked at the end says which transaction it is about, not which event.
            if "IntegrityError" not in [cls.__name__ for cls in type(error).__mro__]:
                raise
            raise _HandlerFailed(deliveries[0], error) from error
        stream.reply([_slots.acknowledgement(one) for one in deliveries])

    def _reject(self, slot: SlotProgress, delivery: Delivery, error: BaseException, stream: Stream) -> None:
        _slots.log_failure(delivery, error)
        stream.slots.fail(delivery)
        slot.keys = self._transaction(
            lambda transaction: slot.note(delivery.key, transaction), lambda: stream.goes_on, lambda: _forget(slot)
        )
        stream.reply([_slots.rejection(delivery, error)])
        if isinstance(error, StopSlot):
            stream.slots.revoke(slot.number)

    def _fenced(self, slot: SlotProgress, stream: Stream) -> None:
        log.warning("%s: another worker has slot %d; this one had epoch %d", self._name, slot.number, slot.epoch)
        stream.slots.revoke(slot.number)
        self._slots.pop(slot.number, None)

    # Another past.

    def _compare(self, floor: Floor, slot: int) -> None:
        """Step 3."""
        if floor.position == 0:
            return
        found = self._event_id_at(floor.position)
        if found == floor.event_id:
            return
        name = self._consumer.name
        raise HistoryChanged(
            f"the read model of {self._projection} has taken in event {floor.event_id} at position {floor.position} in "
            f"slot {slot}, but the server has {found or 'no event'} there. Make the read model anew: stop its workers, "
            f"empty its tables, delete its rows of martlet_projection_slots and martlet_projection_keys, and run: "
            f"martlet consumers reset {name} --to start",
            reason="HISTORY_CHANGED",
        )

    def _event_id_at(self, position: int) -> str | None:
        tenant = self._consumer.client.tenant(self._consumer.tenant)
        for tries_left in reversed(range(READS_MAX)):
            try:
                events = tenant.read(after=position - 1, to=position, max_events=1, upcasting=Upcasting(raw=True))
                return next((str(one.id) for one in events), None)
            except MartletError as error:
                # The view broke: the past is changing at this moment. The next one shows what it has become.
                if error.reason != "HISTORY_CHANGED" or not tries_left:
                    raise
        return None

    # The database.

    @property
    def _sessions(self) -> Sessions[Cursor]:
        sessions: Sessions[Cursor] | None = getattr(self._local, "sessions", None)
        if sessions is None:
            sessions = self._local.sessions = Sessions(self._database)
        return sessions

    def _transaction(
        self,
        body: Callable[[Transaction], Result],
        goes_on: Callable[[], bool],
        before_retry: Callable[[], None] = lambda: None,
    ) -> Result:
        """Runs `body` in a transaction; again, as long as the database is busy or away.

        Raises:
            _Over: `goes_on` said no meanwhile.
        """
        wait = BACKOFF_SECONDS[0]
        while True:
            session: Session[Cursor] | None = None
            try:
                session = self._sessions.take()
                with session.transaction() as cursor:
                    return body(Transaction(session, cursor, self._projection))
            except (Fenced, _HandlerFailed, TransactionEnded):
                raise
            except Exception as error:
                transient = connect_problem_is_transient(error) if session is None else session.is_transient(error)
                if not transient:
                    raise
                log.warning("%s: the read model's database is busy or away: %s", self._name, error)
            before_retry()
            until = time.monotonic() + wait
            while time.monotonic() < until:
                if not goes_on():
                    raise _Over
                time.sleep(0.02)
            wait = min(wait * 2, BACKOFF_SECONDS[1])


def _forget(slot: SlotProgress) -> None:
    """The transaction may have committed: what is stored of the keys is read again."""
    slot.keys = None
