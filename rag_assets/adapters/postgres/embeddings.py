"""Keeps embeddings, each under the hash of the text it was made from."""

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.chunks import pieces, which_rows
from rag_assets.adapters.postgres.connections import connect, only_row
from rag_assets.model import Chunk, Generation, RunIdentity
from rag_assets.ports import Vectors

if TYPE_CHECKING:
    from rag_assets.adapters.postgres.connections import Connection


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
        which = which_rows(generation, buckets)
        with connect(self._url) as connection, connection.transaction():
            for bucket in sorted(buckets):
                connection.execute(_query("hold_embedding"), which | {"bucket": bucket})
            for rows in pieces(connection, _query("unembedded"), which, at_once=at_once):
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

        which = which_rows(generation) | {"run_id": run.run_id}
        rows = [
            which | {"text_hash": text_hash, "vector": vector}
            for text_hash, vector in zip(text_hashes, np.asarray(vectors, np.float32), strict=True)
        ]
        with connect(self._url, vectors=True) as connection, connection.transaction():
            connection.cursor().executemany(_query("add_embedding"), rows)

    def counts(self, generation: Generation, buckets: Sequence[int]) -> dict[int, int]:
        """Bucket to how many of its texts have their vector."""
        with connect(self._url) as connection:
            rows = connection.execute(_query("count_embeddings"), which_rows(generation, buckets))
            return {row["bucket"]: row["embedded"] for row in rows}

    def missing(self, generation: Generation) -> int:
        """How many texts of live documents have no vector."""
        with connect(self._url) as connection:
            row = only_row(connection.execute(_query("missing_embeddings"), which_rows(generation)))
            return int(row["missing"])

    def damaged(self, generation: Generation) -> list[str]:
        """Hashes of texts whose vector has the wrong length or no direction."""
        with connect(self._url) as connection:
            rows = connection.execute(_query("verify_embeddings"), which_rows(generation))
            return [row["text_hash"] for row in rows]


def _without_vectors(
    connection: "Connection", chunks: list[Chunk], which: dict[str, Any]
) -> list[Chunk]:
    hashes = [chunk.text_hash for chunk in chunks]
    rows = connection.execute(_query("embedded_meanwhile"), which | {"text_hashes": hashes})
    meanwhile = {row["text_hash"] for row in rows}
    return [chunk for chunk in chunks if chunk.text_hash not in meanwhile]


def _chunk(row: dict[str, Any]) -> Chunk:
    return Chunk(**row | {"heading_path": tuple(row["heading_path"])})


def _query(name: str) -> LiteralString:
    return queries.load("embeddings")[name]
