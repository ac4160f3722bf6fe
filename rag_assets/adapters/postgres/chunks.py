"""Keeps chunks and embeddings, each under the hash of what it was made from."""

from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect, only_row
from rag_assets.adapters.postgres.documents import parsed_document
from rag_assets.model import (
    Chunk,
    ChunkSet,
    Generation,
    RunIdentity,
    StoredText,
)
from rag_assets.ports import Vectors

if TYPE_CHECKING:
    from rag_assets.adapters.postgres.connections import Connection


TEXTS_AT_ONCE = 100


class PostgresChunks:
    """The store behind `chunks`."""

    def __init__(self, url: str) -> None:
        self._url = url

    def unchunked(self, generation: Generation, buckets: Sequence[int]) -> Iterator[StoredText]:
        which = _which(generation, buckets)
        with connect(self._url) as connection:
            for rows in _pieces(connection, "unchunked", which, at_once=TEXTS_AT_ONCE):
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
            rows = connection.execute(_query("count_chunks"), _which(generation))
            return {row["bucket"]: row["chunks"] for row in rows}

    def misplaced(self, generation: Generation) -> list[tuple[str, int]]:
        """Chunks that do not stand in their text where they say."""
        with connect(self._url) as connection:
            rows = connection.execute(_query("verify_chunks"), _which(generation))
            return [(row["doc_id"], row["ord"]) for row in rows]


class PostgresEmbeddings:
    """The store behind `embeddings`."""

    def __init__(self, url: str) -> None:
        self._url = url

    def unembedded(
        self, generation: Generation, buckets: Sequence[int], *, at_once: int
    ) -> Generator[Sequence[Chunk], None, None]:
        """Chunks whose text the generation's model has never seen, each text once, in batches.

        Until the last batch is embedded, other runs over these buckets wait; what a run over
        other buckets has embedded meanwhile is left out.
        """
        which = _which(generation, buckets)
        with connect(self._url) as connection, connection.transaction():
            for bucket in sorted(buckets):
                connection.execute(_query("hold_embedding"), which | {"bucket": bucket})
            for rows in _pieces(connection, "unembedded", which, at_once=at_once):
                if chunks := _without_vectors(connection, [_chunk(row) for row in rows], which):
                    yield chunks

    def add_embeddings(
        self,
        generation: Generation,
        text_hashes: Sequence[bytes],
        vectors: Vectors,
        run: RunIdentity,
    ) -> None:
        """Commits what one call of the model gave."""
        import numpy as np

        which = _which(generation) | {"run_id": run.run_id}
        rows = [
            which | {"text_hash": text_hash, "vector": vector}
            for text_hash, vector in zip(text_hashes, np.asarray(vectors, np.float32), strict=True)
        ]
        with connect(self._url, vectors=True) as connection, connection.transaction():
            connection.cursor().executemany(_query("add_embedding"), rows)

    def counts(self, generation: Generation, buckets: Sequence[int]) -> dict[int, int]:
        """Bucket to how many of its texts have their vector."""
        with connect(self._url) as connection:
            rows = connection.execute(_query("count_embeddings"), _which(generation, buckets))
            return {row["bucket"]: row["embedded"] for row in rows}

    def missing(self, generation: Generation) -> int:
        """How many texts of live documents have no vector."""
        with connect(self._url) as connection:
            row = only_row(connection.execute(_query("missing_embeddings"), _which(generation)))
            return int(row["missing"])

    def damaged(self, generation: Generation) -> list[str]:
        """Hashes of texts whose vector has the wrong length or no direction."""
        with connect(self._url) as connection:
            rows = connection.execute(_query("verify_embeddings"), _which(generation))
            return [row["text_hash"] for row in rows]


def _without_vectors(
    connection: "Connection", chunks: list[Chunk], which: dict[str, Any]
) -> list[Chunk]:
    hashes = [chunk.text_hash for chunk in chunks]
    rows = connection.execute(_query("embedded_meanwhile"), which | {"text_hashes": hashes})
    meanwhile = {row["text_hash"] for row in rows}
    return [chunk for chunk in chunks if chunk.text_hash not in meanwhile]


def _pieces(
    connection: "Connection", name: str, which: dict[str, Any], *, at_once: int
) -> Iterator[list[dict[str, Any]]]:
    """A large result, a few hundred rows at a time."""
    with connection.transaction(), connection.cursor(name=name) as cursor:
        cursor.execute(_query(name), which)
        while rows := cursor.fetchmany(at_once):
            yield rows


def _which(generation: Generation, buckets: Sequence[int] = ()) -> dict[str, Any]:
    return {
        "generation": generation.number,
        "corpus": generation.corpus,
        "buckets": list(buckets),
        "parser": generation.recipe.parser,
        "chunker": generation.recipe.chunker,
        "embedder": generation.recipe.embedder,
        "dimensions": generation.recipe.dimensions,
    }


def _chunk(row: dict[str, Any]) -> Chunk:
    return Chunk(**row | {"heading_path": tuple(row["heading_path"])})


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
