"""Tells people what has failed in a corpus, and that it works again."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import dagster as dg
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from rag_assets import errors, wiring
from rag_assets.adapters.system_clock import SystemClock
from rag_assets.errors import RagAssetsError
from rag_assets.model import Corpus
from rag_assets.operations.alerting import (
    FROM_TABLES,
    AlertState,
    Kind,
    News,
    Problem,
    RunOutcome,
    StepFailure,
    after_run,
    cause_of_failure,
    kind_of_check,
    merged,
    read_state,
    tell,
    within,
    without_tables,
    written,
)
from rag_assets.ports import AlertChannel, Clock
from rag_assets.resources import CORPUS_TAG, Platform
from rag_assets.settings import Settings

EVERY_S = 30
Ending = Literal[dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_SUCCESS]
ENDED: tuple[Ending, ...] = (dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_SUCCESS)
STEPS = {dg.DagsterEventType.STEP_SUCCESS, dg.DagsterEventType.STEP_FAILURE}
RUNS = 200
"""So many are read at once."""
FIRST_LOOK = timedelta(days=1)
"""How far back the first look goes."""
JUDGED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}
OUR_ERRORS = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, RagAssetsError)
}
UNEXPECTED = "Something unexpected; the page of the run shows where."


def build(corpus: Corpus, *, clock: Clock | None = None) -> dg.SensorDefinition | None:
    """None for a corpus that nobody is to be told of."""
    if not corpus.alerts.wanted:
        return None
    time = clock or SystemClock()

    @dg.sensor(
        name=f"{corpus.name}_alerts",
        minimum_interval_seconds=EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Tells people what has failed in {corpus.name}, once for each cause, and that"
        " it works again. It works without the database of the index.",
    )
    def alerts(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        return _Look(corpus, context, platform, time.now()).result()

    return alerts


@dataclass(frozen=True, slots=True)
class _Look:
    corpus: Corpus
    context: dg.SensorEvaluationContext
    platform: Platform
    now: datetime

    def result(self) -> dg.SensorResult:
        """What was not delivered is not remembered as told: the next look tells it."""
        settings = Settings.from_environment()
        channels = wiring.alert_channels(self.corpus, settings)
        state = self._after_runs(read_state(self.context.cursor), channels)
        state, tables, unknown = self._from_tables(state)
        telling = tell(
            state,
            merged([*(each.problem for each in state.failing), *self._from_checks(), *tables]),
            channels,
            corpus=self.corpus.name,
            links=wiring.alert_links(settings),
            now=self.now,
            unknown=unknown,
        )
        for name, why in telling.failed.items():
            self.context.log.error(f"An alert to {name} was not delivered: {why}")
        return dg.SensorResult(skip_reason=telling.summary, cursor=written(telling.state))

    # --- runs ------------------------------------------------------------------------------------

    def _after_runs(self, state: AlertState, channels: Sequence[AlertChannel]) -> AlertState:
        cursors, ended = self._ended(state.cursors)
        failing, news = within(state.failing, self.corpus.buckets), list(state.news)
        for run, at, said in ended:
            failing = after_run(failing, self._outcome(run, at, said))
            if self.corpus.alerts.successes:
                news += self._news(run, at, channels)
        return replace(state, cursors=cursors, failing=failing, news=tuple(news))

    def _ended(
        self, cursors: Mapping[str, str]
    ) -> tuple[dict[str, str], list[tuple[dg.DagsterRun, datetime, str]]]:
        """The runs of this corpus that have ended since, in their order, and what was said."""
        after = dict(cursors)
        entries: list[dg.EventLogRecord] = []
        for kind in ENDED:
            found = self.context.instance.fetch_run_status_changes(
                self._since(kind, cursors),
                limit=RUNS,
                cursor=cursors.get(kind.name),
                ascending=True,
            )
            entries += found.records
            if found.records:
                after[kind.name] = found.cursor
        entries.sort(key=lambda each: each.storage_id)
        runs = self._runs({each.run_id for each in entries})
        return after, [
            (runs[each.run_id], datetime.fromtimestamp(each.timestamp, UTC), _said(each))
            for each in entries
            if each.run_id in runs
        ]

    def _since(self, kind: Ending, cursors: Mapping[str, str]) -> dg.RunStatusChangeRecordsFilter:
        first = None if kind.name in cursors else (self.now - FIRST_LOOK).timestamp()
        return dg.RunStatusChangeRecordsFilter(kind, after_timestamp=first)

    def _runs(self, run_ids: Iterable[str]) -> dict[str, dg.DagsterRun]:
        if not (ids := list(run_ids)):
            return {}
        ours = dg.RunsFilter(run_ids=ids, tags={CORPUS_TAG: self.corpus.name})
        return {run.run_id: run for run in self.context.instance.get_runs(ours)}

    def _outcome(self, run: dg.DagsterRun, at: datetime, said: str) -> RunOutcome:
        everything = _buckets_of(run, self.corpus)
        succeeded: dict[str, int] = {}
        failed: dict[str, tuple[StepFailure, int]] = {}
        for entry in self.context.instance.all_logs(run.run_id, of_type=STEPS):
            event = entry.dagster_event
            if event is None or event.step_key is None:
                continue
            stage = event.step_key.removeprefix(f"{self.corpus.name}__")
            buckets = everything if stage in self._bucketed else 0
            if event.is_step_failure:
                failed[stage] = (_failure(event.step_failure_data), buckets)
            else:
                succeeded[stage] = buckets
        if run.is_success:
            succeeded[""] = everything
        elif not failed:
            failed[""] = (StepFailure("", said), everything)
        return RunOutcome(run.run_id, at, succeeded, failed)

    def _news(
        self, run: dg.DagsterRun, at: datetime, channels: Sequence[AlertChannel]
    ) -> Iterator[News]:
        """That another generation is read from now on."""
        wanted_by = tuple(channel.name for channel in channels if not channel.urgent_only)
        made = {dg.DagsterEventType.ASSET_MATERIALIZATION}
        for entry in self.context.instance.all_logs(run.run_id, of_type=made):
            done = entry.asset_materialization
            if done is None or done.asset_key.path[-1] != "published_index":
                continue
            if (published := done.metadata.get("run/published")) and published.value:
                number = done.metadata["generation"].value
                yield News(f"Generation {number} is published", at, run.run_id, wanted_by)

    # --- checks ----------------------------------------------------------------------------------

    def _from_checks(self) -> Iterator[Problem]:
        """What each check has found last, whether a run or a sensor has evaluated it."""
        for key in self._graph.asset_check_keys:
            if key.asset_key.path[0] != self.corpus.name or kind_of_check(key.name) in FROM_TABLES:
                continue
            history = self.context.instance.event_log_storage.get_asset_check_execution_history(
                key, limit=1, status=JUDGED
            )
            if history and history[0].status is AssetCheckExecutionRecordStatus.FAILED:
                yield _of_check(key, history[0])

    @property
    def _graph(self) -> "dg.AssetGraph":
        """Of the repository, in which Dagster evaluates each sensor."""
        repository = self.context.repository_def
        if repository is None:
            raise dg.DagsterInvariantViolationError("Alerts are looked for in a repository.")
        return repository.asset_graph

    @property
    def _bucketed(self) -> set[str]:
        """The assets of this corpus that have partitions."""
        graph = self._graph
        keys = graph.materializable_asset_keys
        return {
            key.path[-1]
            for key in keys
            if key.path[0] == self.corpus.name and graph.get(key).is_partitioned
        }

    # --- tables ----------------------------------------------------------------------------------

    def _from_tables(self, state: AlertState) -> tuple[AlertState, list[Problem], frozenset[Kind]]:
        """What the database knows; without it, that it does not answer, and what is unknown."""
        try:
            stores = self.platform.stores()
            problems = [
                *self._of_source(stores),
                *self._of_documents(stores),
                *self._of_failures(stores),
            ]
        except RagAssetsError as error:
            return without_tables(state, str(error), now=self.now)
        return replace(state, away_since=None), problems, frozenset()

    def _of_source(self, stores: wiring.Stores) -> Iterator[Problem]:
        standing = stores.sources.standing(self.corpus.name)
        since = standing.failing_since if standing else None
        patience = timedelta(minutes=self.corpus.freshness.source_fail_min)
        if standing and since and self.now - since >= patience:
            yield Problem(Kind.SOURCE_UNLISTABLE, since, standing.error or "")

    def _of_documents(self, stores: wiring.Stores) -> Iterator[Problem]:
        letters = [
            Problem(
                Kind.DEAD_LETTERS,
                letter.first_seen_at or self.now,
                letter.reason,
                (letter.stage.value, letter.error),
            )
            for letter in stores.documents.dead_letters(self.corpus.name)
        ]
        withheld = [
            Problem(Kind.DELETIONS_WITHHELD, each.since, subject=(each.reason.value,))
            for each in stores.documents.withheld(self.corpus.name)
        ]
        yield from _counted([*letters, *withheld])

    def _of_failures(self, stores: wiring.Stores) -> Iterator[Problem]:
        for each in stores.failures.open(self.corpus.name):
            cause = cause_of_failure(each.where, each.error)
            if cause is not None and each.bucket < self.corpus.buckets:
                kind, subject = cause
                yield Problem(
                    kind, each.since, each.reason, subject, each.attempts, run_id=each.run_id
                )


def _counted(problems: Sequence[Problem]) -> Iterator[Problem]:
    """One for each cause, which says how many documents it concerns."""
    numbers = Counter(each.cause for each in problems)
    for each in merged(problems):
        yield replace(each, count=numbers[each.cause])


def _said(entry: dg.EventLogRecord) -> str:
    """The first line of what Dagster says of the end of a run."""
    event = entry.event_log_entry.dagster_event
    return (event.message or "").strip().partition("\n")[0] if event else ""


def _buckets_of(run: dg.DagsterRun, corpus: Corpus) -> int:
    """As bits; 0 for a run without partitions."""
    one = run.tags.get("dagster/partition")
    first = run.tags.get("dagster/asset_partition_range_start", one)
    last = run.tags.get("dagster/asset_partition_range_end", one)
    if first is None or last is None or not (first.isdecimal() and last.isdecimal()):
        return 0
    return sum(1 << bucket for bucket in range(int(first), min(int(last), corpus.buckets - 1) + 1))


def _failure(data: StepFailureData) -> StepFailure:
    """The first error of ours in the chain of causes, with its words for people.

    Those of any other error may hold anything, and stay in the event log.
    """
    chain, error = [], data.error
    while error is not None:
        chain.append(error.cls_name or "")
        error = error.cause
    ours = next((name for name in chain if name in OUR_ERRORS), None)
    said = data.user_failure_data.description if data.user_failure_data else None
    if ours is not None:
        return StepFailure(ours, said or "")
    raised = [name for name in chain if not name.startswith("Dagster")]  # it wraps what is raised
    return StepFailure((raised or chain or ["unknown"])[0], UNEXPECTED)


def _of_check(key: dg.AssetCheckKey, record: AssetCheckExecutionRecord) -> Problem:
    kind = kind_of_check(key.name)
    event = record.event.dagster_event if record.event else None
    found = event.asset_check_evaluation_data if event else None
    return Problem(
        kind,
        datetime.fromtimestamp(record.create_timestamp, UTC),
        (found.description or "") if found else "",
        (key.asset_key.path[-1], key.name) if kind is Kind.CHECK_FAILED else (),
        run_id=record.run_id or None,
        warning=found is not None and found.severity is dg.AssetCheckSeverity.WARN,
        follows=found is not None and _only_incomplete(found),
    )


def _only_incomplete(found: dg.AssetCheckEvaluation) -> bool:
    """Whether documents wait or vectors are missing, and all that is there is as it should be."""
    named = {name: value.value for name, value in found.metadata.items()}
    if "documents_waiting" in named:
        return not named.get("wrong_buckets")
    return bool(named.get("missing")) and not named.get("damaged")
