"""Each text is given to the model once; what it gave is kept at once, and what it cost."""

import random
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from rag_assets.errors import (
    BudgetSpentError,
    ConfigurationError,
    ProviderBusyError,
    ProviderRefusalError,
    RejectedInputError,
)
from rag_assets.indexing.embedding import embed, embed_in_turns
from rag_assets.indexing.requesting import PatientEmbedder
from rag_assets.indexing.spending import Budget
from rag_assets.model import (
    Chunk,
    DeadLetter,
    DueText,
    Generation,
    GenerationState,
    IndexSettings,
    InputKind,
    Passage,
    Recipe,
    RequestLimits,
    RunIdentity,
    Spent,
    Stage,
)
from rag_assets.ports import ProviderAnswer, Vectors
from rag_assets.testing import HashEmbedder, LocalProvider, StoppedClock

RUN = RunIdentity("run-1", "code-1")
RECIPE = Recipe("auto@1", "markdown@1:20-60", HashEmbedder().identity, 64, IndexSettings())
GENERATION = Generation(1, "notes", GenerationState.BUILDING, RECIPE)
A_REQUEST = LocalProvider(HashEmbedder()).texts


def chunks(count: int) -> list[Chunk]:
    return [Chunk(n, f"Text {n}.", 0, 8, ("Heading",)) for n in range(count)]


@dataclass(slots=True)
class Store:
    """Documents `0.md`, `1.md`, … of one chunk each, some of them waiting for a vector."""

    waiting: list[Chunk]
    vectors: dict[bytes, Vectors] = field(default_factory=dict)
    commits: list[int] = field(default_factory=list)
    paid: Spent = field(default_factory=Spent)
    by_bucket: dict[int, Spent] = field(default_factory=dict)
    price: Decimal | None = None
    letters: list[DeadLetter] = field(default_factory=list)
    claimed: bool | None = None
    released: list[bytes] = field(default_factory=list)
    closed: bool = False

    def unembedded(
        self, generation: Generation, buckets: Sequence[int], *, at_once: int, claimed: bool = False
    ) -> Generator[Sequence[DueText], None, None]:
        self.claimed = claimed
        due = [DueText(chunk.ord % 3, chunk) for chunk in self.waiting]
        try:
            for start in range(0, len(due), at_once):
                yield due[start : start + at_once]
        finally:
            self.closed = True

    def add_embeddings(
        self,
        generation: Generation,
        text_hashes: Sequence[bytes],
        vectors: Vectors,
        run: RunIdentity,
        *,
        spent: Mapping[int, Spent] | None = None,
        price: Decimal | None = None,
    ) -> None:
        self.vectors |= dict(zip(text_hashes, vectors, strict=True))
        self.commits.append(len(text_hashes))
        self.paid = sum((spent or {}).values(), self.paid)
        for bucket, each in (spent or {}).items():
            self.by_bucket[bucket] = self.by_bucket.get(bucket, Spent()) + each
        self.price = price

    def let_go(self, generation: Generation, text_hashes: Sequence[bytes]) -> None:
        self.released += text_hashes

    def passages(self, generation: Generation, text_hashes: Sequence[bytes]) -> list[Passage]:
        return [
            Passage(f"{chunk.ord}.md", b"content", chunk.text_hash, 0, chunk.start, chunk.end)
            for chunk in self.waiting
            if chunk.text_hash in text_hashes
        ]

    def add_dead_letters(
        self, corpus: str, letters: Sequence[DeadLetter], run: RunIdentity
    ) -> list[str]:
        self.letters += letters
        return [letter.doc_id for letter in letters]


@dataclass(slots=True)
class Metered:
    """A provider that costs a token a text, and refuses some."""

    rejects: str = "nothing"
    answers: int = 1_000_000
    """How often before the money is gone."""
    identity: str = HashEmbedder().identity
    dimensions: int = 64
    limits: RequestLimits = field(
        default_factory=lambda: RequestLimits(texts=4, tokens=10_000, tokens_a_text=1000)
    )
    metered: bool = True

    def request(self, texts: Sequence[str], kind: InputKind) -> ProviderAnswer:
        if any(self.rejects in text for text in texts):
            raise RejectedInputError("It answered 400.")
        self.answers -= 1
        if self.answers < 0:
            raise ProviderRefusalError("No money is left.")
        return ProviderAnswer(list(HashEmbedder().embed_documents(texts)), len(texts))


@dataclass(slots=True)
class Slow:
    """A provider that takes ten seconds for each answer."""

    provider: Metered
    clock: StoppedClock
    identity: str = HashEmbedder().identity
    dimensions: int = 64
    metered: bool = True

    @property
    def limits(self) -> RequestLimits:
        return self.provider.limits

    def request(self, texts: Sequence[str], kind: InputKind) -> ProviderAnswer:
        self.clock.seconds += 10
        return self.provider.request(texts, kind)


def patient(provider: LocalProvider | Metered, price: Decimal | None = None) -> PatientEmbedder:
    return PatientEmbedder(provider, clock=StoppedClock(), chance=random.Random(7), price=price)


HASHES = patient(LocalProvider(HashEmbedder()))


def test_every_text_gets_the_vector_of_its_heading_and_passage() -> None:
    store = Store(chunks(3))
    done = embed(GENERATION, [0], embedder=HASHES, store=store, letters=store, run=RUN)
    assert (done.texts, done.rejected, done.usd) == (3, 0, None)
    for chunk in store.waiting:
        expected = HashEmbedder().embed_question(f"Heading\n{chunk.text}")
        np.testing.assert_array_equal(store.vectors[chunk.text_hash], expected)


def test_each_request_is_kept_at_once() -> None:
    store = Store(chunks(A_REQUEST + 5))
    embed(GENERATION, [0], embedder=HASHES, store=store, letters=store, run=RUN)
    assert store.commits == [A_REQUEST, 5]


def test_nothing_to_embed_asks_no_model() -> None:
    store = Store([])
    never_asked = patient(Metered(answers=0))
    done = embed(GENERATION, [0], embedder=never_asked, store=store, letters=store, run=RUN)
    assert (done.texts, done.spent) == (0, Spent())
    assert store.closed


def test_when_the_time_is_over_nothing_more_is_asked_and_what_was_paid_is_kept() -> None:
    store, clock, provider = Store(chunks(20)), StoppedClock(), Metered()
    slow = PatientEmbedder(Slow(provider, clock), clock=clock, chance=random.Random(7))
    how: dict[str, Any] = {"embedder": slow, "store": store, "letters": store, "run": RUN}

    done = embed(GENERATION, [0], **how, until=clock.now() + timedelta(seconds=15))

    assert done.stopped
    assert done.texts == len(store.vectors) == 8, "two requests of ten seconds were begun in time"
    assert store.closed
    store.waiting = [each for each in store.waiting if each.text_hash not in store.vectors]
    rest = embed(GENERATION, [0], **how, until=clock.now() + timedelta(hours=1))
    assert (rest.texts, rest.stopped) == (12, False)
    assert store.paid.texts == 20, "each was paid for once"


def test_a_long_build_lets_others_pass_between_its_turns() -> None:
    clock, opened = StoppedClock(), []

    @dataclass(slots=True)
    class Shared(Store):
        """What waits is read anew at each turn, as a database does."""

        def unembedded(self, *given: Any, **how: Any) -> Generator[Sequence[DueText], None, None]:
            opened.append(clock.seconds)
            left = [each for each in self.waiting if each.text_hash not in self.vectors]
            return Store(left).unembedded(*given, **how)

    store = Shared(chunks(20))
    slow = PatientEmbedder(Slow(Metered(), clock), clock=clock, chance=random.Random(7))
    how: dict[str, Any] = {"embedder": slow, "store": store, "letters": store, "run": RUN}

    one = embed_in_turns(GENERATION, [0], **how, wanted=lambda: False)
    assert (one.texts, one.stopped) == (8, True)
    rest = embed_in_turns(GENERATION, [0], **how)

    assert (rest.texts, rest.stopped) == (12, False)
    assert opened == [0, 20, 40], "a turn lasts twenty seconds, and begins with what is left"
    assert store.paid.texts == 20


def test_a_build_takes_no_turn_after_its_window() -> None:
    store, clock = Store(chunks(20)), StoppedClock()
    slow = PatientEmbedder(Slow(Metered(), clock), clock=clock, chance=random.Random(7))
    how: dict[str, Any] = {"embedder": slow, "store": store, "letters": store, "run": RUN}

    done = embed_in_turns(GENERATION, [0], **how, until=clock.now() + timedelta(seconds=5))

    assert (done.texts, done.stopped) == (4, True)
    assert not embed_in_turns(
        GENERATION, [0], **{**how, "store": Store([])}, until=clock.now()
    ).stopped


def test_while_there_is_no_time_nothing_is_asked() -> None:
    store, never_asked = Store(chunks(3)), patient(Metered(answers=0))
    how: dict[str, Any] = {"embedder": never_asked, "letters": store, "run": RUN}

    done = embed(GENERATION, [0], **how, store=store, until=never_asked.clock.now())
    nothing = embed(GENERATION, [0], **how, store=Store([]), until=never_asked.clock.now())

    assert (done.texts, done.stopped) == (0, True)
    assert not nothing.stopped, "nothing is left, so nothing waits"


def test_only_texts_that_cost_money_are_claimed() -> None:
    for embedder, claimed in ((HASHES, False), (patient(Metered()), True)):
        store = Store(chunks(1))
        embed(GENERATION, [0], embedder=embedder, store=store, letters=store, run=RUN)
        assert store.claimed is claimed


def test_what_was_paid_stands_beside_what_it_gave() -> None:
    store, price = Store(chunks(10)), Decimal("0.02")
    embedder = patient(Metered(), price)
    done = embed(GENERATION, [0], embedder=embedder, store=store, letters=store, run=RUN)
    assert done.spent == store.paid == Spent(requests=3, texts=10, tokens=10)
    assert store.price == price
    assert done.usd == Decimal("0.0000002")


def test_each_bucket_bears_its_share_and_nothing_is_lost_or_counted_twice() -> None:
    store = Store(chunks(10))
    embed(GENERATION, [0], embedder=patient(Metered()), store=store, letters=store, run=RUN)
    assert {bucket: each.texts for bucket, each in store.by_bucket.items()} == {0: 4, 1: 3, 2: 3}
    assert sum(store.by_bucket.values(), Spent()) == Spent(requests=3, texts=10, tokens=10)


def test_what_a_refused_request_took_is_in_the_costs_too() -> None:
    store = Store(chunks(10))
    refuses = patient(Metered(answers=1))
    with pytest.raises(ProviderRefusalError):
        embed(GENERATION, [0], embedder=refuses, store=store, letters=store, run=RUN)
    assert store.paid == Spent(requests=2, texts=4, tokens=4)


def test_no_more_is_asked_than_the_money_is_for_and_another_run_goes_on() -> None:
    store = Store(chunks(20))

    def limited(usd: str) -> PatientEmbedder:
        budget = Budget(Decimal(usd))
        how: dict[str, Any] = {"clock": StoppedClock(), "chance": random.Random(7)}
        price = Decimal(1_000_000)  # a token costs a dollar, and so does a text
        return PatientEmbedder(Metered(), **how, price=price, budget=budget, count=lambda _: 1)

    with pytest.raises(BudgetSpentError, match=r"Of the \$10.50 .* \$8.00 is; .* \$4.00"):
        embed(GENERATION, [0], embedder=limited("10.5"), store=store, letters=store, run=RUN)
    assert len(store.vectors) == store.paid.texts == 8
    store.waiting = [each for each in store.waiting if each.text_hash not in store.vectors]
    embed(GENERATION, [0], embedder=limited("12"), store=store, letters=store, run=RUN)
    assert store.paid.texts == len(store.vectors) == 20, "each was paid for once"


@dataclass(slots=True)
class Cut(Metered):
    """Does the work, bills it, and the connection breaks before the answer has come."""

    breaks: int = 1

    def request(self, texts: Sequence[str], kind: InputKind) -> ProviderAnswer:
        if self.breaks:
            self.breaks -= 1
            raise ProviderBusyError("The connection broke.", unanswered=True)
        return Metered.request(self, texts, kind)


def test_a_request_whose_answer_never_came_counts_against_the_limit() -> None:
    store, budget = Store(chunks(8)), Budget(Decimal(8))
    how: dict[str, Any] = {"clock": StoppedClock(), "chance": random.Random(7), "budget": budget}
    price = Decimal(1_000_000)
    cut = PatientEmbedder(Cut(), **how, price=price, count=lambda _: 1)
    with pytest.raises(
        BudgetSpentError, match=r"\$8.00 is, of which \$4.00 for requests that were"
    ):
        embed(GENERATION, [0], embedder=cut, store=store, letters=store, run=RUN)
    assert (store.paid.texts, budget.spent) == (4, Decimal(8)), "four may be billed in vain"
    assert budget.unanswered == 4
    assert store.paid.requests == 2


def test_without_a_price_no_limit_is_kept_and_so_nothing_is_asked() -> None:
    store = Store(chunks(4))
    how: dict[str, Any] = {"clock": StoppedClock(), "chance": random.Random(7)}
    unknown = PatientEmbedder(Metered(answers=0), **how, budget=Budget(Decimal(5)))
    with pytest.raises(ConfigurationError, match="RAG_ASSETS_PRICES"):
        embed(GENERATION, [0], embedder=unknown, store=store, letters=store, run=RUN)


def test_a_rejected_text_makes_a_dead_letter_of_its_document_and_stops_no_other() -> None:
    store = Store(chunks(10))
    rejects = patient(Metered(rejects="Text 6."))
    done = embed(GENERATION, [0], embedder=rejects, store=store, letters=store, run=RUN)
    assert (done.texts, done.rejected, done.dead_letters) == (9, 1, 1)
    [letter] = store.letters
    assert (letter.doc_id, letter.stage, letter.subject) == ("6.md", Stage.EMBED, RECIPE.embedder)
    assert (letter.content_hash, letter.error) == (b"content", "RejectedInputError")
    assert "characters 0 to 8 (chunk 0)" in letter.reason
    assert "Text 6" not in letter.reason
    assert store.released == [store.waiting[6].text_hash]


def test_a_provider_that_stops_loses_nothing_that_was_paid() -> None:
    store = Store(chunks(20))
    stops = patient(Metered(answers=3))
    with pytest.raises(ProviderRefusalError, match="No money"):
        embed(GENERATION, [0], embedder=stops, store=store, letters=store, run=RUN)
    assert len(store.vectors) == store.paid.texts == 12
    assert store.closed
