"""What each kind of index costs to build, to keep and to search, and how much it finds.

    python -m benchmarks.index_kinds [--rows 10000 50000] [--folder FOLDER] [--questions 200]

Vectors in clusters, always the same, and, with a folder, those of the passages of its documents.
Every kind holds the same rows in a generation of its own, and is asked the same questions in turns,
as a reader asks: with permissions, for a hundred candidates. What it finds of the ten nearest is
held against a look at all of them. Only figures of one run can be compared with each other.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import psycopg
from numpy.typing import NDArray
from pgvector import HalfVector
from pgvector.psycopg import register_vector

from benchmarks.measuring import Meter
from rag_assets import wiring
from rag_assets.adapters.embedded_postgres import EmbeddedPostgres
from rag_assets.adapters.postgres import migrations, queries
from rag_assets.adapters.postgres.search import NEAREST, how_far
from rag_assets.adapters.wordllama import WordLlamaEmbedder
from rag_assets.indexing.chunking import MarkdownChunker
from rag_assets.indexing.parsing import DocumentParser
from rag_assets.model import (
    ChunkingSettings,
    Corpus,
    Generation,
    IndexKind,
    IndexSettings,
    LocalFilesSettings,
    Recipe,
    RetrievalSettings,
    RunIdentity,
)
from rag_assets.ports import Vectors
from rag_assets.settings import DatabaseUrls

DIMENSIONS = 256
ROWS_A_CLUSTER = 50
SPREAD = 1.5
NEAREST_WANTED = 10
ROUNDS = 3
RUN = RunIdentity("a benchmark", "1")
FILL = """
    INSERT INTO rag_assets.index_{0} (doc_id, ord, bucket, acl, text_hash, words, embedding)
    SELECT number::text, 0, 0, '{{everyone}}', number::text::bytea, 1, embedding FROM vectors
    ORDER BY vectors.number;
    INSERT INTO rag_assets.index_buckets
        (generation, bucket, documents, chunks, words, checksum, run_id)
    SELECT {0}, 0, count(*), count(*), count(*), 0, '' FROM vectors
    ON CONFLICT (generation, bucket) DO UPDATE SET chunks = excluded.chunks
"""
SETTINGS: dict[IndexKind, tuple[RetrievalSettings, ...]] = {
    "exact": (RetrievalSettings(),),
    "hnsw": tuple(RetrievalSettings(ef_search=each) for each in (40, 100, 200)),
    "ivfflat": tuple(RetrievalSettings(probes=each) for each in (5, 10, 20)),
    "binary": tuple(RetrievalSettings(oversampling=each) for each in (1, 2, 4, 8)),
}
TURNED: dict[IndexKind, str] = {
    "hnsw": "ef_search",
    "ivfflat": "probes",
    "binary": "oversampling",
}


@dataclass(frozen=True, slots=True)
class Built:
    generation: Generation
    wall_s: float
    cpu_s: float
    size_mb: float

    @property
    def kind(self) -> IndexKind:
        return self.generation.recipe.index.kind


@dataclass(slots=True)
class Line:
    built: Built
    retrieval: RetrievalSettings
    recall: float = 0.0
    cpu_ms: float = float("inf")
    """A question, in the best round: other processes of the machine can only add."""

    @property
    def named(self) -> str:
        name = TURNED.get(self.built.kind)
        return f"{name} {getattr(self.retrieval, name)}" if name else ""


def clustered(rows: int, questions: int) -> tuple[Vectors, Vectors]:
    """Rows around centres, and questions that are like them without being one of them."""
    chance = np.random.default_rng(rows)
    centres = chance.normal(size=(max(rows // ROWS_A_CLUSTER, 1), DIMENSIONS))
    where = chance.integers(len(centres), size=rows + questions)
    drawn = centres[where] + SPREAD * chance.normal(size=(len(where), DIMENSIONS))
    return _halved(drawn[:rows]), _halved(drawn[rows:])


def embedded(folder: Path, questions: int) -> tuple[Vectors, Vectors]:
    """The passages of the documents of a folder; of each question's passage, half its words."""
    embedder, texts = WordLlamaEmbedder("l2_supercat_256"), list(_passages(folder))
    chance = np.random.default_rng(len(texts))
    asked = [texts[each] for each in chance.choice(len(texts), questions, replace=False)]
    halves = [" ".join(text.split()[::2]) for text in asked]
    return (
        _halved(embedder.embed_documents(texts)),
        _halved(np.array([embedder.embed_question(text) for text in halves])),
    )


def _passages(folder: Path) -> Iterator[str]:
    parser, chunker = DocumentParser("auto"), MarkdownChunker(ChunkingSettings())
    seen = set[str]()
    for file in sorted(each for each in folder.rglob("*.md") if each.is_file()):
        for chunk in chunker.split(parser.parse(file.read_bytes(), doc_id=file.name)):
            if chunk.text not in seen and any(each.isalpha() for each in chunk.text):
                seen.add(chunk.text)
                yield chunk.text


def _halved(vectors: NDArray[np.floating]) -> Vectors:
    """Of length one, as exact as the index keeps them."""
    normal = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    halved: Vectors = normal.astype(np.float16).astype(np.float32)
    return halved


class Bench:
    """One database with the same rows in an index of each kind."""

    def __init__(self, urls: DatabaseUrls, admin_url: str, vectors: Vectors) -> None:
        self._urls, self._admin_url = urls, admin_url
        self._stores, self._meter = wiring.stores(urls), Meter(admin_url)
        with psycopg.connect(admin_url) as admin:
            register_vector(admin)
            admin.execute(
                f"CREATE TEMP TABLE vectors (number integer, embedding halfvec({DIMENSIONS}))"
            )
            with admin.cursor().copy("COPY vectors FROM STDIN (FORMAT binary)") as copy:
                copy.set_types(["int4", "halfvec"])
                for number, vector in enumerate(vectors):
                    copy.write_row((number, HalfVector(vector)))
            self._filled = [self._fill(kind, admin) for kind in get_args(IndexKind)]

    def _fill(self, kind: IndexKind, admin: "psycopg.Connection[tuple[object, ...]]") -> Generation:
        corpus = Corpus(kind, LocalFilesSettings(""), buckets=1)
        with self._stores.documents.hold(corpus, [0], RUN) as held:
            held.record(0, documents=[], texts=[])
        recipe = Recipe("p", "c", "clusters", DIMENSIONS, IndexSettings(kind))
        generation = self._stores.generations.open(kind, recipe)
        admin.execute(FILL.format(generation.number).encode())
        return generation

    def close(self) -> None:
        self._meter.close()

    def build(self) -> list[Built]:
        return [self._built(generation) for generation in self._filled]

    def _built(self, generation: Generation) -> Built:
        before = self._meter.clock()
        self._stores.generations.finish(generation)
        after = self._meter.clock()
        with psycopg.connect(self._admin_url) as admin:
            size = admin.execute(
                "SELECT coalesce(pg_relation_size("
                f"to_regclass('rag_assets.index_{generation.number}_by_vector')), 0)".encode()
            ).fetchone()
        return Built(
            generation,
            after.wall_s - before.wall_s,
            after.server_s - before.server_s,
            (int(str(size[0])) if size else 0) / 1e6,
        )

    def ask(self, line: Line, questions: Vectors) -> list[list[int]]:
        """The candidates of every question, as a reader gets them."""
        built, found = line.built, list[list[int]]()
        number, texts = built.generation.number, queries.load("search")
        nearest = queries.of_generation(texts[NEAREST[built.kind]], number, dimensions=DIMENSIONS)
        which = {"candidates": line.retrieval.candidates, "principals": ["everyone"]}
        which |= how_far(built.kind, line.retrieval)
        with psycopg.connect(self._urls.reader) as reader:
            register_vector(reader)
            reader.execute("SET search_path = rag_assets, public")
            before = self._meter.clock()
            for question in questions:
                with reader.transaction():
                    reader.execute(texts["begin_request"], which)
                    rows = reader.execute(nearest, which | {"vector": HalfVector(question)})
                    found.append([int(str(row[0])) for row in rows])
            spent = self._meter.clock().server_s - before.server_s
        line.cpu_ms = min(line.cpu_ms, 1000 * spent / len(questions))
        return found


def measured(
    bench: Bench, vectors: Vectors, questions: Vectors, *, rounds: int = ROUNDS
) -> list[Line]:
    lines = [
        Line(built, retrieval) for built in bench.build() for retrieval in SETTINGS[built.kind]
    ]
    truth = exactly(vectors, questions)
    for _ in range(rounds):
        for line in lines:
            line.recall = recall(truth, bench.ask(line, questions))
    return lines


def exactly(vectors: Vectors, questions: Vectors) -> list[set[int]]:
    near = questions @ vectors.T
    return [set(map(int, np.argsort(-each)[:NEAREST_WANTED])) for each in near]


def recall(truth: Sequence[set[int]], found: Sequence[Sequence[int]]) -> float:
    """What of the ten nearest is among the candidates."""
    pairs = zip(truth, found, strict=True)
    return sum(len(nearest & set(got)) for nearest, got in pairs) / (NEAREST_WANTED * len(truth))


def report(name: str, lines: Sequence[Line]) -> None:
    exact = lines[0]
    print(f"\n{name}")
    print(f"{'':32}build CPU s   size MB   recall@10   CPU ms a question   of exact")
    for line in lines:
        built = line.built
        print(
            f"{built.kind:10}{line.named:22}{built.cpu_s:11.2f}{built.size_mb:10.1f}"
            f"{line.recall:12.3f}{line.cpu_ms:20.2f}{line.cpu_ms / exact.cpu_ms:10.0%}"
        )


def run(name: str, vectors: Vectors, questions: Vectors) -> None:
    with tempfile.TemporaryDirectory() as home:
        server = EmbeddedPostgres(Path(home), durable=False)
        try:
            urls = server.start()
            migrations.migrate(urls)
            admin_url = server.admin_url(database="rag_assets")
            assert admin_url is not None
            with closing(Bench(urls, admin_url, vectors)) as bench:
                report(name, measured(bench, vectors, questions))
        finally:
            server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 50_000])
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    for rows in asked.rows:
        run(f"{rows:,} vectors in clusters", *clustered(rows, asked.questions))
    if asked.folder:
        vectors, questions = embedded(asked.folder, asked.questions)
        run(f"{len(vectors):,} passages of {asked.folder.name}", vectors, questions)


if __name__ == "__main__":
    main()
