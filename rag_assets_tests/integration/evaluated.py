"""A corpus with real embeddings and its publisher, without Dagster: for tests of what is judged."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rag_assets import wiring
from rag_assets.evaluation.golden_set import GoldenSet
from rag_assets.indexing.chunking import cut
from rag_assets.indexing.embedding import embed
from rag_assets.model import Corpus, Generation, RunIdentity, Scores, Verdict
from rag_assets.publishing import Publisher
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.flow import RUN, Chain


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What the assets from documents to scores do, with the embedder that the settings name."""

    urls: DatabaseUrls
    corpus: Corpus
    source: InMemorySource
    golden_set: GoldenSet | None = None
    run: RunIdentity = field(default=RUN)

    def with_settings(self, **changes: Any) -> "Evaluated":
        return replace(self, corpus=replace(self.corpus, **changes))

    @property
    def stores(self) -> wiring.Stores:
        return wiring.stores(self.urls)

    @property
    def publisher(self) -> Publisher:
        return Publisher(self.corpus, self.urls)

    @property
    def living(self) -> list[Generation]:
        return self.stores.generations.living(self.corpus.name)

    @property
    def questions(self) -> GoldenSet:
        return self.golden_set or self.publisher.golden_set()

    def build(self) -> Generation:
        """Brings all that live up to date, with that of today's settings, which is returned."""
        self.chain.observe()
        name, buckets = self.corpus.name, range(self.corpus.buckets)
        own = self.stores.generations.open(name, wiring.recipe_of(self.corpus))
        for generation in self.living:
            self._fill(generation, buckets)
        return self.stores.generations.numbered(name, own.number)

    def _fill(self, generation: Generation, buckets: Sequence[int]) -> None:
        stores = self.stores
        cut(
            generation,
            buckets,
            chunker=wiring.chunker_of(generation, self.corpus),
            store=stores.chunks,
            letters=stores.documents,
            run=self.run,
        )
        with wiring.document_embedder(generation, self.corpus, self.urls) as embedder:
            embed(
                generation,
                buckets,
                embedder=embedder,
                store=stores.embeddings,
                letters=stores.documents,
                run=self.run,
            )
        stores.index.merge(generation, buckets, self.run)
        stores.generations.finish(generation)

    @property
    def chain(self) -> Chain:
        return Chain(self.urls, self.corpus, source=self.source, run_identity=self.run)

    def scores(self, generation: Generation) -> Scores:
        return self.publisher.scores(generation, self.questions, self.run)

    def verdict(self, generation: Generation) -> Verdict:
        return self.publisher.verdict(generation, self.questions, self.run)

    def publish(self, generation: Generation, reason: str = "a test") -> None:
        self.publisher.publish(generation, run=self.run, reason=reason)
