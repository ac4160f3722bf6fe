"""The one wrapper around every provider: what it asks for, how often, when, and what it hands over."""

import random
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from threading import Barrier, Event, Lock
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_assets.errors import (
    EmbeddingError,
    ProviderBusyError,
    ProviderRefusalError,
    RejectedInputError,
    WrongAnswerError,
)
from rag_assets.indexing.requesting import (
    PROBE,
    UNUSABLE_VECTORS,
    Answer,
    NoRateLimits,
    Patience,
    PatientEmbedder,
    asked_wait_s,
    packed,
    problems_of,
)
from rag_assets.model import InputKind, RequestLimits, Spent
from rag_assets.ports import ProviderAnswer, Vectors
from rag_assets.testing import StoppedClock

Maybe: TypeAlias = "Vectors | None"
Trouble = EmbeddingError | Callable[[list[Vectors]], Sequence[Maybe]]


def vector_of(text: str) -> Vectors:
    return np.array([len(text), sum(map(ord, text)), 1], np.float32)


@dataclass(slots=True)
class Provider:
    """Fails as it is told, request by request; each text costs a token."""

    troubles: list[Trouble | None] = field(default_factory=list)
    rejects: Callable[[str], bool] = lambda text: False
    without_direction: Callable[[str], bool] = lambda text: False
    limits: RequestLimits = field(default_factory=lambda: RequestLimits(8, 10_000, 1000))
    identity: str = "fake:three/3/plain@1"
    dimensions: int = 3
    metered: bool = True
    asked: list[tuple[str, ...]] = field(default_factory=list)
    kinds: set[InputKind] = field(default_factory=set)
    paid: Counter[str] = field(default_factory=Counter)
    lock: Lock = field(default_factory=Lock)

    def request(self, texts: Sequence[str], kind: InputKind) -> ProviderAnswer:
        with self.lock:
            self.asked.append(tuple(texts))
            self.kinds.add(kind)
            trouble = self.troubles.pop(0) if self.troubles else None
            if isinstance(trouble, EmbeddingError):
                raise trouble
            if any(map(self.rejects, texts)):
                raise RejectedInputError("It answered 400.")
            self.paid.update(texts)
        vectors: Sequence[Maybe] = [
            np.zeros(3, np.float32) if self.without_direction(text) else vector_of(text)
            for text in texts
        ]
        if trouble is not None:
            vectors = trouble([vector for vector in vectors if vector is not None])
        return ProviderAnswer(vectors, len(texts))


@dataclass(slots=True)
class Rate(NoRateLimits):
    waits: list[float] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    given_back: list[int] = field(default_factory=list)
    slowed: list[float] = field(default_factory=list)

    def take(self, tokens: int) -> float:
        self.taken.append(tokens)
        return self.waits.pop(0) if self.waits else 0.0

    def settle(self, unused: int) -> None:
        self.given_back.append(unused)

    def throttled(self, wait_s: float) -> None:
        self.slowed.append(wait_s)


@dataclass(slots=True)
class Collected:
    vectors: dict[str, Vectors] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)

    def add_all(self, answers: Generator[Answer[str], None, None]) -> None:
        with closing(answers):
            for answer in answers:
                self.vectors |= dict(zip(answer.keys, answer.vectors, strict=True))
                self.rejected |= {each.key: each.error for each in answer.rejected}
                self.spent += answer.spent


def patient(provider: Provider, **how: object) -> PatientEmbedder:
    clock, chance = how.pop("clock", StoppedClock()), random.Random(7)
    return PatientEmbedder(provider, clock=clock, chance=chance, **how)  # type: ignore[arg-type]


def embedded(provider: Provider, texts: Sequence[str], **how: object) -> Collected:
    collected = Collected()
    collected.add_all(patient(provider, **how).answers([[(text, text) for text in texts]]))
    return collected


def assert_right(collected: Collected, texts: Sequence[str]) -> None:
    assert collected.vectors.keys() == set(texts)
    for text, vector in collected.vectors.items():
        np.testing.assert_array_equal(vector, vector_of(text))


TEXTS = [f"text {number}" for number in range(30)]

# --- requests ------------------------------------------------------------------------------------


def test_texts_go_in_requests_that_fit() -> None:
    provider = Provider()
    assert_right(embedded(provider, TEXTS), TEXTS)
    assert [len(request) for request in provider.asked] == [8, 8, 8, 6]


def test_a_request_never_has_more_tokens_than_it_may_whatever_the_script() -> None:
    limits = RequestLimits(texts=100, tokens=120, tokens_a_text=1000)
    for text in ("漢字" * 5, "ascii words", "🦓🦓"):
        for request in packed([[(number, text) for number in range(50)]], limits):
            assert sum(len(each.encode()) for _, each in request) <= 120


def test_several_requests_are_under_way_at_once_and_no_more_than_may() -> None:
    together, most, running = Barrier(3), [0], [0]

    @dataclass(slots=True)
    class Slow(Provider):
        def request(self, texts: Sequence[str], kind: InputKind) -> ProviderAnswer:
            with self.lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            together.wait(20)
            with self.lock:
                running[0] -= 1
            return Provider.request(self, texts, kind)

    provider = Slow(limits=RequestLimits(1, 1000, 1000))
    assert_right(embedded(provider, TEXTS[:9], concurrency=3), TEXTS[:9])
    assert most == [3]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_what_was_paid_and_is_not_kept_is_never_more_than_may_be_under_way(
    concurrency: int,
) -> None:
    provider = Provider(limits=RequestLimits(1, 1000, 1000))
    embedder = patient(provider, concurrency=concurrency)
    with closing(embedder.answers([[(text, text) for text in TEXTS]])) as answers:
        for kept, answer in enumerate(answers):
            assert len(answer.keys) == 1
            assert len(provider.asked) <= kept + concurrency


def test_closing_early_asks_nothing_more() -> None:
    provider = Provider(limits=RequestLimits(1, 1000, 1000))
    answers = patient(provider).answers([[(text, text) for text in TEXTS]])
    next(answers)
    answers.close()
    assert len(provider.asked) <= 2


def test_an_empty_batch_is_waited_out() -> None:
    clock = StoppedClock()
    batches: list[list[tuple[str, str]]] = [[], [("a", "a")], [], [], [], [("b", "b")]]
    with closing(patient(Provider(), clock=clock).answers(batches)) as answers:
        assert {key for answer in answers for key in answer.keys} == {"a", "b"}
    assert clock.pauses


def test_nothing_to_embed_asks_nothing() -> None:
    provider = Provider()
    assert patient(provider).embed_documents([]).shape == (0, 3)
    assert provider.asked == []


def test_documents_and_questions_are_told_apart() -> None:
    provider = Provider()
    embedder = patient(provider)
    np.testing.assert_array_equal(embedder.embed_question("Why?"), vector_of("Why?"))
    assert provider.kinds == {InputKind.QUESTION}
    np.testing.assert_array_equal(embedder.embed_documents(["a", "b"])[1], vector_of("b"))
    assert provider.kinds == set(InputKind)


# --- patience ------------------------------------------------------------------------------------


def busy(**headers: str) -> ProviderBusyError:
    return ProviderBusyError("It answered 429.", headers=headers, too_many=True)


def test_a_busy_provider_is_asked_again_ever_later() -> None:
    clock = StoppedClock()
    troubles: list[Trouble | None] = [ProviderBusyError("500.")] * 5
    provider = Provider(troubles)
    collected = embedded(provider, TEXTS[:3], clock=clock)
    assert_right(collected, TEXTS[:3])
    assert collected.spent == Spent(requests=6, texts=3, tokens=3)
    for number, pause in enumerate(clock.pauses):
        assert 0.25 * 2**number <= pause <= 0.5 * 2**number


def test_it_waits_as_long_as_the_provider_asks_or_a_little_longer() -> None:
    clock, rate = StoppedClock(), Rate()
    provider = Provider([busy(**{"retry-after": "20"})])
    assert_right(embedded(provider, TEXTS[:1], clock=clock, rate=rate), TEXTS[:1])
    [pause] = clock.pauses
    assert 20 <= pause <= 20.1
    assert rate.slowed == [pause]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": format_datetime(datetime(2026, 1, 1, 0, 0, 9, tzinfo=UTC), True)}, 9.0),
        ({"retry-after": format_datetime(datetime(2025, 1, 1, tzinfo=UTC), True)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_the_wait_that_is_asked_is_read_in_each_of_its_forms(
    headers: dict[str, str], expected: float | None
) -> None:
    assert asked_wait_s(busy(**headers), now=datetime(2026, 1, 1, tzinfo=UTC)) == expected


def test_patience_has_an_end_in_attempts() -> None:
    provider = Provider([ProviderBusyError("It answered 500.")] * 100)
    with pytest.raises(ProviderBusyError, match=r"500.*asked 4 times; what was paid for is kept"):
        embedded(provider, TEXTS[:1], patience=Patience(attempts=4))
    assert len(provider.asked) == 4


def test_patience_has_an_end_in_time_also_when_the_provider_asks_for_more() -> None:
    clock = StoppedClock()
    provider = Provider([busy(**{"retry-after": "3600"})])
    with pytest.raises(ProviderBusyError, match="asks to wait 3600 seconds"):
        embedded(provider, TEXTS[:1], clock=clock)
    assert clock.pauses == []


@pytest.mark.parametrize("count", [2, 4])
def test_a_wrong_answer_is_asked_for_again_and_what_it_cost_is_counted(count: int) -> None:
    def too_few_or_many(vectors: list[Vectors]) -> Sequence[Maybe]:
        return [*vectors, *vectors][:count]

    provider = Provider([too_few_or_many, WrongAnswerError("No JSON.", tokens=5)])
    collected = embedded(provider, TEXTS[:3])
    assert_right(collected, TEXTS[:3])
    assert collected.spent == Spent(requests=3, texts=3, tokens=3 + 5 + 3)


def test_a_refusal_stops_at_once_and_what_was_paid_is_handed_over_first() -> None:
    refusal = ProviderRefusalError("No money is left.")
    provider = Provider([None, None, refusal])
    collected = Collected()
    answers = patient(provider).answers([[(text, text) for text in TEXTS]])
    with pytest.raises(ProviderRefusalError):
        collected.add_all(answers)
    assert len(provider.asked) == 3
    assert collected.vectors.keys() == set(provider.paid)
    assert len(collected.vectors) == 16


def test_who_waits_to_ask_again_wakes_up_when_another_is_refused() -> None:
    waiting = Event()

    @dataclass(slots=True)
    class RealPauses(StoppedClock):
        def pause(self, seconds: float, *, unless: Event) -> None:
            waiting.set()
            assert unless.wait(20)

    @dataclass(slots=True)
    class Two(Provider):
        def request(self, texts: Sequence[str], kind: InputKind) -> ProviderAnswer:
            self.asked.append(tuple(texts))
            if texts[0] == TEXTS[0]:
                raise ProviderBusyError("500.")
            assert waiting.wait(20)
            raise ProviderRefusalError("No money is left.")

    provider = Two(limits=RequestLimits(1, 1000, 1000))
    with pytest.raises(ProviderRefusalError, match="No money"):
        embedded(provider, TEXTS[:2], concurrency=2, clock=RealPauses())
    assert len(provider.asked) == 2


# --- the rate ------------------------------------------------------------------------------------


def test_a_request_waits_for_its_turn_and_gives_back_what_it_did_not_need() -> None:
    clock, rate = StoppedClock(), Rate(waits=[12.0])
    embedded(Provider(), ["x" * 40], clock=clock, rate=rate)
    [pause] = clock.pauses
    assert 12 <= pause <= 12.6
    assert rate.taken == [10]
    assert rate.given_back == [9]


def test_waiting_for_a_turn_uses_up_no_patience() -> None:
    rate = Rate(waits=[5000.0])
    provider = Provider([ProviderBusyError("500.")])
    assert_right(embedded(provider, TEXTS[:1], rate=rate, patience=Patience(total_s=60)), TEXTS[:1])


def test_trouble_of_another_kind_slows_nobody_down() -> None:
    rate = Rate()
    embedded(Provider([ProviderBusyError("500.")]), TEXTS[:1], rate=rate)
    assert rate.slowed == []


# --- rejected texts ------------------------------------------------------------------------------


def test_a_rejected_batch_is_halved_down_to_the_text_to_blame() -> None:
    provider = Provider(
        rejects=lambda text: text == "text 300", limits=RequestLimits(512, 10**6, 1000)
    )
    texts = [f"text {number}" for number in range(512)]
    collected = embedded(provider, texts)
    assert collected.rejected == {"text 300": "RejectedInputError"}
    assert_right(collected, [text for text in texts if text != "text 300"])
    assert set(provider.paid.values()) == {1}
    assert len(provider.asked) <= 2 * 9 + 1


def test_a_single_text_that_is_rejected_is_believed_once_another_was_accepted() -> None:
    provider = Provider(rejects=lambda text: text == "bad")
    assert embedded(provider, ["bad"]).rejected == {"bad": "RejectedInputError"}
    assert provider.asked == [("bad",), (PROBE,)]


def test_where_everything_is_rejected_no_text_is_to_blame() -> None:
    provider = Provider(rejects=lambda text: True)
    with pytest.raises(ProviderRefusalError, match="Even a single word is rejected"):
        embedded(provider, TEXTS)
    assert len(provider.asked) < 12


def test_an_end_before_any_text_was_accepted_judges_nobody() -> None:
    provider = Provider(rejects=lambda text: True)
    with pytest.raises(ProviderRefusalError):
        embedded(provider, ["a", "b"])


def test_the_error_of_a_reader_names_the_text() -> None:
    provider = Provider(rejects=lambda text: text == "bad question")
    with pytest.raises(RejectedInputError, match="begins 'bad question'"):
        patient(provider).embed_question("bad question")


# --- vectors -------------------------------------------------------------------------------------

UNUSABLE = {
    "missing": None,
    "short": np.ones(2, np.float32),
    "long": np.ones(4, np.float32),
    "nested": np.ones((1, 3), np.float32),
    "zero": np.zeros(3, np.float32),
    "not a number": np.array([1, np.nan, 1], np.float32),
    "infinite": np.array([1, np.inf, 1], np.float32),
    "too large for the index": np.array([1, 70_000, 1], np.float32),
    "too small for the index": np.array([1e-9, 0, 0], np.float32),
}


@pytest.mark.parametrize("unusable", UNUSABLE.values(), ids=UNUSABLE)
def test_a_vector_that_cannot_be_is_asked_for_alone_and_the_others_are_kept(
    unusable: Maybe,
) -> None:
    def spoilt(vectors: list[Vectors]) -> Sequence[Maybe]:
        return [vectors[0], unusable, *vectors[2:]]

    provider = Provider([spoilt])
    assert_right(embedded(provider, TEXTS[:5]), TEXTS[:5])
    assert provider.asked == [tuple(TEXTS[:5]), (TEXTS[1],)]


def test_a_text_that_has_no_usable_vector_is_rejected_in_the_end() -> None:
    provider = Provider(without_direction=lambda text: text == TEXTS[2])
    collected = embedded(provider, TEXTS[:5])
    assert collected.rejected == {TEXTS[2]: "UnusableVector"}
    assert provider.paid[TEXTS[2]] == 1 + UNUSABLE_VECTORS
    assert set(collected.vectors) == set(TEXTS[:5]) - {TEXTS[2]}


def test_a_good_vector_has_no_problem() -> None:
    assert problems_of([np.array([0.1, 0, 0], np.float32)], 3) == [None]
    assert problems_of([], 3) == []


# --- all together --------------------------------------------------------------------------------


def spoil(place: int) -> Callable[[list[Vectors]], Sequence[Maybe]]:
    def spoilt(vectors: list[Vectors]) -> Sequence[Maybe]:
        at = place % len(vectors)
        return [*vectors[:at], None, *vectors[at + 1 :]]

    return spoilt


TROUBLES = st.lists(
    st.one_of(
        st.none(),
        st.just(ProviderBusyError("500.")),
        st.just(busy()),
        st.just(WrongAnswerError("No JSON.")),
        st.integers(0, 100).map(spoil),
        st.just(lambda vectors: vectors[1:]),
    ),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(
    troubles=TROUBLES,
    count=st.integers(0, 40),
    bad=st.sets(st.integers(0, 39), max_size=4),
    size=st.integers(1, 16),
    concurrency=st.integers(1, 4),
)
def test_every_text_ends_with_its_vector_or_is_one_that_must_be_rejected(
    troubles: list[Trouble | None], count: int, bad: set[int], size: int, concurrency: int
) -> None:
    texts = [f"text {number}" for number in range(count)]
    guilty = {f"text {number}" for number in bad if number < count}
    provider = Provider(
        troubles=list(troubles),
        rejects=lambda text: text in guilty,
        limits=RequestLimits(size, 10**6, 1000),
    )
    collected = embedded(
        provider, texts, concurrency=concurrency, patience=Patience(attempts=20, total_s=10**6)
    )
    assert set(collected.rejected) == guilty
    assert_right(collected, [text for text in texts if text not in guilty])
    assert collected.spent.requests == len(provider.asked)


@pytest.fixture(autouse=True)
def _no_time_passes() -> Iterator[None]:
    """A pause that is real would show."""
    before = datetime.now(UTC)
    yield
    assert datetime.now(UTC) - before < timedelta(seconds=60)
