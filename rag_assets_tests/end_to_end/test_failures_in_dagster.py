"""What an asset fails with stands in the database until it succeeds, and hides nothing."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from rag_assets import wiring
from rag_assets.components.corpus import corpus_definitions
from rag_assets.model import NO_BUCKET, Corpus, LocalFilesSettings, StageFailure
from rag_assets.settings import DatabaseUrls

Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture(autouse=True)
def environment(database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAG_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAG_ASSETS_DATABASE_URL", database.owner)
    monkeypatch.setenv("RAG_ASSETS_WRITER_URL", database.writer)
    monkeypatch.setenv("RAG_ASSETS_READER_URL", database.reader)


@pytest.fixture
def run(corpus: Corpus, folder: Path) -> Iterator[Run]:
    (folder / "roof.md").write_text("# The roof\n\nSlate tiles.\n")
    with dg.DagsterInstance.ephemeral() as instance:

        def runs(
            *assets: str, buckets: tuple[int, int] = (0, 3), changed: Corpus | None = None
        ) -> dg.ExecuteInProcessResult:
            first, last = (corpus.bucket_keys[bucket] for bucket in buckets)
            return (
                corpus_definitions(changed or corpus)
                .resolve_job_def(corpus.name)
                .execute_in_process(
                    instance=instance,
                    raise_on_error=False,
                    asset_selection=[dg.AssetKey([corpus.name, name]) for name in assets] or None,
                    tags={
                        "dagster/asset_partition_range_start": first,
                        "dagster/asset_partition_range_end": last,
                    },
                )
            )

        yield runs


def failures(database: DatabaseUrls) -> list[StageFailure]:
    return wiring.stores(database).failures.open("notes")


def description(result: dg.ExecuteInProcessResult) -> str:
    [failed] = [event for event in result.all_node_events if event.is_step_failure]
    said = failed.step_failure_data.user_failure_data
    assert said is not None
    return str(said.description)


def test_a_source_that_is_gone_is_remembered_bucket_by_bucket_until_it_is_back(
    run: Run, corpus: Corpus, database: DatabaseUrls, tmp_path: Path
) -> None:
    run("raw_documents")
    gone = replace(corpus, source=LocalFilesSettings(str(tmp_path / "gone")))
    first = run("raw_documents", buckets=(1, 2), changed=gone)
    again = run("raw_documents", buckets=(2, 2), changed=gone)
    assert not first.success
    found = failures(database)
    assert [(each.stage, each.bucket, each.attempts) for each in found] == [
        ("raw_documents", 1, 1),
        ("raw_documents", 2, 2),
    ]
    assert {each.error for each in found} == {"SourceError"}
    assert found[0].reason == description(first)
    assert (found[0].run_id, found[1].run_id) == (first.run_id, again.run_id)
    assert found[1].since < found[1].last_at
    run("raw_documents", buckets=(1, 1))
    assert [each.bucket for each in failures(database)] == [2]
    run("raw_documents")
    assert failures(database) == []


def test_an_asset_without_buckets_has_one_place(
    run: Run, corpus: Corpus, database: DatabaseUrls
) -> None:
    run("raw_documents")
    result = run("published_index")
    assert not result.success
    [found] = failures(database)
    assert (found.stage, found.bucket, found.error) == (
        "published_index", NO_BUCKET, "NotPublishedError"
    )  # fmt: skip
    assert run().success
    assert failures(database) == []


def test_a_database_that_is_down_does_not_hide_what_went_wrong(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_ASSETS_WRITER_URL", "postgresql://nobody@127.0.0.1:9/none")
    result = run("raw_documents")
    assert not result.success
    assert "No database at 127.0.0.1:9/none" in description(result)


def test_success_writes_nothing_where_nothing_had_failed(run: Run, database: DatabaseUrls) -> None:
    run()
    with psycopg.connect(database.owner, autocommit=True) as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        written = connection.execute(
            "SELECT n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables"
            " WHERE relname = 'failures'"
        ).fetchone()
    assert written == (0,)
