"""The schema, brought about step by step, whole or not at all."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from rag_assets.adapters.embedded_postgres import EmbeddedPostgres
from rag_assets.adapters.postgres import migrations, queries
from rag_assets.errors import DatabaseError, NotMigratedError
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.conftest import administering, in_database
from rag_assets_tests.integration.databases import (
    definitions,
    migrating,
    name_of,
    others,
    wait_until,
    waiting,
)
from rag_assets_tests.integration.flow import value


def tables(urls: DatabaseUrls) -> int:
    query = "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('rag_assets')"
    return int(value(urls.owner, query))


def test_the_schema_and_the_migrations_make_equal_databases(
    server: EmbeddedPostgres, empty: DatabaseUrls, database: DatabaseUrls
) -> None:
    with psycopg.connect(empty.owner) as connection:
        text = (queries.sql_folder() / "schema.sql").read_text("utf-8")
        connection.execute(sql.SQL(text))
    by_schema, by_migrations = definitions(server, empty), definitions(server, database)
    assert by_schema == by_migrations
    for part in ("OWNER TO rag_assets_owner", "GRANT SELECT", "search_words", "CREATE TABLE"):
        assert part in by_schema


def test_an_empty_database_gets_every_migration_once(empty: DatabaseUrls) -> None:
    assert migrations.schema_version(empty.owner) == 0
    assert migrations.migrate(empty) == migrations.shipped()
    assert migrations.schema_version(empty.owner) == migrations.shipped()[-1].version


def test_migrating_again_changes_nothing(server: EmbeddedPostgres, database: DatabaseUrls) -> None:
    before = definitions(server, database)
    assert migrations.migrate(database) == []
    assert definitions(server, database) == before


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [each.version for each in migrations.shipped()] == [
        number + 1 for number in range(len(migrations.shipped()))
    ]


def test_a_newer_database_is_refused(database: DatabaseUrls) -> None:
    recorded(database, version=9999, checksum="of the future")
    with pytest.raises(DatabaseError, match="schema version 9999, this code knows"):
        migrations.migrate(database)


def test_a_migration_that_was_applied_with_another_text_is_refused(database: DatabaseUrls) -> None:
    with psycopg.connect(database.owner) as connection:
        connection.execute("UPDATE rag_assets.schema_migrations SET checksum = 'another'")
    with pytest.raises(DatabaseError, match=r"Migration 1 \(initial\) was applied with another"):
        migrations.migrate(database)


def recorded(urls: DatabaseUrls, *, version: int, checksum: str) -> None:
    with psycopg.connect(urls.owner) as connection:
        connection.execute(
            "INSERT INTO rag_assets.schema_migrations VALUES (%s, 'later', %s)", (version, checksum)
        )


def test_an_owner_that_row_level_security_does_not_hold_for_is_refused(
    server: EmbeddedPostgres, empty: DatabaseUrls
) -> None:
    admin = server.admin_url(database=name_of(empty))
    assert admin is not None
    with pytest.raises(DatabaseError, match="superuser or bypasses row-level"):
        migrations.migrate(DatabaseUrls(admin, empty.writer, empty.reader))
    assert tables(empty) == 0


def test_a_database_without_pgvector_is_refused(
    server: EmbeddedPostgres, empty: DatabaseUrls
) -> None:
    with administering(server, name_of(empty)) as connection:
        connection.execute("DROP EXTENSION vector")
    with pytest.raises(DatabaseError, match="CREATE EXTENSION vector"):
        migrations.migrate(empty)


@pytest.mark.parametrize(("version", "refused"), [("0.7.4", True), ("0.10.0", False)])
def test_pgvector_must_be_new_enough(
    server: EmbeddedPostgres, empty: DatabaseUrls, version: str, refused: bool
) -> None:
    with administering(server, name_of(empty)) as connection:
        connection.execute(
            "UPDATE pg_extension SET extversion = %s WHERE extname = 'vector'", (version,)
        )
    if refused:
        with pytest.raises(DatabaseError, match=r"pgvector 0\.7\.4; rag_assets needs 0\.8"):
            migrations.migrate(empty)
    else:
        assert migrations.server(empty.owner).pgvector == version


@contextmanager
def pretended_server(version: str) -> Iterator[str]:
    """Speaks just enough of the protocol to name its version; its URL."""

    def message(kind: bytes, body: bytes) -> bytes:
        return kind + (len(body) + 4).to_bytes(4) + body

    ready = message(b"Z", b"I")
    welcome = message(b"R", bytes(4)) + message(b"S", f"server_version\0{version}\0".encode())

    def serve() -> None:
        with listening.accept()[0] as client, client.makefile("rb") as requests:
            requests.read(int.from_bytes(requests.read(4)) - 4)
            client.sendall(welcome + ready)
            while requests.read(1) == b"Q":
                requests.read(int.from_bytes(requests.read(4)) - 4)
                client.sendall(message(b"C", b"SELECT 0\0") + ready)

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve)
        port = listening.getsockname()[1]
        yield f"postgresql://ann@127.0.0.1:{port}/rag?sslmode=disable&gssencmode=disable"
        served.result(timeout=10)


@pytest.mark.parametrize(("version", "says"), [("14.19", "version 14;"), ("9.6.24", "version 9;")])
def test_a_server_that_is_too_old_is_refused(version: str, says: str) -> None:
    with (
        pretended_server(version) as url,
        pytest.raises(DatabaseError, match=f"{says} rag_assets needs 15 or newer"),
    ):
        migrations.migrate(DatabaseUrls(url, url, url))


def test_a_database_without_the_schema_says_to_migrate(empty: DatabaseUrls) -> None:
    from rag_assets import wiring

    with pytest.raises(NotMigratedError, match="Run `rag-assets migrate`"):
        wiring.stores(empty).corpora.registered()


def test_two_migrations_at_once_apply_everything_once(empty: DatabaseUrls) -> None:
    together = threading.Barrier(4)

    def migrated() -> int:
        together.wait()
        return len(migrations.migrate(empty))

    with ThreadPoolExecutor(4) as pool:
        applied = [each.result() for each in [pool.submit(migrated) for _ in range(4)]]
    assert sorted(applied) == [0, 0, 0, len(migrations.shipped())]


def test_a_migration_killed_in_the_middle_leaves_all_or_nothing(
    server: EmbeddedPostgres, empty: DatabaseUrls
) -> None:
    """The last thing of a migration is its record: held up there, all its tables are made."""
    with administering(server, name_of(empty)) as connection:
        connection.execute(
            "CREATE FUNCTION public.held_up() RETURNS event_trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_advisory_xact_lock(4711); END $$"
        )
        connection.execute(
            "CREATE EVENT TRIGGER held_up ON ddl_command_end WHEN TAG IN ('GRANT')"
            " EXECUTE FUNCTION public.held_up()"
        )
        connection.execute("SELECT pg_advisory_lock(4711)")
        process = migrating(empty)
        try:
            wait_until(lambda: waiting(connection, empty))
        finally:
            os.kill(process.pid, signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        connection.execute("SELECT pg_advisory_unlock(4711)")
        connection.execute("DROP EVENT TRIGGER held_up")
        wait_until(lambda: not others(connection))
    assert tables(empty) == 0
    assert migrations.schema_version(empty.owner) == 0
    assert migrations.migrate(empty) == migrations.shipped()


def test_a_second_database_on_the_server_shares_the_roles(
    empty: DatabaseUrls, database: DatabaseUrls
) -> None:
    migrations.migrate(empty)
    for urls in (empty, database):
        assert value(urls.writer, "SELECT count(*) FROM corpora") == 0
        assert value(urls.reader, "SELECT count(*) FROM published_index") == 0


def test_a_login_named_in_a_url_is_made_with_its_password(
    server: EmbeddedPostgres, empty: DatabaseUrls, tmp_path: Path
) -> None:
    """An external owner that may make roles gets them made."""
    with administering(server, name_of(empty)) as connection:
        connection.execute("CREATE ROLE ann LOGIN CREATEROLE PASSWORD 'an owner'")
        connection.execute(
            "GRANT rag_assets_writer, rag_assets_reader TO ann WITH ADMIN TRUE, INHERIT FALSE"
        )
        connection.execute(
            sql.SQL("GRANT CREATE ON DATABASE {} TO ann").format(sql.Identifier(name_of(empty)))
        )
        try:
            place = empty.owner.partition("@")[2]
            urls = DatabaseUrls(
                f"postgresql://ann:an%20owner@{place}",
                f"postgresql://walt:a%2Fword@{place}",
                f"postgresql://rita:an%27other@{place}",
            )
            migrations.migrate(urls)
            assert value(urls.writer, "SELECT count(*) FROM corpora") == 0
            assert value(urls.reader, "SELECT count(*) FROM published_index") == 0
        finally:
            connection.execute("DROP SCHEMA IF EXISTS rag_assets CASCADE")
            connection.execute("DROP OWNED BY ann")
            connection.execute("DROP ROLE IF EXISTS walt, rita, ann")


def test_an_owner_that_may_not_make_roles_is_told_what_to_have_made(
    server: EmbeddedPostgres, empty: DatabaseUrls
) -> None:
    urls = DatabaseUrls(
        empty.owner,
        in_database(empty.writer, name_of(empty)),
        empty.reader.replace("reader", "nobody", 1),
    )
    with pytest.raises(DatabaseError, match="Let an administrator run: CREATE ROLE"):
        migrations.migrate(urls)
    assert tables(empty) == 0
