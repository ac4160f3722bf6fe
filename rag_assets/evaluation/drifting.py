"""Whether what readers are served still scores as it did when they began to be."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rag_assets.evaluation.comparing import NOTICEABLE, changed_questions, compared
from rag_assets.model import Difference, EvaluationSettings, QuestionChange, ScoredPoint, Scores


@dataclass(frozen=True, slots=True)
class Drift:
    """The published generation held against what it scored when it was published."""

    generation: int
    baseline: Scores
    since: datetime
    """When the scores were measured that it is held against."""
    differences: tuple[Difference, ...]
    """In the metrics of the gate."""
    fallen: tuple[Difference, ...]
    """Those that fell by more than the tolerance."""
    changed: tuple[QuestionChange, ...]

    @property
    def sure(self) -> bool:
        """Whether it is no chance."""
        return any(each.surely_worse for each in self.fallen)

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        told = "; ".join(map(str, self.fallen or self.differences))
        since = f"since {self.since:%Y-%m-%d %H:%M} UTC"
        if not self.fallen:
            return f"Generation {self.generation} has not drifted {since}: {told or 'no change'}."
        chance = "" if self.sure else " It may be chance."
        return f"Generation {self.generation} has fallen {since}: {told}.{chance}"


def drifted(
    baseline: Scores,
    newest: Scores,
    *,
    since: datetime,
    words: Mapping[str, str],
    settings: EvaluationSettings,
) -> Drift:
    """Paired by question; what neither has does not count."""
    differences = tuple(
        each
        for each in compared(baseline, newest, confidence=settings.confidence)
        if each.metric in settings.gate
    )
    return Drift(
        generation=newest.generation,
        baseline=baseline,
        since=since,
        differences=differences,
        fallen=tuple(
            each for each in differences if each.mean < -settings.drift_tolerance - NOTICEABLE
        ),
        changed=tuple(changed_questions(baseline, newest, words, by=settings.gate)),
    )


def rebuild_is_due(
    builds: Iterable[datetime],
    points: Sequence[ScoredPoint],
    baseline: Scores,
    settings: EvaluationSettings,
) -> bool:
    """Whether this fall has not led to a build yet: one is enough, also where it did not help.

    Builds are those of the same recipe since the baseline. A fall is another one when the scores
    had come back after the last of them.
    """
    last = max(builds, default=None)
    return last is None or any(
        _within(point, baseline, settings) for point in points if point.scored_at > last
    )


def _within(point: ScoredPoint, baseline: Scores, settings: EvaluationSettings) -> bool:
    means = baseline.means
    return point.golden_set == baseline.golden_set and all(
        point.metrics[metric] >= means[metric] - settings.drift_tolerance - NOTICEABLE
        for metric in settings.gate
        if metric in means and metric in point.metrics
    )
