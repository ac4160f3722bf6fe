"""What is known of a source between two looks at it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class SourceStanding:
    """When a source was last listed, and what has kept it from being so since."""

    listed_at: datetime | None = None
    objects: int | None = None
    """How many it listed then."""
    failing_since: datetime | None = None
    failed_at: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeEvent:
    """What a source told: a document came, changed or left, and how to say that this was heard.

    It has no rev: where a listing tells none either, one from here would be ahead of it for ever.
    """

    receipt: str
    doc_id: str | None
    """None: it told of something that is no document of the corpus."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """What the database says of a corpus: who it is, and what waits to be looked at in it."""

    created_at: datetime | None = None
    """None: it was never materialized, or has been removed."""
    looked: Mapping[int, int] = field(default_factory=dict)
    """Bucket to the digest of its part of the listing that a run has looked at last."""
    hints: Mapping[int, int] = field(default_factory=dict)
    """Bucket to the seq of its newest hint."""
    due: Mapping[int, datetime] = field(default_factory=dict)
    """Bucket to the latest time at which one of its dead letters was to be tried again, or its
    withheld deletions were approved."""
    standing: SourceStanding = SourceStanding()
    """Of its source."""
