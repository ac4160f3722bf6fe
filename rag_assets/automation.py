"""The repair loop: what is missing, stale, overdue or has failed is materialized without hands.

A condition here looks at how things stand, not at what has happened since the last look, so that no
event can be missed: whatever is wrong is still wrong at the next look. Dagster's own `eager()` goes
by events, and loses a change that arrives while the run which it requested is under way.

How Dagster tells what is stale is internal to it. Its version is pinned, and
rag_assets_tests/contract/test_automation.py says what this module relies on.
"""

import json
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import dagster as dg
from dagster import AutomationCondition as When

from rag_assets.building import BESIDE
from rag_assets.model import Corpus
from rag_assets.resources import CORPUS_TAG, MAX_USD_TAG, NIGHTLY_KEY, REPAIR_TAG, key_of

if TYPE_CHECKING:
    from dagster._core.asset_graph_view.entity_subset import EntitySubset
    from dagster._core.definitions.sensor_definition import SensorExecutionData
    from dagster._core.storage.event_log.base import PlannedMaterializationInfo

Partition: TypeAlias = str | None
"""None: the asset has no partitions."""
Context: TypeAlias = "dg.AutomationContext[dg.AssetKey]"
Result: TypeAlias = "dg.AutomationResult[dg.AssetKey]"
Subset: TypeAlias = "EntitySubset[Any]"

EVERY_S = 30
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
LONGEST_WAIT_S = 86_400.0
FOR_PEOPLE = 0
"""In place of a number of runs: somebody cancelled the last one, or gave it a limit."""
GOING_ON = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
ENDED = frozenset(
    {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
)


def repair_condition(corpus: Corpus) -> dg.AutomationCondition[Any] | None:
    """When an asset of a corpus is materialized by itself; None where repair is switched off.

    What is built beside has a job of its own: it may be missing, stale or at work for weeks.

    The first look of all does nothing: filling an empty index belongs to the sensor of the source.
    """
    settings, beside = corpus.automation, key_of(corpus, BESIDE)
    if not settings.repair:
        return None
    wrong = (
        When.missing()
        | When.execution_failed()
        | (When.freshness_failed() & NotSince(timedelta(hours=corpus.freshness.fail_after_h)))
        | Stale(beside)  # the dearest question, so it comes last
    )
    ignored = dg.AssetSelection.assets(beside)
    may_be_tried = MayBeTried(settings.attempts, settings.retry_after_s)
    return (
        ~When.initial_evaluation()
        & ~When.in_progress()
        & ~When.any_deps_in_progress().ignore(ignored)
        & ~When.any_deps_match(When.missing() & ~Requested())
        .ignore(ignored)
        .with_label("any_deps_missing")
        & ~When.any_deps_match(_blocked() & ~Requested())
        .ignore(ignored)
        .with_label("any_deps_blocked")
        & (When.any_deps_match(Requested()) | (may_be_tried & wrong))
    ).with_label("repair")


def repair_sensor(corpus: Corpus) -> "RepairSensor | None":
    if not corpus.automation.repair:
        return None
    return RepairSensor(
        f"{corpus.name}_repair",
        target=dg.AssetSelection.groups(corpus.name)
        - dg.AssetSelection.assets(key_of(corpus, BESIDE)),
        description=f"Materializes what is missing, stale or overdue of {corpus.name}, and tries"
        " again what has failed, ever more slowly.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=EVERY_S,
        run_tags={CORPUS_TAG: corpus.name, REPAIR_TAG: "true"},
    )


def _blocked() -> dg.AutomationCondition[Any]:
    """A check that could not be made blocks nothing: what comes after asks for itself."""
    return When.any_checks_match(When.check_failed(), blocking_only=True)


# --- conditions ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Requested(dg.AutomationCondition[dg.AssetKey]):
    """Will be materialized by this very look; also across partitions, for it will be one run."""

    @property
    def name(self) -> str:
        return "requested"

    @property
    def requires_cursor(self) -> bool:
        return False

    def evaluate(self, context: Context) -> Result:
        nothing: Subset = context.get_empty_subset()
        requested = context.request_subsets_by_key.get(context.key, nothing)
        return dg.AutomationResult(
            context, requested.compute_intersection(context.candidate_subset)
        )


@dataclass(frozen=True)
class NotSince(dg.AutomationCondition[dg.AssetKey]):
    """Nothing of the asset was materialized for so long.

    Dagster looks at freshness now and then: just after a run an asset may still count as overdue.
    """

    age: timedelta

    @property
    def name(self) -> str:
        return f"not_since({self.age})"

    @property
    def requires_cursor(self) -> bool:
        return False

    def evaluate(self, context: Context) -> Result:
        last = _last_materialization(context, context.key)
        recent = last and last.timestamp > (context.evaluation_time - self.age).timestamp()
        subset = context.get_empty_subset() if recent else context.candidate_subset
        return dg.AutomationResult(context, subset)


@dataclass(frozen=True)
class Stale(dg.AutomationCondition[dg.AssetKey]):
    """Made by other code, or from other data, than there is today.

    What was found fresh is not asked about again until it, or what it is made from, changes.
    """

    ignored: dg.AssetKey | None = None
    """What may change without anything being made from it anew."""

    @property
    def name(self) -> str:
        return "stale"

    def evaluate(self, context: Context) -> Result:
        seen = self._seen(context)
        known = json.loads(context.cursor or "{}")
        fresh = set(known["fresh"]) if known.get("seen") == seen else set()
        asked = _partitions(context.candidate_subset) - fresh
        stale = _stale(context, asked, ignored=self.ignored) if asked else set()
        cursor = json.dumps({"seen": seen, "fresh": sorted(fresh | asked - stale, key=str)})
        return dg.AutomationResult(context, _subset(context, stale), cursor=cursor)

    def _seen(self, context: Context) -> list[Any]:
        """All that the answer depends on, read before it is asked for."""
        node = context.asset_graph.get(context.key)
        keys = sorted(
            {context.key, *node.parent_keys} - {self.ignored}, key=dg.AssetKey.to_user_string
        )
        latest = [_last_materialization(context, key) for key in keys]
        return [
            node.code_version,
            *(key.to_user_string() for key in keys),
            *(each.storage_id if each else None for each in latest),
        ]


@dataclass(frozen=True)
class MayBeTried(dg.AutomationCondition[dg.AssetKey]):
    """The last run materialized it, or it is time to try again: ever more seldom, then once a day.

    Only runs of the repair itself are counted: whoever materializes, or changes the source, gives
    back all attempts, and so does a success. What a person has cancelled is left to people, what a
    run with a limit did not come to, and everything where there is to be no attempt.
    """

    attempts: int
    retry_after_s: float

    @property
    def name(self) -> str:
        return "may_be_tried"

    def evaluate(self, context: Context) -> Result:
        before = _Memory.read(context.cursor)
        seen = _seen_of(context)
        memory = before if seen == before.seen else self._remembered(context, before, seen)
        now = context.evaluation_time.timestamp()
        barred = {
            partition
            for each in memory.in_vain
            if self._is_left_to_people(each) or now < each.since + self._wait_s(each.runs)
            for partition in each.partitions
        }
        allowed = _partitions(context.candidate_subset) - barred
        return dg.AutomationResult(context, _subset(context, allowed), cursor=memory.written())

    def _is_left_to_people(self, failed: "_InVain") -> bool:
        return failed.runs == FOR_PEOPLE or not self.attempts

    def _wait_s(self, runs: int) -> float:
        if runs > self.attempts:
            return LONGEST_WAIT_S
        return min(self.retry_after_s * 2.0 ** (runs - 1), LONGEST_WAIT_S)

    def _remembered(self, context: Context, before: "_Memory", seen: list[int | None]) -> "_Memory":
        """Each partition with the runs in vain it has behind it, as far as they have ended."""
        tried = _tried(context)
        runs = _runs(context, set(tried.values()))
        now: dict[_InVain, list[Partition]] = {}
        for partition, run_id in tried.items():
            run = runs.get(run_id)  # it may have been deleted
            if run and (each := self._counted(run, before.of(partition), context)):
                now.setdefault(each, []).append(partition)
        under_way = any(run.status not in ENDED for run in runs.values())
        return _Memory(
            seen=None if under_way else seen,  # how it ends is seen at a later look
            in_vain=tuple(replace(each, partitions=tuple(some)) for each, some in now.items()),
        )

    def _counted(
        self, run: dg.DagsterRun, known: "_InVain | None", context: Context
    ) -> "_InVain | None":
        if run.status not in ENDED or (known and known.run_id == run.run_id):
            return known
        stopped = run.status is dg.DagsterRunStatus.FAILURE and MAX_USD_TAG in run.tags
        if stopped or run.status is dg.DagsterRunStatus.CANCELED:
            number = FOR_PEOPLE
        else:
            number = known.runs + 1 if known and REPAIR_TAG in run.tags else 1
        return _InVain(run.run_id, number, context.evaluation_time.timestamp())


@dataclass(frozen=True, slots=True)
class _InVain:
    """Runs in a row that did not materialize some partitions of an asset."""

    run_id: str
    """The last of them."""
    runs: int
    since: float
    """When the last of them was first seen to have ended."""
    partitions: tuple[Partition, ...] = ()


@dataclass(frozen=True, slots=True)
class _Memory:
    """What is remembered from look to look."""

    seen: list[int | None] | None = None
    """All that it depends on; None: a run is under way."""
    in_vain: tuple[_InVain, ...] = ()

    @classmethod
    def read(cls, cursor: str | None) -> "_Memory":
        if cursor is None:
            return cls()
        found = json.loads(cursor)
        some = (_InVain(run, runs, since, tuple(p)) for run, runs, since, p in found["in_vain"])
        return cls(found["seen"], tuple(some))

    def written(self) -> str:
        in_vain = [[each.run_id, each.runs, each.since, each.partitions] for each in self.in_vain]
        return json.dumps({"seen": self.seen, "in_vain": in_vain})

    def of(self, partition: Partition) -> _InVain | None:
        some = (each for each in self.in_vain if partition in each.partitions)
        return next((replace(each, partitions=()) for each in some), None)


# --- what Dagster knows --------------------------------------------------------------------------


def _partitions(subset: Subset) -> set[Partition]:
    if subset.is_partitioned:
        return set(subset.expensively_compute_partition_keys())
    return set() if subset.is_empty else {None}


def _subset(context: Context, partitions: Collection[Partition]) -> Subset:
    from dagster._core.definitions.events import AssetKeyPartitionKey

    found = {AssetKeyPartitionKey(context.key, partition) for partition in partitions}
    return context.asset_graph_view.get_asset_subset_from_asset_partitions(context.key, found)


def _stale(
    context: Context, partitions: Collection[Partition], *, ignored: dg.AssetKey | None
) -> set[Partition]:
    from dagster._core.definitions.data_version import CachingStaleStatusResolver

    view = context.asset_graph_view
    resolver = CachingStaleStatusResolver(view.instance, view.asset_graph, loading_context=view)
    return {
        partition
        for partition in partitions
        if any(
            cause.dependency is None or cause.dependency_asset_key != ignored
            for cause in resolver.get_stale_causes(context.key, partition)
        )
    }


def _last_materialization(context: Context, key: dg.AssetKey) -> dg.EventLogRecord | None:
    """As it was when the look began; Dagster has fetched all of them at once."""
    from dagster._core.storage.event_log.base import AssetRecord

    record = AssetRecord.blocking_get(context.asset_graph_view, key)
    return record.asset_entry.last_materialization_record if record else None


def _seen_of(context: Context) -> list[int | None]:
    """Changes whenever a run is asked for, and whenever something is materialized."""
    planned = _planned(context)
    materialized = _last_materialization(context, context.key)
    return [each.storage_id if each else None for each in (planned, materialized)]


def _planned(context: Context) -> "PlannedMaterializationInfo | None":
    storage = context.asset_graph_view.instance.event_log_storage
    return storage.get_latest_planned_materialization_info(context.key)


def _tried(context: Context) -> dict[Partition, str]:
    """Partitions that the last run to have them has not materialized, and that run."""
    if context.partitions_def is not None:
        storage = context.asset_graph_view.instance.event_log_storage
        tried = storage.get_latest_asset_partition_materialization_attempts_without_materializations
        return {partition: run_id for partition, (run_id, _) in tried(context.key).items()}
    planned, made = _planned(context), _last_materialization(context, context.key)
    if planned is None or (made and made.storage_id > planned.storage_id):
        return {}
    return {None: planned.run_id}


def _runs(context: Context, run_ids: Collection[str]) -> dict[str, dg.DagsterRun]:
    if not run_ids:
        return {}
    found = context.asset_graph_view.instance.get_runs(dg.RunsFilter(run_ids=list(run_ids)))
    return {run.run_id: run for run in found}


# --- the sensor ----------------------------------------------------------------------------------


class RepairSensor(dg.AutomationConditionSensorDefinition):
    """Asks for one run at a look, whatever number of buckets and assets it is for.

    Dagster would start one a bucket, or a backfill, which takes a minute to begin and scores the
    index in a second run. Buckets between those that are asked for cost next to nothing. It is
    evaluated where our code is, for the daemon does not know conditions of ours.
    """

    def __init__(self, name: str, **options: Any) -> None:
        with warnings.catch_warnings():  # a parameter is in beta; the pinned version is known
            warnings.simplefilter("ignore", dg.BetaWarning)
            super().__init__(name, use_user_code_server=True, emit_backfills=False, **options)

    def evaluate_tick(self, context: dg.SensorEvaluationContext) -> "SensorExecutionData":
        found = super().evaluate_tick(context)
        return type(found)(
            run_requests=_as_one(found.run_requests or (), context),
            skip_message=found.skip_message,
            cursor=found.cursor,
            automation_condition_evaluations=found.automation_condition_evaluations,
        )

    def with_attributes(self, **changes: Any) -> "RepairSensor":
        """Dagster's own would forget what kind of sensor this is."""
        return RepairSensor(
            self.name,
            target=self.asset_selection,
            tags=self.tags,
            run_tags=self.run_tags,
            default_status=self.default_status,
            minimum_interval_seconds=self.minimum_interval_seconds,
            description=self.description,
            metadata=changes.get("metadata") or self.metadata,
        )


def _as_one(
    requests: Sequence[dg.RunRequest], context: dg.SensorEvaluationContext
) -> list[dg.RunRequest]:
    """The runs that Dagster would start, as one over a range of buckets, without nightly checks."""
    if not requests:
        return []
    buckets = sorted({each.partition_key for each in requests if each.partition_key})
    assets = {asset for each in requests for asset in each.asset_selection or ()}
    checks = {check for each in requests for check in each.asset_check_keys or ()}
    tags = {name: value for each in requests for name, value in each.tags.items()}
    if len(buckets) > 1:
        tags.pop("dagster/partition", None)
        tags |= {RANGE_START: buckets[0], RANGE_END: buckets[-1]}
    return [
        requests[0].with_replaced_attrs(
            asset_selection=sorted(assets),
            asset_check_keys=sorted(check for check in checks if not _is_nightly(check, context)),
            partition_key=buckets[0] if len(buckets) == 1 else None,
            tags=tags,
        )
    ]


def _is_nightly(check: dg.AssetCheckKey, context: dg.SensorEvaluationContext) -> bool:
    repository = context.repository_def
    return repository is not None and NIGHTLY_KEY in repository.asset_graph.get(check).metadata
