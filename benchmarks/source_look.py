"""What one look of the source sensor costs: CPU of its thread, and the size of its cursor.

    python -m benchmarks.source_look [documents]

Over a folder and over a bucket of an object store on the loopback, each with 10,000 documents in
100 buckets, against a database of its own. The first look asks for everything, the others for
nothing. What the server of the store spends is not counted.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from rag_assets.adapters.embedded_postgres import EmbeddedPostgres
from rag_assets.adapters.postgres import migrations
from rag_assets.components.corpus import corpus_definitions
from rag_assets.model import Corpus, LocalFilesSettings, SourceSettings
from rag_assets.resources import Platform
from rag_assets_tests.services.object_store import ObjectStore

BUCKETS = 100
LOOKS = 5
MOST_CPU_S = 2.0
MOST_CURSOR = 1024


@dataclass(frozen=True, slots=True)
class Cost:
    source: str
    first_s: float
    best_s: float
    """Of the later looks: other processes of the machine can only add."""
    cursor: int


@contextmanager
def database(folder: Path) -> Iterator[None]:
    server = EmbeddedPostgres(folder, durable=False)
    try:
        urls = server.start()
        migrations.migrate(urls)
        os.environ |= {
            "RAG_ASSETS_DATABASE_URL": urls.owner,
            "RAG_ASSETS_WRITER_URL": urls.writer,
            "RAG_ASSETS_READER_URL": urls.reader,
        }
        yield
    finally:
        server.stop()


def cost(name: str, source: SourceSettings) -> Cost:
    corpus = Corpus("looked_at", source=source, buckets=BUCKETS)
    repository = corpus_definitions(corpus).get_repository_def()
    sensor = repository.get_sensor_def("looked_at_source")
    spent, cursor = list[float](), None
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(1 + LOOKS):
            with dg.build_sensor_context(
                instance=instance,
                cursor=cursor,
                repository_def=repository,
                resources={"platform": Platform()},
            ) as context:
                before = time.thread_time()
                cursor = sensor.evaluate_tick(context).cursor
                spent.append(time.thread_time() - before)
    return Cost(name, spent[0], min(spent[1:]), len(cursor or ""))


def fill(store: ObjectStore, bucket: str, documents: int) -> None:
    """Beside HTTP, which would take a minute."""
    from moto.s3.models import s3_backends

    store.make_bucket(bucket)
    backend = s3_backends["123456789012"]["aws"]
    for number in range(documents):
        backend.put_object(bucket, f"pages/{number % 50}/{number}.md", b"text")


def main() -> int:
    documents = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as made, database(Path(made, "home")):
        folder = Path(made, "documents")
        folder.mkdir()
        for number in range(documents):
            (folder / f"{number}.md").touch()
        costs = [cost("a folder", LocalFilesSettings(str(folder)))]
        with ObjectStore() as store:
            os.environ |= store.environment
            fill(store, "documents", documents)
            costs.append(cost("a bucket over HTTP", store.settings("documents")))
    print(f"{documents:,} documents       first look   later looks   cursor")
    for each in costs:
        spent = f"{each.first_s:5.2f} CPU s   {each.best_s:5.2f} CPU s"
        print(f"{each.source:22} {spent}   {each.cursor} B")
    print(f"At most {MOST_CPU_S:.0f} CPU s, and {MOST_CURSOR} B.")
    good = all(each.first_s <= MOST_CPU_S and each.cursor <= MOST_CURSOR for each in costs)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
