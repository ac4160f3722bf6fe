"""Runs the chain of a corpus in this process, for the command line: the same job as in the UI."""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import psutil

from rag_assets.adapters.home_folder import HomeFolder
from rag_assets.components.corpus import PLATFORM, corpus_definitions
from rag_assets.errors import ServerError
from rag_assets.model import Corpus, bucket_key
from rag_assets.resources import MAX_USD_TAG, RECIPE_TAG, WAIT_TAG, budget_of

PROCESS = "rag_assets/process"
"""The tag of a run that names the process which does it."""
BEGUN = (
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
INTERRUPTION = "DagsterExecutionInterruptedError"


@dataclass(frozen=True, slots=True)
class AssetDone:
    """One asset of a run: how long it took, what it holds and what the run did."""

    asset: str
    seconds: float
    rows: int
    did: dict[str, int]


@dataclass(frozen=True, slots=True)
class CheckDone:
    asset: str
    check: str
    passed: bool
    description: str
    blocking: bool
    warning: bool = False
    """Its failure is to be looked at, and is no failure of the run."""


@dataclass(slots=True)
class RunReport:
    """What a run did, for people and for scripts."""

    run_id: str = ""
    assets: list[AssetDone] = field(default_factory=list)
    checks: list[CheckDone] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)
    """Mean scores of the newest generation on the golden set."""
    generated_questions: bool = False
    """There is no golden set: they are on questions made from the documents."""
    failure: str | None = None
    interrupted: bool = False
    run_ids: list[str] = field(default_factory=list)
    """Of all runs, where one was followed by another."""
    waits: list[str] = field(default_factory=list)
    """Why some generations were left as they are, though the run went on."""
    spent_usd: float = 0.0
    """What counts against the limit of the run, if it has one."""
    unanswered_usd: float = 0.0
    """What of that is for requests that were never answered: no ledger has it."""

    @property
    def failed_checks(self) -> list[CheckDone]:
        """Those that make the run a failure, though it went on to its end."""
        return [check for check in self.checks if not check.passed and not check.warning]

    def followed_by(self, later: "RunReport") -> "RunReport":
        """Both as one: what the later run found out about an asset or a check stands."""
        again = {(check.asset, check.check) for check in later.checks}
        return RunReport(
            run_id=later.run_id,
            assets=[*self.assets, *later.assets],
            checks=[
                *(each for each in self.checks if (each.asset, each.check) not in again),
                *later.checks,
            ],
            scores=later.scores or self.scores,
            generated_questions=later.generated_questions or self.generated_questions,
            failure=later.failure,
            interrupted=later.interrupted,
            run_ids=[*self.run_ids, *later.run_ids],
            waits=[*self.waits, *later.waits],
            spent_usd=self.spent_usd + later.spent_usd,
            unanswered_usd=self.unanswered_usd + later.unanswered_usd,
        )

    @property
    def did_nothing(self) -> bool:
        """Whether every asset found everything as it should be."""
        quiet = {"unchanged", "waiting", "withheld", "blocked", "held_by_another_run"}
        return not any(
            number for done in self.assets for name, number in done.did.items() if name not in quiet
        )


def materialize(
    corpus: Corpus,
    *,
    instance: dg.DagsterInstance,
    buckets: Sequence[int],
    on_start: Callable[[str], None] = lambda _: None,
    on_asset: Callable[[AssetDone], None] = lambda _: None,
    max_usd: Decimal | None = None,
) -> RunReport:
    """One run over a range of buckets, recorded in the instance.

    After one over all of them, another where an index is to be built beside the one that is read;
    it may spend what the first has left over.
    """
    _end_killed_runs(instance)
    how: dict[str, Any] = {"instance": instance, "on_start": on_start, "on_asset": on_asset}
    report = _run(corpus, corpus.name, buckets, **how, tags=_limit(max_usd))
    if report.failure or len(buckets) < corpus.buckets:
        return report
    builder = PLATFORM.builder(corpus)
    builder.set_aside()
    if not builder.wanted(by_hand=True) and not builder.has_failed():
        return report
    left = None if max_usd is None else max_usd - Decimal(str(report.spent_usd))
    tags = {RECIPE_TAG: builder.recipe.fingerprint, **_limit(left)}
    return report.followed_by(_run(corpus, f"{corpus.name}_candidate", buckets, **how, tags=tags))


def _run(
    corpus: Corpus,
    job: str,
    buckets: Sequence[int],
    *,
    instance: dg.DagsterInstance,
    on_start: Callable[[str], None],
    on_asset: Callable[[AssetDone], None],
    tags: Mapping[str, str] | None = None,
) -> RunReport:
    follower = _Follower(corpus, on_start, on_asset)
    watched = dg.Definitions.merge(
        corpus_definitions(corpus), dg.Definitions(loggers={"follower": follower.definition()})
    )
    result = watched.resolve_job_def(job).execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config={"loggers": {"follower": {}}},
        tags={
            "dagster/asset_partition_range_start": bucket_key(min(buckets), corpus.buckets),
            "dagster/asset_partition_range_end": bucket_key(max(buckets), corpus.buckets),
            PROCESS: _name_of(psutil.Process()),
            WAIT_TAG: "true",
            **(tags or {}),
        },
    )
    follower.report.run_id = result.run_id
    follower.report.run_ids.append(result.run_id)
    if (budget := budget_of(result.run_id)) is not None:
        follower.report.spent_usd = float(budget.spent)
        follower.report.unanswered_usd = float(budget.unanswered)
    return follower.report


def _limit(max_usd: Decimal | None) -> dict[str, str]:
    return {} if max_usd is None else {MAX_USD_TAG: f"{max(max_usd, Decimal()):f}"}


class _Follower(logging.Handler):
    """Sees every event of a run as it happens: Dagster logs its events to the loggers of a job."""

    def __init__(
        self,
        corpus: Corpus,
        on_start: Callable[[str], None],
        on_asset: Callable[[AssetDone], None],
    ) -> None:
        super().__init__(logging.DEBUG)
        self.report = RunReport()
        self._prefix = f"{corpus.name}__"
        self._on_start = on_start
        self._on_asset = on_asset
        self._rows: dict[str, int] = {}
        self._did: dict[str, dict[str, int]] = {}

    def definition(self) -> dg.LoggerDefinition:
        @dg.logger
        def follower(_: dg.InitLoggerContext) -> logging.Logger:
            logger = logging.Logger("rag_assets.run", logging.DEBUG)
            logger.addHandler(self)
            return logger

        return follower

    def emit(self, record: logging.LogRecord) -> None:
        event: Any = getattr(record, "dagster_meta", {}).get("dagster_event")
        match event.event_type_value if event else None:
            case "STEP_START":
                self._on_start(event.step_key.removeprefix(self._prefix))
            case "ASSET_MATERIALIZATION":
                self._materialized(event.materialization)
            case "ASSET_CHECK_EVALUATION":
                self._checked(event.asset_check_evaluation_data)
            case "STEP_SUCCESS":
                self._ended(event.step_key, event.step_success_data.duration_ms / 1000)
            case "STEP_FAILURE":
                self._failed(event.step_failure_data)
            case "RUN_FAILURE" | "PIPELINE_FAILURE" if self.report.failure is None:
                self.report.failure = event.message

    def _materialized(self, materialization: dg.AssetMaterialization) -> None:
        """In a range there is one for each bucket, each with the totals of the run as well."""
        asset = materialization.asset_key.path[-1]
        values: dict[str, Any] = {
            name: value.value for name, value in materialization.metadata.items()
        }
        self._told_of_waits(values)
        rows = values.get("dagster/partition_row_count", values.get("dagster/row_count", 0))
        self._rows[asset] = self._rows.get(asset, 0) + int(rows)
        self.report.scores |= {
            name.removeprefix("mean/"): float(value)
            for name, value in values.items()
            if name.startswith("mean/")
        }
        self.report.generated_questions |= "golden_set/origin" in values
        self._did[asset] = {
            name.removeprefix("run/"): int(value)
            for name, value in values.items()
            if name.startswith("run/")
        }

    def _told_of_waits(self, values: Mapping[str, Any]) -> None:
        """In a range each bucket tells those of the run, which count once."""
        waits = (str(value) for name, value in values.items() if name.endswith("_waits"))
        self.report.waits += [each for each in waits if each not in self.report.waits]

    def _checked(self, check: dg.AssetCheckEvaluation) -> None:
        self.report.checks.append(
            CheckDone(
                asset=check.asset_key.path[-1],
                check=check.check_name,
                passed=check.passed,
                description=check.description or "",
                blocking=bool(check.blocking),
                warning=check.severity is dg.AssetCheckSeverity.WARN,
            )
        )

    def _ended(self, step: str, seconds: float) -> None:
        asset = next((name for name in self._did if step.endswith(name)), None)
        if asset is None or any(done.asset == asset for done in self.report.assets):
            return
        done = AssetDone(asset, seconds, self._rows[asset], self._did[asset])
        self.report.assets.append(done)
        self._on_asset(done)

    def _failed(self, data: Any) -> None:
        self.report.interrupted |= bool(data.error and data.error.cls_name == INTERRUPTION)
        said = data.user_failure_data.description if data.user_failure_data else None
        refused = [each for each in self.report.checks if each.blocking and not each.passed]
        self.report.failure = (
            self.report.failure
            or said
            or (refused[0].description if refused else _unexpected(data.error))
        )


def _unexpected(error: Any) -> str:
    """What really happened, for Dagster wraps it."""
    while error is not None and error.cause is not None:
        error = error.cause
    said = str(error.message).strip().partition("\n")[0].rstrip(".") if error else "a step failed"
    return f"Something unexpected: {said}. The Dagster UI shows where (`rag-assets up`)."


def _end_killed_runs(instance: dg.DagsterInstance) -> None:
    """A run whose process was killed cannot say so itself, and would count as running for ever."""
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
        if PROCESS in run.tags and _has_gone(run.tags[PROCESS]):
            instance.report_run_failed(run, "The process of this run was killed.")


def end_lost_runs(home: Path) -> int:
    """Where nothing of Dagster runs, nothing of what it began does: it was ended with the machine.

    Nobody else would ever say so, and such runs would hold their buckets and their places in the
    queue for ever. Dagster begins those again that have attempts left.
    """
    with instance_of(home) as instance:
        _end_killed_runs(instance)
        lost = instance.get_runs(dg.RunsFilter(statuses=list(BEGUN)))
        lost = [run for run in lost if PROCESS not in run.tags]
        for run in lost:
            if run.status is dg.DagsterRunStatus.CANCELING:
                instance.report_run_canceled(run)
            else:
                instance.report_run_failed(run, "The machine, or all of Dagster, was switched off.")
    return len(lost)


def _name_of(process: psutil.Process) -> str:
    """Told apart from every other, on other machines and at other times."""
    return f"{socket.gethostname()} {process.pid} {process.create_time():.0f}"


def _has_gone(name: str) -> bool:
    """False where it cannot be known, for it is a process of another machine."""
    host, pid, _ = name.split()
    try:
        return host == socket.gethostname() and _name_of(psutil.Process(int(pid))) != name
    except psutil.NoSuchProcess:
        return True


@contextmanager
def instance_of(home: Path) -> Iterator[dg.DagsterInstance]:
    """The instance that the UI shows; Dagster also reads its home from the environment."""
    from sqlalchemy.exc import SQLAlchemyError

    os.environ["DAGSTER_HOME"] = str(home)
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    try:
        with HomeFolder(home).locked():  # two at once would both make its tables
            instance = dg.DagsterInstance.from_config(str(home))
        with instance:
            yield instance
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", error)).partition("\n")[0]
        raise ServerError(
            f"Dagster cannot keep its record of runs in {home}: {said}. See that the disk has room"
            " and that you may write there. If the folder is damaged, delete it: only the history"
            " of runs is in it, no document and no index."
        ) from error
