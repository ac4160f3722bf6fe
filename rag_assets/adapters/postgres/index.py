"""Merges what was observed into what is served: one bucket of one generation, one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect, only_row
from rag_assets.errors import DatabaseError
from rag_assets.model import Generation, RunIdentity

if TYPE_CHECKING:
    import psycopg
    from psycopg.rows import DictRow

    from rag_assets.adapters.postgres.connections import Connection


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did to a bucket, and what the bucket holds now."""

    documents: int
    chunks: int
    added: int = 0
    replaced: int = 0
    removed: int = 0
    described: int = 0
    waiting: int = 0

    @property
    def changed(self) -> int:
        return self.added + self.replaced + self.removed + self.described


@dataclass(frozen=True, slots=True)
class _Changes:
    """Documents of a bucket that are not served as they were observed, by what is to be done."""

    add: Sequence[str]
    replace: Sequence[str]
    remove: Sequence[str]
    describe: Sequence[str]
    waiting: int

    def __bool__(self) -> bool:
        return bool(self.add or self.replace or self.remove or self.describe)


class PostgresIndex:
    """The store behind `vector_index`."""

    def __init__(self, url: str) -> None:
        self._url = url

    def merge(
        self, generation: Generation, buckets: Sequence[int], run: RunIdentity
    ) -> dict[int, Merged]:
        """Brings each bucket to what is observed now, each in a transaction of its own."""
        from psycopg import errors

        with connect(self._url, vectors=True) as connection:
            try:
                return {
                    bucket: _Merge(connection, generation, bucket, run).run() for bucket in buckets
                }
            except errors.UndefinedTable as error:
                raise DatabaseError(
                    f"Generation {generation.number} of {generation.corpus!r} was ended by another"
                    " run while it was merged. Run again: it works on those that live."
                ) from error

    def mismatches(self, generation: Generation) -> list[dict[str, int]]:
        """Buckets whose rows are not what their manifest says."""
        with connect(self._url) as connection:
            query = _composed("verify_manifest", generation)
            return [
                dict(row) for row in connection.execute(query, {"generation": generation.number})
            ]


class _Merge:
    def __init__(
        self, connection: "Connection", generation: Generation, bucket: int, run: RunIdentity
    ) -> None:
        self._connection = connection
        self._generation = generation
        self._which: dict[str, Any] = {
            "generation": generation.number,
            "corpus": generation.corpus,
            "bucket": bucket,
            "parser": generation.recipe.parser,
            "chunker": generation.recipe.chunker,
            "embedder": generation.recipe.embedder,
            "run_id": run.run_id,
        }

    def run(self) -> Merged:
        """Writes nothing where nothing differs.

        The lock comes before the snapshot: what the transaction sees is what the last merge left,
        and one state of the documents from its first statement to its last.
        """
        from psycopg import IsolationLevel

        if not (changes := self._changes()):
            return self._untouched(changes)
        self._run("lock_bucket")
        self._connection.isolation_level = IsolationLevel.REPEATABLE_READ
        with self._connection.transaction():
            merged = self._apply()
        self._connection.isolation_level = None
        self._run("unlock_bucket")
        return merged

    def _changes(self) -> _Changes:
        found: dict[str, list[str]] = {"add": [], "replace": [], "remove": [], "describe": []}
        waiting = 0
        for row in self._run("changes"):
            if row["ready"]:
                found[row["change"]].append(row["doc_id"])
            else:
                waiting += 1
        return _Changes(**found, waiting=waiting)

    def _untouched(self, changes: _Changes) -> Merged:
        manifest = self._run("manifest").fetchone() or {"documents": 0, "chunks": 0}
        return Merged(manifest["documents"], manifest["chunks"], waiting=changes.waiting)

    def _apply(self) -> Merged:
        self._run("lock_corpus")
        self._run("open_manifest")
        manifest = only_row(self._run("manifest"))
        changes = self._changes()
        gone = self._leave([*changes.replace, *changes.remove, *changes.describe], changes)
        come = self._enter([*changes.add, *changes.replace, *changes.describe], changes)
        after = _balance(manifest, gone=gone, come=come)
        self._run("write_manifest", **after)
        return Merged(
            documents=after["documents"],
            chunks=after["chunks"],
            added=len(changes.add),
            replaced=len(changes.replace),
            removed=len(changes.remove),
            described=len(changes.describe),
            waiting=changes.waiting,
        )

    def _leave(self, doc_ids: Sequence[str], changes: _Changes) -> list[dict[str, Any]]:
        rows = [*changes.replace, *changes.remove]
        self._run("delete_postings", doc_ids=rows)
        self._run("delete_rows", doc_ids=rows)
        return self._expected(self._run("delete_documents", doc_ids=list(doc_ids)), len(doc_ids))

    def _enter(self, doc_ids: Sequence[str], changes: _Changes) -> list[dict[str, Any]]:
        rows = [*changes.add, *changes.replace]
        self._run("insert_postings", doc_ids=rows)
        inserted = self._run("insert_rows", doc_ids=rows).rowcount
        self._run("describe_rows", doc_ids=list(changes.describe))
        come = self._expected(self._run("insert_documents", doc_ids=list(doc_ids)), len(doc_ids))
        described = set(changes.describe)
        if sum(row["chunks"] for row in come if row["doc_id"] not in described) != inserted:
            raise DatabaseError(self._lost_count())
        return come

    def _expected(self, cursor: "psycopg.Cursor[DictRow]", number: int) -> list[dict[str, Any]]:
        rows = cursor.fetchall()
        if len(rows) != number:
            raise DatabaseError(self._lost_count())
        return rows

    def _lost_count(self) -> str:
        return (
            f"The merge of bucket {self._which['bucket']} of generation {self._generation.number}"
            " did not find the rows it counted on, and was undone. Run it again."
        )

    def _run(self, name: str, **parameters: object) -> "psycopg.Cursor[DictRow]":
        return self._connection.execute(_composed(name, self._generation), self._which | parameters)


def _balance(
    manifest: dict[str, Any], *, gone: list[dict[str, Any]], come: list[dict[str, Any]]
) -> dict[str, int]:
    """The manifest after the merge, kept by differences: the checksum is an exclusive or."""
    checksum = manifest["checksum"]
    for row in (*gone, *come):
        checksum ^= row["checksum"]
    return {
        "documents": manifest["documents"] - len(gone) + len(come),
        "chunks": manifest["chunks"] + _total("chunks", come) - _total("chunks", gone),
        "words": manifest["words"] + _total("words", come) - _total("words", gone),
        "checksum": checksum,
    }


def _total(name: str, rows: list[dict[str, Any]]) -> int:
    return sum(int(row[name]) for row in rows)


def _composed(name: str, generation: Generation) -> Any:
    from psycopg import sql

    text: LiteralString = queries.load("index")[name]
    return sql.SQL(text).format(
        index=sql.Identifier(f"index_{generation.number}"),
        postings=sql.Identifier(f"postings_{generation.number}"),
    )
