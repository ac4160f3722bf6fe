"""Builds an index beside the one that is read, from what is stored: for assets and commands."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from rag_assets import wiring
from rag_assets.adapters.postgres.generations import Ended, Unfinished
from rag_assets.adapters.postgres.index import Merged
from rag_assets.errors import DatabaseError, NotReadyError
from rag_assets.indexing.chunking import cut
from rag_assets.indexing.embedding import TURN, Embedded, embed_in_turns
from rag_assets.indexing.quality import judgings
from rag_assets.indexing.rebuilding import is_to_be_built
from rag_assets.indexing.requesting import PatientEmbedder
from rag_assets.model import (
    Corpus,
    Generation,
    GenerationState,
    QualityStage,
    Recipe,
    RunIdentity,
    has_readers,
    own,
)
from rag_assets.settings import DatabaseUrls

BESIDE = "candidate_index"
"""The asset that builds, and the stage at which a build fails."""
WAITING = (GenerationState.BUILDING, GenerationState.CANDIDATE)


@dataclass(frozen=True, slots=True)
class Built:
    """What a run did for a build, and what stands between it and its end."""

    generation: Generation
    """As it is now."""
    chunks: int = 0
    judged: int = 0
    embedded: Embedded = field(default_factory=Embedded)
    documents: int = 0
    """Written into the index, or taken out."""
    loaded: Mapping[int, Merged] = field(default_factory=dict)
    """Bucket to what is in it now."""
    left: Unfinished = field(default_factory=lambda: Unfinished(0, 0))
    ended: Ended | None = None
    """How somebody has ended it meanwhile."""

    @property
    def complete(self) -> bool:
        return self.ended is None and self.generation.state is not GenerationState.BUILDING

    @property
    def done(self) -> tuple[int, int, int]:
        return self.chunks, self.embedded.texts, self.documents


@dataclass(frozen=True, slots=True)
class Builder:
    """One corpus with its database. The source is not asked: texts are stored already."""

    corpus: Corpus
    urls: DatabaseUrls
    turn: timedelta = TURN
    spending: wiring.Spending = field(default_factory=wiring.Spending)

    @property
    def stores(self) -> wiring.Stores:
        return wiring.stores(self.urls)

    @property
    def recipe(self) -> Recipe:
        return wiring.recipe_of(self.corpus)

    def wanted(self, *, by_hand: bool = False) -> bool:
        """Whether today's settings have no index yet, or one that has fallen behind."""
        generations = self.stores.generations
        living = generations.living(self.corpus.name)
        if not has_readers(living):
            return self._is_first_again(living)
        held = not by_hand and generations.held(self.corpus.name, self.recipe) is not None
        return is_to_be_built(self.recipe, living, held=held) or self._is_behind(living)

    def has_failed(self) -> bool:
        """Whether a failure is remembered of a build that somebody has ended, or mended."""
        stores, name = self.stores, self.corpus.name
        held = stores.generations.held(name, self.recipe)
        if held and held.state is GenerationState.FAILED:
            return False  # nobody has mended anything
        return any(each.stage == BESIDE for each in stores.failures.open(name))

    def set_aside(self) -> list[Generation]:
        """All that live, once builds of settings that nobody wants any more are cancelled."""
        return self.stores.generations.set_aside(self.corpus.name, self.recipe)

    def begun(self, *, by_hand: bool = False) -> Generation | None:
        """The build, opened if it is new; what others had begun of other settings is cancelled."""
        generations, living = self.stores.generations, self.set_aside()
        if not has_readers(living):
            again = self._is_first_again(living)
            return generations.open(self.corpus.name, self.recipe, by_hand=True) if again else None
        held = not by_hand and generations.held(self.corpus.name, self.recipe) is not None
        if is_to_be_built(self.recipe, living, held=held):
            living = [generations.open(self.corpus.name, self.recipe, by_hand=by_hand)]
        found = own(self.recipe, living)
        return found if found and found.state in WAITING else None

    def build(
        self,
        generation: Generation,
        buckets: Sequence[int],
        *,
        run: RunIdentity,
        until: datetime | None = None,
    ) -> Built:
        """Cuts, embeds and merges until nothing waits, then builds the index of its vectors.

        What changes meanwhile is caught up with at the end. It stops when the time is over, when
        somebody has ended the generation, or when nothing more can be done now.
        """
        built = Built(generation)
        how = (generation, self.corpus, self.urls, self.spending)
        with wiring.document_embedder(*how) as embedder:
            while True:
                before = built
                built = self._round(built, buckets, embedder=embedder, run=run, until=until)
                if built.ended is not None or built.embedded.stopped:
                    return built
                if built.left and built.left == before.left and built.done == before.done:
                    return built
                if not built.left:
                    if built.complete:
                        return built
                    built = self._finished(built)

    def _round(
        self,
        built: Built,
        buckets: Sequence[int],
        *,
        embedder: PatientEmbedder,
        run: RunIdentity,
        until: datetime | None,
    ) -> Built:
        """All steps once, over what waits."""
        stores, generation = self.stores, built.generation
        with self._ended(built) as end:
            made = cut(
                generation,
                buckets,
                chunker=wiring.chunker_of(generation, self.corpus),
                store=stores.chunks,
                letters=stores.documents,
                run=run,
            )
            built = replace(built, chunks=built.chunks + made)
            built = self._judged(built, buckets, [QualityStage.CHUNKS], run)
            given = embed_in_turns(
                generation,
                buckets,
                embedder=embedder,
                store=stores.embeddings,
                letters=stores.documents,
                run=run,
                until=until,
                wanted=lambda: stores.generations.ended(generation) is None,
                turn=self.turn,
            )
            built = replace(built, embedded=built.embedded + given)
            built = self._judged(built, buckets, tuple(QualityStage), run)
            merged = stores.index.merge(
                generation,
                buckets,
                run,
                keep_last_good=self.corpus.on_poison == "keep_last_good",
            )
            built = replace(
                built,
                documents=built.documents + sum(each.changed for each in merged.values()),
                loaded=merged,
                left=stores.generations.unfinished(generation),
            )
        return replace(built, ended=end.how)

    def _judged(
        self, built: Built, buckets: Sequence[int], stages: Sequence[QualityStage], run: RunIdentity
    ) -> Built:
        rules = judgings(built.generation.recipe, self.corpus.quality, stages)
        judged = self.stores.quality.judge(self.corpus.name, rules, buckets, run)
        return replace(built, judged=built.judged + judged)

    def _finished(self, built: Built) -> Built:
        """With its vector index, as a candidate; from then on daily runs keep it up to date."""
        generations, generation = self.stores.generations, built.generation
        with self._ended(built) as end:
            generations.finish(generation)
            self.stores.measuring.measure(generation)
        if end.how is not None:
            return replace(built, ended=end.how)
        return replace(built, generation=generations.numbered(self.corpus.name, generation.number))

    @contextmanager
    def _ended(self, built: Built) -> "Iterator[_End]":
        """Looks whether somebody has ended the generation; then it is no error that it is gone."""
        generations, end = self.stores.generations, _End()
        try:
            yield end
        except (DatabaseError, NotReadyError):
            end.how = generations.ended(built.generation, for_sure=True)
            if end.how is None:
                raise
        else:
            end.how = generations.ended(built.generation)

    def _is_behind(self, living: Sequence[Generation]) -> bool:
        """A candidate that a run was about to catch up with when it was killed, say."""
        found = own(self.recipe, living)
        if found is None or found.state is not GenerationState.CANDIDATE:
            return False
        return bool(self.stores.generations.unfinished(found))

    def _is_first_again(self, living: Sequence[Generation]) -> bool:
        """Whether settings have changed before anything was published.

        Daily runs build the first index of a corpus, but what is up to date otherwise has no run.
        """
        found, history = own(self.recipe, living), self.stores.generations.history(self.corpus.name)
        others = any(each.fingerprint != self.recipe.fingerprint for each in history)
        return others and (found is None or found.state is GenerationState.BUILDING)


@dataclass(slots=True)
class _End:
    """How a generation has ended, once that was looked at."""

    how: Ended | None = None
