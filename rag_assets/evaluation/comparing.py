"""Two generations on the same questions: what changed, how surely, and whether it may pass."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rag_assets.errors import NotReadyError
from rag_assets.model import EvaluationSettings, Scores

GATE = "ndcg@10"
RESAMPLES = 5_000
RESAMPLES_AT_ONCE = 100
CONFIDENCE = 0.95
NOTICEABLE = 1e-9


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric, after minus before, over the questions that both have it for."""

    metric: str
    before: float
    after: float
    low: float
    high: float
    better: tuple[str, ...]
    worse: tuple[str, ...]

    @property
    def mean(self) -> float:
        return self.after - self.before

    def __str__(self) -> str:
        return (
            f"{self.metric} went from {self.before:.3f} to {self.after:.3f}"
            f" ({self.mean:+.3f}, 95 % interval {self.low:+.3f} to {self.high:+.3f};"
            f" {len(self.better)} better, {len(self.worse)} worse)"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a generation may be published, and why, in sentences."""

    accepted: bool
    reasons: tuple[str, ...]
    differences: tuple[Difference, ...] = ()


def judged(after: Scores, *, before: Scores | None, settings: EvaluationSettings) -> Verdict:
    """Refused when it is worse by more than the tolerance, surely worse, or below a floor."""
    differences = compared(before, after) if before else ()
    against = [*_below_floors(after, settings), *_losses(differences, settings)]
    for_it = [f"{each}." for each in differences if each.metric == GATE]
    return Verdict(not against, tuple(against or for_it or [_unjudged(after)]), differences)


def _unjudged(scores: Scores) -> str:
    if not scores.questions:
        return "Nothing was scored: the documents are too few or short to make questions of them."
    return "There is no published generation besides it to compare with."


def compared(before: Scores, after: Scores) -> tuple[Difference, ...]:
    """Paired by question, so that hard and easy questions cancel out."""
    if before.golden_set != after.golden_set:
        raise NotReadyError(
            f"Generation {before.generation} was scored on {before.golden_set}, generation"
            f" {after.generation} on {after.golden_set}. Score both on the same golden set."
        )
    pairs = [(metric, _values(metric, before), _values(metric, after)) for metric in after.means]
    return tuple(_difference(metric, old, new) for metric, old, new in pairs if old.keys() & new)


def _difference(metric: str, old: Mapping[str, float], new: Mapping[str, float]) -> Difference:
    ids = [question_id for question_id in new if question_id in old]
    changes = [new[question_id] - old[question_id] for question_id in ids]
    low, high = interval(changes)
    return Difference(
        metric=metric,
        before=sum(old[question_id] for question_id in ids) / len(ids),
        after=sum(new[question_id] for question_id in ids) / len(ids),
        low=low,
        high=high,
        better=tuple(i for i, change in zip(ids, changes, strict=True) if change > NOTICEABLE),
        worse=tuple(i for i, change in zip(ids, changes, strict=True) if change < -NOTICEABLE),
    )


def _values(metric: str, scores: Scores) -> dict[str, float]:
    return {
        question.question_id: question.metrics[metric]
        for question in scores.questions
        if metric in question.metrics
    }


def interval(changes: Sequence[float]) -> tuple[float, float]:
    """Where the mean lies in 95 of 100 draws of such questions; the same for the same changes.

    >>> interval([0.0, 0.0, 0.0])
    (0.0, 0.0)
    """
    import numpy as np

    random = np.random.default_rng(0)
    values = np.asarray(changes)
    draws = (RESAMPLES_AT_ONCE, len(values))
    means = [
        values[random.integers(len(values), size=draws)].mean(axis=1)
        for _ in range(RESAMPLES // RESAMPLES_AT_ONCE)
    ]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def _below_floors(scores: Scores, settings: EvaluationSettings) -> Iterator[str]:
    means = scores.means
    for metric, floor in settings.floors.items():
        if metric not in means:
            known = ", ".join(sorted(means))
            yield f"There is a floor for {metric}, which was not measured; known are {known}."
        elif means[metric] < floor - NOTICEABLE:
            yield f"{metric} is {means[metric]:.3f}; the floor is {floor:.3f}."


def _losses(differences: Sequence[Difference], settings: EvaluationSettings) -> Iterator[str]:
    for difference in differences:
        if difference.metric != GATE:
            continue
        if difference.mean < -settings.tolerance - NOTICEABLE:
            yield f"{difference}: a greater loss than the tolerance of {settings.tolerance:.3f}."
        elif difference.high < 0:
            yield f"{difference}: the loss is small, but sure."
