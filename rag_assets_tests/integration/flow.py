"""The whole chain of a corpus without Dagster, and all that its index holds, for comparing."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from rag_assets import wiring
from rag_assets.adapters.postgres.index import Merged
from rag_assets.errors import EmbeddingError
from rag_assets.indexing.chunking import MarkdownChunker, cut
from rag_assets.indexing.embedding import embed
from rag_assets.indexing.observing import BucketObserved, observe
from rag_assets.indexing.parsing import DocumentParser, parser_of
from rag_assets.indexing.quality import judgings, judgings_of_parsers
from rag_assets.indexing.requesting import PatientEmbedder
from rag_assets.model import (
    Corpus,
    Found,
    Generation,
    Judging,
    PublishedIndex,
    QualityStage,
    Recipe,
    RunIdentity,
)
from rag_assets.ports import EmbeddingProvider, Parser, Source, Vectors
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import HashEmbedder, InProcessParsing, LocalProvider, StoppedClock

RUN = RunIdentity("run-1", "code-1")


@dataclass(slots=True)
class CountingEmbedder:
    """Remembers every text it was given, and has a vector for a text without any word."""

    paid: list[str] = field(default_factory=list)
    words: HashEmbedder = field(default_factory=HashEmbedder)
    before: Callable[[], None] = lambda: None
    """What happens while the model is asked."""

    @property
    def identity(self) -> str:
        return self.words.identity

    @property
    def dimensions(self) -> int:
        return self.words.dimensions

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        self.before()
        self.paid += texts
        return np.array([self._vector(text) for text in texts]).reshape(len(texts), self.dimensions)

    def embed_question(self, text: str) -> Vectors:
        return self._vector(text)

    def _vector(self, text: str) -> Vectors:
        try:
            return self.words.embed_question(text)
        except EmbeddingError:
            first = np.zeros(self.dimensions, np.float32)
            first[0] = 1
            return first


@dataclass(frozen=True, slots=True)
class Outcome:
    observed: dict[int, BucketObserved]
    chunks: int
    embedded: int
    merged: list[Merged]

    def seen(self, name: str) -> int:
        return sum(getattr(bucket, name) for bucket in self.observed.values())

    def done(self, name: str) -> int:
        return sum(getattr(merged, name) for merged in self.merged)


@dataclass(frozen=True, slots=True)
class Chain:
    """A corpus with its database: each method is what one asset does."""

    urls: DatabaseUrls
    corpus: Corpus
    embedder: CountingEmbedder = field(default_factory=CountingEmbedder)
    source: Source | None = None
    parser: Parser | None = None
    run_identity: RunIdentity = RUN

    @property
    def stores(self) -> wiring.Stores:
        return wiring.stores(self.urls)

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            parser=(self.parser or DocumentParser(self.corpus.parser)).identity,
            chunker=MarkdownChunker(self.corpus.chunking).identity,
            embedder=self.embedder.identity,
            dimensions=self.embedder.dimensions,
            index=self.corpus.index,
        )

    @property
    def living(self) -> list[Generation]:
        return self.stores.generations.living(self.corpus.name)

    @property
    def newest(self) -> Generation:
        return self.living[-1]

    def with_settings(self, **changes: Any) -> "Chain":
        return replace(self, corpus=replace(self.corpus, **changes))

    def run(self, buckets: Sequence[int] | None = None, *, hinted: bool = False) -> Outcome:
        """From the source to every living generation, as a run over these buckets does it."""
        observed = self.observe(buckets, hinted=hinted)
        self.open()
        return Outcome(observed, self.cut(buckets), self.embed(buckets), self.merge(buckets))

    def observe(
        self, buckets: Sequence[int] | None = None, *, wait: bool = True, hinted: bool = False
    ) -> dict[int, BucketObserved]:
        names = wiring.parsers_of(self.corpus, self.living)
        parsers = [self.parser] if self.parser else [parser_of(name) for name in names]
        identities = [parser.identity for parser in parsers]
        found = observe(
            self.corpus,
            self._buckets(buckets),
            source=self.source or wiring.source_of(self.corpus),
            parsers=identities,
            parsing=InProcessParsing(parsers),
            store=self.stores.documents,
            run=self.run_identity,
            wait=wait,
            hinted=hinted,
        )
        self.judge(judgings_of_parsers(identities, self.corpus.quality), list(found))
        return found

    def open(self) -> Generation:
        return self.stores.generations.open(self.corpus.name, self.recipe)

    def judge(self, judgings: Sequence[Judging], buckets: Sequence[int] | None = None) -> int:
        return self.stores.quality.judge(
            self.corpus.name, judgings, self._buckets(buckets), self.run_identity
        )

    def judge_stage(self, stage: QualityStage, buckets: Sequence[int] | None = None) -> int:
        return sum(
            self.judge(judgings(generation.recipe, self.corpus.quality, [stage]), buckets)
            for generation in self.living
        )

    def cut(self, buckets: Sequence[int] | None = None) -> int:
        made = sum(
            cut(
                generation,
                self._buckets(buckets),
                chunker=wiring.chunker_of(generation, self.corpus),
                store=self.stores.chunks,
                letters=self.stores.documents,
                run=self.run_identity,
            )
            for generation in self.living
        )
        self.judge_stage(QualityStage.CHUNKS, buckets)
        return made

    def embed(self, buckets: Sequence[int] | None = None) -> int:
        made = sum(
            embed(
                generation,
                self._buckets(buckets),
                embedder=patient(LocalProvider(self.embedder)),
                store=self.stores.embeddings,
                letters=self.stores.documents,
                run=self.run_identity,
            ).texts
            for generation in self.living
        )
        self.judge_stage(QualityStage.EMBEDDINGS, buckets)
        return made

    def merge(self, buckets: Sequence[int] | None = None) -> list[Merged]:
        merged: list[Merged] = []
        for generation in self.living:
            self.judge(judgings(generation.recipe, self.corpus.quality), buckets)
            done = self.stores.index.merge(
                generation,
                self._buckets(buckets),
                self.run_identity,
                keep_last_good=self.corpus.on_poison == "keep_last_good",
            )
            self.stores.generations.finish(generation)
            merged += done.values()
        return merged

    def publish(self, generation: Generation | None = None) -> None:
        self.stores.generations.publish(
            generation or self.newest,
            retrieval=self.corpus.retrieval,
            run=self.run_identity,
            reason="a test",
        )

    def published(self) -> PublishedIndex:
        return wiring.search_index(self.urls).published(self.corpus.name)

    def find(self, question: str, *principals: str, generation: int | None = None) -> Found:
        row = self.published()
        return wiring.search_index(self.urls).find(
            replace(row, generation=generation or row.generation),
            question=question,
            vector=self.embedder.embed_question(question),
            principals=principals or ("everyone",),
        )

    def holds(self, generation: Generation | None = None) -> dict[str, list[dict[str, Any]]]:
        """All of a generation but who made it and when: equal for equal documents."""
        return held(self.urls, generation or self.newest)

    def _buckets(self, buckets: Sequence[int] | None) -> Sequence[int]:
        return range(self.corpus.buckets) if buckets is None else buckets


def patient(provider: EmbeddingProvider, **how: Any) -> PatientEmbedder:
    """Over any provider, without waiting."""
    return PatientEmbedder(provider, clock=StoppedClock(), chance=random.Random(7), **how)


def write(folder: Path, **texts: str) -> None:
    """Files by their name without the ending: `write(folder, roof="# The roof")`."""
    for name, text in texts.items():
        (folder / f"{name}.md").write_text(text)


def rows(url: str, query: str, **parameters: object) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row, autocommit=True) as connection:
        connection.execute("SET search_path = rag_assets, public")
        return connection.execute(sql.SQL(query), parameters or None).fetchall()


def value(url: str, query: str, **parameters: object) -> Any:
    [row] = rows(url, query, **parameters)
    [only] = row.values()
    return only


def held(urls: DatabaseUrls, generation: Generation) -> dict[str, list[dict[str, Any]]]:
    number, recipe = generation.number, generation.recipe
    which = {"corpus": generation.corpus, "parser": recipe.parser, "chunker": recipe.chunker}
    queries = {
        "documents": "SELECT doc_id, bucket, source_hash, content_hash, uri, title, acl, state"
        " FROM documents WHERE corpus = %(corpus)s AND state <> 'deleted' ORDER BY doc_id",
        "dead letters": "SELECT doc_id, bucket, stage, error, reason FROM dead_letters"
        " WHERE corpus = %(corpus)s ORDER BY doc_id",
        "current versions": "SELECT doc_id, content_hash, uri FROM document_versions"
        " WHERE corpus = %(corpus)s AND last_seen_at IS NULL ORDER BY doc_id",
        "served": "SELECT doc_id, bucket, content_hash, chunks, words, uri, title, acl, checksum"
        f" FROM indexed_documents WHERE generation = {number} ORDER BY doc_id",
        "rows": "SELECT i.doc_id, i.ord, i.bucket, i.acl, i.text_hash, i.words,"
        " i.embedding::text AS vector, c.text, c.start_char, c.end_char, c.heading_path, c.tokens,"
        " c.text_hash = i.text_hash AS of_one_text"
        f" FROM index_{number} i LEFT JOIN indexed_documents s"
        f" ON s.generation = {number} AND s.doc_id = i.doc_id"
        " LEFT JOIN chunks c ON c.content_hash = s.content_hash AND c.ord = i.ord"
        " AND c.parser = %(parser)s AND c.chunker = %(chunker)s ORDER BY 1, 2",
        "postings": f"SELECT * FROM postings_{number} ORDER BY stem, doc_id, ord",
        "manifests": "SELECT bucket, documents, chunks, words, checksum FROM index_buckets"
        f" WHERE generation = {number} AND (documents, checksum) <> (0, 0) ORDER BY bucket",
    }
    return {
        name: rows(urls.writer, query, **(which if "%(" in query else {}))
        for name, query in queries.items()
    }
