"""What is to be mended in a golden set, and how small a difference it can show."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.comparing import detectable
from rag_assets.evaluation.golden_set.labels import Label, LabelledQuestion, same_question
from rag_assets.evaluation.golden_set.moving import Place, nearest
from rag_assets.evaluation.golden_set.resolving import span_of
from rag_assets.evaluation.golden_set.sets import GoldenSet
from rag_assets.model import Scores

AllTexts = Callable[[], Iterable[tuple[str, str]]]
"""Every document with its text; asked for only where a sentence is looked for."""
Unfitting = tuple[LabelledQuestion, Label, str]
"""A label that fits no document, and why."""


@dataclass(frozen=True, slots=True)
class StaleLabel:
    """A label that fits no document, and where its sentence may be now."""

    question_id: str
    problem: str
    nearest: Place | None
    nearest_document: str | None = None
    """Where there is none of that name."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """How small a difference between two generations the questions show, in four of five cases."""

    metric: str
    questions: int
    detectable: float
    tolerance: float
    needed: int
    """So many questions show a difference as small as the tolerance."""
    paired: bool
    """Two generations were compared; else their scores are taken to be unrelated, at worst."""
    generations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """All that a person should know of a golden set."""

    name: str
    identity: str
    generated: bool
    questions: int
    labels: int
    unanswerable: int
    stale: tuple[StaleLabel, ...]
    duplicates: tuple[str, ...]
    resolutions: tuple[Resolution, ...]
    """Empty: nothing was scored on this set yet."""

    @property
    def sound(self) -> bool:
        return not self.stale and not self.duplicates


def checked(
    golden_set: GoldenSet,
    texts: Mapping[str, str],
    *,
    every_text: AllTexts,
    scored: Sequence[Scores],
    tolerance: float,
    metrics: Sequence[str],
) -> Checked:
    """Every label against the documents, and the questions against each other."""
    return Checked(
        name=golden_set.name,
        identity=golden_set.identity,
        generated=golden_set.generated,
        questions=len(golden_set.questions),
        labels=sum(len(each.labels) for each in golden_set.questions),
        unanswerable=sum(not each.labels for each in golden_set.questions),
        stale=tuple(stale_labels(golden_set, texts, every_text)),
        duplicates=tuple(duplicates(golden_set)),
        resolutions=tuple(
            found for metric in metrics if (found := resolution(scored, metric, tolerance))
        ),
    )


def stale_labels(
    golden_set: GoldenSet, texts: Mapping[str, str], every_text: AllTexts
) -> list[StaleLabel]:
    """In their order; the documents are read only where a label is stale."""
    stale = list(_unfitting(golden_set, texts))
    if not stale:
        return []
    quotes = [label.quote for _, label, _ in stale if label.quote]
    places = dict(zip(quotes, nearest(quotes, every_text()), strict=True))
    lost = any(label.doc_id not in texts for _, label, _ in stale)
    names = [doc_id for doc_id, _ in every_text()] if lost else []
    return [_stale(each, places.get(each[1].quote or ""), names) for each in stale]


def _unfitting(golden_set: GoldenSet, texts: Mapping[str, str]) -> Iterator[Unfitting]:
    for question in golden_set.questions:
        for label in question.labels:
            try:
                span_of(label, texts)
            except ConfigurationError as error:
                yield question, label, str(error)


def _stale(unfitting: Unfitting, place: Place | None, names: Sequence[str]) -> StaleLabel:
    question, label, problem = unfitting
    unknown = place is None and label.doc_id not in names
    near = get_close_matches(label.doc_id, names, n=1) if unknown else []
    return StaleLabel(question.id, problem, place, near[0] if near else None)


def duplicates(golden_set: GoldenSet) -> Iterator[str]:
    """Questions that ask the same, and labels that stand twice in one question."""
    asked: dict[str, list[str]] = {}
    for each in golden_set.questions:
        asked.setdefault(same_question(each.question), []).append(each.id)
        if len(set(each.labels)) < len(each.labels):
            yield f"question {each.id!r} has the same label twice"
    for ids in asked.values():
        if len(ids) > 1:
            yield f"questions {', '.join(map(repr, ids))} ask the same"


def resolution(scored: Sequence[Scores], metric: str, tolerance: float) -> Resolution | None:
    """From the last two generations that were scored, or from the last one alone."""
    values = [(each.generation, _values(each, metric)) for each in scored]
    values = [(generation, found) for generation, found in values if len(found) > 1][-2:]
    if not values:
        return None
    shared = [key for key in values[0][1] if all(key in found for _, found in values)]
    paired = len(values) == 2 and len(shared) > 1
    if paired:
        (_, before), (_, after) = values
        smallest = detectable([after[key] - before[key] for key in shared])
    else:
        values, shared = values[-1:], list(values[-1][1])
        smallest = math.sqrt(2) * detectable(list(values[0][1].values()))
    return Resolution(
        metric=metric,
        questions=len(shared),
        detectable=smallest,
        tolerance=tolerance,
        needed=_needed(len(shared), smallest, tolerance),
        paired=paired,
        generations=tuple(generation for generation, _ in values),
    )


def _needed(questions: int, smallest: float, tolerance: float) -> int:
    """Four times as many questions show half the difference.

    >>> _needed(100, 0.04, 0.02)
    400
    """
    return math.ceil(questions * (smallest / tolerance) ** 2) if tolerance > 0 else 0


def _values(scores: Scores, metric: str) -> dict[str, float]:
    return {
        each.question_id: each.metrics[metric]
        for each in scores.questions
        if metric in each.metrics
    }
