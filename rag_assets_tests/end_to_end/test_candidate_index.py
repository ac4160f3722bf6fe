"""Changed settings are built beside what is read, in their hours; changed documents do not wait."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import dagster as dg
import pytest
from dagster import DagsterRunStatus as Status
from dagster._core.test_utils import create_run_for_test

from rag_assets import wiring
from rag_assets.answering import pipeline
from rag_assets.building import Builder
from rag_assets.components.corpus import PLATFORM, corpus_definitions
from rag_assets.materializing import RunReport, materialize
from rag_assets.model import (
    AutomationSettings,
    ChunkingSettings,
    Corpus,
    EmbeddingSettings,
    EvaluationSettings,
)
from rag_assets.resources import CORPUS_TAG, MAX_USD_TAG, RECIPE_TAG, REPAIR_TAG
from rag_assets.sensors import candidates
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.integration.flow import RUN, held, rows, value
from rag_assets_tests.services.embedding_service import KEY, EmbeddingService
from rag_assets_tests.services.faults import Faults


@pytest.fixture(autouse=True)
def environment(
    database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    monkeypatch.setenv("RAG_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAG_ASSETS_DATABASE_URL", database.owner)
    monkeypatch.setenv("RAG_ASSETS_WRITER_URL", database.writer)
    monkeypatch.setenv("RAG_ASSETS_READER_URL", database.reader)
    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    (folder / "roof.md").write_text("# The roof\n\nThe roof was repaired in March.\n")
    (folder / "garden.md").write_text("# The garden\n\nThe gardener waters the roses.\n")


@pytest.fixture
def service() -> Iterator[EmbeddingService]:
    with EmbeddingService() as running:
        yield running


@pytest.fixture
def changed(corpus: Corpus, service: EmbeddingService) -> Callable[[timedelta], Corpus]:
    """The corpus with another model, to be built in two hours that begin so long from now."""

    def with_window(begins: timedelta) -> Corpus:
        opens = datetime.now(UTC) + begins
        window = f"{opens:%H:%M}-{opens + timedelta(hours=2):%H:%M}"
        return replace(
            corpus,
            embedder="openai:words-256",
            embedding=EmbeddingSettings(service.openai_url, "LOOPBACK_KEY", dimensions=256),
            evaluation=EvaluationSettings(tolerance=1),
            automation=AutomationSettings(rebuild_window=window),
        )

    return with_window


def run(corpus: Corpus) -> RunReport:
    with dg.DagsterInstance.ephemeral() as instance:
        return materialize(corpus, instance=instance, buckets=range(corpus.buckets))


def daily(corpus: Corpus, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """What a change at the source begins."""
    return executed(corpus, corpus.name, instance)


def executed(
    corpus: Corpus, job: str, instance: dg.DagsterInstance, **tags: str
) -> dg.ExecuteInProcessResult:
    some = {
        "dagster/asset_partition_range_start": corpus.bucket_keys[0],
        "dagster/asset_partition_range_end": corpus.bucket_keys[-1],
    }
    found = corpus_definitions(corpus).resolve_job_def(job)
    return found.execute_in_process(instance=instance, raise_on_error=False, tags=some | tags)


def quotes(question: str, database: DatabaseUrls) -> str:
    return pipeline.answer(
        question,
        index=wiring.search_index(database),
        embedder_for=wiring.embedder_for,
        principals=["everyone"],
    ).text


def states(database: DatabaseUrls) -> list[str]:
    found = rows(database.writer, "SELECT state FROM generations ORDER BY generation")
    return [row["state"] for row in found]


@dataclass(slots=True)
class Shown:
    """A clock that shows what it was set to."""

    at: datetime

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()

    def pause(self, seconds: float, unless: Any = None) -> None:
        raise AssertionError("nobody waits")


def looks(
    corpus: Corpus, instance: dg.DagsterInstance, *, later: timedelta = timedelta()
) -> dg.RunRequest | str:
    """What the sensor asks for, or why it asks for nothing."""
    sensor = candidates.build(corpus, clock=Shown(datetime.now(UTC) + later))
    assert sensor is not None
    with dg.build_sensor_context(instance, resources={"platform": PLATFORM}) as context:
        found = sensor(context)
    assert isinstance(found, dg.SensorResult)
    if found.run_requests:
        [request] = found.run_requests
        return request
    return str(found.skip_reason.skip_message if found.skip_reason else "")


# --- in their hours ------------------------------------------------------------------------------


def test_outside_the_window_only_what_is_read_is_kept_up_to_date_and_inside_the_rest_is_built(
    corpus: Corpus,
    changed: Callable[[timedelta], Corpus],
    database: DatabaseUrls,
    service: EmbeddingService,
    folder: Path,
) -> None:
    run(corpus)
    closed, opened = changed(timedelta(hours=5)), changed(timedelta(hours=-1))
    (folder / "garden.md").write_text("# The garden\n\nThe gardener feeds the carp.\n")

    outside = run(closed)

    assert outside.failure is None
    assert [check.check for check in outside.checks if not check.passed] == []
    assert service.account.requests == 0
    assert "carp" in quotes("Who feeds the carp?", database)
    assert states(database) == ["published", "building"]
    with dg.DagsterInstance.ephemeral() as instance:
        assert "window is shut" in str(looks(closed, instance))
        request = looks(opened, instance)
        assert isinstance(request, dg.RunRequest)
        inside = executed(opened, "notes_candidate", instance, **request.tags)

        assert inside.success
        asked = Counter(text for served in service.served for text in served.texts if "\n" in text)
        assert list(asked.values()) == [1, 1], "the texts of today, each once"
        [row] = rows(database.writer, "SELECT embedder FROM published_index")
        assert row["embedder"].startswith("openai:words-256")
        assert "No index is to be built" in str(looks(opened, instance))


def test_a_corpus_that_was_never_published_does_not_wait(
    changed: Callable[[timedelta], Corpus], service: EmbeddingService
) -> None:
    assert run(changed(timedelta(hours=5))).failure is None
    assert service.account.requests > 0


# --- beside what is read -------------------------------------------------------------------------


FINE = ChunkingSettings(max_chars=120, min_chars=20)


@pytest.fixture
def fine(corpus: Corpus) -> Corpus:
    run(corpus)
    return replace(corpus, chunking=FINE, evaluation=EvaluationSettings(tolerance=1))


def test_a_daily_run_leaves_changed_settings_alone_and_their_build_leaves_the_source_alone(
    fine: Corpus, database: DatabaseUrls, folder: Path
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert daily(fine, instance).success
        assert states(database) == ["published"]
        (folder / "new.md").write_text("# New\n\nThe pond is new, and nobody has looked yet.\n")
        roof = (folder / "roof.md").read_text()
        (folder / "roof.md").unlink()

        assert executed(fine, "notes_candidate", instance).success

        assert states(database) == ["retired", "published"]
        served = rows(database.writer, "SELECT DISTINCT doc_id FROM index_2 ORDER BY 1")
        assert [row["doc_id"] for row in served] == ["garden.md", "roof.md"], "as it is stored"
        (folder / "roof.md").write_text(roof)
        assert daily(fine, instance).success
        for number in (1, 2):
            query = f"SELECT count(DISTINCT doc_id) AS documents FROM index_{number}"
            assert value(database.writer, query) == 3


class Holding(Faults):
    """A service that answers nobody before it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = Event(), Event()

    def next(self) -> None:
        self.begun.set()
        assert self.go_on.wait(60)


def test_a_changed_document_is_served_while_a_build_goes_on_and_the_build_catches_up(
    corpus: Corpus, database: DatabaseUrls, folder: Path
) -> None:
    run(corpus)
    holding = Holding()
    with (
        EmbeddingService(faults=holding) as service,
        dg.DagsterInstance.ephemeral() as instance,
        ThreadPoolExecutor(1) as pool,
    ):
        settings = EmbeddingSettings(service.openai_url, "LOOPBACK_KEY", dimensions=256)
        other = replace(corpus, embedder="openai:words-256", embedding=settings)
        builder = Builder(other, database)
        generation = builder.begun()
        assert generation is not None
        building = pool.submit(builder.build, generation, range(4), run=RUN)
        assert holding.begun.wait(60)

        (folder / "garden.md").write_text("# The garden\n\nThe gardener feeds the carp.\n")
        assert daily(other, instance).success

        assert "carp" in quotes("Who feeds the carp?", database)
        assert states(database) == ["published", "building"]
        assert not building.done()
        holding.go_on.set()
        assert building.result(60).complete
    assert states(database) == ["published", "candidate"]
    texts = [row["text"] for row in held(database, builder.begun() or generation)["rows"]]
    assert any("carp" in str(text) for text in texts)


def test_a_build_that_was_cancelled_meanwhile_ends_its_run_without_a_failure(
    fine: Corpus, database: DatabaseUrls
) -> None:
    builder = Builder(fine, database)
    generation = builder.begun()
    assert generation is not None
    builder.stores.generations.cancel("notes", reason="it was a mistake")

    built = builder.build(generation, range(4), run=RUN)

    assert built.ended is not None
    assert str(built.ended) == "cancelled: it was a mistake"
    assert states(database) == ["published", "cancelled"]
    assert not builder.wanted()
    assert builder.begun() is None
    assert builder.wanted(by_hand=True)


# --- without hands -------------------------------------------------------------------------------


def ended(
    corpus: Corpus,
    instance: dg.DagsterInstance,
    status: Status,
    *,
    by_hand: bool = False,
    limit: str | None = None,
) -> None:
    """A run of the build that has ended so, just now."""
    tags = {CORPUS_TAG: "notes", RECIPE_TAG: wiring.recipe_of(corpus).fingerprint}
    if not by_hand:
        tags[REPAIR_TAG] = "true"
    if limit is not None:
        tags[MAX_USD_TAG] = limit
    made = create_run_for_test(
        instance, job_name="notes_candidate", status=Status.STARTED, tags=tags
    )
    match status:
        case Status.FAILURE:
            instance.report_run_failed(made)
        case Status.CANCELED:
            instance.report_run_canceled(made)


def test_one_run_builds_at_a_time(fine: Corpus) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        request = looks(fine, instance)
        assert isinstance(request, dg.RunRequest)
        assert request.tags["dagster/asset_partition_range_end"] == "03"
        ended(fine, instance, Status.STARTED)
        assert looks(fine, instance) == "The build goes on."


def test_what_fails_is_tried_ever_more_seldom_and_then_given_up_until_somebody_asks(
    fine: Corpus, database: DatabaseUrls
) -> None:
    few = replace(fine, automation=AutomationSettings(attempts=2, retry_after_s=60))
    builder = Builder(few, database)
    assert builder.begun() is not None
    with dg.DagsterInstance.ephemeral() as instance:
        ended(few, instance, Status.FAILURE)
        assert "tried again" in str(looks(few, instance))
        assert isinstance(looks(few, instance, later=timedelta(seconds=61)), dg.RunRequest)
        ended(few, instance, Status.FAILURE)

        assert "given up after 2 runs" in str(looks(few, instance))

        assert states(database) == ["published", "failed"]
        assert "No index is to be built" in str(looks(few, instance, later=timedelta(days=3)))
        assert run(few).failure is None, "somebody has asked"
        assert states(database) == ["retired", "failed", "published"]


def test_a_daily_run_of_the_settings_before_leaves_the_build_alone(
    corpus: Corpus, fine: Corpus, database: DatabaseUrls
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert Builder(fine, database).begun()
        assert daily(corpus, instance).success
    assert states(database) == ["published", "building"]
    run(corpus)  # by hand, with the settings of now
    assert states(database) == ["published", "cancelled"]


def test_a_run_that_somebody_has_cancelled_is_left_to_people(fine: Corpus) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        ended(fine, instance, Status.CANCELED)
        assert "Somebody has cancelled" in str(looks(fine, instance, later=timedelta(days=3)))


def test_a_run_that_was_to_spend_no_more_is_not_gone_on_with_without_a_limit(fine: Corpus) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        ended(fine, instance, Status.FAILURE, by_hand=True, limit="1.50")
        assert "no more than $1.50" in str(looks(fine, instance, later=timedelta(days=3)))


def test_settings_that_are_taken_back_end_their_build_at_once(
    corpus: Corpus, fine: Corpus, database: DatabaseUrls
) -> None:
    assert Builder(fine, database).begun() is not None
    with dg.DagsterInstance.ephemeral() as instance:
        assert "No index is to be built" in str(looks(corpus, instance))
    assert states(database) == ["published", "cancelled"]


def test_settings_that_change_before_anything_was_published_are_built_without_hands(
    corpus: Corpus, database: DatabaseUrls
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        found = corpus_definitions(corpus)
        first = ("raw_documents", "chunks")
        found.resolve_implicit_global_asset_job_def().get_subset(
            asset_selection={dg.AssetKey(["notes", name]) for name in first}
        ).execute_in_process(
            instance=instance,
            tags={
                "dagster/asset_partition_range_start": "00",
                "dagster/asset_partition_range_end": "03",
            },
        )
        assert "No index is to be built" in str(looks(corpus, instance)), "daily runs do it"
        other = replace(corpus, chunking=FINE)
        request = looks(other, instance)
        assert isinstance(request, dg.RunRequest)
        assert executed(other, "notes_candidate", instance, **request.tags).success
    assert states(database) == ["cancelled", "published"]


def test_a_database_that_is_away_is_passed_over_once(
    fine: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = "postgresql://nobody@127.0.0.1:9/nothing"
    for name in ("DATABASE", "WRITER", "READER"):
        monkeypatch.setenv(f"RAG_ASSETS_{name}_URL", nobody)
    with dg.DagsterInstance.ephemeral() as instance:
        assert "No build was looked for" in str(looks(fine, instance))


def test_without_repair_nothing_is_built_without_hands(corpus: Corpus) -> None:
    assert candidates.build(replace(corpus, automation=AutomationSettings(repair=False))) is None
    assert candidates.build(replace(corpus, automation=AutomationSettings(attempts=0))) is None
