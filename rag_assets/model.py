"""The words of the house as data: what flows from a source to a cited answer."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Literal, NamedTuple

from rag_assets.errors import ConfigurationError

# --- documents ---------------------------------------------------------------------------------


def bucket_of(doc_id: str, buckets: int) -> int:
    """The partition of a document: stable for ever, even over any number of buckets.

    >>> bucket_of("how-to/roll-back.md", 16), bucket_of("how-to/roll-back.md", 7)
    (9, 1)
    """
    digest = hashlib.blake2b(doc_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest) % buckets


def bucket_key(bucket: int, buckets: int) -> str:
    """The Dagster partition key of a bucket, padded so that keys sort.

    >>> bucket_key(3, 16), bucket_key(3, 200)
    ('03', '003')
    """
    return str(bucket).zfill(max(2, len(str(buckets - 1))))


@dataclass(frozen=True, slots=True)
class SourceObject:
    """One thing a source lists. `source_hash` changes whenever its content may have changed."""

    doc_id: str
    uri: str
    source_hash: bytes
    rev: int | None = None
    modified_at: datetime | None = None
    """When its source says it changed last."""


class DocumentState(StrEnum):
    LIVE = "live"
    DELETED = "deleted"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class ObservedDocument:
    """What was last seen of one document at its source."""

    doc_id: str
    uri: str
    source_hash: bytes
    content_hash: bytes
    parser: str
    title: str
    acl: tuple[str, ...]
    state: DocumentState
    rev: int | None = None


class Mark(NamedTuple):
    """Of a recorded document what a listing is compared with; one a document of the corpus."""

    doc_id: str
    source_hash: bytes
    uri: str
    rev: int | None
    state: str
    own_parser: bool
    """Whether the corpus's parser of today read it."""
    own_acl: bool
    """Whether those may see it whom the corpus names today."""


@dataclass(frozen=True, slots=True)
class Heading:
    level: int
    title: str
    start: int


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """The text of one content, the offsets of its headings, and what the parser had to mend."""

    title: str
    text: str
    headings: tuple[Heading, ...] = ()
    warnings: tuple[str, ...] = ()
    pages: tuple[int, ...] = ()
    """The first character of each page, where the format has pages."""


@dataclass(frozen=True, slots=True)
class StoredText:
    """A parsed document under the key that every later stage uses."""

    content_hash: bytes
    parser: str
    parsed: ParsedDocument


class Stage(StrEnum):
    """Where a document can fail for good."""

    READ = "read"
    PARSE = "parse"
    CHUNK = "chunk"
    EMBED = "embed"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A document that could not be processed: at which stage, by what, and why.

    It speaks of one content: when the document changes at its source, it says nothing any more.
    """

    doc_id: str
    stage: Stage
    error: str
    reason: str
    """For people. Never a word of the document, nor a secret."""
    code_version: str
    subject: str = ""
    """Identity of the parser, chunker or embedder that failed; the others may not."""
    attempts: int = 1
    content_hash: bytes | None = None
    source_hash: bytes | None = None
    first_seen_at: datetime | None = None
    last_seen_at: datetime | None = None
    retry_at: datetime | None = None
    """When it is tried again by itself; None: not before the document or the code changes."""
    dropped: bool = False
    """Somebody wants to hear no more of it: it keeps its document out, and is not shown."""


class WhyWithheld(StrEnum):
    """Why deletions were not believed."""

    TOO_MANY = "too many"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class WithheldDeletion:
    """A document that its source lists no longer, kept because that is not believed."""

    doc_id: str
    reason: WhyWithheld
    since: datetime


@dataclass(frozen=True, slots=True)
class Hint:
    """Somebody said that this document may have changed."""

    doc_id: str
    seq: int
    rev: int | None = None


@dataclass(frozen=True, slots=True)
class ParseJob:
    """Bytes to be read by one parser."""

    doc_id: str
    content: bytes
    parser: str
    """The parser's identity, such as `auto@2`."""


# --- watching a source -------------------------------------------------------------------------


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


# --- how the work goes -------------------------------------------------------------------------

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


# --- chunks and embeddings ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document's text: `document.text[start:end] == chunk.text`, always."""

    ord: int
    text: str
    start: int
    end: int
    heading_path: tuple[str, ...] = ()
    page: int | None = None
    tokens: int = 0

    @property
    def embedded_text(self) -> str:
        """What the model sees: the passage under its headings, so that it is not out of context."""
        return "\n".join(
            [" > ".join(self.heading_path), self.text] if self.heading_path else [self.text]
        )

    @property
    def text_hash(self) -> bytes:
        return hashlib.sha256(self.embedded_text.encode()).digest()


@dataclass(frozen=True, slots=True)
class ChunkSet:
    """All chunks of one content under one chunker."""

    content_hash: bytes
    parser: str
    chunker: str
    chunks: tuple[Chunk, ...]


class InputKind(StrEnum):
    """Why a text is embedded: some models put documents and questions differently."""

    DOCUMENT = "document"
    QUESTION = "question"


@dataclass(frozen=True, slots=True)
class EmbedderIdentity:
    """All that a stored vector depends on beside its text, as one line that can be read again.

    A server other than the provider's own belongs to it: it may give that name to another model.

    >>> identity = EmbedderIdentity("openai", "BAAI/bge-m3", 1024, "plain@1", "http://gpu:8000/v1")
    >>> str(identity)
    'openai:BAAI/bge-m3/1024/plain@1 at http://gpu:8000/v1'
    >>> EmbedderIdentity.read(str(identity)) == identity
    True
    """

    provider: str
    model: str
    dimensions: int
    preprocessing: str
    """What is done to a text, the input kind that the model is told, and their version."""
    base_url: str | None = None

    def __str__(self) -> str:
        server = f" at {self.base_url}" if self.base_url else ""
        return f"{self.provider}:{self.model}/{self.dimensions}/{self.preprocessing}{server}"

    @property
    def server(self) -> tuple[str, str | None]:
        """What a key is for."""
        return self.provider, self.base_url

    @classmethod
    def read(cls, text: str) -> "EmbedderIdentity | None":
        found = re.fullmatch(
            r"([a-z]+):(\S+)/([0-9]+)/([a-z_]+@[0-9]+)(?: at (\S+))?", text, re.ASCII
        )
        if found is None:
            return None
        provider, model, dimensions, preprocessing, base_url = found.groups()
        return cls(provider, model, int(dimensions), preprocessing, base_url)


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model whose dimensions need not be told."""

    dimensions: int
    others: tuple[int, ...] = ()
    """What it can be asked for instead."""
    fewer: bool = False
    """It can be asked for any smaller number."""

    def can_have(self, dimensions: int) -> bool:
        return dimensions in (self.dimensions, *self.others) or (
            self.fewer and dimensions < self.dimensions
        )

    def __str__(self) -> str:
        several = " or ".join(map(str, (self.dimensions, *self.others)))
        return f"{several}{', or fewer' if self.fewer else ''}"


HOSTED_MODELS: Mapping[str, Mapping[str, KnownModel]] = {
    "openai": {
        "text-embedding-3-small": KnownModel(1536, fewer=True),
        "text-embedding-3-large": KnownModel(3072, fewer=True),
        "text-embedding-ada-002": KnownModel(1536),
    },
    "cohere": {
        "embed-v4.0": KnownModel(1536, others=(1024, 512, 256)),
        "embed-multilingual-v3.0": KnownModel(1024),
        "embed-english-v3.0": KnownModel(1024),
        "embed-multilingual-light-v3.0": KnownModel(384),
        "embed-english-light-v3.0": KnownModel(384),
    },
}
"""Provider to the models known of it; it, or a server that speaks its API, may have others."""


def dimensions_of(provider: str, model: str, wanted: int | None) -> int:
    """How many a vector of this model has; refused where that is not known, or cannot be.

    >>> dimensions_of("openai", "text-embedding-3-small", None)
    1536
    """
    known = HOSTED_MODELS[provider].get(model)
    if known is None and wanted is None:
        raise ConfigurationError(
            f"how many dimensions {provider}:{model} has is not known; add"
            " 'embedding: {dimensions: NUMBER}'"
        )
    if known is None or wanted is None:
        return wanted or (known.dimensions if known else 0)
    if not known.can_have(wanted):
        raise ConfigurationError(f"{provider}:{model} has {known} dimensions, not {wanted}")
    return wanted


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The most that one request to a model may hold."""

    texts: int
    tokens: int
    tokens_a_text: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What a provider was asked for, and what it billed."""

    requests: int = 0
    texts: int = 0
    tokens: int = 0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(
            self.requests + other.requests, self.texts + other.texts, self.tokens + other.tokens
        )


@dataclass(frozen=True, slots=True)
class Passage:
    """Where a text that was to be embedded stands in a document."""

    doc_id: str
    content_hash: bytes
    text_hash: bytes
    ord: int
    start: int
    end: int


# --- quality -----------------------------------------------------------------------------------


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
class GraphRecall:
    """How much of what exact search finds the graph of a generation finds."""

    generation: int
    recall: float
    questions: int


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


# --- settings of a corpus ----------------------------------------------------------------------


DOCUMENT_PATTERNS = (
    "**/*.md",
    "**/*.markdown",
    "**/*.txt",
    "**/*.html",
    "**/*.htm",
    "**/*.pdf",
    "**/*.docx",
)
"""What is taken for a document where nothing else is said."""


@dataclass(frozen=True, slots=True)
class LocalFilesSettings:
    """A folder: which files of it are documents."""

    path: str
    include: tuple[str, ...] = DOCUMENT_PATTERNS
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class S3Settings:
    """A bucket of an object store, or what lies below a prefix in it. No secret stands here."""

    bucket: str
    prefix: str = ""
    include: tuple[str, ...] = DOCUMENT_PATTERNS
    exclude: tuple[str, ...] = ()
    region: str | None = None
    endpoint_url: str | None = None
    """An object store that speaks S3; None is Amazon's own."""
    profile: str | None = None
    queue_url: str | None = None
    """The SQS queue that the bucket tells of its changes."""


SourceSettings = LocalFilesSettings | S3Settings


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How often a source is looked at."""

    every_s: int | None = None
    """None: every 5 seconds a folder or a queue, every 60 a bucket."""
    listing_every_s: int = 3600
    """How often a source that tells of its changes is listed all the same."""


@dataclass(frozen=True, slots=True)
class AutomationSettings:
    """What is done without hands beside watching the source."""

    repair: bool = True
    """Materialize what is missing or stale, and try again what has failed."""
    attempts: int = 6
    """How often in a row a bucket that fails is tried again by itself."""
    retry_after_s: int = 60
    """The wait before the first of them; each later one is twice as long."""
    rebuild_window: str | None = None
    """Such as `22:00-06:00`: when a changed recipe may embed; None: at any time."""
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """Cron expressions, in the time zone of the automation; None switches one off."""

    reconciliation: str | None = "0 1 * * *"
    quality: str | None = "0 2 * * *"
    upkeep: str | None = "0 4 * * *"


@dataclass(frozen=True, slots=True)
class UpkeepSettings:
    """How long upkeep leaves alone what nothing uses any more."""

    keep_versions_days: float | None = 30
    """What was made of earlier versions of documents and of earlier recipes; None: for ever."""
    keep_logs_days: float = 90


@dataclass(frozen=True, slots=True)
class QualitySettings:
    """From where on something is wrong with a document, a chunk, a vector or the index."""

    min_chars: int = 1
    """A text with fewer characters that are no space is empty."""
    max_garbled: float = 0.02
    """The share of a text's characters that may be mojibake."""
    max_copies: int = 50
    """How many documents may have the same content."""
    max_drop: float = 0.3
    """The share of its rows that an index may lose within a day."""
    min_recall: float = 0.95
    """How much of the exact search the graph must find."""
    quarantine: tuple[QualityRule, ...] = (
        "empty_text",
        "garbled_text",
        "broken_tiling",
        "wrong_dimension",
        "bad_norm",
    )
    """The rules that keep a document out of the index; the others are only told of."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """One expectation of Great Expectations: its name in snake case, and its arguments."""

    name: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    quarantine: bool = False
    """Whether documents that do not meet it are kept out of the index."""

    def __str__(self) -> str:
        given = (f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.name}({', '.join(given)})"


@dataclass(frozen=True, slots=True)
class ExpectationSettings:
    """What is expected of each stage, beside what is always expected."""

    required: bool = False
    """Whether a generation that does not meet all of them is not published."""
    documents: tuple[Expectation, ...] = ()
    chunks: tuple[Expectation, ...] = ()
    embeddings: tuple[Expectation, ...] = ()
    index: tuple[Expectation, ...] = ()

    @property
    def stages(self) -> dict[str, tuple[Expectation, ...]]:
        return {
            "documents": self.documents,
            "chunks": self.chunks,
            "embeddings": self.embeddings,
            "index": self.index,
        }


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """Who is told what has failed. The names are those of variables that hold the addresses."""

    slack_webhook_env: str | None = None
    pagerduty_key_env: str | None = None
    webhook_url_env: str | None = None
    webhook_secret_env: str | None = None
    successes: bool = False
    """Also tell of what was published."""

    @property
    def wanted(self) -> bool:
        """Whether anybody is to be told."""
        return bool(self.slack_webhook_env or self.pagerduty_key_env or self.webhook_url_env)


@dataclass(frozen=True, slots=True)
class ChunkingSettings:
    max_chars: int = 1200
    min_chars: int = 400


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """How an embedding model is reached, and how fast it may be asked. No secret stands here."""

    base_url: str | None = None
    """The server; None is the provider's own."""
    api_key_env: str | None = None
    """The variable that holds its key; None is the provider's usual one, at its own server."""
    dimensions: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int = 4


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """The HNSW graph, built after the load."""

    m: int = 16
    ef_construction: int = 64


@dataclass(frozen=True, slots=True)
class RetrievalSettings:
    """How candidates are found and ordered; stands in the row of `published_index`."""

    candidates: int = 100
    ef_search: int = 100
    lexical_weight: float = 0.5
    min_support: float = 0.42


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """The golden set of a corpus and what a generation must reach on it."""

    golden_set: str | None = None
    tolerance: float = 0.02
    floors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FreshnessSettings:
    """How old the last successful materialization may get, and how long a change may wait."""

    warn_after_h: float | None = None
    fail_after_h: float = 48
    waiting_fail_min: float = 60
    """Minutes that a change at the source may wait to be served."""
    source_fail_min: float = 60
    """Minutes that the source may not be listed."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """One `defs.yaml`, validated: a body of documents with its settings."""

    name: str
    source: SourceSettings
    buckets: int = 16
    parser: str = "auto"
    chunking: ChunkingSettings = ChunkingSettings()
    embedder: str = "wordllama:l2_supercat_256"
    embedding: EmbeddingSettings = EmbeddingSettings()
    index: IndexSettings = IndexSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    freshness: FreshnessSettings = FreshnessSettings()
    watch: WatchSettings = WatchSettings()
    automation: AutomationSettings = AutomationSettings()
    schedules: ScheduleSettings = ScheduleSettings()
    upkeep: UpkeepSettings = UpkeepSettings()
    quality: QualitySettings = QualitySettings()
    expectations: ExpectationSettings = ExpectationSettings()
    alerts: AlertSettings = AlertSettings()
    acl: tuple[str, ...] = ("everyone",)
    on_poison: Literal["leave", "keep_last_good"] = "leave"
    """What a served document does when its new content cannot be processed."""
    scope: str = "default"
    description: str = ""
    owners: tuple[str, ...] = ()

    @property
    def bucket_keys(self) -> list[str]:
        return [bucket_key(bucket, self.buckets) for bucket in range(self.buckets)]


# --- generations -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an index is made with. Another recipe is another generation; documents are not in it."""

    parser: str
    chunker: str
    embedder: str
    dimensions: int
    index: IndexSettings

    @property
    def fingerprint(self) -> str:
        parts = [self.parser, self.chunker, self.embedder, str(self.dimensions), repr(self.index)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class GenerationState(StrEnum):
    BUILDING = "building"
    CANDIDATE = "candidate"
    PUBLISHED = "published"
    RETIRED = "retired"
    CANCELLED = "cancelled"
    DROPPED = "dropped"


LIVING = (
    GenerationState.BUILDING,
    GenerationState.CANDIDATE,
    GenerationState.PUBLISHED,
    GenerationState.RETIRED,
)


@dataclass(frozen=True, slots=True)
class Generation:
    number: int
    corpus: str
    state: GenerationState
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class PublishedIndex:
    """The contract between the halves: all that a reader needs to know."""

    corpus: str
    generation: int
    embedder: str
    retrieval: RetrievalSettings
    published_at: datetime
    run_id: str
    api_key_env: str | None = None
    """The variable in which readers find the key of the embedder, if it is not the usual one."""

    @property
    def question_embedder(self) -> str:
        """The embedder, and where its key is: all that is needed to embed a question."""
        return f"{self.embedder} with {self.api_key_env}" if self.api_key_env else self.embedder


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """Who does the work: the Dagster run (or command) and the version of the code."""

    run_id: str
    code_version: str


# --- where things come from --------------------------------------------------------------------


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


# --- merging, verifying, erasing ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Description:
    """What is said of a document beside its chunks: which content, where it stands, who may see."""

    content_hash: bytes
    uri: str
    title: str
    acl: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One document as it was observed, beside what one generation serves of it."""

    doc_id: str
    state: DocumentState | None
    """None: it was never observed, or has been erased."""
    version: int = 0
    """The change counter of its bucket when it was observed."""
    observed: Description | None = None
    served: Description | None = None
    ready: bool = False
    """All chunks and vectors of the observed content are stored."""
    restorable: bool = False
    """All chunks and vectors of the served content are stored."""
    intact: bool = True
    """The rows that are searched are those of the served content, no more and no fewer."""
    poison: bool = False
    """Its observed content cannot be processed for this generation."""
    quarantined: bool = False
    """Its observed content breaks a rule of quality, and nobody has released it."""


@dataclass(frozen=True, slots=True)
class MergePlan:
    """What a merge has to do, document by document; every other one is served as it should be."""

    add: tuple[str, ...] = ()
    replace: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    describe: tuple[str, ...] = ()
    """Only what is said of them changes, or who may see them: in place."""
    restore: tuple[str, ...] = ()
    """Their rows were damaged, and what is served of them cannot change yet."""
    waiting: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    healed: int = 0
    """How many are written again only because their rows were damaged."""
    waiting_since: int | None = None
    """The lowest version of those that wait."""

    def __bool__(self) -> bool:
        return bool(self.add or self.replace or self.remove or self.describe or self.restore)


class Repair(StrEnum):
    """What makes a damage good, without paying twice for anything else."""

    REBUILD = "rebuild"
    """From what is stored; nothing is embedded."""
    EMBED_AGAIN = "embed again"
    CUT_AGAIN = "cut again"
    READ_AGAIN = "read again"


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that is stored is not what it should be."""

    kind: str
    """What is damaged, such as `text`, `embedding` or `index row`."""
    what: str
    """For people: how it differs from what it should be."""
    subjects: tuple[str, ...]
    """Ids of documents, hashes of contents or texts: what `kind` is identified by."""
    repair: Repair
    generation: int | None = None
    bucket: int | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was erased of a document, where else its content stands, and what is out of reach."""

    corpus: str
    doc_id: str
    erased: Mapping[str, int]
    """Table to rows taken away."""
    duplicates: tuple[tuple[str, str], ...]
    """Corpus and id of documents that have, or had, one of its contents."""
    proof: str
    """A query that counts what is left of it; anyone with the writer's rights can run it."""
    remaining: int
    """What the proof gave."""
    unreached: tuple[str, ...]
    """Where its text may still be."""

    @property
    def found(self) -> bool:
        return any(self.erased.values())


# --- alerts ------------------------------------------------------------------------------------


class Urgency(StrEnum):
    """The most urgent first; in the words of PagerDuty."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class AlertPhase(StrEnum):
    OPENED = "opened"
    REMINDED = "reminded"
    """It is still so."""
    RECOVERED = "recovered"
    NEWS = "news"
    TRIAL = "trial"


@dataclass(frozen=True, slots=True)
class Alert:
    """A message to people: what, since when, where to look and what to do."""

    id: str
    """The same for one that is delivered twice."""
    phase: AlertPhase
    corpus: str
    cause: str
    """All messages of one cause are of one incident."""
    title: str
    urgency: Urgency
    since: datetime
    at: datetime
    detail: str = ""
    count: int = 1
    run_url: str | None = None
    runbook: str | None = None
    """The address of the page, or where it stands in the repository."""


# --- search and answer -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found, with all that a citation needs and why it was found."""

    generation: int
    doc_id: str
    ord: int
    title: str
    uri: str
    heading_path: tuple[str, ...]
    text: str
    start: int
    end: int
    content_hash: bytes
    run_id: str
    score: float
    dense: float | None
    lexical: float | None


@dataclass(frozen=True, slots=True)
class QuestionTerm:
    """A word of the question, its stem, and in how many chunks that stem stands."""

    word: str
    stem: str
    chunks: int
    visible: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What one read of one generation gave: candidates of both legs, unordered, and the words."""

    hits: tuple[Hit, ...]
    terms: tuple[QuestionTerm, ...]
    chunks: int
    """How many chunks the generation has: what the terms' counts are to be held against."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The best chunks for a question, best first, and what the index knows of its words."""

    question: str
    corpus: str
    generation: int
    hits: tuple[Hit, ...]
    terms: tuple[QuestionTerm, ...]


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a sentence stands: `document.text[start:end] == quote`."""

    number: int
    generation: int
    doc_id: str
    ord: int
    title: str
    uri: str
    heading_path: tuple[str, ...]
    start: int
    end: int
    quote: str
    content_hash: bytes
    run_id: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An extractive answer: sentences of the corpus, word for word; none where it is refused."""

    question: str
    corpus: str
    generation: int
    citations: tuple[Citation, ...]
    hits: tuple[Hit, ...]
    lexical_support: float
    never_mentioned: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        return not self.citations

    @property
    def text(self) -> str:
        """The quotes with their numbers; after a block of code the number has its own line."""
        return "\n".join(
            f"{citation.quote}{chr(10) if citation.quote.endswith(('```', '~~~')) else ' '}"
            f"[{citation.number}]"
            for citation in self.citations
        )


# --- evaluation --------------------------------------------------------------------------------


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


# --- expectations ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExpectationResult:
    """How the rows of a stage stand to one expectation."""

    expectation: Expectation
    met: bool
    rows: int | None = None
    """How many were looked at, where it looks at rows."""
    unexpected: int | None = None
    """How many of them are not as expected."""
    observed: str | None = None
    """What was found instead, where it looks at a whole column."""
    failing: tuple[tuple[str, int | None], ...] = ()
    """Document and chunk of the first of them."""
    contents: Mapping[str, bytes] = field(default_factory=dict)
    """What the failing documents were, where they are to be quarantined."""
    broken: str | None = None
    """Why it could not be judged: it is the expectation that is to be mended."""

    @property
    def named(self) -> tuple[str, ...]:
        """The failing rows as people name them: a document, or `DOCUMENT#CHUNK`."""
        return tuple(
            doc_id if number is None else f"{doc_id}#{number}" for doc_id, number in self.failing
        )

    @property
    def sentence(self) -> str:
        """What is not as expected, for people; ids and figures, never text."""
        if self.broken:
            return f"{self.expectation} cannot be judged: {self.broken}."
        if self.unexpected is None:
            return f"{self.expectation} does not hold; found is {self.observed}."
        of_rows = "" if self.rows is None else f" of {self.rows}"
        such = f", such as {self.named[0]}" if self.failing else ""
        return f"{self.expectation} does not hold for {self.unexpected}{of_rows} rows{such}."

    @property
    def warns_only(self) -> bool:
        return not self.broken and self.expectation.arguments.get("severity") in ("warning", "info")


@dataclass(frozen=True, slots=True)
class StageResult:
    """What was expected of one stage, what was found, and the page that shows it."""

    stage: str
    rows: int
    results: tuple[ExpectationResult, ...]
    page: str | None = None
    """The file, where one was written."""

    @property
    def page_url(self) -> str | None:
        return None if self.page is None else Path(self.page).as_uri()

    @property
    def unmet(self) -> tuple[ExpectationResult, ...]:
        return tuple(each for each in self.results if not each.met)
