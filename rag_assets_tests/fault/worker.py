"""What runs in the process that is killed: one run over buckets of a corpus, as assets do it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from rag_assets.adapters.openai import OpenAiEmbeddings
from rag_assets.adapters.postgres import migrations
from rag_assets.adapters.postgres.collecting import PostgresCollecting
from rag_assets.adapters.postgres.rate_limits import PostgresRateLimits
from rag_assets.adapters.system_clock import SystemClock
from rag_assets.errors import RagAssetsError
from rag_assets.indexing.embedding import embed
from rag_assets.indexing.requesting import Patience, PatientEmbedder
from rag_assets.model import Corpus, Generation, RequestLimits, RunIdentity
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.fault.broken_builds import BUILD_MUTANTS
from rag_assets_tests.fault.duties import Duties, answer_from
from rag_assets_tests.fault.mutants import MUTANTS
from rag_assets_tests.fault.source import WatchedSource
from rag_assets_tests.integration.flow import Chain, CountingEmbedder
from rag_assets_tests.services.embedding_service import KEY

MODEL, DIMENSIONS = "words-64", 64
TEXTS_A_REQUEST = 4
"""Small, so that a run takes several requests."""
REQUESTS_AT_ONCE = 2
IN_FLIGHT = TEXTS_A_REQUEST * (REQUESTS_AT_ONCE + 1)
"""What may be lost when a worker ends: what is asked, and an answer that is being kept."""
ANSWER_TIMEOUT_S = 1.0
NO_URL = "http://127.0.0.1:9/v1"


class Step(StrEnum):
    """An asset; each can be materialized alone."""

    OBSERVE = "observe"
    CUT = "cut"
    EMBED = "embed"
    MERGE = "merge"
    PUBLISH = "publish"
    COLLECT = "collect"

    DAILY = "daily"
    BUILD = "build"
    JUDGE = "judge"
    PUBLISH_CANDIDATE = "publish candidate"
    ROLL_BACK = "roll back"
    CANCEL = "cancel"
    FAIL = "fail"
    DROP = "drop"
    REBUILD = "rebuild"


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
        duties = Duties(chain, WatchedSource(self.source), partial(_embed_one, self, chain))
        buckets: Sequence[int] = range(self.corpus.buckets)
        for step in self.steps:
            match step:
                case Step.OBSERVE:
                    buckets = list(chain.observe(wait=self.waits, hinted=self.hinted))
                    chain.open()
                case Step.CUT:
                    chain.cut(buckets)
                case Step.EMBED:
                    _embed(self, chain, buckets)
                case Step.MERGE:
                    chain.merge(buckets)
                case Step.PUBLISH:
                    chain.publish()
                case Step.COLLECT:
                    _collect(self)
                case _:
                    _DUTIES[step](duties)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a worker says that it ended; one that was killed says nothing."""

    error: str = ""
    expected: bool = True
    """An error that is told in our own words: a step that failed cleanly."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """Brings a database of an earlier release to today's schema."""

    urls: DatabaseUrls
    mutant: str = ""

    def run(self) -> None:
        migrations.migrate(self.urls)


class ServedModel(OpenAiEmbeddings):
    """The real client before the loopback service, whose port is not part of its name."""

    def __init__(self, url: str) -> None:
        super().__init__(
            MODEL,
            dimensions=DIMENSIONS,
            base_url=url or NO_URL,
            api_key_env="KEY",
            environ={"KEY": KEY},
            timeout_s=ANSWER_TIMEOUT_S,
        )

    @property
    def identity(self) -> str:
        return f"openai:{MODEL}/{DIMENSIONS}/plain@1"

    @property
    def limits(self) -> RequestLimits:
        return RequestLimits(texts=TEXTS_A_REQUEST, tokens=10_000, tokens_a_text=5_000)


def chain_of(job: Job) -> Chain:
    return Chain(
        job.urls,
        job.corpus,
        embedder=Named(),
        source=WatchedSource(job.source),
        run_identity=RunIdentity(job.run_id, "code-1"),
    )


class Named(CountingEmbedder):
    """Says which model a generation is made with; nobody asks it for a vector."""

    @property
    def identity(self) -> str:
        return ServedModel("").identity

    @property
    def dimensions(self) -> int:
        return DIMENSIONS


def _collect(job: Job) -> None:
    """All that nothing uses at this moment, as if it had been so for long."""
    collecting = PostgresCollecting(
        job.urls.writer, owner_url=job.urls.owner, young=timedelta(), at_once=2
    )
    collecting.keep_for(job.corpus.name, timedelta())
    collecting.collect()


def _embed(job: Job, chain: Chain, buckets: Sequence[int]) -> None:
    for generation in chain.living:
        _embed_one(job, chain, generation, buckets)


def _embed_one(job: Job, chain: Chain, generation: Generation, buckets: Sequence[int]) -> None:
    provider = ServedModel(job.service)
    with PostgresRateLimits(job.urls.writer, provider.identity) as rate:
        embed(
            generation,
            buckets,
            embedder=PatientEmbedder(
                provider,
                clock=SystemClock(),
                chance=Random(),
                rate=rate,
                patience=Patience(attempts=8, total_s=5, first_s=0.01, longest_s=0.1),
                concurrency=REQUESTS_AT_ONCE,
            ),
            store=chain.stores.embeddings,
            letters=chain.stores.documents,
            run=chain.run_identity,
        )


_DUTIES: dict[Step, Callable[[Duties], None]] = {
    Step.DAILY: Duties.daily,
    Step.BUILD: Duties.build,
    Step.JUDGE: Duties.judge,
    Step.PUBLISH_CANDIDATE: Duties.publish,
    Step.ROLL_BACK: Duties.roll_back,
    Step.CANCEL: Duties.cancel,
    Step.FAIL: Duties.fail,
    Step.DROP: Duties.drop,
    Step.REBUILD: Duties.rebuild,
}


def work(job: Job | Upgrade, tells: Connection) -> None:
    """The whole life of a worker."""
    tells.send(_ended(job))


def _ended(job: Job | Upgrade) -> Ended:
    try:
        if job.mutant:
            (MUTANTS | BUILD_MUTANTS)[job.mutant]()
        if isinstance(job, Job):
            answer_from(job.service, ServedModel)
        job.run()
    except RagAssetsError as error:
        return Ended(f"{type(error).__name__}: {error}")
    except Exception as error:  # noqa: BLE001 -- whatever it is, the tester must hear of it
        return Ended(f"{type(error).__name__}: {error}", expected=False)
    return Ended()
