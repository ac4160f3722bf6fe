"""Keeps chunks, under the hash of what they were made from."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect
from rag_assets.adapters.postgres.documents import parsed_document
from rag_assets.model import (
    Chunk,
    ChunkSet,
    Generation,
    StoredText,
)

if TYPE_CHECKING:
    from rag_assets.adapters.postgres.connections import Connection


TEXTS_AT_ONCE = 100


class PostgresChunks:
    """The store behind `chunks`."""

    def __init__(self, url: str) -> None:
        self._url = url

    def unchunked(self, generation: Generation, buckets: Sequence[int]) -> Iterator[StoredText]:
        which = which_rows(generation, buckets)
        with connect(self._url) as connection:
            for rows in pieces(connection, _query("unchunked"), which, at_once=TEXTS_AT_ONCE):
                for row in rows:
                    yield StoredText(row["content_hash"], row["parser"], parsed_document(row))

    def add_chunks(self, sets: Sequence[ChunkSet]) -> int:
        """Writes texts' chunks with the mark that they are cut; returns how many were new."""
        added = 0
        with connect(self._url) as connection, connection.transaction():
            for each in sets:
                key = {
                    "content_hash": each.content_hash,
                    "parser": each.parser,
                    "chunker": each.chunker,
                }
                mark = connection.execute(
                    _query("add_chunk_set"), key | {"chunks": len(each.chunks)}
                )
                if mark.fetchone() is None:
                    continue
                rows = [key | _chunk_row(chunk) for chunk in each.chunks]
                connection.cursor().executemany(_query("add_chunk"), rows)
                added += len(rows)
        return added

    def counts(self, generation: Generation) -> dict[int, int]:
        """Bucket to chunks of its live documents."""
        with connect(self._url) as connection:
            rows = connection.execute(_query("count_chunks"), which_rows(generation))
            return {row["bucket"]: row["chunks"] for row in rows}

    def misplaced(self, generation: Generation) -> list[tuple[str, int]]:
        """Chunks that do not stand in their text where they say."""
        with connect(self._url) as connection:
            rows = connection.execute(_query("verify_chunks"), which_rows(generation))
            return [(row["doc_id"], row["ord"]) for row in rows]


def pieces(
    connection: "Connection", query: LiteralString, which: dict[str, Any], *, at_once: int
) -> Iterator[list[dict[str, Any]]]:
    """A large result, a few hundred rows at a time."""
    with connection.transaction(), connection.cursor(name="pieces") as cursor:
        cursor.execute(query, which)
        while rows := cursor.fetchmany(at_once):
            yield rows


def which_rows(generation: Generation, buckets: Sequence[int] = ()) -> dict[str, Any]:
    return {
        "generation": generation.number,
        "corpus": generation.corpus,
        "buckets": list(buckets),
        "parser": generation.recipe.parser,
        "chunker": generation.recipe.chunker,
        "embedder": generation.recipe.embedder,
        "dimensions": generation.recipe.dimensions,
    }


def _chunk_row(chunk: Chunk) -> dict[str, Any]:
    return {
        "ord": chunk.ord,
        "start": chunk.start,
        "end": chunk.end,
        "heading_path": list(chunk.heading_path),
        "page": chunk.page,
        "tokens": chunk.tokens,
        "text_hash": chunk.text_hash,
        "text": chunk.text,
    }


def _query(name: str) -> LiteralString:
    return queries.load("chunks")[name]
