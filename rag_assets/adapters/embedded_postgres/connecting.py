"""What a server says over a connection: who it is. Only that proves that it runs."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

from rag_assets.adapters.embedded_postgres.credentials import (
    ADMIN,
    DATABASE,
    OWNER,
    READER,
    WRITER,
    Credentials,
)
from rag_assets.adapters.postgres import queries
from rag_assets.errors import ServerError

if TYPE_CHECKING:
    import psycopg
    from psycopg.rows import TupleRow

    Connection = psycopg.Connection[TupleRow]

_MAINTENANCE = "postgres"
_CLOSED = (_MAINTENANCE, "template1", DATABASE)


class State(StrEnum):
    READY = "ready"
    BUSY = "busy"  # it starts, recovers or stops
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Answer:
    state: State
    system_identifier: str = ""
    data_folder: str = ""
    version: str = ""

    def comes_from(self, data: Path, credentials: Credentials) -> bool:
        return (
            self.state is State.READY
            and self.system_identifier == credentials.system_identifier
            and os.path.realpath(self.data_folder) == os.path.realpath(data)
        )


def ask(credentials: Credentials, socket_folder: Path) -> Answer:
    import psycopg

    try:
        with _connected(credentials, socket_folder, _MAINTENANCE) as connection:
            row = connection.execute(_sql("identity")).fetchone()
    except psycopg.OperationalError as error:
        return Answer(_state(str(error), socket_folder))
    assert row is not None  # noqa: S101 # a SELECT without a condition on one set-returning function
    return Answer(State.READY, *row)


def set_up(credentials: Credentials, socket_folder: Path) -> None:
    """Roles, database, rights and pgvector, as they must be, whatever is there already."""
    import psycopg

    try:
        with _connected(credentials, socket_folder, _MAINTENANCE) as connection:
            _set_up_roles(connection, credentials)
            _set_up_database(connection)
        with _connected(credentials, socket_folder, DATABASE) as connection:
            connection.execute(_sql("create_vector"))
            connection.execute(_sql("update_vector"))
    except psycopg.Error as error:
        raise ServerError(
            f"The embedded server runs, but cannot be set up: {str(error).strip()}. Put that right"
            " and run `rag-assets up` again; it goes on where it stopped."
        ) from error


def vector_version(credentials: Credentials, socket_folder: Path) -> str | None:
    """None too where the set-up has not come so far yet."""
    import psycopg

    try:
        with _connected(credentials, socket_folder, DATABASE) as connection:
            row = connection.execute(_sql("vector_version")).fetchone()
    except psycopg.OperationalError:
        return None
    return row[0] if row else None


def _set_up_roles(connection: "Connection", credentials: Credentials) -> None:
    from psycopg.sql import SQL, Identifier, Literal

    wanted = {name: word for name, word in credentials.passwords().items() if name != ADMIN}
    found = connection.execute(_sql("existing_roles"), {"names": list(wanted)})
    present = {name for (name,) in found}
    for name, password in wanted.items():
        role = Identifier(name)
        if name not in present:
            connection.execute(SQL(_sql("create_role")).format(role=role))
        verifier = _verifier(connection, name, password)
        statement = SQL(_sql("set_role")).format(role=role, password=Literal(verifier))
        connection.execute(statement)


def _set_up_database(connection: "Connection") -> None:
    from psycopg.sql import SQL, Identifier

    found = connection.execute(_sql("database_exists"), {"name": DATABASE}).fetchone()
    database = Identifier(DATABASE)
    if found == (False,):
        create = SQL(_sql("create_database")).format(database=database, owner=Identifier(OWNER))
        connection.execute(create)
    for name in _CLOSED:
        connection.execute(SQL(_sql("close_database")).format(database=Identifier(name)))
    _grant(connection, "open_database", (OWNER, WRITER, READER))
    _grant(connection, "allow_temporary_tables", (OWNER, WRITER))


def _grant(connection: "Connection", what: str, roles: Sequence[str]) -> None:
    from psycopg.sql import SQL, Identifier

    names = SQL(", ").join(map(Identifier, roles))
    statement = SQL(_sql(what)).format(database=Identifier(DATABASE), roles=names)
    connection.execute(statement)


def _verifier(connection: "Connection", role: str, password: str) -> str:
    """What the server keeps instead of the password, so that no log can ever show it."""
    encrypt = connection.pgconn.encrypt_password
    return encrypt(password.encode(), role.encode(), b"scram-sha-256").decode()


@contextmanager
def _connected(
    credentials: Credentials, socket_folder: Path, database: str
) -> Iterator["Connection"]:
    import psycopg

    url = credentials.url(ADMIN, socket_folder, database=database)
    with psycopg.connect(
        url, autocommit=True, connect_timeout=5, application_name="rag-assets"
    ) as connection:
        yield connection


def _state(message: str, socket_folder: Path) -> State:
    if "password authentication failed" in message:
        raise ServerError(
            f"The server at {socket_folder} refuses the password in secrets.json: file and data"
            " do not belong together. Put back the secrets.json that was made with this data."
        )
    return State.BUSY if "the database system is" in message else State.SILENT


def _sql(name: str) -> LiteralString:
    return queries.load("embedded_server")[name]
