"""Brings a database to the schema of this code, one recorded step after another."""

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString
from urllib.parse import unquote, urlsplit

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect, only_row, where
from rag_assets.errors import DatabaseError
from rag_assets.settings import DatabaseUrls

if TYPE_CHECKING:
    from rag_assets.adapters.postgres.connections import Connection

_NAME = re.compile(r"(\d{4})_(\w+)\.sql")
OLDEST_SERVER = 150000
OLDEST_PGVECTOR = (0, 8)


@dataclass(frozen=True, slots=True)
class Migration:
    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


def shipped() -> list[Migration]:
    """The migrations of this code, oldest first."""
    files = sorted((queries.sql_folder() / "migrations").glob("*.sql"))
    return [
        Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"))
        for file in files
        if (match := _NAME.fullmatch(file.name))
    ]


def migrate(urls: DatabaseUrls) -> list[Migration]:
    """Applies what is missing and returns it; all of it or, after a crash, up to a whole step."""
    with connect(urls.owner) as connection:
        _check_server(connection, urls.owner)
        connection.execute(_query("lock"))
        _make_roles(connection, urls)
        _refuse_writing_owner(connection, urls.owner)
        missing = _missing(connection)
        for migration in missing:
            with connection.transaction():
                connection.execute(migration.text)
                connection.execute(
                    _query("record"),
                    {
                        "version": migration.version,
                        "name": migration.name,
                        "checksum": migration.checksum,
                    },
                )
        return missing


def prepare(urls: DatabaseUrls) -> None:
    """What a schema needs before it can be there: a server that is new enough, and the roles."""
    with connect(urls.owner) as connection:
        _check_server(connection, urls.owner)
        connection.execute(_query("lock"))
        _make_roles(connection, urls)
        _refuse_writing_owner(connection, urls.owner)


@dataclass(frozen=True, slots=True)
class Server:
    version: str
    pgvector: str


def server(url: str) -> Server:
    """The versions behind a URL; refuses those that are too old."""
    with connect(url) as connection:
        _check_server(connection, url)
        found = only_row(connection.execute(_query("pgvector_version")))
        major, minor = divmod(connection.info.server_version, 10000)
        return Server(f"{major}.{minor}", found["extversion"])


def schema_version(url: str) -> int:
    """The newest migration that a database has; 0 for an empty one."""
    with connect(url) as connection:
        return max(_applied(connection), default=0)


def _missing(connection: "Connection") -> list[Migration]:
    applied = _applied(connection)
    known = shipped()
    newest = known[-1].version
    if applied and max(applied) > newest:
        raise DatabaseError(
            f"The database is at schema version {max(applied)}, this code knows {newest} at most."
            " Install the newer rag_assets again, or restore a backup made with this version."
        )
    for migration in known:
        if applied.get(migration.version, migration.checksum) != migration.checksum:
            raise DatabaseError(
                f"Migration {migration.version} ({migration.name}) was applied with another text."
                " The installed rag_assets is not the one that made this database."
            )
    return [migration for migration in known if migration.version not in applied]


def _applied(connection: "Connection") -> dict[int, str]:
    if not only_row(connection.execute(_query("has_schema")))["present"]:
        return {}
    return {row["version"]: row["checksum"] for row in connection.execute(_query("applied"))}


def _check_server(connection: "Connection", url: str) -> None:
    if connection.info.server_version < OLDEST_SERVER:
        raise DatabaseError(
            f"PostgreSQL at {where(url)} is version {connection.info.server_version // 10000};"
            " rag_assets needs 15 or newer."
        )
    found = connection.execute(_query("pgvector_version")).fetchone()
    if found is None:
        raise DatabaseError(
            f"The database at {where(url)} has no pgvector. Let a superuser run"
            " `CREATE EXTENSION vector` in it (0.8 or newer)."
        )
    version = tuple(int(part) for part in str(found["extversion"]).split(".")[:2])
    if version < OLDEST_PGVECTOR:
        raise DatabaseError(
            f"The database at {where(url)} has pgvector {found['extversion']}; rag_assets needs 0.8"
            " or newer. Let a superuser run `ALTER EXTENSION vector UPDATE`."
        )
    if only_row(connection.execute(_query("who")))["bypasses"]:
        raise DatabaseError(
            f"The owner of the database at {where(url)} is a superuser or bypasses row-level"
            " security, so permissions would not hold. Use an ordinary role as the owner."
        )


def _make_roles(connection: "Connection", urls: DatabaseUrls) -> None:
    """The two group roles, and the logins of the URLs as their members."""
    from psycopg import errors, sql

    for group, url in (("rag_assets_writer", urls.writer), ("rag_assets_reader", urls.reader)):
        login = unquote(urlsplit(url).username or "")
        password = unquote(urlsplit(url).password or "")
        names = {"group": sql.Identifier(group), "login": sql.Identifier(login)}
        try:
            if not _role_exists(connection, group):
                connection.execute(sql.SQL(_query("create_group")).format(**names))
            if login and not _role_exists(connection, login):
                verifier = sql.Literal(_verifier(connection, login, password))
                connection.execute(
                    sql.SQL(_query("create_login")).format(**names, password=verifier)
                )
            if login and not _is_member(connection, login, group):
                connection.execute(sql.SQL(_query("join_group")).format(**names))
        except (errors.DuplicateObject, errors.UniqueViolation) as error:
            raise DatabaseError(
                f"The roles of {where(url)} were made by somebody else at the same moment, for"
                " another database of this server. Run `rag-assets migrate` again."
            ) from error
        except errors.InsufficientPrivilege as error:
            raise DatabaseError(
                f"The owner may not make the role {group}. Let an administrator run:"
                f" CREATE ROLE {group}; CREATE ROLE {login or '…'} LOGIN PASSWORD '…';"
                f" GRANT {group} TO {login or '…'}; then run `rag-assets migrate` again."
            ) from error


def _refuse_writing_owner(connection: "Connection", url: str) -> None:
    if only_row(connection.execute(_query("owner_writes")))["inherits"]:
        raise DatabaseError(
            f"The owner of the database at {where(url)} inherits the rights of rag_assets_writer,"
            " so permissions would not hold. Let an administrator take it out of that group:"
            " REVOKE rag_assets_writer FROM the owner."
        )


def _verifier(connection: "Connection", login: str, password: str) -> str:
    """What the server keeps instead of the password: a refused statement is written to its log."""
    encrypt = connection.pgconn.encrypt_password
    return encrypt(password.encode(), login.encode(), b"scram-sha-256").decode()


def _role_exists(connection: "Connection", role: str) -> bool:
    return bool(only_row(connection.execute(_query("role_exists"), {"role": role}))["present"])


def _is_member(connection: "Connection", login: str, group: str) -> bool:
    found = connection.execute(_query("is_member"), {"login": login, "group": group})
    return bool(only_row(found)["member"])


def _query(name: str) -> LiteralString:
    return queries.load("migrations")[name]
