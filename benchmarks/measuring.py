"""What a piece of work costs: CPU of this process and of the server, rows, memory."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

import psutil
import psycopg


@dataclass(frozen=True, slots=True)
class Clock:
    """Three times at one moment."""

    wall_s: float
    client_s: float
    server_s: float


@dataclass(slots=True)
class Cost:
    wall_s: float = 0.0
    client_s: float = 0.0
    """CPU of this process, its threads and its ended children."""
    server_s: float = 0.0
    """CPU of all processes of the server, those that ended meanwhile too."""
    wal_mb: float = 0.0
    rows: dict[str, int] = field(default_factory=dict)
    """Table to rows inserted, updated and deleted."""

    @property
    def cpu_s(self) -> float:
        return self.client_s + self.server_s

    def add(self, before: Clock, after: Clock) -> None:
        self.wall_s += after.wall_s - before.wall_s
        self.client_s += after.client_s - before.client_s
        self.server_s += after.server_s - before.server_s

    @property
    def rows_written(self) -> int:
        return sum(self.rows.values())


class Meter:
    """Looks at one database and its server, over a connection of its own."""

    def __init__(self, admin_url: str) -> None:
        self._connection = psycopg.connect(admin_url, autocommit=True)
        backend = psutil.Process(self._connection.info.backend_pid)
        self._postmaster = psutil.Process(backend.ppid())

    @contextmanager
    def measures(self) -> Iterator[Cost]:
        """The cost is complete when the block has ended, and its connections with it."""
        cost = Cost()
        rows, wal, before = self._rows(), self._wal_bytes(), self.clock()
        yield cost
        ended = time.perf_counter()
        self._wait_until_alone()
        cost.add(before, replace(self.clock(), wall_s=ended))
        cost.wal_mb = (self._wal_bytes() - wal) / 1e6
        written = {table: count - rows.get(table, 0) for table, count in self._rows().items()}
        cost.rows = {table: count for table, count in sorted(written.items()) if count}

    def clock(self) -> Clock:
        return Clock(time.perf_counter(), _client_s(), self._server_s())

    def close(self) -> None:
        self._connection.close()

    def _server_s(self) -> float:
        """A process that ends between two looks would be counted by neither: then look again."""
        ended = self._ended_s()
        while True:
            total, before = ended + self._living_s(), ended
            if (ended := self._ended_s()) == before:
                return total

    def _ended_s(self) -> float:
        """The time of a backend passes to the postmaster when it ends."""
        spent = self._postmaster.cpu_times()
        return spent.children_user + spent.children_system

    def _living_s(self) -> float:
        total = 0.0
        for process in (self._postmaster, *self._postmaster.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                spent = process.cpu_times()
                total += spent.user + spent.system
        return total

    def _rows(self) -> dict[str, int]:
        found = self._connection.execute(
            "SELECT relname, sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint"
            " FROM pg_stat_user_tables GROUP BY relname"
        )
        return dict(found.fetchall())

    def _wal_bytes(self) -> int:
        found = self._connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
        return int(found[0]) if found else 0

    def _wait_until_alone(self) -> None:
        """A backend hands in its counters when it ends, shortly after its client has left."""
        for _ in range(200):
            others = self._connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            ).fetchone()
            if others == (0,):
                return
            time.sleep(0.01)


def peak_mb() -> float:
    """The most memory that this process, or any of its ended children, has held."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(each).ru_maxrss for each in whose) / 1024


def _client_s() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime
