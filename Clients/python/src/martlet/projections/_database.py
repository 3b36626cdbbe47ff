"""Databases that hold read models: SQLite by the standard library, PostgreSQL by psycopg 3."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    import psycopg

ENDED = "the handler has committed or rolled back the transaction, which is not its own"

# Any number will do, as long as all programs have the same.
SCHEMA_LOCK = 0x6D6172746C6574

Cursor = TypeVar("Cursor")
CursorOut = TypeVar("CursorOut", covariant=True)


class TransactionEnded(Exception):
    """A handler ended the transaction that its writes belong to."""


class TransactionFailed(Exception):
    """A handler went on after one of its statements had failed."""


class Session(Protocol[CursorOut]):
    """A connection, and its transactions one after the other."""

    bytes_type: str
    """The type of columns of bytes."""

    @property
    def is_usable(self) -> bool:
        """Whether another transaction can begin; otherwise a new session is needed."""

    def transaction(self) -> contextlib.AbstractContextManager[CursorOut]:
        """A transaction: committed and durable at the end of the block, rolled back when it raises."""

    def sql(self, statement: str) -> str:
        """A statement with ? for its values, as this database takes it."""

    def begin_schema(self, cursor: Any) -> None:
        """Has others that make tables wait until the end of the transaction."""

    def check_transaction(self) -> None:
        """After a handler.

        Raises:
            TransactionEnded: the transaction is over.
            TransactionFailed: a statement has failed, so that nothing of the transaction can be committed.
        """

    def is_transient(self, error: BaseException) -> bool:
        """Whether the same transaction may succeed later: the database is busy or away."""

    def interrupt(self) -> None:
        """Has the transaction fail, in what it waits for or at its next statement. Called by another thread."""

    def release(self) -> None:
        """Rolls back the transaction under way, which `interrupt` has not ended in time. Called by another thread. The
        session is of no use afterwards."""

    def close(self) -> None:
        """Gives the connection back."""


class Database(Protocol[CursorOut]):
    """Where a read model is. Anything that opens sessions can be one."""

    def open(self) -> Session[CursorOut]:
        """Connects."""


class SQLite:
    """A read model in an SQLite file. Handlers get a `sqlite3.Cursor`."""

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float = 1.0) -> None:
        """A file, which is made if it does not exist.

        Args:
            path: the file.
            busy_timeout: for how many seconds a statement waits for another process, before the transaction is tried
                again.
        """
        self._path = os.fspath(path)
        self._busy_timeout = busy_timeout

    def open(self) -> Session[sqlite3.Cursor]:
        """Connects. Transactions are durable when they have committed."""
        return _SQLiteSession(self._path, self._busy_timeout)


class _Cursor(sqlite3.Cursor):
    session: _SQLiteSession

    def execute(self, *arguments: Any) -> Any:
        self.session.check()
        return super().execute(*arguments)

    def executemany(self, *arguments: Any) -> Any:
        self.session.check()
        return super().executemany(*arguments)

    def executescript(self, *_: Any) -> Any:
        raise sqlite3.ProgrammingError("executescript() would commit the transaction: execute statements one by one")


class _SQLiteSession:
    bytes_type = "blob"

    def __init__(self, path: str, busy_timeout: float) -> None:
        # Transactions begin where they are written out. Other threads interrupt, and roll back what hangs.
        self._connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
        self._is_usable = True
        self._is_interrupted = False
        try:
            self._connection.execute("PRAGMA journal_mode = WAL").fetchall()
            self._connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            self._connection.close()
            raise

    @property
    def is_usable(self) -> bool:
        return self._is_usable

    def check(self) -> None:
        if self._is_interrupted:
            raise sqlite3.OperationalError("interrupted: the handler has taken too long")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Cursor]:
        self._connection.execute("BEGIN IMMEDIATE")
        cursor = self._connection.cursor(_Cursor)
        cursor.session = self
        try:
            yield cursor
            self._connection.execute("COMMIT")
        except BaseException:
            if self._is_interrupted:
                self._is_usable = False
            with contextlib.suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            raise

    def sql(self, statement: str) -> str:
        return statement

    def begin_schema(self, cursor: Any) -> None:
        pass

    def check_transaction(self) -> None:
        if not self._connection.in_transaction:
            raise TransactionEnded(ENDED)

    def is_transient(self, error: BaseException) -> bool:
        if not isinstance(error, sqlite3.OperationalError):
            return False
        # Before Python 3.11 there is no code, only the text.
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return "locked" in str(error) or "busy" in str(error)
        return code & 0xFF in (5, 6)

    def interrupt(self) -> None:
        self._is_interrupted = True
        self._connection.interrupt()

    def release(self) -> None:
        self._is_usable = False
        with contextlib.suppress(sqlite3.Error):
            self._connection.rollback()

    def close(self) -> None:
        self._is_usable = False
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()


class PostgreSQL:
    """A read model in PostgreSQL. Handlers get a `psycopg.Cursor`. Needs psycopg 3: the extra `psycopg`."""

    def __init__(self, url: str, *, idle_in_transaction: float = 30.0) -> None:
        """A database.

        Args:
            url: as libpq takes it, `postgres://…` or `key=value …`.
            idle_in_transaction: PostgreSQL ends a transaction whose program was stopped in its midst after so many
                seconds. Handlers must execute a statement at least that often.
        """
        self._url = url
        self._idle_millis = round(idle_in_transaction * 1_000)

    def open(self) -> Session[psycopg.Cursor[Any]]:
        """Connects."""
        return _PostgreSQLSession(self._url, self._idle_millis)


class _PostgreSQLSession:
    bytes_type = "bytea"

    def __init__(self, url: str, idle_millis: int) -> None:
        import psycopg

        self._psycopg = psycopg
        self._connection = psycopg.connect(url, autocommit=True, application_name="martlet-projection")
        self._connection.execute(f"SET idle_in_transaction_session_timeout = {idle_millis}")
        self._is_interrupted = False

    @property
    def is_usable(self) -> bool:
        return not self._is_interrupted and not self._connection.closed and not self._connection.broken

    @contextlib.contextmanager
    def transaction(self) -> Iterator[psycopg.Cursor[Any]]:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            yield cursor

    def sql(self, statement: str) -> str:
        return statement.replace("?", "%s")

    def begin_schema(self, cursor: Any) -> None:
        # CREATE TABLE IF NOT EXISTS fails if another does so at the same time.
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (SCHEMA_LOCK,))

    def check_transaction(self) -> None:
        status, known = self._connection.info.transaction_status, self._psycopg.pq.TransactionStatus
        if status == known.IDLE:
            raise TransactionEnded(ENDED)
        if status == known.INERROR:
            raise TransactionFailed("a statement of the handler has failed, and the handler went on")

    def is_transient(self, error: BaseException) -> bool:
        if not isinstance(error, (self._psycopg.OperationalError, self._psycopg.InterfaceError)):
            return False
        return is_transient_state(error.sqlstate) if error.sqlstate else not self.is_usable

    def interrupt(self) -> None:
        self._is_interrupted = True
        with contextlib.suppress(Exception):
            getattr(self._connection, "cancel_safe", self._connection.cancel)()

    def release(self) -> None:
        # The server rolls back when the connection is gone.
        self._is_interrupted = True
        with contextlib.suppress(Exception), socket.socket(fileno=os.dup(self._connection.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(self._psycopg.Error):
            self._connection.close()


def is_transient_state(state: str) -> bool:
    """Whether a transaction that PostgreSQL ended with that SQLSTATE may succeed later: a deadlock, a lock that is not
    available, a lack of resources, a server that stops or starts, a connection that is lost. A statement that was
    cancelled is none of these."""
    return state[:2] in ("40", "53", "08") or (state[:2] == "57" and state != "57014") or state in ("55P03", "25P03")


def connect_problem_is_transient(error: BaseException) -> bool:
    """Whether a database that cannot be connected to may be there later."""
    if isinstance(error, sqlite3.OperationalError):
        return "locked" in str(error) or "busy" in str(error)
    state = getattr(error, "sqlstate", None)
    if state:
        return is_transient_state(state)
    # psycopg says no more of a server that cannot be reached.
    return type(error).__name__ == "OperationalError" and "authentication failed" not in str(error)


class Sessions(Generic[Cursor]):
    """Sessions that are opened when they are needed, and again when they are lost; for one thread."""

    def __init__(self, database: Database[Cursor]) -> None:
        self._database = database
        self._session: Session[Cursor] | None = None

    def take(self) -> Session[Cursor]:
        """The session.

        Raises what the database raises, if it cannot be connected to.
        """
        if self._session is not None and not self._session.is_usable:
            self.close()
        if self._session is None:
            self._session = self._database.open()
        return self._session

    def close(self) -> None:
        """Closes it."""
        session, self._session = self._session, None
        if session is not None:
            session.close()


Rows = Sequence[Sequence[Any]]
