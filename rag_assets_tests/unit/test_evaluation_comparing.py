"""Two generations held against one another, and the gate between them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_assets.errors import NotReadyError
from rag_assets.evaluation.comparing import (
    changed_questions,
    compared,
    detectable,
    interval,
    judged,
)
from rag_assets.model import EvaluationSettings, QuestionScore, Scores

SETTINGS = EvaluationSettings(tolerance=0.02)


def scores(*values: float, golden_set: str = "golden@1", generation: int = 1) -> Scores:
    return Scores(
        generation,
        golden_set,
        tuple(QuestionScore(f"q{n}", {"ndcg@10": value}) for n, value in enumerate(values)),
    )


def test_the_difference_is_paired_question_by_question() -> None:
    [difference] = compared(scores(0.5, 0.5, 0.5, 1.0), scores(1.0, 0.25, 0.5, 1.0))
    assert difference.mean == pytest.approx(0.0625)
    assert (difference.before, difference.after) == (0.625, 0.6875)
    assert (difference.better, difference.worse) == (("q0",), ("q1",))
    assert difference.low < difference.mean < difference.high


def test_only_questions_and_metrics_that_both_have_are_compared() -> None:
    before = Scores(1, "s", (QuestionScore("a", {"mrr@10": 1.0, "old": 1.0}),))
    after = Scores(
        2, "s", (QuestionScore("a", {"mrr@10": 0.5, "new": 1.0}), QuestionScore("b", {"mrr@10": 0}))
    )
    [difference] = compared(before, after)
    assert (difference.metric, difference.mean) == ("mrr@10", -0.5)


def test_metrics_without_a_common_question_are_left_out() -> None:
    before = Scores(1, "s", (QuestionScore("a", {"mrr@10": 1.0}),))
    after = Scores(2, "s", (QuestionScore("b", {"mrr@10": 1.0}),))
    assert compared(before, after) == ()


def test_scores_of_two_golden_sets_are_not_compared() -> None:
    with pytest.raises(NotReadyError, match=r"Generation 1 .* golden@1, generation 2 .* golden@2"):
        compared(scores(1), scores(1, golden_set="golden@2", generation=2))


def test_the_first_generation_passes_with_nothing_to_compare_with() -> None:
    verdict = judged(scores(0.1), before=None, settings=SETTINGS)
    assert verdict.accepted
    assert "no published generation" in verdict.reasons[0]


def test_documents_too_short_for_questions_pass_unless_a_floor_is_asked_for() -> None:
    nothing = scores(golden_set="generated@1")
    verdict = judged(nothing, before=nothing, settings=SETTINGS)
    assert verdict.accepted
    assert verdict.reasons == (
        "Nothing was scored: the documents are too few or short to make questions of them.",
    )
    floors = EvaluationSettings(floors={"mrr@10": 0.1})
    assert not judged(nothing, before=None, settings=floors).accepted


def test_a_golden_set_that_measures_nothing_lets_nothing_pass() -> None:
    verdict = judged(scores(), before=scores(), settings=SETTINGS)
    assert not verdict.accepted
    assert "No question of the golden set golden@1 was scored" in verdict.reasons[0]
    assert not judged(scores(), before=None, settings=SETTINGS).accepted


def test_a_golden_set_without_a_question_for_the_gate_lets_nothing_pass() -> None:
    refusals = Scores(1, "golden@1", (QuestionScore("a", {"refusal_correct": 1.0}),))
    for before in (None, refusals, scores(0.5)):
        verdict = judged(refusals, before=before, settings=SETTINGS)
        assert not verdict.accepted
        assert "measures what the gate goes by: ndcg@10" in verdict.reasons[0]
    nothing_asked = EvaluationSettings(gate=())
    assert judged(refusals, before=refusals, settings=nothing_asked).accepted


def test_equal_scores_pass_and_the_reason_gives_the_figures() -> None:
    verdict = judged(scores(0.4, 0.6), before=scores(0.4, 0.6), settings=SETTINGS)
    assert verdict.accepted
    [reason] = verdict.reasons
    assert reason.startswith("ndcg@10 went from 0.500 to 0.500 (+0.000, 95 % interval +0.000 to")
    assert reason.endswith("0 better, 0 worse).")


def test_a_loss_beyond_the_tolerance_is_refused() -> None:
    verdict = judged(scores(0.2, 1.0), before=scores(0.9, 0.4), settings=SETTINGS)
    assert not verdict.accepted
    assert "greater loss than the tolerance of 0.020" in verdict.reasons[0]


def test_a_loss_within_the_tolerance_that_may_be_chance_passes() -> None:
    before, after = scores(*[0.5] * 10), scores(0.4, *[0.5] * 9)
    assert judged(after, before=before, settings=SETTINGS).accepted


def test_a_small_loss_of_every_question_is_sure_and_refused() -> None:
    before, after = scores(*[0.5] * 10), scores(*[0.49] * 10)
    verdict = judged(after, before=before, settings=SETTINGS)
    assert not verdict.accepted
    assert "small, but sure" in verdict.reasons[0]


def test_where_every_loss_is_tolerated_a_sure_one_is_too() -> None:
    everything = EvaluationSettings(tolerance=1.0)
    assert judged(scores(*[0.0] * 9), before=scores(*[1.0] * 9), settings=everything).accepted


def test_a_loss_of_exactly_the_tolerance_is_no_greater_loss() -> None:
    before, after = scores(0.5, 0.5, 0.5), scores(0.44, 0.5, 0.5)
    assert judged(after, before=before, settings=EvaluationSettings(tolerance=0.02)).accepted


def test_a_broken_floor_is_refused_even_without_anything_before() -> None:
    settings = EvaluationSettings(floors={"ndcg@10": 0.6})
    verdict = judged(scores(0.5), before=None, settings=settings)
    assert not verdict.accepted
    assert verdict.reasons == ("ndcg@10 is 0.500; the floor is 0.600.",)


def test_a_floor_that_is_just_reached_holds() -> None:
    settings = EvaluationSettings(floors={"ndcg@10": 0.3})
    assert judged(scores(0.1, 0.2, 0.6), before=None, settings=settings).accepted


def test_a_floor_for_something_unknown_is_refused_with_the_known_names() -> None:
    settings = EvaluationSettings(floors={"ndgc@10": 0.3})
    verdict = judged(scores(0.5), before=None, settings=settings)
    assert not verdict.accepted
    assert "ndgc@10" in verdict.reasons[0]
    assert "known are ndcg@10" in verdict.reasons[0]


def test_all_reasons_against_are_given() -> None:
    settings = EvaluationSettings(tolerance=0.02, floors={"ndcg@10": 0.6})
    verdict = judged(scores(0.1), before=scores(0.9), settings=settings)
    assert len(verdict.reasons) == 2


def both(ndcg: float, span: float) -> Scores:
    metrics = {"ndcg@10": ndcg, "answer_span_hit@5": span, "mrr@10": ndcg}
    return Scores(1, "golden@1", tuple(QuestionScore(f"q{n}", metrics) for n in range(40)))


def test_a_loss_in_one_metric_of_the_gate_is_refused_though_another_gains() -> None:
    verdict = judged(both(0.9, 0.5), before=both(0.5, 0.9), settings=SETTINGS)
    assert not verdict.accepted
    assert [reason.split()[0] for reason in verdict.reasons] == ["answer_span_hit@5"]


def test_which_metrics_refuse_is_a_setting() -> None:
    only = EvaluationSettings(gate=("ndcg@10",))
    assert judged(both(0.9, 0.5), before=both(0.5, 0.9), settings=only).accepted
    other = EvaluationSettings(gate=("precision@5",))
    verdict = judged(both(0.9, 0.5), before=both(0.5, 0.9), settings=other)
    assert not verdict.accepted
    assert "measures what the gate goes by: precision@5" in verdict.reasons[0]


def test_too_few_questions_and_what_they_cannot_show_are_warned_of() -> None:
    few, blind = judged(scores(0.5, 0.5), before=scores(0.5, 0.5), settings=SETTINGS).warnings
    assert few.startswith("Only 2 questions were compared; with fewer than 30")
    assert blind.startswith("Only greater differences than these show surely on 2 questions")
    many = scores(*[0.5] * 400)
    assert judged(many, before=many, settings=SETTINGS).warnings == ()


def test_more_questions_show_smaller_differences() -> None:
    changes = [0.1, -0.1, 0.2, 0.0]
    assert detectable(changes * 4) < detectable(changes) < detectable(changes[:1]) == 1.0


def test_a_loss_must_be_surer_where_that_is_asked_for() -> None:
    before, after = scores(*[0.5] * 10), scores(*[0.49] * 4, *[0.5] * 6)
    sure = EvaluationSettings(confidence=0.999)
    assert not judged(after, before=before, settings=SETTINGS).accepted
    assert judged(after, before=before, settings=sure).accepted


def test_changed_questions_come_with_their_words_the_greatest_losses_first() -> None:
    before, after = scores(0.5, 0.5, 0.5, 0.5), scores(0.9, 0.4, 0.0, 0.5)
    words = {"q2": "What covers the roof?"}
    found = changed_questions(before, after, words, by=["ndcg@10"])
    assert [each.question_id for each in found] == ["q2", "q1", "q0"]
    assert [each.question for each in found] == ["What covers the roof?", "", ""]
    assert found[0].change("ndcg@10") == -0.5
    assert found[0].change("unknown") == 0.0


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_the_interval_lies_within_the_changes_and_repeats(changes: list[float]) -> None:
    low, high = interval(changes)
    assert min(changes) - 1e-9 <= low <= high <= max(changes) + 1e-9
    assert interval(changes) == (low, high)
