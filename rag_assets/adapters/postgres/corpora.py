"""Whole corpora: what is there, removing one, spreading one over another number of buckets."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect, only_row
from rag_assets.adapters.postgres.generations import living
from rag_assets.errors import ConfigurationError
from rag_assets.model import GenerationState, bucket_of

if TYPE_CHECKING:
    import psycopg
    from psycopg.rows import DictRow

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
            texts = connection.execute(_query("unused_texts")).rowcount
            # After the chunks: a vector is added only while one of them has its text.
            embeddings = connection.execute(_query("unused_embeddings"), which).rowcount
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
        raise no_such_corpus(connection, corpus)
    return RegisteredCorpus(**row)


def no_such_corpus(connection: "Connection", corpus: str) -> ConfigurationError:
    """Says which ones there are."""
    registered = connection.execute(_query("registered"))
    names = ", ".join(each["corpus"] for each in registered) or "none"
    return ConfigurationError(
        f"The database has no corpus {corpus!r}; it has: {names}."
        " (A corpus is there once it has been materialized.)"
    )


class _Move:
    """The steps of a rebucketing, in one transaction of the caller's."""

    def __init__(self, connection: "Connection", corpus: str, buckets: int, run_id: str) -> None:
        self._connection = connection
        self._which: dict[str, Any] = {"corpus": corpus, "buckets": buckets, "run_id": run_id}
        self._buckets = buckets
        version = int(only_row(self._run("next_version"))["version"])
        unmerged = self._run("stamp_unmerged", version=version).rowcount
        self._which |= {"version": version, "merged": version - 1 if unmerged else version}

    def documents(self) -> int:
        doc_ids = [row["doc_id"] for row in self._run("known_ids")]
        into = [bucket_of(doc_id, self._buckets) for doc_id in doc_ids]
        moved = self._run("move_documents", doc_ids=doc_ids, buckets=into).rowcount
        for name in ("move_dead_letters", "move_hints", "move_withheld", "move_verdicts"):
            self._connection.execute(
                _query(name), self._which | {"doc_ids": doc_ids, "buckets": into}
            )
        self._run("forget_judged")
        return moved

    def generation(self, number: int) -> None:
        which = self._which | {"generation": number}
        self._run("move_indexed", generation=number)
        rows = queries.of_generation(_query("move_rows"), number)
        self._connection.execute(rows, which)
        self._run("forget_manifests", generation=number)
        self._run("rewrite_manifests", generation=number)

    def fences(self, before: int) -> None:
        """New fences; where an old bucket had never been looked at, all are looked at again."""
        old = self._run("forget_fences").fetchall()
        self._run("set_buckets")
        looked_at = sum(row["epoch"] > 0 for row in old) == before
        self._run(
            "open_fences",
            epoch=max(row["epoch"] for row in old) + 1 if looked_at else 0,
            requested=max((row["requested"] for row in old), default=0),
        )

    def _run(self, name: str, **parameters: object) -> "psycopg.Cursor[DictRow]":
        return self._connection.execute(_query(name), self._which | parameters)


def _query(name: str) -> LiteralString:
    return queries.load("corpora")[name]
