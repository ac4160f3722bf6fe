"""The limit: the same work on the same server without anything that makes it safe to interrupt.

Files are read, cut by the same splitter, embedded by the same model, and copied in binary into
tables without keys; then come the text analysis, the keys a search needs, and the graph. Nobody
notices a change, nothing is a transaction with its mark, nothing can be resumed, and no heading is
looked for: a system that does more than this must cost more.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import numpy as np
import psycopg
from pgvector import HalfVector, Vector
from pgvector.psycopg import register_vector
from semantic_text_splitter import MarkdownSplitter

from benchmarks.measuring import Cost, Meter
from rag_assets.adapters.wordllama import WordLlamaEmbedder
from rag_assets.indexing.batching import batches
from rag_assets.indexing.chunking import LONGEST_LINE, stretches
from rag_assets.model import ChunkingSettings, Corpus, LocalFilesSettings
from rag_assets.ports import Vectors

Connection: TypeAlias = "psycopg.Connection[tuple[object, ...]]"

BUILD_MEMORY = "256MB"
"""As the product has it by default."""
FILES_AT_ONCE = 500
CHUNKS_AT_ONCE = 512
TABLES = """
    CREATE TABLE texts (doc_id text NOT NULL, content_hash bytea NOT NULL, text text NOT NULL);
    CREATE TABLE chunks (doc_id text NOT NULL, ord integer NOT NULL, start_char integer NOT NULL,
                         end_char integer NOT NULL, text_hash bytea NOT NULL, text text NOT NULL);
    CREATE TABLE embeddings (text_hash bytea NOT NULL, embedding vector NOT NULL);
    CREATE TABLE index_rows (doc_id text NOT NULL, ord integer NOT NULL, acl text[] NOT NULL,
                             embedding halfvec({dimensions}) NOT NULL);
    CREATE TABLE postings (stem text NOT NULL, doc_id text NOT NULL, ord integer NOT NULL,
                           frequency smallint NOT NULL, words integer NOT NULL);
"""
ANALYSIS = """
    INSERT INTO postings
    SELECT w.lexeme, c.doc_id, c.ord, cardinality(w.positions),
           sum(cardinality(w.positions)) OVER (PARTITION BY c.doc_id, c.ord)
    FROM chunks c CROSS JOIN LATERAL unnest(to_tsvector('english', c.text)) w
    WHERE octet_length(w.lexeme) <= 500
"""
KEYS = """
    ALTER TABLE texts ADD PRIMARY KEY (doc_id);
    ALTER TABLE chunks ADD PRIMARY KEY (doc_id, ord);
    CREATE INDEX ON embeddings (text_hash);
    ALTER TABLE index_rows ADD PRIMARY KEY (doc_id, ord);
    ALTER TABLE postings ADD PRIMARY KEY (stem, doc_id, ord) INCLUDE (frequency, words);
    CREATE INDEX ON postings (doc_id, ord);
"""
GRAPH = """
    CREATE INDEX ON index_rows USING hnsw (embedding halfvec_cosine_ops)
    WITH (m = {m}, ef_construction = {ef_construction})
"""


@dataclass(frozen=True, slots=True)
class Passage:
    doc_id: str
    ord: int
    start: int
    text: str
    text_hash: bytes


@dataclass(slots=True)
class BareStages:
    """Streams files through the stages, some hundred at a time, and measures each stage."""

    url: str
    corpus: Corpus
    embedder: WordLlamaEmbedder
    meter: Meter
    costs: dict[str, Cost] = field(default_factory=dict)

    def run(self, doc_ids: Sequence[str]) -> int:
        """Returns how many passages the files gave."""
        passages = 0
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(TABLES.format(dimensions=self.embedder.dimensions).encode())
            register_vector(connection)
            for some in batches(doc_ids, FILES_AT_ONCE):
                passages += self._load(connection, some)
            self._execute("analyse", connection, ANALYSIS)
            connection.execute("SET max_parallel_maintenance_workers = 2")
            connection.execute(
                "SELECT set_config('maintenance_work_mem', %s, false)", [BUILD_MEMORY]
            )
            self._execute("keys", connection, KEYS)
            m, ef = self.corpus.index.m, self.corpus.index.ef_construction
            self._execute("graph", connection, GRAPH.format(m=m, ef_construction=ef))
        return passages

    def _load(self, connection: Connection, doc_ids: Sequence[str]) -> int:
        with self._stage("read"):
            texts = {doc_id: self._read(doc_id) for doc_id in doc_ids}
        with self._stage("split"):
            passages = [
                each for doc_id, text in texts.items() for each in self._split(doc_id, text)
            ]
        with self._stage("copy texts"):
            rows = (
                (doc_id, sha256(text.encode()).digest(), text) for doc_id, text in texts.items()
            )
            _copy(connection, "texts", ["text", "bytea", "text"], rows)
        with self._stage("copy chunks"):
            _copy(
                connection,
                "chunks",
                ["text", "int4", "int4", "int4", "bytea", "text"],
                (
                    (
                        each.doc_id,
                        each.ord,
                        each.start,
                        each.start + len(each.text),
                        each.text_hash,
                        each.text,
                    )
                    for each in passages
                ),
            )
        for some in batches(passages, CHUNKS_AT_ONCE):
            with self._stage("embed"):
                vectors = self.embedder.sentence_vectors([each.text for each in some])
            self._vectors(connection, some, vectors)
        return len(passages)

    def _vectors(self, connection: Connection, some: Sequence[Passage], vectors: Vectors) -> None:
        with self._stage("copy embeddings"):
            _copy(
                connection,
                "embeddings",
                ["bytea", "vector"],
                ((each.text_hash, Vector(row)) for each, row in zip(some, vectors, strict=True)),
            )
        with self._stage("copy index rows"):
            _copy(
                connection,
                "index_rows",
                ["text", "int4", "text[]", "halfvec"],
                (
                    (each.doc_id, each.ord, ["everyone"], HalfVector(row))
                    for each, row in zip(some, vectors.astype(np.float16), strict=True)
                ),
            )

    def _read(self, doc_id: str) -> str:
        assert isinstance(self.corpus.source, LocalFilesSettings)
        content = (Path(self.corpus.source.path) / doc_id).read_bytes()
        return content.decode("utf-8", "replace").replace("\0", "").replace("\r\n", "\n")

    def _split(self, doc_id: str, text: str) -> Iterator[Passage]:
        splitter = _splitter(self.corpus.chunking)
        found = (
            (begin + start, passage)
            for begin, end in stretches(text, LONGEST_LINE)
            for start, passage in splitter.chunk_indices(text[begin:end])
            if passage.strip()
        )
        for number, (start, passage) in enumerate(found):
            digest = sha256(passage.encode()).digest()
            yield Passage(doc_id, number, start, passage, digest)

    def _execute(self, stage: str, connection: Connection, statement: str) -> None:
        with self._stage(stage):
            connection.execute(statement.encode())

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        before = self.meter.clock()
        yield
        self.costs.setdefault(name, Cost()).add(before, self.meter.clock())


@cache
def _splitter(sizes: ChunkingSettings) -> MarkdownSplitter:
    return MarkdownSplitter((sizes.min_chars, sizes.max_chars))


def _copy(
    connection: Connection, table: str, types: Sequence[str], rows: Iterable[tuple[object, ...]]
) -> None:
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)".encode()) as copy,
    ):
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)
