"""A backup holds everything, comes back whole, and gives nothing away."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import psycopg
import pytest

from rag_assets.adapters.embedded_postgres import EmbeddedPostgres, find_programs
from rag_assets.adapters.postgres import backups, migrations
from rag_assets.errors import ConfigurationError, DatabaseError
from rag_assets.model import ChunkingSettings, Corpus, QuestionScore, Scores
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.conftest import in_database
from rag_assets_tests.integration.flow import RUN, Chain, rows, value

NewDatabase = Callable[[], DatabaseUrls]
PROGRAMS = find_programs().bin

ODD_NAMES = [
    "tab\tand\nline.md",
    "\\.",
    "SET transaction_timeout = 0;\n",
    "COPY rag_assets.schema_migrations (version) FROM stdin;\n99",
    "ü'\"$$.md",
]


@pytest.fixture
def chain(database: DatabaseUrls, corpus: Corpus) -> Chain:
    """Two generations, scores, tombstones, dead letters, odd names."""
    contents = {f"{n}.md": f"# Number {n}\n\nText {n}.\n".encode() for n in range(12)}
    contents |= dict.fromkeys(ODD_NAMES, b"Odd \\N \\. text\tand\r\nlines.")
    source = InMemorySource({**contents, "bad.md": bytes(40)})
    chain = Chain(database, corpus, source=source)
    chain.run()
    chain.publish()
    chain.with_settings(chunking=ChunkingSettings(max_chars=300, min_chars=100)).run()
    del source.contents["3.md"]
    chain.with_settings(acl=("everyone", "staff")).run()
    scores = Scores(1, "golden", (QuestionScore("q1", {"mrr": 0.5}),))
    chain.stores.evaluations.add(scores, content="c", run=RUN)
    return chain


@pytest.fixture
def file(chain: Chain, tmp_path: Path) -> Path:
    file = tmp_path / "a backup.dump"
    assert backups.back_up(chain.urls, file, programs=PROGRAMS) == file.stat().st_size > 1000
    return file


def restored(urls: DatabaseUrls, file: Path, *, replace: bool = False) -> None:
    backups.restore(urls, file, replace=replace, programs=PROGRAMS)


def everything(urls: DatabaseUrls) -> dict[str, object]:
    """Every row of every table, and every right and rule."""
    query = (
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'v')"
        " AND relnamespace = to_regnamespace('rag_assets') ORDER BY 1"
    )
    names = [row["relname"] for row in rows(urls.writer, query)]
    found: dict[str, object] = {
        name: sorted(str(row) for row in rows(urls.writer, f"SELECT * FROM {name}"))
        for name in names
        if not name.startswith("served_")
    }
    rules = {
        "rights": "SELECT relname, relacl::text, relrowsecurity, relforcerowsecurity, reloptions"
        " FROM pg_class WHERE relnamespace = to_regnamespace('rag_assets') ORDER BY 1",
        "functions": "SELECT proname, proacl::text, prosecdef, proconfig, prosrc FROM pg_proc"
        " WHERE pronamespace = to_regnamespace('rag_assets') ORDER BY 1",
        "policies": "SELECT * FROM pg_policies WHERE schemaname = 'rag_assets' ORDER BY 3, 4",
        "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'rag_assets' ORDER BY 1",
        "next generation": "SELECT last_value FROM generations_generation_seq",
    }
    return found | {name: rows(urls.writer, query) for name, query in rules.items()}


def test_a_backup_restored_elsewhere_is_equal(
    chain: Chain, file: Path, new_database: NewDatabase
) -> None:
    elsewhere = new_database()
    restored(elsewhere, file)
    assert everything(elsewhere) == everything(chain.urls)
    there = replace(chain, urls=elsewhere)
    assert there.published() == chain.published()
    assert there.find("text number 5") == chain.find("text number 5")
    assert len(there.find("odd text").hits) == len(chain.find("odd text").hits) == 16
    assert there.find("text", "nobody").hits == ()
    assert {each.doc_id for each in there.stores.documents.dead_letters("notes")} == {"bad.md"}


def test_work_goes_on_after_a_restore_without_embedding(
    chain: Chain, file: Path, new_database: NewDatabase
) -> None:
    elsewhere = new_database()
    restored(elsewhere, file)
    there = replace(chain, urls=elsewhere).with_settings(acl=("everyone", "staff"))
    outcome = there.run()
    assert (outcome.embedded, outcome.done("changed")) == (0, 0)
    finer = there.with_settings(chunking=ChunkingSettings(max_chars=250, min_chars=50))
    finer.run()
    finer.publish()
    assert finer.published().generation > 2


def test_a_restore_takes_back_what_came_after_the_backup(chain: Chain, file: Path) -> None:
    before = everything(chain.urls)
    chain.stores.corpora.remove("notes")
    Chain(chain.urls, replace(chain.corpus, name="other"), source=chain.source).run()
    restored(chain.urls, file, replace=True)
    assert everything(chain.urls) == before


def test_a_database_that_holds_corpora_is_not_replaced_unasked(chain: Chain, file: Path) -> None:
    before = everything(chain.urls)
    with pytest.raises(ConfigurationError, match=r"corpora notes, .*--replace"):
        restored(chain.urls, file)
    assert everything(chain.urls) == before


@pytest.fixture
def second_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path_factory.mktemp("second"), durable=False)
    try:
        yield server
    finally:
        server.stop()


def test_a_backup_comes_back_on_a_server_that_never_had_the_schema(
    chain: Chain, file: Path, second_server: EmbeddedPostgres
) -> None:
    """Another machine: not even the roles that the schema names are there."""
    urls = second_server.start()
    assert migrations.schema_version(urls.owner) == 0
    restored(urls, file)
    there = replace(chain, urls=urls)
    assert there.find("text number 5").hits == chain.find("text number 5").hits
    assert there.with_settings(acl=("everyone", "staff")).run().done("changed") == 0


def test_a_backup_comes_back_where_the_logins_have_other_names(
    chain: Chain, file: Path, second_server: EmbeddedPostgres
) -> None:
    """An external server, whose owner may make roles and nothing more."""
    second_server.start()
    admin = second_server.admin_url(database="postgres")
    assert admin is not None
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("CREATE ROLE ann LOGIN CREATEROLE PASSWORD 'a'")
        connection.execute("CREATE DATABASE other OWNER ann")
        for group in ("rag_assets_writer", "rag_assets_reader"):
            connection.execute(f"ALTER ROLE {group} RENAME TO {group}_of_another".encode())
    with psycopg.connect(in_database(admin, "other")) as connection:
        connection.execute("CREATE EXTENSION vector")
    place = in_database(admin, "other").partition("@")[2]
    urls = DatabaseUrls(
        f"postgresql://ann:a@{place}",
        f"postgresql://walt:b@{place}",
        f"postgresql://rita:c@{place}",
    )
    restored(urls, file)
    assert replace(chain, urls=urls).find("text").hits == chain.find("text").hits


# --- files that are not what they should be -----------------------------------------------------


def test_a_damaged_file_is_refused(chain: Chain, file: Path) -> None:
    """Every bit counts: pg_restore itself would take some of these and restore something else."""
    before, whole, random = everything(chain.urls), file.read_bytes(), Random(5)
    damaged = [whole[: len(whole) * part // 100] for part in (0, 1, 30, 60, 90, 99)]
    damaged += [whole[:-1], whole + b"\n", whole[:-70] + whole[-69:]]
    for place in (*random.sample(range(len(whole)), 20), 0, len(whole) - 1):
        damaged.append(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
    for content in damaged:
        file.write_bytes(content)
        with pytest.raises(ConfigurationError, match="no backup that can be read"):
            restored(chain.urls, file, replace=True)
    assert everything(chain.urls) == before
    file.write_bytes(whole)
    restored(chain.urls, file, replace=True)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "no backup"), (b"hello", "no backup"), (b"PGDMP" + bytes(200), "no backup")],
)
def test_another_file_is_refused(chain: Chain, tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "other"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=says):
        restored(chain.urls, file, replace=True)


def test_a_dump_of_something_else_is_refused(chain: Chain, tmp_path: Path) -> None:
    file = tmp_path / "other.dump"
    subprocess.run(
        [PROGRAMS / "pg_dump", "--format=custom", "--schema=public", f"--file={file}"],
        env={**os.environ, "PGDATABASE": "", **connection_environment(chain.urls.writer)},
        check=True,
        capture_output=True,
    )
    backups._seal(file)
    before = everything(chain.urls)
    with pytest.raises(ConfigurationError, match="no schema version"):
        restored(chain.urls, file, replace=True)
    assert everything(chain.urls) == before


def connection_environment(url: str) -> dict[str, str]:
    parts = psycopg.conninfo.conninfo_to_dict(url)
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
    return {names.get(name, "PGDATABASE"): str(text) for name, text in parts.items()}


def test_a_backup_of_a_newer_schema_is_refused(
    chain: Chain, file: Path, new_database: NewDatabase
) -> None:
    with psycopg.connect(chain.urls.owner) as connection:
        connection.execute("INSERT INTO rag_assets.schema_migrations VALUES (9999, 'later', 'c')")
    backups.back_up(chain.urls, file, programs=PROGRAMS)
    with pytest.raises(ConfigurationError, match="schema version 9999, this code knows"):
        restored(new_database(), file)


def test_a_restore_that_fails_in_the_middle_changes_nothing(
    chain: Chain, file: Path, server: EmbeddedPostgres
) -> None:
    """Everything has gone and most of it has come back when an index cannot be made."""
    before = everything(chain.urls)
    with psycopg.connect(chain.urls.owner) as connection:
        admin = server.admin_url(database=connection.info.dbname)
    assert admin is not None
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'the disk is full'; END $$"
        )
        connection.execute(
            "CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('CREATE INDEX')"
            " EXECUTE FUNCTION public.refuse()"
        )
        says = "could not be restored; the database is as it was: .*the disk is full"
        with pytest.raises(DatabaseError, match=says):
            restored(chain.urls, file, replace=True)
        assert everything(chain.urls) == before
        connection.execute("DROP EVENT TRIGGER refuse")
    restored(chain.urls, file, replace=True)


# --- secrets and half files ---------------------------------------------------------------------

TELLTALE = """#!{python}
import os, sys
with open({log!r}, "a") as log:
    print(sys.argv[0].rpartition("/")[2], *sys.argv[1:], sep="\\x1f", file=log)
os.execv({real!r} + sys.argv[0].rpartition("/")[2], sys.argv)
"""


@pytest.mark.parametrize("form", ["in the authority", "as a parameter"])
def test_no_password_is_among_the_arguments(
    chain: Chain, tmp_path: Path, new_database: NewDatabase, form: str
) -> None:
    """Arguments can be read by everybody on the machine."""
    log, programs = tmp_path / "log", tmp_path / "programs"
    programs.mkdir()
    for name in ("pg_dump", "pg_restore", "psql"):
        text = TELLTALE.format(python=sys.executable, log=str(log), real=f"{PROGRAMS}/")
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    urls, elsewhere = chain.urls, new_database()
    if form == "as a parameter":
        urls, elsewhere = as_parameters(urls), as_parameters(elsewhere)
    file = tmp_path / "backup.dump"
    backups.back_up(urls, file, programs=programs)
    backups.restore(elsewhere, file, replace=False, programs=programs)
    told = log.read_text()
    assert [line.partition("\x1f")[0] for line in told.splitlines()] == [
        "pg_dump",
        "pg_restore",
        "psql",
    ]
    for url in (chain.urls.owner, chain.urls.writer):
        assert str(psycopg.conninfo.conninfo_to_dict(url)["password"]) not in told


def as_parameters(urls: DatabaseUrls) -> DatabaseUrls:
    def one(url: str) -> str:
        parts = psycopg.conninfo.conninfo_to_dict(url)
        name = parts.pop("dbname")
        return f"postgresql:///{name}?" + "&".join(f"{key}={text}" for key, text in parts.items())

    return DatabaseUrls(one(urls.owner), one(urls.writer), one(urls.reader))


def test_a_backup_that_fails_leaves_no_file_and_keeps_the_earlier_one(
    chain: Chain, file: Path, tmp_path: Path
) -> None:
    before = file.read_bytes()
    with psycopg.connect(chain.urls.owner, autocommit=True) as connection:
        connection.execute("REVOKE SELECT ON rag_assets.chunks FROM rag_assets_writer")
        with pytest.raises(DatabaseError, match="could not be written to"):
            backups.back_up(chain.urls, file, programs=PROGRAMS)
    assert file.read_bytes() == before
    assert list(tmp_path.glob(".*")) == []


def test_a_folder_that_is_not_there_is_told(chain: Chain, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="make it first"):
        backups.back_up(chain.urls, tmp_path / "nowhere" / "file", programs=PROGRAMS)
    with pytest.raises(ConfigurationError, match="There is no backup file"):
        restored(chain.urls, tmp_path / "nothing")


def test_the_dump_holds_every_row_whoever_may_see_it(
    chain: Chain, file: Path, new_database: NewDatabase
) -> None:
    elsewhere = new_database()
    restored(elsewhere, file)
    query = "SELECT count(*) FROM index_1"
    assert value(elsewhere.writer, query) == value(chain.urls.writer, query) == 16
