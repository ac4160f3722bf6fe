"""A corpus that fails in real Dagster: people are told once for each cause, and when it is over."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import dagster as dg
import pytest

from rag_assets import wiring
from rag_assets.components.corpus import corpus_definitions
from rag_assets.materializing import RunReport, materialize
from rag_assets.model import (
    AlertSettings,
    Corpus,
    EmbeddingSettings,
    EvaluationSettings,
    FreshnessSettings,
)
from rag_assets.operations.alerting import KIND_OF_CHECK, QUIET, read_state
from rag_assets.resources import CORPUS_TAG, Platform
from rag_assets.sensors import alerts
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.end_to_end.command_line import Shell
from rag_assets_tests.services.alert_service import SLACK_TOKEN, AlertService, Trouble
from rag_assets_tests.services.embedding_service import KEY, EmbeddingService

CHANNELS = AlertSettings(
    slack_webhook_env="ALERT_SLACK",
    pagerduty_key_env="ALERT_PAGERDUTY",
    webhook_url_env="ALERT_WEBHOOK",
    webhook_secret_env="ALERT_SECRET",
)


@dataclass
class Watch:
    """The time of the machine, and as much later as a test wants; pauses take no time."""

    later: timedelta = timedelta()

    def monotonic(self) -> float:
        return 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + self.later

    def pause(self, seconds: float, *, unless: Event) -> None:
        """Nobody waits in a test."""


@dataclass
class Pager:
    """The sensor of a corpus, looked through as the daemon does: its cursor is all it keeps."""

    corpus: Corpus
    instance: dg.DagsterInstance
    service: AlertService
    clock: Watch
    cursor: str | None = None
    said: str = ""

    def look(self) -> list[str]:
        """What the webhook was told by one tick."""
        before = len(self.service.taken("webhook"))
        repository = corpus_definitions(self.corpus).get_repository_def()
        sensor = alerts.build(self.corpus, clock=self.clock)
        assert sensor is not None
        with dg.build_sensor_context(
            self.instance,
            self.cursor,
            repository_def=repository,
            sensor_name=sensor.name,
            resources={"platform": Platform()},
        ) as context:
            tick = sensor.evaluate_tick(context)
        self.cursor, self.said = tick.cursor, tick.skip_message or ""
        return [
            f"{told['phase']} {told['cause']}" for told in self.service.taken("webhook")[before:]
        ]

    def run(self, buckets: Sequence[int] = (0, 1)) -> RunReport:
        return materialize(self.corpus, instance=self.instance, buckets=buckets)


@pytest.fixture(autouse=True)
def environment(
    database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    monkeypatch.delenv("LOOPBACK_KEY", raising=False)
    monkeypatch.setenv("RAG_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAG_ASSETS_UI_URL", "https://dagster.example.com")
    monkeypatch.setenv("RAG_ASSETS_DATABASE_URL", database.owner)
    monkeypatch.setenv("RAG_ASSETS_WRITER_URL", database.writer)
    monkeypatch.setenv("RAG_ASSETS_READER_URL", database.reader)
    for number in range(12):
        text = f"# Page {number}\n\nThe keeper of room {number} waters the roses on Tuesday.\n"
        (folder / f"page-{number}.md").write_text(text)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[AlertService]:
    with AlertService() as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


@pytest.fixture
def pager(corpus: Corpus, service: AlertService) -> Iterator[Pager]:
    told = replace(
        corpus,
        buckets=2,
        alerts=CHANNELS,
        evaluation=EvaluationSettings(tolerance=1),
        freshness=FreshnessSettings(source_fail_min=1),
    )
    with dg.DagsterInstance.ephemeral() as instance:
        yield Pager(told, instance, service, Watch())


def test_a_model_that_refuses_is_told_once_however_often_it_is_tried(
    pager: Pager, service: AlertService, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddingService() as model:
        embedding = EmbeddingSettings(model.openai_url, "LOOPBACK_KEY", dimensions=256)
        pager.corpus = replace(pager.corpus, embedder="openai:words-256", embedding=embedding)
        assert pager.look() == []

        monkeypatch.setenv("LOOPBACK_KEY", "sk-wrong")
        for _ in range(3):
            assert pager.run().failure
        [opened] = pager.look()
        assert opened == "opened run_failed:embeddings:ProviderRefusalError"
        assert pager.look() == []

        monkeypatch.setenv("LOOPBACK_KEY", KEY)
        pager.run(buckets=[0])
        assert pager.look() == [], "that the other buckets still wait has the same cause"
        assert pager.run().failure is None
        assert pager.look() == [opened.replace("opened", "recovered")]
        assert pager.look() == []

    told = service.taken("webhook")[0]
    assert told["count"] >= 2
    assert told["run_url"].startswith("https://dagster.example.com/runs/")
    assert "LOOPBACK_KEY" in told["detail"]
    assert len(service.taken("slack")) == 2
    events = service.taken("pagerduty")
    assert [event["event_action"] for event in events] == ["trigger", "resolve"]


def test_a_run_that_was_mended_before_anybody_looked_is_not_told(
    pager: Pager, folder: Path
) -> None:
    folder.rename(folder.with_name("elsewhere"))
    assert pager.run().failure
    folder.with_name("elsewhere").rename(folder)
    assert pager.run().failure is None

    assert pager.look() == []


def test_a_source_that_cannot_be_listed_is_one_cause_wherever_it_shows(
    pager: Pager, folder: Path, database: DatabaseUrls
) -> None:
    pager.run()
    away = folder.rename(folder.with_name("elsewhere"))
    assert pager.run().failure
    sources = wiring.stores(database).sources
    sources.failed(pager.corpus.name, "The folder is not there.")
    pager.clock.later = timedelta(minutes=5)

    assert pager.look() == ["opened source_unlistable"]
    away.rename(folder)
    assert pager.look() == []
    pager.run()
    assert pager.look() == ["recovered source_unlistable"]


def test_documents_that_cannot_be_read_are_a_warning_that_wakes_nobody(
    pager: Pager, service: AlertService, folder: Path, database: DatabaseUrls
) -> None:
    for name in ("torn.pdf", "cut.pdf"):
        (folder / name).write_bytes(b"%PDF-1.7 torn off")
    pager.run()

    [opened] = pager.look()
    assert opened.startswith("opened dead_letters:parse:")
    assert service.taken("webhook")[0]["count"] == 2
    assert service.taken("pagerduty") == []
    for name in ("torn.pdf", "cut.pdf"):
        (folder / name).unlink()
    pager.run()
    assert pager.look() == [opened.replace("opened", "recovered")]


def test_withheld_deletions_are_told_until_the_documents_are_back(
    pager: Pager, folder: Path
) -> None:
    pages = {page: page.read_text() for page in folder.iterdir()}
    pager.run()
    for page in pages:
        page.unlink()
    (folder / "other.md").write_text("# Other\n\nSomething else.\n")
    pager.run()

    assert pager.look() == ["opened deletions_withheld:too many"]
    for page, text in pages.items():
        page.write_text(text)
    pager.run()
    assert pager.look() == ["recovered deletions_withheld:too many"]


def test_a_database_that_is_down_is_told_and_hides_nothing_else(
    pager: Pager, folder: Path, database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "torn.pdf").write_bytes(b"%PDF-1.7 torn off")
    pager.run()
    [letter] = pager.look()
    for name in ("DATABASE", "WRITER", "READER"):
        monkeypatch.setenv(f"RAG_ASSETS_{name}_URL", "postgresql://u:canary-pw@127.0.0.1:1/rag")
    assert pager.run().failure

    assert pager.look() == ["opened database_failing"]
    assert pager.look() == []
    assert "canary-pw" not in str(pager.service.came)
    for name, url in zip(
        ("DATABASE", "WRITER", "READER"),
        (database.owner, database.writer, database.reader),
        strict=True,
    ):
        monkeypatch.setenv(f"RAG_ASSETS_{name}_URL", url)
    assert pager.look() == [], "the run that failed has not been made good yet"
    pager.run()
    assert pager.look() == ["recovered database_failing"]
    (folder / "torn.pdf").unlink()
    pager.run()
    assert pager.look() == [letter.replace("opened", "recovered")]


def test_a_database_that_is_away_for_one_look_wakes_nobody(
    pager: Pager, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pager.run().failure is None
    nowhere = "postgresql://u:canary-pw@127.0.0.1:1/rag"
    with monkeypatch.context() as away:
        away.setenv("RAG_ASSETS_WRITER_URL", nowhere)
        assert pager.look() == []
    assert pager.look() == []

    with monkeypatch.context() as away:
        away.setenv("RAG_ASSETS_WRITER_URL", nowhere)
        assert pager.look() == []
        first = pager.clock.now()
        pager.clock.later = timedelta(minutes=1)
        assert pager.look() == ["opened database_failing"]
        assert datetime.fromisoformat(pager.service.taken("webhook")[-1]["since"]) <= first
    assert pager.look() == ["recovered database_failing"]


def test_a_run_whose_process_died_is_told(pager: Pager) -> None:
    job = corpus_definitions(pager.corpus).resolve_job_def(pager.corpus.name)
    run = pager.instance.create_run_for_job(
        job, tags={CORPUS_TAG: pager.corpus.name, "dagster/partition": "01"}
    )
    pager.instance.report_run_failed(run, "The process of this run was killed.")

    assert pager.look() == ["opened run_lost"]
    assert pager.look() == []
    pager.run()
    assert pager.look() == ["recovered run_lost"]


def test_runs_of_others_are_none_of_its_business(pager: Pager) -> None:
    job = corpus_definitions(pager.corpus).resolve_job_def(pager.corpus.name)
    run = pager.instance.create_run_for_job(job, tags={CORPUS_TAG: "others"})
    pager.instance.report_run_failed(run, "The process of this run was killed.")

    assert pager.look() == []


def test_a_check_that_fails_is_told_with_what_it_found(pager: Pager) -> None:
    def evaluated(*, passed: bool) -> None:
        key = dg.AssetKey([pager.corpus.name, "chunks"])
        pager.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=key,
                check_name="characters_match",
                passed=passed,
                description="2 chunks do not stand where they say",
            )
        )

    evaluated(passed=False)
    assert pager.look() == ["opened check_failed:chunks:characters_match"]
    evaluated(passed=False)
    assert pager.look() == []
    evaluated(passed=True)
    assert pager.look() == ["recovered check_failed:chunks:characters_match"]
    assert pager.service.taken("webhook")[0]["detail"] == "2 chunks do not stand where they say"


def test_a_gate_that_refuses_is_one_message_and_no_failed_run_beside_it(pager: Pager) -> None:
    pager.run()
    pager.look()
    pager.corpus = replace(
        pager.corpus,
        chunking=replace(pager.corpus.chunking, max_chars=300, min_chars=100),
        evaluation=EvaluationSettings(tolerance=1, floors={"recall@10": 1.1}),
    )
    assert pager.run().failure

    assert pager.look() == ["opened candidate_refused"]
    assert pager.look() == []


def test_a_channel_that_is_down_is_shown_by_the_tick_and_is_told_later(
    pager: Pager, service: AlertService, folder: Path
) -> None:
    (folder / "torn.pdf").write_bytes(b"%PDF-1.7 torn off")
    pager.run()
    service.take_down("slack", Trouble.BROKEN)

    assert len(pager.look()) == 1
    assert pager.said.startswith("Slack could not be told: Slack answered 500")
    assert service.taken("slack") == []
    service.bring_back("slack")
    assert pager.look() == []
    assert len(service.taken("slack")) == 1
    assert pager.said == "Slack was told 1"


def test_publishing_is_told_where_that_is_wanted(pager: Pager, service: AlertService) -> None:
    pager.corpus = replace(pager.corpus, alerts=replace(CHANNELS, successes=True))
    pager.run()
    pager.run()

    assert pager.look() == ["news published"]
    assert pager.look() == []
    assert service.taken("webhook")[0]["title"] == "Generation 1 is published"
    assert service.taken("pagerduty") == []


def test_a_lost_cursor_repeats_what_is_open_and_nothing_that_is_over(
    pager: Pager, folder: Path
) -> None:
    (folder / "torn.pdf").write_bytes(b"%PDF-1.7 torn off")
    away = folder.with_name("elsewhere")
    pager.run()
    folder.rename(away)
    pager.run()
    away.rename(folder)
    pager.run()
    [letter] = pager.look()

    pager.cursor = None
    assert pager.look() == [letter]
    pager.clock.later = 2 * QUIET
    assert pager.look() == []
    cursor = str(pager.cursor)
    assert len(cursor) < 2000
    assert read_state(cursor).told["Slack"]


@pytest.fixture
def shell(tmp_path: Path, service: AlertService) -> Shell:
    """A corpus with all channels, and one with none."""
    for name, more in (("notes", DECLARED), ("quiet", "")):
        (tmp_path / "defs" / name).mkdir(parents=True)
        (tmp_path / "defs" / name / "defs.yaml").write_text(
            "type: rag_assets.components.Corpus\n"
            f"attributes:\n  source: {{local_files: {{path: ../../documents}}}}\n{more}"
        )
    return Shell(tmp_path, tmp_path / "home")


DECLARED = """\
  alerts:
    slack_webhook_env: ALERT_SLACK
    pagerduty_key_env: ALERT_PAGERDUTY
    webhook_url_env: ALERT_WEBHOOK
    webhook_secret_env: ALERT_SECRET
"""


def test_the_command_line_tries_every_channel_and_says_what_came_back(
    shell: Shell, service: AlertService
) -> None:
    done = shell.run_here("alerts", "test", "notes")

    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "✓ Slack        answered 200 (ok)",
        "✓ PagerDuty    answered 202 (success), then answered 202 (success)",
        "✓ webhook      answered 204",
    ]
    assert service.taken("webhook")[0]["phase"] == "trial"

    service.take_down("slack", Trouble.GONE)
    failed = shell.run_here("alerts", "test", "notes", "--json", ALERT_WEBHOOK="")
    assert failed.code == 1
    assert [each["taken"] for each in failed.json] == [False, True, False]
    assert failed.json[0]["said"] == "Slack answered 404 (no_service)"
    assert failed.json[2]["said"].startswith("ALERT_WEBHOOK is not set")
    assert SLACK_TOKEN not in done.out + failed.out + failed.err


def test_the_command_line_says_how_to_name_somebody(shell: Shell) -> None:
    assert "quiet names nobody who is to be told. Add 'alerts:'" in (
        shell.run_here("alerts", "test", "quiet").error
    )


def test_every_check_that_means_something_of_its_own_exists(corpus: Corpus) -> None:
    """And each names the page that says what to do when it fails."""
    checks = corpus_definitions(corpus).asset_checks or ()
    specs = [
        spec
        for each in checks
        if isinstance(each, dg.AssetChecksDefinition)
        for spec in each.check_specs
    ]

    assert {spec.name for spec in specs} >= KIND_OF_CHECK.keys()
    pages = {spec.name: str(spec.metadata["rag_assets/runbook"]) for spec in specs}
    assert pages["gate"] == "docs/runbooks/candidate-refused.md"
    assert all((Path(__file__).parents[2] / page).is_file() for page in pages.values())


def test_a_corpus_that_names_nobody_has_no_such_sensor(corpus: Corpus) -> None:
    assert alerts.build(corpus) is None
    names = {sensor.name for sensor in corpus_definitions(corpus).sensors or ()}
    assert f"{corpus.name}_alerts" not in names
