"""One corpus whose index is built beside, published, gone back from and ended, under faults."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from rag_assets.indexing.requesting import PROBE
from rag_assets.model import (
    ChunkingSettings,
    EmbeddingSettings,
    Generation,
    GenerationState,
    IndexSettings,
)
from rag_assets_tests.fault.attempt import PATIENCE_S, Attempt
from rag_assets_tests.fault.faults import Action, Fault
from rag_assets_tests.fault.lawful import Laws, untouched
from rag_assets_tests.fault.oracle import equal
from rag_assets_tests.fault.trials import ROUNDS_TO_REST, Findings, Trial
from rag_assets_tests.fault.worker import (
    DIMENSIONS,
    IN_FLIGHT,
    MODEL,
    Step,
)
from rag_assets_tests.fault.world import World
from rag_assets_tests.integration.flow import held, value
from rag_assets_tests.services.vectors import text_hash

Recipe = tuple[ChunkingSettings, IndexSettings]

RECIPES: tuple[Recipe, ...] = (
    (ChunkingSettings(max_chars=140, min_chars=20), IndexSettings()),
    (ChunkingSettings(max_chars=70, min_chars=20), IndexSettings()),
    (ChunkingSettings(max_chars=70, min_chars=20), IndexSettings(kind="exact")),
)
"""The last two share their vectors."""
DOCUMENTS = 6
_HARMLESS = ("edit", "delete", "rename", "add")
"""What a document can turn into without becoming poison."""
_WRITES_WHAT_IS_READ = {Step.DAILY}
_PUBLISHED = GenerationState.PUBLISHED
_PUBLISHES = {Step.PUBLISH_CANDIDATE, Step.ROLL_BACK}
_WAITED_FOR_S = 1.0
"""So long one worker may wait for another that sleeps; then that is woken."""


class Lifetime(Trial):
    """A trial that also asks, after each step, whether the generations are as they may be."""

    def __init__(self, world: World, seed: int, *, mutant: str = "") -> None:
        super().__init__(world, seed, mutant=mutant)
        self.settings = 0
        self.corpus = replace(
            self.corpus,
            embedder=f"openai:{MODEL}",
            embedding=EmbeddingSettings(api_key_env="KEY", dimensions=DIMENSIONS, concurrency=2),
        )
        self.laws = Laws(world.urls.writer, self.name)
        self.collected = False
        self.done: set[Step] = set()

    # --- what people and time do -----------------------------------------------------------------

    def begin_life(self) -> None:
        """The first index of the corpus, published, and a reader before it."""
        self._set(0)
        self.fill_source(DOCUMENTS)
        self.do(Step.DAILY, Step.PUBLISH_CANDIDATE)
        self.watch()

    def change_settings(self) -> None:
        self._set((self.settings + 1) % len(RECIPES))

    def change_settings_back(self) -> None:
        self._set((self.settings - 1) % len(RECIPES))

    def _set(self, settings: int) -> None:
        self.settings = settings
        chunking, index = RECIPES[settings]
        self.corpus = replace(self.corpus, chunking=chunking, index=index)

    def edit_somewhat(self) -> None:
        for kind in self.random.sample(_HARMLESS, 3):
            self._change(kind, None)
        self.history.save()

    # --- steps -----------------------------------------------------------------------------------

    def do(self, *steps: Step) -> Attempt:
        """Without a fault, again until it has ended well; then everything must be lawful."""
        for _ in range(ROUNDS_TO_REST):
            attempt = self.struck(steps)
            if attempt.clean:
                return attempt
        error = attempt.ended.error if attempt.ended else "no end"
        self.broke("I14", f"{' and '.join(steps)} cannot be done any more: {error}")
        return attempt

    def struck(self, steps: Sequence[Step], *faults: Fault) -> Attempt:
        """One worker; whatever happens to it, nobody else has noticed."""
        with self.watched_over(steps):
            return self.run(*faults, steps=tuple(steps))

    def two(self, first: Sequence[Step], second: Sequence[Step], *faults: Fault) -> list[Attempt]:
        """The first is struck (it may sleep for a while), the second goes past it if it can."""
        with self.watched_over((*first, *second)):
            one = self.begin(faults, steps=tuple(first))
            while one.process.is_alive() and not one.faults.paused.wait(0.01):
                if not any(fault.action is Action.PAUSE for fault in one.faults.waiting):
                    break
            other = self.begin(steps=tuple(second))
            other.process.join(_WAITED_FOR_S)
            one.faults.wake()
            self.end(one, other)
        return [one, other]

    @contextmanager
    def watched_over(self, steps: Sequence[Step]) -> Iterator[None]:
        """Compares what readers have before and after, and holds all against the laws."""
        laws, may = self.laws, frozenset(steps)
        self.done |= may
        was, dropped = laws.published(), self._dropped()
        rows = laws.served(was) if was is not None else {}
        yield
        self._let_servers_end()
        self.findings.note(laws.broken())
        now = laws.published()
        if was is not None and not may & _WRITES_WHAT_IS_READ and was in laws.living():
            self.findings.note(untouched(rows, laws.served(was), was))
        if now != was and not may & _PUBLISHES:
            self.broke("I15", f"{was} was published, and now is {now}, after {sorted(may)}")
        new = now if now != was and not may & _WRITES_WHAT_IS_READ else None
        if new is not None and (behind := laws.behind(new)):
            self.broke("I14", f"{new} was published without the latest of {behind}")
        if (gone := self._dropped() - dropped) and Step.DROP not in may:
            self.broke("I14", f"{sorted(gone)} were dropped before their grace was over")

    def _dropped(self) -> set[int]:
        return {
            each["generation"] for each in self.laws.generations() if each["state"] == "dropped"
        }

    def _let_servers_end(self) -> None:
        """What the dead had begun is ended, or undone, when their connections are gone."""
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND usename = current_user AND application_name = 'rag_assets'"
        )
        ends_at = time.monotonic() + PATIENCE_S
        while value(self.world.urls.writer, query) and time.monotonic() < ends_at:
            time.sleep(0.01)

    def state(self, state: GenerationState) -> int | None:
        found = [each["generation"] for each in self.laws.generations() if each["state"] == state]
        return found[-1] if found else None

    # --- judging ---------------------------------------------------------------------------------

    def judge_life(self) -> Findings:
        """At the end: the build comes to its end, and all that live equal a fresh build."""
        self.do(Step.DAILY)
        self.do(Step.BUILD)
        self.do(Step.PUBLISH_CANDIDATE)
        paid = self.do(Step.DAILY, Step.BUILD).paid
        if paid:
            self.broke("I5", f"nothing has changed, and {paid} texts were paid")
        self.judge()
        self._watching.close()
        self.judge_reads()
        self._judge_refused()
        self._judge_payments()
        self._judge_builds()
        return self.findings

    def _judge_refused(self) -> None:
        """Only who asks a generation that is dropped meanwhile has to ask again."""
        for error, times in self._reader.refused.items():
            if not (error == "NotPublishedError" and Step.DROP in self.done):
                self.broke("I14", f"{times} reads were refused: {error}")

    def _judge_builds(self) -> None:
        """All that live hold what a build from nothing would hold."""
        chain = self._chain()
        mine = [each for each in chain.living if each.recipe == chain.recipe]
        if not any(each.rolled_back or each.state is _PUBLISHED for each in mine):
            self.broke("I14", f"today's settings are not read, but {[str(e.state) for e in mine]}")
        for generation in chain.living:
            fresh = self._fresh_of(generation)
            found = held(self.world.urls, generation)
            self.findings.note(equal(found, held(self.world.fresh, fresh)))

    def _fresh_of(self, generation: Generation) -> Generation:
        corpus = self.corpus
        for chunking, index in RECIPES:
            self.corpus = replace(corpus, chunking=chunking, index=index)
            if self._chain().recipe == generation.recipe:
                fresh = self._fresh()
                break
        self.corpus = corpus
        return next(each for each in fresh.living if each.recipe == generation.recipe)

    def _judge_payments(self) -> None:
        """I6: no text twice, but for what was in flight when a worker was killed."""
        if self.collected:
            return
        texts = {text_hash(each) for each in self.oracle.texts}
        paid: Counter[str] = Counter()
        lost = 0
        for attempt in self._attempts:
            useful = attempt.service.paid - attempt.service.spoiled
            del useful[text_hash(PROBE)]
            ours = Counter({each: times for each, times in useful.items() if each in texts})
            paid += ours
            if not attempt.clean:
                lost += min(ours.total(), IN_FLIGHT)
        twice = paid.total() - len(paid)
        self.findings.paid += paid.total()
        self.findings.owed += len(paid) + lost
        if twice > lost:
            self.broke("I6", f"{twice} texts were paid twice, {lost} were lost on the way")

    def _learn_recipes(self) -> list[Generation]:
        """Readers may have met generations that have ended since."""
        self.oracle.chunkers = {
            each["generation"]: each["chunker"] for each in self.laws.generations()
        }
        return self._chain().living

    def judge_reads(self) -> None:
        self._learn_recipes()
        seen = self._reader.snapshots
        self.findings.reads = self._reader.reads
        self.findings.note(self.oracle.half_reads(seen))
        self.findings.note(self.oracle.backwards(seen))
        embedders = {each["generation"]: each["embedder"] for each in self.laws.generations()}
        self.findings.note(self.oracle.models(seen, embedders))
        for error in self._reader.broken:
            self.broke("I12", f"a reader met {error}")
