"""Projections: each event once, whatever is killed; another past; handlers that take too long."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from processes import PATIENCE, environment, seeded, start_python, wait_until, wait_until_gone
from servers import POSTGRES, Server

import martlet
from martlet.projections import Delivery, Park, PostgreSQL, Projection, SQLite, StopSlot, StuckHandler, TransactionEnded
from martlet.workers import Consumer, Definition

WORKER = Path(__file__).with_name("projection_worker.py")
LINES = "CREATE TABLE IF NOT EXISTS lines (position bigint NOT NULL, text text NOT NULL)"
QUICK = Definition(slots=4, backoff_min=0.02, backoff_max=0.1)

ENGINES = ["sqlite", pytest.param("postgres", marks=pytest.mark.skipif(not POSTGRES, reason="no PostgreSQL"))]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@contextmanager
def client_of(server: Server, tenant: uuid.UUID | None = None) -> Iterator[martlet.Client]:
    with martlet.connect(server.target, ca=server.ca, tenant=tenant or uuid.uuid4()) as client:
        yield client


@pytest.fixture
def tenant(server: Server) -> Iterator[martlet.Tenant]:
    with client_of(server) as client:
        yield client.tenant()


@contextmanager
def read_model(engine: str, folder: Path) -> Iterator[str]:
    """A database of its own: a path, or a URL."""
    if engine == "sqlite":
        yield str(folder / "lines.db")
        return
    import psycopg

    assert POSTGRES is not None
    schema = f"python_{uuid.uuid4().hex}"
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")  # type: ignore[arg-type]
        try:
            yield f"{POSTGRES}?options=-csearch_path%3D{schema}"
        finally:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")  # type: ignore[arg-type]


def rows(database: str, query: str) -> list[tuple[Any, ...]]:
    if database.startswith("postgres"):
        import psycopg

        with psycopg.connect(database) as connection:
            return connection.execute(query).fetchall()  # type: ignore[arg-type]
    reading = sqlite3.connect(database)
    try:
        return reading.execute(query).fetchall()
    finally:
        reading.close()


def database_of(place: str) -> SQLite | PostgreSQL:
    return PostgreSQL(place) if place.startswith("postgres") else SQLite(place)


def append(tenant: martlet.Tenant, count: int, key: str = "a", **tags: str) -> int:
    events = [
        martlet.NewEvent("Counted", {"number": number}, metadata=martlet.Metadata(tags=tags)) for number in range(count)
    ]
    return tenant.aggregate("counter", key=key).append(events, expecting=martlet.ANY).last_position


class Running:
    """A projection in a thread."""

    def __init__(self, projection: Projection[Any]) -> None:
        self.projection = projection
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.projection.run()
        except BaseException as error:
            self.error = error

    def wait(self, seconds: float = PATIENCE) -> BaseException | None:
        """Waits until it ends; the error that it ended with."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the projection does not end"
        return self.error

    def stop(self) -> None:
        self.projection.stop()
        error = self.wait()
        if error is not None:
            raise error


def insert(place: str) -> Any:
    mark = "%s" if place.startswith("postgres") else "?"

    def handle(delivery: Delivery, cursor: Any) -> None:
        cursor.execute(f"INSERT INTO lines VALUES ({mark}, {mark})", (delivery.event.position, delivery.event.type))

    return handle


# Whatever is killed.


@pytest.mark.parametrize("engine", ENGINES)
def test_each_event_is_taken_in_once_whatever_is_killed(engine: str, tmp_path: Path) -> None:
    server = Server()
    tenant_id = uuid.uuid4()
    workers: list[subprocess.Popen[bytes]] = []
    with read_model(engine, tmp_path) as place, seeded(f"projection on {engine}") as chance:

        def start(number: int) -> subprocess.Popen[bytes]:
            return start_python(
                WORKER, "lines", f"w{number}", place, environment=environment(server, tenant_id),
                log=tmp_path / f"w{number}.log",
            )  # fmt: skip

        try:
            with client_of(server, tenant_id) as client:
                tenant = client.tenant()
                consumer = tenant.consumer("lines")
                consumer.put(QUICK)
                workers = [start(0), start(1)]
                blows = ["worker", "worker", "worker", "server", "worker"]
                chance.shuffle(blows)
                expected = 0
                for number, blow in enumerate(blows, 1):
                    expected += _append_movements(tenant, chance, 150)
                    time.sleep(chance.uniform(0.05, 0.5))
                    if blow == "server":
                        server.kill()
                        server.start()
                    else:
                        victim = chance.randrange(2)
                        assert workers[victim].poll() is None, (tmp_path / f"w{victim}.log").read_text()[-2_000:]
                        workers[victim].kill()
                        workers[victim].wait()
                        if number == len(blows):
                            # So that it is the new one that is seen below, not the one that was killed.
                            wait_until_gone(consumer, f"w{victim}")
                        workers[victim] = start(victim)
                expected += _append_movements(tenant, chance, 50)
                consumer.wait_for(tenant.head().position, timeout=PATIENCE)
                wait_until(lambda: not consumer.blocked(), "no key is blocked")
                wait_until(lambda: set(consumer.describe().workers) == {"w0", "w1"}, "both are there")
                for worker in workers:
                    worker.send_signal(signal.SIGTERM)
                for number, worker in enumerate(workers):
                    assert worker.wait(PATIENCE) == 0, (tmp_path / f"w{number}.log").read_text()[-2_000:]
                lines = rows(place, "SELECT account, version, cents, total FROM lines ORDER BY account, version")
                assert len(lines) == expected
                assert lines == sorted(_lines(tenant))
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
            server.close()


def _append_movements(tenant: martlet.Tenant, chance: random.Random, count: int) -> int:
    for _ in range(count // 5):
        events = [
            martlet.NewEvent(
                "Moved",
                {"cents": chance.randrange(1, 1_000)},
                metadata=martlet.Metadata(tags={"fails": "2"} if chance.random() < 0.02 else {}),
            )
            for _ in range(5)
        ]
        tenant.aggregate("account", key=f"account-{chance.randrange(30)}").append(events, expecting=martlet.ANY)
    return count


def _lines(tenant: martlet.Tenant) -> Iterator[tuple[str, int, int, int]]:
    totals: dict[str, int] = {}
    for event in tenant.read():
        account, cents = str(event.aggregate_id), event.json()["cents"]
        totals[account] = totals.get(account, 0) + cents
        yield account, event.version, cents, totals[account]


# Failing handlers.


@pytest.mark.parametrize("engine", ENGINES)
def test_a_key_that_fails_is_parked_and_goes_on_where_it_stopped(
    engine: str, tenant: martlet.Tenant, tmp_path: Path
) -> None:
    consumer = tenant.consumer("lines")
    consumer.put(Definition(slots=1, tries_max=2, backoff_min=0.02))
    broken = True

    def handle(delivery: Delivery, cursor: Any) -> None:
        insert(place)(delivery, cursor)
        if broken and delivery.event.aggregate_key == "a" and delivery.event.version == 2:
            raise RuntimeError("not yet")

    append(tenant, 3, "a")
    last = append(tenant, 3, "b")
    with read_model(engine, tmp_path) as place:
        running = Running(Projection(consumer, handle, database_of(place), tables=LINES))
        consumer.wait_for(last, timeout=PATIENCE)
        wait_until(lambda: any(one.parked for one in consumer.blocked()), "the key is parked")
        [blocked] = consumer.blocked()
        assert (blocked.position, blocked.tries, blocked.reason) == (2, 2, "RuntimeError: not yet")
        assert [position for (position,) in rows(place, "SELECT position FROM lines ORDER BY 1")] == [1, 4, 5, 6]
        broken = False
        assert consumer.retry([blocked]) == 1
        wait_until(lambda: not consumer.blocked(), "no key is blocked")
        running.stop()
        assert [position for (position,) in rows(place, "SELECT position FROM lines ORDER BY 1")] == [1, 2, 3, 4, 5, 6]


def test_a_handler_can_park_and_stop(tenant: martlet.Tenant, tmp_path: Path) -> None:
    place = str(tmp_path / "lines.db")
    consumer = tenant.consumer("lines")
    consumer.put(Definition(slots=1))

    def handle(delivery: Delivery, cursor: Any) -> None:
        if delivery.event.aggregate_key == "parked":
            raise Park("never again")
        if delivery.event.aggregate_key == "stopped":
            raise StopSlot("all wrong")
        insert(place)(delivery, cursor)

    append(tenant, 1, "parked")
    append(tenant, 1, "fine")
    append(tenant, 1, "stopped")
    append(tenant, 1, "fine")
    running = Running(Projection(consumer, handle, SQLite(place), tables=LINES))
    consumer.wait_for(2, timeout=PATIENCE)
    wait_until(lambda: any(one.parked and one.reason == "never again" for one in consumer.blocked()), "it is parked")
    wait_until(lambda: rows(place, "SELECT position FROM lines") == [(2,)], "the other key goes on")
    running.stop()
    assert rows(place, "SELECT position FROM lines") == [(2,)]


def test_a_handler_that_takes_too_long_is_interrupted(tenant: martlet.Tenant, tmp_path: Path) -> None:
    place = str(tmp_path / "lines.db")
    consumer = tenant.consumer("lines")
    # Nothing comes again by itself while the test looks.
    consumer.put(Definition(slots=1, backoff_min=600, backoff_max=600))
    is_slow = True

    def handle(delivery: Delivery, cursor: Any) -> None:
        insert(place)(delivery, cursor)
        if delivery.event.aggregate_key == "slow" and is_slow:
            # A statement that runs for ever.
            cursor.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n")

    append(tenant, 1, "slow")
    last = append(tenant, 1, "quick")
    running = Running(Projection(consumer, handle, SQLite(place), tables=LINES, handler_timeout=0.3))
    wait_until(consumer.blocked, "the slow one has failed")
    [blocked] = [one for one in consumer.blocked() if one.position == 1]
    assert blocked.reason == "TooLong: no answer from the handler within 0.3 s"
    is_slow = False

    def nothing_is_blocked() -> bool:
        # On a busy machine, others may be too slow as well.
        blocked = consumer.blocked()
        if blocked:
            consumer.retry(blocked)
        return not blocked

    consumer.wait_for(last, timeout=PATIENCE)
    wait_until(nothing_is_blocked, "it is tried again")
    running.stop()
    assert rows(place, "SELECT position FROM lines ORDER BY 1") == [(1,), (2,)]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stuck_handler_ends_the_projection_and_its_key_is_parked(
    engine: str, tenant: martlet.Tenant, tmp_path: Path
) -> None:
    consumer = tenant.consumer("lines")
    consumer.put(Definition(slots=1))
    end = threading.Event()

    def handle(delivery: Delivery, cursor: Any) -> None:
        insert(place)(delivery, cursor)
        if delivery.event.aggregate_key == "stuck":
            end.wait()
            insert(place)(delivery, cursor)

    append(tenant, 2, "stuck")
    last = append(tenant, 1, "fine")
    with read_model(engine, tmp_path) as place:
        first = Projection(
            consumer, handle, database_of(place), tables=LINES, handler_timeout=0.2, handler_grace=0.2, worker="one"
        )
        try:
            error = Running(first).wait()
            assert isinstance(error, StuckHandler) and error.delivery.event.position == 1
            [blocked] = consumer.blocked()
            assert blocked.parked and "has not returned" in blocked.reason
            # The next worker is not held up by what the stuck one has left.
            running = Running(Projection(consumer, insert(place), database_of(place), tables=LINES, worker="two"))
            consumer.wait_for(last, timeout=PATIENCE)
            assert rows(place, "SELECT position FROM lines") == [(3,)]
            consumer.retry([blocked])
            wait_until(lambda: not consumer.blocked(), "no key is blocked")
        finally:
            end.set()
        running.stop()
        assert rows(place, "SELECT position FROM lines ORDER BY 1") == [(1,), (2,), (3,)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK"])
def test_a_handler_must_not_end_the_transaction(
    statement: str, engine: str, tenant: martlet.Tenant, tmp_path: Path
) -> None:
    consumer = tenant.consumer("lines")
    consumer.put(QUICK)
    append(tenant, 1)
    with read_model(engine, tmp_path) as place:
        running = Running(
            Projection(consumer, lambda _, cursor: cursor.execute(statement), database_of(place), tables=LINES)
        )
        error = running.wait()
    assert isinstance(error, RuntimeError) and isinstance(error.__cause__, TransactionEnded)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_handler_swallows_and_what_the_commit_finds_fails_the_event(
    engine: str, tenant: martlet.Tenant, tmp_path: Path
) -> None:
    consumer = tenant.consumer("lines")
    consumer.put(Definition(slots=1, tries_max=1))
    tables = (
        LINES,
        "CREATE TABLE IF NOT EXISTS parents (id bigint PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS children (id bigint REFERENCES parents DEFERRABLE INITIALLY DEFERRED)",
    )

    def handle(delivery: Delivery, cursor: Any) -> None:
        if delivery.event.aggregate_key == "swallows":
            with contextlib.suppress(Exception):
                cursor.execute("SELECT nothing")
            return
        if delivery.event.aggregate_key == "orphan":
            if engine == "sqlite":
                cursor.execute("PRAGMA defer_foreign_keys = ON")
            cursor.execute("INSERT INTO children VALUES (1)")
        insert(place)(delivery, cursor)

    append(tenant, 1, "swallows")
    append(tenant, 1, "orphan")
    last = append(tenant, 1, "fine")
    with read_model(engine, tmp_path) as place:
        running = Running(Projection(consumer, handle, _WithForeignKeys(place), tables=tables))
        consumer.wait_for(last, timeout=PATIENCE)
        wait_until(lambda: rows(place, "SELECT count(*) FROM lines") != [(0,)], "the last one is taken in")
        reasons = {one.position: one.reason for one in consumer.blocked()}
        running.stop()
        # A statement that fails takes PostgreSQL's transaction with it, and only itself in SQLite.
        if engine == "postgres":
            assert reasons.pop(1).startswith("TransactionFailed")
        assert list(reasons) == [2] and ("Foreign" in reasons[2] or "FOREIGN" in reasons[2])
        assert rows(place, "SELECT position FROM lines") == [(3,)]


class _WithForeignKeys:
    """A database that checks foreign keys, as SQLite does only if it is told to."""

    def __init__(self, place: str) -> None:
        self._database = database_of(place)

    def open(self) -> Any:
        session: Any = self._database.open()
        if isinstance(self._database, SQLite):
            session._connection.execute("PRAGMA foreign_keys = ON")
        return session


@pytest.mark.skipif(not POSTGRES, reason="no PostgreSQL")
def test_connections_that_the_database_ends_are_opened_again(tenant: martlet.Tenant, tmp_path: Path) -> None:
    import psycopg

    consumer = tenant.consumer("lines")
    consumer.put(QUICK)
    with read_model("postgres", tmp_path) as place:
        running = Running(Projection(consumer, insert(place), PostgreSQL(place), tables=LINES, threads=2))
        with psycopg.connect(place, autocommit=True) as killer:
            for _ in range(6):
                for key in range(10):
                    append(tenant, 5, f"key-{key}")
                killer.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'martlet-projection'"
                )
        consumer.wait_for(300, timeout=PATIENCE)
        running.stop()
        assert rows(place, "SELECT count(*), count(DISTINCT position) FROM lines") == [(300, 300)]


def test_scripts_are_refused_because_they_commit(tenant: martlet.Tenant, tmp_path: Path) -> None:
    consumer = tenant.consumer("lines")
    consumer.put(Definition(slots=1, tries_max=1))
    append(tenant, 1)
    place = str(tmp_path / "lines.db")
    running = Running(
        Projection(consumer, lambda _, cursor: cursor.executescript("SELECT 1"), SQLite(place), tables=LINES)
    )
    wait_until(lambda: any("would commit" in one.reason for one in consumer.blocked()), "it has failed")
    running.stop()


# Another past.


def test_another_past_is_noticed(tmp_path: Path) -> None:
    server = Server()
    place = str(tmp_path / "lines.db")
    tenant_id = uuid.uuid4()
    try:
        with client_of(server, tenant_id) as client:
            tenant = client.tenant()
            consumer = tenant.consumer("lines")
            consumer.put(QUICK)
            append(tenant, 2)
            server.drain()
            server.wait()
            shutil.copytree(server.folder.name, tmp_path / "copy")
            server.start()
            append(tenant, 2)
            running = Running(Projection(consumer, insert(place), SQLite(place), tables=LINES))
            consumer.wait_for(4, timeout=PATIENCE)
            running.stop()
        # The storage comes back as it was, and gets another event at position 3.
        server.kill()
        shutil.rmtree(server.folder.name)
        shutil.copytree(tmp_path / "copy", server.folder.name)
        server.start()
        with client_of(server, tenant_id) as client:
            tenant = client.tenant()
            append(tenant, 1)
            error = Running(Projection(tenant.consumer("lines"), insert(place), SQLite(place))).wait()
            assert isinstance(error, martlet.HistoryChanged)
            assert "at position 4 in slot" in str(error) and "the server has no event there" in str(error)
            append(tenant, 2)
            error = Running(Projection(tenant.consumer("lines"), insert(place), SQLite(place))).wait()
            assert isinstance(error, martlet.HistoryChanged) and "no event there" not in str(error)
        assert [position for (position,) in rows(place, "SELECT position FROM lines ORDER BY 1")] == [1, 2, 3, 4]
    finally:
        server.close()


# Two at once.


def test_two_projections_share_the_slots_and_one_takes_over(tenant: martlet.Tenant, tmp_path: Path) -> None:
    place = str(tmp_path / "lines.db")
    consumer = tenant.consumer("lines")
    consumer.put(Definition(slots=8))
    one, two = (Running(Projection(consumer, insert(place), SQLite(place), tables=LINES, worker=name)) for name in "ab")
    wait_until(lambda: {slot.worker for slot in consumer.describe().slots} == {"a", "b"}, "both have slots")
    for key in range(40):
        append(tenant, 1, f"key-{key}")
    consumer.wait_for(40, timeout=PATIENCE)
    one.stop()
    for key in range(40):
        append(tenant, 1, f"key-{key}")
    consumer.wait_for(80, timeout=PATIENCE)
    two.stop()
    assert rows(place, "SELECT count(*), count(DISTINCT position) FROM lines") == [(80, 80)]


def test_a_consumer_that_does_not_exist(tenant: martlet.Tenant, tmp_path: Path) -> None:
    nothing = Consumer(tenant.client, tenant.id, "nothing")
    error = Running(Projection(nothing, lambda *_: None, SQLite(tmp_path / "lines.db"))).wait()
    assert isinstance(error, martlet.NotFound) and error.reason == "CONSUMER_NOT_FOUND"
