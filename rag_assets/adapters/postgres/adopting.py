"""Reads tables of embeddings that others have made, and writes what is adopted from them."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.chunks import write_chunk_sets
from rag_assets.adapters.postgres.connections import connect, where
from rag_assets.adapters.postgres.documents import parsed_document
from rag_assets.errors import AdoptionError
from rag_assets.model import (
    NO_BUCKET,
    ChunkSet,
    ForeignColumn,
    ForeignTable,
    Generation,
    RunIdentity,
    Spent,
    StoredText,
)
from rag_assets.ports import Vectors

if TYPE_CHECKING:
    from psycopg.sql import Composed

    from rag_assets.adapters.postgres.connections import Connection

ROWS_AT_ONCE = 200
VECTORS, ARRAYS, JSON = {"vector", "halfvec"}, {"_float4", "_float8"}, {"json", "jsonb"}
STORED = {"r", "p", "m"}
"""Kinds of relations whose rows have a place."""
COPIED = ("int8", "bytea", "int4", "int4", "bytea")


@dataclass(frozen=True, slots=True)
class ForeignRow:
    """A row of somebody's table."""

    id: str
    text: str | None
    vector: "Vectors | None"
    document: str | None


@dataclass(frozen=True, slots=True)
class StoredContent:
    """A live document of the corpus, by what it holds."""

    doc_id: str
    uri: str
    content_hash: bytes
    cut: bool
    """Under the name of the adoption, whatever model that was for."""


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """Where a row's text stands, and its vector."""

    row: int
    content_hash: bytes
    start: int
    end: int
    vector: Vectors


class ForeignTables:
    """The database in which a table of embeddings is; nothing is ever written there."""

    def __init__(self, url: str) -> None:
        self._url = url

    def place(self, table: ForeignTable) -> str:
        """For people and records, without user or password."""
        return f"{table} at {where(self._url)}"

    @contextmanager
    def opened(self, table: ForeignTable) -> "Iterator[OpenedTable]":
        """One session; refused, with what to do, where a name or a type is wrong."""
        with connect(self._url) as connection:
            connection.execute(_query("only_read"))
            yield OpenedTable(connection, table, _columns_of(connection, table))


@dataclass(frozen=True, slots=True)
class OpenedTable:
    connection: "Connection"
    table: ForeignTable
    columns: Mapping[str, Mapping[str, Any]]

    def width(self) -> int | None:
        """How many numbers its vectors have; None where there is none."""
        if fixed := self.columns[self.table.vector]["width"]:
            return int(fixed)
        row = self.connection.execute(self._filled("some_vector"), self._which()).fetchone()
        return None if row is None else len(_numbers(row["vector"]))

    def rows(self) -> Iterator[list[ForeignRow]]:
        """As a stream, a few hundred at a time."""
        with self.connection.transaction(), self.connection.cursor(name="foreign") as cursor:
            cursor.execute(self._filled("foreign_rows"), self._which())
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                yield [_row(row) for row in rows]

    def _filled(self, name: str) -> "Composed":
        """Names come from the catalogue and are quoted; values are parameters."""
        from psycopg.sql import SQL, Identifier

        table = self.table
        return SQL(_query(name)).format(
            id=self._id(),
            text=Identifier(table.text),
            vector=Identifier(table.vector),
            document=SQL("NULL::text") if table.document is None else _value(table.document, "of"),
            table=Identifier(table.schema, table.name),
            wanted=SQL("true")
            if table.only is None
            else SQL("{} = %(only)s").format(_value(table.only[0], "only_path")),
        )

    def _id(self) -> "Composed":
        from psycopg.sql import SQL, Identifier

        own = next((name for name, each in self.columns.items() if each["identifies"]), None)
        if own is not None:
            return SQL("{}::text").format(Identifier(own))
        return SQL("{}").format(SQL("ctid::text" if self._has_places else "''"))

    @property
    def _has_places(self) -> bool:
        return self.columns[self.table.text]["kind"] in STORED

    def _which(self) -> dict[str, object]:
        table = self.table
        return {
            "of": list(table.document.path) if table.document else [],
            "only": table.only[1] if table.only else None,
            "only_path": list(table.only[0].path) if table.only else [],
        }


def _value(column: ForeignColumn, path: str) -> "Composed":
    from psycopg.sql import SQL, Identifier, Placeholder

    if not column.path:
        return SQL("{}::text").format(Identifier(column.name))
    return SQL("({}::jsonb #>> {}::text[])").format(Identifier(column.name), Placeholder(path))


def _columns_of(connection: "Connection", table: ForeignTable) -> dict[str, dict[str, Any]]:
    which = {"schema": table.schema, "name": table.name}
    found = connection.execute(_query("relation"), which).fetchone()
    if found is None:
        others = [row["name"] for row in connection.execute(_query("relations_like"))]
        there = f" Tables with vectors: {', '.join(others)}." if others else ""
        raise AdoptionError(f"There is no table {str(table)!r} in that database.{there}")
    if not (found["reachable"] and found["readable"]):
        raise AdoptionError(
            f"The role {found['role']} may not read {table}. Grant it USAGE on the schema and"
            " SELECT on the table, or name the URL of a role that may, by --from-url-env."
        )
    rows = connection.execute(_query("columns"), {"oid": found["oid"]})
    columns = {row["name"]: row | {"kind": found["kind"]} for row in rows}
    _require_columns(table, columns)
    return columns


def _require_columns(table: ForeignTable, columns: Mapping[str, Mapping[str, Any]]) -> None:
    document = [table.document] if table.document else []
    only = [table.only[0]] if table.only else []
    for name in (table.text, table.vector, *(each.name for each in (*document, *only))):
        if name not in columns:
            raise AdoptionError(f"{table} has no column {name!r}. It has: {', '.join(columns)}.")
        if not columns[name]["readable"]:
            raise AdoptionError(f"The column {name!r} of {table} may not be read by this role.")
    if (kind := columns[table.vector]["type"]) not in VECTORS | ARRAYS:
        fitting = [name for name, each in columns.items() if each["type"] in VECTORS | ARRAYS]
        there = f" Vectors are in: {', '.join(fitting)}." if fitting else ""
        raise AdoptionError(f"{table.vector!r} of {table} is {kind}, no column of vectors.{there}")
    for each in (*document, *only):
        if each.path and columns[each.name]["type"] not in JSON:
            raise AdoptionError(
                f"{each.name!r} of {table} is no JSON, so that it has no {'.'.join(each.path)!r}."
            )


def _row(row: Mapping[str, Any]) -> ForeignRow:
    vector = None if row["vector"] is None else _numbers(row["vector"])
    return ForeignRow(row["id"], row["text"], vector, row["document"])


def _numbers(text: str) -> Vectors:
    """Of a vector or an array as PostgreSQL writes it; what is no number has no direction."""
    import numpy as np

    numbers = text[1:-1].replace("NULL", "nan")
    try:
        return np.array(numbers.split(",") if numbers else [], np.float32)
    except ValueError:  # an array of arrays
        return np.array([np.nan], np.float32)


# --- what is adopted -----------------------------------------------------------------------------


class PostgresAdopting:
    """Writes documents whole: their mark, their chunks and their vectors in one transaction."""

    def __init__(self, url: str) -> None:
        self._url = url

    def contents(self, generation: Generation) -> list[StoredContent]:
        with connect(self._url) as connection:
            rows = connection.execute(_query("contents"), _which(generation))
            return [StoredContent(**row) for row in rows]

    def texts(
        self, generation: Generation, content_hashes: Collection[bytes]
    ) -> dict[bytes, StoredText]:
        which = _which(generation) | {"content_hashes": list(content_hashes)}
        with connect(self._url) as connection:
            rows = connection.execute(_query("texts"), which)
            return {
                row["content_hash"]: StoredText(
                    row["content_hash"], row["parser"], parsed_document(row)
                )
                for row in rows
            }

    def adopted(
        self, generation: Generation, content_hashes: Collection[bytes]
    ) -> dict[bytes, dict[tuple[int, int], bool]]:
        """Of texts that are cut: where their passages are, and whether their vectors are there."""
        which = _which(generation) | {"content_hashes": list(content_hashes)}
        found: dict[bytes, dict[tuple[int, int], bool]] = {each: {} for each in content_hashes}
        with connect(self._url) as connection:
            for row in connection.execute(_query("adopted"), which):
                found[row["content_hash"]][row["start"], row["end"]] = row["embedded"]
        return found

    @contextmanager
    def finding(self) -> "Iterator[Finding]":
        """Keeps what is found on the disk of the server, for as long as the context lasts."""
        with connect(self._url) as connection:
            connection.execute(_query("make_found"))
            yield Finding(connection)

    def add_cost(self, generation: Generation, run: RunIdentity, spent: Spent, price: Any) -> None:
        """What the verification has cost, also where it ends in a refusal."""
        line = _which(generation) | {
            "run_id": run.run_id,
            "generation": 0,
            "stage": "adopt",
            "model": generation.recipe.embedder,
            "buckets": [NO_BUCKET],
            "requests": [spent.requests],
            "texts": [spent.texts],
            "tokens": [spent.tokens],
            "price": price,
        }
        with connect(self._url) as connection:
            connection.execute(queries.load("costs")["add_costs"], line)

    def begin(
        self,
        generation: Generation,
        run: RunIdentity,
        *,
        name: str,
        source: str,
        rows: int,
        left_out: Mapping[str, int],
        sampled: int,
        worst_cosine: float | None,
    ) -> None:
        told = _which(generation, run) | {
            "name": name,
            "source": source,
            "model": generation.recipe.embedder,
            "rows_read": rows,
            "left_out": json.dumps(left_out),
            "sampled": sampled,
            "worst_cosine": worst_cosine,
        }
        with connect(self._url) as connection:
            connection.execute(_query("begin"), told)

    def adopt(
        self,
        generation: Generation,
        chunks: ChunkSet | None,
        vectors: Mapping[bytes, Vectors],
        passages: int,
        run: RunIdentity,
    ) -> int | None:
        """Returns how many vectors were new; None where somebody has cut, or erased, the text.

        Without chunks, those that are there get their vectors.
        """
        which = _which(generation, run)
        hashes = sorted(vectors)
        with connect(self._url, vectors=True) as connection, connection.transaction():
            if chunks is not None and not write_chunk_sets(connection, [chunks], run):
                return None
            given = {"text_hashes": hashes, "vectors": [vectors[each] for each in hashes]}
            added = queries.load("embeddings")["add_embeddings"]
            new = connection.execute(added, which | given).rowcount
            connection.execute(_query("count"), which | {"passages": passages, "vectors": new})
        return new

    def finish(self, generation: Generation, run: RunIdentity, left_out: Mapping[str, int]) -> None:
        told = _which(generation, run) | {"left_out": json.dumps(left_out)}
        with connect(self._url) as connection:
            connection.execute(_query("finish"), told)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found so far."""

    connection: "Connection"

    def add(self, passages: Iterable[FoundPassage]) -> None:
        with self.connection.cursor() as cursor, cursor.copy(_query("copy_found")) as copy:
            copy.set_types(COPIED)
            for each in passages:
                place = each.row, each.content_hash, each.start, each.end
                copy.write_row((*place, each.vector.tobytes()))

    def rows_only_in(self, content_hashes: Collection[bytes]) -> int:
        """How many rows stand nowhere else."""
        from psycopg.sql import SQL, Identifier

        asked = SQL(_query("rows_only_in")).format(found=Identifier("found"))
        which = {"content_hashes": list(content_hashes)}
        row = self.connection.execute(asked, which).fetchone()
        return 0 if row is None else int(row["rows"])

    def by_content(self) -> Iterator[tuple[bytes, list[FoundPassage]]]:
        """Document by document, as a stream."""
        import numpy as np
        from psycopg.sql import SQL, Identifier

        asked = SQL(_query("found")).format(found=Identifier("found"))
        with self.connection.transaction(), self.connection.cursor(name="passages") as cursor:
            cursor.itersize = ROWS_AT_ONCE
            cursor.execute(asked)
            for content_hash, rows in groupby(cursor, key=lambda row: row["content_hash"]):
                yield (
                    content_hash,
                    [
                        FoundPassage(
                            row["row_number"],
                            content_hash,
                            row["start_char"],
                            row["end_char"],
                            np.frombuffer(row["vector"], np.float32),
                        )
                        for row in rows
                    ],
                )


def _which(generation: Generation, run: RunIdentity | None = None) -> dict[str, Any]:
    which: dict[str, Any] = {
        "corpus": generation.corpus,
        "parser": generation.recipe.parser,
        "chunker": generation.recipe.chunker,
        "embedder": generation.recipe.embedder,
    }
    if run is not None:
        which |= {"run_id": run.run_id, "code_version": run.code_version}
    return which


def _query(name: str) -> LiteralString:
    return queries.load("adopting")[name]
