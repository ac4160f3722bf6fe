"""Recomputes everything that is stored of a corpus, and puts right what is damaged."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.chunks import pieces
from rag_assets.adapters.postgres.connections import connect
from rag_assets.adapters.postgres.corpora import PostgresCorpora, no_such_corpus
from rag_assets.adapters.postgres.generations import living
from rag_assets.adapters.postgres.index import PostgresIndex
from rag_assets.errors import DatabaseError
from rag_assets.model import Damage, Generation, Repair, RunIdentity, bucket_of

if TYPE_CHECKING:
    import psycopg
    from psycopg.rows import DictRow

    from rag_assets.adapters.postgres.connections import Connection

IDS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class _Check:
    """A query that gives damaged subjects, and what to say and do about them."""

    query: str
    kind: str
    what: str
    repair: Repair


TEXT = "text"
CHUNKS = "chunks"
EMBEDDING = "embedding"
DOCUMENT = "document"
BUCKET = "bucket"
VERSION = "version"
COUNTER = "counter"
MANIFEST = "manifest"

_OBSERVED = (
    _Check(
        "counters", COUNTER, "its documents were changed more often than it says", Repair.REBUILD
    ),
    _Check("versions", VERSION, "its history does not end with what it is now", Repair.REBUILD),
)
_STORED = (
    _Check("texts", TEXT, "is not the text that was written", Repair.READ_AGAIN),
    _Check("missing_texts", TEXT, "is missing", Repair.READ_AGAIN),
    _Check(
        "chunks",
        CHUNKS,
        "a chunk is missing, does not stand where it says, is not what its hash says, or a word of"
        " the text is in none",
        Repair.CUT_AGAIN,
    ),
)
_DERIVED = (
    _Check("missing_chunks", CHUNKS, "are missing though they are served", Repair.CUT_AGAIN),
    _Check(
        "embeddings",
        EMBEDDING,
        "is not the vector that was written, or has another length or no direction",
        Repair.EMBED_AGAIN,
    ),
    _Check("missing_embeddings", EMBEDDING, "is missing though served", Repair.EMBED_AGAIN),
)
_SERVED = (
    _Check("served", DOCUMENT, "is not served as it was observed", Repair.REBUILD),
    _Check("orphans", DOCUMENT, "has rows or words though it is not served", Repair.REBUILD),
    _Check("manifests", MANIFEST, "is not the sum of what is served", Repair.REBUILD),
)
_IN_BUCKET = (
    _Check("rows", DOCUMENT, "its rows are not its chunks with their vectors", Repair.REBUILD),
    _Check("postings", DOCUMENT, "its words are not those of its chunks", Repair.REBUILD),
)


class PostgresVerifying:
    """Reads with the writer's rights; repairs through the index's own merge."""

    def __init__(self, url: str, *, index: PostgresIndex) -> None:
        self._url = url
        self._index = index

    def verify(self, corpus: str) -> list[Damage]:
        """All that is not as it should be, in one snapshot: runs may go on meanwhile."""
        from psycopg import IsolationLevel, errors

        with connect(self._url) as connection:
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            try:
                with connection.transaction():
                    return list(_Verification(connection, corpus).damages())
            except errors.UndefinedTable as error:
                raise DatabaseError(
                    f"A generation of {corpus!r} was ended by another run while it was verified."
                    " Run again: those that live are verified."
                ) from error

    def repair(self, corpus: str, damages: Sequence[Damage], run: RunIdentity) -> dict[Repair, int]:
        """Puts right what can be made from what is stored; the rest is left to the next run.

        That run reads, cuts or embeds only what was damaged; until then the rows that are there
        keep serving. Returns how many subjects each way of repair was given.
        """
        with connect(self._url) as connection:
            registered = connection.execute(_query("corpus"), {"corpus": corpus}).fetchone()
            if registered is None:
                raise no_such_corpus(connection, corpus)
            generations = {each.number: each for each in living(connection, corpus)}
            repairing = _Repairing(connection, corpus, registered["scope"], run)
            repairing.stored(damages, generations)
            repairing.observed(damages)
        if any(damage.kind == BUCKET for damage in damages):
            PostgresCorpora(self._url).rebucket(corpus, registered["buckets"], run_id=run.run_id)
        for number, doc_ids in _to_rewrite(damages, registered["buckets"]).items():
            if number in generations:
                # What may stay although it cannot be processed is for the next run to say.
                self._index.rewrite(generations[number], doc_ids, run, keep_last_good=True)
        done: dict[Repair, int] = defaultdict(int)
        for damage in damages:
            done[damage.repair] += len(damage.subjects)
        return dict(done)


class _Verification:
    """All checks of one corpus, in a transaction of the caller's."""

    def __init__(self, connection: "Connection", corpus: str) -> None:
        self._connection = connection
        self._which: dict[str, Any] = {"corpus": corpus}
        registered = connection.execute(_query("corpus"), self._which).fetchone()
        if registered is None:
            raise no_such_corpus(connection, corpus)
        self._buckets = int(registered["buckets"])
        self._which |= {"scope": registered["scope"], "damaged": list[str]()}
        self._generations = living(connection, corpus)
        for generation in self._generations:
            connection.execute(queries.of_generation(_query("open_tables"), generation.number))

    def damages(self) -> Iterator[Damage]:
        yield from self._misplaced()
        for check in _OBSERVED:
            yield from self._found(check)
        damaged: list[str] = []
        for check in _STORED:
            for damage in self._found(check, damaged=list(damaged)):
                damaged += damage.subjects
                yield damage
        for generation in self._generations:
            yield from self._of_generation(generation, damaged)

    def _misplaced(self) -> Iterator[Damage]:
        rows = pieces(
            self._connection, _query("buckets_of_documents"), self._which, at_once=IDS_AT_ONCE
        )
        wrong = {
            row["doc_id"]
            for piece in rows
            for row in piece
            if row["bucket"] != bucket_of(row["doc_id"], self._buckets)
        }
        if wrong:
            yield Damage(BUCKET, "is in another than its id says", tuple(wrong), Repair.REBUILD)

    def _of_generation(self, generation: Generation, damaged: Sequence[str]) -> Iterator[Damage]:
        recipe = generation.recipe
        which = {
            "generation": generation.number,
            "parser": recipe.parser,
            "chunker": recipe.chunker,
            "embedder": recipe.embedder,
            "dimensions": recipe.dimensions,
            "damaged": list(damaged),
        }
        for check in (*_DERIVED, *_SERVED):
            yield from self._found(check, **which)
        for bucket in range(self._buckets):
            for check in _IN_BUCKET:
                yield from self._found(check, **which, bucket=bucket)

    def _found(self, check: _Check, **which: Any) -> Iterator[Damage]:
        generation = which.get("generation")
        statement = queries.of_generation(_query(check.query), generation)
        rows = self._connection.execute(statement, self._which | which)
        if subjects := tuple(row["subject"] for row in rows):
            yield Damage(
                check.kind, check.what, subjects, check.repair, generation, which.get("bucket")
            )


@dataclass(frozen=True, slots=True)
class _Repairing:
    """What cannot be rebuilt is taken away, so that the next run makes it again."""

    connection: "Connection"
    corpus: str
    scope: str
    run: RunIdentity

    def stored(self, damages: Sequence[Damage], generations: Mapping[int, Generation]) -> None:
        for damage in damages:
            match damage.repair:
                case Repair.READ_AGAIN:
                    texts = _hashes(damage)
                    self._again(texts, "delete_texts", "forget_sources")
                case Repair.CUT_AGAIN:
                    self._again(_hashes(damage), "delete_chunk_sets")
                case Repair.EMBED_AGAIN:
                    if generation := generations.get(damage.generation or 0):
                        self._embed_again(_hashes(damage), generation.recipe.embedder)

    def _embed_again(self, hashes: Sequence[bytes], embedder: str) -> None:
        rows = self._execute("contents_of_texts", hashes=hashes).fetchall()
        contents = [row["content_hash"] for row in rows]
        self._again(contents, "delete_embeddings", hashes=hashes, embedder=embedder)

    def observed(self, damages: Sequence[Damage]) -> None:
        for damage in damages:
            if damage.kind == VERSION:
                with self.connection.transaction():
                    self._execute("end_versions", doc_ids=list(damage.subjects))
                    self._execute("begin_versions", doc_ids=list(damage.subjects))
            elif damage.kind == COUNTER:
                self._execute("raise_counters")

    def _again(self, contents: Sequence[bytes], *names: str, **which: object) -> None:
        """Their documents wait, and runs that began before are refused.

        Whoever watches the source is told, for nothing has changed there that would ask for a run.
        Buckets are locked first, as records do, then the tables, as erasures and removals do.
        """
        with self.connection.transaction():
            self._execute("lock_buckets", contents=list(contents))
            self.connection.execute(queries.load("corpora")["lock_texts"])
            for name in ("raise_fences", "touch_documents", "hint_documents", *names):
                self._execute(name, contents=list(contents), **which)

    def _execute(self, name: str, **which: object) -> "psycopg.Cursor[DictRow]":
        who = {"run_id": self.run.run_id, "code_version": self.run.code_version}
        where = {"corpus": self.corpus, "scope": self.scope}
        return self.connection.execute(_query(name), {**where, **who, **which})


def _hashes(damage: Damage) -> list[bytes]:
    return [bytes.fromhex(subject) for subject in damage.subjects]


def _to_rewrite(damages: Sequence[Damage], buckets: int) -> dict[int, dict[int, list[str]]]:
    """Generation to bucket to the documents whose rows are to be written again."""
    found: dict[int, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for damage in damages:
        if damage.generation is None or damage.repair is not Repair.REBUILD:
            continue
        for subject in damage.subjects:
            if damage.kind == MANIFEST:
                found[damage.generation][int(subject)] += []
            else:
                found[damage.generation][bucket_of(subject, buckets)].append(subject)
    return found


def _query(name: str) -> LiteralString:
    return queries.load("verifying")[name]
