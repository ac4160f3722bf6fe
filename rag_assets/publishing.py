"""Scores generations, judges them, and decides what readers see: for assets and commands."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rag_assets import __version__, wiring
from rag_assets.adapters.postgres.generations import not_caught_up
from rag_assets.adapters.system_clock import SystemClock
from rag_assets.answering import pipeline
from rag_assets.errors import NotReadyError
from rag_assets.evaluation.comparing import Verdict, judged
from rag_assets.evaluation.golden_set import GoldenSet, read_golden_set
from rag_assets.evaluation.known_items import known_items
from rag_assets.evaluation.scoring import METRICS, score
from rag_assets.model import (
    Corpus,
    Finding,
    Generation,
    GenerationState,
    GoldenQuestion,
    GraphRecall,
    IndexKind,
    PublishedIndex,
    RunIdentity,
    Scores,
    StageResult,
)
from rag_assets.operations.expectations import believed
from rag_assets.ports import SearchIndex
from rag_assets.settings import DatabaseUrls

SAMPLED_DOCUMENTS = 500
"""How many documents a generated golden set is made from at most."""


def refusal(candidate: Generation, verdict: Verdict) -> str:
    """Why a candidate is not published, and what its owner can do."""
    return (
        f"Generation {candidate.number} of {candidate.corpus!r} is not published:"
        f" {' '.join(verdict.reasons)} What is published stays. See `rag-assets eval"
        f" {candidate.corpus} --generation {candidate.number}`;"
        f" `rag-assets publish {candidate.corpus} --force REASON` overrules the gate."
    )


_FINDS_MORE: Mapping[IndexKind, str] = {
    "hnsw": "raise `retrieval.ef_search`, or `index.m` and `index.ef_construction`, which build"
    " another generation",
    "ivfflat": "raise `retrieval.probes`; or set another `index.lists`, which builds another"
    " generation, with lists made from the vectors of today",
    "binary": "raise `retrieval.oversampling`; or choose another `index.kind`, which builds another"
    " generation",
    "exact": "it looks at every vector",
}


def lacking(found: GraphRecall, wanted: float) -> str:
    """What is wrong with an index, and what makes a better one."""
    return (
        f"The {found.kind} index of generation {found.generation} finds {found.recall:.3f} of what"
        f" an exact search finds, {wanted:.3f} is wanted; {_FINDS_MORE[found.kind]}."
    )


@dataclass(frozen=True, slots=True)
class Publisher:
    """One corpus with its database: what scoring, judging and publishing have in common."""

    corpus: Corpus
    urls: DatabaseUrls
    home: Path | None = None
    """Where pages are written that show what was expected and found; None: nowhere."""

    @property
    def stores(self) -> wiring.Stores:
        return wiring.stores(self.urls)

    def standing(self) -> list[Generation]:
        """The generations that can be scored: published or candidate, and caught up."""
        states = {GenerationState.CANDIDATE, GenerationState.PUBLISHED}
        generations = self.stores.generations
        return [
            generation
            for generation in generations.living(self.corpus.name)
            if generation.state in states and not generations.unfinished(generation)
        ]

    def living_one(self, number: int) -> Generation:
        return self.stores.generations.numbered(self.corpus.name, number)

    def standing_one(self, number: int | None) -> Generation:
        """A generation that can be scored: the published one where no number is given."""
        if number is not None:
            generation = self.living_one(number)
        else:
            row = self.stores.generations.published(self.corpus.name)
            generation = self.living_one(row.generation)
        if unfinished := self.stores.generations.unfinished(generation):
            raise not_caught_up(generation, unfinished)
        return generation

    def chosen(self, number: int | None) -> Generation:
        """The generation to publish: the newest candidate where no number is given."""
        if number is not None:
            return self.standing_one(number)
        candidates = [each for each in self.standing() if each.state is GenerationState.CANDIDATE]
        if not candidates:
            raise NotReadyError(
                f"Corpus {self.corpus.name!r} has no candidate that waits to be published."
                " `rag-assets status` lists its generations; name one with --generation."
            )
        return candidates[-1]

    def golden_set(self) -> GoldenSet:
        """The corpus's own, else one generated from its documents."""
        if self.corpus.evaluation.golden_set:
            return read_golden_set(Path(self.corpus.evaluation.golden_set))
        return known_items(self.stores.documents.sample(self.corpus.name, limit=SAMPLED_DOCUMENTS))

    def scores(self, generation: Generation, golden_set: GoldenSet, run: RunIdentity) -> Scores:
        """What a generation scores with its present content; measured once, then remembered."""
        if found := self.remembered(generation, golden_set):
            return found
        stores = self.stores
        texts = stores.documents.live_texts(self.corpus.name, golden_set.doc_ids)
        fitting, _ = golden_set.fitting(texts)
        if not fitting.questions:  # documents so short that no question could be made of them
            return Scores(generation.number, golden_set.identity, ())
        measured = self._measured(generation, golden_set.identity, fitting.resolve(texts))
        stores.evaluations.add(measured, content=self._content(generation), run=run)
        return measured

    def stale_labels(self, golden_set: GoldenSet) -> tuple[str, ...]:
        """Labels whose sentence no longer stands in its document; they are left out of scores."""
        texts = self.stores.documents.live_texts(self.corpus.name, golden_set.doc_ids)
        return golden_set.fitting(texts)[1]

    def remembered(self, generation: Generation, golden_set: GoldenSet) -> Scores | None:
        """What it scored with this content before."""
        return self.stores.evaluations.find(
            generation=generation.number,
            golden_set=golden_set.identity,
            content=self._content(generation),
        )

    def verdict(self, candidate: Generation, golden_set: GoldenSet, run: RunIdentity) -> Verdict:
        """Held against the published generation, on the same questions and the same documents."""
        after = self.scores(candidate, golden_set, run)
        rival = self.rival_of(candidate)
        before = self.scores(rival, golden_set, run) if rival else None
        verdict = judged(after, before=before, settings=self.corpus.evaluation)
        if not verdict.accepted:
            return verdict  # every run asks again, and what follows looks at the whole index
        against = [*self._not_found(candidate), *self._unexpected(candidate, run)]
        return replace(verdict, accepted=False, reasons=tuple(against)) if against else verdict

    def newest(self) -> Generation | None:
        """The generation that is complete, and is or will be read."""
        states = {GenerationState.CANDIDATE, GenerationState.PUBLISHED}
        living = self.stores.generations.living(self.corpus.name)
        return next((each for each in reversed(living) if each.state in states), None)

    def expected(
        self,
        generation: Generation | None,
        run: RunIdentity,
        *,
        stages: Collection[str] | None = None,
    ) -> list[StageResult]:
        """How the rows of these stages stand to what is expected of them; of all, without."""
        suites = wiring.suites_of(self.corpus, generation)
        asked = {
            stage: suite for stage, suite in suites.items() if stages is None or stage in stages
        }
        judge = wiring.expectations(self.urls, self.home).judge
        return judge(self.corpus.name, generation, asked, run) if asked else []

    def keep_out(self, generation: Generation, found: StageResult, run: RunIdentity) -> list[str]:
        """Quarantines what fails where that was asked for; returns the documents."""
        judging = wiring.judging_of(self.corpus, generation, found.stage)
        if judging is None:
            return []
        documents = self.stores.documents.live_documents(self.corpus.name)
        unexpected = [
            Finding(doc_id, content, str(each.expectation), json.dumps({"rows": rows[doc_id]}))
            for each in found.unmet
            if each.expectation.quarantine and believed(each, documents=documents)
            for rows in [Counter(name for name, _ in each.failing)]
            for doc_id, content in each.contents.items()
        ]
        self.stores.quality.keep_out(self.corpus.name, judging, unexpected, run)
        return sorted({each.doc_id for each in unexpected})

    def recall(self, generation: Generation) -> GraphRecall:
        """How much of the nearest its index finds, searched as the corpus is today."""
        return self.stores.measuring.recall(generation, self.corpus.retrieval)

    def _not_found(self, candidate: Generation) -> Iterator[str]:
        """Also refused for an index that finds too little."""
        found, wanted = self.recall(candidate), self.corpus.quality.min_recall
        if found.recall < wanted:
            yield lacking(found, wanted)

    def _unexpected(self, candidate: Generation, run: RunIdentity) -> Iterator[str]:
        """And for what is not as expected, where the corpus asks for that."""
        if not self.corpus.expectations.required:
            return
        for stage in self.expected(candidate, run):
            for each in stage.unmet:
                if not each.warns_only:
                    yield f"Expected of its {stage.stage}: {each.sentence}"

    def rival_of(self, generation: Generation) -> Generation | None:
        """The published generation, unless it is this one."""
        for other in self.stores.generations.living(self.corpus.name):
            if other.state is GenerationState.PUBLISHED and other.number != generation.number:
                return other
        return None

    def publish(
        self, generation: Generation, *, run: RunIdentity, reason: str, forced: bool = False
    ) -> list[int]:
        """Lets readers see a generation; returns the numbers of those dropped with it."""
        generations = self.stores.generations
        self._publish(generation, run=run, reason=reason, forced=forced)
        return generations.drop_expired(self.corpus.name)

    def roll_back(self, *, run: RunIdentity) -> Generation:
        """Publishes the generation that was published before this one."""
        target = self.stores.generations.rollback_target(self.corpus.name)
        self._publish(target, run=run, reason="rolled back", rolled_back=True)
        return target

    def update_row(self) -> None:
        """Brings changed settings of reading into the published row, which needs no generation."""
        generations = self.stores.generations
        row = generations.published(self.corpus.name)
        key = wiring.key_variable(row.embedder, self.corpus, otherwise=row.api_key_env)
        generations.update_retrieval(self.corpus.name, self.corpus.retrieval, api_key_env=key)

    def _publish(
        self,
        generation: Generation,
        *,
        run: RunIdentity,
        reason: str,
        forced: bool = False,
        rolled_back: bool = False,
    ) -> None:
        self.stores.generations.publish(
            generation,
            retrieval=self.corpus.retrieval,
            run=run,
            reason=reason,
            forced=forced,
            rolled_back=rolled_back,
            api_key_env=wiring.key_variable(generation.recipe.embedder, self.corpus),
        )

    def pinned(self, generation: Generation, index: SearchIndex) -> SearchIndex:
        """A search index that reads this generation, published or not."""
        row = PublishedIndex(
            corpus=self.corpus.name,
            generation=generation.number,
            embedder=generation.recipe.embedder,
            retrieval=self.corpus.retrieval,
            published_at=datetime.now(UTC),
            run_id="",
            api_key_env=wiring.key_variable(generation.recipe.embedder, self.corpus),
            index_kind=generation.recipe.index.kind,
        )
        return wiring.pinned_index(index, row)

    def _content(self, generation: Generation) -> str:
        """What a score depends on beside the questions: what is served how, what is measured."""
        served = self.stores.generations.content(generation.number).content
        how = f"{__version__} {METRICS} {self.corpus.retrieval!r}"
        return f"{served}/{hashlib.sha256(how.encode()).hexdigest()[:12]}"

    def _measured(
        self, generation: Generation, golden_set: str, questions: tuple[GoldenQuestion, ...]
    ) -> Scores:
        with wiring.search_index(self.urls) as index:
            how: dict[str, Any] = {
                "index": self.pinned(generation, index),
                "embedder_for": wiring.embedder_for,
                "principals": self.corpus.acl,
            }
            return score(
                questions,
                search=lambda question: pipeline.search(question, **how).hits,
                answer=partial(pipeline.answer, **how),
                generation=generation.number,
                golden_set=golden_set,
                clock=SystemClock(),
            )
