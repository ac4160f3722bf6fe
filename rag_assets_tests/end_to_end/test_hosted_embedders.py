"""A corpus whose model is a hosted one, through real Dagster: from its first run to its readers."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from rag_assets import wiring
from rag_assets.answering import pipeline
from rag_assets.materializing import RunReport, materialize
from rag_assets.model import (
    Corpus,
    EmbeddingSettings,
    EvaluationSettings,
    LocalFilesSettings,
    RunIdentity,
)
from rag_assets.publishing import Publisher
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.integration.flow import rows
from rag_assets_tests.services.embedding_service import KEY, REJECTED_MARK, EmbeddingService
from rag_assets_tests.services.vectors import tokens_of

PAGES = {
    "roof.md": "# The roof\n\nThe roof was repaired in March. Slate tiles replaced the shingles.\n",
    "garden.md": "# The garden\n\nThe gardener waters the roses each Tuesday before breakfast.\n",
}


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOOPBACK_KEY", raising=False)


@pytest.fixture(autouse=True)
def environment(
    database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    monkeypatch.setenv("RAG_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAG_ASSETS_DATABASE_URL", database.owner)
    monkeypatch.setenv("RAG_ASSETS_WRITER_URL", database.writer)
    monkeypatch.setenv("RAG_ASSETS_READER_URL", database.reader)
    for name, text in PAGES.items():
        (folder / name).write_text(text)


@pytest.fixture
def service() -> Iterator[EmbeddingService]:
    with EmbeddingService() as running:
        yield running


@pytest.fixture
def hosted(corpus: Corpus, service: EmbeddingService) -> Corpus:
    """The same corpus with a hosted model, published however it scores."""
    return replace(
        corpus,
        embedder="openai:words-256",
        embedding=EmbeddingSettings(service.openai_url, "LOOPBACK_KEY", dimensions=256),
        evaluation=EvaluationSettings(tolerance=1),
    )


@pytest.fixture
def published(corpus: Corpus) -> Corpus:
    """Built with the embedded model, and read."""
    run(corpus)
    return corpus


def run(corpus: Corpus) -> RunReport:
    with dg.DagsterInstance.ephemeral() as instance:
        return materialize(corpus, instance=instance, buckets=range(corpus.buckets))


def failed(report: RunReport) -> set[str]:
    return {check.check for check in report.checks if not check.passed}


def quotes(question: str, database: DatabaseUrls) -> str:
    answer = pipeline.answer(
        question,
        index=wiring.search_index(database),
        embedder_for=wiring.embedder_for,
        principals=["everyone"],
    )
    return answer.text


def test_a_hosted_model_is_built_beside_the_published_one_and_then_takes_over(
    published: Corpus,
    hosted: Corpus,
    database: DatabaseUrls,
    service: EmbeddingService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert isinstance(published.source, LocalFilesSettings)
    folder = Path(published.source.path)
    (folder / "garden.md").write_text("# The garden\n\nThe gardener feeds the carp on Sundays.\n")

    without_key = run(hosted)

    assert "LOOPBACK_KEY" in str(without_key.failure)
    assert "carp" in quotes("Who feeds the carp?", database), "the daily run came first"
    assert service.account.requests == 0
    told = rows(database.writer, "SELECT DISTINCT stage, error FROM failures")
    assert told == [{"stage": "candidate_index", "error": "ConfigurationError"}]
    assert not wiring.stores(database).waiting.backlog(hosted.name).waits, "readers miss nothing"

    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    report = run(hosted)
    assert rows(database.writer, "SELECT * FROM failures") == []

    assert report.failure is None
    assert failed(report) == set()
    asked = Counter(text for served in service.served for text in served.texts)
    passages = {text: times for text, times in asked.items() if "\n" in text}  # not questions
    assert list(passages.values()) == [1, 1]
    [row] = rows(database.writer, "SELECT embedder, api_key_env FROM published_index")
    assert row["embedder"].startswith("openai:words-256/256/plain@1 at http://127.0.0.1:")
    assert row["api_key_env"] == "LOOPBACK_KEY"
    assert "carp" in quotes("Who feeds the carp?", database)
    [cost] = rows(
        database.writer, "SELECT sum(texts)::int AS texts, sum(tokens)::int AS tokens FROM costs"
    )
    assert cost == {"texts": 2, "tokens": sum(map(tokens_of, passages))}


def test_a_model_that_cannot_be_asked_stops_its_own_generation_only(
    published: Corpus,
    hosted: Corpus,
    database: DatabaseUrls,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    assert run(hosted).failure is None
    Publisher(hosted, database).roll_back(run=RunIdentity("back", "code-1"))
    monkeypatch.delenv("LOOPBACK_KEY")
    (folder / "garden.md").write_text("# The garden\n\nThe gardener feeds the carp on Sundays.\n")

    without_key = run(hosted)

    assert without_key.failure is None
    assert "carp" in quotes("Who feeds the carp?", database)
    assert "complete_and_sound" in failed(without_key), "the one that was gone back from waits"
    told = rows(database.writer, "SELECT DISTINCT stage, generation, error FROM failures")
    assert told == [{"stage": "embeddings", "generation": 2, "error": "ConfigurationError"}]
    assert not wiring.stores(database).waiting.backlog(hosted.name).waits, "readers miss nothing"
    assert not wiring.stores(database).sources.awaited(hosted.name).due, "not at once"
    with psycopg.connect(database.owner) as connection:
        connection.execute(
            "UPDATE rag_assets.failures SET last_at = last_at - interval '61 seconds'"
        )
    due = wiring.stores(database).sources.awaited(hosted.name).due
    assert sorted(due) == list(range(hosted.buckets)), "the sensor asks for them again"

    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    assert run(hosted).failure is None
    assert rows(database.writer, "SELECT * FROM failures") == []


def test_a_run_that_can_ask_no_model_at_all_fails_with_what_is_missing(hosted: Corpus) -> None:
    report = run(hosted)

    assert report.failure is not None
    assert "LOOPBACK_KEY is not set" in report.failure


def test_a_document_that_the_model_rejects_is_left_out_and_all_others_are_served(
    hosted: Corpus, folder: Path, database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPBACK_KEY", KEY)
    (folder / "noise.md").write_text(f"# Noise\n\nNothing but noise {REJECTED_MARK}.\n")

    report = run(hosted)

    assert report.failure is None
    assert "roses" in quotes("Who waters the roses?", database)
    served = rows(database.writer, "SELECT doc_id FROM indexed_documents ORDER BY doc_id")
    assert [row["doc_id"] for row in served] == ["garden.md", "roof.md"]
    [letter] = rows(database.writer, "SELECT doc_id, stage, reason FROM dead_letters")
    assert (letter["doc_id"], letter["stage"]) == ("noise.md", "embed")
    assert "Nothing but" not in letter["reason"]
