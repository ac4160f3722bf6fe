"""The embedded server, started and stopped, crashed and misled for real."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import parse_qs, urlsplit

import psutil
import psycopg
import pytest

from rag_assets.adapters.embedded_postgres import EmbeddedPostgres, WhenRoot, find_programs
from rag_assets.adapters.embedded_postgres.account import new_place
from rag_assets.adapters.embedded_postgres.processes import server_processes
from rag_assets.errors import ServerError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change to another user")
not_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")

STARTER = """
import sys
from pathlib import Path
from rag_assets.adapters.embedded_postgres import EmbeddedPostgres
print(EmbeddedPostgres(Path(sys.argv[1]), durable=False).start().owner)
"""

BUSY = "SELECT count(*) FROM (SELECT generate_series(1, 100000000000)) AS counted"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path / "home", durable=False)
    yield server
    server.stop()


@pytest.fixture
def short_folder() -> Iterator[Path]:
    folder = Path(mkdtemp(prefix="ra-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def test_every_role_gets_in_with_its_url_and_finds_pgvector(server: EmbeddedPostgres) -> None:
    urls = server.start()
    for role, url in asdict(urls).items():
        assert _value(url, "SELECT current_user") == f"rag_assets_{role}"
        assert _value(url, "SELECT '[1,2]'::vector <-> '[1,4]'") == 2.0
    assert _value(urls.owner, "SELECT current_database()") == "rag_assets"


def test_the_roles_can_do_nothing_beyond_their_work(server: EmbeddedPostgres) -> None:
    admin = _admin(server)
    powers = "rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls"
    with psycopg.connect(admin) as connection:
        found = connection.execute(
            f"SELECT {powers} FROM pg_roles WHERE rolname ~ '^rag_assets_(owner|writer|reader)$'"
        ).fetchall()
    assert found == [(False,) * 5] * 3
    for url in asdict(server.start()).values():
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(url.replace("@/rag_assets?", "@/postgres?"))


def test_only_the_owner_makes_tables(server: EmbeddedPostgres) -> None:
    urls = server.start()
    _do(urls.owner, "CREATE TABLE made (); DROP TABLE made")
    _do(urls.writer, "CREATE TEMPORARY TABLE passing ()")
    for url, statement in (
        (urls.writer, "CREATE TABLE made ()"),
        (urls.reader, "CREATE TABLE made ()"),
        (urls.reader, "CREATE TEMPORARY TABLE passing ()"),
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            _do(url, statement)


def test_the_urls_serve_other_clients_of_libpq(server: EmbeddedPostgres) -> None:
    psycopg2 = pytest.importorskip("psycopg2")
    sqlalchemy = pytest.importorskip("sqlalchemy")
    url = server.start().writer
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        assert cursor.fetchone() == ("rag_assets_writer",)
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg2:"))
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT 1")).scalar() == 1
    engine.dispose()


@pytest.mark.parametrize("role", ["rag_assets_admin", "rag_assets_owner", "rag_assets_reader"])
def test_nobody_gets_in_with_a_wrong_password_or_with_none(
    server: EmbeddedPostgres, role: str
) -> None:
    place = urlsplit(server.start().owner).query
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"postgresql://{role}:wrong@/rag_assets?{place}")
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(f"postgresql://{role}@/rag_assets?{place}")


def test_the_server_listens_on_no_port(server: EmbeddedPostgres) -> None:
    server.start()
    assert _value(_admin(server), "SHOW listen_addresses") == ""
    for process in server_processes(server.status().data_folder):
        assert not process.net_connections("inet")


def test_data_pages_are_checksummed_and_text_is_utf8_without_a_locale(
    server: EmbeddedPostgres,
) -> None:
    url = _admin(server)
    assert _value(url, "SHOW data_checksums") == "on"
    assert _value(url, "SHOW server_encoding") == "UTF8"
    assert _value(url, "SHOW timezone") == "UTC"
    assert _value(url, "SELECT lower('ÄÉΣ')") == "äéσ"
    assert _value(url, "SELECT datlocprovider FROM pg_database WHERE datname = 'rag_assets'") == "b"


def test_everything_in_the_home_folder_is_private(server: EmbeddedPostgres) -> None:
    server.start()
    paths = [server.home, *server.home.rglob("*")]
    assert len(paths) > 500
    assert [path for path in paths if stat.S_IMODE(path.lstat().st_mode) & 0o077] == []
    assert {path.lstat().st_uid for path in paths} == {os.geteuid()}


def test_no_password_is_in_the_log_or_left_in_a_file(server: EmbeddedPostgres) -> None:
    server.start()
    secrets = json.loads((server.home / "secrets.json").read_text())
    passwords = [secrets[role] for role in ("admin", "owner", "writer", "reader")]
    assert len(set(passwords)) == 4
    others = [path for path in server.home.iterdir() if path.is_file()]
    for path in others:
        if path.name != "secrets.json":
            assert not any(password in path.read_text() for password in passwords), path


def test_the_status_says_what_runs_and_how_big_it_is(server: EmbeddedPostgres) -> None:
    server.start()
    status = server.status()
    assert status.running
    assert status.pid is not None
    assert psutil.Process(status.pid).name() == "postgres"
    assert status.version is not None
    assert status.version.startswith("18.")
    assert status.vector_version is not None
    assert status.data_bytes > 10_000_000
    assert status.pid in status.pids
    assert "pgvector 0.8" in server.examine()


def test_starting_again_changes_nothing(server: EmbeddedPostgres) -> None:
    first, pid = server.start(), server.status().pid
    again = EmbeddedPostgres(server.home, durable=False)
    assert again.start() == first
    assert again.urls() == first
    assert again.status().pid == pid


def test_the_environment_of_other_servers_does_not_matter(
    own: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "1", "PGDATA": "/nowhere", "PGHOST": "/nowhere"}.items():
        monkeypatch.setenv(name, value)
    assert _value(own.start().owner, "SELECT 1") == 1


def test_the_memory_that_shared_memory_lacks_is_not_asked_of_it(server: EmbeddedPostgres) -> None:
    server.start()
    kind = _value(_admin(server), "SHOW dynamic_shared_memory_type")
    assert kind in {"posix", "mmap"}
    assert _value(_admin(server), "SHOW fsync") == "off"


# --- starting and stopping ---------------------------------------------------------------------


def test_data_outlives_a_stop_and_a_stop_leaves_nothing_running(own: EmbeddedPostgres) -> None:
    _do(own.start().owner, "CREATE TABLE kept AS SELECT 7 AS number")
    status = own.status()
    assert own.stop()
    assert status.socket_folder is not None
    assert not status.socket_folder.exists()
    assert server_processes(status.data_folder) == []
    assert own.urls() is None
    assert own.admin_url() is None
    assert not own.status().running
    with pytest.raises(ServerError, match="Run `rag-assets up`"):
        own.examine()
    assert not own.stop(), "a second stop finds nothing"
    assert _value(own.start().owner, "SELECT number FROM kept") == 7


def test_stopping_what_never_was_is_harmless(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "home")
    assert not server.stop()
    assert not server.status().running
    assert server.urls() is None
    assert not (tmp_path / "home").exists()


def test_two_starts_at_once_make_one_server(own: EmbeddedPostgres) -> None:
    starters = [_starter(own.home) for _ in range(3)]
    answers = {starter.communicate(timeout=60)[0].strip() for starter in starters}
    assert [starter.returncode for starter in starters] == [0, 0, 0]
    urls = own.urls()
    assert urls is not None
    assert answers == {urls.owner}
    data = own.status().data_folder
    assert len([each for each in server_processes(data) if _is_postmaster(each, data)]) == 1


def test_threads_of_one_process_may_start_it_at_once(own: EmbeddedPostgres) -> None:
    with ThreadPoolExecutor(3) as pool:
        urls = list(pool.map(lambda _: own.start(), range(3)))
    assert urls[0] == urls[1] == urls[2]


def test_a_socket_inside_the_home_folder_works_with_a_space_and_a_quote_in_the_path(
    short_folder: Path,
) -> None:
    server = EmbeddedPostgres(short_folder / 'it\'s "my" $HOME 100%' / "home", durable=False)
    urls = server.start()
    try:
        assert _value(urls.reader, "SELECT 1") == 1
        assert _socket_folder(urls.reader) == server.home / "socket"
    finally:
        server.stop()


def test_a_long_path_gets_a_private_socket_folder_elsewhere(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / ("very " * 40) / "home", durable=False)
    urls = server.start()
    try:
        folder = _socket_folder(urls.reader)
        assert stat.S_IMODE(folder.lstat().st_mode) == 0o700
        assert len(os.fsencode(folder)) < 90
        assert _value(urls.reader, "SELECT 1") == 1
    finally:
        server.stop()
    assert not folder.exists()


def test_a_link_in_place_of_the_recorded_socket_folder_is_not_followed(tmp_path: Path) -> None:
    home = tmp_path / ("deep" * 30)
    server = EmbeddedPostgres(home, durable=False)
    server.start()
    server.stop()
    trap = tmp_path / "trap"
    trap.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(trap)
    (home / "socket_folder").write_text(f"{tmp_path / 'link'}\n")
    try:
        assert _socket_folder(server.start().owner) not in {trap, tmp_path / "link"}
        assert list(trap.iterdir()) == []
    finally:
        server.stop()
    assert trap.exists()
    assert (tmp_path / "link").is_symlink()


def test_the_server_is_out_of_reach_of_the_terminal(server: EmbeddedPostgres) -> None:
    server.start()
    pid = server.status().pid
    assert pid is not None
    assert os.getsid(pid) != os.getsid(0)
    assert os.getpgid(pid) != os.getpgid(0)
    assert psutil.Process(pid).terminal() is None


# --- crashes -----------------------------------------------------------------------------------


def test_a_server_is_durable_and_recovers_after_a_kill_what_was_committed(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "home")
    try:
        _do(server.start().owner, "CREATE TABLE kept AS SELECT 7 AS number")
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            assert _value(_admin(server), f"SHOW {setting}") == "on"
        _kill_postmaster(server)
        assert server.urls() is None
        assert not server.status().running
        assert _value(server.start().owner, "SELECT number FROM kept") == 7
    finally:
        server.stop()


def test_a_busy_process_that_outlives_its_postmaster_is_ended_before_the_next_start(
    own: EmbeddedPostgres,
) -> None:
    urls = own.start()
    with psycopg.connect(urls.owner) as client, ThreadPoolExecutor(1) as pool:
        backend = client.info.backend_pid
        busy = pool.submit(client.execute, BUSY)
        assert _becomes(lambda: psutil.Process(backend).cpu_times().user > 0.1)
        _kill_postmaster(own)
        assert psutil.pid_exists(backend), "it is still counting"
        assert _value(own.start().owner, "SELECT 1") == 1
        assert not _lives(backend)
        with pytest.raises(psycopg.OperationalError):
            busy.result(timeout=10)


def test_a_stale_pid_file_that_names_another_process_leaves_that_process_alone(
    own: EmbeddedPostgres,
) -> None:
    own.start()
    data = own.status().data_folder
    recorded = (data / "postmaster.pid").read_text()
    _kill_postmaster(own)
    assert _becomes(lambda: not server_processes(data))
    with _unrelated_process() as unrelated:
        (data / "postmaster.pid").write_text(re.sub(r"\A\d+", str(unrelated.pid), recorded))
        assert own.urls() is None
        assert not own.stop()
        (data / "postmaster.pid").write_text(re.sub(r"\A\d+", str(unrelated.pid), recorded))
        assert _value(own.start().owner, "SELECT 1") == 1
        assert own.status().pid != unrelated.pid
        assert own.stop()
        assert unrelated.poll() is None


def test_another_server_of_the_same_user_is_left_alone(
    server: EmbeddedPostgres, own: EmbeddedPostgres
) -> None:
    server.start()
    own.start()
    _kill_postmaster(own)
    shutil.copy(server.status().data_folder / "postmaster.pid", own.home / "postgres")
    assert _value(own.start().owner, "SELECT 1") == 1
    own.stop()
    assert server.urls() is not None


@pytest.mark.parametrize("delay_s", [0.5, 0.9])
def test_a_first_start_killed_in_the_middle_is_completed_by_the_next(
    own: EmbeddedPostgres, delay_s: float
) -> None:
    starter = _starter(own.home)
    time.sleep(delay_s)
    starter.kill()
    starter.communicate()
    assert _value(own.start().reader, "SELECT '[1]'::vector::text") == "[1]"
    assert list(own.home.glob("postgres.new-*")) == []


def test_a_set_up_that_stopped_half_way_is_completed(own: EmbeddedPostgres) -> None:
    own.start()
    admin = own.admin_url(database="postgres")
    assert admin is not None
    _do(admin, "DROP DATABASE rag_assets")
    assert own.status().vector_version is None
    _do(admin, "DROP ROLE rag_assets_writer")
    _do(admin, "ALTER ROLE rag_assets_reader SUPERUSER PASSWORD 'other'")
    urls = own.start()
    assert _value(urls.writer, "SELECT 1") == 1
    assert (
        _value(urls.reader, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    )


def test_identifier_is_recorded_again_when_only_the_record_was_lost(own: EmbeddedPostgres) -> None:
    own.start()
    own.stop()
    secrets = own.home / "secrets.json"
    found = json.loads(secrets.read_text())
    secrets.write_text(json.dumps(found | {"system_identifier": ""}))
    assert own.urls() is None
    own.start()
    assert json.loads(secrets.read_text()) == found


# --- what cannot work says so ------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "{", "[]", '{"admin": 1}', "\x00\xff"])
def test_a_corrupt_file_of_passwords_is_one_clear_error(own: EmbeddedPostgres, text: str) -> None:
    own.home.mkdir(mode=0o700)
    (own.home / "secrets.json").write_text(text)
    for use in (own.start, own.urls, own.status):
        with pytest.raises(ServerError, match=r"secrets\.json is not what rag-assets wrote"):
            use()


def test_passwords_and_data_that_do_not_belong_together_are_refused(
    own: EmbeddedPostgres, server: EmbeddedPostgres
) -> None:
    own.start()
    secrets = own.home / "secrets.json"
    right = secrets.read_text()
    shutil.copy(server.home / "secrets.json", secrets)
    with pytest.raises(ServerError, match="do not belong together"):
        own.start()
    secrets.unlink()
    with pytest.raises(ServerError, match=r"secrets\.json is gone"):
        own.start()
    secrets.write_text(right)
    own.stop()
    shutil.rmtree(own.home / "postgres")
    with pytest.raises(ServerError, match="data folder is gone"):
        own.start()
    assert own.home.exists()


def test_data_of_another_version_is_refused(own: EmbeddedPostgres) -> None:
    own.start()
    own.stop()
    (own.home / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(ServerError, match="is that of PostgreSQL 17"):
        own.start()


def test_a_server_that_does_not_start_shows_the_end_of_its_log(own: EmbeddedPostgres) -> None:
    own.start()
    own.stop()
    (own.home / "postgres" / "postgresql.auto.conf").write_text("max_connections = many\n")
    with pytest.raises(
        ServerError, match='invalid value for parameter "max_connections"'
    ) as caught:
        own.start()
    assert str(own.log) in str(caught.value)


def test_a_folder_that_others_may_enter_is_not_used_when_it_holds_their_files(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    (home / "thesis.txt").write_text("mine")
    with pytest.raises(ServerError, match="holds files that are not ours"):
        EmbeddedPostgres(home).start()
    assert stat.S_IMODE(home.stat().st_mode) == 0o755


def test_a_home_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(ServerError, match="The home folder cannot be written"):
        EmbeddedPostgres(tmp_path / "home").start()


@not_root
def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ServerError, match=r"You may not use it.*RAG_ASSETS_HOME"):
            EmbeddedPostgres(tmp_path / "home").start()
    finally:
        tmp_path.chmod(0o700)


@as_root
def test_a_home_of_another_user_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    os.chown(home, 12345, 12345)
    with pytest.raises(ServerError, match="belongs to another user"):
        EmbeddedPostgres(home).start()


@as_root
@pytest.mark.parametrize(
    ("options", "reason"), [("size=1m", "disk is full"), ("ro,size=1m", "disk is read-only")]
)
def test_a_full_or_read_only_disk_is_one_clear_error(
    short_folder: Path, options: str, reason: str
) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", short_folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        server = EmbeddedPostgres(short_folder / "home", durable=False)
        with pytest.raises(ServerError, match=reason):
            server.start()
        assert list(server.home.glob("postgres*/")) == []
    finally:
        subprocess.run(["umount", short_folder], check=True)


# --- root --------------------------------------------------------------------------------------


@as_root
def test_root_changes_nothing_outside_its_folder(tmp_path: Path) -> None:
    watched = [Path("/etc/passwd"), Path("/etc/group"), Path("/etc/subuid"), *tmp_path.parents]
    before = _appearance([tmp_path, *watched])
    server = EmbeddedPostgres(tmp_path / "home", durable=False, when_root=WhenRoot.NAMESPACE)
    server.start()
    pid = server.status().pid
    server.stop()
    assert pid is not None
    assert _appearance([tmp_path, *watched]) == before
    assert {path.lstat().st_uid for path in server.home.rglob("*")} == {0}


@as_root
def test_root_below_a_private_folder_of_another_user_takes_the_other_user_too(
    tmp_path: Path,
) -> None:
    """Inside a namespace root has no more rights there than anybody."""
    home = tmp_path / "theirs" / "home"
    home.mkdir(parents=True, mode=0o700)
    os.chown(home.parent, 12345, 12345)
    home.parent.chmod(0o700)
    place = new_place(
        home, find_programs(), when_root=WhenRoot.DETECT, elsewhere=tmp_path / "elsewhere"
    )
    assert place.account.uid
    assert place.folder.is_relative_to(tmp_path / "elsewhere")


@as_root
def test_without_namespaces_root_hands_the_server_to_another_user(
    tmp_path: Path, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_folder.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))  # no `unshare` there
    watched = [Path("/etc/passwd"), *tmp_path.parents, *_programs()]
    before = _appearance(watched)
    server = EmbeddedPostgres(tmp_path / "home", elsewhere=short_folder / "private")
    _do(server.start().owner, "CREATE TABLE kept AS SELECT 7 AS number")
    status = server.status()
    try:
        assert status.pid is not None
        assert psutil.Process(status.pid).uids().real != 0
        assert psutil.Process(status.pid).gids().real != 0
        assert status.data_folder.is_relative_to(short_folder / "private")
        assert stat.S_IMODE(status.data_folder.parent.stat().st_mode) & 0o007 == 0
        _kill_postmaster(server)
        monkeypatch.undo()  # what is there stays there, though a namespace would work now
        assert _value(server.start().owner, "SELECT number FROM kept") == 7
        assert server.status().data_folder == status.data_folder
    finally:
        server.stop()
    assert _appearance(watched) == before
    assert server_processes(status.data_folder) == []


# --- the words of the tests --------------------------------------------------------------------


def _value(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def _do(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def _admin(server: EmbeddedPostgres) -> str:
    url = server.admin_url()
    assert url is not None
    return url


def _socket_folder(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


def _starter(home: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", STARTER, str(home)], stdout=subprocess.PIPE, text=True
    )


def _kill_postmaster(server: EmbeddedPostgres) -> None:
    pid = server.status().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert _becomes(lambda: not _lives(pid))


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_postmaster(process: psutil.Process, data: Path) -> bool:
    parent = process.parent()
    return parent not in server_processes(data)


def _becomes(claim: object, timeout_s: float = 10.0) -> bool:
    assert callable(claim)
    end = time.monotonic() + timeout_s
    while not claim():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


class _unrelated_process:  # noqa: N801 # reads as a context
    def __enter__(self) -> "subprocess.Popen[bytes]":
        self._process = subprocess.Popen(["sleep", "300"])
        return self._process

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()


def _programs() -> list[Path]:
    return sorted(find_programs().bin.iterdir())


def _appearance(paths: list[Path]) -> dict[Path, tuple[int, int, int, bytes]]:
    """Mode, owner, group and content."""
    return {
        path: (
            path.stat().st_mode,
            path.stat().st_uid,
            path.stat().st_gid,
            path.read_bytes() if path.is_file() and path.stat().st_size < 100_000 else b"",
        )
        for path in paths
        if path.exists()
    }
