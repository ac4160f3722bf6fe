"""Where what is served came from: changes, costs, and the way of a chunk."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal


@dataclass(frozen=True, slots=True)
class Change:
    """What one run did to some documents of a bucket: how many, and the first of them by name."""

    change: str
    """Such as `added`, `changed`, `described` or `deleted`."""
    documents: int
    doc_ids: tuple[str, ...]
    bucket: int | None = None
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What a run asked of one model, for one generation."""

    generation: int
    model: str
    requests: int
    texts: int
    tokens: int
    usd: Decimal | None = None
    """None: no price is known."""


CostKey = Literal["run", "day", "model", "provider", "generation", "bucket"]
"""By what costs are put together."""


@dataclass(frozen=True, slots=True)
class CostLine:
    """What models were asked for by one run, or for one bucket, and so on."""

    corpus: str
    of: str
    requests: int
    texts: int
    tokens: int
    usd: Decimal | None
    """Of the tokens that had a price; None: none had."""
    tokens_unpriced: int
    unit_prices: tuple[Decimal, ...]
    """US dollars a million tokens, as they were when it was spent."""
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Work:
    """One step on the way of a chunk: what did it, in which run, with which code, and when."""

    what: str
    run_id: str | None = None
    """None: it was done before runs were noted there."""
    code_version: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ChunkOrigin:
    """One chunk followed back to its source: of its words only the title and the headings."""

    corpus: str
    generation: int
    state: str
    """Of the generation."""
    doc_id: str
    ord: int
    start: int
    end: int
    heading_path: tuple[str, ...]
    page: int | None
    tokens: int
    title: str
    uri: str
    acl: tuple[str, ...]
    bucket: int
    content_hash: bytes
    text_hash: bytes
    source_hash: bytes | None
    """What the source says of the document today."""
    first_seen_at: datetime | None
    last_seen_at: datetime | None
    """None: the version is the document's current one."""
    current: bool
    """Whether the source still has this content under this id, as far as is known."""
    document_state: str | None
    fingerprint: str
    observed: Work
    cut: Work
    embedded: Work
    merged: Work
    published: Work | None
    """None: readers see another generation."""
    publication_reason: str | None = None
    run_tokens: int | None = None
    """What the embedding run asked of the model in all."""
    run_usd: Decimal | None = None
