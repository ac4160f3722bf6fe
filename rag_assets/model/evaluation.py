"""Labelled questions, and what a generation scores on them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

GENERATED = "generated"
"""The name of the questions that are made where there is no golden set, and a tag of all made."""


@dataclass(frozen=True, slots=True)
class SourceSpan:
    """Characters of a document: what a label points to, so that re-chunking loses none."""

    doc_id: str
    start: int
    end: int
    grade: int = 1
    """How well it answers, where that was graded."""


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
    search_ms: float | None = field(default=None, compare=False)
    """How long its search took then and there: no property of the index, so no part of a score."""


@dataclass(frozen=True, slots=True)
class Scores:
    """One evaluation of one generation on one golden set."""

    generation: int
    golden_set: str
    questions: tuple[QuestionScore, ...]

    @property
    def generated(self) -> bool:
        """Its questions were made from the documents, as there is no golden set."""
        return self.golden_set.startswith(f"{GENERATED}@")

    def search_ms(self, share: float) -> float | None:
        """So long or shorter was the search of this share of the questions, if it was measured."""
        measured = [each.search_ms for each in self.questions if each.search_ms is not None]
        place = max(0, math.ceil(share * len(measured)) - 1)
        return sorted(measured)[place] if measured else None

    @property
    def means(self) -> dict[str, float]:
        values: dict[str, list[float]] = {}
        for question in self.questions:
            for name, value in question.metrics.items():
                values.setdefault(name, []).append(value)
        return {name: sum(found) / len(found) for name, found in values.items()}


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody said of an answer, or of one passage of it."""

    question: str
    helpful: bool
    given_at: datetime
    generation: int | None = None
    """What was read."""
    doc_id: str | None = None
    """None: of the answer as a whole."""
    start: int | None = None
    end: int | None = None
    quote: str | None = None
    """The passage, word for word."""


@dataclass(frozen=True, slots=True)
class ModelUse:
    """What a chat model was given and has written, in tokens."""

    read: int = 0
    written: int = 0

    def __add__(self, other: "ModelUse") -> "ModelUse":
        return ModelUse(self.read + other.read, self.written + other.written)


@dataclass(frozen=True, slots=True)
class ChatPrice:
    """US dollars a million tokens."""

    read: Decimal
    written: Decimal

    def of(self, used: ModelUse) -> Decimal:
        """By what was read and what was written.

        >>> ChatPrice(Decimal("0.15"), Decimal("0.6")).of(ModelUse(1_000_000, 500_000))
        Decimal('0.45')
        """
        return (self.read * used.read + self.written * used.written) / 1_000_000


@dataclass(frozen=True, slots=True)
class Draft:
    """What a model wrote when it was asked for a test question; both empty if it wrote no such."""

    question: str
    quote: str
    """The sentence that answers it, by the model's word."""
    used: ModelUse
