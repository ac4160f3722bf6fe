"""What the repair loop relies on in the pinned Dagster, and what Dagster's own condition misses."""

import inspect
import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

import dagster as dg
import pytest

from rag_assets.automation import (
    EVERY_S,
    MayBeTried,
    RepairSensor,
    Stale,
    repair_condition,
    repair_sensor,
)
from rag_assets.building import BESIDE
from rag_assets.model import AutomationSettings, Corpus, LocalFilesSettings
from rag_assets.resources import CORPUS_TAG, MAX_USD_TAG, NIGHTLY_KEY, REPAIR_TAG

BUCKETS = ["00", "01", "02", "03"]
CORPUS = Corpus("notes", source=LocalFilesSettings("/nowhere"), buckets=4)
NOON = datetime(2027, 1, 15, 12, tzinfo=UTC)
EVERY = timedelta(seconds=EVERY_S)
EVERYTHING = {
    "raw": set(BUCKETS),
    "cut": set(BUCKETS),
    "scores": {None},
    "published": {None},
}

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
Requested = dict[str, set[str | None]]


@dataclass
class World:
    """A chain like that of a corpus, over a source that a test changes: raw, cut, scores, published.

    Ticks are those of the automation, at a time of their own; what they ask for is run by `works`.
    """

    instance: dg.DagsterInstance
    corpus: Corpus = CORPUS
    condition: dg.AutomationCondition[Any] | None = None
    source: dict[str, str] = field(default_factory=lambda: dict.fromkeys(BUCKETS, "first"))
    failing: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    refused: bool = False
    code: str = "1"
    during: Callable[[], object] = lambda: None
    """What happens once, while something is cut."""
    now: datetime = NOON
    cursor: Any = None
    _defined: dict[str, dg.Definitions] = field(default_factory=dict)

    @property
    def definitions(self) -> dg.Definitions:
        settings = f"{self.corpus!r} {self.code}"
        return self._defined.get(settings) or self._defined.setdefault(settings, self._define())

    def _define(self) -> dg.Definitions:
        condition = self.condition or repair_condition(self.corpus)
        common: dict[str, Any] = {
            "key_prefix": self.corpus.name,
            "group_name": self.corpus.name,
            "automation_condition": condition,
            "freshness_policy": dg.FreshnessPolicy.time_window(
                timedelta(hours=self.corpus.freshness.fail_after_h)
            ),
        }
        bucketed: dict[str, Any] = {
            "partitions_def": dg.StaticPartitionsDefinition(BUCKETS),
            "backfill_policy": dg.BackfillPolicy.single_run(),
        }

        def asset(**options: Any) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
            made: Callable[..., dg.AssetsDefinition] = dg.asset(**common, **options)
            return made

        @asset(**bucketed, code_version="1", output_required=False)
        def raw(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
            self._may_fail("raw")
            if "raw" not in self.left:
                seen = "+".join(self.source[key] for key in context.partition_keys)
                yield dg.MaterializeResult(data_version=dg.DataVersion(seen))

        @asset(**bucketed, code_version=self.code, deps=[raw])
        def cut() -> None:
            happens, self.during = self.during, lambda: None
            happens()
            self._may_fail("cut")

        def beside() -> None:
            self._may_fail(BESIDE)

        apart: Callable[..., dg.AssetsDefinition] = dg.asset(
            key=self.key(BESIDE), deps=[raw], code_version=self.code, **bucketed
        )

        @asset(code_version="1", deps=[cut, self.key(BESIDE)])
        def scores() -> None:
            self._may_fail("scores")

        @dg.asset_check(asset=scores, blocking=True)
        def gate() -> dg.AssetCheckResult:
            self._may_fail("gate")
            return dg.AssetCheckResult(passed=not self.refused)

        @dg.asset_check(asset=scores, metadata={NIGHTLY_KEY: True})
        def recall() -> dg.AssetCheckResult:
            raise AssertionError("the repair makes no nightly check")

        @asset(code_version="1", deps=[scores])
        def published() -> None:
            self._may_fail("published")

        return dg.Definitions(
            assets=[raw, cut, apart(beside), scores, published],
            asset_checks=[gate, recall],
            executor=dg.in_process_executor,
        )

    def _may_fail(self, step: str) -> None:
        if step in self.failing:
            raise dg.Failure(f"{step} fails, as the test wants it.", allow_retries=False)

    def key(self, asset: str) -> dg.AssetKey:
        return dg.AssetKey([self.corpus.name, asset])

    def run(
        self, *assets: str, buckets: Collection[str] = BUCKETS, **tags: str
    ) -> dg.ExecuteInProcessResult:
        """Somebody materializes all assets, or these."""
        wanted = [self.key(each) for each in assets or EVERYTHING]
        graph = self.definitions.resolve_asset_graph()
        checks = [
            each for each in graph.get_check_keys_for_assets(set(wanted)) if each.name != "recall"
        ]
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.get_subset(
            asset_selection=set(wanted), asset_check_selection=set(checks)
        ).execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            tags={
                "dagster/asset_partition_range_start": min(buckets),
                "dagster/asset_partition_range_end": max(buckets),
                **tags,
            },
        )

    def tick(self, *, after: timedelta = EVERY) -> Requested:
        """What the automation asks for some time later."""
        self.now += after
        found = dg.evaluate_automation_conditions(
            self.definitions,
            self.instance,
            asset_selection=dg.AssetSelection.groups(self.corpus.name),
            evaluation_time=self.now,
            cursor=self.cursor,
        )
        self.cursor = found.cursor
        requested = {
            name: set(found.get_requested_partitions(self.key(name))) for name in EVERYTHING
        }
        return {name: partitions for name, partitions in requested.items() if partitions}

    def works(self, *, after: timedelta = EVERY) -> Requested:
        """A tick, and then the run that it asks for."""
        requested = self.tick(after=after)
        if requested:
            buckets = {each for some in requested.values() for each in some if each} or BUCKETS
            self.run(*requested, buckets=buckets, **{REPAIR_TAG: "true"})
        return requested

    def works_for(self, *, hours: float, every_s: int = 60) -> list[float]:
        """After how many seconds it asked for something."""
        begun, asked = self.now, []
        while self.now < begun + timedelta(hours=hours):
            if self.works(after=timedelta(seconds=every_s)):
                asked.append((self.now - begun).total_seconds())
        return asked


@pytest.fixture(autouse=True)
def no_logs() -> Iterator[None]:
    logging.disable(logging.INFO)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def world(instance: dg.DagsterInstance) -> World:
    """Everything is materialized, and the automation has looked once."""
    world = World(instance)
    assert world.run().success
    assert world.tick() == {}
    return world


def patient(attempts: int, retry_after_s: int = 60, **others: Any) -> Corpus:
    settings = AutomationSettings(attempts=attempts, retry_after_s=retry_after_s, **others)
    return replace(CORPUS, automation=settings)


# --- how things stand ----------------------------------------------------------------------------


def test_nothing_is_asked_for_while_nothing_changes(world: World) -> None:
    assert world.works_for(hours=0.1) == []


def test_a_first_fill_waits_for_one_look_and_is_then_one_run_over_everything(
    instance: dg.DagsterInstance,
) -> None:
    world = World(instance)

    assert world.tick() == {}, "the sensor of the source comes first"
    assert world.works() == EVERYTHING
    assert world.tick() == {}


def test_what_follows_from_a_change_is_asked_for_bucket_by_bucket(world: World) -> None:
    world.source["01"] = "second"
    world.run("raw", buckets=["01"])

    assert world.works() == {"cut": {"01"}, "scores": {None}, "published": {None}}
    assert world.tick() == {}


def test_a_run_without_a_change_asks_for_nothing(world: World) -> None:
    world.source["01"] = "second"
    world.run(buckets=["01"])
    world.run("raw", buckets=["01"])

    assert world.tick() == {}


def test_other_code_asks_for_what_it_made_and_for_what_follows(world: World) -> None:
    world.code = "2"

    assert world.works() == {"cut": set(BUCKETS), "scores": {None}, "published": {None}}
    assert world.tick() == {}


def test_what_was_found_fresh_is_looked_at_again_as_soon_as_something_before_it_changes(
    world: World,
) -> None:
    world.works_for(hours=0.02)
    world.source["03"] = "second"
    world.run("raw", buckets=["03"])

    assert world.tick()["cut"] == {"03"}


def test_nothing_is_asked_for_that_a_run_is_about_to_make(world: World) -> None:
    world.code = "2"
    job = world.definitions.resolve_implicit_global_asset_job_def()
    with_range = {
        "dagster/asset_partition_range_start": "00",
        "dagster/asset_partition_range_end": "03",
    }
    run = world.instance.create_run_for_job(job, tags=with_range)

    assert world.tick() == {}
    world.instance.report_run_failed(run)
    assert world.tick() == {}, "what failed waits for its time"
    assert world.tick(after=timedelta(minutes=2)) == EVERYTHING


# --- the change that arrives while a run goes on -------------------------------------------------


def test_a_change_during_the_requested_run_is_not_lost(world: World) -> None:
    changed_twice(world)

    assert world.works()["cut"] == {"01"}
    assert world.works()["cut"] == {"01"}, "the change that came during the run"
    assert world.tick() == {}


def test_dagsters_own_eager_condition_loses_it(instance: dg.DagsterInstance) -> None:
    """If this fails, Dagster has mended it: see whether the repair loop can be made simpler."""
    world = World(instance, condition=dg.AutomationCondition.eager())
    world.run()
    world.tick()
    changed_twice(world)

    assert world.works()["cut"] == {"01"}
    assert [world.works().get("cut") for _ in range(3)] == [None, None, None]


def test_dagsters_own_eager_condition_runs_again_for_the_same_content(
    instance: dg.DagsterInstance,
) -> None:
    world = World(instance, condition=dg.AutomationCondition.eager())
    world.source["01"] = "second"
    world.run(buckets=["01"])
    world.run()
    world.tick()
    world.run("raw")

    assert world.tick()["cut"] == set(BUCKETS)


def changed_twice(world: World) -> None:
    """Once before the automation looks, and again while the run that it asked for reads."""

    def again() -> None:
        world.source["01"] = "third"
        world.run("raw", buckets=["01"])

    world.source["01"] = "second"
    world.run("raw", buckets=["01"])
    world.during = again


# --- what fails ----------------------------------------------------------------------------------


def test_what_fails_is_tried_ever_more_slowly_and_only_so_often(world: World) -> None:
    world.corpus = patient(attempts=4, retry_after_s=300)
    world.failing = {"cut"}
    world.run()

    asked = world.works_for(hours=2, every_s=150)

    waits = [after - before for before, after in zip([0, *asked], asked, strict=False)]
    assert waits == [pytest.approx(wait, abs=300) for wait in (300, 600, 1200, 2400)]
    assert waits == sorted(waits)


def test_after_its_attempts_it_is_tried_once_a_day_for_ever(world: World) -> None:
    world.corpus = patient(attempts=1)
    world.failing = {"raw"}
    world.run()
    assert len(world.works_for(hours=1)) == 1

    tried_at = [at / 3600 for at in world.works_for(hours=75, every_s=1800)]

    assert tried_at == [pytest.approx(hours, abs=1.6) for hours in (23, 47, 72)]
    world.failing.clear()
    world.tick()
    assert world.works(after=timedelta(days=1))["raw"] == set(BUCKETS)
    assert world.tick() == {}


def test_a_failure_asks_for_what_failed_and_what_follows_not_for_what_was_made(
    world: World,
) -> None:
    world.failing = {"cut"}
    world.run(buckets=["02"])
    world.failing.clear()
    world.tick()

    assert world.works(after=timedelta(minutes=2)) == {
        "cut": {"02"},
        "scores": {None},
        "published": {None},
    }
    assert world.tick() == {}


def test_a_success_gives_back_all_attempts(world: World) -> None:
    world.corpus = patient(attempts=2)
    for _ in range(2):
        world.failing = {"raw"}
        world.run()
        assert len(world.works_for(hours=0.2)) == 2
        world.failing.clear()
        assert world.run().success


def test_a_run_of_somebody_else_gives_back_all_attempts(world: World) -> None:
    world.corpus = patient(attempts=2)
    world.failing = {"raw"}
    world.run()
    assert len(world.works_for(hours=0.2)) == 2
    world.run(buckets=["02"])

    world.tick()
    assert world.tick(after=timedelta(minutes=2))["raw"] == {"02"}


def test_with_no_attempts_a_failure_is_left_to_people(world: World) -> None:
    world.corpus = patient(attempts=0)
    world.failing = {"raw"}
    world.run()

    assert world.works_for(hours=0.2) == []
    assert world.tick(after=timedelta(days=2)) == {}


def test_a_failure_does_not_make_stale_code_ask_more_often(world: World) -> None:
    world.corpus = patient(attempts=2)
    world.code, world.failing = "2", {"cut"}

    assert len(world.works_for(hours=0.3)) == 3, "once for the code, and its attempts"


def test_a_run_that_a_person_cancelled_is_not_begun_again(world: World) -> None:
    world.code = "2"
    job = world.definitions.resolve_implicit_global_asset_job_def()
    run = world.instance.create_run_for_job(
        job,
        tags={
            "dagster/asset_partition_range_start": "00",
            "dagster/asset_partition_range_end": "01",
        },
    )
    world.instance.report_run_canceled(run)

    assert world.works()["cut"] == {"02", "03"}
    assert "cut" not in world.tick(after=timedelta(hours=1))
    assert "cut" not in world.tick(after=timedelta(days=2)), "nor once a day"


def test_what_a_run_with_a_limit_did_not_come_to_is_left_to_people(world: World) -> None:
    world.failing, world.source["01"] = {"cut"}, "second"
    world.run(**{MAX_USD_TAG: "0.5"})
    world.failing.clear()

    assert world.works_for(hours=0.2) == []
    assert world.works(after=timedelta(days=2)) == {}, "nor once a day"
    world.run()
    world.code = "2"
    assert "cut" in world.works(), "somebody has begun it again"


def test_a_bucket_that_another_run_holds_is_not_asked_for_at_every_look(
    instance: dg.DagsterInstance,
) -> None:
    world = World(instance, corpus=patient(attempts=3))
    world.tick()
    world.left = {"raw"}

    assert len(world.works_for(hours=0.5, every_s=120)) == 1 + 3
    world.left.clear()
    world.run()
    assert world.tick() == {}


def test_what_a_refused_candidate_leaves_unpublished_is_not_tried_again(world: World) -> None:
    world.refused = True
    world.run()
    assert world.works_for(hours=0.5, every_s=600) == []

    world.refused = False
    world.run("scores")
    assert world.works_for(hours=0.1) != [], "its check has passed since"
    assert world.tick() == {}


def test_a_check_that_could_not_be_made_does_not_block(world: World) -> None:
    world.failing = {"gate"}
    world.run()
    world.failing.clear()
    world.tick()

    assert world.works(after=timedelta(minutes=2)) == {"published": {None}}


def test_of_two_corpora_one_that_fails_for_ever_takes_nothing_from_the_other(
    instance: dg.DagsterInstance,
) -> None:
    broken = World(instance, corpus=replace(patient(attempts=2), name="broken"))
    sound = World(instance, corpus=replace(patient(attempts=2), name="sound"))
    for each in (broken, sound):
        each.run()
        each.tick()
    broken.failing = {"raw"}
    broken.run()
    tries, late = 0, []
    for change in range(16):
        tries += bool(broken.works())
        if change % 5 == 0:
            sound.source["02"] = f"change {change}"
            sound.run("raw", buckets=["02"])
            late.append(sound.works() != {"cut": {"02"}, "scores": {None}, "published": {None}})
        else:
            late.append(sound.works() != {})

    assert tries == 2
    assert not any(late)


# --- freshness, the window, the switch -----------------------------------------------------------


def test_an_overdue_asset_is_asked_for_once_and_not_at_every_look(world: World) -> None:
    from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange

    world.now = datetime.now(UTC) + timedelta(hours=50)
    assert world.tick() == {}, "Dagster has not said so yet"
    for name in EVERYTHING:
        overdue = FreshnessStateChange(
            key=world.key(name),
            new_state=FreshnessState.FAIL,
            previous_state=FreshnessState.PASS,
            state_change_timestamp=world.now.timestamp(),
        )
        world.instance.report_runless_asset_event(overdue)

    assert world.works() == EVERYTHING
    world.now = datetime.now(UTC)
    assert world.tick() == {}, "Dagster still says that it is overdue"


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_built_beside_is_no_business_of_the_repair(world: World, fails: bool) -> None:
    """Never made, made, made anew or failing: nothing is asked for, and nothing waits for it."""
    assert world.tick() == {}, "it is missing"
    world.failing = {BESIDE} if fails else set()
    for _ in range(2):
        world.run(BESIDE)
        assert world.tick() == {}
    world.failing = set()
    world.source["01"] = "second"
    world.run("raw", buckets=["01"])
    assert world.works() == {"cut": {"01"}, "scores": {None}, "published": {None}}
    assert world.tick() == {}


def test_repair_can_be_switched_off() -> None:
    off = patient(attempts=3, repair=False)

    assert repair_condition(off) is None
    assert repair_sensor(off) is None


# --- the sensor ----------------------------------------------------------------------------------


def asked_by_sensor(world: World, ticks: int) -> list[list[dg.RunRequest]]:
    sensor = repair_sensor(world.corpus)
    assert sensor is not None
    found = dg.Definitions.merge(world.definitions, dg.Definitions(sensors=[sensor]))
    repository = found.get_repository_def()
    asked, cursor = [], None
    for _ in range(ticks):
        with dg.build_sensor_context(
            world.instance, repository_def=repository, cursor=cursor
        ) as context:
            tick = repository.get_sensor_def(sensor.name).evaluate_tick(context)
        cursor = tick.cursor
        asked.append(list(tick.run_requests or ()))
    return asked


def test_whatever_is_asked_for_at_one_look_is_one_run_without_the_nightly_checks(
    instance: dg.DagsterInstance,
) -> None:
    world = World(instance)

    first, [request] = asked_by_sensor(world, ticks=2)

    assert first == []
    assert {key.path[-1] for key in request.asset_selection or ()} == set(EVERYTHING)
    assert [key.name for key in request.asset_check_keys or ()] == ["gate"]
    assert request.partition_key is None
    tags = request.tags
    assert (tags[CORPUS_TAG], tags[REPAIR_TAG]) == ("notes", "true")
    assert tags["dagster/asset_partition_range_start"] == "00"
    assert tags["dagster/asset_partition_range_end"] == "03"


def test_a_single_bucket_is_a_run_of_that_bucket_with_what_follows(world: World) -> None:
    world.source["02"] = "second"
    world.run("raw", buckets=["02"])

    _, [request] = asked_by_sensor(world, ticks=2)

    assert {key.path[-1] for key in request.asset_selection or ()} == {"cut", "scores", "published"}
    assert request.partition_key == "02"
    assert request.tags["dagster/partition"] == "02"
    assert "dagster/asset_partition_range_start" not in request.tags


def test_a_copy_of_the_sensor_is_one_too() -> None:
    sensor = repair_sensor(CORPUS)
    assert sensor is not None
    copy = sensor.with_attributes(metadata={"seen": "by dg"})

    assert isinstance(copy, RepairSensor)
    assert copy.run_tags == sensor.run_tags
    assert copy.sensor_type is sensor.sensor_type
    assert copy.default_status is dg.DefaultSensorStatus.RUNNING
    assert "seen" in copy.metadata


# --- the pinned Dagster --------------------------------------------------------------------------

MOVED = (
    "Dagster {version} has changed something internal that rag_assets/automation.py relies on:"
    " {what}. Look at it before the pin in pyproject.toml is raised."
)


def parameters(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_the_inside_of_dagster_is_as_the_repair_loop_knows_it() -> None:
    from dagster._core.asset_graph_view.asset_graph_view import AssetGraphView
    from dagster._core.definitions.data_version import (
        CachingStaleStatusResolver,
        StaleCause,
        StaleCauseCategory,
    )
    from dagster._core.definitions.sensor_definition import SensorDefinition, SensorExecutionData
    from dagster._core.storage.event_log.base import AssetEntry, AssetRecord, EventLogStorage

    attempts = "get_latest_asset_partition_materialization_attempts_without_materializations"
    found = {
        "the resolver of staleness": parameters(CachingStaleStatusResolver.__init__)[:3],
        "its question": parameters(CachingStaleStatusResolver.get_stale_causes),
        "the kinds of causes": sorted(each.name for each in StaleCauseCategory),
        "a cause": "category" in StaleCause._fields,
        "subsets of partitions": parameters(AssetGraphView.get_asset_subset_from_asset_partitions)[
            :2
        ],
        "what a run was to materialize": parameters(
            EventLogStorage.get_latest_planned_materialization_info
        ),
        "what runs did not materialize": parameters(getattr(EventLogStorage, attempts))[:1],
        "the record of an asset": (
            hasattr(AssetRecord, "blocking_get"),
            "last_materialization_record" in AssetEntry.__annotations__,
        ),
        "a tick of a sensor": parameters(SensorDefinition.evaluate_tick),
        "what it gives": parameters(SensorExecutionData.__new__)[1:],
    }

    expected = {
        "the resolver of staleness": ["instance", "asset_graph", "loading_context"],
        "its question": ["key", "partition_key"],
        "the kinds of causes": ["CODE", "DATA", "DEPENDENCIES"],
        "a cause": True,
        "subsets of partitions": ["key", "asset_partitions"],
        "what a run was to materialize": ["asset_key", "partition"],
        "what runs did not materialize": ["asset_key"],
        "the record of an asset": (True, True),
        "a tick of a sensor": ["context"],
        "what it gives": [
            *("run_requests", "skip_message", "cursor", "dagster_run_reactions", "log_key"),
            *("dynamic_partitions_requests", "asset_events", "automation_condition_evaluations"),
        ],
    }
    for what, shape in expected.items():
        assert found[what] == shape, MOVED.format(version=version("dagster"), what=what)


def test_conditions_are_told_apart_by_name_in_the_interface() -> None:
    snapshot = str(condition_of(CORPUS).get_snapshot())

    for each in (MayBeTried(1, 1), Stale()):
        assert each.name in snapshot


def condition_of(corpus: Corpus) -> dg.AutomationCondition[Any]:
    condition = repair_condition(corpus)
    assert condition is not None
    return condition
