"""Whole corpora: what is there, removing one, spreading one over another number of buckets."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect, only_row
from rag_assets.adapters.postgres.generations import living
from rag_assets.errors import ConfigurationError
from rag_assets.model import GenerationState, bucket_of

if TYPE_CHECKING:
    from rag_assets.adapters.postgres.connections import Connection


@dataclass(frozen=True, slots=True)
class RegisteredCorpus:
    corpus: str
    scope: str
    buckets: int


@dataclass(frozen=True, slots=True)
class Removed:
    """What went with a corpus; embeddings and texts only where no other corpus uses them."""

    documents: int
    generations: int
    texts: int
    embeddings: int


class PostgresCorpora:
    def __init__(self, url: str) -> None:
        self._url = url

    def registered(self) -> list[RegisteredCorpus]:
        with connect(self._url) as connection:
            return [RegisteredCorpus(**row) for row in connection.execute(_query("registered"))]

    def named(self, corpus: str) -> RegisteredCorpus:
        """A corpus that is there, or an error that says which ones are."""
        with connect(self._url) as connection, connection.transaction():
            return _locked(connection, corpus)

    def remove(self, corpus: str) -> Removed:
        """Takes a corpus out of the database, in one transaction. Its source is not touched."""
        with connect(self._url) as connection, connection.transaction():
            found = _locked(connection, corpus)
            connection.execute(_query("lock_texts"))
            which = {"corpus": corpus, "scope": found.scope}
            counts = only_row(connection.execute(_query("corpus_counts"), which))
            connection.execute(_query("unpublish"), which)
            for generation in living(connection, corpus):
                connection.execute(
                    queries.load("generations")["end"],
                    {"generation": generation.number, "state": str(GenerationState.DROPPED)},
                )
            connection.execute(_query("remove"), which)
            embeddings = connection.execute(_query("unused_embeddings"), which).rowcount
            texts = connection.execute(_query("unused_texts")).rowcount
        return Removed(**counts, texts=texts, embeddings=embeddings)

    def rebucket(self, corpus: str, buckets: int, *, run_id: str) -> int:
        """Moves every row to its new bucket; embeds nothing; returns the documents moved."""
        with connect(self._url) as connection, connection.transaction():
            before = _locked(connection, corpus).buckets
            move = _Move(connection, corpus, buckets, run_id)
            moved = move.documents()
            for generation in living(connection, corpus):
                move.generation(generation.number)
            move.fences(before)
        return moved


def _locked(connection: "Connection", corpus: str) -> RegisteredCorpus:
    """A corpus that nobody else records, merges or opens generations of, until the end."""
    connection.execute(queries.load("generations")["one_at_a_time"], {"corpus": corpus})
    row = connection.execute(_query("lock_corpus"), {"corpus": corpus}).fetchone()
    if row is None:
        registered = connection.execute(_query("registered"))
        names = ", ".join(each["corpus"] for each in registered) or "none"
        raise ConfigurationError(
            f"The database has no corpus {corpus!r}; it has: {names}."
            " (A corpus is there once it has been materialized.)"
        )
    return RegisteredCorpus(**row)


class _Move:
    """The steps of a rebucketing, in one transaction of the caller's."""

    def __init__(self, connection: "Connection", corpus: str, buckets: int, run_id: str) -> None:
        self._connection = connection
        self._which = {"corpus": corpus, "buckets": buckets, "run_id": run_id}
        self._buckets = buckets

    def documents(self) -> int:
        rows = self._connection.execute(_query("document_ids"), self._which)
        doc_ids = [row["doc_id"] for row in rows]
        into = [bucket_of(doc_id, self._buckets) for doc_id in doc_ids]
        self._connection.execute(
            _query("move_documents"), self._which | {"doc_ids": doc_ids, "buckets": into}
        )
        self._connection.execute(_query("move_dead_letters"), self._which)
        return len(doc_ids)

    def generation(self, number: int) -> None:
        from psycopg import sql

        which = self._which | {"generation": number}
        self._connection.execute(_query("move_indexed"), which)
        rows = sql.SQL(_query("move_rows")).format(index=sql.Identifier(f"index_{number}"))
        self._connection.execute(rows, which)
        self._connection.execute(_query("forget_manifests"), which)
        self._connection.execute(_query("rewrite_manifests"), which)

    def fences(self, before: int) -> None:
        """New fences where every old bucket had been looked at; else all are looked at again."""
        seen = [
            row["epoch"] for row in self._connection.execute(_query("forget_epochs"), self._which)
        ]
        self._connection.execute(_query("set_buckets"), self._which)
        if len(seen) == before:
            self._connection.execute(_query("open_epochs"), self._which | {"epoch": max(seen) + 1})


def _query(name: str) -> LiteralString:
    return queries.load("corpora")[name]
