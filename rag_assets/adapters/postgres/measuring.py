"""Measures whole generations: how large they are, what is lost of them, how well they are found."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.chunks import which_rows, which_written
from rag_assets.adapters.postgres.connections import connect, only_row
from rag_assets.adapters.postgres.search import how_far
from rag_assets.model import (
    ChunkLengths,
    Generation,
    GenerationSize,
    GraphRecall,
    LostRows,
    RetrievalSettings,
    Sameness,
    Written,
)

if TYPE_CHECKING:
    from psycopg.sql import Composed

QUESTIONS = 100
"""Rows of an index that are looked for again in it."""
WANTED = 10
SAMPLED_VECTORS = 500
AS_NEAR = 1e-6
"""What is hardly farther than the farthest that was to be found counts as found."""


class PostgresMeasuring:
    """Reads with the writer's rights, for it looks at all rows; writes only sizes."""

    def __init__(self, url: str) -> None:
        self._url = url

    def measure(self, generation: Generation) -> bool:
        """Notes how large a generation is; True where that has changed."""
        with connect(self._url) as connection:
            which = {"generation": generation.number}
            return connection.execute(_query("measure"), which).rowcount > 0

    def sizes(self, corpus: str) -> list[GenerationSize]:
        """What every generation that can be read holds, and the most it held within a day."""
        with connect(self._url) as connection:
            rows = connection.execute(_query("sizes"), {"corpus": corpus})
            return [GenerationSize(**row) for row in rows]

    def lost_rows(
        self, generation: Generation, written: Written, *, limit: int = 50
    ) -> list[LostRows]:
        """Documents that have not the rows they are to have, in the buckets written lately.

        Of runs, it is the documents that they wrote: buckets are not counted.
        """
        which = which_rows(generation) | which_written(written) | {"limit": limit}
        name = "lost_rows" if written.by_runs is None else "lost_rows_of_runs"
        with connect(self._url) as connection:
            query = queries.of_generation(_query(name), generation.number)
            return [LostRows(**row) for row in connection.execute(query, which)]

    def recall(
        self,
        generation: Generation,
        retrieval: RetrievalSettings,
        *,
        questions: int = QUESTIONS,
        wanted: int = WANTED,
    ) -> GraphRecall:
        """How much of what is nearest an index finds, looked through as readers do.

        An exact search finds all there is. One that is to have an index and has none finds nothing.
        """
        number, kind = generation.number, generation.recipe.index.kind
        if kind == "exact":
            return GraphRecall(number, 1.0, 0, kind)
        which = {"questions": questions, "wanted": wanted, **how_far(kind, retrieval)}
        nearest = _composed("nearest", generation)
        found = _composed("nearest_by_bits", generation) if kind == "binary" else nearest
        with connect(self._url) as connection, connection.transaction():
            there = only_row(connection.execute(_query("found_by"), {"table": f"index_{number}"}))
            connection.execute(_query("look_at_all"))
            exact = _distances(connection.execute(nearest, which).fetchall())
            if not there["there"]:
                return GraphRecall(number, 0.0 if exact else 1.0, len(exact), kind)
            connection.execute(_query("look_through"), which)
            through = _distances(connection.execute(found, which).fetchall())
        return GraphRecall(number, recall_of(exact, through), len(exact), kind)

    def sameness(self, generation: Generation) -> Sameness:
        """How alike the vectors are that the model of a generation gave to different texts."""
        which = which_rows(generation) | {"questions": SAMPLED_VECTORS}
        with connect(self._url) as connection:
            return Sameness(**only_row(connection.execute(_query("sameness"), which)))

    def lengths(self, generation: Generation, *, few_chars: int) -> ChunkLengths:
        """How long the chunks are that a generation serves."""
        which = which_rows(generation) | {"few_chars": few_chars}
        with connect(self._url) as connection:
            return ChunkLengths(**only_row(connection.execute(_query("lengths"), which)))


def recall_of(
    exact: Mapping[tuple[str, int], list[float]], walked: Mapping[tuple[str, int], list[float]]
) -> float:
    """The share of the nearest that was found; of rows that are equally near, any will do.

    >>> recall_of({("a", 0): [0.0, 0.5]}, {("a", 0): [0.0, 0.7]})
    0.5
    """
    wanted = sum(map(len, exact.values()))
    found = sum(
        sum(distance <= max(distances) + AS_NEAR for distance in walked.get(key, ()))
        for key, distances in exact.items()
        if distances
    )
    return min(found / wanted, 1.0) if wanted else 1.0


def _distances(rows: list[dict[str, Any]]) -> dict[tuple[str, int], list[float]]:
    return {(row["doc_id"], row["ord"]): row["distances"] or [] for row in rows}


def _composed(name: str, generation: Generation) -> "Composed":
    return queries.of_generation(
        _query(name), generation.number, dimensions=generation.recipe.dimensions
    )


def _query(name: str) -> LiteralString:
    return queries.load("measuring")[name]
