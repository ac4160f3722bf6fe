"""What may pass in a moment is tried again within the run; what a person must mend is not."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pytest

from rag_assets.assets.shape import RETRIES, corpus_asset
from rag_assets.components.corpus import PLATFORM
from rag_assets.errors import (
    DatabaseError,
    NotMigratedError,
    ProviderBusyError,
    RagAssetsError,
    SourceError,
    StaleRunError,
)
from rag_assets.model import Corpus
from rag_assets.resources import MAX_USD_TAG, Platform, budget_of
from rag_assets.settings import DatabaseUrls


@pytest.fixture(autouse=True)
def environment(database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAG_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAG_ASSETS_DATABASE_URL", database.owner)
    monkeypatch.setenv("RAG_ASSETS_WRITER_URL", database.writer)
    monkeypatch.setenv("RAG_ASSETS_READER_URL", database.reader)


class Step:
    """An asset that meets these errors, one at each attempt, and then succeeds."""

    def __init__(self, corpus: Corpus, errors: list[RagAssetsError]) -> None:
        self.attempts = 0
        self._corpus = corpus
        self._errors: Iterator[RagAssetsError] = iter(errors)

    def run(self) -> dg.ExecuteInProcessResult:
        @corpus_asset(
            self._corpus,
            after=(),
            kinds={"python"},
            code_version="1",
            columns=(),
            in_buckets=False,
            table="documents",
        )
        def step(
            context: dg.AssetExecutionContext, platform: Platform
        ) -> dg.MaterializeResult[None]:
            self.attempts += 1
            for error in self._errors:
                raise error
            return dg.MaterializeResult()

        return dg.materialize([step], resources={"platform": PLATFORM}, raise_on_error=False)


def test_a_limit_is_that_of_the_run_and_not_of_each_attempt(corpus: Corpus) -> None:
    attempts: list[Decimal] = []

    @corpus_asset(
        corpus,
        after=(),
        kinds={"python"},
        code_version="1",
        columns=(),
        in_buckets=False,
        table="documents",
    )
    def step(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[None]:
        budget = platform.spending(corpus, context.run).budget
        assert budget is not None
        attempts.append(budget.spent)
        with budget.reserved(Decimal(2)) as settle:
            settle(None)
        raise DatabaseError("It restarts.")

    result = dg.materialize(
        [step],
        resources={"platform": PLATFORM},
        raise_on_error=False,
        tags={MAX_USD_TAG: "3"},
    )

    assert not result.success
    assert attempts == [0, 2]
    budget = budget_of(result.run_id)
    assert budget is not None
    assert budget.spent == budget.unanswered == 2


@pytest.mark.parametrize("error", [DatabaseError("It restarts."), StaleRunError("Run again.")])
def test_a_database_that_is_away_for_a_moment_fails_no_run(
    corpus: Corpus, error: RagAssetsError
) -> None:
    step = Step(corpus, [error])

    assert step.run().success
    assert step.attempts == 2


def test_one_that_stays_away_fails_the_run_in_its_own_words(corpus: Corpus) -> None:
    step = Step(corpus, [DatabaseError("It is not up.")] * 10)

    result = step.run()

    assert not result.success
    assert step.attempts == 1 + RETRIES
    [failure] = [event for event in result.all_events if event.is_step_failure]
    told = failure.step_failure_data.user_failure_data
    assert told is not None
    assert told.description == "It is not up."


@pytest.mark.parametrize(
    "error",
    [
        NotMigratedError("Run migrate."),
        SourceError("The folder is gone."),
        ProviderBusyError("It was asked ten times."),
    ],
)
def test_what_does_not_pass_in_a_moment_is_left_to_the_repair(
    corpus: Corpus, error: RagAssetsError
) -> None:
    step = Step(corpus, [error])

    assert not step.run().success
    assert step.attempts == 1
