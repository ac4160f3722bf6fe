"""How the sources stand that are watched, and what waits to be looked at in them."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect
from rag_assets.model import AutomationSettings, Awaited, SourceStanding

if TYPE_CHECKING:
    from psycopg.rows import DictRow

_USUAL = AutomationSettings()
STANDING = ("listed_at", "objects", "failing_since", "failed_at", "error")


class PostgresSources:
    def __init__(self, url: str) -> None:
        self._url = url

    def awaited(self, corpus: str, automation: AutomationSettings = _USUAL) -> Awaited:
        """What fails in part is due as the automation is to try again what has failed."""
        which: dict[str, object] = {"corpus": corpus, "attempts": automation.attempts}
        which |= {"retry_after_s": automation.retry_after_s}
        with connect(self._url) as connection:
            rows = connection.execute(_query("awaited"), which).fetchall()
        if not rows:
            return Awaited()
        return Awaited(
            created_at=rows[0]["created_at"],
            looked=dict(rows[0]["looked"] or ()),
            hints={row["bucket"]: row["hint"] for row in rows if row["hint"] is not None},
            due=_latest(rows),
            standing=SourceStanding(*(rows[0][each] for each in STANDING)),
        )

    def listed(self, corpus: str, objects: int | None) -> None:
        """The source was listed to its end; None: it tells of its changes, and was heard.

        Nothing is kept of a corpus that was never materialized.
        """
        self._tell("listed", corpus, objects=objects)

    def failed(self, corpus: str, error: str) -> None:
        """The source cannot be listed, or does not tell of its changes."""
        self._tell("failed", corpus, error=error)

    def standing(self, corpus: str) -> SourceStanding | None:
        """None where nobody has watched the source yet."""
        with connect(self._url) as connection:
            row = connection.execute(_query("standing"), {"corpus": corpus}).fetchone()
        return None if row is None else SourceStanding(**row)

    def _tell(self, query: str, corpus: str, **what: object) -> None:
        with connect(self._url) as connection:
            connection.execute(_query(query), {"corpus": corpus, **what})


def _latest(rows: "Sequence[DictRow]") -> dict[int, datetime]:
    due: dict[int, datetime] = {}
    for row in rows:
        if row["due"] is not None:
            due[row["bucket"]] = max(row["due"], due.get(row["bucket"], row["due"]))
    return due


def _query(name: str) -> LiteralString:
    return queries.load("sources")[name]
