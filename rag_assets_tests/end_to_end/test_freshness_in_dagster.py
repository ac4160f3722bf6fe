"""Freshness, measurements and nightly work, through real Dagster."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from zoneinfo import ZoneInfo

import dagster as dg
import psycopg
import pytest
from dagster._core.test_utils import create_run_for_test

from rag_assets import wiring
from rag_assets.components.corpus import corpus_definitions
from rag_assets.materializing import materialize
from rag_assets.model import (
    AutomationSettings,
    Corpus,
    FreshnessSettings,
    ScheduleSettings,
    UpkeepSettings,
)
from rag_assets.resources import CORPUS_TAG, Platform
from rag_assets.sensors import freshness
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.integration.flow import Chain, rows, value

PAGES = {
    "roof.md": "# The roof\n\nSlate tiles replaced the shingles in March.\n",
    "garden.md": "# The garden\n\nThe gardener waters the roses each Tuesday.\n",
}
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def environment(database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAG_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAG_ASSETS_DATABASE_URL", database.owner)
    monkeypatch.setenv("RAG_ASSETS_WRITER_URL", database.writer)
    monkeypatch.setenv("RAG_ASSETS_READER_URL", database.reader)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def built(corpus: Corpus, folder: Path, instance: dg.DagsterInstance) -> Corpus:
    """Materialized once, with everything that is done in a run."""
    for name, text in PAGES.items():
        (folder / name).write_text(text)
    report = materialize(corpus, instance=instance, buckets=range(4))
    assert report.failure is None
    return corpus


@pytest.fixture
def indexed(corpus: Corpus, folder: Path, database: DatabaseUrls) -> Chain:
    """The same without Dagster, which takes a while."""
    for name, text in PAGES.items():
        (folder / name).write_text(text)
    chain = Chain(database, corpus)
    chain.run()
    chain.publish()
    chain.stores.sources.listed("notes", len(PAGES))
    return chain


@dataclass(slots=True)
class Hours:
    """A clock that is set by hand."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def monotonic(self) -> float:
        return self.at.timestamp()

    def now(self) -> datetime:
        return self.at

    def pause(self, seconds: float, *, unless: Event) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass(slots=True)
class Watching:
    """The sensor of a corpus, tick by tick, as the daemon evaluates it."""

    corpus: Corpus
    instance: dg.DagsterInstance
    clock: Hours = field(default_factory=Hours)
    cursor: str | None = None
    skipped: str | None = None
    events: Sequence[object] = ()

    def tick(self, *, after: timedelta = MINUTE) -> dict[str, dg.AssetCheckEvaluation]:
        """The checks that it tells of."""
        self.clock.at += after
        sensor = freshness.build(self.corpus, clock=self.clock)
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"platform": Platform()}
        ) as context:
            data = sensor.evaluate_tick(context)
        assert data.run_requests == []
        self.cursor, self.skipped = data.cursor, data.skip_message
        self.events = data.asset_events
        return {
            event.check_name: event
            for event in data.asset_events
            if isinstance(event, dg.AssetCheckEvaluation)
        }


@pytest.fixture
def watching(indexed: Chain, instance: dg.DagsterInstance) -> Watching:
    return Watching(indexed.corpus, instance)


# --- between runs --------------------------------------------------------------------------------


def test_what_is_fresh_is_told_once_and_then_every_quarter_of_an_hour(watching: Watching) -> None:
    first = watching.tick()
    assert {name: each.passed for name, each in first.items()} == {
        "corpus_freshness": True,
        "source_freshness": True,
    }
    told = [len(watching.tick()) for _ in range(20)]
    assert told == [0] * 14 + [2] + [0] * 5
    assert watching.skipped is not None
    assert "Every change that was seen is served." in watching.skipped


def test_a_changed_file_that_no_run_looks_at_fails_the_check_after_its_time_and_is_named(
    watching: Watching, folder: Path, indexed: Chain
) -> None:
    watching.tick()
    (folder / "roof.md").write_text("# The roof\n\nThatch.\n")
    found = watching.tick(after=15 * MINUTE)["corpus_freshness"]
    assert found.passed
    assert found.metadata["document"].value == "roof.md"
    assert found.metadata["cause"].value == "not seen yet"
    assert watching.tick() == {}, "it is as it was"
    late = watching.tick(after=61 * MINUTE)["corpus_freshness"]
    assert not late.passed
    assert late.severity is dg.AssetCheckSeverity.ERROR
    assert "roof.md has waited for 1 h" in (late.description or "")
    assert "notes_source" in (late.description or "")
    indexed.run()
    assert watching.tick()["corpus_freshness"].passed


def test_a_deleted_file_is_missed_too(watching: Watching, folder: Path) -> None:
    watching.tick()
    (folder / "roof.md").unlink()
    found = watching.tick(after=15 * MINUTE)["corpus_freshness"]
    assert found.metadata["document"].value == "roof.md"


def test_a_dead_letter_warns_and_no_more(
    watching: Watching, folder: Path, indexed: Chain, database: DatabaseUrls
) -> None:
    (folder / "bad.md").write_bytes(bytes(range(256)) * 8)
    indexed.run()
    with psycopg.connect(database.owner) as connection:
        connection.execute(
            "UPDATE rag_assets.dead_letters SET first_seen_at = now() - interval '2 days'"
        )
    found = watching.tick()["corpus_freshness"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "rag-assets dead-letters list notes" in (found.description or "")


def test_a_source_that_nobody_lists_fails_its_check(watching: Watching) -> None:
    assert watching.tick()["source_freshness"].passed
    found = watching.tick(after=61 * MINUTE)["source_freshness"]
    assert not found.passed
    assert found.asset_key == dg.AssetKey(["notes", "raw_documents"])


def test_what_waits_is_measured_each_time(
    watching: Watching, folder: Path, database: DatabaseUrls
) -> None:
    query = "SELECT count(*) FROM pipeline_metrics WHERE run_id = 'notes_watch'"
    watching.tick()
    watching.tick()
    assert value(database.owner, query) == 1
    wiring.stores(database).documents.add_hints("notes", ["roof.md"])
    watching.tick()
    watching.tick()
    assert value(database.owner, query) == 3
    [newest] = rows(
        database.owner, "SELECT waiting FROM pipeline_metrics ORDER BY measured_at DESC LIMIT 1"
    )
    assert newest == {"waiting": 1}


def test_dagster_keeps_what_the_sensor_tells(
    watching: Watching, instance: dg.DagsterInstance
) -> None:
    watching.tick()
    for event in watching.events:
        instance.report_runless_asset_event(event)  # type: ignore[arg-type] # as the daemon does
    key = dg.AssetCheckKey(dg.AssetKey(["notes", "published_index"]), "corpus_freshness")
    [summary] = instance.event_log_storage.get_asset_check_summary_records([key]).values()
    assert summary.last_check_execution_record is not None
    observed = instance.fetch_observations(dg.AssetKey(["notes", "pipeline_metrics"]), limit=1)
    [record] = observed.records
    assert record.asset_observation is not None
    assert record.asset_observation.metadata["waiting"].value == 0


def test_a_database_that_is_down_for_two_looks_in_a_row_fails_the_tick(
    watching: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    watching.tick()
    cursor = watching.cursor

    def is_away(*, looks: int) -> None:
        """Of one look it is the reason for a skip."""
        with monkeypatch.context() as away:
            away.setenv("RAG_ASSETS_WRITER_URL", "postgresql://nobody@127.0.0.1:9/none")
            assert watching.tick() == {}
            assert "No database at 127.0.0.1:9/none" in (watching.skipped or "")
            for _ in range(looks - 1):
                with pytest.raises(dg.Failure, match="It has been so since"):
                    watching.tick()

    for looks in (1, 1, 3):
        is_away(looks=looks)
        assert watching.tick() == {}, "nothing new: it knows what it has told"
        assert watching.cursor == cursor


def test_a_corpus_that_was_never_materialized_is_not_judged(
    corpus: Corpus, instance: dg.DagsterInstance
) -> None:
    watching = Watching(corpus, instance)
    assert watching.tick() == {}
    assert watching.skipped == "It was never materialized."


def test_a_cursor_of_another_version_is_as_good_as_none(watching: Watching) -> None:
    for cursor in ("nonsense", "[]", json.dumps({"gists": {}})):
        watching.cursor = cursor
        assert len(watching.tick()) == 2
    watching.tick()
    assert freshness.Watched.decoded(watching.cursor).encoded() == watching.cursor


# --- in a run ------------------------------------------------------------------------------------


def test_a_run_ends_with_its_measurements(
    built: Corpus, instance: dg.DagsterInstance, database: DatabaseUrls
) -> None:
    found = instance.get_latest_materialization_event(dg.AssetKey(["notes", "pipeline_metrics"]))
    assert found is not None
    assert found.asset_materialization is not None
    told = {name: each.value for name, each in found.asset_materialization.metadata.items()}
    assert (told["documents"], told["waiting"], told["failed_share"]) == (2, 0, 0)
    assert told["documents_an_hour"] == 2
    assert told["chunks_a_document"] == 1
    assert told["dagster/row_count"] == 1
    assert value(database.owner, "SELECT documents FROM pipeline_metrics") == 2


# --- at their hours ------------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A schedule is only given an instance that another process could open as well."""
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield instance


def schedules(corpus: Corpus) -> dict[str, dg.ScheduleDefinition]:
    """The nightly ones, by their names."""
    found = corpus_definitions(corpus).schedules or []
    return {
        each.name.removeprefix("notes_"): each
        for each in found
        if isinstance(each, dg.ScheduleDefinition)
    }


def test_each_schedule_has_its_hour_and_none_is_left_out(corpus: Corpus) -> None:
    berlin = replace(corpus, automation=AutomationSettings(timezone="Europe/Berlin"))
    assert {name: each.cron_schedule for name, each in schedules(berlin).items()} == {
        "reconciliation": "0 1 * * *",
        "quality": "0 2 * * *",
        "upkeep": "0 4 * * *",
    }
    assert {each.execution_timezone for each in schedules(berlin).values()} == {"Europe/Berlin"}
    assert {each.default_status for each in schedules(berlin).values()} == {
        dg.DefaultScheduleStatus.RUNNING
    }
    some = replace(corpus, schedules=ScheduleSettings(quality=None, upkeep="*/5 * * * *"))
    assert {name: each.cron_schedule for name, each in schedules(some).items()} == {
        "reconciliation": "0 1 * * *",
        "upkeep": "*/5 * * * *",
    }


def asked(
    corpus: Corpus, instance: dg.DagsterInstance, name: str
) -> dg.RunRequest | dg.SkipReason | object:
    at = datetime(2026, 5, 4, 2, tzinfo=ZoneInfo("UTC"))
    with dg.build_schedule_context(instance=instance, scheduled_execution_time=at) as context:
        data = schedules(corpus)[name].evaluate_tick(context)
    return data.run_requests[0] if data.run_requests else data.skip_message


def test_a_reconciliation_looks_at_all_buckets_without_hints(
    corpus: Corpus, kept: dg.DagsterInstance
) -> None:
    request = asked(corpus, kept, "reconciliation")
    assert isinstance(request, dg.RunRequest)
    assert schedules(corpus)["reconciliation"].job_name == "notes"
    told = {name: each for name, each in request.tags.items() if "schedule_name" not in name}
    assert told == {
        CORPUS_TAG: "notes",
        "dagster/asset_partition_range_start": "00",
        "dagster/asset_partition_range_end": "03",
    }


@pytest.mark.parametrize("name", ["reconciliation", "quality", "upkeep"])
def test_nothing_is_asked_for_while_the_last_one_goes_on(
    corpus: Corpus, kept: dg.DagsterInstance, name: str
) -> None:
    def goes_on(status: dg.DagsterRunStatus, *, of: str) -> None:
        create_run_for_test(
            kept,
            job_name=schedules(corpus)[of].job_name,
            status=status,
            tags={"dagster/schedule_name": f"notes_{of}"},
        )

    for other in {"reconciliation", "quality", "upkeep"} - {name}:
        goes_on(dg.DagsterRunStatus.STARTED, of=other)
    goes_on(dg.DagsterRunStatus.SUCCESS, of=name)
    assert isinstance(asked(corpus, kept, name), dg.RunRequest)
    goes_on(dg.DagsterRunStatus.STARTING, of=name)
    assert "still goes on" in str(asked(corpus, kept, name))


def run_job(corpus: Corpus, instance: dg.DagsterInstance, name: str) -> dg.ExecuteInProcessResult:
    job = corpus_definitions(corpus).resolve_job_def(f"notes_{name}")
    assert job.tags[CORPUS_TAG] == "notes"
    return job.execute_in_process(instance=instance, raise_on_error=False)


def test_the_nightly_quality_job_judges_all_that_is_stored_and_scores_it(
    built: Corpus, instance: dg.DagsterInstance
) -> None:
    result = run_job(built, instance, "quality")
    judged = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert result.success
    assert {"expectations", "stored_soundly", "recall", "gate"} <= set(judged)
    assert [name for name, each in judged.items() if not each.passed] == []
    materialized = {
        event.asset_key.path[-1]
        for event in result.get_asset_materialization_events()
        if event.asset_key
    }
    assert materialized == {"eval_scores"}


def test_upkeep_takes_away_what_nothing_uses_and_says_so(
    built: Corpus, instance: dg.DagsterInstance, folder: Path, database: DatabaseUrls
) -> None:
    (folder / "roof.md").write_text("# The roof\n\nThatch.\n")
    materialize(built, instance=instance, buckets=range(4))
    with psycopg.connect(database.owner) as connection:
        connection.execute("SET search_path = rag_assets")
        for table, column in (
            ("document_texts", "created_at"),
            ("chunk_sets", "created_at"),
            ("document_versions", "last_seen_at"),
        ):
            connection.execute(
                f"UPDATE {table} SET {column} = {column} - interval '40 days'".encode()
            )
    result = run_job(
        replace(built, upkeep=UpkeepSettings(keep_versions_days=60)), instance, "upkeep"
    )
    assert figures(result, "collect")["texts"] == 0
    result = run_job(built, instance, "upkeep")
    assert result.success
    told = figures(result, "collect")
    assert (told["texts"], told["chunk_sets"], told["embeddings"]) == (1, 1, 1)
    assert "tables" in figures(result, "vacuum")
    assert wiring.stores(database).verifying.verify("notes") == []


def figures(result: dg.ExecuteInProcessResult, op: str) -> dict[str, object]:
    [event] = [
        each
        for each in result.events_for_node(f"notes_{op}")
        if each.event_type_value == "STEP_OUTPUT"
    ]
    return {name: each.value for name, each in event.step_output_data.metadata.items()}


def test_the_settings_decide_when_a_wait_is_too_long(watching: Watching, folder: Path) -> None:
    watching.corpus = replace(watching.corpus, freshness=FreshnessSettings(waiting_fail_min=5))
    watching.tick()
    (folder / "roof.md").write_text("# The roof\n\nThatch.\n")
    assert not watching.tick(after=15 * MINUTE)["corpus_freshness"].passed
