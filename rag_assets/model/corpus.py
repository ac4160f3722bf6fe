"""The settings of a corpus."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from rag_assets.errors import ConfigurationError
from rag_assets.model.documents import bucket_key
from rag_assets.model.quality import QualityRule

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
    """How often in a row what fails is tried again by itself; then once a day. 0: never."""
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
    """How much of what an exact search finds the index must find."""
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

    required: tuple[str, ...] = ()
    """The stages of which a generation must meet all that is expected, or is not published."""
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

    @property
    def variables(self) -> tuple[str, ...]:
        """All that must be set."""
        named = (self.slack_webhook_env, self.pagerduty_key_env, self.webhook_url_env)
        return tuple(filter(None, (*named, self.webhook_secret_env)))


@dataclass(frozen=True, slots=True)
class ChunkingSettings:
    max_chars: int = 1200
    min_chars: int = 400
    adopted: str | None = None
    """Passages that were cut elsewhere, by the name that they were adopted under."""


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


IndexKind = Literal["exact", "hnsw", "ivfflat", "binary"]

MOST_DIMENSIONS: Mapping[IndexKind, int] = {
    "exact": 16_000,
    "hnsw": 4_000,
    "ivfflat": 4_000,
    "binary": 16_000,
}
"""How wide vectors may be: what an index, or else a column, of half precision holds."""


def check_width(kind: IndexKind, dimensions: int) -> None:
    """Refuses vectors that an index of this kind does not hold."""
    if dimensions <= (most := MOST_DIMENSIONS[kind]):
        return
    wider = " or ".join(each for each, limit in MOST_DIMENSIONS.items() if limit >= dimensions)
    instead = f"choose the kind {wider}, or " if wider else ""
    raise ConfigurationError(
        f"an index of the kind {kind} holds vectors of at most {most} dimensions, not {dimensions};"
        f" {instead}ask the model for fewer"
    )


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """The index of a generation, made after the load."""

    kind: IndexKind = "hnsw"
    m: int = 16
    """Of the graph of `hnsw` and `binary`, like `ef_construction`."""
    ef_construction: int = 64
    lists: int | None = None
    """Into how many lists `ivfflat` sorts the vectors; None: by how many there are."""

    @property
    def identity(self) -> str:
        """Equal for what makes equal indexes: what a kind has no use for is left out.

        >>> IndexSettings("ivfflat", m=8).identity
        'ivfflat lists=by rows'
        """
        match self.kind:
            case "hnsw":  # as it was written when there was no other kind
                return f"IndexSettings(m={self.m}, ef_construction={self.ef_construction})"
            case "binary":
                return f"binary m={self.m} ef_construction={self.ef_construction}"
            case "ivfflat":
                return f"ivfflat lists={self.lists or 'by rows'}"
            case "exact":
                return "exact"


@dataclass(frozen=True, slots=True)
class RetrievalSettings:
    """How candidates are found and ordered; stands in the row of `published_index`."""

    candidates: int = 100
    ef_search: int = 100
    """How far the graph of `hnsw` and `binary` is walked."""
    lexical_weight: float = 0.5
    min_support: float = 0.42
    probes: int = 20
    """How many lists of `ivfflat` are looked into."""
    oversampling: int = 4
    """How many times `candidates` `binary` takes by their bits, to order them by their vectors."""


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """The golden set of a corpus and what a generation must reach on it."""

    golden_set: str | None = None
    gate: tuple[str, ...] = ("ndcg@10", "answer_span_hit@5", "vector_recall@10")
    """The metrics of which none may fall by more than the tolerance, nor surely."""
    tolerance: float = 0.02
    confidence: float = 0.95
    floors: Mapping[str, float] = field(default_factory=dict)
    min_questions: int = 30
    """With fewer of them the gate warns that it sees little."""
    drift_tolerance: float = 0.05
    """How far the published generation may fall below what it scored when it was published."""
    on_drift: Literal["alert", "rebuild"] = "alert"


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """How long generations that were published before are kept for a rollback."""

    grace_h: float = 24
    """How long each is kept at least."""
    keep: int = 1
    """How many of them are kept however long ago they were retired."""

    @property
    def grace(self) -> timedelta:
        return timedelta(hours=self.grace_h)


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
    generations: GenerationSettings = GenerationSettings()
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
