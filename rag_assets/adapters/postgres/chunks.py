"""Keeps chunks, under the hash of what they were made from."""

from collections import defaultdict
from collections.abc import Collection, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect
from rag_assets.adapters.postgres.documents import parsed_document
from rag_assets.model import (
    EVERYTHING,
    Chunk,
    ChunkSet,
    Generation,
    RunIdentity,
    StoredText,
    Written,
)

if TYPE_CHECKING:
    from rag_assets.adapters.postgres.connections import Connection


TEXTS_AT_ONCE = 16
"""How many texts come from the server together; one may be as large as a book."""

COPIED = (
    "bytea",
    "text",
    "text",
    "int4",
    "int4",
    "int4",
    "text[]",
    "int4",
    "int4",
    "bytea",
    "text",
)
"""Types of the columns of `copy_chunks`: the binary format has no other way to know them."""


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

    def add_chunks(self, sets: Sequence[ChunkSet], run: RunIdentity) -> int:
        """Writes texts' chunks with the mark that they are cut; returns how many were new.

        A text that has been erased meanwhile is left out, with its chunks.
        """
        if not sets:
            return 0
        with connect(self._url) as connection, connection.transaction():
            new = write_chunk_sets(connection, sets, run)
        return sum(len(each.chunks) for each in new)

    def documents_with(
        self, generation: Generation, content_hashes: Collection[bytes]
    ) -> dict[bytes, list[str]]:
        """Content to the live documents of the generation's corpus that have it."""
        which = {"corpus": generation.corpus, "content_hashes": list(content_hashes)}
        found: dict[bytes, list[str]] = defaultdict(list)
        with connect(self._url) as connection:
            for row in connection.execute(_query("documents_with"), which):
                found[row["content_hash"]].append(row["doc_id"])
        return found

    def counts(self, generation: Generation, buckets: Sequence[int]) -> dict[int, int]:
        """Bucket to chunks of its live documents."""
        with connect(self._url) as connection:
            rows = connection.execute(_query("count_chunks"), which_rows(generation, buckets))
            return {row["bucket"]: row["chunks"] for row in rows}

    def misplaced(
        self, generation: Generation, written: Written = EVERYTHING
    ) -> list[tuple[str, int]]:
        """Chunks that do not stand in their text where they say."""
        which = which_rows(generation) | which_written(written)
        with connect(self._url) as connection:
            rows = connection.execute(_query("verify_chunks"), which)
            return [(row["doc_id"], row["ord"]) for row in rows]


def pieces(
    connection: "Connection", query: LiteralString, which: dict[str, Any], *, at_once: int
) -> Generator[list[dict[str, Any]], None, None]:
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


def which_written(written: Written) -> dict[str, Any]:
    runs = None if written.by_runs is None else list(written.by_runs)
    return {"runs": runs, "within": written.within}


def write_chunk_sets(
    connection: "Connection", sets: Sequence[ChunkSet], run: RunIdentity
) -> list[ChunkSet]:
    """In the transaction of whoever calls; returns those that nobody had written."""
    marked = _mark(connection, sets, run)
    new = [each for each in sets if _key(each) in marked]
    _copy(connection, new)
    return new


def _mark(
    connection: "Connection", sets: Sequence[ChunkSet], run: RunIdentity
) -> set[tuple[bytes, str, str]]:
    """The keys of the sets that nobody else has written."""
    marks = {
        "content_hashes": [each.content_hash for each in sets],
        "parsers": [each.parser for each in sets],
        "chunkers": [each.chunker for each in sets],
        "chunks": [len(each.chunks) for each in sets],
        "run_id": run.run_id,
        "code_version": run.code_version,
    }
    rows = connection.execute(_query("add_chunk_sets"), marks)
    return {(row["content_hash"], row["parser"], row["chunker"]) for row in rows}


def _copy(connection: "Connection", sets: Sequence[ChunkSet]) -> None:
    with connection.cursor() as cursor, cursor.copy(_query("copy_chunks")) as copy:
        copy.set_types(COPIED)
        for each in sorted(sets, key=_key):
            key = _key(each)
            for chunk in each.chunks:
                copy.write_row((*key, *_columns(chunk)))


def _key(each: ChunkSet) -> tuple[bytes, str, str]:
    return each.content_hash, each.parser, each.chunker


def _columns(chunk: Chunk) -> tuple[object, ...]:
    return (
        chunk.ord,
        chunk.start,
        chunk.end,
        list(chunk.heading_path),
        chunk.page,
        chunk.tokens,
        chunk.text_hash,
        chunk.text,
    )


def _query(name: str) -> LiteralString:
    return queries.load("chunks")[name]
