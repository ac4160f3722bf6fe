"""What of a corpus waits to be served, and how its pipeline stands, in numbers."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import asdict
from decimal import Decimal
from typing import LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect, only_row
from rag_assets.model import Backlog, Cause, PipelineMetrics, Recorded, RunIdentity, Wait


class PostgresWaiting:
    """Costs what waits, not what is there."""

    def __init__(self, url: str) -> None:
        self._url = url

    def backlog(self, corpus: str) -> Backlog:
        """Every cause for which a change waits, with the change that has waited longest."""
        with connect(self._url) as connection:
            found = connection.execute(_query("published"), {"corpus": corpus}).fetchone()
            rows = connection.execute(_query("backlog"), {"corpus": corpus})
            waits = [Wait(**row | {"cause": Cause(row["cause"])}) for row in rows]
            in_order = tuple(sorted(waits, key=lambda wait: [*Cause].index(wait.cause)))
            if found:
                return Backlog(found["generation"], in_order)
            idle = connection.execute(_query("idle"), {"corpus": corpus}).fetchone()
        return Backlog(None, in_order, idle["idle_s"] if idle else None)

    def recorded(self, corpus: str, doc_ids: Collection[str] | None = None) -> Recorded:
        """What a listing is held against: of all documents, or of some."""
        which = {"corpus": corpus, "doc_ids": None if doc_ids is None else list(doc_ids)}
        hashes, present = defaultdict[str, set[bytes]](set), set[str]()
        with connect(self._url) as connection:
            for row in connection.execute(_query("recorded"), which):
                hashes[row["doc_id"]].add(row["source_hash"])
                if row["present"]:
                    present.add(row["doc_id"])
            withheld = [row["doc_id"] for row in connection.execute(_query("withheld"), which)]
            erased = [row["doc_hash"] for row in connection.execute(_query("erased"), which)]
        return Recorded(
            {doc_id: frozenset(found) for doc_id, found in hashes.items()},
            frozenset(present),
            frozenset(withheld),
            frozenset(erased),
        )

    def measure(self, corpus: str, backlog: Backlog) -> PipelineMetrics:
        """How a corpus stands now; all zero while nothing is published."""
        with connect(self._url) as connection:
            found = only_row(connection.execute(_query("measure"), {"corpus": corpus}))
        return PipelineMetrics(waiting=backlog.changes, oldest_waiting_s=backlog.oldest_s, **found)

    def keep(self, corpus: str, metrics: PipelineMetrics, run: RunIdentity) -> int:
        """Adds a measurement; returns how many there are."""
        which = {"corpus": corpus, "run_id": run.run_id}
        with connect(self._url) as connection:
            connection.execute(_query("add_metrics"), asdict(metrics) | which)
            counted = only_row(connection.execute(_query("count_metrics"), which))
        return int(counted["measurements"])

    def cost_of(self, corpus: str, run: RunIdentity) -> tuple[int, Decimal | None]:
        """Tokens and dollars of one run; None where no price is known."""
        which = {"corpus": corpus, "run_id": run.run_id}
        with connect(self._url) as connection:
            row = only_row(connection.execute(_query("cost_of_run"), which))
        return int(row["tokens"]), row["usd"]


def _query(name: str) -> LiteralString:
    return queries.load("waiting")[name]
