"""What a search scores, with searches whose score can be worked out by hand."""

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden_set import END_OF_DOCUMENT
from rag_assets.evaluation.scoring import METRICS, finds, score
from rag_assets.model import Answer, Citation, GoldenQuestion, Hit, SourceSpan
from rag_assets.testing import StoppedClock

SPAN = SourceSpan("a.md", 100, 200)


def hit(start: int, end: int, doc_id: str = "a.md") -> Hit:
    return Hit(1, doc_id, start, "", "", (), "x", start, end, b"", "run", 1.0, None, None)


MISS = hit(0, 50)


def answered(*places: tuple[int, int]) -> Answer:
    citations = tuple(
        Citation(n, 1, "a.md", 0, "", "", (), start, end, "x", b"", "run")
        for n, (start, end) in enumerate(places)
    )
    return Answer("", "handbook", 1, citations, (), 1.0)


def scored(
    hits: Sequence[Hit], *spans: SourceSpan, answer: Answer | None = None
) -> dict[str, float]:
    result = score(
        [GoldenQuestion("q", "?", spans)],
        search=lambda _: hits,
        answer=lambda _: answer or answered(),
        nearest=lambda _: hits,
        generation=1,
        golden_set="set",
    )
    return dict(result.questions[0].metrics)


def test_the_right_chunk_in_the_first_place_scores_one() -> None:
    metrics = scored([hit(50, 250)], SPAN, answer=answered((100, 200)))
    assert metrics == dict.fromkeys(METRICS, 1.0) | {"precision@5": 0.2}


def test_nothing_found_scores_nothing() -> None:
    assert scored([], SPAN) == dict.fromkeys(METRICS, 0.0)


def test_the_third_place_scores_by_its_rank() -> None:
    metrics = scored([MISS, MISS, hit(50, 250)], SPAN)
    assert metrics["mrr@10"] == pytest.approx(1 / 3)
    assert metrics["ndcg@10"] == pytest.approx(1 / math.log2(4))
    assert metrics["recall@5"] == 1
    assert metrics["answer_span_hit@1"] == 0
    assert metrics["answer_span_hit@5"] == 1


def test_the_seventh_place_is_found_in_ten_but_not_in_five() -> None:
    metrics = scored([*[MISS] * 6, hit(50, 250)], SPAN)
    assert (metrics["recall@5"], metrics["recall@10"]) == (0, 1)
    assert metrics["answer_span_hit@5"] == 0


def test_of_two_places_one_is_half() -> None:
    metrics = scored([hit(50, 250)], SPAN, SourceSpan("b.md", 0, 9))
    assert metrics["recall@10"] == 0.5
    assert metrics["mrr@10"] == 1


def test_precision_is_the_share_of_the_first_five_that_bring_something_wanted() -> None:
    other = SourceSpan("b.md", 0, 9)
    hits = [hit(50, 250), hit(60, 260), hit(0, 50, "b.md"), *[MISS] * 6]
    assert scored(hits, SPAN, other)["precision@5"] == pytest.approx(2 / 5)
    assert scored([*[MISS] * 5, hit(50, 250)], SPAN)["precision@5"] == 0


def test_a_better_grade_is_worth_more_the_higher_it_stands() -> None:
    good, best = SourceSpan("a.md", 100, 200, 1), SourceSpan("b.md", 0, 9, 3)
    in_order = scored([hit(0, 50, "b.md"), hit(50, 250)], good, best)
    other_way = scored([hit(50, 250), hit(0, 50, "b.md")], good, best)
    assert in_order["ndcg@10"] == pytest.approx(1)
    ideal = 3 + 1 / math.log2(3)
    assert other_way["ndcg@10"] == pytest.approx((1 + 3 / math.log2(3)) / ideal)
    assert other_way["recall@5"] == other_way["mrr@10"] == 1


def test_two_chunks_with_the_same_span_count_once() -> None:
    other = SourceSpan("b.md", 0, 9)
    metrics = scored([hit(50, 250), hit(60, 260)], SPAN, other)
    assert metrics["recall@10"] == 0.5


@pytest.mark.parametrize(
    ("start", "end", "finds_it"),
    [(151, 300, True), (152, 300, False), (0, 149, True), (0, 148, False), (120, 180, True)],
)
def test_half_of_a_span_is_enough_to_find_it_and_not_to_hold_it(
    start: int, end: int, finds_it: bool
) -> None:
    metrics = scored([hit(start, end)], SPAN)
    assert metrics["recall@10"] == finds_it
    assert metrics["answer_span_hit@1"] == 0


def test_the_same_characters_of_another_document_are_a_miss() -> None:
    assert scored([hit(50, 250, "b.md")], SPAN)["recall@10"] == 0


def test_any_chunk_of_a_document_finds_a_label_of_the_whole() -> None:
    assert scored([hit(5000, 6000)], SourceSpan("a.md", 0, END_OF_DOCUMENT))["recall@10"] == 1


@pytest.mark.parametrize(
    ("place", "right"),
    [((100, 200), 1), ((120, 140), 1), ((0, 150), 1), ((0, 149), 0), ((210, 220), 0)],
)
def test_a_citation_is_right_when_it_shares_half_of_the_shorter_text(
    place: tuple[int, int], right: float
) -> None:
    assert scored([], SPAN, answer=answered(place))["citation_hit"] == right


def test_one_right_citation_is_enough() -> None:
    assert scored([], SPAN, answer=answered((0, 9), (100, 200)))["citation_hit"] == 1


def test_a_question_without_answer_scores_by_its_refusal_alone() -> None:
    assert scored([MISS]) == {"refusal_correct": 1.0}
    assert scored([MISS], answer=answered((0, 9))) == {"refusal_correct": 0.0}


def test_a_refused_question_that_has_an_answer_is_a_wrong_refusal() -> None:
    assert scored([hit(50, 250)], SPAN)["refusal_correct"] == 0


def test_questions_without_answer_are_not_searched_for() -> None:
    def search(_: str) -> Sequence[Hit]:
        raise AssertionError("searched")

    questions = [GoldenQuestion("q", "?", ())]
    result = score(
        questions, search=search, answer=lambda _: answered(), generation=3, golden_set="set"
    )
    assert result.means == {"refusal_correct": 1.0}
    assert (result.generation, result.golden_set) == (3, "set")


def test_each_question_is_scored_by_its_own_hits() -> None:
    hits = {"good": [hit(50, 250)], "bad": [MISS]}
    search: Callable[[str], Sequence[Hit]] = hits.__getitem__
    result = score(
        [GoldenQuestion("1", "bad", (SPAN,)), GoldenQuestion("2", "good", (SPAN,))],
        search=search,
        answer=lambda _: answered(),
        generation=1,
        golden_set="set",
    )
    assert [each.metrics["ndcg@10"] for each in result.questions] == [0, 1]
    assert result.means["ndcg@10"] == 0.5


class Seconds(StoppedClock):
    """Each look at it is later than the one before, by one second more."""

    looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return self.looks**2


def test_each_search_is_timed_and_time_makes_no_score_another() -> None:
    questions = [GoldenQuestion(name, "?", (SPAN,)) for name in ("a", "b")]
    timed, untimed = (
        score(
            [*questions, GoldenQuestion("c", "?", ())],
            search=lambda _: (),
            answer=lambda _: answered(),
            generation=1,
            golden_set="set",
            clock=clock,
        )
        for clock in (Seconds(), None)
    )
    assert [each.search_ms for each in timed.questions] == [3000, 7000, None]
    assert (timed.search_ms(0.5), timed.search_ms(0.95)) == (3000, 7000)
    assert untimed.search_ms(0.5) is None
    assert timed == untimed
    assert not any("ms" in metric for metric in timed.means)


def test_an_empty_golden_set_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no questions"):
        score(
            [], search=lambda _: (), answer=lambda _: answered(), generation=1, golden_set="empty"
        )


@settings(deadline=None)
@given(st.lists(st.integers(0, 400), min_size=2, max_size=12, unique=True).map(sorted))
def test_cutting_a_document_anywhere_leaves_some_chunk_that_finds_a_short_span(
    cuts: list[int],
) -> None:
    """With one cut through it, one side has at least half."""
    edges = [0, *[cut for cut in cuts if not SPAN.start < cut < SPAN.end][:6], 150, 500]
    chunks = [hit(a, b) for a, b in zip(sorted(edges), sorted(edges)[1:], strict=False) if a < b]
    assert any(finds(chunk, SPAN) for chunk in chunks)
