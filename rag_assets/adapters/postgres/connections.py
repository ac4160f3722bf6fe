"""How every store reaches the database, and what its errors mean to a person."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def connect(url: str, *, vectors: bool = False) -> Iterator["Connection"]:
    """An autocommitting connection whose failures come out as `DatabaseError`."""
    import psycopg
    from psycopg.rows import dict_row

    with _explained(url):
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
    with _explained(url), connection:
        connection.execute(queries.load("connections")["settle"])
        if vectors:
            from pgvector.psycopg import register_vector

            register_vector(connection)
        yield connection


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
