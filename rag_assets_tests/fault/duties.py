"""What is done to the generations of a corpus, each in a process that may be killed on the way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rag_assets import wiring
from rag_assets.adapters.openai import OpenAiEmbeddings
from rag_assets.building import Builder
from rag_assets.indexing import rebuilding
from rag_assets.indexing.chunking import cut
from rag_assets.model import Generation, GenerationState, QualityStage, has_readers
from rag_assets.publishing import Publisher
from rag_assets_tests.fault.source import WatchedSource
from rag_assets_tests.integration.flow import Chain

Embeds = Callable[[Generation, Sequence[int]], None]


def answer_from(service: str, model: Callable[[str], OpenAiEmbeddings]) -> None:
    """The product's own way to a model leads to the loopback service, in this process."""

    def made(*_: object, **__: object) -> OpenAiEmbeddings:
        return model(service)

    owner: object = wiring
    setattr(owner, "OpenAiEmbeddings", made)  # noqa: B010 - a name of another module


@dataclass(frozen=True, slots=True)
class Duties:
    """One corpus with its database: what its assets and commands do, without Dagster."""

    chain: Chain
    source: WatchedSource
    embeds: Embeds

    @property
    def _name(self) -> str:
        return self.chain.corpus.name

    @property
    def _every(self) -> range:
        return range(self.chain.corpus.buckets)

    @property
    def _publisher(self) -> Publisher:
        return Publisher(self.chain.corpus, self.chain.urls)

    def daily(self) -> None:
        """Brings every document to all that is kept up to date as it comes."""
        self.chain.observe()
        generations = self.chain.stores.generations
        living = generations.living(self._name)
        if not has_readers(living):
            generations.open(self._name, self.chain.recipe, by_hand=True)
            living = generations.living(self._name)
        for generation in rebuilding.current(living):
            self._bring(generation)

    def _bring(self, generation: Generation) -> None:
        stores, run = self.chain.stores, self.chain.run_identity
        chunker = wiring.chunker_of(generation, self.chain.corpus)
        where: dict[str, Any] = {"letters": stores.documents, "run": run}
        cut(generation, self._every, chunker=chunker, store=stores.chunks, **where)
        self.chain.judge_stage(QualityStage.CHUNKS)
        self.embeds(generation, self._every)
        self.chain.judge_stage(QualityStage.EMBEDDINGS)
        stores.index.merge(generation, self._every, run)
        stores.generations.finish(generation)

    def build(self) -> None:
        """As `candidate_index` does it."""
        builder = Builder(self.chain.corpus, self.chain.urls)
        if generation := builder.begun(by_hand=True):
            builder.build(generation, self._every, run=self.chain.run_identity)

    def judge(self) -> None:
        publisher = self._publisher
        golden_set = publisher.golden_set()
        publisher.verdict(publisher.chosen(None), golden_set, self.chain.run_identity)

    def publish(self) -> None:
        """What waits for it, whatever the gate says, and as `published_index` does it."""
        living = self.chain.living
        waiting = [each for each in living if each.state is GenerationState.CANDIDATE]
        if waiting:
            run = self.chain.run_identity
            self._publisher.publish(waiting[-1], run=run, reason="a test", forced=True)

    def roll_back(self) -> None:
        self._publisher.roll_back(run=self.chain.run_identity)

    def cancel(self) -> None:
        self.chain.stores.generations.cancel(self._name, reason="somebody does not want it")

    def fail(self) -> None:
        for generation in self.chain.living:
            if generation.state is GenerationState.BUILDING:
                self.chain.stores.generations.fail(generation, reason="it has failed too often")

    def drop(self) -> None:
        """As if the grace of all that are retired were over."""
        self.chain.stores.generations.drop_expired(self._name, grace=timedelta(), keep=0)

    def rebuild(self) -> None:
        self.chain.stores.generations.rebuild(self._name, self.chain.recipe)
