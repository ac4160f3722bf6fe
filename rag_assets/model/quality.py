"""What is judged of documents, chunks, vectors and indexes, and what was found."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal


class QualityStage(StrEnum):
    """After which stage something is judged."""

    DOCUMENTS = "documents"
    CHUNKS = "chunks"
    EMBEDDINGS = "embeddings"


QualityRule = Literal[
    "empty_text",
    "garbled_text",
    "duplicate_flood",
    "broken_tiling",
    "too_long",
    "too_short",
    "repeated_chunk",
    "wrong_dimension",
    "bad_norm",
]

RULES: Mapping[QualityStage, tuple[QualityRule, ...]] = {
    QualityStage.DOCUMENTS: ("empty_text", "garbled_text", "duplicate_flood"),
    QualityStage.CHUNKS: ("broken_tiling", "too_long", "too_short", "repeated_chunk"),
    QualityStage.EMBEDDINGS: ("wrong_dimension", "bad_norm"),
}
"""What one document can break by itself, by the stage whose work it is."""


@dataclass(frozen=True, slots=True)
class Judging:
    """The rules of one stage for the work of one maker, as the database can judge them."""

    stage: QualityStage
    subject: str
    """What made what is judged: the parser, then the chunker, then the embedder."""
    rules: str
    """The rules and their limits; when they change, everything is judged again."""
    quarantine: tuple[str, ...]
    limits: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that a document breaks with a content; the figures are JSON."""

    doc_id: str
    content_hash: bytes
    rule: str
    figures: str


@dataclass(frozen=True, slots=True)
class KnownVerdict:
    """What was found before."""

    doc_id: str
    rule: str
    content_hash: bytes
    quarantined: bool
    released: bool
    current: bool
    """The document still has this content."""


@dataclass(frozen=True, slots=True)
class VerdictChanges:
    """What is to be written, so that what is known is what was found."""

    put: tuple[Finding, ...] = ()
    void: tuple[KnownVerdict, ...] = ()
    touched: tuple[str, ...] = ()
    """Documents that come under quarantine, or out of it: merges look at them again."""

    def __bool__(self) -> bool:
        return bool(self.put or self.void)


@dataclass(frozen=True, slots=True)
class QualityVerdict:
    """A document that breaks a rule, and how: in numbers, never in words of the document."""

    doc_id: str
    stage: QualityStage
    subject: str
    rule: str
    content_hash: bytes
    quarantined: bool
    """The rule is one that keeps a document out of the index."""
    released: bool
    """Somebody lets this content through all the same."""
    figures: Mapping[str, float]
    run_id: str
    first_seen_at: datetime


@dataclass(frozen=True, slots=True)
class QualityTally:
    """How many documents break the rules of a stage."""

    rules: Mapping[str, int]
    quarantined: int
    released: int
    unreleased: int
    since: datetime | None
    """The longest ago that one of them was found."""


@dataclass(frozen=True, slots=True)
class GenerationSize:
    """What a generation holds, and the most that it held within a day."""

    generation: int
    documents: int
    chunks: int
    most_documents: int
    most_chunks: int

    @property
    def lost(self) -> int:
        """How many documents or chunks it has less.

        >>> GenerationSize(1, documents=9, chunks=30, most_documents=10, most_chunks=40).lost
        10
        """
        return max(self.most_documents - self.documents, self.most_chunks - self.chunks)

    @property
    def drop(self) -> float:
        """The share that is gone, of documents or of chunks.

        >>> GenerationSize(1, documents=9, chunks=30, most_documents=10, most_chunks=40).drop
        0.25
        """
        pairs = ((self.documents, self.most_documents), (self.chunks, self.most_chunks))
        return max(1 - now / max(most, 1) if most else 0.0 for now, most in pairs)


@dataclass(frozen=True, slots=True)
class Written:
    """Which of the things that are stored are looked at: what these runs wrote, or what is new."""

    by_runs: tuple[str, ...] | None = None
    within: timedelta | None = None


EVERYTHING = Written()


@dataclass(frozen=True, slots=True)
class LostRows:
    """A document that has other rows in an index than it is to have."""

    doc_id: str
    wanted: int
    found: int
    orphan: bool
    """It has rows though it is not served."""


@dataclass(frozen=True, slots=True)
class Sameness:
    """How alike the vectors of different texts are."""

    texts: int
    vectors: int
    """How many different ones these texts have."""
    likeness: float
    """Of two of them, the mean cosine."""


@dataclass(frozen=True, slots=True)
class ChunkLengths:
    """How long chunks are, in characters."""

    chunks: int
    shortest: int
    low: int
    median: int
    high: int
    longest: int
    of_several: int
    """Chunks of documents that have several."""
    short: int
    """Those of them that are short."""
