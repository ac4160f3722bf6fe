"""What tests of every folder share: one throw-away server a session, a fresh database a test."""

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from rag_assets.adapters.embedded_postgres import EmbeddedPostgres
from rag_assets.adapters.postgres import migrations
from rag_assets.model import Corpus, LocalFilesSettings
from rag_assets.settings import DatabaseUrls

if TYPE_CHECKING:  # moto costs as much as Dagster to import; most tests need none
    from rag_assets_tests.services.object_store import ObjectStore

TEMPLATE = "rag_assets"
EMPTY = "template_without_schema"
MEMORY = Path("/dev/shm")
ROOM_BYTES = 2 * 1024**3
"""More than the servers of all workers take; in containers it is often less."""
SLOWEST_FOLDERS = ["browser", "fault", "end_to_end", "integration"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest files begin, so that at the end no worker is left alone with one of them.

    They are those with a test that is given more time than others, then those of slow folders.
    """
    patience: dict[Path, float] = {}
    for item in items:
        given = item.get_closest_marker("timeout")
        patience[item.path] = max(patience.get(item.path, 0), given.args[0] if given else 0)
    items.sort(key=lambda item: (-patience[item.path], _place(item.path.parent.name)))


def _place(folder: str) -> int:
    return [*SLOWEST_FOLDERS, folder].index(folder)


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedPostgres]:
    """A real embedded server without durability, with a migrated database to copy."""
    with quick_folder("server-") as folder:
        server = EmbeddedPostgres(folder, durable=False)
        try:
            migrations.migrate(server.start())
            yield server
        finally:
            server.stop()


@contextmanager
def quick_folder(prefix: str) -> Iterator[Path]:
    """In memory where that has room, for a server: each fresh database is 400 files to copy."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM_BYTES
    with tempfile.TemporaryDirectory(prefix=prefix, dir=MEMORY if roomy else None) as name:
        yield Path(name)


@pytest.fixture
def database(new_database: Callable[[], DatabaseUrls]) -> DatabaseUrls:
    """URLs of a fresh database with the current schema."""
    return new_database()


@pytest.fixture
def new_database(server: EmbeddedPostgres) -> Iterator[Callable[[], DatabaseUrls]]:
    """Makes fresh databases, for tests that compare two."""
    with ExitStack() as stack:

        def makes(*, template: str = TEMPLATE) -> DatabaseUrls:
            return stack.enter_context(fresh_database(server, template=template))

        yield makes


@pytest.fixture(scope="session")
def empty_template(server: EmbeddedPostgres) -> str:
    """A database that has pgvector and nothing else."""
    with administering(server, "postgres") as connection:
        connection.execute(f"CREATE DATABASE {EMPTY} OWNER rag_assets_owner")
    with administering(server, EMPTY) as connection:
        connection.execute("CREATE EXTENSION vector")
    return EMPTY


@pytest.fixture
def empty(new_database: Callable[..., DatabaseUrls], empty_template: str) -> DatabaseUrls:
    """URLs of a fresh database without a schema."""
    return new_database(template=empty_template)


@pytest.fixture(scope="module")
def module_database(server: EmbeddedPostgres) -> Iterator[DatabaseUrls]:
    """A fresh database for tests that only read what their module has put there."""
    with fresh_database(server) as urls:
        yield urls


@contextmanager
def fresh_database(server: EmbeddedPostgres, *, template: str = TEMPLATE) -> Iterator[DatabaseUrls]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    owner = "rag_assets_owner"
    create: LiteralString = "CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy"
    _administer(server, create, name, template, owner)
    try:
        yield urls_in(server, name)
    finally:
        _administer(server, "DROP DATABASE {} WITH (FORCE)", name)


def urls_in(server: EmbeddedPostgres, name: str) -> DatabaseUrls:
    urls = server.urls()
    assert urls is not None
    return DatabaseUrls(*(in_database(url, name) for url in (urls.owner, urls.writer, urls.reader)))


def _administer(server: EmbeddedPostgres, statement: LiteralString, *names: str) -> None:
    with administering(server, "postgres") as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextmanager
def administering(
    server: EmbeddedPostgres, database: str
) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A superuser's connection to one of the databases."""
    url = server.admin_url(database=database)
    assert url is not None
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def in_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty source folder."""
    made = tmp_path / "documents"
    made.mkdir()
    return made


@pytest.fixture
def corpus(folder: Path) -> Corpus:
    """A small corpus over `folder`."""
    return Corpus("notes", source=LocalFilesSettings(str(folder)), buckets=4)


@pytest.fixture
def corpus_with(corpus: Corpus) -> Callable[..., Corpus]:
    """The same corpus with other settings."""
    return lambda **changes: replace(corpus, **changes)


@pytest.fixture(scope="session")
def running_object_store() -> Iterator["ObjectStore"]:
    from rag_assets_tests.services.object_store import ObjectStore

    with ObjectStore() as store:
        yield store


@pytest.fixture
def object_store(
    running_object_store: "ObjectStore", monkeypatch: pytest.MonkeyPatch
) -> Iterator["ObjectStore"]:
    """An empty object store with queues, on the loopback; its credentials are in the environment."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    for name, value in running_object_store.environment.items():
        monkeypatch.setenv(name, value)
    running_object_store.reset()
    yield running_object_store
    running_object_store.reset()
