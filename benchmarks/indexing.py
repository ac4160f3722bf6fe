"""What keeping an index right costs, beside the bare stages on the same server.

    python -m benchmarks.indexing [--sizes 1000 10000] [--rounds 1] [--folder FOLDER] [--dagster]

For each size: a cold build, a run without a change, one changed document (found by listing, and
known beforehand), and 1 % changed with 0.5 % deleted. CPU seconds and their ratios can be trusted
on a busy machine, wall time cannot. A folder that is given is copied; the original is only read.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from benchmarks.generated_corpus import write_corpus
from benchmarks.indexing_task import CORPUS, TEXT_FILES, Edit
from benchmarks.measuring import Meter, peak_mb
from rag_assets.adapters.embedded_postgres import EmbeddedPostgres
from rag_assets.adapters.local_files import LocalFiles
from rag_assets.adapters.postgres import migrations
from rag_assets.model import LocalFilesSettings
from rag_assets.settings import DatabaseUrls

DEFS = """\
type: rag_assets.components.Corpus
attributes:
  source:
    local_files:
      path: {path}
      include: {include}
"""
RESULTS = Path(__file__).with_name("results")
REPEATED = 10
"""Runs measured together where one is too short for the clock of the server's processes."""
MOST_MEMORY_MB = 400
LEAST_OF_BARE = 0.7
MOST_UNCHANGED_US = 20
MOST_GROWTH = 1.2
KNOWN = "one changed, known"
DAGSTER = "unchanged, with Dagster"


@dataclass(frozen=True, slots=True)
class Line:
    """One measured scenario, a run's worth of it."""

    documents: int
    scenario: str
    runs: int
    cpu_s: float
    client_s: float
    server_s: float
    wall_s: float
    peak_mb: float
    texts_embedded: float
    rows_written: float
    wal_mb: float
    rows: dict[str, int] = field(default_factory=dict)
    stages: dict[str, dict[str, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, scenario: str, report: dict[str, Any]) -> "Line":
        cost, runs = report["cost"], report["runs"]
        stages = {
            name: {each: spent[each] / runs for each in ("client_s", "server_s", "wall_s")}
            for name, spent in report["stages"].items()
        }
        return cls(
            documents=report["documents"],
            scenario=scenario,
            runs=runs,
            cpu_s=(cost["client_s"] + cost["server_s"]) / runs,
            client_s=cost["client_s"] / runs,
            server_s=cost["server_s"] / runs,
            wall_s=cost["wall_s"] / runs,
            peak_mb=report["peak_mb"],
            texts_embedded=report["texts_embedded"] / runs,
            rows_written=sum(cost["rows"].values()) / runs,
            wal_mb=cost["wal_mb"] / runs,
            rows=cost["rows"],
            stages=stages,
        )


@dataclass(frozen=True, slots=True)
class Database:
    admin_url: str
    urls: DatabaseUrls


class Laboratory:
    """A throw-away durable server, with a database a build and one for the bare stages."""

    def __init__(self, folder: Path) -> None:
        self._server = EmbeddedPostgres(folder / "server")
        self._template = urlsplit(self._server.start().owner).path[1:]
        migrations.migrate(self._urls(self._template))

    def stop(self) -> None:
        self._server.stop()

    @contextmanager
    def database(self, name: str, *, migrated: bool) -> Iterator[Database]:
        template = self._template if migrated else "template0"
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER rag_assets_owner")
        self._administer(create.format(sql.Identifier(name), sql.Identifier(template)))
        admin_url = self._admin_url(name)
        if not migrated:
            with psycopg.connect(admin_url) as connection:
                connection.execute("CREATE EXTENSION vector")
                connection.execute("GRANT CREATE ON SCHEMA public TO rag_assets_owner")
        try:
            yield Database(admin_url, self._urls(name))
        finally:
            self._administer(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _urls(self, name: str) -> DatabaseUrls:
        urls = self._server.urls()
        assert urls is not None
        return DatabaseUrls(
            *(_in_database(url, name) for url in (urls.owner, urls.writer, urls.reader))
        )

    def _admin_url(self, name: str) -> str:
        url = self._server.admin_url(database=name)
        assert url is not None
        return url

    def _administer(self, statement: sql.Composed) -> None:
        with psycopg.connect(self._admin_url("postgres"), autocommit=True) as connection:
            connection.execute(statement)


def _in_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def measure(task: str, database: Database, folder: Path, **more: Any) -> dict[str, Any]:
    """In a new process: what it holds of memory is its own."""
    urls = (database.urls.owner, database.urls.writer, database.urls.reader)
    given = {
        "work": task,
        "admin_url": database.admin_url,
        "urls": urls,
        "folder": str(folder),
        "edits": [],
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.indexing_task", json.dumps(given)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def scenarios(
    laboratory: Laboratory, folder: Path, *, rounds: int, dagster: bool
) -> Iterator[Line]:
    """Cold builds and bare stages take turns; what follows works on the last build."""
    for number in range(rounds):
        with laboratory.database(f"bare_{number}", migrated=False) as database:
            yield Line.of("bare stages", measure("bare", database, folder))
        with laboratory.database(f"build_{number}", migrated=True) as database:
            once = [asdict(Edit(0))]
            yield Line.of("cold build", measure("runs", database, folder, edits=once))
            if number == rounds - 1:
                yield from changes(database, folder)
                if dagster:
                    yield from with_dagster(database, folder)


def changes(database: Database, folder: Path) -> Iterator[Line]:
    source = LocalFiles(LocalFilesSettings(str(folder), include=TEXT_FILES))
    doc_ids = sorted(found.doc_id for found in source.objects())
    random.Random(1).shuffle(doc_ids)
    nothing = [asdict(Edit(number)) for number in range(REPEATED)]
    yield Line.of("unchanged", measure("runs", database, folder, edits=nothing))
    for hinted, scenario in ((True, KNOWN), (False, "one changed, listed")):
        edits = [asdict(Edit(n, [doc_ids[n + REPEATED * hinted]])) for n in range(REPEATED)]
        report = measure("runs", database, folder, edits=edits, hinted=hinted)
        yield Line.of(scenario, report)
    some = max(1, len(doc_ids) // 100)
    changed, deleted = doc_ids[-some:], doc_ids[-some - max(1, some // 2) : -some]
    edit = [asdict(Edit(REPEATED, changed, deleted))]
    yield Line.of("1 % changed, 0.5 % deleted", measure("runs", database, folder, edits=edit))


def with_dagster(database: Database, folder: Path) -> Iterator[Line]:
    """For information: an unchanged run as users start it, with its checks and its process."""
    with (
        tempfile.TemporaryDirectory(dir=folder.parent) as made,
        closing(Meter(database.admin_url)) as meter,
    ):
        environment, command = _materialize(Path(made), database.urls, folder)
        for _ in range(2):  # the first publishes
            with meter.measures() as cost:
                subprocess.run(command, env=environment, check=True, capture_output=True)
    report = {"documents": _count(folder), "runs": 1, "texts_embedded": 0, "stages": {}}
    yield Line.of(DAGSTER, report | {"cost": asdict(cost), "peak_mb": peak_mb()})


def _materialize(place: Path, urls: DatabaseUrls, folder: Path) -> tuple[dict[str, str], list[str]]:
    defs = place / "defs" / CORPUS
    defs.mkdir(parents=True)
    include = json.dumps(TEXT_FILES)
    defs.joinpath("defs.yaml").write_text(DEFS.format(path=folder, include=include))
    environment = os.environ | {
        "RAG_ASSETS_HOME": str(place / "home"),
        "RAG_ASSETS_DEFS": str(defs.parent),
        "RAG_ASSETS_DATABASE_URL": urls.owner,
        "RAG_ASSETS_WRITER_URL": urls.writer,
        "RAG_ASSETS_READER_URL": urls.reader,
    }
    return environment, [sys.executable, "-m", "rag_assets.cli", "materialize", CORPUS]


def _count(folder: Path) -> int:
    return len(list(LocalFiles(LocalFilesSettings(str(folder), include=TEXT_FILES)).objects()))


# --- what is told -------------------------------------------------------------------------------

COLUMNS = (
    ("documents", "documents", "{:,}"),
    ("runs", "runs", "{}"),
    ("CPU s", "cpu_s", "{:.3f}"),
    ("client", "client_s", "{:.3f}"),
    ("server", "server_s", "{:.3f}"),
    ("wall s", "wall_s", "{:.3f}"),
    ("peak MB", "peak_mb", "{:.0f}"),
    ("embedded", "texts_embedded", "{:,.0f}"),
    ("rows", "rows_written", "{:,.0f}"),
    ("WAL MB", "wal_mb", "{:.1f}"),
)


def print_heading() -> None:
    print(f"{'a run of':28}", *(f"{title:>9}" for title, _, _ in COLUMNS))


def print_line(line: Line) -> None:
    cells = (shape.format(getattr(line, name)) for _, name, shape in COLUMNS)
    print(f"{line.scenario:28}", *(f"{cell:>9}" for cell in cells), flush=True)


def print_stages(line: Line) -> None:
    print(f"\n{line.scenario}, {line.documents:,} documents, by stage")
    for name, spent in line.stages.items():
        print(
            f"  {name:26} client {spent['client_s']:8.3f}  server {spent['server_s']:8.3f}"
            f"  wall {spent['wall_s']:8.3f}"
        )


@dataclass(frozen=True, slots=True)
class Ratio:
    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def kept(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        side = "at least" if self.at_least else "at most"
        verdict = "kept" if self.kept else "NOT KEPT"
        return f"{self.name:52} {self.value:9.2f}  {side} {self.limit:<6g} {verdict}"


def ratios(lines: Sequence[Line]) -> Iterator[Ratio]:
    """The best of the rounds counts: other processes of the machine can only add."""
    best: dict[tuple[str, int], float] = {}
    sizes: list[int] = []
    for line in lines:
        if line.scenario == "bare stages" and line.documents not in sizes:
            sizes.append(line.documents)
        key = line.scenario, sizes[-1]
        best[key] = min(line.cpu_s, best.get(key, line.cpu_s))
    large = max(sizes)  # in a small one, what is paid once a run weighs more
    share = best["bare stages", large] / best["cold build", large]
    yield Ratio(f"bare CPU / cold build's CPU, {large:,} documents", share, LEAST_OF_BARE, True)
    if len(sizes) > 1:
        yield from _growth(best, min(sizes), max(sizes))
    unchanged = [line.rows_written for line in lines if line.scenario == "unchanged"]
    yield Ratio("rows written by an unchanged run", max(unchanged), 0)
    product = [line.peak_mb for line in lines if line.scenario not in {"bare stages", DAGSTER}]
    yield Ratio("peak memory of a client process, MB", max(product), MOST_MEMORY_MB)


def _growth(best: Mapping[tuple[str, int], float], low: int, high: int) -> Iterator[Ratio]:
    more = best["unchanged", high] - best["unchanged", low]
    a_document = more / (high - low) * 1e6
    yield Ratio("unchanged run, CPU µs a further document", a_document, MOST_UNCHANGED_US)
    grown = best[KNOWN, high] / best[KNOWN, low]
    yield Ratio(f"{KNOWN}, {high:,} / {low:,} documents", grown, MOST_GROWTH)


def main() -> int:
    given = arguments()
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="rag_assets_bench_") as made:
        laboratory = Laboratory(Path(made))
        try:
            print_heading()
            for folder in folders(Path(made) / "documents", given):
                for line in scenarios(
                    laboratory, folder, rounds=given.rounds, dagster=given.dagster
                ):
                    print_line(line)
                    lines.append(line)
        finally:
            laboratory.stop()
    for line in lines:
        if line.scenario in {"bare stages", "cold build"}:
            print_stages(line)
    print()
    told = list(ratios(lines))
    print(*told, sep="\n")
    write_json(given.json, lines, told)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=1, help="cold builds and bare stages a size")
    parser.add_argument("--folder", type=Path, help="text files to measure instead")
    parser.add_argument("--dagster", action="store_true", help="also a run as users start it")
    parser.add_argument("--json", type=Path, default=RESULTS / "indexing.json")
    return parser.parse_args()


def folders(place: Path, given: argparse.Namespace) -> Iterator[Path]:
    """One after the other, so that only one is on the disk."""
    if given.folder:
        yield Path(shutil.copytree(given.folder, place))
        return
    for size in given.sizes:
        write_corpus(place, size)
        yield place
        shutil.rmtree(place)


def write_json(file: Path, lines: Sequence[Line], told: Sequence[Ratio]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "lines": [asdict(line) for line in lines],
        "ratios": [asdict(each) | {"kept": each.kept} for each in told],
    }
    file.write_text(json.dumps(content, indent=2), encoding="utf-8")
    print(f"\nAll of it: {file}")


if __name__ == "__main__":
    sys.exit(main())
