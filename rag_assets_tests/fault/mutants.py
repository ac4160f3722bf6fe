"""Deliberately broken protocols: each is a change that a worker makes to itself before it begins.

Nothing of the tester knows them, so what it finds it finds by looking.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Self

import numpy as np
import psycopg

from rag_assets.adapters.postgres import migrations, queries
from rag_assets.adapters.postgres.chunks import PostgresChunks
from rag_assets.adapters.postgres.documents import HeldPostgresBuckets
from rag_assets.adapters.postgres.embeddings import PostgresEmbeddings
from rag_assets.adapters.postgres.index import PostgresIndex
from rag_assets.adapters.postgres.search import PostgresSearchIndex
from rag_assets.errors import DatabaseError
from rag_assets.indexing import judging, planning, requesting
from rag_assets.model import DocumentState, Found, PublishedIndex
from rag_assets.settings import DatabaseUrls

Breaks = Callable[[], None]
Opens = Callable[[DatabaseUrls], PostgresSearchIndex]


class NotThereError(Exception):
    """The protocol has changed, and this way to break it with it."""


def _put(owner: object, name: str, instead: object) -> None:
    """What every one of these faults comes down to."""
    if not hasattr(owner, name):
        raise NotThereError(f"{owner} has no {name}")
    setattr(owner, name, instead)


def _sql(stage: str, name: str, before: str, after: str) -> Breaks:
    """A part of a named query reads otherwise; it keeps its name."""

    def breaks() -> None:
        blocks: dict[str, Any] = queries.load(stage)
        if before not in blocks[name]:
            raise NotThereError(f"{stage}.{name} has no {before!r}")
        blocks[name] = blocks[name].replace(before, after)

    return breaks


def _void(stage: str, name: str, instead: str) -> Breaks:
    """A named query does something else; its comment stays, and so does its name."""

    def breaks() -> None:
        blocks: dict[str, Any] = queries.load(stage)
        comment = [line for line in blocks[name].splitlines() if line.startswith("--")]
        blocks[name] = "\n".join([*comment, instead])

    return breaks


def _all(*several: Breaks) -> Breaks:
    def breaks() -> None:
        for each in several:
            each()

    return breaks


def _untransacted(owner: type, method: str) -> Breaks:
    """Every statement of a method is committed by itself."""
    original = getattr(owner, method)

    def untransacted(*args: Any, **options: Any) -> Any:
        with _without_transactions():
            return original(*args, **options)

    return lambda: _put(owner, method, untransacted)


@contextmanager
def _without_transactions() -> Iterator[None]:
    real = psycopg.Connection.transaction
    _put(psycopg.Connection, "transaction", lambda *_, **__: nullcontext())
    try:
        yield
    finally:
        _put(psycopg.Connection, "transaction", real)


# --- embeddings ----------------------------------------------------------------------------------


def _kept_until_the_end() -> None:
    """Paid vectors are committed when there is nothing left to be asked."""
    add, give = PostgresEmbeddings.add_embeddings, PostgresEmbeddings.unembedded
    hoarded: list[tuple[Any, ...]] = []
    asked: list[bool] = []

    def add_later(store: PostgresEmbeddings, *args: Any, **_: Any) -> None:
        if asked:
            add(store, *args)
        else:
            hoarded.append(args)

    def give_and_add(store: PostgresEmbeddings, *args: Any, **options: Any) -> Iterator[Any]:
        yield from give(store, *args, **options)
        asked.append(True)
        for each in hoarded:
            add(store, *each)

    _put(PostgresEmbeddings, "add_embeddings", add_later)
    _put(PostgresEmbeddings, "unembedded", give_and_add)


def _in_a_circle() -> None:
    """Each text gets the vector of the next one."""
    add = PostgresEmbeddings.add_embeddings

    def add_wrongly(
        store: PostgresEmbeddings,
        generation: Any,
        hashes: Sequence[bytes],
        vectors: Any,
        run: Any,
        **options: Any,
    ) -> None:
        add(store, generation, hashes, np.roll(np.asarray(vectors), 1, axis=0), run, **options)

    _put(PostgresEmbeddings, "add_embeddings", add_wrongly)


def _all_accepted() -> None:
    """Whatever a service says is a vector."""
    _put(requesting, "problems_of", lambda vectors, _: [None] * len(vectors))


# --- the index -----------------------------------------------------------------------------------


def _remembers_versions() -> None:
    """A bucket counts as merged even where documents wait."""
    planned = PostgresIndex.__init__

    def init(store: PostgresIndex, url: str, *, plan: Any) -> None:
        def forgetful(compared: Any, **options: Any) -> Any:
            from dataclasses import replace

            return replace(plan(compared, **options), waiting_since=None)

        planned(store, url, plan=forgetful)

    _put(PostgresIndex, "__init__", init)


def _always_notes() -> None:
    """Every run says in the database that it was there."""
    merge = PostgresIndex.merge

    def noted(store: PostgresIndex, generation: Any, *args: Any, **options: Any) -> Any:
        done = merge(store, generation, *args, **options)
        with psycopg.connect(store._url, autocommit=True) as connection:
            connection.execute(
                "UPDATE rag_assets.index_buckets SET merged_at = now() WHERE generation = %s",
                (generation.number,),
            )
        return done

    _put(PostgresIndex, "merge", noted)


def _unplanned_end() -> None:
    """A merge whose outcome is unknown is taken for done; a worker goes on as if nothing were."""
    merge = PostgresIndex.merge

    def swallowed(store: PostgresIndex, *args: Any, **options: Any) -> Any:
        try:
            return merge(store, *args, **options)
        except DatabaseError:
            raise RuntimeError("what happened is not known") from None

    _put(PostgresIndex, "merge", swallowed)


# --- the source ----------------------------------------------------------------------------------


def _all_believed() -> None:
    _put(judging, "believed", lambda **_: True)


def _no_order() -> None:
    _put(planning, "_is_behind", lambda *_: False)


def _untransacted_migration() -> None:
    real = migrations.migrate

    def untransacted(urls: DatabaseUrls) -> list[migrations.Migration]:
        with _without_transactions():
            return real(urls)

    _put(migrations, "migrate", untransacted)


def _no_order_of_the_deleted() -> None:
    is_behind = planning._is_behind

    def lenient(found: Any, mark: Any) -> bool:
        return mark.state != DocumentState.DELETED and is_behind(found, mark)

    _put(planning, "_is_behind", lenient)


MUTANTS: dict[str, Breaks] = {
    # I1
    "chunks are marked as cut before they are written": _untransacted(PostgresChunks, "add_chunks"),
    "what is observed is recorded piece by piece": _untransacted(HeldPostgresBuckets, "record"),
    "a bucket counts as merged while documents wait": _remembers_versions,
    "a run that leaves a bucket to another forgets it": _void(
        "documents", "request_bucket", "SELECT 1"
    ),
    "a hint is forgotten that came after the look": _all(
        _sql("documents", "forget_hints", "o.seq = d.seq", "true"),
        _sql("documents", "forget_hints", "h.seq = ANY (%(seq)s::bigint[])", "%(seq)s IS NOT NULL"),
    ),
    "lost rows are not missed": _sql(
        "index",
        "standing",
        "(SELECT count(*) FROM {index} i WHERE i.bucket = b.bucket)",
        "coalesce(m.chunks, 0)",
    ),
    # I2
    "old rows go before new ones come": _all(
        _untransacted(PostgresIndex, "merge"), _void("index", "open_tables", "SELECT 1")
    ),
    # I3
    "no lock and no fence": _all(
        _void("documents", "hold_bucket", "SELECT 1"),
        _void("documents", "try_bucket", "SELECT true AS got"),
        _sql("documents", "next_epoch", "AND b.epoch = %(epoch)s", "AND %(epoch)s > 0"),
    ),
    "an older revision overwrites a newer one": _no_order,
    "an older revision revives a deleted document": _no_order_of_the_deleted,
    # I4
    "no fence against an erasure": _sql(
        "documents", "next_epoch", "AND b.epoch = %(epoch)s", "AND %(epoch)s > 0"
    ),
    "an erased document is listed again": _sql(
        "documents", "erased", "WHERE corpus = %(corpus)s", "WHERE corpus = %(corpus)s AND false"
    ),
    "rows of what has left stay": _sql(
        "index", "delete_rows", "WHERE doc_id", "WHERE doc_id LIKE 'none' AND doc_id"
    ),
    # I5
    "every run writes that it was there": _always_notes,
    # I6
    "vectors are kept until the last has come": _kept_until_the_end,
    # I7
    "a dead letter outlives its cause": _void("documents", "clear_dead_letters", "SELECT 1"),
    # I8
    "a vector is stored under another text": _in_a_circle,
    "any vector will do": _all_accepted,
    # I11
    "all deletions are believed": _all_believed,
    # I13
    "a migration is recorded apart from what it does": _untransacted_migration,
    # I12
    "a failure is told in nobody's words": _unplanned_end,
}


# --- readers -------------------------------------------------------------------------------------


class Unsnapped(PostgresSearchIndex):
    """Each statement of a request sees the index as it is then."""

    def __enter__(self) -> Self:
        entered = super().__enter__()
        assert self._connection is not None
        self._connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        return entered


class Wavering(PostgresSearchIndex):
    """A request that is slow to begin reads what is published by then."""

    def find(self, index: PublishedIndex, **asked: Any) -> Found:
        time.sleep(0.03)
        return super().find(self.published(index.corpus), **asked)


class Impatient(PostgresSearchIndex):
    """Takes what one walk through the graph gives, seen or unseen, and looks nowhere else."""

    def find(self, index: PublishedIndex, **asked: Any) -> Found:
        blocks: dict[str, Any] = queries.load("search")
        whole = dict(blocks)
        blocks["begin_request"] = whole["begin_request"].replace("%(order)s", "'off'")
        blocks["nearest_of_all"] = whole["nearest"]
        try:
            return super().find(index, **asked)
        finally:
            blocks.update(whole)


READERS: dict[str, Opens] = {
    "a reader without a snapshot": lambda urls: Unsnapped(urls.reader),
    "a reader that takes the generation twice": lambda urls: Wavering(urls.reader),
    "a reader that does not walk on": lambda urls: Impatient(urls.reader),
}
