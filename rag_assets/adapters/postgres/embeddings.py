"""Keeps embeddings, each under the hash of the text it was made from."""

import secrets
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.chunks import pieces, which_rows
from rag_assets.adapters.postgres.connections import connect, only_row
from rag_assets.model import Chunk, DueText, Generation, Passage, RunIdentity, Spent, Stage
from rag_assets.ports import Vectors

if TYPE_CHECKING:
    from rag_assets.adapters.postgres.connections import Connection


class PostgresEmbeddings:
    """The store behind `embeddings`."""

    def __init__(self, url: str) -> None:
        self._url = url

    def unembedded(
        self, generation: Generation, buckets: Sequence[int], *, at_once: int, claimed: bool = False
    ) -> Generator[Sequence[DueText], None, None]:
        """Chunks whose text the generation's model has never seen, each text once, in batches.

        Other runs over these buckets wait until it ends; `claimed`, runs over other buckets, or
        corpora of the scope, leave these texts out too. An empty batch says that others are about
        to embed all that is left, or that there is no more.
        """
        which = which_rows(generation, buckets)
        with connect(self._url) as connection, connection.transaction():
            connection.execute(_query("wait_for_models"))
            for bucket in sorted(buckets):
                connection.execute(_query("hold_embedding"), which | {"bucket": bucket})
            with closing(pieces(connection, _query("unembedded"), which, at_once=at_once)) as rows:
                batches = ([_due(row) for row in batch] for batch in rows)
                if claimed:
                    with self._claims(which) as claims:
                        yield from claims.taken(batches, at_once)
                        yield []
                else:
                    yield from _all_without_vectors(connection, batches, which)
                    yield []

    def add_embeddings(
        self,
        generation: Generation,
        text_hashes: Sequence[bytes],
        vectors: Vectors,
        run: RunIdentity,
        *,
        spent: Mapping[int, Spent] | None = None,
        price: Decimal | None = None,
    ) -> None:
        """Commits what was paid for, with its cost; a text that has been erased is left out."""
        import numpy as np

        which = which_rows(generation) | {"run_id": run.run_id, "code_version": run.code_version}
        rows = np.asarray(vectors, np.float32)
        # In one order, so that two runs with the same texts do not wait for each other.
        pairs = sorted(zip(text_hashes, rows, strict=True), key=lambda pair: pair[0])
        texts = {"text_hashes": [text_hash for text_hash, _ in pairs]}
        with connect(self._url, vectors=True) as connection, connection.transaction():
            if pairs:
                given = texts | {"vectors": [vector for _, vector in pairs]}
                connection.execute(_query("add_embeddings"), which | given)
                connection.execute(_query("drop_claims"), which | texts)
            if spent is not None:
                _add_cost(connection, which, spent, price)

    def let_go(self, generation: Generation, text_hashes: Sequence[bytes]) -> None:
        """These will not be embedded by us: others may try."""
        which = which_rows(generation) | {"text_hashes": list(text_hashes)}
        with connect(self._url) as connection:
            connection.execute(_query("drop_claims"), which)

    def passages(self, generation: Generation, text_hashes: Sequence[bytes]) -> list[Passage]:
        """Where these texts stand in live documents of the generation's corpus."""
        which = which_rows(generation) | {"text_hashes": list(text_hashes)}
        with connect(self._url) as connection:
            return [Passage(**row) for row in connection.execute(_query("passages"), which)]

    def counts(self, generation: Generation, buckets: Sequence[int]) -> dict[int, int]:
        """Bucket to how many of its texts have their vector."""
        with connect(self._url) as connection:
            rows = connection.execute(_query("count_embeddings"), which_rows(generation, buckets))
            return {row["bucket"]: row["embedded"] for row in rows}

    def missing(self, generation: Generation) -> int:
        """How many texts still have to be embedded."""
        with connect(self._url) as connection:
            row = only_row(connection.execute(_query("missing_embeddings"), which_rows(generation)))
            return int(row["missing"])

    def damaged(self, generation: Generation, *, everywhere: bool = False) -> list[str]:
        """Hashes of some texts whose vector is unusable, of documents not served yet, or of all."""
        which = which_rows(generation) | {"everywhere": everywhere}
        with connect(self._url) as connection:
            rows = connection.execute(_query("damaged_embeddings"), which)
            return [row["text_hash"] for row in rows]

    @contextmanager
    def _claims(self, which: dict[str, Any]) -> Iterator["_Claims"]:
        """A session of their own: claims are seen at once, and end with it, however it ends."""
        which = which | {"holder": secrets.randbits(31)}
        with connect(self._url) as connection:
            connection.execute(_query("hold_claims"), which)
            try:
                yield _Claims(connection, which)
            finally:
                if not connection.closed:
                    connection.execute(_query("release_claims"), which)


@dataclass(frozen=True, slots=True)
class _Claims:
    """Texts that this run alone may pay for."""

    connection: "Connection"
    which: dict[str, Any]

    def taken(self, batches: Iterator[list[DueText]], at_once: int) -> Iterator[Sequence[DueText]]:
        """All chunks, those claimed by others last: each ends up as a vector, or as ours."""
        elsewhere: list[DueText] = []
        for batch in batches:
            ours = self._claim(batch)
            taken = {chunk.text_hash for chunk in ours}
            elsewhere += [chunk for chunk in batch if chunk.text_hash not in taken]
            if ours := _without_vectors(self.connection, ours, self.which):
                yield ours
        while elsewhere := _without_vectors(self.connection, elsewhere, self.which):
            ours = self._claim(elsewhere[:at_once])
            taken = {chunk.text_hash for chunk in ours}
            elsewhere = [
                chunk
                for chunk in elsewhere[at_once:] + elsewhere[:at_once]
                if chunk.text_hash not in taken
            ]
            yield _without_vectors(self.connection, ours, self.which)

    def _claim(self, chunks: list[DueText]) -> list[DueText]:
        hashes = [chunk.text_hash for chunk in chunks]
        rows = self.connection.execute(_query("claim"), self.which | {"text_hashes": hashes})
        taken = {row["text_hash"] for row in rows}
        return [chunk for chunk in chunks if chunk.text_hash in taken]


def _all_without_vectors(
    connection: "Connection", batches: Iterator[list[DueText]], which: dict[str, Any]
) -> Iterator[Sequence[DueText]]:
    for batch in batches:
        if chunks := _without_vectors(connection, batch, which):
            yield chunks


def _without_vectors(
    connection: "Connection", chunks: list[DueText], which: dict[str, Any]
) -> list[DueText]:
    if not chunks:
        return []
    hashes = [chunk.text_hash for chunk in chunks]
    rows = connection.execute(_query("embedded_meanwhile"), which | {"text_hashes": hashes})
    meanwhile = {row["text_hash"] for row in rows}
    return [chunk for chunk in chunks if chunk.text_hash not in meanwhile]


def _add_cost(
    connection: "Connection",
    which: dict[str, Any],
    spent: Mapping[int, Spent],
    price: Decimal | None,
) -> None:
    """Always in the order of the buckets, so that no two wait for each other."""
    some = sorted(spent.items())
    line = which | {
        "stage": Stage.EMBED,
        "model": which["embedder"],
        "buckets": [bucket for bucket, _ in some],
        "requests": [each.requests for _, each in some],
        "texts": [each.texts for _, each in some],
        "tokens": [each.tokens for _, each in some],
        "price": price,
    }
    connection.execute(queries.load("costs")["add_costs"], line)


def _due(row: dict[str, Any]) -> DueText:
    bucket = row.pop("bucket")
    return DueText(bucket, Chunk(**row | {"heading_path": tuple(row["heading_path"])}))


def _query(name: str) -> LiteralString:
    return queries.load("embeddings")[name]
