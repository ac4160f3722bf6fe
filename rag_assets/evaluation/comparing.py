"""Two generations on the same questions: what changed, how surely, and whether it may pass."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from statistics import NormalDist, stdev

from rag_assets.errors import NotReadyError
from rag_assets.evaluation.known_items import NOTE
from rag_assets.model import Difference, EvaluationSettings, QuestionChange, Scores, Verdict

RESAMPLES = 5_000
RESAMPLES_AT_ONCE = 100
CONFIDENCE = 0.95
POWER = 0.8
"""How often a difference of the size that is called detectable would show."""
NOTICEABLE = 1e-9


def judged(after: Scores, *, before: Scores | None, settings: EvaluationSettings) -> Verdict:
    """Refused when it is worse by more than the tolerance, surely worse, or below a floor.

    Also where somebody has written questions and none of them measures anything.
    """
    differences = compared(before, after, confidence=settings.confidence) if before else ()
    gated = [each for each in differences if each.metric in settings.gate]
    against = [
        *_unmeasured(after, gated if before else set(settings.gate) & set(after.means), settings),
        *_below_floors(after, settings),
        *_losses(gated, settings),
    ]
    for_it = [f"{each}." for each in gated]
    return Verdict(
        not against,
        tuple(against or for_it or [_unjudged(after, before)]),
        differences,
        (*_origin(after), *_weaknesses(gated, settings)),
    )


def _unjudged(after: Scores, before: Scores | None) -> str:
    if not after.questions:
        return "Nothing was scored: the documents are too few or short to make questions of them."
    if before is not None:
        return "No question measures what the gate goes by in both generations."
    return "There is no published generation besides it to compare with."


def _unmeasured(
    after: Scores, measured: Collection[object], settings: EvaluationSettings
) -> Iterator[str]:
    """Nothing speaks against what nobody has looked at; questions made offline may be too few."""
    if after.generated:
        return
    if not after.questions:
        yield (
            f"No question of the golden set {after.golden_set} was scored, so nothing says that it"
            " is good enough. `rag-assets golden check` shows what is to be mended."
        )
    elif settings.gate and not measured:
        yield (
            f"No question of the golden set {after.golden_set} measures what the gate goes by:"
            f" {', '.join(settings.gate)}. Add questions that the documents answer."
        )


def compared(
    before: Scores, after: Scores, *, confidence: float = CONFIDENCE
) -> tuple[Difference, ...]:
    """Paired by question, so that hard and easy questions cancel out."""
    if before.golden_set != after.golden_set:
        raise NotReadyError(
            f"Generation {before.generation} was scored on {before.golden_set}, generation"
            f" {after.generation} on {after.golden_set}. Score both on the same golden set."
        )
    metrics = sorted(after.means)  # a database has an order of its own
    pairs = [(each, _values(each, before), _values(each, after)) for each in metrics]
    return tuple(
        _difference(metric, old, new, confidence)
        for metric, old, new in pairs
        if old.keys() & new.keys()
    )


def _difference(
    metric: str, old: Mapping[str, float], new: Mapping[str, float], confidence: float
) -> Difference:
    ids = sorted(old.keys() & new.keys())
    changes = [new[question_id] - old[question_id] for question_id in ids]
    low, high = interval(changes, confidence=confidence)
    return Difference(
        metric=metric,
        before=sum(old[question_id] for question_id in ids) / len(ids),
        after=sum(new[question_id] for question_id in ids) / len(ids),
        low=low,
        high=high,
        better=tuple(i for i, change in zip(ids, changes, strict=True) if change > NOTICEABLE),
        worse=tuple(i for i, change in zip(ids, changes, strict=True) if change < -NOTICEABLE),
        questions=len(ids),
        detectable=detectable(changes, confidence=confidence),
        confidence=confidence,
    )


def _values(metric: str, scores: Scores) -> dict[str, float]:
    return {
        question.question_id: question.metrics[metric]
        for question in scores.questions
        if metric in question.metrics
    }


def interval(changes: Sequence[float], *, confidence: float = CONFIDENCE) -> tuple[float, float]:
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
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def detectable(changes: Sequence[float], *, confidence: float = CONFIDENCE) -> float:
    """The smallest mean difference that questions which vary so much show, in four of five cases.

    Questions that have not changed may yet: they are taken to vary as if one of them had turned
    from right to wrong.

    >>> round(detectable([0.0] * 100), 3), round(detectable([0.5, -0.5] * 50), 3)
    (0.028, 0.141)
    """
    if len(changes) < 2:
        return 1.0
    spread = max(stdev(changes), len(changes) ** -0.5)
    normal = NormalDist()
    errors = normal.inv_cdf((1 + confidence) / 2) + normal.inv_cdf(POWER)
    return float(min(1.0, errors * spread / len(changes) ** 0.5))


def changed_questions(
    before: Scores, after: Scores, words: Mapping[str, str], *, by: Sequence[str]
) -> list[QuestionChange]:
    """Those that changed in any of these metrics, the greatest loss first and then the gains."""
    earlier = {each.question_id: each.metrics for each in before.questions}
    changes = [
        QuestionChange(
            each.question_id,
            words.get(each.question_id, ""),
            earlier[each.question_id],
            each.metrics,
        )
        for each in after.questions
        if each.question_id in earlier
    ]
    sums = {
        each.question_id: sum(each.change(metric) for metric in by)
        for each in changes
        if any(abs(each.change(metric)) > NOTICEABLE for metric in by)
    }
    found = [each for each in changes if each.question_id in sums]
    return sorted(
        found, key=lambda each: (sums[each.question_id] > 0, -abs(sums[each.question_id]))
    )


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
        if difference.mean < -settings.tolerance - NOTICEABLE:
            yield f"{difference}: a greater loss than the tolerance of {settings.tolerance:.3f}."
        elif difference.surely_worse and settings.tolerance < 1:
            yield f"{difference}: the loss is small, but sure."


def _origin(scores: Scores) -> Iterator[str]:
    if scores.generated and scores.questions:
        yield f"There is no golden set; the questions were {NOTE}."


def _weaknesses(differences: Sequence[Difference], settings: EvaluationSettings) -> Iterator[str]:
    """Where the questions are too few, or vary too much, for what they are asked."""
    if not differences:
        return
    questions = max(each.questions for each in differences)
    if questions < settings.min_questions:
        yield (
            f"Only {questions} questions were compared; with fewer than {settings.min_questions}"
            " chance decides much."
        )
    blind = {
        each.metric: each.detectable
        for each in differences
        if each.detectable > settings.tolerance + NOTICEABLE
    }
    if blind:
        told = ", ".join(f"{metric} {smallest:.3f}" for metric, smallest in blind.items())
        yield (
            f"Only greater differences than these show surely on {questions} questions: {told}."
            f" The tolerance is {settings.tolerance:.3f}; more questions see more."
        )
