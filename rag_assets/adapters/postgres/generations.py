"""Generations of an index: opening, publishing, rolling back, ending."""

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect, only_row
from rag_assets.errors import ConfigurationError, NotPublishedError, NotReadyError
from rag_assets.model import (
    Generation,
    GenerationState,
    IndexSettings,
    Publication,
    PublishedIndex,
    Recipe,
    RetrievalSettings,
    RunIdentity,
)

if TYPE_CHECKING:
    from rag_assets.adapters.postgres.connections import Connection

GRACE = timedelta(hours=24)
"""How long a retired generation is kept at least, for a rollback."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What stands between a generation and its documents."""

    buckets_unseen: int
    documents_waiting: int

    def __bool__(self) -> bool:
        return bool(self.buckets_unseen or self.documents_waiting)


@dataclass(frozen=True, slots=True)
class Content:
    """What a generation serves, as one fingerprint and two counts."""

    content: str
    documents: int
    chunks: int


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """A line of a corpus's history, for people."""

    generation: int
    state: str
    fingerprint: str
    parser: str
    chunker: str
    embedder: str
    dimensions: int
    created_at: datetime
    published_at: datetime | None
    retired_at: datetime | None
    documents: int
    chunks: int


class PostgresGenerations:
    def __init__(self, url: str, *, build_memory: str = "256MB") -> None:
        self._url = url
        self._build_memory = build_memory

    def living(self, corpus: str) -> list[Generation]:
        with connect(self._url) as connection:
            return living(connection, corpus)

    def open(self, corpus: str, recipe: Recipe) -> Generation:
        """The living generation of this recipe. A build of another recipe is cancelled by it."""
        with connect(self._url) as connection:
            there = living(connection, corpus)
            found = _with_recipe(there, recipe)
            recalled = found is not None and found.state is GenerationState.RETIRED
            if found and not recalled and not _superseded(there, recipe):
                return found
            with connection.transaction():
                connection.execute(_query("one_at_a_time"), {"corpus": corpus})
                there = living(connection, corpus)
                for generation in _superseded(there, recipe):
                    _set_aside(connection, generation)
                found = _with_recipe(there, recipe)
                return (
                    _recalled(connection, found) if found else _create(connection, corpus, recipe)
                )

    def unfinished(self, generation: Generation) -> Unfinished:
        with connect(self._url) as connection:
            return _unfinished(connection, generation)

    def content(self, generation: int) -> Content:
        with connect(self._url) as connection:
            row = only_row(connection.execute(_query("content"), {"generation": generation}))
            return Content(**row)

    def finish(self, generation: Generation) -> bool:
        """Builds the HNSW graph of a generation whose load is complete; True if it did."""
        if generation.state is not GenerationState.BUILDING:
            return False
        with connect(self._url) as connection:
            if _unfinished(connection, generation):
                return False
            with connection.transaction():
                connection.execute(_query("build_settings"), {"memory": self._build_memory})
                connection.execute(_query("build_vector_index"), {"generation": generation.number})
        return True

    def published(self, corpus: str | None) -> PublishedIndex:
        with connect(self._url) as connection:
            return published(connection, corpus)

    def publish(
        self,
        generation: Generation,
        *,
        retrieval: RetrievalSettings,
        run: RunIdentity,
        reason: str,
        forced: bool = False,
        rolled_back: bool = False,
        api_key_env: str | None = None,
    ) -> None:
        """Lets readers see this generation; the one before is retired, and kept."""
        with connect(self._url) as connection, connection.transaction():
            connection.execute(_query("one_at_a_time"), {"corpus": generation.corpus})
            if unfinished := _unfinished(connection, generation):
                raise not_caught_up(generation, unfinished)
            which = {"corpus": generation.corpus, "generation": generation.number}
            connection.execute(_query("retire"), which | {"rolled_back": rolled_back})
            if connection.execute(_query("mark_published"), which).fetchone() is None:
                raise NotReadyError(
                    f"Generation {generation.number} of {generation.corpus!r} cannot be published:"
                    " it is still being built, or has ended. See `rag-assets status`."
                )
            why = {"reason": reason, "forced": forced, "rolled_back": rolled_back}
            who = {"run_id": run.run_id, "code_version": run.code_version}
            connection.execute(_query("note_publication"), which | why | who)
            connection.execute(
                _query("publish"),
                which
                | who
                | {"retrieval": _json(retrieval), "reason": reason, "api_key_env": api_key_env},
            )

    def publications(self, corpus: str) -> list[Publication]:
        """What readers saw when, the newest first."""
        with connect(self._url) as connection:
            rows = connection.execute(_query("publications"), {"corpus": corpus})
            return [Publication(**row) for row in rows]

    def update_retrieval(
        self, corpus: str, retrieval: RetrievalSettings, *, api_key_env: str | None = None
    ) -> bool:
        """Brings changed settings of reading into the published row; True if they had changed."""
        with connect(self._url) as connection:
            row = {"corpus": corpus, "retrieval": _json(retrieval), "api_key_env": api_key_env}
            return connection.execute(_query("update_retrieval"), row).rowcount > 0

    def rollback_target(self, corpus: str) -> Generation:
        with connect(self._url) as connection:
            row = connection.execute(_query("rollback_target"), {"corpus": corpus}).fetchone()
            if row is None:
                raise NotReadyError(
                    f"Corpus {corpus!r} has no earlier generation to go back to: only one was ever"
                    " published, or the earlier ones have been dropped."
                )
            return _numbered(living(connection, corpus), corpus, row["generation"])

    def numbered(self, corpus: str, number: int) -> Generation:
        """A living generation by its number."""
        return _numbered(self.living(corpus), corpus, number)

    def drop_expired(self, corpus: str, *, grace: timedelta = GRACE) -> list[int]:
        """Drops retired generations beyond their grace; the newest of them always stays."""
        with connect(self._url) as connection, connection.transaction():
            connection.execute(_query("one_at_a_time"), {"corpus": corpus})
            rows = connection.execute(_query("expired"), {"corpus": corpus, "grace": grace})
            expired = [row["generation"] for row in rows]
            for number in expired:
                _end(connection, number, GenerationState.DROPPED)
        return expired

    def expired(self, corpus: str, *, grace: timedelta = GRACE) -> list[int]:
        """What `drop_expired` would drop."""
        with connect(self._url) as connection:
            rows = connection.execute(_query("expired"), {"corpus": corpus, "grace": grace})
            return [row["generation"] for row in rows]

    def history(self, corpus: str) -> list[GenerationRecord]:
        with connect(self._url) as connection:
            rows = connection.execute(_query("all_generations"), {"corpus": corpus})
            return [GenerationRecord(**row) for row in rows]


def published(connection: "Connection", corpus: str | None) -> PublishedIndex:
    """The published row, read by any role."""
    name = corpus or _only_corpus(connection)
    row = connection.execute(_query("published"), {"corpus": name}).fetchone()
    if row is None:
        names = ", ".join(_published_corpora(connection)) or "none"
        raise NotPublishedError(
            f"Corpus {name!r} has no published index; those that have one: {names}. If its name is"
            f" right, run `rag-assets materialize {name}`."
        )
    return PublishedIndex(**row | {"retrieval": RetrievalSettings(**row["retrieval"])})


def _published_corpora(connection: "Connection") -> list[str]:
    return [row["corpus"] for row in connection.execute(_query("published_corpora"))]


def _only_corpus(connection: "Connection") -> str:
    names = _published_corpora(connection)
    if len(names) == 1:
        return names[0]
    if not names:
        raise NotPublishedError(
            "Nothing is published yet. Run `rag-assets materialize CORPUS`, or `make demo`."
        )
    raise ConfigurationError(
        f"Several corpora are published: say which with --corpus: {', '.join(names)}."
    )


def living(connection: "Connection", corpus: str) -> list[Generation]:
    """Everything that receives changes, oldest first, in a transaction of the caller's."""
    return [_generation(row) for row in connection.execute(_query("living"), {"corpus": corpus})]


def _generation(row: dict[str, Any]) -> Generation:
    recipe = Recipe(
        parser=row["parser"],
        chunker=row["chunker"],
        embedder=row["embedder"],
        dimensions=row["dimensions"],
        index=IndexSettings(m=row["hnsw_m"], ef_construction=row["hnsw_ef_construction"]),
    )
    return Generation(row["generation"], row["corpus"], GenerationState(row["state"]), recipe)


def _superseded(generations: list[Generation], recipe: Recipe) -> list[Generation]:
    """Builds that wait to be published, of settings that are no longer those of the corpus."""
    waiting = {GenerationState.BUILDING, GenerationState.CANDIDATE}
    return [each for each in generations if each.state in waiting and each.recipe != recipe]


def _with_recipe(generations: list[Generation], recipe: Recipe) -> Generation | None:
    return next((found for found in generations if found.recipe == recipe), None)


def _numbered(generations: list[Generation], corpus: str, number: int) -> Generation:
    for generation in generations:
        if generation.number == number:
            return generation
    living = ", ".join(str(generation.number) for generation in generations) or "none"
    raise ConfigurationError(
        f"Corpus {corpus!r} has no living generation {number}; living: {living}."
    )


def _create(connection: "Connection", corpus: str, recipe: Recipe) -> Generation:
    from psycopg import errors

    which = {"corpus": corpus, "fingerprint": recipe.fingerprint}
    row = asdict(recipe) | asdict(recipe.index) | which
    row.pop("index")
    try:
        number = only_row(connection.execute(_query("create"), row))["generation"]
    except errors.ForeignKeyViolation as error:
        raise NotReadyError(
            f"Corpus {corpus!r} has no documents in the database yet. Materialize raw_documents"
            f" first, or all of it: `rag-assets materialize {corpus}`."
        ) from error
    return Generation(number, corpus, GenerationState.BUILDING, recipe)


def _recalled(connection: "Connection", found: Generation) -> Generation:
    """The generation as it is, or a candidate again where its settings have come back."""
    again = connection.execute(_query("recall"), {"generation": found.number}).fetchone()
    return replace(found, state=GenerationState.CANDIDATE) if again else found


def _set_aside(connection: "Connection", superseded: Generation) -> None:
    """Cancels a build; one that was published before, and recalled since, stays for a rollback."""
    which = {"generation": superseded.number}
    if connection.execute(_query("set_aside"), which).fetchone() is None:
        _end(connection, superseded.number, GenerationState.CANCELLED)


def _end(connection: "Connection", number: int, state: GenerationState) -> None:
    connection.execute(_query("end"), {"generation": number, "state": str(state)})


def _unfinished(connection: "Connection", generation: Generation) -> Unfinished:
    row = connection.execute(
        _query("unfinished"), {"corpus": generation.corpus, "generation": generation.number}
    )
    return Unfinished(**only_row(row))


def not_caught_up(generation: Generation, unfinished: Unfinished) -> NotReadyError:
    return NotReadyError(
        f"Generation {generation.number} of {generation.corpus!r} has not caught up:"
        f" {unfinished.buckets_unseen} buckets were never looked at,"
        f" {unfinished.documents_waiting} documents wait."
        f" Run `rag-assets materialize {generation.corpus}`."
    )


def _json(retrieval: RetrievalSettings) -> Any:
    from psycopg.types.json import Jsonb

    return Jsonb(asdict(retrieval))


def _query(name: str) -> LiteralString:
    return queries.load("generations")[name]
