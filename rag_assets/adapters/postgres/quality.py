"""Judges documents where they are stored, and keeps the verdicts on them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect
from rag_assets.model import (
    Finding,
    Judging,
    KnownVerdict,
    QualityStage,
    QualityTally,
    QualityVerdict,
    RunIdentity,
    VerdictChanges,
)
from rag_assets.ports import VerdictPlanning

if TYPE_CHECKING:
    from rag_assets.adapters.postgres.connections import Connection

ALL = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Behind:
    """A bucket whose documents have been judged up to a version, and written beyond it."""

    bucket: int
    judged: int


class PostgresQuality:
    """The store of what documents break."""

    def __init__(self, url: str, *, compare: VerdictPlanning) -> None:
        self._url = url
        self._compare = compare

    def judge(
        self, corpus: str, judgings: Sequence[Judging], buckets: Sequence[int], run: RunIdentity
    ) -> int:
        """Judges what was written since it was last judged; returns how many verdicts changed.

        What a document waits for is judged when it is there. There is no fence: a verdict speaks
        of one content, and merges look again at the documents that it concerns.
        """
        with connect(self._url) as connection:
            return _Bench(connection, corpus, run, self._compare).judge(judgings, buckets)

    def keep_out(
        self, corpus: str, judging: Judging, found: Sequence[Finding], run: RunIdentity
    ) -> int:
        """Quarantines what expectations have found; returns how many verdicts changed.

        What is kept out is in no index that could be judged again: its verdict holds until the
        document changes, or nobody expects it any more.
        """
        with connect(self._url) as connection:
            return _Bench(connection, corpus, run, self._compare).keep_out(judging, found)

    def verdicts(
        self,
        corpus: str,
        *,
        stage: QualityStage | None = None,
        quarantined: bool = False,
        limit: int = ALL,
    ) -> list[QualityVerdict]:
        """What documents break with the content that they have now."""
        which = {"corpus": corpus, "stage": stage, "quarantined": quarantined, "limit": limit}
        with connect(self._url) as connection:
            rows = connection.execute(_query("verdicts"), which)
            return [QualityVerdict(**row | {"stage": QualityStage(row["stage"])}) for row in rows]

    def tally(self, corpus: str, stage: QualityStage | None = None) -> QualityTally:
        """The same in numbers."""
        with connect(self._url) as connection:
            which = {"corpus": corpus, "stage": stage}
            rows = connection.execute(_query("tally"), which).fetchall()
        rules = {row["rule"]: row["documents"] for row in rows if row["rule"] is not None}
        total = next(row for row in rows if row["rule"] is None)
        return QualityTally(
            rules, total["quarantined"], total["released"], total["unreleased"], total["since"]
        )

    def release(self, corpus: str, doc_id: str, run: RunIdentity) -> list[str]:
        """Lets a document's present content through; returns the rules that it broke."""
        which = {"corpus": corpus, "doc_id": doc_id, **asdict(run)}
        with connect(self._url) as connection, connection.transaction():
            _lock(connection, corpus, [doc_id])
            rules = [row["rule"] for row in connection.execute(_query("release"), which)]
            if rules:
                _touch(connection, corpus, [doc_id])
                _hint(connection, corpus, [doc_id])
        return sorted(rules)


class _Bench:
    """One judgement of one corpus, on one connection."""

    def __init__(
        self, connection: "Connection", corpus: str, run: RunIdentity, compare: VerdictPlanning
    ) -> None:
        self._connection = connection
        self._corpus = corpus
        self._run = run
        self._compare = compare
        self._seen: dict[int, int] = {}
        """Bucket to the version up to which its documents are there to be judged."""
        self._merged: Sequence[int] = ()
        """Buckets that this very run brings to readers."""

    def judge(self, judgings: Sequence[Judging], buckets: Sequence[int]) -> int:
        """In the order of the stages: what one keeps out is not waited for by the next."""
        behind, self._merged = self._behind(judgings, buckets), buckets
        if behind:
            self._connection.execute(_query("by_key"))
        return sum(
            self._judge(judging, behind[number])
            for number, judging in enumerate(judgings, start=1)
            if number in behind
        )

    def keep_out(self, judging: Judging, found: Sequence[Finding]) -> int:
        which = self._which(judging)
        with self._snapshot():
            known = _known(self._connection.execute(_query("known_unexpected"), which).fetchall())
        hold = [
            Finding(each.doc_id, each.content_hash, each.rule, "{}")
            for each in known
            if each.current and each.rule in judging.quarantine
        ]
        return self._write(judging, which, [*hold, *found], known)

    def _behind(
        self, judgings: Sequence[Judging], buckets: Sequence[int]
    ) -> dict[int, list[_Behind]]:
        """The number of a judging, from 1, to what it has to judge."""
        which = {
            "corpus": self._corpus,
            "buckets": list(buckets),
            "stages": [str(each.stage) for each in judgings],
            "subjects": [each.subject for each in judgings],
            "rules": [each.rules for each in judgings],
        }
        behind: dict[int, list[_Behind]] = defaultdict(list)
        for row in self._connection.execute(_query("behind"), which):
            behind[row["number"]].append(_Behind(row["bucket"], row["judged"]))
            self._seen[row["bucket"]] = row["version"]
        return behind

    def _judge(self, judging: Judging, behind: Sequence[_Behind]) -> int:
        changed = 0
        if judging.stage is QualityStage.DOCUMENTS:
            changed += self._judge_copies(judging, behind)
        return changed + sum(self._judge_bucket(judging, each) for each in behind)

    def _judge_copies(self, judging: Judging, behind: Sequence[_Behind]) -> int:
        """All copies of a content are judged together, whatever bucket they are in."""
        which = self._which(judging) | {
            "behind": [each.bucket for each in behind],
            "versions": [each.judged for each in behind],
        }
        with self._snapshot():
            found = _findings(self._connection.execute(_query("judge_copies"), which).fetchall())
            known = _known(self._connection.execute(_query("known_copies"), which).fetchall())
        return self._write(judging, which, found, known)

    def _judge_bucket(self, judging: Judging, behind: _Behind) -> int:
        which = self._which(judging) | {"bucket": behind.bucket, "judged": behind.judged}
        with self._snapshot():
            rows = self._connection.execute(_query(_JUDGES[judging.stage]), which).fetchall()
            known = _known(self._connection.execute(_query("known"), which).fetchall())
        waiting = [row["version"] for row in rows if row["rule"] is None]
        found = _findings([row for row in rows if row["rule"] is not None])
        changed = self._write(judging, which, found, known)
        now = self._seen[behind.bucket]
        version = min([now, *(since - 1 for since in waiting)])
        self._connection.execute(_query("advance"), which | {"version": version, "seen": now})
        return changed

    def _write(
        self,
        judging: Judging,
        which: Mapping[str, Any],
        found: Sequence[Finding],
        known: Sequence[KnownVerdict],
    ) -> int:
        """Where this is all that was written meanwhile, its buckets count as seen afterwards."""
        changes = self._compare(found, known, quarantine=judging.quarantine)
        if not changes:
            return 0
        with self._connection.transaction():
            _lock(self._connection, self._corpus, changes.touched)
            done = self._change(changes, which, judging.quarantine)
            concerned = [doc_id for doc_id in changes.touched if doc_id in done]
            raised = _touch(self._connection, self._corpus, concerned)
            _hint(self._connection, self._corpus, concerned, merged=self._merged)
        for bucket, version in raised.items():
            if self._seen.get(bucket) == version - 1:
                self._seen[bucket] = version
        return len(changes.put) + len(changes.void)

    def _change(
        self, changes: VerdictChanges, which: Mapping[str, Any], quarantine: Sequence[str]
    ) -> set[str]:
        """Returns the documents of which something was written."""
        void = {
            "doc_id": [each.doc_id for each in changes.void],
            "rule": [each.rule for each in changes.void],
            "content_hash": [each.content_hash for each in changes.void],
        }
        put = {
            "doc_id": [each.doc_id for each in changes.put],
            "rule": [each.rule for each in changes.put],
            "content_hash": [each.content_hash for each in changes.put],
            "quarantined": [each.rule in quarantine for each in changes.put],
            "figures": [each.figures for each in changes.put],
        }
        rows = self._connection.execute(_query("void"), {**which, **void}).fetchall()
        rows += self._connection.execute(_query("put"), {**which, **put}).fetchall()
        return {row["doc_id"] for row in rows}

    def _which(self, judging: Judging) -> dict[str, Any]:
        return {
            "overlapping": 0,
            **judging.limits,
            "corpus": self._corpus,
            "stage": str(judging.stage),
            "subject": judging.subject,
            "rules": judging.rules,
            "run_id": self._run.run_id,
        }

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """What is found, and what was known then."""
        from psycopg import IsolationLevel

        self._connection.isolation_level = IsolationLevel.REPEATABLE_READ
        with self._connection.transaction():
            yield
        self._connection.isolation_level = None


_JUDGES = {
    QualityStage.DOCUMENTS: "judge_documents",
    QualityStage.CHUNKS: "judge_chunks",
    QualityStage.EMBEDDINGS: "judge_embeddings",
}


def _lock(connection: "Connection", corpus: str, doc_ids: Sequence[str]) -> None:
    """The corpus first, then its buckets in order, as every transaction that writes them does."""
    which = {"corpus": corpus, "doc_ids": list(doc_ids)}
    connection.execute(queries.load("documents")["share_corpus"], which)
    connection.execute(queries.load("documents")["buckets_of_documents"], which)


def _touch(connection: "Connection", corpus: str, doc_ids: Sequence[str]) -> dict[int, int]:
    """Makes every merge look at these documents again; returns the versions of their buckets."""
    if not doc_ids:
        return {}
    which = {"corpus": corpus, "doc_ids": list(doc_ids)}
    for name in ("touch_buckets", "touch_documents"):
        connection.execute(queries.load("documents")[name], which)
    connection.execute(_query("follow"), which)
    return {row["bucket"]: row["version"] for row in connection.execute(_query("versions"), which)}


def _hint(
    connection: "Connection", corpus: str, doc_ids: Sequence[str], *, merged: Sequence[int] = ()
) -> None:
    """Has whoever watches the source ask for a run over these documents, for none is under way."""
    if doc_ids:
        which = {"corpus": corpus, "doc_ids": list(doc_ids), "merged": list(merged)}
        connection.execute(_query("hint"), which)


def _findings(rows: Sequence[Mapping[str, Any]]) -> list[Finding]:
    return [
        Finding(row["doc_id"], row["content_hash"], row["rule"], row["figures"]) for row in rows
    ]


def _known(rows: Sequence[Mapping[str, Any]]) -> list[KnownVerdict]:
    return [KnownVerdict(**row) for row in rows]


def _query(name: str) -> LiteralString:
    return queries.load("quality")[name]
