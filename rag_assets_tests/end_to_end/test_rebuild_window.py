"""Changed settings wait for their hours; changed documents do not."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from rag_assets import wiring
from rag_assets.answering import pipeline
from rag_assets.components.corpus import PLATFORM
from rag_assets.materializing import RunReport, materialize
from rag_assets.model import AutomationSettings, Corpus, EmbeddingSettings, EvaluationSettings
from rag_assets.resources import CORPUS_TAG
from rag_assets.schedules import rebuild
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.integration.flow import rows
from rag_assets_tests.services.embedding_service import KEY, EmbeddingService


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


def quotes(question: str, database: DatabaseUrls) -> str:
    return pipeline.answer(
        question,
        index=wiring.search_index(database),
        embedder_for=wiring.embedder_for,
        principals=["everyone"],
    ).text


def scheduled(
    corpus: Corpus, *, instance: dg.DagsterInstance | None = None
) -> dg.RunRequest | dg.SkipReason:
    schedule = rebuild.build(corpus)
    assert schedule is not None
    with (
        dg.DagsterInstance.local_temp() as new,
        dg.build_schedule_context(
            instance or new,
            scheduled_execution_time=datetime.now(UTC),
            resources={"platform": PLATFORM},
        ) as context,
    ):
        found = schedule(context)
    assert isinstance(found, dg.RunRequest | dg.SkipReason)
    return found


def reason(found: dg.RunRequest | dg.SkipReason) -> str:
    assert isinstance(found, dg.SkipReason)
    return found.skip_message or ""


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
    states = rows(database.writer, "SELECT state FROM generations ORDER BY generation")
    assert [row["state"] for row in states] == ["published", "building"]
    assert "is shut" in reason(scheduled(closed))
    request = scheduled(opened)
    assert isinstance(request, dg.RunRequest)
    looks = dg.AssetKey([corpus.name, "raw_documents"])
    assert looks not in (request.asset_selection or ()), "changes have runs of their own"

    inside = run(opened)

    assert inside.failure is None
    asked = Counter(text for served in service.served for text in served.texts if "\n" in text)
    assert list(asked.values()) == [1, 1], "the texts of today, each once"
    [row] = rows(database.writer, "SELECT embedder FROM published_index")
    assert row["embedder"].startswith("openai:words-256")
    assert "No index is being built" in reason(scheduled(opened))


def test_a_corpus_that_was_never_published_does_not_wait(
    changed: Callable[[timedelta], Corpus], service: EmbeddingService
) -> None:
    assert run(changed(timedelta(hours=5))).failure is None
    assert service.account.requests > 0


def test_a_rebuild_is_begun_once_in_each_window_and_not_beside_another_run_over_many_buckets(
    corpus: Corpus, changed: Callable[[timedelta], Corpus]
) -> None:
    run(corpus)
    opened = changed(timedelta(hours=-1))
    ours = {"dagster/schedule_name": "notes_rebuild", CORPUS_TAG: "notes"}
    many = {CORPUS_TAG: "notes", "dagster/asset_partition_range_start": "00"}

    @dg.job
    def chain() -> None: ...

    with dg.DagsterInstance.local_temp() as instance:
        assert isinstance(scheduled(opened, instance=instance), dg.RunRequest)
        other = instance.create_run_for_job(chain, tags=many)
        assert "under way" in reason(scheduled(opened, instance=instance))
        instance.report_run_failed(other)
        assert isinstance(scheduled(opened, instance=instance), dg.RunRequest)
        instance.report_run_failed(instance.create_run_for_job(chain, tags=ours))
        assert "begun already" in reason(scheduled(opened, instance=instance))


def test_without_a_window_what_changes_have_left_of_a_build_is_gone_on_with(
    corpus: Corpus, changed: Callable[[timedelta], Corpus]
) -> None:
    run(corpus)
    anytime = replace(changed(timedelta()), automation=AutomationSettings())

    assert isinstance(scheduled(anytime), dg.RunRequest)
    assert "No index is being built" in reason(scheduled(corpus))
    by_hand = replace(anytime, automation=AutomationSettings(repair=False))
    assert rebuild.build(by_hand) is None


def test_a_schedule_that_cannot_ask_the_database_begins_a_run_which_is_tried_again(
    changed: Callable[[timedelta], Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = "postgresql://nobody@127.0.0.1:9/nothing"
    for name in ("DATABASE", "WRITER", "READER"):
        monkeypatch.setenv(f"RAG_ASSETS_{name}_URL", nobody)

    request = scheduled(changed(timedelta(hours=-1)))

    assert isinstance(request, dg.RunRequest)
    assert request.tags["dagster/asset_partition_range_end"] == "03"
