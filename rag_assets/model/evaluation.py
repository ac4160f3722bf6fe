"""Labelled questions, and what a generation scores on them."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceSpan:
    """Characters of a document: what a label points to, so that re-chunking loses none."""

    doc_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class GoldenQuestion:
    """A labelled question; one without answers cannot be answered from the corpus."""

    id: str
    question: str
    answers: tuple[SourceSpan, ...]
    tags: tuple[str, ...] = ()

    @property
    def answerable(self) -> bool:
        return bool(self.answers)


@dataclass(frozen=True, slots=True)
class QuestionScore:
    """What one question scored: metric name to value."""

    question_id: str
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Scores:
    """One evaluation of one generation on one golden set."""

    generation: int
    golden_set: str
    questions: tuple[QuestionScore, ...]

    @property
    def means(self) -> dict[str, float]:
        values: dict[str, list[float]] = {}
        for question in self.questions:
            for name, value in question.metrics.items():
                values.setdefault(name, []).append(value)
        return {name: sum(found) / len(found) for name, found in values.items()}
