"""Keeps what generations scored, question by question."""

from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any, LiteralString

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect
from rag_assets.model import ModelUse, QuestionScore, RunIdentity, Scores


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


def _json(value: dict[str, float]) -> Any:
    from psycopg.types.json import Jsonb

    return Jsonb(value)


def _query(name: str) -> LiteralString:
    return queries.load("evaluations")[name]
