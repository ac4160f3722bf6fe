"""Keeps what generations scored, question by question, and what was decided of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect
from rag_assets.model import (
    GateCase,
    ModelUse,
    QuestionScore,
    RunIdentity,
    ScoredPoint,
    Scores,
    Verdict,
)

MOST_POINTS = 500
"""How much of the past a plot can show."""
MOST_DECISIONS = 50


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate has said of a generation, for people."""

    generation: int
    rival: int | None
    accepted: bool
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    run_id: str
    decided_at: datetime


class PostgresEvaluations:
    """The store behind `eval_scores`: a score is of a generation, its content and a golden set."""

    def __init__(self, url: str) -> None:
        self._url = url

    def find(self, *, generation: int, golden_set: str, content: str) -> Scores | None:
        which = {"generation": generation, "golden_set": golden_set, "content": content}
        with connect(self._url) as connection:
            if connection.execute(_query("means"), which).fetchone() is None:
                return None
            rows = connection.execute(_query("results"), which)
            return Scores(generation, golden_set, tuple(QuestionScore(**row) for row in rows))

    def newest(self, generation: int) -> tuple[str, dict[str, float]]:
        """The last means of a generation, by metric, and on what; empty if it was never scored."""
        with connect(self._url) as connection:
            row = connection.execute(_query("newest"), {"generation": generation}).fetchone()
        return (row["golden_set"], dict(row["metrics"])) if row else ("", {})

    def of_golden_set(self, corpus: str, golden_set: str) -> list[Scores]:
        """The last scores of each generation on it, the oldest generation first."""
        which = {"corpus": corpus, "golden_set": golden_set}
        with connect(self._url) as connection:
            rows = connection.execute(_query("of_golden_set"), which).fetchall()
        return [
            Scores(number, golden_set, tuple(QuestionScore(**row["score"]) for row in found))
            for number, found in groupby(rows, key=itemgetter("generation"))
        ]

    def add_cost_of_questions(
        self, corpus: str, model: str, used: ModelUse, usd: Decimal | None, run: RunIdentity
    ) -> None:
        """What one request for a test question has cost."""
        line = {"run_id": run.run_id, "corpus": corpus, "model": model, "usd": usd}
        with connect(self._url) as connection:
            connection.execute(
                queries.load("costs")["add_cost_of_questions"],
                line | {"tokens": used.read + used.written},
            )

    def add(self, scores: Scores, *, content: str, run: RunIdentity) -> None:
        which = {
            "generation": scores.generation,
            "golden_set": scores.golden_set,
            "content": content,
            "run_id": run.run_id,
        }
        rows = [
            which
            | {"question_id": question.question_id, "search_ms": question.search_ms}
            | {"metrics": _json(dict(question.metrics))}
            for question in scores.questions
        ]
        with connect(self._url) as connection, connection.transaction():
            means = connection.execute(
                _query("add_means"), which | {"metrics": _json(scores.means)}
            )
            if means.fetchone() is not None:
                connection.cursor().executemany(_query("add_result"), rows)

    def baseline(
        self, *, generation: int, golden_set: str, how: str, published_at: datetime
    ) -> tuple[Scores, datetime] | None:
        """What it scored when readers began to see it, and when that was measured."""
        which = {"generation": generation, "golden_set": golden_set, "how": how}
        with connect(self._url) as connection:
            found = connection.execute(
                _query("baseline"), which | {"published_at": published_at}
            ).fetchone()
        if found is None:
            return None
        scores = self.find(generation=generation, golden_set=golden_set, content=found["content"])
        return (scores, found["scored_at"]) if scores else None

    def line(self, corpus: str) -> list[ScoredPoint]:
        """What readers were served scored over time, the oldest first."""
        with connect(self._url) as connection:
            rows = connection.execute(_query("line"), {"corpus": corpus, "limit": MOST_POINTS})
            return [ScoredPoint(**row) for row in rows][::-1]

    def verdict(self, case: GateCase) -> Verdict | None:
        """What was said of this very case, but for its differences: the scores have those."""
        with connect(self._url) as connection:
            row = connection.execute(_query("verdict"), asdict(case)).fetchone()
        if row is None:
            return None
        return Verdict(
            row["accepted"],
            tuple(row["reasons"]),
            warnings=tuple(row["warnings"]),
            evidence=row["evidence"],
        )

    def add_verdict(self, case: GateCase, verdict: Verdict, run: RunIdentity) -> None:
        differences = {
            each.metric: {
                "before": each.before,
                "after": each.after,
                "low": each.low,
                "high": each.high,
                "detectable": each.detectable,
                "better": len(each.better),
                "worse": len(each.worse),
                "questions": each.questions,
            }
            for each in verdict.differences
        }
        said = {
            "accepted": verdict.accepted,
            "reasons": list(verdict.reasons),
            "warnings": list(verdict.warnings),
            "differences": _json(differences),
            "evidence": _json(verdict.evidence),
            "run_id": run.run_id,
        }
        with connect(self._url) as connection:
            connection.execute(_query("add_verdict"), asdict(case) | said)

    def decisions(self, corpus: str) -> list[Decision]:
        """What the gate has said of the generations of a corpus, the newest first."""
        with connect(self._url) as connection:
            rows = connection.execute(
                _query("decisions"), {"corpus": corpus, "limit": MOST_DECISIONS}
            )
            return [
                Decision(
                    **row | {"reasons": tuple(row["reasons"]), "warnings": tuple(row["warnings"])}
                )
                for row in rows
            ]


def _json(value: Mapping[str, object]) -> Any:
    from psycopg.types.json import Jsonb

    return Jsonb(dict(value))


def _query(name: str) -> LiteralString:
    return queries.load("evaluations")[name]
