"""The repair loop over a real corpus: what it asks for, and that it comes to rest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rag_assets import wiring
from rag_assets.answering import pipeline
from rag_assets.components.corpus import corpus_definitions
from rag_assets.model import AutomationSettings, ChunkingSettings, Corpus, EvaluationSettings
from rag_assets.resources import CORPUS_TAG, REPAIR_TAG
from rag_assets.settings import DatabaseUrls

CHAIN = ["raw_documents", "chunks", "embeddings", "vector_index", "eval_scores", "published_index"]


@dataclass
class Unattended:
    """A corpus whose automation ticks at a time of its own; what it asks for is run."""

    corpus: Corpus
    instance: dg.DagsterInstance
    now: datetime
    cursor: Any = None

    def builds(self) -> dg.ExecuteInProcessResult:
        """What the sensor of candidates begins."""
        return self.run(
            buckets=self.corpus.bucket_keys, job="notes_candidate", **{REPAIR_TAG: "true"}
        )

    def run(
        self, *assets: str, buckets: Sequence[str], job: str = "notes", **tags: str
    ) -> dg.ExecuteInProcessResult:
        found = corpus_definitions(self.corpus).resolve_job_def(job)
        return found.execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            asset_selection=[dg.AssetKey([self.corpus.name, name]) for name in assets] or None,
            tags={
                "dagster/asset_partition_range_start": min(buckets),
                "dagster/asset_partition_range_end": max(buckets),
                **tags,
            },
        )

    def tick(self, *, minutes: float = 0.5) -> dict[str, set[str]]:
        """Asset to the buckets that are asked for."""
        self.now += timedelta(minutes=minutes)
        found = dg.evaluate_automation_conditions(
            corpus_definitions(self.corpus),
            self.instance,
            asset_selection=dg.AssetSelection.groups(self.corpus.name),
            evaluation_time=self.now,
            cursor=self.cursor,
        )
        self.cursor = found.cursor
        asked = {
            name: found.get_requested_partitions(dg.AssetKey([self.corpus.name, name]))
            for name in CHAIN
        }
        return {name: {key or "" for key in keys} for name, keys in asked.items() if keys}

    def works(self, *, minutes: float = 0.5) -> dict[str, set[str]]:
        asked = self.tick(minutes=minutes)
        if asked:
            keys = sorted(key for keys in asked.values() for key in keys if key)
            self.run(*asked, buckets=keys or self.corpus.bucket_keys, **{REPAIR_TAG: "true"})
        return asked


@pytest.fixture(autouse=True)
def environment(
    database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    monkeypatch.setenv("RAG_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAG_ASSETS_DATABASE_URL", database.owner)
    monkeypatch.setenv("RAG_ASSETS_WRITER_URL", database.writer)
    monkeypatch.setenv("RAG_ASSETS_READER_URL", database.reader)
    for number in range(8):
        (folder / f"{number}.md").write_text(f"# Page {number}\n\nText of page {number}.\n")


@pytest.fixture
def corpus(corpus: Corpus) -> Corpus:
    settings = AutomationSettings(attempts=2)
    return replace(
        corpus, buckets=2, automation=settings, evaluation=EvaluationSettings(tolerance=1)
    )


@pytest.fixture
def left_alone(corpus: Corpus) -> Iterator[Unattended]:
    """After its first fill, which the automation did by itself."""
    with dg.DagsterInstance.ephemeral() as instance:
        made = Unattended(corpus, instance, datetime(2027, 1, 15, 12, tzinfo=UTC))
        assert made.tick() == {}
        assert set(made.works()) == set(CHAIN)
        yield made


def quotes(question: str, database: DatabaseUrls) -> str:
    return pipeline.answer(
        question,
        index=wiring.search_index(database),
        embedder_for=wiring.embedder_for,
        principals=["everyone"],
    ).text


def test_it_comes_to_rest_and_finishes_what_somebody_left_halfway(
    left_alone: Unattended, database: DatabaseUrls, folder: Path
) -> None:
    assert [left_alone.tick() for _ in range(2)] == [{}, {}]
    left_alone.run(buckets=["00"])
    left_alone.run("raw_documents", buckets=["00"])
    assert left_alone.tick() == {}, "nothing has changed"

    (folder / "carp.md").write_text("# The carp\n\nThe carp are fed on Sundays.\n")
    left_alone.run("raw_documents", buckets=left_alone.corpus.bucket_keys)

    assert set(left_alone.works()) == set(CHAIN[1:])
    assert left_alone.tick() == {}
    assert "Sundays" in quotes("When are the carp fed?", database)
    assert {run.tags.get(CORPUS_TAG) for run in left_alone.instance.get_runs()} == {"notes"}


def test_a_new_chunker_is_no_business_of_the_repair_and_a_refused_one_is_left_to_people(
    left_alone: Unattended, database: DatabaseUrls
) -> None:
    left_alone.corpus = replace(left_alone.corpus, chunking=ChunkingSettings(900, 300))

    assert left_alone.tick() == {}
    assert left_alone.builds().success
    assert set(left_alone.works()) <= {"pipeline_metrics"}
    assert left_alone.tick() == {}
    [*_, newest] = wiring.stores(database).generations.history("notes")
    assert newest.state == "published"

    unreachable = EvaluationSettings(tolerance=0, floors={"mrr@10": 1.0, "ndcg@10": 1.0})
    left_alone.corpus = replace(
        left_alone.corpus, chunking=ChunkingSettings(20, 1), evaluation=unreachable
    )
    assert not left_alone.builds().success
    assert [left_alone.works(minutes=10) for _ in range(4)] == [{}] * 4
    [*_, refused] = wiring.stores(database).generations.history("notes")
    assert refused.state == "candidate"


def test_a_source_that_is_gone_costs_its_attempts_and_what_is_served_stays(
    left_alone: Unattended, database: DatabaseUrls, folder: Path
) -> None:
    folder.rename(folder.with_name("elsewhere"))
    assert not left_alone.run(buckets=["00", "01"]).success

    asked = [left_alone.works(minutes=2) for _ in range(8)]

    assert [set(each) for each in asked if each] == [set(CHAIN)] * 2
    assert "page 3" in quotes("What is the text of page 3?", database)
    folder.with_name("elsewhere").rename(folder)
    assert left_alone.run(buckets=["00", "01"]).success
    assert left_alone.tick() == {}
