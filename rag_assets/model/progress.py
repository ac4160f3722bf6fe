"""What fails, what waits, and how the pipeline stands."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from rag_assets.model.documents import SourceObject

NO_BUCKET = -1
"""Where an asset without buckets has failed."""


@dataclass(frozen=True, slots=True)
class StageFailure:
    """What an asset fails with, bucket by bucket, since it last succeeded there."""

    corpus: str
    stage: str
    bucket: int
    error: str
    reason: str
    """For people. Never a word of a document, nor a secret."""
    attempts: int
    since: datetime
    last_at: datetime
    run_id: str
    generation: int = 0
    """The one that it is of alone; 0: the stage as a whole."""

    @property
    def where(self) -> str:
        """For people."""
        return f"{self.stage} of generation {self.generation}" if self.generation else self.stage


class Cause(StrEnum):
    """Why a change at the source is not served; the gravest first."""

    NOT_PUBLISHED = "not published"
    NOT_SEEN = "not seen yet"
    FAILING = "failing"
    WAITING = "waiting"
    WITHHELD = "withheld"
    QUARANTINED = "quarantined"
    DEAD_LETTER = "dead letter"


@dataclass(frozen=True, slots=True)
class Wait:
    """All changes that wait for one cause, and the one that has waited longest."""

    cause: Cause
    changes: int
    age_s: float
    doc_id: str | None = None
    """None: it is not known which document, or there are none yet."""
    bucket: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What of a corpus is not served as it is at the source, as far as the database knows."""

    generation: int | None
    """The published one."""
    waits: tuple[Wait, ...] = ()
    idle_s: float | None = None
    """While nothing is published: for how long nothing has come of the first build."""

    @property
    def changes(self) -> int:
        """Those that more work would bring to readers: what autoscaling goes by."""
        return sum(wait.changes for wait in self.waits if wait.cause in MOVING)

    @property
    def longest(self) -> Wait | None:
        """The longest of those that wait for work, else of all."""
        return max(self.waits, key=lambda wait: (wait.cause in MOVING, wait.age_s), default=None)

    @property
    def oldest_s(self) -> float:
        return max((wait.age_s for wait in self.waits if wait.cause in MOVING), default=0.0)


MOVING = frozenset({Cause.NOT_PUBLISHED, Cause.NOT_SEEN, Cause.FAILING, Cause.WAITING})
"""The others wait for a person or for another version, not for work."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is recorded of documents, for holding a listing against it."""

    hashes: Mapping[str, frozenset[bytes]]
    """Document to the source hashes under which it was read, or could not be."""
    present: frozenset[str]
    """Documents that the source had."""
    withheld: frozenset[str]
    erased: frozenset[bytes]
    """SHA-256 of ids that no listing brings back."""

    def has(self, found: SourceObject) -> bool:
        known = found.source_hash in self.hashes.get(found.doc_id, ())
        return known or hashlib.sha256(found.doc_id.encode()).digest() in self.erased


@dataclass(frozen=True, slots=True)
class PipelineMetrics:
    """How a corpus stands, in numbers."""

    documents: int
    chunks: int
    waiting: int
    oldest_waiting_s: float
    failed: int
    """Documents that could not be processed, or were quarantined."""
    documents_an_hour: float
    """How many were written to the published index within the last hour."""
    provider_errors: int
    """Attempts at embedding that failed and are not made good yet."""
    tokens_a_day: int = 0
    usd_a_day: Decimal | None = None
    """None: no price is known."""

    @property
    def failed_share(self) -> float:
        return self.failed / max(self.documents + self.failed, 1)

    @property
    def chunks_a_document(self) -> float:
        return self.chunks / max(self.documents, 1)

    @property
    def figures(self) -> dict[str, int | float]:
        """By name, for people and for plots."""
        figures: dict[str, int | float] = {
            "documents": self.documents,
            "chunks": self.chunks,
            "chunks_a_document": round(self.chunks_a_document, 2),
            "waiting": self.waiting,
            "oldest_waiting_s": round(self.oldest_waiting_s, 1),
            "documents_an_hour": self.documents_an_hour,
            "failed": self.failed,
            "failed_share": round(self.failed_share, 6),
            "provider_errors": self.provider_errors,
            "tokens_a_day": self.tokens_a_day,
        }
        return figures if self.usd_a_day is None else figures | {"usd_a_day": float(self.usd_a_day)}
