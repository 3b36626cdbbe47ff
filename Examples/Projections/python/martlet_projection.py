"""Keeps a read model in SQLite up to date, each event exactly once: the steps of Docs/PROJECTIONS.md, in Python.

A handler gets an event and a cursor. What it writes with the cursor commits together with the projection's progress.
Needs the standard library and the client of Tests/Interop.
"""

import contextlib
import logging
import signal
import sqlite3
import time
import uuid
from collections import namedtuple

from martlet.v1 import consumer_pb2, event_pb2, frame_pb2, query_pb2

from martlet_client import WINDOW_BYTES, MartletError, entries_size

BATCH_EVENTS_MAX = 100
REPLIES_MAX = 1_000
BLOCKED_KEYS_PAGE = 100
READS_MAX = 3
BUSY_SECONDS = 1.0
BACKOFF_SECONDS = 0.1, 2.0

TABLES = (
    """
    CREATE TABLE IF NOT EXISTS martlet_projection_slots (
        projection text NOT NULL, slot bigint NOT NULL, epoch bigint NOT NULL, position bigint NOT NULL,
        event_id text, PRIMARY KEY (projection, slot))
    """,
    """
    CREATE TABLE IF NOT EXISTS martlet_projection_keys (
        projection text NOT NULL, slot bigint NOT NULL, key blob NOT NULL, position bigint NOT NULL,
        event_id text, PRIMARY KEY (projection, slot, key))
    """,
)

log = logging.getLogger("martlet.projection")

# An event and how it is delivered: a RecordedEvent and a Delivery.
Delivered = namedtuple("Delivered", ["recorded", "delivery"])
# A position and the id of the event there, as text; None at position 0.
Place = namedtuple("Place", ["position", "event_id"])


class Failure(Exception):
    """A handler raises it to say what becomes of its event: `retry`, `park` or `stop`. Other errors are `retry`."""

    def __init__(self, kind, reason, retry_after_millis=None):
        super().__init__(reason)
        self.kind = kind
        self.retry_after_millis = retry_after_millis


class Fenced(Exception):
    """Another worker has the slot."""


class HistoryChanged(Exception):
    """The server no longer has an event that the read model contains."""


class Stopping(Exception):
    """The worker was told to stop."""


class HandlerFailed(Exception):
    def __init__(self, failure):
        super().__init__(str(failure))
        self.failure = failure


def place_of(recorded):
    return Place(recorded.position, str(uuid.UUID(bytes=recorded.event.id)))


class Slot:
    """A slot of this worker: what is in the read model, and which keys wait for an event that has failed."""

    def __init__(self, number, epoch, projection):
        self.number = number
        self.epoch = epoch
        self.projection = projection
        # The positions of keys that have rows of their own.
        self.keys = {}
        # The positions of events that have failed: later events of their keys are skipped until they come again.
        self.failed = {}

    def passes(self, one):
        key, position = one.delivery.key, one.recorded.position
        if key in self.failed:
            if position > self.failed[key]:
                return False
            del self.failed[key]
        return True

    # What follows runs inside a transaction.

    def claim(self, cursor):
        """Step 2. Returns the place of the last event that the read model has of the slot."""
        row = cursor.execute(
            """
            INSERT INTO martlet_projection_slots (projection, slot, epoch, position) VALUES (?, ?, ?, 0)
            ON CONFLICT (projection, slot) DO UPDATE SET epoch = excluded.epoch
            WHERE martlet_projection_slots.epoch < excluded.epoch
            RETURNING position, event_id
            """,
            (self.projection, self.number, self.epoch),
        ).fetchall()
        if not row:
            raise Fenced
        return Place(*row[0])

    def lock(self, cursor):
        row = cursor.execute(
            """
            UPDATE martlet_projection_slots SET position = position
            WHERE projection = ? AND slot = ? AND epoch = ? RETURNING position, event_id
            """,
            (self.projection, self.number, self.epoch),
        ).fetchall()
        if not row:
            raise Fenced
        return Place(*row[0])

    def begin(self, cursor, blocked):
        """Step 4: a row for each key that is blocked on the server. Returns the keys that have rows."""
        floor = self.lock(cursor)
        keys = dict(
            cursor.execute(
                "SELECT key, position FROM martlet_projection_keys WHERE projection = ? AND slot = ?",
                (self.projection, self.number),
            )
        )
        for key in blocked:
            if key not in keys:
                self.put(cursor, key, floor)
                keys[key] = floor.position
        return keys

    def apply(self, cursor, events, handle):
        """Steps 5 and 6. Returns the keys that have rows."""
        keys = dict(self.keys)
        floor = last = self.lock(cursor)
        for one in events:
            key, place = one.delivery.key, place_of(one.recorded)
            if place.position <= keys.get(key, last.position):
                continue
            try:
                handle(one, cursor)
            except Failure as failure:
                raise HandlerFailed(failure) from failure
            except sqlite3.Error as error:
                if is_transient(error):
                    raise
                raise HandlerFailed(Failure("retry", f"{error}")) from error
            except Exception as error:
                raise HandlerFailed(Failure("retry", f"{type(error).__name__}: {error}")) from error
            if key in keys:
                if place.position > last.position and not one.delivery.key_blocked:
                    cursor.execute(
                        "DELETE FROM martlet_projection_keys WHERE projection = ? AND slot = ? AND key = ?",
                        (self.projection, self.number, key),
                    )
                    del keys[key]
                else:
                    self.put(cursor, key, place)
                    keys[key] = place.position
            if place.position > last.position:
                last = place
        if last != floor:
            cursor.execute(
                "UPDATE martlet_projection_slots SET position = ?, event_id = ? WHERE projection = ? AND slot = ?",
                (*last, self.projection, self.number),
            )
        return keys

    def note(self, cursor, key):
        """Step 7: a row for a key whose event has failed. Returns the row's position."""
        floor = self.lock(cursor)
        self.put(cursor, key, floor)
        return floor.position

    def put(self, cursor, key, place):
        cursor.execute(
            """
            INSERT INTO martlet_projection_keys (projection, slot, key, position, event_id) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (projection, slot, key) DO UPDATE SET position = excluded.position, event_id = excluded.event_id
            """,
            (self.projection, self.number, key, *place),
        )


def is_transient(error):
    """The database is busy: the same transaction may succeed later."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class Worker:
    """Works on a consumer until it is told to stop.

    `connect` opens a connection, `tenant` is a UUID, `handle(delivered, cursor)` takes an event into the read model.
    """

    def __init__(self, handle, database, connect, tenant, consumer, name):
        self.handle = handle
        self.connect = connect
        self.tenant = tenant
        self.consumer = consumer
        self.name = name
        self.projection = f"{tenant}/{consumer}"
        self.is_stopping = False
        self.slots = {}
        self.replies = []
        self.stream = None
        # Transactions begin where they are written out, and are durable when they have committed.
        self.database = sqlite3.connect(database, timeout=BUSY_SECONDS, isolation_level=None)
        self.retrying(lambda: self.database.execute("PRAGMA journal_mode = WAL").fetchall())
        self.database.execute("PRAGMA synchronous = FULL")
        self.transaction(lambda cursor: [cursor.execute(table) for table in TABLES])

    def stop(self, *_):
        """What is under way commits; the rest comes again to whoever is next. May be called by a signal handler."""
        self.is_stopping = True

    def run(self):
        """Comes again when the connection or the server is lost. Raises what no retry repairs."""
        signal.signal(signal.SIGTERM, self.stop)
        wait = BACKOFF_SECONDS[0]
        with contextlib.suppress(Stopping):
            while True:
                self.stream = None
                try:
                    with contextlib.closing(self.connect()) as connection:
                        self.follow(connection)
                except MartletError as error:
                    if not error.status.retryable:
                        raise
                    problem = error
                except (EOFError, OSError) as error:
                    problem = error
                if self.is_stopping:
                    return
                if self.slots:
                    wait = BACKOFF_SECONDS[0]
                log.warning("%s: comes again in %.1f s: %s", self.name, wait, problem)
                self.sleep(wait)
                wait = min(wait * 2, BACKOFF_SECONDS[1])

    def follow(self, connection):
        self.slots, self.replies = {}, []
        limits = connection.welcome.limits
        # Step 1.
        epoch_above = self.transaction(
            lambda cursor: cursor.execute(
                "SELECT coalesce(max(epoch), 0) FROM martlet_projection_slots WHERE projection = ?", (self.projection,)
            ).fetchone()[0]
        )
        request = consumer_pb2.ConsumeStart(
            tenant=self.tenant.bytes, consumer=self.consumer, worker=self.name, epoch_above=epoch_above, keeps_time=True
        )
        call = connection.start(consume=request, credit_bytes=max(WINDOW_BYTES, limits.stream_credit_bytes_min))
        self.stream = connection, call
        self.alive_every = limits.consumer_lease_millis / 3_000
        self.last_reply_at = time.monotonic()
        try:
            while True:
                self.keep_alive()
                frame = connection.receive_within(min(0.2, self.alive_every))
                if frame is None or frame.call_id != call:
                    continue
                if frame.WhichOneof("body") == "status":
                    raise MartletError(frame.status)
                self.take(frame.consume, connection, call)
        except Stopping:
            # The server takes what was acknowledged before it ends the call.
            connection.cancel(call)
            while connection.receive().WhichOneof("body") != "status":
                pass
            raise

    def take(self, message, connection, call):
        kind = message.WhichOneof("message")
        if kind == "assigned" and message.assigned.slots:
            # A connection of its own, so that the answers are not among the stream's frames.
            with contextlib.closing(self.connect()) as calls:
                self.check_last(calls)
                for one in message.assigned.slots:
                    self.assign(one, calls)
        elif kind == "revoked":
            for number in message.revoked.slots:
                self.slots.pop(number, None)
        elif kind == "events":
            parts = {}
            for recorded, delivery in zip(message.events.events, message.events.deliveries):
                parts.setdefault(delivery.slot, []).append(Delivered(recorded, delivery))
            for number, events in parts.items():
                for start in range(0, len(events), BATCH_EVENTS_MAX):
                    self.project(number, events[start : start + BATCH_EVENTS_MAX])
            connection.grant(call, entries_size(message.events.events))
        elif kind == "stopped":
            log.error("%s: slot %d has stopped: %s", self.name, message.stopped.slot, message.stopped.reason)

    # A slot.

    def assign(self, assigned, calls):
        slot = Slot(assigned.slot, assigned.epoch, self.projection)
        self.slots.pop(slot.number, None)
        try:
            self.check(self.transaction(slot.claim), slot.number, calls)
            blocked = self.blocked_keys(slot.number, calls)
            slot.keys = self.transaction(lambda cursor: slot.begin(cursor, blocked))
            self.slots[slot.number] = slot
        except Fenced:
            log.warning("%s: another worker has slot %d", self.name, slot.number)

    def project(self, number, events):
        """Takes events of a slot in, in one transaction, or each in its own if one of them fails."""
        slot = self.slots.get(number)
        wanted = [one for one in events if slot.passes(one)] if slot else []
        if not wanted:
            return
        try:
            try:
                self.commit(slot, wanted)
            except HandlerFailed as failed:
                if len(wanted) == 1:
                    return self.reject(slot, wanted[0], failed.failure)
                for one in wanted:
                    self.project(number, [one])
        except Fenced:
            log.warning("%s: another worker has slot %d", self.name, number)
            del self.slots[number]

    def commit(self, slot, events):
        slot.keys = self.transaction(lambda cursor: slot.apply(cursor, events, self.handle))
        for one in events:
            acknowledgement = consumer_pb2.Acknowledgement(delivery=one.delivery.delivery)
            self.replies.append(consumer_pb2.WorkerReply(acknowledge=acknowledgement))
        self.send_replies()

    def reject(self, slot, one, failure):
        key = one.delivery.key
        slot.failed[key] = one.recorded.position
        if key not in slot.keys:
            slot.keys[key] = self.transaction(lambda cursor: slot.note(cursor, key))
        rejection = consumer_pb2.Rejection(delivery=one.delivery.delivery, reason=str(failure)[:1_024])
        if failure.retry_after_millis is None:
            setattr(rejection, failure.kind, True)
        else:
            rejection.retry_after_millis = failure.retry_after_millis
        self.replies.append(consumer_pb2.WorkerReply(reject=rejection))
        self.send_replies()
        if failure.kind == "stop":
            del self.slots[slot.number]

    # Another past.

    def check_last(self, calls):
        """Compares the last event of all that the read model has."""
        last = self.transaction(
            lambda cursor: cursor.execute(
                """
                SELECT position, event_id, slot FROM martlet_projection_slots WHERE projection = ?
                ORDER BY position DESC LIMIT 1
                """,
                (self.projection,),
            ).fetchone()
        )
        if last:
            self.check(Place(*last[:2]), last[2], calls)

    def check(self, place, slot, calls):
        """Step 3."""
        if place.position == 0:
            return
        request = query_pb2.ReadRequest(
            tenant=self.tenant.bytes,
            after_position=place.position - 1,
            to_position=place.position,
            events_max=1,
            upcasting=event_pb2.Upcasting(raw=True),
        )
        for tries_left in reversed(range(READS_MAX)):
            try:
                found = [place_of(one).event_id for part in calls.stream(read=request) for one in part.events]
                break
            except MartletError as error:
                # The view broke: the past is changing at this moment. The next one shows what it has become.
                if error.reason != "HISTORY_CHANGED" or not tries_left:
                    raise
        if found != [place.event_id]:
            raise HistoryChanged(
                f"the read model of {self.projection} has taken in event {place.event_id} at position {place.position} "
                f"in slot {slot}, but the server has {found[0] if found else 'no event'} there. Rebuild the read "
                f"model: stop its workers, empty its tables, delete its rows of martlet_projection_slots and "
                f"martlet_projection_keys, and run: martlet consumers reset {self.consumer} --to start"
            )

    def blocked_keys(self, slot, calls):
        """The keys of a slot that are blocked on the server."""
        keys = []
        # The last place before the slot's first.
        after = consumer_pb2.KeyPlace(slot=slot - 1, key=b"\xff" * 256) if slot else None
        while True:
            request = consumer_pb2.ListBlockedKeysRequest(tenant=self.tenant.bytes, consumer=self.consumer, after=after)
            page = calls.unary(list_blocked_keys=request).keys
            keys += [one.place.key for one in page if one.place.slot == slot]
            if len(page) < BLOCKED_KEYS_PAGE or page[-1].place.slot != slot:
                return keys
            after = page[-1].place

    # The stream's other direction, and the database.

    def send_replies(self):
        connection, call = self.stream
        for start in range(0, len(self.replies), REPLIES_MAX):
            replies = consumer_pb2.WorkerReplies(replies=self.replies[start : start + REPLIES_MAX])
            connection.send(frame_pb2.ClientFrame(call_id=call, replies=replies))
            self.last_reply_at = time.monotonic()
        self.replies.clear()

    def keep_alive(self):
        """Says that the worker is there, if that is due. To be called while something takes long."""
        if self.is_stopping:
            raise Stopping
        if self.stream and time.monotonic() - self.last_reply_at >= self.alive_every:
            self.replies.append(consumer_pb2.WorkerReply(alive=consumer_pb2.WorkerAlive()))
            self.send_replies()

    def sleep(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.keep_alive()
            time.sleep(0.05)

    def retrying(self, body):
        """Does something again as long as the database is busy."""
        while True:
            self.keep_alive()
            try:
                return body()
            except sqlite3.OperationalError as error:
                if not is_transient(error):
                    raise
                log.warning("%s: the read model's database is busy: %s", self.name, error)
                self.sleep(BACKOFF_SECONDS[0])

    def transaction(self, body):
        """Runs `body(cursor)` in a transaction: committed when it returns, rolled back when it raises."""

        def once():
            cursor = self.database.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            try:
                result = body(cursor)
                cursor.execute("COMMIT")
                return result
            except BaseException:
                if self.database.in_transaction:
                    cursor.execute("ROLLBACK")
                raise

        return self.retrying(once)
