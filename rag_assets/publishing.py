"""Scores generations, judges them, and decides what readers see: for assets and commands."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, lru_cache, partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from rag_assets import __version__, wiring
from rag_assets.adapters.postgres.generations import not_caught_up
from rag_assets.adapters.system_clock import SystemClock
from rag_assets.answering import pipeline
from rag_assets.errors import NotReadyError
from rag_assets.evaluation.asking import AskedOnce, QuestionVectors
from rag_assets.evaluation.comparing import changed_questions, compared, judged
from rag_assets.evaluation.drifting import Drift, drifted, rebuild_is_due
from rag_assets.evaluation.golden_set import GoldenSet, read_golden_set
from rag_assets.evaluation.golden_set.carrying import carried
from rag_assets.evaluation.golden_set.writing import by_quote
from rag_assets.evaluation.known_items import known_items
from rag_assets.evaluation.scoring import METRICS, score
from rag_assets.model import (
    Corpus,
    Difference,
    Finding,
    GateCase,
    Generation,
    GenerationDiff,
    GenerationState,
    GoldenQuestion,
    GraphRecall,
    IndexKind,
    Judged,
    ParsedDocument,
    PublishedIndex,
    QuestionChange,
    RunIdentity,
    Scores,
    StageResult,
    Verdict,
    recipe_changes,
)
from rag_assets.operations.expectations import believed
from rag_assets.ports import Embedder, SearchIndex, SentenceEmbedder
from rag_assets.settings import DatabaseUrls

DIFFERING = 100
"""How many documents of a difference are named."""
NAMED = 10
"""How many documents a sentence names."""
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


def _hashed(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()[:12]


def words_of(golden_set: GoldenSet) -> dict[str, str]:
    """What each question asks."""
    return {each.id: each.question for each in golden_set.questions}


def _missing(total: int, first: Collection[str], corpus: str) -> Iterator[str]:
    if total:
        more = f" and {total - len(first)} more" if total > len(first) else ""
        yield (
            f"Documents that readers see now, and that it could not take: {total}:"
            f" {', '.join(first)}{more}. `rag-assets dead-letters list {corpus}` and `rag-assets"
            f" quarantine list {corpus}` say why."
        )


def _damaged(buckets: int, corpus: str) -> Iterator[str]:
    if buckets:
        yield (
            f"Buckets that do not hold the rows that their manifest counts: {buckets}."
            f" `rag-assets verify {corpus} --repair` mends them."
        )


_KNOWN_QUESTIONS = QuestionVectors(most=10_000)
"""Of this process, which scores one golden set again and again."""


def _asking_once(name: str) -> Embedder:
    """One that can tell of sentences works here, at no cost, and must be seen to be able to."""
    embedder = wiring.embedder_for(name)
    if isinstance(embedder, SentenceEmbedder):
        return embedder
    return AskedOnce(embedder, _KNOWN_QUESTIONS)


@dataclass(frozen=True, slots=True)
class Diff:
    """All that two living generations differ in."""

    before: int
    after: int
    recipe: Mapping[str, tuple[str, str]]
    """The parts that differ, each before and after."""
    served: GenerationDiff
    differences: tuple[Difference, ...]
    """Metric by metric; empty where one of them was not scored as it is now."""
    questions: tuple[QuestionChange, ...]


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

    def chosen(self, number: int | None, *, forced: bool = False) -> Generation:
        """The generation to publish: the newest candidate where no number is given."""
        if number is not None:
            return self.living_one(number) if forced else self.standing_one(number)
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
        documents = self.sample(SAMPLED_DOCUMENTS)
        generated = known_items(documents)
        texts = {doc_id: document.text for doc_id, document in documents.items()}
        return replace(generated, questions=by_quote(generated, texts))

    @property
    def parser(self) -> str | None:
        """Whose texts readers have, which labels are of; None while nothing is published."""
        published = self._published()
        return published.recipe.parser if published else None

    def texts(self, doc_ids: Collection[str]) -> dict[str, str]:
        """As readers have them: another parser's are another text, with other places."""
        return self.stores.documents.live_texts(self.corpus.name, doc_ids, parser=self.parser)

    def sample(self, limit: int) -> dict[str, ParsedDocument]:
        """Of the same texts."""
        return self.stores.documents.sample(self.corpus.name, limit=limit, parser=self.parser)

    def scores(self, generation: Generation, golden_set: GoldenSet, run: RunIdentity) -> Scores:
        """What a generation scores with its present content; measured once, then remembered."""
        if found := self.remembered(generation, golden_set):
            return found
        stores = self.stores
        questions = self._questions(generation, golden_set)
        if not questions:  # documents so short that no question could be made of them
            return Scores(generation.number, golden_set.identity, ())
        measured = self._measured(generation, golden_set.identity, questions)
        stores.evaluations.add(measured, content=self._content(generation), run=run)
        return measured

    def _questions(
        self, generation: Generation, golden_set: GoldenSet
    ) -> tuple[GoldenQuestion, ...]:
        """With the places of their answers in the texts that this generation was cut from."""
        own = self.stores.documents.live_texts(
            self.corpus.name, golden_set.doc_ids, parser=generation.recipe.parser
        )
        return carried(golden_set, reference=self.texts(golden_set.doc_ids), texts=own)

    def stale_labels(self, golden_set: GoldenSet) -> tuple[str, ...]:
        """Labels whose sentence no longer stands in its document; they are left out of scores."""
        return golden_set.fitting(self.texts(golden_set.doc_ids))[1]

    def remembered(self, generation: Generation, golden_set: GoldenSet) -> Scores | None:
        """What it scored with this content before."""
        return self.stores.evaluations.find(
            generation=generation.number,
            golden_set=golden_set.identity,
            content=self._content(generation),
        )

    def verdict(
        self,
        candidate: Generation,
        golden_set: GoldenSet,
        run: RunIdentity,
        *,
        anew: bool = False,
    ) -> Verdict:
        """Held against the published generation, on the same questions and the same documents.

        What was refused stays refused until something changes, or somebody asks for a new verdict.
        Whether the candidate is whole is looked at each time: a repair mends that.
        """
        rival = self.rival_of(candidate)
        verdict = None if anew else self.remembered_verdict(candidate, golden_set)
        if verdict is None or verdict.accepted:
            verdict = self._judged(candidate, rival, golden_set, run)
            case = self._case(candidate, rival, golden_set)
            self.stores.evaluations.add_verdict(case, verdict, run)
        return self._if_whole(verdict, candidate, rival)

    def remembered_verdict(self, candidate: Generation, golden_set: GoldenSet) -> Verdict | None:
        """What was decided of this very case before; None if it was not judged yet."""
        rival = self.rival_of(candidate)
        found = self.stores.evaluations.verdict(self._case(candidate, rival, golden_set))
        if found is None or rival is None:
            return found
        before = self.remembered(rival, golden_set)
        after = self.remembered(candidate, golden_set)
        if before is None or after is None:
            return found
        confidence = self.corpus.evaluation.confidence
        return replace(found, differences=compared(before, after, confidence=confidence))

    def changes(
        self, before: Generation, after: Generation, golden_set: GoldenSet
    ) -> list[QuestionChange]:
        """The questions that two scored generations answer differently, the losses first."""
        scores = [self.remembered(each, golden_set) for each in (before, after)]
        if scores[0] is None or scores[1] is None:
            return []
        gate = self.corpus.evaluation.gate
        return changed_questions(scores[0], scores[1], words_of(golden_set), by=gate)

    def diff(self, before: int, after: int, *, named: int = DIFFERING) -> Diff:
        """What two living generations differ in; nothing is scored for it."""
        old, new = self.living_one(before), self.living_one(after)
        golden_set = self.golden_set()
        scores = [self.remembered(each, golden_set) for each in (old, new)]
        differences: tuple[Difference, ...] = ()
        if scores[0] is not None and scores[1] is not None:
            confidence = self.corpus.evaluation.confidence
            differences = compared(scores[0], scores[1], confidence=confidence)
        return Diff(
            before=before,
            after=after,
            recipe=recipe_changes(old.recipe, new.recipe),
            served=self.stores.diffs.between(old, new, named=named),
            differences=differences,
            questions=tuple(self.changes(old, new, golden_set)),
        )

    def found_first(
        self, before: Generation, after: Generation, asked: Mapping[str, str]
    ) -> dict[str, tuple[str, str]]:
        """Of each question the chunk that either generation finds first, searched for now."""
        first = [self._first(each, asked) for each in (before, after)]
        return {each: (first[0][each], first[1][each]) for each in asked}

    def _first(self, generation: Generation, asked: Mapping[str, str]) -> dict[str, str]:
        with wiring.search_index(self.urls) as index:
            how: dict[str, Any] = {
                "index": self.pinned(generation, index),
                "embedder_for": wiring.embedder_for,
                "principals": self.corpus.acl,
            }
            found = {
                each: pipeline.search(words, limit=1, **how).hits for each, words in asked.items()
            }
        return {
            each: f"{hits[0].doc_id}#{hits[0].ord}" if hits else "" for each, hits in found.items()
        }

    def drift(self, golden_set: GoldenSet, run: RunIdentity) -> Drift | None:
        """What is published, held against its baseline; None while there is none."""
        published = self._published()
        if published is None or self.stores.generations.unfinished(published):
            return None
        found = self._baseline(published, golden_set)
        if found is None:
            return None
        baseline, since = found
        return drifted(
            baseline,
            self.scores(published, golden_set, run),
            since=since,
            words=words_of(golden_set),
            settings=self.corpus.evaluation,
        )

    def bands(self, golden_set: GoldenSet) -> dict[str, tuple[float, float]]:
        """Between which scores each metric of the gate may fall before that is drift."""
        published = self._published()
        found = self._baseline(published, golden_set) if published else None
        if found is None:
            return {}
        evaluation, means = self.corpus.evaluation, found[0].means
        return {
            metric: (max(0.0, means[metric] - evaluation.drift_tolerance), means[metric])
            for metric in evaluation.gate
            if metric in means
        }

    def rebuild_after(self, drift: Drift) -> Generation | None:
        """Begins one more index of the same settings, once a drift; None where there is none due.

        What is published is not touched: the new one is judged by the gate like any other.
        """
        generations, name = self.stores.generations, self.corpus.name
        living = generations.living(name)
        recipe = wiring.recipe_of(self.corpus)
        waiting = {GenerationState.BUILDING, GenerationState.CANDIDATE}
        published = self._published()
        if published is None or published.recipe != recipe:
            return None
        if any(each.state in waiting for each in living):
            return None
        builds = [
            each.created_at
            for each in generations.history(name)
            if each.fingerprint == recipe.fingerprint and each.created_at > drift.since
        ]
        points = self.stores.evaluations.line(name)
        if not rebuild_is_due(builds, points, drift.baseline, self.corpus.evaluation):
            return None
        return generations.rebuild(name, recipe)

    def _published(self) -> Generation | None:
        living = self.stores.generations.living(self.corpus.name)
        published = (each for each in living if each.state is GenerationState.PUBLISHED)
        return next(published, None)

    def _baseline(
        self, published: Generation, golden_set: GoldenSet
    ) -> tuple[Scores, datetime] | None:
        """Of the first of those that were published one after the other with these settings.

        So a build that was made again because of a fall does not make the fall forgotten.
        """
        generations = self.stores.generations
        fingerprints = {
            each.generation: each.fingerprint for each in generations.history(self.corpus.name)
        }
        reigns = takewhile(
            lambda each: fingerprints.get(each.generation) == published.recipe.fingerprint,
            generations.publications(self.corpus.name),
        )
        found = (
            self.stores.evaluations.baseline(
                generation=each.generation,
                golden_set=golden_set.identity,
                how=self._how,
                published_at=each.published_at,
            )
            for each in reversed(list(reigns))
        )
        return next(filter(None, found), None)

    def _judged(
        self,
        candidate: Generation,
        rival: Generation | None,
        golden_set: GoldenSet,
        run: RunIdentity,
    ) -> Verdict:
        """By its scores, by its index, and by what is expected of its rows."""
        after = self.scores(candidate, golden_set, run)
        before = self.scores(rival, golden_set, run) if rival else None
        verdict = judged(after, before=before, settings=self.corpus.evaluation)
        recall = self.recall(candidate)
        against = [*self._not_found(recall), *self._unexpected(candidate, run)]
        if against:
            scored = () if verdict.accepted else verdict.reasons
            verdict = replace(verdict, accepted=False, reasons=(*scored, *against))
        return replace(verdict, evidence={"recall": recall.recall})

    def _if_whole(
        self, verdict: Verdict, candidate: Generation, rival: Generation | None
    ) -> Verdict:
        """Also refused where it lacks documents that readers have, or rows that it should have."""
        wrong = len(self.stores.index.mismatches(candidate))
        diffs = self.stores.diffs
        total, first = diffs.missing(candidate, rival, named=NAMED) if rival else (0, [])
        content = self.stores.generations.content(candidate.number)
        evidence = {
            **verdict.evidence,
            "documents": content.documents,
            "chunks": content.chunks,
            "missing_documents": total,
            "buckets_that_differ_from_their_manifest": wrong,
        }
        against = [*_missing(total, first, self.corpus.name), *_damaged(wrong, self.corpus.name)]
        if not against:
            return replace(verdict, evidence=evidence)
        reasons = against if verdict.accepted else [*verdict.reasons, *against]
        return replace(verdict, accepted=False, reasons=tuple(reasons), evidence=evidence)

    def _case(
        self, candidate: Generation, rival: Generation | None, golden_set: GoldenSet
    ) -> GateCase:
        return GateCase(
            generation=candidate.number,
            rival=rival.number if rival else None,
            golden_set=golden_set.identity,
            content=self._content(candidate),
            rival_content=f"{rival.number} {self._content(rival)}" if rival else "",
            settings=self._rules(candidate),
        )

    def _rules(self, candidate: Generation) -> str:
        """All settings that a verdict depends on; others are judged anew."""
        evaluation, required = self.corpus.evaluation, self.corpus.expectations.required
        suites = wiring.suites_of(self.corpus, candidate) if required else {}
        rules = (
            *(__version__, evaluation.gate, evaluation.tolerance, evaluation.confidence),
            *(sorted(evaluation.floors.items()), evaluation.min_questions),
            *(self.corpus.quality.min_recall, sorted(required)),
            *([str(each) for stage in required for each in suites[stage]],),
        )
        return _hashed(repr(rules))

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

    def _not_found(self, found: GraphRecall) -> Iterator[str]:
        """Also refused for an index that finds too little."""
        wanted = self.corpus.quality.min_recall
        if found.recall < wanted:
            yield lacking(found, wanted)

    def _unexpected(self, candidate: Generation, run: RunIdentity) -> Iterator[str]:
        """And for what is not as expected, where the corpus asks for that."""
        required = self.corpus.expectations.required
        for stage in self.expected(candidate, run, stages=required) if required else ():
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
        self,
        generation: Generation,
        *,
        run: RunIdentity,
        reason: str,
        forced: bool = False,
        judged: Judged | None = None,
    ) -> list[int]:
        """Lets readers see a generation; returns the numbers of those dropped with it.

        With what it was `judged` against, it is published only while that is what readers see.
        """
        self._publish(generation, run=run, reason=reason, forced=forced, judged=judged)
        kept = self.corpus.generations
        generations = self.stores.generations
        return generations.drop_expired(self.corpus.name, grace=kept.grace, keep=kept.keep)

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
        generations.update_retrieval(row, self.corpus.retrieval, api_key_env=key)

    def _publish(
        self,
        generation: Generation,
        *,
        run: RunIdentity,
        reason: str,
        forced: bool = False,
        rolled_back: bool = False,
        judged: Judged | None = None,
    ) -> None:
        self.stores.generations.publish(
            generation,
            retrieval=self.corpus.retrieval,
            run=run,
            reason=reason,
            forced=forced,
            rolled_back=rolled_back,
            judged=judged,
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
        """What a score depends on beside the questions: what is served how, what is measured.

        Also on whose texts the labels are of, where those are not its own.
        """
        served = self.stores.generations.content(generation.number).content
        others = {self.parser} - {None, generation.recipe.parser}
        measured = _hashed(" ".join([f"{__version__} {METRICS}", *map(str, others)]))
        return f"{served}/{self._how}/{measured}"

    @property
    def _how(self) -> str:
        """How it is searched: scores of one way say nothing of another."""
        return _hashed(repr(self.corpus.retrieval))

    def _measured(
        self, generation: Generation, golden_set: str, questions: tuple[GoldenQuestion, ...]
    ) -> Scores:
        with wiring.search_index(self.urls) as index:
            how: pipeline.How = {
                "index": self.pinned(generation, index),
                "embedder_for": cache(_asking_once),
                "principals": self.corpus.acl,
            }
            retrieved = lru_cache(maxsize=1)(partial(pipeline.retrieve, **how))
            return score(
                questions,
                search=lambda question: pipeline.searched(retrieved(question)).hits,
                answer=lambda question: pipeline.answered(retrieved(question)),
                nearest=lambda question: pipeline.nearest(retrieved(question)),
                generation=generation.number,
                golden_set=golden_set,
                clock=SystemClock(),
            )
