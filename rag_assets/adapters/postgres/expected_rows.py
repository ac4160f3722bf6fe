"""The rows that expectations are judged on: ids and figures, taken at one moment."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect, only_row
from rag_assets.model import Generation

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from rag_assets.adapters.postgres.connections import Connection


@dataclass(frozen=True, slots=True)
class RowsInSession:
    """One temporary table a stage, in a session that can change nothing any more."""

    connection: "Connection"
    rows: dict[str, int]
    """Stage to the number of its rows."""

    def batch(self, stage: str) -> str:
        return f"{stage}_batch"

    def contents(self, stage: str, doc_ids: Sequence[str]) -> dict[str, bytes]:
        """What these documents were when the rows were taken: the hash of their content."""
        from psycopg.rows import tuple_row
        from psycopg.sql import SQL, Identifier

        asked = SQL(_query("contents")).format(batch=Identifier(self.batch(stage)))
        with self.connection.cursor(row_factory=tuple_row) as cursor:
            return dict(cursor.execute(asked, {"doc_ids": list(doc_ids)}).fetchall())

    def offenders(self, stage: str, query: str, *, most: int) -> list[tuple[str, int | None]]:
        """The ids in what a user's query over a stage gives; none where it names no `doc_id`."""
        from psycopg.rows import tuple_row
        from psycopg.sql import SQL, Composed, Identifier, Literal

        rows = SQL(_query("subselect").rstrip(";")).format(batch=Identifier(self.batch(stage)))
        # A user's query counts as part of the program, as the file it stands in does.
        filled = Composed([SQL(query.format(batch=rows.as_string(self.connection)))])
        asked = SQL(_query("offenders")).format(query=filled, most=Literal(most))
        with self.connection.cursor(row_factory=tuple_row) as cursor:
            found = cursor.execute(asked).fetchall()
        return [(doc_id, int(ord_) if ord_ is not None else None) for doc_id, ord_ in found]

    def require(self) -> None:
        """Raises if the database went away meanwhile: nothing that was judged then counts."""
        self.connection.execute(_query("only_read"))


class PostgresExpectedRows:
    """Reads with the writer's rights."""

    def __init__(self, url: str) -> None:
        self._url = url

    @contextmanager
    def taken(
        self, corpus: str, generation: Generation | None, stages: Sequence[str]
    ) -> Iterator[RowsInSession]:
        """The rows of these stages of a generation, for as long as the context lasts."""
        from psycopg import IsolationLevel
        from psycopg.rows import tuple_row

        with connect(self._url) as connection:
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            with connection.transaction():
                rows = {stage: _take(connection, corpus, generation, stage) for stage in stages}
            connection.isolation_level = None
            connection.execute(_query("only_read"))
            connection.row_factory = tuple_row  # type: ignore[assignment]  # as others expect rows
            yield RowsInSession(connection, rows)
            connection.close()  # whoever was handed it may still hold it: never another's again


def _take(connection: "Connection", corpus: str, generation: Generation | None, stage: str) -> int:
    from psycopg.sql import SQL, Identifier

    batch = Identifier(f"{stage}_batch")
    kept = SQL(_query("keep")).format(batch=batch, rows=_rows(stage, generation))
    connection.execute(kept, {"corpus": corpus, **_made_with(generation)})
    counted = connection.execute(SQL(_query("count")).format(batch=batch))
    return int(only_row(counted)["rows"])


def _rows(stage: str, generation: Generation | None) -> "Composed":
    blocks = queries.load("expectations")
    query = {
        "documents": blocks["documents"],
        "chunks": blocks["chunks"],
        "embeddings": blocks["embeddings"],
        "index": blocks["index"],
    }[stage]
    return queries.of_generation(query.rstrip(";"), generation.number if generation else None)


def _made_with(generation: Generation | None) -> dict[str, object]:
    if generation is None:
        return {}
    recipe = generation.recipe
    return {
        "generation": generation.number,
        "parser": recipe.parser,
        "chunker": recipe.chunker,
        "embedder": recipe.embedder,
    }


def _query(name: str) -> LiteralString:
    return queries.load("expectations")[name]
