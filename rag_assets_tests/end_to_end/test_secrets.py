"""Everything that can fail fails, with secrets that can be recognised; then they are looked for."""

import logging
import os
import pickle
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import dagster as dg
import pytest
from click.testing import CliRunner

from rag_assets import wiring
from rag_assets.adapters.postgres.connections import connect
from rag_assets.cli import main
from rag_assets.components.corpus import corpus_definitions
from rag_assets.errors import RagAssetsError
from rag_assets.installation import dagster_of
from rag_assets.materializing import instance_of, materialize
from rag_assets.model import AlertSettings, Corpus, EmbeddingSettings, EvaluationSettings
from rag_assets.resources import Platform
from rag_assets.settings import DatabaseUrls, Settings
from rag_assets_tests.services.alert_service import (
    PAGERDUTY_KEY,
    SLACK_TOKEN,
    WEBHOOK_SECRET,
    AlertService,
    Trouble,
)
from rag_assets_tests.services.canaries import Canaries
from rag_assets_tests.services.embedding_service import Behaviour, EmbeddingService
from rag_assets_tests.services.faults import Fault
from rag_assets_tests.services.object_store import ObjectStore

pytestmark = pytest.mark.timeout(600)

MODEL_KEY = "sk-canary-model-key-0123456789abcdef"
WRONG_KEY = "sk-canary-wrong-key-0123456789abcdef"
AWS_SECRET = "canaryAwsSecret0123456789abcdefABCDEF"
WRONG_PASSWORD = "canaryWrongPassword0123456789"
ALERTS = AlertSettings("ALERT_SLACK", "ALERT_PAGERDUTY", "ALERT_WEBHOOK", "ALERT_SECRET", True)
URLS = ("RAG_ASSETS_DATABASE_URL", "RAG_ASSETS_WRITER_URL", "RAG_ASSETS_READER_URL")


@dataclass
class World:
    """A corpus with a hosted model, an alert service, and all that is said and kept of them."""

    corpus: Corpus
    home: Path
    instance: dg.DagsterInstance
    model: EmbeddingService
    alerts: AlertService
    patch: pytest.MonkeyPatch
    said: list[str] = field(default_factory=list)
    cursors: dict[str, str | None] = field(default_factory=dict)

    def run(self, corpus: Corpus | None = None) -> str | None:
        report = materialize(corpus or self.corpus, instance=self.instance, buckets=range(2))
        self.said.append(repr(report))
        return report.failure

    def tick(self, corpus: Corpus | None = None) -> None:
        """Every sensor of the corpus, as far as it can be looked through here."""
        made = corpus_definitions(corpus or self.corpus)
        repository = made.get_repository_def()
        for sensor in made.sensors or ():
            if not isinstance(sensor, dg.AutomationConditionSensorDefinition):
                self._tick(sensor, repository)

    def _tick(self, sensor: dg.SensorDefinition, repository: dg.RepositoryDefinition) -> None:
        with dg.build_sensor_context(
            self.instance,
            self.cursors.get(sensor.name),
            repository_def=repository,
            sensor_name=sensor.name,
            resources={"platform": Platform()},
        ) as context:
            try:
                tick = sensor.evaluate_tick(context)
            except dg.Failure as failure:  # what it saw was so before; it is kept as it is
                self.said += traceback.format_exception(failure)
                return
        self.cursors[sensor.name] = tick.cursor
        self.said += [repr(tick), tick.cursor or "", tick.skip_message or ""]

    def command(self, *words: str) -> None:
        done = CliRunner().invoke(main, words, env=dict(os.environ))
        self.said += [done.output, repr(done.exception)]

    def refused(self, call: Callable[[], object]) -> None:
        """With its whole chain, and what a debugger's repr would show."""
        with pytest.raises(RagAssetsError) as caught:
            call()
        chain: BaseException | None = caught.value
        while chain is not None:
            self.said += [*traceback.format_exception(chain), repr(chain), repr(chain.args)]
            chain = chain.__context__


@pytest.fixture
def words(database: DatabaseUrls) -> dict[str, str]:
    passwords = {
        f"password of the {name}": unquote(str(urlsplit(url).password))
        for name, url in (
            ("owner", database.owner),
            ("writer", database.writer),
            ("reader", database.reader),
        )
    }
    return passwords | {
        "model key": MODEL_KEY,
        "wrong model key": WRONG_KEY,
        "AWS secret": AWS_SECRET,
        "wrong password": WRONG_PASSWORD,
        "Slack address": SLACK_TOKEN,
        "PagerDuty key": PAGERDUTY_KEY,
        "webhook address": "webhook-url-canary",
        "webhook secret": WEBHOOK_SECRET,
    }


@pytest.fixture
def world(
    corpus: Corpus,
    database: DatabaseUrls,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    home = tmp_path / "home"
    with EmbeddingService(Behaviour(keys=(MODEL_KEY,))) as model, AlertService() as alerts:
        environment = {
            "RAG_ASSETS_HOME": str(home),
            "RAG_ASSETS_DEFS": str(tmp_path / "defs"),
            "LOOPBACK_KEY": MODEL_KEY,
            **alerts.environment,
            **dict(zip(URLS, (database.owner, database.writer, database.reader), strict=True)),
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for number in range(8):
            (folder / f"{number}.md").write_text(
                f"# Page {number}\n\nThe roof of house {number}.\n"
            )
        hosted = replace(
            corpus,
            buckets=2,
            embedder="openai:words-256",
            embedding=EmbeddingSettings(model.openai_url, "LOOPBACK_KEY", dimensions=256),
            evaluation=EvaluationSettings(tolerance=1),
            alerts=ALERTS,
        )
        dagster_home = dagster_of(Settings.from_environment()).prepared_home()
        with instance_of(dagster_home) as instance:
            yield World(hosted, home, instance, model, alerts, monkeypatch)


def a_wrong_key_is_repeated_by_the_provider(world: World) -> None:
    world.patch.setenv("LOOPBACK_KEY", WRONG_KEY)
    assert world.run()
    world.tick()
    world.patch.setenv("LOOPBACK_KEY", MODEL_KEY)


def a_provider_is_broken_and_comes_back(world: World) -> None:
    world.model.fail(Fault.SERVER_ERROR, Fault.OVERLOADED, Fault.NOT_JSON, Fault.CLOSED)
    assert world.run() is None
    world.tick()
    world.command("status")
    world.command("ask", "What is on the roof?")


def everything_is_checked_as_in_the_night(world: World) -> None:
    """Great Expectations reaches the database with a URL of its own, and writes pages."""
    made = corpus_definitions(world.corpus)
    job = made.resolve_job_def(f"{world.corpus.name}_quality")
    done = job.execute_in_process(instance=world.instance, raise_on_error=False)
    world.said.append(repr(done))
    assert [*world.home.glob("data_docs/**/*.html")], "there are pages to be searched"


def the_database_refuses(world: World, database: DatabaseUrls) -> None:
    wrong = database.writer.replace(str(urlsplit(database.writer).password), WRONG_PASSWORD)
    over_tcp = f"postgresql://walt:{WRONG_PASSWORD}@127.0.0.1:1/rag"
    for url in (wrong, over_tcp, f"{over_tcp}?nosuch={WRONG_PASSWORD}", f"{over_tcp}?sslmode=x"):
        world.patch.setenv("RAG_ASSETS_WRITER_URL", url)
        world.command("doctor")
        world.refused(lambda: _connected(Settings.from_environment()))
    assert world.run()
    world.tick()
    world.patch.setenv(
        "RAG_ASSETS_WRITER_URL", f"postgresql://walt:{WRONG_PASSWORD}@{WRONG_PASSWORD}@x/y"
    )
    world.refused(Settings.from_environment)
    world.command("status")
    world.patch.setenv("RAG_ASSETS_WRITER_URL", database.writer)


def _connected(settings: Settings) -> None:
    with connect(wiring.database_urls(settings).writer):
        pass


def a_source_cannot_be_listed(world: World) -> None:
    folder = Path(getattr(world.corpus.source, "path", ""))
    away = folder.rename(folder.with_name("elsewhere"))
    assert world.run()
    world.tick()
    away.rename(folder)
    with ObjectStore() as store:
        for name, value in {**store.environment, "AWS_SECRET_ACCESS_KEY": AWS_SECRET}.items():
            world.patch.setenv(name, value)
        pages = replace(world.corpus, name="pages", source=store.settings("nosuch-bucket"))
        assert world.run(pages)
        world.tick(pages)


def nobody_can_be_told(world: World) -> None:
    for trouble in (Trouble.BROKEN, Trouble.CLOSED, Trouble.REDIRECT):
        for channel in ("slack", "pagerduty", "webhook"):
            world.alerts.take_down(channel, trouble)
        world.cursors = {}
        world.tick()
    defs = Path(os.environ["RAG_ASSETS_DEFS"]) / "notes"
    defs.mkdir(parents=True)
    (defs / "defs.yaml").write_text(
        "type: rag_assets.components.Corpus\nattributes:\n"
        "  source: {local_files: {path: ../../documents}}\n"
        "  alerts: {slack_webhook_env: ALERT_SLACK, pagerduty_key_env: ALERT_PAGERDUTY}\n"
    )
    world.command("alerts", "test", "notes")
    world.patch.setenv("ALERT_SLACK", SLACK_TOKEN)
    world.command("alerts", "test", "notes")


def events_of(instance: dg.DagsterInstance) -> str:
    """All that Dagster gives out of its runs, with errors and their causes."""
    return "\n".join(
        f"{entry!r} {entry.user_message} {entry.dagster_event!r}"
        for run in instance.get_runs()
        for entry in instance.all_logs(run.run_id)
    )


def test_no_secret_is_shown_or_kept_whatever_fails(
    world: World,
    words: dict[str, str],
    database: DatabaseUrls,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    canaries = Canaries(words)
    with caplog.at_level(logging.DEBUG):
        a_wrong_key_is_repeated_by_the_provider(world)
        a_provider_is_broken_and_comes_back(world)
        everything_is_checked_as_in_the_night(world)
        the_database_refuses(world, database)
        a_source_cannot_be_listed(world)
        nobody_can_be_told(world)
    out, err = capfd.readouterr()

    assert len(world.alerts.came) >= 9, "each channel was asked, and failed"
    assert {"LOOPBACK_KEY", "Slack", "nosuch-bucket", "password authentication failed"} <= {
        word
        for word in ("LOOPBACK_KEY", "Slack", "nosuch-bucket", "password authentication failed")
        if word in "".join(world.said)
    }, "what was to fail has failed, and was told"
    assert len(world.instance.get_runs()) == 6
    assert canaries.in_text("".join(world.said)) == set()
    assert canaries.in_text(out + err) == set()
    assert canaries.in_text(caplog.text) == set()
    assert canaries.in_text(events_of(world.instance)) == set()
    assert canaries.in_folder(world.home) == set()


def test_the_search_finds_a_secret_wherever_one_could_be(world: World, tmp_path: Path) -> None:
    canaries = Canaries({"seeded": WRONG_KEY, "other": AWS_SECRET})
    assert canaries.in_folder(world.home) == set()

    @dg.asset(description=f"In the definition, which Dagster keeps packed: {WRONG_KEY}")
    def careless(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        context.log.info(f"using {WRONG_KEY}")
        raise dg.Failure(description="It failed", metadata={"key": AWS_SECRET})

    dg.materialize([careless], instance=world.instance, raise_on_error=False)
    found = canaries.in_folder(world.home)

    assert {name for _, name in found} == {"seeded", "other"}
    packed = world.home / "dagster" / "history" / "runs.db"
    assert (packed.relative_to(world.home).as_posix(), "seeded") in found
    assert WRONG_KEY.encode() not in packed.read_bytes(), "it is found where it is packed"
    assert canaries.in_text(events_of(world.instance)) == {"seeded", "other"}
    for form in (WRONG_KEY.encode().hex(), pickle.dumps(WRONG_KEY).hex()):
        assert canaries.in_text(f"... {form} ...") == {"seeded"}
