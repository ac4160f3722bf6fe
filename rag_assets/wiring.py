"""From settings and names to adapters: the only place that knows every adapter."""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from rag_assets.adapters.alerting import PagerDuty, SignedWebhook, SlackWebhook
from rag_assets.adapters.aws import ATTEMPTS
from rag_assets.adapters.cohere import CohereEmbeddings
from rag_assets.adapters.embedded_postgres import EmbeddedPostgres
from rag_assets.adapters.expectations import DataDocs, GreatExpectations
from rag_assets.adapters.local_files import LocalFiles
from rag_assets.adapters.openai import OpenAiEmbeddings
from rag_assets.adapters.openai_questions import OpenAiQuestions
from rag_assets.adapters.parse_workers import ParseWorkers
from rag_assets.adapters.postgres.chunks import PostgresChunks
from rag_assets.adapters.postgres.collecting import PostgresCollecting
from rag_assets.adapters.postgres.connections import keeping_connections
from rag_assets.adapters.postgres.corpora import PostgresCorpora
from rag_assets.adapters.postgres.diffs import PostgresDiffs
from rag_assets.adapters.postgres.documents import PostgresDocuments
from rag_assets.adapters.postgres.embeddings import PostgresEmbeddings
from rag_assets.adapters.postgres.erasing import PostgresErasing
from rag_assets.adapters.postgres.evaluations import PostgresEvaluations
from rag_assets.adapters.postgres.expected_rows import PostgresExpectedRows
from rag_assets.adapters.postgres.failures import PostgresFailures
from rag_assets.adapters.postgres.feedback import PostgresFeedback
from rag_assets.adapters.postgres.generations import PostgresGenerations
from rag_assets.adapters.postgres.index import PostgresIndex
from rag_assets.adapters.postgres.measuring import PostgresMeasuring
from rag_assets.adapters.postgres.planning import PostgresPlanning
from rag_assets.adapters.postgres.planning import read_only as read_only_url
from rag_assets.adapters.postgres.provenance import PostgresProvenance
from rag_assets.adapters.postgres.quality import PostgresQuality
from rag_assets.adapters.postgres.rate_limits import PostgresRateLimits
from rag_assets.adapters.postgres.search import PinnedIndex, PostgresSearchIndex
from rag_assets.adapters.postgres.sources import PostgresSources
from rag_assets.adapters.postgres.verifying import PostgresVerifying
from rag_assets.adapters.postgres.waiting import PostgresWaiting
from rag_assets.adapters.prices import Prices
from rag_assets.adapters.s3 import S3Client, S3Objects
from rag_assets.adapters.s3 import client_of as s3_client_of
from rag_assets.adapters.sqs import SqsChanges
from rag_assets.adapters.sqs import client_of as sqs_client_of
from rag_assets.adapters.system_clock import SystemClock
from rag_assets.adapters.tokens import counter_of
from rag_assets.adapters.wordllama import WordLlamaEmbedder
from rag_assets.errors import ConfigurationError, DatabaseError
from rag_assets.indexing.chunking import (
    MarkdownChunker,
    chunker_for,
    chunker_from_identity,
    is_adopted,
)
from rag_assets.indexing.merging import merge_plan
from rag_assets.indexing.parsing import DocumentParser, parser_of
from rag_assets.indexing.quality import judgings, verdict_changes
from rag_assets.indexing.requesting import PATIENCE_OF_A_READER, PatientEmbedder
from rag_assets.indexing.spending import Budget
from rag_assets.model import (
    Corpus,
    EmbedderIdentity,
    EmbeddingSettings,
    Expectation,
    Generation,
    Judging,
    LocalFilesSettings,
    PublishedIndex,
    QualityStage,
    Recipe,
    S3Settings,
)
from rag_assets.operations.alerting import Links
from rag_assets.operations.expectations import suites
from rag_assets.ports import AlertChannel, Chunker, Embedder, SearchIndex, Source
from rag_assets.settings import DatabaseUrls, Settings

S3_RETRIES = ATTEMPTS - 1
"""How often a request to a bucket is made again."""


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of the offline half, with the writer's rights."""

    documents: PostgresDocuments
    chunks: PostgresChunks
    embeddings: PostgresEmbeddings
    index: PostgresIndex
    generations: PostgresGenerations
    evaluations: PostgresEvaluations
    corpora: PostgresCorpora
    erasing: PostgresErasing
    verifying: PostgresVerifying
    quality: PostgresQuality
    measuring: PostgresMeasuring
    failures: PostgresFailures
    collecting: PostgresCollecting
    waiting: PostgresWaiting
    sources: PostgresSources
    provenance: PostgresProvenance
    planning: PostgresPlanning
    diffs: PostgresDiffs
    feedback: PostgresFeedback


def database_urls(settings: Settings) -> DatabaseUrls:
    """The external database where one is named, else the embedded server's."""
    if settings.database is not None:
        return settings.database
    urls = embedded_server(settings).urls()
    if urls is None:
        raise DatabaseError(
            f"The database is not up: no embedded server answers in {settings.home}. Start it with"
            " `rag-assets up` (`--database-only` leaves the Dagster UI out), or name an external"
            " one with RAG_ASSETS_DATABASE_URL."
        )
    return urls


def embedded_server(settings: Settings) -> EmbeddedPostgres:
    return EmbeddedPostgres(settings.home)


def stores(urls: DatabaseUrls) -> Stores:
    index = PostgresIndex(urls.writer, plan=merge_plan)
    return Stores(
        documents=PostgresDocuments(urls.writer),
        chunks=PostgresChunks(urls.writer),
        embeddings=PostgresEmbeddings(urls.writer),
        index=index,
        generations=PostgresGenerations(urls.writer),
        evaluations=PostgresEvaluations(urls.writer),
        corpora=PostgresCorpora(urls.writer),
        erasing=PostgresErasing(urls.writer, owner_url=urls.owner),
        verifying=PostgresVerifying(urls.writer, index=index),
        quality=PostgresQuality(urls.writer, compare=verdict_changes),
        measuring=PostgresMeasuring(urls.writer),
        failures=PostgresFailures(urls.writer),
        collecting=PostgresCollecting(urls.writer, owner_url=urls.owner),
        waiting=PostgresWaiting(urls.writer),
        sources=PostgresSources(urls.writer),
        provenance=PostgresProvenance(urls.writer),
        planning=PostgresPlanning(urls.writer),
        diffs=PostgresDiffs(urls.writer),
        feedback=PostgresFeedback(urls.writer, reader_url=urls.reader),
    )


def connections_kept() -> AbstractContextManager[None]:
    """Meanwhile the stores of this process use their connections again and again."""
    return keeping_connections()


def read_only(urls: DatabaseUrls) -> DatabaseUrls:
    """The same database, in sessions that can write nothing."""
    return DatabaseUrls(*map(read_only_url, (urls.owner, urls.writer, urls.reader)))


def search_index(urls: DatabaseUrls) -> PostgresSearchIndex:
    return PostgresSearchIndex(urls.reader)


def pinned_index(index: SearchIndex, row: PublishedIndex) -> SearchIndex:
    """A search index that reads one generation, published or not."""
    return PinnedIndex(index, row)


def source_of(corpus: Corpus, *, s3: S3Client | None = None) -> Source:
    """Where a corpus's documents come from; a bucket is read through the client that is given."""
    if isinstance(corpus.source, LocalFilesSettings):
        return LocalFiles(corpus.source)
    if s3 is None:
        raise ConfigurationError(
            f"{corpus.name}: its bucket can be read by Dagster alone, whose S3 resource makes the"
            " client. Use `Platform.source`."
        )
    return S3Objects(corpus.source, s3)


def changes_of(corpus: Corpus) -> SqsChanges | None:
    """The queue that tells of the source's changes, where the corpus names one."""
    if isinstance(corpus.source, S3Settings) and corpus.source.queue_url:
        return SqsChanges(corpus.source, sqs_client_of(corpus.source))
    return None


def s3_client(settings: S3Settings, make: Callable[[], S3Client]) -> S3Client:
    """Kept for a while; one that is made is patient for seconds only, and its errors are ours."""
    return s3_client_of(settings, make)


def parsers_of(corpus: Corpus, living: Sequence[Generation]) -> list[str]:
    """The corpus's own parser first, then those that generations still alive were made with."""
    own = DocumentParser(corpus.parser).identity
    others = {generation.recipe.parser for generation in living} - {own}
    return [own, *filter(_is_parser, sorted(others))]


def _is_parser(identity: str) -> bool:
    try:
        parser_of(identity)
    except ConfigurationError:
        return False
    return True


def parsing() -> ParseWorkers:
    """Where parsers run; to be closed, as it keeps its processes."""
    return ParseWorkers("rag_assets.indexing.parsing:parser_of")


def chunker_of(generation: Generation, corpus: Corpus) -> Chunker:
    """The chunker a generation was made with, also after the corpus has chosen another."""
    own = chunker_for(corpus.chunking)
    if own.identity == generation.recipe.chunker:
        return own
    return chunker_from_identity(generation.recipe.chunker)


# --- embedders -----------------------------------------------------------------------------------

Provider = OpenAiEmbeddings | CohereEmbeddings | WordLlamaEmbedder


@cache
def embedder_for(name: str) -> Embedder:
    """An embedder for readers, by `PublishedIndex.question_embedder` or by `provider:model`."""
    identity, _, variable = name.partition(" with ")
    provider = _provider(identity, EmbeddingSettings(api_key_env=variable or None))
    if isinstance(provider, WordLlamaEmbedder):
        return provider
    return PatientEmbedder(
        provider,
        clock=SystemClock(),
        chance=random.Random(),  # noqa: S311 - it spreads retries
        patience=PATIENCE_OF_A_READER,
    )


@dataclass(frozen=True, slots=True)
class Spending:
    """What models cost, and what a run may spend on them."""

    prices: Prices = field(default_factory=Prices)
    budget: Budget | None = None
    """None: as much as it takes."""


@contextmanager
def document_embedder(
    generation: Generation,
    corpus: Corpus,
    urls: DatabaseUrls,
    spending: Spending = Spending(),
) -> Iterator[PatientEmbedder]:
    """The embedder of a generation, at the rate that all runs share."""
    identity, key = generation.recipe.embedder, key_variable(generation.recipe.embedder, corpus)
    provider = _provider(identity, EmbeddingSettings(api_key_env=key))
    how = how_to_reach(identity, corpus)
    limits = PostgresRateLimits(
        urls.writer,
        _account(identity, key),
        requests_per_minute=how.requests_per_minute,
        tokens_per_minute=how.tokens_per_minute,
    )
    with limits, closing(provider):
        yield PatientEmbedder(
            provider,
            clock=SystemClock(),
            chance=random.Random(),  # noqa: S311 - it spreads retries
            rate=limits if provider.metered else None,
            concurrency=how.concurrency if provider.metered else 1,
            price=spending.prices.of(identity).usd if provider.metered else None,
            budget=spending.budget,
            count=token_counter(identity) if spending.budget else None,
        )


def provider_of(identity: str) -> "Provider":
    """A model by its identity: what it takes, and whether it costs. It needs no key for that."""
    return _provider(identity, EmbeddingSettings())


def how_to_reach(identity: str, corpus: Corpus) -> EmbeddingSettings:
    """What the corpus says of a model's server, if it is the one that the corpus names."""
    return corpus.embedding if _is_own_server(identity, corpus) else EmbeddingSettings()


def token_counter(identity: str) -> Callable[[str], int] | None:
    """Counts the tokens of a text as they are billed; None where that cannot be done here."""
    asked = EmbedderIdentity.read(identity)
    return None if asked is None else counter_of(asked)


def key_variable(identity: str, corpus: Corpus, otherwise: str | None = None) -> str | None:
    """The variable with the key of an embedder: the corpus names one, but for its own server only.

    So a generation that another server embedded is never asked for with this server's key.
    """
    return corpus.embedding.api_key_env if _is_own_server(identity, corpus) else otherwise


def _is_own_server(identity: str, corpus: Corpus) -> bool:
    """Whether an embedder stands where the corpus's embedder of today does."""
    asked = EmbedderIdentity.read(identity)
    today = EmbedderIdentity.read(_provider(corpus.embedder, corpus.embedding).identity)
    return asked is not None and today is not None and asked.server == today.server


def _account(identity: str, variable: str | None) -> str:
    """What a provider's limits are for: a model of a server, and whose key it is."""
    asked = EmbedderIdentity.read(identity)
    if asked is None:
        return identity
    parts = [f"{asked.provider}:{asked.model}", asked.base_url, variable]
    return " ".join(part for part in parts if part)


def _provider(name: str, settings: EmbeddingSettings) -> Provider:
    """By `provider:model` and how it is reached, or by the identity of stored vectors."""
    plain = re.sub(r"/[a-z_]+@[0-9]+$", "", name)
    provider, _, model = plain.partition(":")
    if (asked := EmbedderIdentity.read(name)) is not None:
        provider, model = asked.provider, asked.model
        settings = replace(settings, dimensions=asked.dimensions, base_url=asked.base_url)
    made = _made(provider, model, settings)
    if (asked is not None or plain != name) and made.identity != name:
        raise ConfigurationError(
            f"The index was made with {name}, the installed code makes {made.identity}. Build a"
            " new generation with `rag-assets materialize`, or install the earlier version again."
        )
    return made


def _made(provider: str, model: str, settings: EmbeddingSettings) -> Provider:
    if provider == "wordllama":
        return _wordllama(model)
    servers: Mapping[str, type[OpenAiEmbeddings | CohereEmbeddings]] = {
        "openai": OpenAiEmbeddings,
        "cohere": CohereEmbeddings,
    }
    if provider not in servers:
        raise ConfigurationError(
            f"There is no embedding provider {provider!r}; use openai, cohere or wordllama."
        )
    return servers[provider](
        model,
        dimensions=settings.dimensions,
        base_url=settings.base_url,
        api_key_env=settings.api_key_env,
    )


@cache
def _wordllama(model: str) -> WordLlamaEmbedder:
    """Its weights are loaded once a process."""
    return WordLlamaEmbedder(model)


# --- test questions ------------------------------------------------------------------------------


def question_writer(
    name: str, *, base_url: str | None = None, api_key_env: str | None = None
) -> OpenAiQuestions:
    """A chat model by `openai:model`; to be closed."""
    provider, _, model = name.partition(":")
    if provider != "openai" or not model:
        raise ConfigurationError(
            f"There is no chat model {name!r}; write openai:MODEL, as in openai:gpt-4o-mini, and"
            " --base-url for another server that speaks its protocol."
        )
    return OpenAiQuestions(model, base_url=base_url, api_key_env=api_key_env)


# --- alerts --------------------------------------------------------------------------------------


def alert_channels(corpus: Corpus, settings: Settings) -> list[AlertChannel]:
    """All that a corpus names, in a fixed order; whether they work shows when they are used."""
    named, clock = corpus.alerts, SystemClock()
    channels: list[AlertChannel] = []
    if named.slack_webhook_env:
        channels.append(SlackWebhook(named.slack_webhook_env, clock))
    if named.pagerduty_key_env:
        channels.append(
            PagerDuty(
                named.pagerduty_key_env, settings.pagerduty_url, ui_url=settings.ui_url, clock=clock
            )
        )
    if named.webhook_url_env:
        channels.append(
            SignedWebhook(named.webhook_url_env, clock, secret_variable=named.webhook_secret_env)
        )
    return channels


def alert_links(settings: Settings) -> Links:
    return Links(settings.ui_url, settings.runbooks_url)


# --- recipes -------------------------------------------------------------------------------------


def recipe_of(corpus: Corpus) -> Recipe:
    """What an index of this corpus is made with today."""
    embedder = _provider(corpus.embedder, corpus.embedding)
    return Recipe(
        parser=DocumentParser(corpus.parser).identity,
        chunker=chunker_for(corpus.chunking).identity,
        embedder=embedder.identity,
        dimensions=embedder.dimensions,
        index=corpus.index,
    )


def can_still_make(generation: Generation, corpus: Corpus) -> bool:
    """Whether the installed code can cut and embed as this generation was cut and embedded."""
    try:
        chunker_of(generation, corpus)
        _provider(generation.recipe.embedder, EmbeddingSettings())
    except ConfigurationError:
        return False
    return True


# --- expectations --------------------------------------------------------------------------------


def expectations(urls: DatabaseUrls, home: Path | None) -> GreatExpectations:
    """What judges suites; with a home folder, the pages that show the results go there."""
    docs = None if home is None else DataDocs(home)
    return GreatExpectations(PostgresExpectedRows(urls.writer), docs)


def suites_of(corpus: Corpus, generation: Generation | None) -> dict[str, tuple[Expectation, ...]]:
    """What is expected of each stage; of the documents alone, where there is no generation."""
    if generation is None:
        return {"documents": suites(corpus)["documents"]}
    try:
        made = MarkdownChunker.from_identity(generation.recipe.chunker)
        max_chars = made.settings.max_chars
    except ConfigurationError:  # adopted, or of another version of the code
        max_chars = None
    return suites(
        corpus,
        dimensions=generation.recipe.dimensions,
        max_chars=max_chars,
        overlapping=is_adopted(generation.recipe.chunker),
    )


def judging_of(corpus: Corpus, generation: Generation, stage: str) -> Judging | None:
    """Whose work is kept out by what is expected of a stage; None where nothing can be."""
    if stage not in set(QualityStage):
        return None
    (judging,) = judgings(generation.recipe, corpus.quality, [QualityStage(stage)])
    declared = corpus.expectations.stages[stage]
    return replace(judging, quarantine=tuple(str(each) for each in declared if each.quarantine))
