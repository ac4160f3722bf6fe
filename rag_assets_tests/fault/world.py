"""A throw-away server with two databases, and everything that can be done to it."""

import multiprocessing
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rag_assets.adapters.embedded_postgres import EmbeddedPostgres, find_programs
from rag_assets.adapters.embedded_postgres.account import existing_place
from rag_assets.adapters.embedded_postgres.server import ELSEWHERE
from rag_assets.adapters.postgres import migrations
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.conftest import administering, fresh_database, quick_folder
from rag_assets_tests.fault.attempt import Ground
from rag_assets_tests.fault.statements import Statements
from rag_assets_tests.integration.databases import name_of
from rag_assets_tests.services.embedding_service import EmbeddingService

_ROOM_BYTES = 64 * 1024
"""What a full disk has left: less than any run writes."""


@dataclass(slots=True)
class World:
    """Where trials take place. The second database never sees a fault."""

    folder: Path
    server: EmbeddedPostgres
    urls: DatabaseUrls
    fresh: DatabaseUrls
    service: EmbeddingService
    """One that never fails, for builds in the second database."""
    ballast: Path | None = None
    """Beside the data, where those lie on a disk small enough to be filled."""
    trials: int = 0
    ground: Ground = field(init=False)
    _restarting: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["__main__", "openai", "rag_assets_tests.fault.worker"])
        self.ground = Ground(
            folder=self.folder,
            server_url=self.urls.writer,
            context=context,
            statements=Statements(),
            crash=self.crash,
            terminate=self.terminate,
            fill=self.fill,
        )

    def crash(self) -> None:
        """As `pg_ctl stop -m immediate`; it is up again when this returns."""
        with self._restarting:
            place = existing_place(self.server.home, find_programs(), ELSEWHERE)
            assert place is not None
            stop = (place.programs.named("pg_ctl"), "stop", "--mode=immediate", "--pgdata")
            place.account.run((*stop, str(place.data)))
            self.server.start()

    def terminate(self, backend: int) -> None:
        with administering(self.server, "postgres") as administrator:
            administrator.execute("SELECT pg_terminate_backend(%s)", (backend,))

    def fill(self) -> None:
        assert self.ballast is not None
        free = shutil.disk_usage(self.ballast.parent).free
        with self.ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free - _ROOM_BYTES))

    def make_room(self) -> None:
        """Also a server that ended for want of it is up again."""
        if self.ballast is not None:
            self.ballast.unlink(missing_ok=True)
            self.server.start()

    def written(self) -> int:
        """Rises with every transaction that writes anything, anywhere in the server."""
        with administering(self.server, "postgres") as administrator:
            query = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
            row = administrator.execute(query).fetchone()
        assert row is not None
        return int(str(row[0]))

    @contextmanager
    def empty(self) -> Iterator[DatabaseUrls]:
        """A database that has pgvector and nothing else."""
        with fresh_database(self.server, template="template0") as urls:
            with administering(self.server, name_of(urls)) as administrator:
                administrator.execute("CREATE EXTENSION vector")
            yield urls


@contextmanager
def world(*, disk: Path | None = None) -> Iterator[World]:
    """On `disk`, a small one that is to be filled, or among temporary files."""
    with ExitStack() as stack:
        folder = stack.enter_context(quick_folder("fault-"))
        server = EmbeddedPostgres((disk or folder) / "server", durable=False)
        stack.callback(server.stop)
        migrations.migrate(server.start())
        _keep_what_is_committed(server)
        urls = stack.enter_context(fresh_database(server))
        fresh = stack.enter_context(fresh_database(server))
        ballast = disk / "ballast" if disk else None
        service = stack.enter_context(EmbeddingService())
        yield World(folder, server, urls, fresh, service, ballast)


def _keep_what_is_committed(server: EmbeddedPostgres) -> None:
    """A crash of the server, though not one of the machine, loses nothing of this."""
    with administering(server, "postgres") as administrator:
        administrator.execute("ALTER SYSTEM SET synchronous_commit = on")
        administrator.execute("SELECT pg_reload_conf()")
