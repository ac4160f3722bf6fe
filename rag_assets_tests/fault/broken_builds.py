"""Deliberately broken protocols of generations; like those of `mutants`, nothing else knows them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg

from rag_assets.adapters.postgres import generations as module
from rag_assets.adapters.postgres.generations import PostgresGenerations, Unfinished
from rag_assets.adapters.postgres.index import PostgresIndex
from rag_assets.indexing import rebuilding
from rag_assets.model import GenerationState
from rag_assets_tests.fault.mutants import Breaks, _all, _put, _sql, _untransacted, _void


@contextmanager
def _instead(owner: object, name: str, other: object) -> Iterator[None]:
    real = getattr(owner, name)
    _put(owner, name, other)
    try:
        yield
    finally:
        _put(owner, name, real)


def _published_as_it_is() -> None:
    """Nobody asks whether a generation has caught up."""
    publish = PostgresGenerations.publish

    def hasty(store: PostgresGenerations, *args: Any, **options: Any) -> None:
        with _instead(module, "_unfinished", lambda *_: Unfinished(0, 0)):
            publish(store, *args, **options)

    _put(PostgresGenerations, "publish", hasty)


def _merged_into_what_is_read() -> None:
    """A build shares the rows of the published generation."""
    merge = PostgresIndex.merge

    def astray(store: PostgresIndex, generation: Any, *args: Any, **options: Any) -> Any:
        living = PostgresGenerations(store._url).living(generation.corpus)
        read = [each.number for each in living if each.state is GenerationState.PUBLISHED]
        if generation.state is GenerationState.BUILDING and read:
            merge(store, replace(generation, number=read[0]), *args, **options)
        return merge(store, generation, *args, **options)

    _put(PostgresIndex, "merge", astray)


def _noted_apart() -> None:
    """The history of publications is written by another connection."""
    publish = PostgresGenerations.publish

    def noted(store: PostgresGenerations, generation: Any, **options: Any) -> None:
        why = {name: options[name] for name in ("reason",)}
        who = {"run_id": options["run"].run_id, "code_version": options["run"].code_version}
        which = {"corpus": generation.corpus, "generation": generation.number}
        flags = {"forced": False, "rolled_back": options.get("rolled_back", False)}
        with psycopg.connect(store._url, autocommit=True) as connection:
            connection.execute("SET search_path = rag_assets, public")
            connection.execute(module._query("note_publication"), which | why | who | flags)
        with _instead(module, "_query", _without_note):
            publish(store, generation, **options)

    _put(PostgresGenerations, "publish", noted)


_query = module._query


def _without_note(name: str) -> Any:
    return "SELECT 1" if name == "note_publication" else _query(name)


def _only_what_is_read() -> None:
    """A daily run forgets what somebody may go back to."""

    def read(living: Any) -> Any:
        published = [each for each in living if each.state is GenerationState.PUBLISHED]
        return published or list(living)

    _put(rebuilding, "current", read)


def _paid_for_each_build() -> None:
    """A build does not look for vectors that are there already."""
    cancel = PostgresGenerations.cancel

    def forgetful(store: PostgresGenerations, corpus: str, *args: Any, **options: Any) -> Any:
        found = cancel(store, corpus, *args, **options)
        with psycopg.connect(store._url, autocommit=True) as connection:
            connection.execute(
                "DELETE FROM rag_assets.embeddings e USING rag_assets.corpora c"
                " WHERE c.corpus = %s AND e.scope = c.scope AND NOT EXISTS (SELECT FROM"
                " rag_assets.chunks k JOIN rag_assets.generations g ON g.chunker = k.chunker"
                " WHERE k.text_hash = e.text_hash AND g.state = 'published' AND g.corpus = %s)",
                (corpus, corpus),
            )
        return found

    _put(PostgresGenerations, "cancel", forgetful)


BUILD_MUTANTS: dict[str, Breaks] = {
    "publishing is not one transaction": _untransacted(PostgresGenerations, "publish"),
    "what is published is noted apart": _noted_apart,
    "ending is not one transaction": _untransacted(PostgresGenerations, "cancel"),
    "an end leaves its tables": _void(
        "generations",
        "end",
        "UPDATE generations SET state = %(state)s WHERE generation = %(generation)s",
    ),
    "what is published may end": _all(
        _void(
            "generations",
            "end",
            "UPDATE generations SET state = %(state)s WHERE generation = %(generation)s",
        ),
        _sql(
            "generations",
            "expired",
            "AND state = 'retired'",
            "AND state IN ('retired', 'published')",
        ),
        _sql(
            "generations",
            "expired",
            "retired_at < now()",
            "coalesce(retired_at, '-infinity') < now()",
        ),
    ),
    "a grace is not waited for": _all(
        _sql("generations", "expired", "%(grace)s::interval", "0 * %(grace)s::interval"),
        _sql("generations", "expired", "age > %(keep)s", "age > 0 * %(keep)s"),
    ),
    "two may open at once": _void("generations", "one_at_a_time", "SELECT %(corpus)s"),
    "a candidate is published as it is": _published_as_it_is,
    "a build shares the rows that are read": _merged_into_what_is_read,
    "what is retired gets no changes": _only_what_is_read,
    "what is cancelled is paid for again": _paid_for_each_build,
}
