"""From settings and names to adapters: the only place that knows every adapter."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from rag_assets.adapters.embedded_postgres import EmbeddedPostgres
from rag_assets.adapters.local_files import LocalFiles
from rag_assets.adapters.parse_workers import ParseWorkers
from rag_assets.adapters.postgres.chunks import PostgresChunks
from rag_assets.adapters.postgres.corpora import PostgresCorpora
from rag_assets.adapters.postgres.documents import PostgresDocuments
from rag_assets.adapters.postgres.embeddings import PostgresEmbeddings
from rag_assets.adapters.postgres.erasing import PostgresErasing
from rag_assets.adapters.postgres.evaluations import PostgresEvaluations
from rag_assets.adapters.postgres.generations import PostgresGenerations
from rag_assets.adapters.postgres.index import PostgresIndex
from rag_assets.adapters.postgres.search import PinnedIndex, PostgresSearchIndex
from rag_assets.adapters.postgres.verifying import PostgresVerifying
from rag_assets.adapters.wordllama import WordLlamaEmbedder
from rag_assets.errors import ConfigurationError, DatabaseError
from rag_assets.indexing.chunking import MarkdownChunker
from rag_assets.indexing.merging import merge_plan
from rag_assets.indexing.parsing import DocumentParser, parser_of
from rag_assets.model import Corpus, Generation, PublishedIndex, Recipe
from rag_assets.ports import Chunker, Embedder, SearchIndex, Source
from rag_assets.settings import DatabaseUrls, Settings


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
    )


def search_index(urls: DatabaseUrls) -> PostgresSearchIndex:
    return PostgresSearchIndex(urls.reader)


def pinned_index(index: SearchIndex, row: PublishedIndex) -> SearchIndex:
    """A search index that reads one generation, published or not."""
    return PinnedIndex(index, row)


def source_of(corpus: Corpus) -> Source:
    return LocalFiles(corpus.source)


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
    own = MarkdownChunker(corpus.chunking)
    if own.identity == generation.recipe.chunker:
        return own
    return MarkdownChunker.from_identity(generation.recipe.chunker)


@cache
def embedder_for(name: str) -> Embedder:
    """An embedder by `provider:model`, or by the full identity under which vectors are stored."""
    model, _, version = name.partition("/")
    provider, _, variant = model.partition(":")
    if provider != "wordllama":
        raise ConfigurationError(
            f"There is no embedding provider {provider!r} (in {name!r}); use wordllama."
        )
    embedder = WordLlamaEmbedder(variant)
    if version and embedder.identity != name:
        raise ConfigurationError(
            f"The index was made with {name}, the installed code makes {embedder.identity}. Build a"
            " new generation with `rag-assets materialize`, or install the earlier version again."
        )
    return embedder


def recipe_of(corpus: Corpus) -> Recipe:
    """What an index of this corpus is made with today."""
    embedder = embedder_for(corpus.embedder)
    return Recipe(
        parser=DocumentParser(corpus.parser).identity,
        chunker=MarkdownChunker(corpus.chunking).identity,
        embedder=embedder.identity,
        dimensions=embedder.dimensions,
        index=corpus.index,
    )


def can_still_make(generation: Generation, corpus: Corpus) -> bool:
    """Whether the installed code can cut and embed as this generation was cut and embedded."""
    try:
        chunker_of(generation, corpus)
        embedder_for(generation.recipe.embedder)
    except ConfigurationError:
        return False
    return True
