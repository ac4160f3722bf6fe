"""What runs in the process that is killed: one run over buckets of a corpus, as assets do it."""

import json
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http.client import HTTPException
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from rag_assets.adapters.postgres import migrations
from rag_assets.errors import EmbeddingError, RagAssetsError
from rag_assets.indexing import embedding
from rag_assets.model import Corpus, RunIdentity
from rag_assets.ports import Vectors
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.fault.mutants import MUTANTS
from rag_assets_tests.fault.source import WatchedSource
from rag_assets_tests.integration.flow import Chain, CountingEmbedder
from rag_assets_tests.services.embedding_service import KEY
from rag_assets_tests.services.vectors import vector_of

DIMENSIONS = 64
TEXTS_A_CALL = 4
"""Small, so that a document and a run take several calls."""
embedding.CHUNKS_A_CALL = TEXTS_A_CALL


class Step(StrEnum):
    """An asset; each can be materialized alone."""

    OBSERVE = "observe"
    CUT = "cut"
    EMBED = "embed"
    MERGE = "merge"
    PUBLISH = "publish"


WHOLE_RUN = (Step.OBSERVE, Step.CUT, Step.EMBED, Step.MERGE)


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker is told."""

    urls: DatabaseUrls
    corpus: Corpus
    source: Path
    service: str
    run_id: str
    mutant: str = ""
    steps: tuple[Step, ...] = WHOLE_RUN
    waits: bool = True
    hinted: bool = False

    def run(self) -> None:
        """As assets do it: what another run has is left to it."""
        chain = chain_of(self)
        buckets: Sequence[int] = range(self.corpus.buckets)
        for step in self.steps:
            match step:
                case Step.OBSERVE:
                    buckets = list(chain.observe(wait=self.waits, hinted=self.hinted))
                    chain.open()
                case Step.CUT:
                    chain.cut(buckets)
                case Step.EMBED:
                    chain.embed(buckets)
                case Step.MERGE:
                    chain.merge(buckets)
                case Step.PUBLISH:
                    chain.publish()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a worker says that it ended; one that was killed says nothing."""

    error: str = ""
    expected: bool = True
    """An error that is told in our own words: a step that failed cleanly."""


@dataclass(slots=True)
class ServedEmbedder(CountingEmbedder):
    """Asks the loopback service."""

    url: str = ""
    dimensions: int = field(default=DIMENSIONS, init=False)

    @property
    def identity(self) -> str:
        return "openai:words-64/plain@1"

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        body = json.dumps({"model": "words-64", "input": list(texts)}).encode()
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        try:
            request = urllib.request.Request(f"{self.url}/embeddings", body, headers)
            with urllib.request.urlopen(request, timeout=0.4) as answer:
                rows = json.loads(answer.read())["data"]
            found = np.zeros((len(rows), self.dimensions), np.float32)
            for row in rows:
                found[row["index"]] = row["embedding"]
        except (OSError, ValueError, TypeError, IndexError, HTTPException) as error:
            raise EmbeddingError(f"The service failed: {type(error).__name__}") from error
        return found

    def embed_question(self, text: str) -> Vectors:
        return vector_of(text, dimensions=self.dimensions)


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Brings a database of an earlier release to today's schema."""

    urls: DatabaseUrls
    mutant: str = ""

    def run(self) -> None:
        migrations.migrate(self.urls)


def chain_of(job: Job) -> Chain:
    return Chain(
        job.urls,
        job.corpus,
        embedder=ServedEmbedder(url=job.service),
        source=WatchedSource(job.source),
        run_identity=RunIdentity(job.run_id, "code-1"),
    )


def work(job: Job | Upgrade, tells: Connection) -> None:
    """The whole life of a worker."""
    tells.send(_ended(job))


def _ended(job: Job | Upgrade) -> Ended:
    try:
        if job.mutant:
            MUTANTS[job.mutant]()
        job.run()
    except RagAssetsError as error:
        return Ended(f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001 -- whatever it is, the tester must hear of it
        return Ended(f"{type(error).__name__}: {error}", expected=False)
    return Ended()
