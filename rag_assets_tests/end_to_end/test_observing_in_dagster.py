"""What Dagster shows of a look at the source: buckets left to another run, checks, dead letters."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rag_assets import wiring
from rag_assets.components.corpus import corpus_definitions
from rag_assets.model import Corpus, RunIdentity, bucket_of
from rag_assets.resources import HINTED_TAG, WAIT_TAG
from rag_assets.settings import DatabaseUrls

OTHER = RunIdentity("another run", "1")
Run = Callable[..., dg.ExecuteInProcessResult]


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
def run(corpus: Corpus, instance: dg.DagsterInstance) -> Run:
    """A run over all buckets, as a sensor begins it, of the whole chain or of one asset."""

    def runs(*assets: str, **tags: str) -> dg.ExecuteInProcessResult:
        return (
            corpus_definitions(corpus)
            .resolve_job_def(corpus.name)
            .execute_in_process(
                instance=instance,
                raise_on_error=False,
                asset_selection=[dg.AssetKey([corpus.name, name]) for name in assets] or None,
                tags={
                    "dagster/asset_partition_range_start": corpus.bucket_keys[0],
                    "dagster/asset_partition_range_end": corpus.bucket_keys[-1],
                }
                | tags,
            )
        )

    return runs


@pytest.fixture(autouse=True)
def pages(folder: Path) -> None:
    for number in range(40):
        (folder / f"{number}.md").write_text(f"# Page {number}\n\nText of page {number}.\n")


def materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    events = result.get_asset_materialization_events()
    return {event.asset_key.path[-1] for event in events if event.asset_key}


def metadata(result: dg.ExecuteInProcessResult) -> Mapping[str, Any]:
    [*_, event] = result.asset_materializations_for_node("notes__raw_documents")
    return {name: value.value for name, value in event.metadata.items()}


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {each.check_name: each for each in result.get_asset_check_evaluations()}


def test_buckets_that_another_run_has_are_left_to_it_and_the_rest_of_the_run_is_skipped(
    run: Run, corpus: Corpus, database: DatabaseUrls
) -> None:
    documents = wiring.stores(database).documents
    hold = documents.hold(corpus, range(4), OTHER)
    with hold:
        result = run()
    assert result.success
    assert materialized(result) == set()
    assert {event.step_key for event in result.all_events if event.is_step_skipped} >= {
        f"notes__{name}" for name in ("chunks", "embeddings", "vector_index", "published_index")
    }
    assert hold.asked_again == [0, 1, 2, 3]


def test_of_some_buckets_held_by_another_run_the_others_are_observed(
    run: Run, corpus: Corpus, database: DatabaseUrls
) -> None:
    documents = wiring.stores(database).documents
    hold = documents.hold(corpus, [1, 3], OTHER)
    with hold:
        result = run("raw_documents")
    assert metadata(result)["run/held_by_another_run"] == 2
    assert set(documents.counts(corpus.name)) == {0, 2}
    assert hold.asked_again == [1, 3]


def test_a_run_with_the_tag_waits_for_its_buckets(run: Run, database: DatabaseUrls) -> None:
    assert materialized(run("raw_documents", **{WAIT_TAG: "true"})) == {"raw_documents"}
    assert wiring.stores(database).documents.live_documents("notes") == 40


def test_a_hinted_run_looks_only_at_what_was_hinted_at(
    run: Run, folder: Path, database: DatabaseUrls
) -> None:
    run("raw_documents")
    (folder / "1.md").write_text("Hinted at.")
    (folder / "2.md").write_text("Not hinted at.")
    wiring.stores(database).documents.add_hints("notes", ["1.md"])
    result = run("raw_documents", **{HINTED_TAG: "true"})
    assert metadata(result)["run/changed"] == 1
    assert metadata(run("raw_documents"))["run/changed"] == 1


def test_deletions_that_are_not_believed_fail_a_check_that_says_what_to_do(
    run: Run, folder: Path, corpus: Corpus, database: DatabaseUrls
) -> None:
    run("raw_documents")
    for number in range(20):
        (folder / f"{number}.md").unlink()
    result = run("raw_documents")
    failed = checks(result)["deletions_believed"]
    assert result.success
    assert not failed.passed
    assert failed.severity is dg.AssetCheckSeverity.ERROR
    assert failed.description is not None
    assert "20 of 40 documents" in failed.description
    assert "rag-assets approve-deletions notes --up-to 20" in failed.description
    assert metadata(result)["run/withheld"] == 20
    wiring.stores(database).documents.approve_deletions("notes", up_to=20)
    believed = run("raw_documents")
    assert metadata(believed)["run/deleted"] == 20
    assert checks(believed)["deletions_believed"].passed


def test_an_empty_listing_fails_the_check_and_nothing_is_deleted_though_it_is_approved(
    run: Run, folder: Path, database: DatabaseUrls
) -> None:
    run("raw_documents")
    for file in folder.iterdir():
        file.unlink()
    documents = wiring.stores(database).documents
    documents.approve_deletions("notes", up_to=40)
    failed = checks(run("raw_documents"))["deletions_believed"]
    assert failed.description is not None
    assert "lists nothing" in failed.description
    assert "Nothing was deleted" in failed.description
    assert "approve-deletions" not in failed.description
    assert documents.live_documents("notes") == 40


def test_dead_letters_stand_on_the_asset_with_the_command_that_shows_them(
    run: Run, folder: Path, corpus: Corpus
) -> None:
    (folder / "bad.md").write_bytes(bytes(range(256)) * 8)
    shown = metadata(run("raw_documents"))
    assert shown["dead_letters"] == 1
    assert shown["dead_letters/documents"] == ["bad.md"]
    assert "rag-assets dead-letters list notes" in shown["dead_letters/look"]
    [letter] = shown["dead_letters/kinds"].records
    assert letter.data["stage"] == "parse"


def test_every_bucket_says_what_was_done_in_it(
    run: Run, corpus: Corpus, instance: dg.DagsterInstance
) -> None:
    run("raw_documents")
    key, added = dg.AssetKey([corpus.name, "raw_documents"]), {}
    for bucket, partition in enumerate(corpus.bucket_keys):
        [record] = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition]), limit=1
        ).records
        assert record.asset_materialization is not None
        added[bucket] = record.asset_materialization.metadata["added"].value
    expected = [bucket_of(f"{number}.md", 4) for number in range(40)]
    assert added == {bucket: expected.count(bucket) for bucket in range(4)}
