"""Merges what was observed into what is served: one bucket of one generation, one transaction."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect, only_row
from rag_assets.errors import DatabaseError
from rag_assets.model import (
    Comparison,
    Description,
    DocumentState,
    Generation,
    MergePlan,
    RunIdentity,
)
from rag_assets.ports import MergePlanning

if TYPE_CHECKING:
    import psycopg
    from psycopg.rows import DictRow

    from rag_assets.adapters.postgres.connections import Connection

DOCUMENTS_AT_ONCE = 1000
"""Compared and written together: what bounds the memory of a merge."""
MOST_BUCKETS = 100
NAMED = 50
"""How many documents of a change are named."""


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
    kept: int = 0
    """Served as they were before their new content turned out to be poison."""
    healed: int = 0
    """Of those written: because their rows were lost or damaged, not because they changed."""
    doc_ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)
    """The first of those added, replaced, removed and described."""

    @property
    def changed(self) -> int:
        return self.added + self.replaced + self.removed + self.described


@dataclass(frozen=True, slots=True)
class _Manifest:
    """What must be in a bucket, and up to which version of its documents."""

    documents: int
    chunks: int
    words: int
    checksum: int
    version: int

    def without(self, rows: Sequence[Mapping[str, Any]]) -> "_Manifest":
        return self._moved(rows, -1)

    def with_(self, rows: Sequence[Mapping[str, Any]]) -> "_Manifest":
        return self._moved(rows, 1)

    def differing(self, rows: Sequence[Mapping[str, Any]]) -> "_Manifest":
        """Rows that give the exclusive or of their checksums before and after."""
        return replace(self, checksum=_exclusive_or(self.checksum, rows))

    def _moved(self, rows: Sequence[Mapping[str, Any]], sign: int) -> "_Manifest":
        return _Manifest(
            documents=self.documents + sign * len(rows),
            chunks=self.chunks + sign * _total("chunks", rows),
            words=self.words + sign * _total("words", rows),
            checksum=_exclusive_or(self.checksum, rows),
            version=self.version,
        )


@dataclass(frozen=True, slots=True)
class _Standing:
    """A bucket before a merge: what its manifest says, what is there, what has been written."""

    bucket: int
    version: int
    manifest: _Manifest
    documents_found: int
    chunks_found: int
    doubtful: bool

    @property
    def damaged(self) -> bool:
        there = (self.documents_found, self.chunks_found)
        ahead = self.manifest.version > self.version
        return ahead or there != (self.manifest.documents, self.manifest.chunks)

    @property
    def settled(self) -> bool:
        return self.version == self.manifest.version and not self.damaged and not self.doubtful


class PostgresIndex:
    """The store behind `vector_index`."""

    def __init__(self, url: str, *, plan: MergePlanning) -> None:
        self._url = url
        self._plan = plan

    def merge(
        self,
        generation: Generation,
        buckets: Sequence[int],
        run: RunIdentity,
        *,
        keep_last_good: bool = False,
    ) -> dict[int, Merged]:
        """Brings each bucket to what is observed now, each in a transaction of its own.

        It looks only at what was written since the last merge, unless the bucket does not hold as
        many rows as its manifest says: then at everything, and what is damaged is written again.
        """
        with self._merging(generation, run, keep_last_good=keep_last_good) as merging:
            return {
                standing.bucket: merging.unchanged(standing)
                if standing.settled
                else merging.merge(standing.bucket, counted=standing.damaged)
                for standing in merging.standing(buckets)
            }

    def rewrite(
        self,
        generation: Generation,
        doc_ids: Mapping[int, Sequence[str]],
        run: RunIdentity,
        *,
        keep_last_good: bool = False,
    ) -> int:
        """Compares all of these buckets, and writes these documents again whatever they look like.

        From what is stored: those whose chunks or vectors are missing keep what they have.
        Returns how many it wrote.
        """
        with self._merging(generation, run, keep_last_good=keep_last_good) as merging:
            return sum(
                merging.merge(bucket, damaged=damaged).healed for bucket, damaged in doc_ids.items()
            )

    def mismatches(self, generation: Generation) -> list[dict[str, int]]:
        """Buckets whose rows are not as many as their manifest says."""
        nobody = RunIdentity("", "")
        with self._merging(generation, nobody, keep_last_good=True) as merging:
            return [
                {
                    "bucket": each.bucket,
                    "documents": each.manifest.documents,
                    "documents_found": each.documents_found,
                    "chunks": each.manifest.chunks,
                    "chunks_found": each.chunks_found,
                }
                for each in merging.standing(range(MOST_BUCKETS))
                if each.damaged
            ]

    @contextmanager
    def _merging(
        self, generation: Generation, run: RunIdentity, *, keep_last_good: bool
    ) -> Iterator["_Merging"]:
        from psycopg import IsolationLevel, errors

        with connect(self._url) as connection:
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            try:
                yield _Merging(
                    connection, generation, run, self._plan, keep_last_good=keep_last_good
                )
            except errors.UndefinedTable as error:
                raise DatabaseError(
                    f"Generation {generation.number} of {generation.corpus!r} was ended by another"
                    " run while it was merged. Run again: it works on those that live."
                ) from error


class _Merging:
    """One generation on one connection."""

    def __init__(
        self,
        connection: "Connection",
        generation: Generation,
        run: RunIdentity,
        plan: MergePlanning,
        *,
        keep_last_good: bool = False,
    ) -> None:
        self._connection = connection
        self._generation = generation
        self._plan = plan
        self._keep_last_good = keep_last_good
        self._which: dict[str, Any] = {
            "generation": generation.number,
            "corpus": generation.corpus,
            "parser": generation.recipe.parser,
            "chunker": generation.recipe.chunker,
            "embedder": generation.recipe.embedder,
            "run_id": run.run_id,
            "code_version": run.code_version,
            "keep_last_good": keep_last_good,
        }

    def standing(self, buckets: Sequence[int], *, counted: bool = True) -> list[_Standing]:
        """Counting is what costs more in a larger bucket; uncounted, the manifest is believed."""
        rows = self.execute("standing", buckets=list(buckets), counted=counted)
        return [
            _Standing(
                bucket=row["bucket"],
                version=row["version"],
                manifest=_manifest(row, version=row["merged"]),
                documents_found=row["documents_found"],
                chunks_found=row["chunks_found"],
                doubtful=row["doubtful"],
            )
            for row in rows
        ]

    def unchanged(self, standing: _Standing) -> Merged:
        return Merged(standing.manifest.documents, standing.manifest.chunks)

    def merge(
        self, bucket: int, *, counted: bool = False, damaged: Sequence[str] | None = None
    ) -> Merged:
        """Writes nothing where nothing differs; documents said to be damaged are written again.

        The lock comes before the snapshot: what the transaction sees is what the last merge left,
        and one state of the documents from its first statement to its last. (When it fails, the
        lock goes with the connection.)
        """
        self.execute("lock_bucket", bucket=bucket)
        with self._connection.transaction():
            self.execute("open_tables")
            [standing] = self.standing([bucket], counted=counted)
            if standing.settled and damaged is None:
                merged = self.unchanged(standing)
            else:
                merged = _BucketMerge(self, standing, damaged).run()
        self.execute("unlock_bucket", bucket=bucket)
        return merged

    def compared(self, doc_ids: Sequence[str]) -> Iterator[Comparison]:
        for row in self.execute("compare", doc_ids=doc_ids):
            yield Comparison(
                doc_id=row["doc_id"],
                state=DocumentState(row["state"]) if row["state"] else None,
                version=row["version"],
                observed=_description(*(row[name] for name in _OBSERVED)),
                served=_description(*(row[name] for name in _SERVED)),
                ready=row["ready"],
                restorable=row["restorable"],
                intact=row["intact"],
                poison=row["poison"],
                quarantined=row["quarantined"],
            )

    def plan(self, compared: Sequence[Comparison], *, merged: int) -> MergePlan:
        return self._plan(compared, keep_last_good=self._keep_last_good, merged=merged)

    def lost_count(self, bucket: int) -> DatabaseError:
        return DatabaseError(
            f"The merge of bucket {bucket} of generation {self._generation.number} did not find"
            " the rows it counted on, and was undone. Run it again."
        )

    def execute(self, name: str, **parameters: object) -> "psycopg.Cursor[DictRow]":
        query = queries.of_generation(queries.load("index")[name], self._generation.number)
        return self._connection.execute(query, self._which | parameters)


class _BucketMerge:
    """The statements of one merge, in a transaction of the caller's."""

    def __init__(
        self, merging: _Merging, standing: _Standing, damaged: Sequence[str] | None
    ) -> None:
        self._merging = merging
        self._before = standing
        self._manifest = standing.manifest
        self._whole = standing.damaged or damaged is not None
        self._damaged = frozenset(damaged or ())
        self._locked = False
        self._counts = dict.fromkeys(
            ("added", "replaced", "removed", "described", "waiting", "kept", "healed"), 0
        )
        self._doc_ids: dict[str, tuple[str, ...]] = {}

    def run(self) -> Merged:
        waiting: list[int] = []
        for doc_ids in self._batches():
            compared = [self._doubted(each) for each in self._merging.compared(doc_ids)]
            plan = self._merging.plan(compared, merged=self._before.manifest.version)
            if plan:
                self._apply(plan)
            self._count(plan)
            if plan.waiting_since is not None:
                waiting.append(plan.waiting_since)
        # Those that wait are looked at again; so is whatever came after the first of them.
        version = min([self._before.version, *(since - 1 for since in waiting)])
        self._keep(replace(self._manifest, version=version))
        return Merged(
            self._manifest.documents, self._manifest.chunks, **self._counts, doc_ids=self._doc_ids
        )

    def _batches(self) -> Iterator[list[str]]:
        bucket, merged = self._before.bucket, self._before.manifest.version
        if self._whole:
            rows = self._run("everything", bucket=bucket).fetchall()
        else:
            rows = self._run("changed", bucket=bucket, merged=merged).fetchall()
        doc_ids = sorted({*(row["doc_id"] for row in rows), *self._damaged})
        for start in range(0, len(doc_ids), DOCUMENTS_AT_ONCE):
            yield doc_ids[start : start + DOCUMENTS_AT_ONCE]

    def _doubted(self, each: Comparison) -> Comparison:
        return replace(each, intact=False) if each.doc_id in self._damaged else each

    def _apply(self, plan: MergePlan) -> None:
        self._lock()
        self._leave(plan)
        self._enter(plan)
        self._describe(plan)

    def _lock(self) -> None:
        """Only a merge that writes holds up whoever moves or removes the corpus."""
        if not self._locked:
            self._run("lock_corpus")
            self._locked = True

    def _leave(self, plan: MergePlan) -> None:
        rows = [*plan.replace, *plan.remove, *plan.restore]
        if rows:
            self._run("delete_postings", doc_ids=rows)
            self._run("delete_rows", doc_ids=rows)
        if gone := [*plan.replace, *plan.remove]:
            found = self._run("delete_documents", doc_ids=gone).fetchall()
            self._manifest = self._manifest.without(found)

    def _enter(self, plan: MergePlan) -> None:
        come = [*plan.add, *plan.replace]
        if not come and not plan.restore:
            return
        which = {"doc_ids": come, "restored": list(plan.restore)}
        self._run("insert_postings", **which)
        restored = set(plan.restore)
        inserted = sum(row["doc_id"] not in restored for row in self._run("insert_rows", **which))
        found = self._expected(self._run("insert_documents", doc_ids=come), len(come))
        if _total("chunks", found) != inserted:
            raise self._merging.lost_count(self._before.bucket)
        self._manifest = self._manifest.with_(found)

    def _describe(self, plan: MergePlan) -> None:
        if plan.describe:
            doc_ids = list(plan.describe)
            self._run("describe_rows", doc_ids=doc_ids)
            found = self._expected(self._run("describe_documents", doc_ids=doc_ids), len(doc_ids))
            self._manifest = self._manifest.differing(found)

    def _count(self, plan: MergePlan) -> None:
        done = {
            "added": len(plan.add),
            "replaced": len(plan.replace) + len(plan.restore),
            "removed": len(plan.remove),
            "described": len(plan.describe),
            "waiting": len(plan.waiting),
            "kept": len(plan.kept),
            "healed": plan.healed,
        }
        for name, number in done.items():
            self._counts[name] += number
        self._name("added", plan.add)
        self._name("replaced", [*plan.replace, *plan.restore])
        self._name("removed", plan.remove)
        self._name("described", plan.describe)

    def _name(self, change: str, doc_ids: Sequence[str]) -> None:
        before = self._doc_ids.get(change, ())
        if doc_ids and len(before) < NAMED:
            self._doc_ids[change] = (*before, *doc_ids)[:NAMED]

    def _keep(self, manifest: _Manifest) -> None:
        """A manifest that was wrong, or whose bucket was, is counted anew."""
        if self._whole:
            row = only_row(self._run("recount", bucket=self._before.bucket))
            manifest = _manifest(row, version=manifest.version)
        if manifest != self._before.manifest:
            self._lock()
            values = {each.name: getattr(manifest, each.name) for each in fields(manifest)}
            self._run("write_manifest", bucket=self._before.bucket, **values)
        self._manifest = manifest

    def _expected(self, cursor: "psycopg.Cursor[DictRow]", number: int) -> list[dict[str, Any]]:
        rows = cursor.fetchall()
        if len(rows) != number:
            raise self._merging.lost_count(self._before.bucket)
        return rows

    def _run(self, name: str, **parameters: object) -> "psycopg.Cursor[DictRow]":
        return self._merging.execute(name, **parameters)


_OBSERVED = ("content_hash", "uri", "title", "acl")
_SERVED = ("served_content", "served_uri", "served_title", "served_acl")


def _description(
    content_hash: bytes | None, uri: str, title: str, acl: Sequence[str]
) -> Description | None:
    return None if content_hash is None else Description(content_hash, uri, title, tuple(acl))


def _manifest(row: Mapping[str, Any], *, version: int) -> _Manifest:
    """Sums come out of the database as decimals."""
    counted = {name: int(row[name]) for name in ("documents", "chunks", "words", "checksum")}
    return _Manifest(**counted, version=version)


def _exclusive_or(checksum: int, rows: Sequence[Mapping[str, Any]]) -> int:
    for row in rows:
        checksum ^= row["checksum"]
    return checksum


def _total(name: str, rows: Sequence[Mapping[str, Any]]) -> int:
    return sum(int(row[name]) for row in rows)
