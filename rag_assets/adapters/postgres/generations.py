"""Generations of an index: opening, publishing, rolling back, ending."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect, only_row
from rag_assets.adapters.postgres.lists import memory_for_lists
from rag_assets.errors import ConfigurationError, NotPublishedError, NotReadyError, OvertakenError
from rag_assets.model import (
    Generation,
    GenerationState,
    IndexKind,
    IndexSettings,
    Judged,
    Publication,
    PublishedIndex,
    Recipe,
    RetrievalSettings,
    RunIdentity,
    check_width,
    has_readers,
    own,
    superseded,
)

if TYPE_CHECKING:
    from rag_assets.adapters.postgres.connections import Connection


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
class Ended:
    """How a generation has ended, and why."""

    state: GenerationState
    reason: str

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}" if self.reason else str(self.state)


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
    ended_at: datetime | None = None
    ended_reason: str | None = None
    held: bool = False
    """It was ended, and is begun again only by hand."""
    build: int = 1
    index_kind: IndexKind = "hnsw"


class PostgresGenerations:
    def __init__(self, url: str, *, build_memory: str = "256MB") -> None:
        self._url = url
        self._build_memory = build_memory

    def living(self, corpus: str) -> list[Generation]:
        with connect(self._url) as connection:
            return living(connection, corpus)

    def open(self, corpus: str, recipe: Recipe, *, by_hand: bool = False) -> Generation:
        """The living generation of this recipe. A build of another recipe is cancelled by it.

        One that somebody has ended, or that has failed too often, is begun again only by hand.
        """
        with connect(self._url) as connection:
            there = living(connection, corpus)
            found = own(recipe, there)
            recalled = found is not None and found.state is GenerationState.RETIRED
            if found and not recalled and not superseded(recipe, there):
                return found
            with _one_at_a_time(connection, corpus):
                found = own(recipe, _without_superseded(connection, corpus, recipe))
                if found:
                    return _recalled(connection, found)
                return _create(connection, corpus, recipe, by_hand=by_hand)

    def rebuild(self, corpus: str, recipe: Recipe) -> Generation:
        """A build of this recipe beside the published one, though that has the same recipe.

        One that waits already is not begun twice.
        """
        waiting = {GenerationState.BUILDING, GenerationState.CANDIDATE}
        with connect(self._url) as connection, _one_at_a_time(connection, corpus):
            there = _without_superseded(connection, corpus, recipe)
            found = next((each for each in there if each.state in waiting), None)
            return found or _create(connection, corpus, recipe, by_hand=True)

    def set_aside(self, corpus: str, recipe: Recipe) -> list[Generation]:
        """All that live, once builds of other recipes than this one are cancelled."""
        with connect(self._url) as connection:
            there = living(connection, corpus)
            if not superseded(recipe, there):
                return there
            with _one_at_a_time(connection, corpus):
                return _without_superseded(connection, corpus, recipe)

    def held(self, corpus: str, recipe: Recipe) -> Ended | None:
        """Why an index of this recipe is not begun by itself; None where it may be."""
        with connect(self._url) as connection:
            return _held(connection, corpus, recipe)

    def cancel(self, corpus: str, number: int | None = None, *, reason: str) -> Generation:
        """Ends a build, or a candidate; its vectors stay, so that another build finds them."""
        with connect(self._url) as connection, _one_at_a_time(connection, corpus):
            there = living(connection, corpus)
            found = _to_be_cancelled(there, corpus, number)
            _set_aside(connection, found, reason=reason, held=True)
            return found

    def fail(self, generation: Generation, *, reason: str) -> bool:
        """Gives up a build; False where it is no build any more."""
        with connect(self._url) as connection, _one_at_a_time(connection, generation.corpus):
            still = any(
                each.number == generation.number and each.state is GenerationState.BUILDING
                for each in living(connection, generation.corpus)
            )
            if still:
                _end(connection, generation.number, GenerationState.FAILED, reason, held=True)
            return still

    def ended(self, generation: Generation, *, for_sure: bool = False) -> Ended | None:
        """How and why a generation has ended; None while it lives.

        `for_sure` waits for whoever is about to end it, and has stopped our work already.
        """
        with connect(self._url) as connection, connection.transaction():
            if for_sure:
                connection.execute(_query("one_at_a_time"), {"corpus": generation.corpus})
            which = {"generation": generation.number}
            return _ended(connection.execute(_query("ended"), which).fetchone())

    def unfinished(self, generation: Generation) -> Unfinished:
        with connect(self._url) as connection:
            return _unfinished(connection, generation)

    def content(self, generation: int) -> Content:
        with connect(self._url) as connection:
            row = only_row(connection.execute(_query("content"), {"generation": generation}))
            return Content(**row)

    def finish(self, generation: Generation) -> bool:
        """Builds the index of a generation whose load is complete; True if it did."""
        if generation.state is not GenerationState.BUILDING:
            return False
        with connect(self._url) as connection:
            if _unfinished(connection, generation):
                return False
            with connection.transaction():
                memory = [self._build_memory, _memory_for_lists(connection, generation)]
                connection.execute(_query("build_settings"), {"memory": memory})
                connection.execute(_query("build_vector_index"), {"generation": generation.number})
            ended = connection.execute(_query("ended"), {"generation": generation.number})
            return ended.fetchone() is None

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
        judged: Judged | None = None,
    ) -> None:
        """Lets readers see this generation; the one before is retired, and kept.

        One that was `judged` must still be a candidate, beside what it was held against. A person
        may publish, by force or by going back, what documents still wait for; never what still
        shows a document that is gone, or shows it to others.
        """
        with connect(self._url) as connection, _one_at_a_time(connection, generation.corpus):
            which = {"corpus": generation.corpus, "generation": generation.number}
            if judged is not None:
                _require_standing(connection, generation, judged)
            if not (forced or rolled_back):
                if unfinished := _unfinished(connection, generation):
                    raise not_caught_up(generation, unfinished)
            elif shown := only_row(connection.execute(_query("withdrawn"), which))["documents"]:
                raise NotReadyError(
                    f"Generation {generation.number} of {generation.corpus!r} still shows {shown}"
                    " documents that have been deleted, or that others may see now. Run"
                    f" `rag-assets materialize {generation.corpus}`, then try again."
                )
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
        self, row: PublishedIndex, retrieval: RetrievalSettings, *, api_key_env: str | None = None
    ) -> bool:
        """Brings changed settings of reading into the published row; True if they had changed.

        Not into that of another generation, which was published since the row was read.
        """
        with connect(self._url) as connection:
            which = {"corpus": row.corpus, "generation": row.generation}
            changed = which | {"retrieval": _json(retrieval), "api_key_env": api_key_env}
            return connection.execute(_query("update_retrieval"), changed).rowcount > 0

    def rollback_target(self, corpus: str) -> Generation:
        with connect(self._url) as connection:
            row = connection.execute(_query("rollback_target"), {"corpus": corpus}).fetchone()
            if row is None:
                raise NotReadyError(
                    f"Corpus {corpus!r} has no earlier generation to go back to: only one was ever"
                    " published, or the earlier ones have been dropped. `rag-assets publish"
                    f" {corpus} --generation N` goes forward again."
                )
            return _numbered(living(connection, corpus), corpus, row["generation"])

    def numbered(self, corpus: str, number: int) -> Generation:
        """A living generation by its number."""
        return _numbered(self.living(corpus), corpus, number)

    def drop_expired(self, corpus: str, *, grace: timedelta, keep: int = 1) -> list[int]:
        """Drops retired generations beyond their grace, but for the newest that are always kept."""
        with connect(self._url) as connection, connection.transaction():
            connection.execute(_query("one_at_a_time"), {"corpus": corpus})
            which = {"corpus": corpus, "grace": grace, "keep": keep}
            expired = [row["generation"] for row in connection.execute(_query("expired"), which)]
            for number in expired:
                _end(connection, number, GenerationState.DROPPED, "its grace is over")
        return expired

    def expired(self, corpus: str, *, grace: timedelta, keep: int = 1) -> list[int]:
        """What `drop_expired` would drop."""
        with connect(self._url) as connection:
            which = {"corpus": corpus, "grace": grace, "keep": keep}
            return [row["generation"] for row in connection.execute(_query("expired"), which)]

    def history(self, corpus: str) -> list[GenerationRecord]:
        with connect(self._url) as connection:
            rows = connection.execute(_query("all_generations"), {"corpus": corpus})
            return [GenerationRecord(**row) for row in rows]


@contextmanager
def _one_at_a_time(connection: "Connection", corpus: str) -> Iterator[None]:
    with connection.transaction():
        connection.execute(_query("one_at_a_time"), {"corpus": corpus})
        yield


def _require_standing(connection: "Connection", generation: Generation, judged: Judged) -> None:
    which = {"corpus": generation.corpus, "generation": generation.number}
    row = only_row(connection.execute(_query("standing"), which))
    if row["state"] != GenerationState.CANDIDATE or row["read"] != judged.rival:
        raise OvertakenError(
            f"Generation {generation.number} of {generation.corpus!r} is not published: it was held"
            f" against {_named(judged.rival)}, and meanwhile it is {row['state']} beside"
            f" {_named(row['read'])}. The next run judges anew what still is a candidate."
        )


def _named(generation: int | None) -> str:
    return "nothing" if generation is None else f"generation {generation}"


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
        index=IndexSettings(
            kind=row["index_kind"],
            m=row["hnsw_m"],
            ef_construction=row["hnsw_ef_construction"],
            lists=row["ivfflat_lists"],
        ),
    )
    return Generation(
        row["generation"],
        row["corpus"],
        GenerationState(row["state"]),
        recipe,
        build=row["build"],
        rolled_back=row["rolled_back"],
        created_at=row["created_at"],
    )


def _numbered(generations: list[Generation], corpus: str, number: int) -> Generation:
    for generation in generations:
        if generation.number == number:
            return generation
    living = ", ".join(str(generation.number) for generation in generations) or "none"
    raise ConfigurationError(
        f"Corpus {corpus!r} has no living generation {number}; living: {living}."
    )


def _create(connection: "Connection", corpus: str, recipe: Recipe, *, by_hand: bool) -> Generation:
    from psycopg import errors

    check_width(recipe.index.kind, recipe.dimensions)
    which = {"corpus": corpus, "fingerprint": recipe.fingerprint}
    if not by_hand and (ended := _held(connection, corpus, recipe)) is not None:
        raise NotReadyError(
            f"An index of these settings of {corpus!r} was ended before ({ended})."
            f" It is not begun again by itself; `rag-assets materialize {corpus}` does that."
        )
    connection.execute(_query("hold_no_more"), which)
    row = asdict(recipe) | asdict(recipe.index) | which
    row.pop("index")
    try:
        number = only_row(connection.execute(_query("create"), row))["generation"]
    except errors.ForeignKeyViolation as error:
        raise NotReadyError(
            f"Corpus {corpus!r} has no documents in the database yet. Materialize raw_documents"
            f" first, or all of it: `rag-assets materialize {corpus}`."
        ) from error
    return _numbered(living(connection, corpus), corpus, number)


def _memory_for_lists(connection: "Connection", generation: Generation) -> str:
    """Its lists are made in memory, or not at all."""
    which = {"generation": generation.number}
    row = connection.execute(_query("lists_to_build"), which).fetchone()
    memory = memory_for_lists(row["lists"], generation.recipe.dimensions) if row else 0
    return f"{memory}kB"


def _held(connection: "Connection", corpus: str, recipe: Recipe) -> Ended | None:
    which = {"corpus": corpus, "fingerprint": recipe.fingerprint}
    return _ended(connection.execute(_query("held"), which).fetchone())


def _ended(row: dict[str, Any] | None) -> Ended | None:
    return Ended(GenerationState(row["state"]), row["reason"]) if row else None


def _recalled(connection: "Connection", found: Generation) -> Generation:
    """The generation as it is, or a candidate again where its settings have come back."""
    again = connection.execute(_query("recall"), {"generation": found.number}).fetchone()
    return replace(found, state=GenerationState.CANDIDATE) if again else found


def _without_superseded(connection: "Connection", corpus: str, recipe: Recipe) -> list[Generation]:
    """What lives once builds are cancelled whose settings nobody wants any more."""
    others = superseded(recipe, living(connection, corpus))
    for generation in others:
        _set_aside(connection, generation, reason="the settings have changed")
    return living(connection, corpus)


def _to_be_cancelled(there: list[Generation], corpus: str, number: int | None) -> Generation:
    ends = {GenerationState.BUILDING, GenerationState.CANDIDATE}
    some = [each for each in there if each.state in ends]
    if number is not None:
        some = [each for each in [_numbered(there, corpus, number)] if each.state in ends]
    if not some:
        which = "no build" if number is None else f"no build {number}"
        raise NotReadyError(
            f"Corpus {corpus!r} has {which} that could be cancelled: only what is being built, or"
            " waits to be published, can be. See `rag-assets status`."
        )
    if not has_readers(there):
        raise NotReadyError(
            f"Generation {some[-1].number} is the first index of {corpus!r}: without it there would"
            " be nothing to read. Change its settings in defs.yaml, which replaces it, or take the"
            f" corpus out with `rag-assets remove {corpus}`."
        )
    return some[-1]


def _set_aside(
    connection: "Connection", generation: Generation, *, reason: str, held: bool = False
) -> None:
    """Cancels a build; one that was published before, and recalled since, stays for a rollback."""
    which = {"generation": generation.number, "held": held}
    if connection.execute(_query("set_aside"), which).fetchone() is None:
        _end(connection, generation.number, GenerationState.CANCELLED, reason, held=held)


def _end(
    connection: "Connection",
    number: int,
    state: GenerationState,
    reason: str,
    *,
    held: bool = False,
) -> None:
    which = {"generation": number}
    connection.execute(_query("stop_indexing"), which)
    connection.execute(_query("end"), which | {"state": str(state)})
    connection.execute(_query("note_end"), which | {"reason": reason, "held": held})


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
