"""How two evaluations differ, and what is decided of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ScoredPoint:
    """The means of one evaluation, and when it was made."""

    generation: int
    golden_set: str
    content: str
    scored_at: datetime
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric, after minus before, over the questions that both have it for."""

    metric: str
    before: float
    after: float
    low: float
    """Where the difference lies with the confidence that was asked for: between this …"""
    high: float
    """… and this."""
    better: tuple[str, ...]
    worse: tuple[str, ...]
    questions: int
    detectable: float
    """The smallest difference that so many questions, which differ so much, usually show."""
    confidence: float

    @property
    def mean(self) -> float:
        return self.after - self.before

    @property
    def surely_better(self) -> bool:
        return self.low > 0

    @property
    def surely_worse(self) -> bool:
        return self.high < 0

    def __str__(self) -> str:
        return (
            f"{self.metric} went from {self.before:.3f} to {self.after:.3f}"
            f" ({self.mean:+.3f}, {100 * self.confidence:g} % interval {self.low:+.3f} to"
            f" {self.high:+.3f}; {len(self.better)} better, {len(self.worse)} worse)"
        )


@dataclass(frozen=True, slots=True)
class QuestionChange:
    """A question that two generations answer differently."""

    question_id: str
    question: str
    """Its words; empty if they are not known any more."""
    before: Mapping[str, float]
    after: Mapping[str, float]

    def change(self, metric: str) -> float:
        if metric not in self.before or metric not in self.after:
            return 0.0
        return self.after[metric] - self.before[metric]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a generation may be published, and why, in sentences."""

    accepted: bool
    reasons: tuple[str, ...]
    differences: tuple[Difference, ...] = ()
    warnings: tuple[str, ...] = ()
    """What should be known of the judgement itself, such as that it sees little."""
    evidence: Mapping[str, float] = field(default_factory=dict)
    """What else was looked at: counts and shares by name."""


@dataclass(frozen=True, slots=True)
class GateCase:
    """What is judged, against what, and by which rules: the same case is judged once."""

    generation: int
    rival: int | None
    golden_set: str
    content: str
    rival_content: str
    settings: str


@dataclass(frozen=True, slots=True)
class ChunksOfDocument:
    """How many texts of a document two generations have: each, and both alike."""

    doc_id: str
    before: int
    after: int
    kept: int

    @property
    def added(self) -> int:
        return max(0, self.after - self.before)

    @property
    def removed(self) -> int:
        return max(0, self.before - self.after)

    @property
    def changed(self) -> int:
        return min(self.before, self.after) - self.kept


@dataclass(frozen=True, slots=True)
class GenerationDiff:
    """What one generation serves and another does not. Names are the first of so many."""

    documents_before: int
    documents_after: int
    documents_added: int
    documents_removed: int
    documents_changed: int
    """Served by both, with another content."""
    chunks_before: int
    chunks_after: int
    chunks_kept: int
    """Texts that both have."""
    documents_cut_differently: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    chunks: tuple[ChunksOfDocument, ...]
    """Where texts differ, the documents with most of them first."""

    @property
    def chunks_added(self) -> int:
        """Texts that only the second has."""
        return self.chunks_after - self.chunks_kept

    @property
    def chunks_removed(self) -> int:
        """Texts that only the first has."""
        return self.chunks_before - self.chunks_kept

    @property
    def nothing(self) -> bool:
        """Whether both serve the same texts of the same documents."""
        return not (
            self.documents_added
            or self.documents_removed
            or self.documents_changed
            or self.chunks_added
            or self.chunks_removed
        )
