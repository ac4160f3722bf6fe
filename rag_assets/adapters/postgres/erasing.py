"""Takes a document out of everything that this database holds of it, and keeps it out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect
from rag_assets.adapters.postgres.corpora import no_such_corpus
from rag_assets.adapters.postgres.generations import living
from rag_assets.errors import DatabaseError
from rag_assets.model import Generation, Receipt, RunIdentity, bucket_of

if TYPE_CHECKING:
    import psycopg
    from psycopg.rows import DictRow

    from rag_assets.adapters.postgres.connections import Connection

BACKUPS = (
    "Backups made before still hold it; restoring one brings it back, unless it is erased again."
)
PROVIDERS = "Providers of models may have logged the texts they were sent."
GOLDEN_SETS = "Golden sets are files of yours, and may quote it."
EVENTS = "Dagster's event log and the data docs of earlier runs may name the id."
JOURNALS = (
    "The server's write-ahead log and its replicas hold what was deleted until they are recycled."
)
SOURCE = "Its source still has it, for all that is known here; the id is only ignored."
UNREACHED = (SOURCE, BACKUPS, GOLDEN_SETS, PROVIDERS, EVENTS, JOURNALS)
UNCLEANED = (
    "Deleted rows stay in the files of {tables} until these tables are vacuumed:"
    " their owner can run VACUUM, autovacuum will in time."
)


class PostgresErasing:
    """Erases with the writer's rights; only the tables' owner may clean their files."""

    def __init__(self, url: str, *, owner_url: str) -> None:
        self._url = url
        self._owner_url = owner_url

    def erase(self, corpus: str, doc_id: str, run: RunIdentity) -> Receipt:
        """All of a document, in one transaction, however many versions and generations it was in.

        Runs in flight cannot bring it back: who looked at the source before is refused, merges
        are waited for, chunks and vectors find nothing to be added to. The id stays blocked, also
        where nothing was found. What other documents share with it stays.
        """
        with connect(self._url) as connection:
            with connection.transaction():
                erasure = _Erasure(connection, corpus, doc_id, run)
                erasure.run()
            proof, remaining = erasure.proof()
        return Receipt(
            corpus=corpus,
            doc_id=doc_id,
            erased=erasure.erased,
            duplicates=erasure.duplicates,
            proof=proof,
            remaining=remaining,
            unreached=(*UNREACHED, *self._clean(erasure.erased)),
        )

    def corpora_with(self, doc_id: str) -> list[str]:
        """Whose document it is or was, also where it could never be read."""
        with connect(self._url) as connection:
            rows = connection.execute(_query("corpora_with"), {"doc_id": doc_id})
            return [row["corpus"] for row in rows]

    def unblock(self, corpus: str, doc_id: str) -> bool:
        """Lets the next listing bring an erased document back; False if it was not blocked."""
        with connect(self._url) as connection:
            which = {"corpus": corpus, "doc_id": doc_id}
            return connection.execute(_query("unblock"), which).rowcount > 0

    def _clean(self, erased: dict[str, int]) -> list[str]:
        """Vacuums what was touched; says what it may not."""
        touched = sorted(table for table, rows in erased.items() if rows)
        try:
            cleaned = _vacuumed(self._owner_url, touched)
        except DatabaseError:  # erased it is all the same
            cleaned = set()
        left = [table for table in touched if table not in cleaned]
        return [UNCLEANED.format(tables=", ".join(left))] if left else []


@dataclass(slots=True)
class _Erasure:
    """One document, in a transaction of the caller's.

    The order of the locks is that of the runs it waits for: merges take their bucket of a
    generation first, records the fence of theirs, and only then any table.
    """

    connection: "Connection"
    corpus: str
    doc_id: str
    who: RunIdentity
    erased: dict[str, int] = field(default_factory=dict)
    duplicates: tuple[tuple[str, str], ...] = ()
    _generations: list[Generation] = field(default_factory=list)
    _which: dict[str, Any] = field(default_factory=dict)

    def run(self) -> None:
        self._which = {"corpus": self.corpus, "doc_id": self.doc_id, "run_id": self.who.run_id}
        version = self._fence()
        self._run("block")
        self._which["contents"] = self._hashes("contents", "content_hash")
        for generation in self._generations:
            self._served(generation, version)
        if version is not None:
            self._run("follow_judged", version=version)
        self.connection.execute(queries.load("corpora")["lock_texts"])
        self._observed()
        self._stored()

    def proof(self) -> tuple[str, int]:
        """Statements that anyone can run, and the sum of what they give."""
        from psycopg import ClientCursor

        cursor = ClientCursor(self.connection)
        statements = [cursor.mogrify(_query("proof"), self._which)]
        for generation in self._generations:
            which = self._which | {"generation": generation.number}
            statements.append(
                cursor.mogrify(
                    queries.of_generation(_query("proof_of_generation"), generation.number), which
                )
            )
        found = [self.connection.execute(each.encode()).fetchone() for each in statements]
        return "\n\n".join(statements), sum(int(row["remaining"]) for row in found if row)

    def _fence(self) -> int | None:
        """Nobody writes this bucket any more who does not know that the id is blocked."""
        self.connection.execute(
            queries.load("generations")["one_at_a_time"], {"corpus": self.corpus}
        )
        registered = self._run("corpus").fetchone()
        if registered is None:
            raise no_such_corpus(self.connection, self.corpus)
        bucket = bucket_of(self.doc_id, registered["buckets"])
        self._which |= {"scope": registered["scope"], "bucket": bucket}
        self._generations = living(self.connection, self.corpus)
        for generation in self._generations:
            self._run("hold_merges", generation=generation.number)
        if self._run("recorded").fetchone() is None:
            self._run("hold_first_run")
        raised = self._run("raise_fence").fetchone()
        return raised["version"] if raised else None

    def _served(self, generation: Generation, version: int | None) -> None:
        number = generation.number
        for name, table in (("erase_postings", "postings"), ("erase_rows", "index")):
            deleted = self.connection.execute(
                queries.of_generation(_query(name), number), self._which
            )
            self.erased[f"{table}_{number}"] = deleted.rowcount
        self._count("indexed_documents", self._run("erase_served", generation=number).rowcount)
        if version is not None:
            self._run("follow_fence", generation=number, version=version)

    def _observed(self) -> None:
        self._count("documents", self._run("erase_document").rowcount)
        self._count("document_versions", self._run("erase_versions").rowcount)
        self._count("dead_letters", self._run("erase_letters").rowcount)
        self._count("verdicts", self._run("erase_verdicts").rowcount)
        self._count("hints", self._run("erase_hints").rowcount)
        self._count("withheld_deletions", self._run("erase_withheld").rowcount)
        self._count("feedback", self._run("erase_feedback").rowcount)
        self._count("evaluation_results", self._run("erase_scores").rowcount)
        self._count("gate_verdicts", self._run("erase_gate_verdicts").rowcount)
        rows = self._run("duplicates")
        self.duplicates = tuple((row["corpus"], row["doc_id"]) for row in rows)

    def _stored(self) -> None:
        """Texts, chunks and vectors that nothing else uses."""
        unused = self._hashes("unused_texts", "content_hash")
        self._which |= {
            "unused": unused,
            "text_hashes": self._hashes("embedded_texts", "text_hash"),
        }
        self._count("chunks", self._run("erase_chunks").rowcount)
        self._count("chunk_sets", self._run("erase_chunk_sets").rowcount)
        self._count("document_texts", self._run("erase_texts").rowcount)
        rows = self._run("erase_embeddings").fetchall()
        self._which["vectors"] = [row["text_hash"] for row in rows]
        self._count("embeddings", len(rows))

    def _count(self, table: str, rows: int) -> None:
        self.erased[table] = self.erased.get(table, 0) + rows

    def _hashes(self, name: str, column: str) -> list[bytes]:
        rows = self.connection.execute(_query(name), self._which)
        return list(dict.fromkeys(row[column] for row in rows))

    def _run(self, name: str, **parameters: object) -> "psycopg.Cursor[DictRow]":
        return self.connection.execute(_query(name), self._which | parameters)


def _vacuumed(owner_url: str, tables: Sequence[str]) -> set[str]:
    from psycopg import sql

    with connect(owner_url) as connection:
        rows = connection.execute(_query("own_tables"), {"tables": list(tables)})
        own = [row["relname"] for row in rows]
        for table in own:
            statement = sql.SQL(_query("vacuum")).format(table=sql.Identifier(table))
            connection.execute(statement)
    return set(own)


def _query(name: str) -> LiteralString:
    return queries.load("erasing")[name]
