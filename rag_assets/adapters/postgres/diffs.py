"""What two living generations serve, held against each other in the database."""

from typing import TYPE_CHECKING, Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect, only_row
from rag_assets.model import ChunksOfDocument, Generation, GenerationDiff

if TYPE_CHECKING:
    from rag_assets.adapters.postgres.connections import Connection


class PostgresDiffs:
    """Its memory is that of the names that are asked for, however large the generations are."""

    def __init__(self, url: str) -> None:
        self._url = url

    def between(self, before: Generation, after: Generation, *, named: int) -> GenerationDiff:
        """Counts of everything, and the first names of each."""
        which = {"before": before.number, "after": after.number}
        with connect(self._url) as connection, connection.transaction():
            connection.execute(_query("one_moment"))
            documents = only_row(connection.execute(_query("documents"), which))
            return GenerationDiff(
                documents_before=documents["before"],
                documents_after=documents["after"],
                documents_added=documents["added"],
                documents_removed=documents["removed"],
                documents_changed=documents["changed"],
                added=_of_one(connection, after, before, named),
                removed=_of_one(connection, before, after, named),
                **_chunks(connection, before, after, named),
            )

    def missing(
        self, candidate: Generation, rival: Generation, *, named: int
    ) -> tuple[int, list[str]]:
        """Documents that readers would miss in the candidate: how many, and the first of them."""
        which = {
            "corpus": candidate.corpus,
            "candidate": candidate.number,
            "rival": rival.number,
            "limit": named,
        }
        with connect(self._url) as connection:
            rows = connection.execute(_query("missing"), which).fetchall()
        return (rows[0]["total"] if rows else 0), [row["doc_id"] for row in rows]


def _of_one(
    connection: "Connection", generation: Generation, other: Generation, named: int
) -> tuple[str, ...]:
    which = {"generation": generation.number, "other": other.number, "limit": named}
    rows = connection.execute(_query("documents_of_one"), which)
    return tuple(row["doc_id"] for row in rows)


def _chunks(
    connection: "Connection", before: Generation, after: Generation, named: int
) -> dict[str, Any]:
    from psycopg import sql

    query = sql.SQL(_query("chunks")).format(
        index=sql.Identifier(f"index_{before.number}"),
        other=sql.Identifier(f"index_{after.number}"),
    )
    rows = connection.execute(query, {"limit": named}).fetchall()
    first = rows[0] if rows else dict.fromkeys(_TOTALS, 0)
    return {
        "chunks_before": int(first["total_before"]),
        "chunks_after": int(first["total_after"]),
        "chunks_kept": int(first["total_kept"]),
        "documents_cut_differently": first["documents"],
        "chunks": tuple(
            ChunksOfDocument(row["doc_id"], row["before"], row["after"], row["kept"])
            for row in rows
            if max(row["before"], row["after"]) > row["kept"]
        ),
    }


_TOTALS = ("total_before", "total_after", "total_kept", "documents")


def _query(name: str) -> LiteralString:
    return queries.load("diffs")[name]
