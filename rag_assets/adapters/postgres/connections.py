"""How every store reaches the database, and what its errors mean to a person."""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from rag_assets.adapters.postgres import queries
from rag_assets.errors import ConfigurationError, DatabaseError, NotMigratedError

if TYPE_CHECKING:
    import psycopg
    from psycopg.rows import DictRow

    Connection = psycopg.Connection[DictRow]

_STOPPED = "Start the embedded server with `rag-assets up`, or see that the external one runs."
_REMEDIES = {
    "password authentication failed": "Correct the user or the password in its URL.",
    "does not exist": "Make it, or correct the name in its URL.",
    "no pg_hba.conf entry": "Let its administrator admit this user from this machine.",
    "the database system is": "Wait a moment, then try again.",
}


MOST_IDLE = 4
"""Of one kind; more than are used at once never come back."""


@contextmanager
def connect(url: str, *, vectors: bool = False) -> Iterator["Connection"]:
    """An autocommitting connection whose failures come out as `DatabaseError`.

    Whatever its session holds, locks and settings among it, ends here, kept or not.
    """
    with _explained(url), ExitStack() as stack:
        connection = _KEPT.take(url, vectors=vectors) or _opened(url, vectors=vectors)
        stack.enter_context(connection)
        yield connection
        if _KEPT.keep(connection, url, vectors=vectors):
            stack.pop_all()


@contextmanager
def keeping_connections() -> Iterator[None]:
    """Meanwhile a connection that has done its work waits for the next, in this process."""
    _KEPT.begin()
    try:
        yield
    finally:
        _KEPT.end()


def _opened(url: str, *, vectors: bool) -> "Connection":
    import psycopg
    from psycopg.rows import dict_row

    try:
        connection = psycopg.connect(
            url,
            autocommit=True,
            row_factory=dict_row,
            connect_timeout=10,
            application_name="rag_assets",
        )
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(
            f"The URL of the database at {where(url)} cannot be read: {_first_line(error)}."
        ) from error
    with ExitStack() as stack:
        stack.enter_context(connection)
        _settle(connection)
        if vectors:
            from pgvector.psycopg import register_vector

            register_vector(connection)
        stack.pop_all()
    return connection


def _settle(connection: "Connection") -> None:
    connection.execute(queries.load("connections")["settle"])


class _Kept:
    """Idle connections, as new: nothing of the last one's session is left in them.

    One is only put here where all went well, and only taken where it still answers.
    """

    def __init__(self) -> None:
        self._one_at_a_time = Lock()
        self._wishes = 0
        self._idle: dict[tuple[str, bool], list[Connection]] = {}
        self._process = os.getpid()
        self._of_parents: list[Connection] = []

    def begin(self) -> None:
        self._know_the_process()
        with self._one_at_a_time:
            self._wishes += 1

    def end(self) -> None:
        self._know_the_process()
        with self._one_at_a_time:
            self._wishes = max(self._wishes - 1, 0)
            done = [] if self._wishes else self._emptied()
        for connection in done:
            connection.close()

    def take(self, url: str, *, vectors: bool) -> "Connection | None":
        """That a server has ended meanwhile, and is back, is no reason to fail."""
        import psycopg

        while (connection := self._next(url, vectors)) is not None:
            try:
                _settle(connection)
            except psycopg.Error:
                connection.close()
            else:
                return connection
        return None

    def keep(self, connection: "Connection", url: str, *, vectors: bool) -> bool:
        self._know_the_process()
        if not self._wishes or not _renewed(connection):
            return False
        with self._one_at_a_time:
            idle = self._idle.setdefault((url, vectors), [])
            kept = self._wishes > 0 and len(idle) < MOST_IDLE
            if kept:
                idle.append(connection)
        return kept

    def _next(self, url: str, vectors: bool) -> "Connection | None":
        self._know_the_process()
        with self._one_at_a_time:
            idle = self._idle.get((url, vectors))
            return idle.pop() if idle else None

    def _know_the_process(self) -> None:
        """A fork has its parent's sockets: it neither uses nor closes them."""
        if self._process != os.getpid():
            self._one_at_a_time = Lock()
            self._of_parents += self._emptied()
            self._wishes = 0
            self._process = os.getpid()

    def _emptied(self) -> "list[Connection]":
        every = [each for idle in self._idle.values() for each in idle]
        self._idle = {}
        return every


_KEPT = _Kept()


def _renewed(connection: "Connection") -> bool:
    """Ends what the last session held at the server, and how it was to read and write."""
    import psycopg
    from psycopg.rows import dict_row

    if connection.info.transaction_status is not psycopg.pq.TransactionStatus.IDLE:
        return False
    try:
        connection.isolation_level = connection.read_only = connection.deferrable = None
        connection.autocommit = True
        connection.row_factory = dict_row
        connection.execute(queries.load("connections")["renew"], prepare=False)
    except psycopg.Error:
        return False
    return True


@contextmanager
def _explained(url: str) -> Iterator[None]:
    import psycopg
    from psycopg import errors

    place = where(url)
    try:
        yield
    except (
        errors.UndefinedTable,
        errors.UndefinedColumn,
        errors.UndefinedFunction,
        errors.InvalidSchemaName,
    ) as error:
        raise NotMigratedError(
            f"The database at {place} has not the tables of this version ({_first_line(error)})."
            " Run `rag-assets migrate`."
        ) from error
    except errors.InsufficientPrivilege as error:
        raise DatabaseError(
            f"The database at {place} refused: {_first_line(error)}. Give each role its own URL:"
            " owner, writer and reader; then run `rag-assets migrate`."
        ) from error
    except (errors.DiskFull, errors.OutOfMemory) as error:
        raise DatabaseError(
            f"The database at {place} has no room left: {_first_line(error)}. What was published"
            " stays; make room and run again."
        ) from error
    except (
        errors.LockNotAvailable,
        errors.QueryCanceled,
        errors.DeadlockDetected,
        errors.SerializationFailure,
        errors.IdleInTransactionSessionTimeout,
    ) as error:
        raise DatabaseError(
            f"The database at {place} gave up waiting: {_first_line(error)}. Another run is at work"
            " on the same thing; run again when it has ended."
        ) from error
    except psycopg.OperationalError as error:
        said = _first_line(error).rpartition("FATAL:  ")[2]
        remedy = next((does for words, does in _REMEDIES.items() if words in said), _STOPPED)
        raise DatabaseError(f"No database at {place}: {said}. {remedy}") from error


def where(url: str) -> str:
    """The place a URL points to, without user or password.

    >>> where("postgresql://ann:secret@db.example:5433/rag")
    'db.example:5433/rag'
    """
    parts = urlsplit(url)
    host = parts.hostname or parse_qs(parts.query).get("host", ["local socket"])[0]
    port = f":{parts.port}" if parts.port else ""
    return f"{host}{port}{parts.path}"


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    line = text.splitlines()[0] if text else type(error).__name__
    return re.sub(r"://[^@\s]*@", "://***@", line).rstrip(".")


def only_row(cursor: "psycopg.Cursor[DictRow]") -> dict[str, Any]:
    """The one row a query must give."""
    row = cursor.fetchone()
    if row is None:
        raise DatabaseError("A query that must give a row gave none. Run `rag-assets doctor`.")
    return row
