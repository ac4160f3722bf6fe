"""The reader's side: finds candidates in one generation, as far as the principals may see."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rag_assets.adapters.postgres import generations, queries
from rag_assets.adapters.postgres.connections import connect
from rag_assets.errors import NotPublishedError
from rag_assets.model import (
    Found,
    Hit,
    IndexKind,
    PublishedIndex,
    QuestionTerm,
    RetrievalSettings,
)
from rag_assets.ports import SearchIndex, Vectors

if TYPE_CHECKING:
    import psycopg
    from psycopg.rows import DictRow

    from rag_assets.adapters.postgres.connections import Connection

NEAREST: Mapping[IndexKind, str] = {
    "exact": "nearest",
    "hnsw": "nearest",
    "ivfflat": "nearest_in_lists",
    "binary": "nearest_by_bits",
}
GRAPHS: tuple[IndexKind, ...] = ("hnsw", "binary")
MOST_EF_SEARCH = 1000
"""What pgvector allows."""
_WORD = re.compile(r"\w+(?:[-.'’]\w+)*")  # noqa: RUF001 -- both apostrophes stand in real questions


class PostgresSearchIndex:
    """The `SearchIndex` of a real reader role.

    As a context it keeps one connection for all that is asked; else every request opens its own.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._kept = ExitStack()
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        self._connection = self._kept.enter_context(_reading(self._url))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """What ended the connection comes out in our words, so it must be told of it."""
        self._connection = None
        self._kept.__exit__(kind, error, traceback)

    def published(self, corpus: str | None) -> PublishedIndex:
        with connect(self._url) as connection:
            return generations.published(connection, corpus)

    def find(
        self, index: PublishedIndex, *, question: str, vector: Vectors, principals: Sequence[str]
    ) -> Found:
        from psycopg import errors

        kept = nullcontext(self._connection) if self._connection else _reading(self._url)
        with kept as connection:
            try:
                with connection.transaction():
                    return _Request(connection, index, vector, principals).find(question)
            except errors.UndefinedTable as error:
                raise NotPublishedError(
                    f"Generation {index.generation} of {index.corpus!r} was dropped while this"
                    " question was asked. Ask again: it will read the one published now."
                ) from error


def how_far(kind: IndexKind, retrieval: RetrievalSettings) -> dict[str, Any]:
    """How an index of this kind is looked through for readers.

    What is found by bits is put in order afterwards, so the graph need not do that, but it has to
    find that many at once.
    """
    by_bits = retrieval.candidates * retrieval.oversampling
    of_bits = kind == "binary"
    return {
        "by_bits": by_bits,
        "ef_search": max(retrieval.ef_search, min(by_bits if of_bits else 0, MOST_EF_SEARCH)),
        "order": "relaxed_order" if of_bits else "strict_order",
        "probes": retrieval.probes,
    }


@contextmanager
def _reading(url: str) -> Iterator["Connection"]:
    """A connection that only reads, each transaction in one snapshot."""
    from psycopg import IsolationLevel

    with connect(url, vectors=True) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        yield connection


class _Request:
    """One question, one snapshot."""

    def __init__(
        self,
        connection: "Connection",
        index: PublishedIndex,
        vector: Vectors,
        principals: Sequence[str],
    ) -> None:
        self._connection = connection
        self._index = index
        self._dimensions = len(vector)
        self._parameters: dict[str, Any] = {
            "generation": index.generation,
            "candidates": index.retrieval.candidates,
            "vector": vector,
            **how_far(index.index_kind, index.retrieval),
        }
        self._run("begin_request", principals=list(principals))

    def find(self, question: str) -> Found:
        words = list(dict.fromkeys(_WORD.findall(question)))
        rows = self._run("stems", words=words).fetchall()
        terms = tuple(
            QuestionTerm(row["word"], row["stem"], row["chunks"], row["visible"]) for row in rows
        )
        lexical = self._matching([term.stem for term in terms])
        nearest = self._nearest()
        hits = self._hits(list(dict.fromkeys([*lexical, *nearest])), lexical)
        return Found(hits=hits, terms=terms, chunks=rows[0]["total"] or 0 if rows else 0)

    def _nearest(self) -> list[tuple[str, int]]:
        """A graph is left before its end, where few of the rows on the way may be seen."""
        kind = self._index.index_kind
        rows = self._run(NEAREST[kind]).fetchall()
        if kind in GRAPHS and len(rows) < self._index.retrieval.candidates:
            rows = self._run("nearest_of_all").fetchall()
        return [(row["doc_id"], row["ord"]) for row in rows]

    def _matching(self, stems: list[str]) -> dict[tuple[str, int], float]:
        rows = self._run("matching", stems=list(dict.fromkeys(stems)))
        return {(row["doc_id"], row["ord"]): row["score"] for row in rows}

    def _hits(
        self, places: list[tuple[str, int]], lexical: dict[tuple[str, int], float]
    ) -> tuple[Hit, ...]:
        doc_ids, ords = [place[0] for place in places], [place[1] for place in places]
        rows = self._run("candidates", doc_ids=doc_ids, ords=ords)
        return tuple(
            Hit(
                **row | {"heading_path": tuple(row["heading_path"])},
                generation=self._index.generation,
                lexical=lexical.get((row["doc_id"], row["ord"])),
                score=0.0,
            )
            for row in rows
        )

    def _run(self, name: str, **parameters: object) -> "psycopg.Cursor[DictRow]":
        query = queries.of_generation(
            queries.load("search")[name], self._index.generation, dimensions=self._dimensions
        )
        return self._connection.execute(query, self._parameters | parameters)


@dataclass(frozen=True, slots=True)
class PinnedIndex:
    """A `SearchIndex` that reads one generation, published or not: for scoring and comparing."""

    index: SearchIndex
    row: PublishedIndex

    def published(self, corpus: str | None) -> PublishedIndex:  # noqa: ARG002
        return self.row

    def find(
        self, index: PublishedIndex, *, question: str, vector: Vectors, principals: Sequence[str]
    ) -> Found:
        return self.index.find(index, question=question, vector=vector, principals=principals)
