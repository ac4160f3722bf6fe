"""The settings of a `defs.yaml`: names, types, bounds, defaults and what each of them does.

They are those of the dataclasses in `rag_assets.model`, which also hold the defaults.
"""

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from rag_assets import model
from rag_assets.errors import ConfigurationError

COMPONENT_TYPE = "rag_assets.components.Corpus"

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


def _unknown(words: str, *, given: str, known: list[str]) -> PydanticCustomError:
    """An error that carries the names it would have taken, so that one can be suggested."""
    context = {"words": words, "given": given, "known": known}
    return PydanticCustomError("unknown_name", "{words}", context)


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
        raise _unknown("must be written PROVIDER:MODEL", given=embedder, known=known)
    if provider not in _providers():
        raise _unknown(f"unknown provider '{provider}'", given=provider, known=_providers())
    if re.search(r"\s", name):
        raise ValueError("the name of a model has no spaces")
    if provider in EMBEDDERS and name not in EMBEDDERS[provider]:
        words = f"{provider} has no model '{name}'"
        raise _unknown(words, given=name, known=list(EMBEDDERS[provider]))
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
Rate = Annotated[int, Field(ge=1, le=1_000_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Hours = Annotated[float, Field(ge=0.1, le=87_600)]
Parser = Literal["auto", "markdown", "text", "html", "pdf", "docx"]
OnPoison = Literal["leave", "keep_last_good"]
Metric = Literal[
    "recall@5",
    "recall@10",
    "mrr@10",
    "ndcg@10",
    "answer_span_hit@1",
    "answer_span_hit@5",
    "citation_hit",
    "refusal_correct",
]

_FILES = model.LocalFilesSettings(path="")
_CHUNKING = model.ChunkingSettings()
_EMBEDDING = model.EmbeddingSettings()
_INDEX = model.IndexSettings()
_RETRIEVAL = model.RetrievalSettings()
_EVALUATION = model.EvaluationSettings()
_FRESHNESS = model.FreshnessSettings()
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


class SourceAttributes(Attributes):
    """Where the documents come from."""

    local_files: LocalFilesAttributes = Field(description="A folder of files.")


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
    dimensions: Annotated[int, Field(ge=1, le=4000)] | None = Field(
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


class IndexAttributes(Attributes):
    """The HNSW graph of the index. Another value builds a new generation."""

    m: int = Field(
        default=_INDEX.m,
        ge=2,
        le=100,
        description="Links of each vector. More find more, and take memory and time to build.",
    )
    ef_construction: int = Field(
        default=_INDEX.ef_construction,
        ge=4,
        le=1000,
        description="Candidates looked at for each link while the graph is built. At least twice"
        " `m`.",
    )

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
        description="Vectors looked at in the graph for one question. More find more, slower.",
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


class EvaluationAttributes(Attributes):
    """The golden set, and what an index must reach on it to be published."""

    golden_set: Text | None = Field(
        default=_EVALUATION.golden_set,
        description="The file of labelled questions: absolute, or relative to the folder of this"
        " file. Without one, questions are made from the documents themselves.",
    )
    tolerance: float = Field(
        default=_EVALUATION.tolerance,
        ge=0,
        le=1,
        description="How much worse than the published index a new generation may score.",
    )
    floors: dict[Metric, Share] = Field(
        default={},
        description="Metric by metric, the mean score below which nothing is published.",
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
        default=IndexAttributes(), description="The graph that vectors are searched in."
    )
    retrieval: RetrievalAttributes = Field(
        default=RetrievalAttributes(), description="How passages are found and ordered."
    )
    evaluation: EvaluationAttributes = Field(
        default=EvaluationAttributes(),
        description="The golden set, and what must be reached on it.",
    )
    freshness: FreshnessAttributes = Field(
        default=FreshnessAttributes(), description="How old the index may get."
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


class CorpusFile(Attributes):
    """A `defs.yaml`: one corpus, named like the folder that the file is in."""

    type: Literal["rag_assets.components.Corpus"] = Field(description="The component type.")
    attributes: CorpusAttributes = Field(description="The settings of the corpus.")
