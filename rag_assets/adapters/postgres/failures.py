"""Keeps what each stage of a bucket has failed with since it last succeeded."""

from collections.abc import Collection, Sequence
from typing import Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect
from rag_assets.model import RunIdentity, StageFailure


class PostgresFailures:
    def __init__(self, url: str) -> None:
        self._url = url

    def record(
        self,
        corpus: str,
        stage: str,
        buckets: Sequence[int],
        *,
        error: str,
        reason: str,
        run: RunIdentity,
        generation: int = 0,
    ) -> None:
        """Counts the attempts, and keeps since when; `reason` is shown to people as it is.

        Of the stage as a whole, or of one generation alone.
        """
        which = {"corpus": corpus, "stage": stage, "generation": generation}
        which |= {"buckets": list(buckets)}
        said = {"error": error, "reason": reason, "run_id": run.run_id}
        with connect(self._url) as connection:
            connection.execute(_query("record"), which | said)

    def clear(
        self, corpus: str, stage: str, buckets: Sequence[int], *, but_for: Collection[int] = ()
    ) -> int:
        """The stage has succeeded, but for some generations; returns how much is forgotten."""
        which: dict[str, Any] = {"corpus": corpus, "stage": stage, "buckets": list(buckets)}
        which |= {"but_for": list(but_for)}
        with connect(self._url) as connection:
            return connection.execute(_query("clear"), which).rowcount

    def open(self, corpus: str | None = None) -> list[StageFailure]:
        """All that has not succeeded since, of one corpus or of all, the longest first."""
        with connect(self._url) as connection:
            rows = connection.execute(_query("open"), {"corpus": corpus})
            return [StageFailure(**row) for row in rows]


def _query(name: str) -> LiteralString:
    return queries.load("failures")[name]
