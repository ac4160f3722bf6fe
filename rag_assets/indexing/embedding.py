"""The step behind `embeddings`: gives every text its vector, once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from rag_assets.indexing.requesting import PatientEmbedder, Rejected
from rag_assets.indexing.spending import by_bucket, usd_of
from rag_assets.model import DeadLetter, DueText, Generation, Passage, RunIdentity, Spent, Stage
from rag_assets.ports import Clock, DeadLetterStore, EmbeddingStore

Key = tuple[int, bytes]
"""The bucket that a text is for, and its hash."""

TURN = timedelta(seconds=20)
"""So long a build keeps others out of its buckets."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a run asked of a model, and what it kept."""

    texts: int = 0
    """Vectors that were kept."""
    rejected: int = 0
    """Texts that the model gives no vector."""
    dead_letters: int = 0
    """Documents that have such a text."""
    spent: Spent = field(default_factory=Spent)
    usd: Decimal | None = None
    """What it cost, where the price is known."""
    stopped: bool = False
    """The time was over before the texts were."""

    def __add__(self, other: "Embedded") -> "Embedded":
        known = [usd for usd in (self.usd, other.usd) if usd is not None]
        return Embedded(
            texts=self.texts + other.texts,
            rejected=self.rejected + other.rejected,
            dead_letters=self.dead_letters + other.dead_letters,
            spent=self.spent + other.spent,
            usd=sum(known, Decimal()) if known else None,
            stopped=self.stopped or other.stopped,
        )


def embed(
    generation: Generation,
    buckets: Sequence[int],
    *,
    embedder: PatientEmbedder,
    store: EmbeddingStore,
    letters: DeadLetterStore,
    run: RunIdentity,
    until: datetime | None = None,
    at_most: timedelta | None = None,
) -> Embedded:
    """Embeds texts that have no vector; what a request gave is committed as it comes.

    A text that the model rejects makes dead letters of its documents, and stops no other. What
    stops the run (no quota, a refused key, a model that stays busy) is raised when all that was
    paid for is kept. From `until` on nothing more is asked, nor when it has lasted `at_most` since
    the first text; the rest is left to a later run.
    """
    waiting = store.unembedded(
        generation, buckets, at_once=embedder.texts_a_request, claimed=embedder.metered
    )
    done, batches = Embedded(), _InTime(waiting, embedder.clock, until, at_most)
    with closing(waiting), closing(embedder.answers(map(_texts, batches))) as answers:
        for answer in answers:
            paid = embedder.metered and answer.spent != Spent()
            spent = by_bucket(answer.spent, answer.asked) if paid else None
            if answer.keys or spent:
                keep = (generation, _hashes(answer.keys), answer.vectors, run)
                store.add_embeddings(*keep, spent=spent, price=embedder.price)
            if answer.rejected:
                dead = _dead_letters(answer.rejected, generation, embedder, store=store, run=run)
                buried = letters.add_dead_letters(generation.corpus, dead, run)
                store.let_go(generation, _hashes(each.key for each in answer.rejected))
                done += Embedded(rejected=len(answer.rejected), dead_letters=len(buried))
            done += Embedded(
                texts=len(answer.keys),
                spent=answer.spent,
                usd=_usd(answer.spent, embedder.price),
            )
    return done + Embedded(stopped=batches.stopped)


def embed_in_turns(
    generation: Generation,
    buckets: Sequence[int],
    *,
    embedder: PatientEmbedder,
    store: EmbeddingStore,
    letters: DeadLetterStore,
    run: RunIdentity,
    until: datetime | None = None,
    wanted: Callable[[], bool] = lambda: True,
    turn: timedelta = TURN,
) -> Embedded:
    """The same for a build that may take hours: runs with changed documents pass between its turns.

    While a bucket is being embedded, no other run can embed anything in it. After each turn it is
    asked whether the build is still wanted.
    """
    done = Embedded()
    while True:
        given = embed(
            generation,
            buckets,
            embedder=embedder,
            store=store,
            letters=letters,
            run=run,
            until=until,
            at_most=turn,
        )
        done += replace(given, stopped=False)
        is_over = until is not None and embedder.clock.now() >= until
        if not given.stopped or is_over or not wanted():
            return replace(done, stopped=given.stopped)


@dataclass(slots=True)
class _InTime:
    """Batches, as long as there is time; an iterator of which one knows how it ended."""

    batches: Iterator[Sequence[DueText]]
    clock: Clock
    until: datetime | None
    at_most: timedelta | None
    stopped: bool = False

    def __iter__(self) -> Iterator[Sequence[DueText]]:
        ends: datetime | None = None
        for batch in self.batches:
            now = self.clock.now()
            ends = ends or self._ends(now)
            if batch and ends is not None and now >= ends:
                self.stopped = True
                return
            yield batch

    def _ends(self, now: datetime) -> datetime | None:
        """Counted from the first batch on: waiting for others takes nothing from a turn."""
        if self.at_most is None:
            return self.until
        turn = now + self.at_most
        return turn if self.until is None else min(self.until, turn)


def _texts(due: Sequence[DueText]) -> list[tuple[Key, str]]:
    return [((each.bucket, each.text_hash), each.chunk.embedded_text) for each in due]


def _hashes(keys: Iterable[Key]) -> list[bytes]:
    return [text_hash for _, text_hash in keys]


def _usd(spent: Spent, price: Decimal | None) -> Decimal | None:
    return None if price is None else usd_of(spent.tokens, price)


def _dead_letters(
    rejected: Sequence[Rejected[Key]],
    generation: Generation,
    embedder: PatientEmbedder,
    *,
    store: EmbeddingStore,
    run: RunIdentity,
) -> list[DeadLetter]:
    """One for each document that has one of these texts, or several."""
    refused = {each.key[1]: each for each in rejected}
    dead = {
        passage.doc_id: _letter(passage, refused[passage.text_hash], embedder, run)
        for passage in store.passages(generation, list(refused))
    }
    return list(dead.values())


def _letter(
    passage: Passage, rejected: Rejected[Key], embedder: PatientEmbedder, run: RunIdentity
) -> DeadLetter:
    where = f"characters {passage.start} to {passage.end} (chunk {passage.ord})"
    return DeadLetter(
        doc_id=passage.doc_id,
        stage=Stage.EMBED,
        subject=embedder.identity,
        error=rejected.error,
        reason=f"{embedder.identity} gives {where} no vector: {rejected.reason}",
        code_version=run.code_version,
        content_hash=passage.content_hash,
    )
