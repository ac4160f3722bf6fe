"""Whether what is published still scores as it did, and what a fall leads to."""

from datetime import UTC, datetime, timedelta

import pytest

from rag_assets.evaluation.drifting import Drift, drifted, rebuild_is_due
from rag_assets.model import EvaluationSettings, QuestionScore, ScoredPoint, Scores

SETTINGS = EvaluationSettings(drift_tolerance=0.1)
SINCE = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def scores(*values: float, metric: str = "ndcg@10", golden_set: str = "golden@1") -> Scores:
    questions = (QuestionScore(f"q{n}", {metric: value}) for n, value in enumerate(values))
    return Scores(1, golden_set, tuple(questions))


def drift(before: Scores, after: Scores) -> Drift:
    words = {"q0": "What covers the roof?"}
    return drifted(before, after, since=SINCE, words=words, settings=SETTINGS)


def test_a_fall_beyond_the_tolerance_is_drift_and_names_the_questions() -> None:
    found = drift(scores(1, 1, 1), scores(0, 1, 1))
    assert [each.metric for each in found.fallen] == ["ndcg@10"]
    assert [each.question for each in found.changed] == ["What covers the roof?"]
    assert "Generation 1 has fallen since 2026-03-01 00:00 UTC" in found.sentence


def test_a_fall_of_many_questions_is_sure_and_of_one_may_be_chance() -> None:
    many, one = drift(scores(*[1] * 9), scores(*[0] * 9)), drift(scores(1, 1, 1), scores(0, 1, 1))
    assert (many.sure, one.sure) == (True, False)
    assert one.sentence.endswith("It may be chance.")
    assert "chance" not in many.sentence


@pytest.mark.parametrize("after", [(1, 1, 1), (0.9, 0.9, 0.9), (1, 1, 0.7)], ids=str)
def test_what_stays_within_the_tolerance_is_no_drift(after: tuple[float, ...]) -> None:
    found = drift(scores(1, 1, 1), scores(*after))
    assert not found.fallen
    assert not found.sure


def test_questions_that_are_gone_do_not_count() -> None:
    assert not drift(scores(1, 1, 1, 1), scores(1, 1)).fallen


def test_a_metric_that_the_gate_does_not_go_by_does_not_count() -> None:
    assert drift(scores(1, metric="mrr@10"), scores(0, metric="mrr@10")).differences == ()


# --- one build a fall ----------------------------------------------------------------------------


def point(days: int, value: float, golden_set: str = "golden@1") -> ScoredPoint:
    return ScoredPoint(1, golden_set, "c", SINCE + days * DAY, {"ndcg@10": value})


def due(builds: list[int], points: list[ScoredPoint]) -> bool:
    moments = [SINCE + days * DAY for days in builds]
    return rebuild_is_due(moments, points, scores(1, 1), SETTINGS)


def test_a_first_fall_leads_to_a_build() -> None:
    assert due([], [point(1, 0.5)])


def test_a_build_that_did_not_help_is_not_made_again() -> None:
    assert not due([2], [point(1, 0.5), point(3, 0.5), point(4, 0.5)])


def test_a_fall_after_the_scores_had_come_back_is_another_one() -> None:
    assert due([2], [point(1, 0.5), point(3, 0.95), point(4, 0.5)])


def test_scores_on_other_questions_do_not_say_that_it_came_back() -> None:
    assert not due([2], [point(3, 0.95, golden_set="golden@2"), point(4, 0.5)])
