"""The settings of a `defs.yaml`: names, types, bounds, defaults and what each of them does.

They are those of the dataclasses in `rag_assets.model`, which also hold the defaults.
"""

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from rag_assets import model
from rag_assets.corpus_file.expecting import check_arguments, check_columns, checked_name, unknown
from rag_assets.errors import ConfigurationError

COMPONENT_TYPE = "rag_assets.components.Corpus"

_CRON_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))

EMBEDDERS = {"wordllama": ("l2_supercat_256", "l2_supercat_128", "l2_supercat_64")}
"""The models of each embedded provider that a corpus can be embedded with; of others, any."""

TEXT = r"^[^\x00-\x1f\x7f]+$"
PROSE = r"^[^\x00]*$"
FILE_PATTERN = r"^[^/\\\x00-\x1f\x7f][^\\\x00-\x1f\x7f]*$"
PRINCIPAL = r"^[A-Za-z0-9_.:@/+=-]+$"
SCOPE = r"^[a-z][a-z0-9_-]{0,40}$"
OWNER = r"^(team:[A-Za-z0-9_-]+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,})$"

PATTERN_WORDS = {
    TEXT: "must be text on one line",
    PROSE: "must be text without NUL characters",
    FILE_PATTERN: "must be a pattern below the folder of the documents, such as '**/*.md'",
    PRINCIPAL: "must be one name of letters, digits and . : @ / + = - _, such as 'group:sales'",
    SCOPE: "must be small letters, digits, - and _, beginning with a letter, at most 41 of them",
    OWNER: "must be an e-mail address or 'team:NAME'",
}


def _checked_file_pattern(pattern: str) -> str:
    parts = pattern.split("/")
    if ".." in parts:
        raise ValueError("must stay below the folder of the documents, so it cannot contain '..'")
    if any("**" in part and part != "**" for part in parts):
        raise ValueError("'**' must stand alone between slashes, as in '**/*.md'")
    return pattern


def _embedder_names() -> list[str]:
    named = {**EMBEDDERS, **{name: tuple(known) for name, known in model.HOSTED_MODELS.items()}}
    return [f"{provider}:{name}" for provider, names in named.items() for name in names]


def _providers() -> list[str]:
    return [*EMBEDDERS, *model.HOSTED_MODELS]


def _checked_embedder(embedder: str) -> str:
    provider, _, name = embedder.partition(":")
    if not provider or not name:
        names = _embedder_names()
        known = [next(each for each in names if each.startswith(one)) for one in _providers()]
        raise unknown("must be written PROVIDER:MODEL", given=embedder, known=known)
    if provider not in _providers():
        raise unknown(f"unknown provider '{provider}'", given=provider, known=_providers())
    if re.search(r"\s", name):
        raise ValueError("the name of a model has no spaces")
    if provider in EMBEDDERS and name not in EMBEDDERS[provider]:
        words = f"{provider} has no model '{name}'"
        raise unknown(words, given=name, known=list(EMBEDDERS[provider]))
    return embedder


def _checked_base_url(url: str) -> str:
    """What is wrong is said without the URL: it may hold a password."""
    try:
        parts = urlsplit(url)
        readable = parts.port is None or parts.port > 0
    except ValueError:
        readable = False
    if not readable or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be a URL such as 'http://localhost:8000/v1'")
    if parts.username or parts.password:
        raise ValueError("must not hold a user or password; name the variable with the key instead")
    if parts.query or parts.fragment or not re.fullmatch(r"[!-~]+", url):
        raise ValueError("must be the plain address of the API, without '?', '#' or spaces")
    return url.rstrip("/")


def _checked_variable(name: str) -> str:
    """What is wrong is said without the name: somebody may have written the key itself."""
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,99}", name, re.ASCII):
        raise ValueError(
            "must be the name of an environment variable, such as 'SALES_API_KEY'; the key itself"
            " never stands in a file"
        )
    return name


def _checked_window(window: str) -> str:
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", window):
        raise ValueError("must be two times of a day, such as '22:00-06:00'")
    if window[:5] == window[6:]:
        raise ValueError("begins when it ends; leave it out where any time will do")
    return window


def _checked_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            "is no time zone that is known here; write one such as 'Europe/Berlin'"
        ) from None
    return name


def _is_cron_field(text: str, bounds: tuple[int, int]) -> bool:
    """Numbers, ranges and steps, several of them with commas.

    >>> [_is_cron_field(text, (0, 59)) for text in ("*/15", "0,30", "10-20/2", "75", "20-10")]
    [True, True, True, False, False]
    """
    first, last = bounds
    for part in text.split(","):
        found = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/([1-9]\d*))?", part, re.ASCII)
        if found is None:
            return False
        begin = int(found[1] or first)
        if not first <= begin <= int(found[2] or last) <= last:
            return False
    return True


def _checked_cron(expression: str) -> str:
    fields = expression.split(" ")
    if len(fields) != len(_CRON_BOUNDS) or not all(map(_is_cron_field, fields, _CRON_BOUNDS)):
        raise ValueError(
            "must be a cron expression of five fields, such as '0 2 * * *' for two at night"
        )
    return expression


Text = Annotated[str, Field(pattern=TEXT)]
FilePattern = Annotated[str, Field(pattern=FILE_PATTERN), AfterValidator(_checked_file_pattern)]
Principal = Annotated[str, Field(pattern=PRINCIPAL)]
Owner = Annotated[str, Field(pattern=OWNER)]
Embedder = Annotated[
    str,
    AfterValidator(_checked_embedder),
    Field(json_schema_extra={"examples": [*_embedder_names()]}),
]
BaseUrl = Annotated[str, AfterValidator(_checked_base_url)]
Variable = Annotated[str, AfterValidator(_checked_variable)]
AdoptedName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
Rate = Annotated[int, Field(ge=1, le=1_000_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Hours = Annotated[float, Field(ge=0.1, le=87_600)]
Minutes = Annotated[float, Field(ge=0.1, le=525_600)]
Days = Annotated[float, Field(ge=1, le=36_500)]
Window = Annotated[str, AfterValidator(_checked_window)]
TimeZone = Annotated[str, AfterValidator(_checked_timezone)]
Cron = Annotated[str, AfterValidator(_checked_cron)]
Parser = Literal["auto", "markdown", "text", "html", "pdf", "docx"]
OnPoison = Literal["leave", "keep_last_good"]
Stage = Literal["documents", "chunks", "embeddings", "index"]
OnDrift = Literal["alert", "rebuild"]
Metric = Literal[
    "recall@5",
    "recall@10",
    "precision@5",
    "mrr@10",
    "ndcg@10",
    "answer_span_hit@1",
    "answer_span_hit@5",
    "vector_recall@10",
    "citation_hit",
    "refusal_correct",
]

_FILES = model.LocalFilesSettings(path="")
_CHUNKING = model.ChunkingSettings()
_EMBEDDING = model.EmbeddingSettings()
_INDEX = model.IndexSettings()
_RETRIEVAL = model.RetrievalSettings()
_EVALUATION = model.EvaluationSettings()
_GENERATIONS = model.GenerationSettings()
_FRESHNESS = model.FreshnessSettings()
_S3 = model.S3Settings(bucket="")
_WATCH = model.WatchSettings()
_AUTOMATION = model.AutomationSettings()
_SCHEDULES = model.ScheduleSettings()
_UPKEEP = model.UpkeepSettings()
_QUALITY = model.QualitySettings()
_EXPECTATIONS = model.ExpectationSettings()
_ALERTS = model.AlertSettings()
_CORPUS = model.Corpus(name="", source=_FILES)


class Attributes(BaseModel):
    """What every group of settings forbids: unknown names, and `"16"` where 16 is meant."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, validate_default=False
    )


class LocalFilesAttributes(Attributes):
    """A folder of files."""

    path: Text = Field(
        description="The folder of the documents: absolute, or relative to the folder of this file."
    )
    include: list[FilePattern] = Field(
        default=list(_FILES.include),
        min_length=1,
        description="Which files are documents. `**` stands for any number of folders.",
    )
    exclude: list[FilePattern] = Field(
        default=list(_FILES.exclude), description="Which of them are not, after all."
    )


class S3Attributes(Attributes):
    """A bucket of an object store. Credentials come from where Amazon's clients look for them."""

    bucket: Text = Field(description="The name of the bucket.")
    prefix: str = Field(
        default=_S3.prefix,
        pattern=PROSE,
        description="Only keys that begin so; the ids of the documents leave it out.",
    )
    include: list[FilePattern] = Field(
        default=list(_S3.include),
        min_length=1,
        description="Which objects are documents. `**` stands for any number of folders.",
    )
    exclude: list[FilePattern] = Field(
        default=list(_S3.exclude), description="Which of them are not, after all."
    )
    region: Text | None = Field(default=_S3.region, description="The region of the bucket.")
    endpoint_url: BaseUrl | None = Field(
        default=_S3.endpoint_url,
        description="The address of another object store that speaks S3.",
    )
    profile: Text | None = Field(
        default=_S3.profile, description="The profile in the files of Amazon's clients."
    )
    queue_url: BaseUrl | None = Field(
        default=_S3.queue_url,
        description="The SQS queue to which the bucket sends its events: changes are then known"
        " without listing it. It is listed all the same, as `watch.listing_every_s` says.",
    )


class SourceAttributes(Attributes):
    """Where the documents come from: one of these."""

    local_files: LocalFilesAttributes | None = Field(default=None, description="A folder of files.")
    s3: S3Attributes | None = Field(default=None, description="A bucket of an object store.")

    @property
    def named(self) -> LocalFilesAttributes | S3Attributes:
        sources = [each for each in (self.local_files, self.s3) if each is not None]
        if len(sources) != 1:
            raise ValueError("name one source: 'local_files' or 's3'")
        return sources[0]

    @model_validator(mode="after")
    def _one(self) -> Self:
        _ = self.named
        return self


class WatchAttributes(Attributes):
    """How often the source is looked at."""

    every_s: Annotated[int, Field(ge=1, le=86_400)] | None = Field(
        default=_WATCH.every_s,
        description="Seconds between two looks. Without it, 5 for a folder or a queue and 60 for a"
        " bucket.",
    )
    listing_every_s: int = Field(
        default=_WATCH.listing_every_s,
        ge=10,
        le=604_800,
        description="Seconds between two listings of a bucket that sends its events to a queue.",
    )


class AutomationAttributes(Attributes):
    """What is done without hands beside watching the source."""

    repair: bool = Field(
        default=_AUTOMATION.repair,
        description="Materialize what is missing or stale, and try again what has failed.",
    )
    attempts: int = Field(
        default=_AUTOMATION.attempts,
        ge=0,
        le=100,
        description="How often in a row a bucket that fails is tried again by itself; then once a"
        " day. With 0, never.",
    )
    retry_after_s: int = Field(
        default=_AUTOMATION.retry_after_s,
        ge=1,
        le=86_400,
        description="Seconds before the first of them; each later one waits twice as long.",
    )
    rebuild_window: Window | None = Field(
        default=_AUTOMATION.rebuild_window,
        description="When the documents may be embedded for changed settings, such as"
        " `22:00-06:00`. Without it, at any time. Changed documents are embedded at any time.",
    )
    timezone: TimeZone = Field(
        default=_AUTOMATION.timezone,
        description="The time zone of the window and of the schedules.",
    )


class ScheduleAttributes(Attributes):
    """When the nightly work is done, as cron expressions; `null` switches one off."""

    reconciliation: Cron | None = Field(
        default=_SCHEDULES.reconciliation,
        description="All buckets are held against a listing of the source.",
    )
    quality: Cron | None = Field(
        default=_SCHEDULES.quality,
        description="Everything stored is verified, the expectations are judged, the golden set is"
        " scored, and the index is held against exact search.",
    )
    upkeep: Cron | None = Field(
        default=_SCHEDULES.upkeep,
        description="What no generation uses any more is deleted, and tables are vacuumed.",
    )


class UpkeepAttributes(Attributes):
    """How long upkeep leaves alone what nothing uses any more."""

    keep_versions_days: Days | None = Field(
        default=_UPKEEP.keep_versions_days,
        description="Days for which the texts, chunks and vectors of earlier versions of documents,"
        " and of earlier settings, are kept after their end: going back to them embeds nothing."
        " `null` keeps them for ever. That a version was there is always remembered.",
    )
    keep_logs_days: Days = Field(
        default=_UPKEEP.keep_logs_days,
        description="Days for which measurements, feedback, and the scores of earlier contents, are"
        " kept.",
    )


class QualityAttributes(Attributes):
    """From where on something is wrong."""

    min_chars: int = Field(
        default=_QUALITY.min_chars,
        ge=0,
        le=10_000,
        description="A text with fewer characters that are no space is empty.",
    )
    max_garbled: Share = Field(
        default=_QUALITY.max_garbled,
        description="The share of a text's characters that may be those of a wrong encoding.",
    )
    max_copies: int = Field(
        default=_QUALITY.max_copies,
        ge=1,
        le=1_000_000,
        description="How many documents may have the same content.",
    )
    max_drop: Share = Field(
        default=_QUALITY.max_drop,
        description="The share of its rows that the index may lose within a day.",
    )
    min_recall: Share = Field(
        default=_QUALITY.min_recall,
        description="How much of what an exact search finds the index must find.",
    )
    quarantine: list[model.QualityRule] = Field(
        default=list(_QUALITY.quarantine),
        description="The rules that keep a document out of the index; the others are only told of.",
    )


class ExpectationAttributes(BaseModel):
    """One expectation: `expect` names it, all else is handed to it."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    expect: Annotated[str, AfterValidator(checked_name)] = Field(
        description="The expectation, by its name in Great Expectations, such as"
        " `expect_column_values_to_not_be_null`. Its arguments stand beside it.",
    )
    quarantine: bool = Field(
        default=False,
        description="Keep documents that do not meet it out of the index.",
    )

    @property
    def arguments(self) -> dict[str, object]:
        return self.model_extra or {}

    @model_validator(mode="after")
    def _can_be_judged(self) -> Self:
        check_arguments(self.expect, self.arguments, quarantine=self.quarantine)
        return self


def _of_documents(expectation: ExpectationAttributes) -> ExpectationAttributes:
    check_columns("documents", expectation.arguments)
    return expectation


def _of_chunks(expectation: ExpectationAttributes) -> ExpectationAttributes:
    check_columns("chunks", expectation.arguments)
    return expectation


def _of_embeddings(expectation: ExpectationAttributes) -> ExpectationAttributes:
    check_columns("embeddings", expectation.arguments)
    return expectation


def _of_index(expectation: ExpectationAttributes) -> ExpectationAttributes:
    check_columns("index", expectation.arguments)
    if expectation.quarantine:
        raise ValueError(
            "a row of the index cannot be quarantined: the next run writes it again; expect it of"
            " the documents, chunks or embeddings"
        )
    return expectation


class ExpectationsAttributes(Attributes):
    """What is expected of the rows of each stage, beside what is always expected."""

    required: bool | list[Stage] = Field(
        default=False,
        description="Publish a new generation of the index only if it meets all expectations, or"
        " all of the stages that are listed here.",
    )
    documents: list[Annotated[ExpectationAttributes, AfterValidator(_of_documents)]] = Field(
        default=[], description="Of the live documents."
    )
    chunks: list[Annotated[ExpectationAttributes, AfterValidator(_of_chunks)]] = Field(
        default=[], description="Of the chunks of the newest generation."
    )
    embeddings: list[Annotated[ExpectationAttributes, AfterValidator(_of_embeddings)]] = Field(
        default=[], description="Of their vectors, as length, norm and dimensions."
    )
    index: list[Annotated[ExpectationAttributes, AfterValidator(_of_index)]] = Field(
        default=[], description="Of the rows that are served."
    )


class AlertAttributes(Attributes):
    """Who is told what has failed, and that it works again. Only names of variables stand here."""

    slack_webhook_env: Variable | None = Field(
        default=_ALERTS.slack_webhook_env,
        description="The variable with the address of an incoming webhook of Slack.",
    )
    pagerduty_key_env: Variable | None = Field(
        default=_ALERTS.pagerduty_key_env,
        description="The variable with the integration key of a PagerDuty service.",
    )
    webhook_url_env: Variable | None = Field(
        default=_ALERTS.webhook_url_env,
        description="The variable with an address that gets each alert as JSON.",
    )
    webhook_secret_env: Variable | None = Field(
        default=_ALERTS.webhook_secret_env,
        description="The variable with the secret that those alerts are signed with.",
    )
    successes: bool = Field(
        default=_ALERTS.successes,
        description="Also tell of what was published.",
    )

    @model_validator(mode="after")
    def _signs_something(self) -> Self:
        if self.webhook_secret_env and not self.webhook_url_env:
            raise ValueError(
                "webhook_secret_env signs what is sent to webhook_url_env; name that one too"
            )
        return self


class ChunkingAttributes(Attributes):
    """How a document is cut into passages. Another value builds a new generation of the index."""

    max_chars: int = Field(
        default=_CHUNKING.max_chars,
        ge=50,
        le=100_000,
        description="No passage has more characters than this.",
    )
    min_chars: int = Field(
        default=_CHUNKING.min_chars,
        ge=1,
        le=100_000,
        description="Small neighbours are joined up to this many characters. Less than"
        " `max_chars`.",
    )
    adopted: AdoptedName | None = Field(
        default=_CHUNKING.adopted,
        description="The name under which `rag-assets adopt` has taken over the passages of another"
        " table. What they do not hold is cut as the other settings say.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_chars >= self.max_chars:
            raise ValueError(
                f"min_chars ({self.min_chars}) must be less than max_chars ({self.max_chars})"
            )
        return self


class EmbeddingAttributes(Attributes):
    """How a hosted embedding model is reached, and how fast it is asked. No key stands here."""

    base_url: BaseUrl | None = Field(
        default=_EMBEDDING.base_url,
        description="The API of a server of your own, which speaks that of the provider, such as"
        " `http://localhost:8000/v1`. Another server builds a new generation of the index.",
    )
    api_key_env: Variable | None = Field(
        default=_EMBEDDING.api_key_env,
        description="The environment variable that holds the key. Without it, `OPENAI_API_KEY` or"
        " `CO_API_KEY` for the provider's own server, and no key for another.",
    )
    dimensions: Annotated[int, Field(ge=1, le=max(model.MOST_DIMENSIONS.values()))] | None = Field(
        default=_EMBEDDING.dimensions,
        description="The length of a vector: of a model that is not known, or shorter than usual"
        " of one that can. Another value builds a new generation of the index.",
    )
    requests_per_minute: Rate | None = Field(
        default=_EMBEDDING.requests_per_minute,
        description="How many requests all runs together may make. Without it, as many as the"
        " provider takes.",
    )
    tokens_per_minute: Rate | None = Field(
        default=_EMBEDDING.tokens_per_minute,
        description="How many tokens all runs together may send.",
    )
    concurrency: int = Field(
        default=_EMBEDDING.concurrency,
        ge=1,
        le=64,
        description="How many requests a run has under way at once.",
    )


_KINDS_WITH: dict[str, tuple[model.IndexKind, ...]] = {
    "m": ("hnsw", "binary"),
    "ef_construction": ("hnsw", "binary"),
    "lists": ("ivfflat",),
}


class IndexAttributes(Attributes):
    """What the nearest vectors are found with. Another value builds a new generation."""

    kind: model.IndexKind = Field(
        default=_INDEX.kind,
        description="`exact` looks at every vector; `hnsw` walks a graph; `ivfflat` looks into the"
        " nearest of some lists; `binary` walks a graph of one bit a dimension, and orders what it"
        " finds by the vectors.",
    )
    m: int = Field(
        default=_INDEX.m,
        ge=2,
        le=100,
        description="Links of each vector in the graph of `hnsw` and `binary`. More find more, and"
        " take memory and time to build.",
    )
    ef_construction: int = Field(
        default=_INDEX.ef_construction,
        ge=4,
        le=1000,
        description="Candidates looked at for each link while the graph is built. At least twice"
        " `m`.",
    )
    lists: int | None = Field(
        default=_INDEX.lists,
        ge=1,
        le=32768,
        description="Into how many lists `ivfflat` sorts the vectors. Without it, one for each"
        " thousand that are there when it is built; of more than a million, the square root.",
    )

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        for name in sorted(self.model_fields_set & _KINDS_WITH.keys()):
            kinds = _KINDS_WITH[name]
            if self.kind not in kinds:
                raise ValueError(
                    f"{name} is a setting of the kind {' or '.join(kinds)}, and this index is of"
                    f" the kind {self.kind}; remove {name}, or write kind: {kinds[0]}"
                )
        return self

    @model_validator(mode="after")
    def _wide_enough(self) -> Self:
        if self.ef_construction < 2 * self.m:
            raise ValueError(
                f"ef_construction ({self.ef_construction}) must be at least twice m ({self.m})"
            )
        return self


class RetrievalAttributes(Attributes):
    """How passages are found and ordered. Readers get these with the published index."""

    candidates: int = Field(
        default=_RETRIEVAL.candidates,
        ge=1,
        le=1000,
        description="How many passages each of the two searches, by words and by meaning,"
        " hands over to be ordered.",
    )
    ef_search: int = Field(
        default=_RETRIEVAL.ef_search,
        ge=1,
        le=1000,
        description="Vectors looked at in the graph of `hnsw` and `binary` for one question. More"
        " find more, slower.",
    )
    lexical_weight: float = Field(
        default=_RETRIEVAL.lexical_weight,
        ge=0,
        le=1,
        description="The share of the search by words in the order of the results; the rest is"
        " the share of the search by meaning.",
    )
    min_support: float = Field(
        default=_RETRIEVAL.min_support,
        ge=0,
        le=1,
        description="The share of the question's meaningful words, weighted by how rare they are,"
        " that the best passage must have. With less, the question is refused.",
    )
    probes: int = Field(
        default=_RETRIEVAL.probes,
        ge=1,
        le=32768,
        description="Lists of `ivfflat` looked into for one question. More find more, slower.",
    )
    oversampling: int = Field(
        default=_RETRIEVAL.oversampling,
        ge=1,
        le=100,
        description="How many times `candidates` are taken by their bits from an index of the kind"
        " `binary`, and then ordered by their vectors. More find more, slower.",
    )


class EvaluationAttributes(Attributes):
    """The golden set, and what an index must reach on it to be published."""

    golden_set: Text | None = Field(
        default=_EVALUATION.golden_set,
        description="The file of labelled questions: absolute, or relative to the folder of this"
        " file. Without one, questions are made from the documents themselves.",
    )
    gate: list[Metric] = Field(
        default=["ndcg@10", "answer_span_hit@5", "vector_recall@10"],
        min_length=1,
        description="The metrics by which a new generation is held against the published index.",
    )
    tolerance: Share = Field(
        default=_EVALUATION.tolerance,
        description="How much worse than the published index a new generation may score. A smaller"
        " loss that is sure is refused too; with 1, none is.",
    )
    confidence: float = Field(
        default=_EVALUATION.confidence,
        ge=0.5,
        le=0.999,
        description="How sure a smaller loss must be to be refused too.",
    )
    floors: dict[Metric, Share] = Field(
        default={},
        description="Metric by metric, the mean score below which nothing is published.",
    )
    min_questions: int = Field(
        default=_EVALUATION.min_questions,
        ge=1,
        le=1_000_000,
        description="With fewer questions the gate warns that it sees little.",
    )
    drift_tolerance: Share = Field(
        default=_EVALUATION.drift_tolerance,
        description="How much less than when it was published the published index may score, after"
        " all the changes of its documents.",
    )
    on_drift: OnDrift = Field(
        default=_EVALUATION.on_drift,
        description="What a fall beyond that leads to: `alert` tells of it; `rebuild` also builds"
        " the index once more beside the published one, with the same settings.",
    )


class GenerationAttributes(Attributes):
    """How long indexes that were published before are kept for a rollback."""

    grace_h: Annotated[float, Field(ge=0, le=87_600)] = Field(
        default=_GENERATIONS.grace_h,
        description="Hours for which each of them is kept at least.",
    )
    keep: int = Field(
        default=_GENERATIONS.keep,
        ge=0,
        le=100,
        description="How many of them are kept however long ago they were replaced. Each receives"
        " all changes of the documents.",
    )


class FreshnessAttributes(Attributes):
    """How old the index may get before Dagster says so."""

    warn_after_h: Hours | None = Field(
        default=_FRESHNESS.warn_after_h,
        description="Hours without a successful run until a warning. Less than `fail_after_h`.",
    )
    fail_after_h: Hours = Field(
        default=_FRESHNESS.fail_after_h,
        description="Hours without a successful run until the assets count as overdue.",
    )
    waiting_fail_min: Minutes = Field(
        default=_FRESHNESS.waiting_fail_min,
        description="Minutes that a change at the source may wait to be served.",
    )
    source_fail_min: Minutes = Field(
        default=_FRESHNESS.source_fail_min,
        description="Minutes that the source may not be listed.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.warn_after_h is not None and self.warn_after_h >= self.fail_after_h:
            raise ValueError(
                f"warn_after_h ({self.warn_after_h:g}) must be less than"
                f" fail_after_h ({self.fail_after_h:g})"
            )
        return self


class CorpusAttributes(Attributes):
    """A corpus: documents that are indexed, evaluated and published together."""

    source: SourceAttributes = Field(description="Where the documents come from.")
    buckets: int = Field(
        default=_CORPUS.buckets,
        ge=1,
        le=100,
        description="Into how many partitions the documents are spread by their id. A small"
        " change runs one of them.",
    )
    parser: Parser = Field(
        default="auto",
        description="How files are read: each as what it is (`auto`), or all as one kind.",
    )
    chunking: ChunkingAttributes = Field(
        default=ChunkingAttributes(), description="How a document is cut into passages."
    )
    embedder: Embedder = Field(
        default=_CORPUS.embedder,
        description="The embedding model, as PROVIDER:MODEL: one that comes with rag_assets,"
        " `wordllama:l2_supercat_256`, `wordllama:l2_supercat_128` or `wordllama:l2_supercat_64`;"
        " or a hosted one, such as `openai:text-embedding-3-small` or `cohere:embed-v4.0`. Another"
        " one builds a new generation of the index.",
    )
    embedding: EmbeddingAttributes = Field(
        default=EmbeddingAttributes(),
        validate_default=True,
        description="How a hosted embedding model is reached, and how fast it is asked.",
    )
    index: IndexAttributes = Field(
        default=IndexAttributes(),
        validate_default=True,
        description="What the nearest vectors are found with.",
    )
    retrieval: RetrievalAttributes = Field(
        default=RetrievalAttributes(), description="How passages are found and ordered."
    )
    evaluation: EvaluationAttributes = Field(
        default=EvaluationAttributes(),
        description="The golden set, and what must be reached on it.",
    )
    generations: GenerationAttributes = Field(
        default=GenerationAttributes(),
        description="How long earlier indexes are kept for a rollback.",
    )
    freshness: FreshnessAttributes = Field(
        default=FreshnessAttributes(), description="How old the index may get."
    )
    watch: WatchAttributes = Field(
        default=WatchAttributes(), description="How often the source is looked at."
    )
    automation: AutomationAttributes = Field(
        default=AutomationAttributes(),
        description="What is done without hands beside watching the source.",
    )
    schedules: ScheduleAttributes = Field(
        default=ScheduleAttributes(), description="When the nightly work is done."
    )
    upkeep: UpkeepAttributes = Field(
        default=UpkeepAttributes(), description="How long what nothing uses any more is kept."
    )
    quality: QualityAttributes = Field(
        default=QualityAttributes(),
        description="From where on something is wrong with a document or the index.",
    )
    expectations: ExpectationsAttributes = Field(
        default=ExpectationsAttributes(),
        description="What is expected of the rows of each stage, by Great Expectations.",
    )
    alerts: AlertAttributes = Field(
        default=AlertAttributes(), description="Who is told what has failed."
    )
    acl: list[Principal] = Field(
        default=list(_CORPUS.acl),
        min_length=1,
        description="The principals who may see the documents.",
    )
    on_poison: OnPoison = Field(
        default=_CORPUS.on_poison,
        description="What readers see of a document whose new content cannot be processed:"
        " nothing (`leave`), for its author may have taken something out, or its last content that"
        " could be (`keep_last_good`).",
    )
    scope: str = Field(
        default=_CORPUS.scope,
        pattern=SCOPE,
        description="Corpora of one scope share embeddings: a text that both have is embedded"
        " once. Give tenants that must not share anything a scope each.",
    )
    description: str = Field(
        default=_CORPUS.description, pattern=PROSE, description="What the documents are about."
    )
    owners: list[Owner] = Field(
        default=list(_CORPUS.owners),
        description="Who answers for the corpus: e-mail addresses, or `team:NAME`.",
    )

    @field_validator("embedding")
    @classmethod
    def _fits_the_embedder(
        cls, embedding: EmbeddingAttributes, info: ValidationInfo
    ) -> EmbeddingAttributes:
        provider, _, name = str(info.data.get("embedder", "")).partition(":")
        if provider in EMBEDDERS and embedding != EmbeddingAttributes():
            raise ValueError(f"{provider} comes with its weights; remove these settings")
        if provider in model.HOSTED_MODELS:
            try:
                model.dimensions_of(provider, name, embedding.dimensions)
            except ConfigurationError as error:
                raise ValueError(str(error)) from error
        return embedding

    @field_validator("index")
    @classmethod
    def _holds_the_vectors(cls, index: IndexAttributes, info: ValidationInfo) -> IndexAttributes:
        embedding = info.data.get("embedding")
        wanted = embedding.dimensions if embedding else None
        try:
            model.check_width(index.kind, wanted or 0)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        return index


class CorpusFile(Attributes):
    """A `defs.yaml`: one corpus, named like the folder that the file is in."""

    type: Literal["rag_assets.components.Corpus"] = Field(description="The component type.")
    attributes: CorpusAttributes = Field(description="The settings of the corpus.")
