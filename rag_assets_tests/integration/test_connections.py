"""Connections that are used again: as good as new ones, and gone when they are to be gone."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import tuple_row

from rag_assets.adapters.embedded_postgres import EmbeddedPostgres
from rag_assets.adapters.postgres.connections import connect, keeping_connections
from rag_assets.adapters.postgres.expected_rows import PostgresExpectedRows
from rag_assets.errors import DatabaseError
from rag_assets.settings import DatabaseUrls

SETTINGS = "SELECT name, setting FROM pg_settings WHERE source IN ('session', 'client')"


@pytest.fixture
def url(database: DatabaseUrls) -> str:
    return database.writer


@pytest.fixture
def kept() -> Iterator[None]:
    with keeping_connections():
        yield


def backend(url: str, *, vectors: bool = False) -> int:
    with connect(url, vectors=vectors) as connection:
        return connection.info.backend_pid


def asked(url: str, query: str) -> list[dict[str, Any]]:
    with connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def end(url: str, pid: int) -> None:
    with psycopg.connect(url, autocommit=True) as administrator:
        administrator.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


def test_by_itself_every_use_has_its_own_connection(url: str) -> None:
    assert backend(url) != backend(url)


def test_while_they_are_kept_one_use_follows_another(url: str, kept: None) -> None:
    assert backend(url) == backend(url)


def test_roles_and_kinds_do_not_share(database: DatabaseUrls, kept: None) -> None:
    owner, writer = backend(database.owner), backend(database.writer)
    assert len({owner, writer, backend(database.writer, vectors=True)}) == 3
    assert asked(database.owner, "SELECT current_user") != asked(
        database.writer, "SELECT current_user"
    )


def test_none_is_left_when_nobody_keeps_them_any_more(url: str) -> None:
    with keeping_connections():
        with keeping_connections():
            pid = backend(url)
        assert backend(url) == pid
    with psycopg.connect(url, autocommit=True) as watching:
        query = "SELECT FROM pg_stat_activity WHERE pid = %s AND backend_type = 'client backend'"
        for _ in range(200):
            if not watching.execute(query, (pid,)).rowcount:
                return
            threading.Event().wait(0.01)
    pytest.fail("its backend still lives")


def test_nothing_of_a_session_is_left_for_the_next(url: str, kept: None) -> None:
    fresh = asked(url, SETTINGS)
    with connect(url) as connection:
        pid = connection.info.backend_pid
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.row_factory = tuple_row  # type: ignore[assignment]
        connection.execute("SELECT pg_advisory_lock(42), pg_advisory_lock(4, 2)")
        connection.execute("SET enable_seqscan = off")
        connection.execute("SET search_path = pg_temp")
        connection.execute("CREATE TEMPORARY TABLE documents (strange integer)")
        for _ in range(10):
            connection.execute("SELECT %s + 1", (1,))
    assert asked(url, SETTINGS) == fresh
    with connect(url) as connection:
        assert connection.info.backend_pid == pid
        assert (connection.isolation_level, connection.read_only) == (None, None)
        for query in (
            "SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
            "SELECT FROM documents",
        ):
            assert connection.execute(query).rowcount == 0
        for number in range(10):
            [row] = connection.execute("SELECT %s + 1 AS more", (number,))
            assert row["more"] == number + 1
        connection.execute("CREATE TEMPORARY TABLE written (number integer)")


def test_what_one_use_prepared_is_there_in_the_next(url: str, kept: None) -> None:
    """Also where some uses before it prepared nothing, and a table it names is another one."""
    pids = set()
    for number in range(8):
        with connect(url) as connection:
            pids.add(connection.info.backend_pid)
            connection.execute("CREATE TEMPORARY TABLE seen (number integer)")
            for _ in range(number):
                connection.execute("INSERT INTO seen VALUES (%s)", (number,))
            assert connection.execute("SELECT FROM seen").rowcount == number
            prepared = connection.execute("SELECT FROM pg_prepared_statements").rowcount
    assert len(pids) == 1
    assert prepared


def test_one_that_is_not_autocommitting_is_so_again(url: str, kept: None) -> None:
    with connect(url) as connection:
        pid = connection.info.backend_pid
        connection.autocommit = False
    with connect(url) as connection:
        assert (connection.info.backend_pid, connection.autocommit) == (pid, True)


def test_one_that_was_handed_to_others_is_not_used_again(url: str, kept: None) -> None:
    with PostgresExpectedRows(url).taken("notes", None, ()) as rows:
        handed_out = rows.connection
        pid = handed_out.info.backend_pid
    assert handed_out.closed
    assert backend(url) != pid


def test_one_that_was_used_in_vain_is_thrown_away(url: str, kept: None) -> None:
    first = backend(url)
    with pytest.raises(psycopg.errors.DivisionByZero):
        asked(url, "SELECT 1 / 0")
    second = backend(url)
    assert second != first
    with pytest.raises(KeyError), connect(url):
        raise KeyError
    assert backend(url) not in {first, second}


def test_one_that_ended_while_it_was_idle_is_replaced(url: str, kept: None) -> None:
    first = backend(url)
    end(url, first)
    assert backend(url) != first


def test_one_that_ends_in_use_is_told_of_as_ever(url: str, kept: None) -> None:
    def ends() -> None:
        with connect(url) as connection:
            end(url, connection.info.backend_pid)
            connection.execute("SELECT 1")

    with pytest.raises(DatabaseError, match="terminating connection"):
        ends()
    assert asked(url, "SELECT 1 AS one") == [{"one": 1}]


def test_one_that_ends_after_its_work_was_done_is_no_failure(url: str, kept: None) -> None:
    with connect(url) as connection:
        [row] = connection.execute("SELECT 1 AS one")
        end(url, connection.info.backend_pid)
    assert row["one"] == 1
    assert asked(url, "SELECT 1 AS one") == [{"one": 1}]


def test_a_server_that_is_away_is_told_of_and_found_again(tmp_path: Path, kept: None) -> None:
    server = EmbeddedPostgres(tmp_path / "home", durable=False)
    try:
        url = server.start().writer
        backend(url)
        server.stop()
        with pytest.raises(DatabaseError, match="No database at"):
            backend(url)
        assert server.start().writer == url
        assert backend(url)
    finally:
        server.stop()


def test_threads_never_have_the_same_one_at_once(url: str, kept: None) -> None:
    together = threading.Barrier(6)

    def one() -> int:
        with connect(url) as connection:
            together.wait(30)
            return connection.info.backend_pid

    for _ in range(3):
        with ThreadPoolExecutor(6) as pool:
            pids = [each.result(60) for each in [pool.submit(one) for _ in range(6)]]
        assert len(set(pids)) == 6


def test_a_fork_leaves_its_parents_connections_alone(url: str, kept: None) -> None:
    first = backend(url)
    assert in_a_fork(lambda: backend(url) not in {0, first})
    assert backend(url) == first


def in_a_fork(true: Callable[[], bool]) -> bool:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if true() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
