"""A corpus in a bucket through real Dagster: the resource makes the client, the chain publishes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from rag_assets import wiring
from rag_assets.adapters.aws import ATTEMPTS, CONNECT_S, READ_S
from rag_assets.answering import pipeline
from rag_assets.materializing import RunReport, materialize
from rag_assets.model import Answer, Corpus, RunIdentity
from rag_assets.resources import Platform
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.services.object_store import ObjectStore

PAGES = {
    "house/roof.md": b"# The roof\n\nThe roof was repaired in March. Slate tiles replaced it.\n",
    "house/garden ü.md": b"# The garden\n\nThe gardener waters the roses each Tuesday.\n",
    "house/cellar.txt": b"The cellar holds two hundred bottles, and the key hangs outside.\n",
    "elsewhere/secret.md": b"# Elsewhere\n\nThe roses are watered by nobody.\n",
}


@pytest.fixture
def store(object_store: ObjectStore) -> ObjectStore:
    object_store.make_bucket("documents")
    object_store.put_many("documents", PAGES)
    return object_store


@pytest.fixture
def bucket(store: ObjectStore, corpus: Corpus) -> Corpus:
    return replace(corpus, source=store.settings("documents", prefix="house/"))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture(autouse=True)
def environment(database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAG_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAG_ASSETS_DATABASE_URL", database.owner)
    monkeypatch.setenv("RAG_ASSETS_WRITER_URL", database.writer)
    monkeypatch.setenv("RAG_ASSETS_READER_URL", database.reader)


@pytest.fixture
def run(bucket: Corpus, instance: dg.DagsterInstance) -> Callable[[], RunReport]:
    return lambda: materialize(bucket, instance=instance, buckets=range(bucket.buckets))


@pytest.fixture
def asked(database: DatabaseUrls) -> Callable[[str], Answer]:
    return lambda question: pipeline.answer(
        question,
        index=wiring.search_index(database),
        embedder_for=wiring.embedder_for,
        principals=["everyone"],
    )


def did(report: RunReport, asset: str) -> dict[str, int]:
    return next(done.did for done in report.assets if done.asset == asset)


def test_a_bucket_leads_to_a_cited_answer_and_what_leaves_it_is_found_no_more(
    store: ObjectStore, run: Callable[[], RunReport], asked: Callable[[str], Answer]
) -> None:
    first = run()

    assert first.failure is None
    assert did(first, "raw_documents")["added"] == 3
    citation = asked("When are the roses watered?").citations[0]
    assert citation.uri == "s3://documents/house/garden%20%C3%BC.md"
    assert "each Tuesday" in citation.quote

    store.put("documents", "house/garden ü.md", PAGES["house/garden ü.md"])
    store.put("documents", "house/roof.md", b"# The roof\n\nThe roof is thatched with reed.\n")
    store.delete("documents", "house/cellar.txt")
    second = run()

    seen = did(second, "raw_documents")
    assert (seen["added"], seen["changed"], seen["deleted"], seen["unchanged"]) == (0, 1, 1, 1)
    assert did(second, "embeddings")["texts_embedded"] == 1
    assert "reed" in asked("What is the roof thatched with?").text
    assert all(hit.doc_id != "cellar.txt" for hit in asked("cellar bottles key").hits)
    assert run().did_nothing


def test_an_object_that_is_denied_is_a_dead_letter_and_stops_no_other(
    store: ObjectStore, run: Callable[[], RunReport], bucket: Corpus
) -> None:
    store.fail(403, code="AccessDenied", only="GET /documents/house/roof.md")

    report = run()

    assert did(report, "vector_index")["added"] == 2
    documents = Platform().stores().documents
    (letter,) = documents.dead_letters(bucket.name)
    assert letter.doc_id == "roof.md"
    assert "s3:GetObject" in letter.reason

    store.heal()
    documents.retry_dead_letters(bucket.name, None, RunIdentity("by hand", "1"))
    assert did(run(), "vector_index")["added"] == 1
    assert documents.dead_letters(bucket.name) == []


def test_a_store_that_goes_away_ends_the_run_and_takes_nothing_from_the_readers(
    store: ObjectStore,
    run: Callable[[], RunReport],
    asked: Callable[[str], Answer],
    bucket: Corpus,
) -> None:
    run()
    store.put("documents", "house/roof.md", b"# The roof\n\nThe roof is thatched with reed.\n")
    store.fail(503, code="SlowDown", only="GET /documents/house/")

    report = run()

    assert report.failure is not None
    assert "SlowDown" in report.failure
    assert Platform().stores().documents.dead_letters(bucket.name) == []
    assert "each Tuesday" in asked("When are the roses watered?").text

    store.heal()
    run()
    assert "reed" in asked("What is the roof thatched with?").text


def test_looks_at_a_bucket_share_a_client(bucket: Corpus) -> None:
    first, second = (Platform().source(bucket) for _ in range(2))
    assert first.client is second.client  # type: ignore[attr-defined] # S3Objects


def test_the_client_of_the_resource_gives_up_within_a_sensors_minute(
    store: ObjectStore, bucket: Corpus
) -> None:
    config = Platform().source(bucket).client.meta.config  # type: ignore[attr-defined] # S3Objects
    assert (config.connect_timeout, config.read_timeout) == (CONNECT_S, READ_S)
    assert config.retries["total_max_attempts"] == ATTEMPTS
    assert ATTEMPTS * max(CONNECT_S, READ_S) < 50
