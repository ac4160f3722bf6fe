"""A corpus through real Dagster: one run from its source to its readers."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from rag_assets import wiring
from rag_assets.answering import pipeline
from rag_assets.assets import (
    chunks,
    embeddings,
    eval_scores,
    pipeline_metrics,
    published_index,
    raw_documents,
    vector_index,
)
from rag_assets.building import BESIDE
from rag_assets.checks.shape import lineage_of
from rag_assets.components.corpus import corpus_definitions
from rag_assets.materializing import RunReport, materialize
from rag_assets.model import (
    Answer,
    ChunkingSettings,
    Corpus,
    EvaluationSettings,
    IndexSettings,
    RunIdentity,
    bucket_of,
)
from rag_assets.publishing import Publisher
from rag_assets.settings import DatabaseUrls

PAGES = {
    "roof.md": "# The roof\n\nThe roof was repaired in March. Slate tiles replaced the shingles.\n",
    "garden.md": "# The garden\n\nThe gardener waters the roses each Tuesday before breakfast.\n",
    "kitchen.md": "# The kitchen\n\nThe oven is lit by pressing the brass knob for ten seconds.\n",
    "cellar.txt": "The cellar holds two hundred bottles, and the key hangs behind the door.\n",
}

Materialize = Callable[..., RunReport]


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
def run(corpus: Corpus, instance: dg.DagsterInstance) -> Materialize:
    """Materializes the corpus, or the same with other settings, as the command line does."""

    def runs(changed: Corpus | None = None, *, buckets: Sequence[int] = range(4)) -> RunReport:
        return materialize(changed or corpus, instance=instance, buckets=buckets)

    return runs


@pytest.fixture(autouse=True)
def pages(folder: Path) -> None:
    for name, text in PAGES.items():
        (folder / name).write_text(text)


def asked(question: str, database: DatabaseUrls) -> Answer:
    return pipeline.answer(
        question,
        index=wiring.search_index(database),
        embedder_for=wiring.embedder_for,
        principals=["everyone"],
    )


def did(report: RunReport, asset: str) -> dict[str, int]:
    return next(done.did for done in report.assets if done.asset == asset)


def test_one_run_leads_from_the_source_to_a_cited_answer(
    run: Materialize, database: DatabaseUrls
) -> None:
    report = run()

    assert report.failure is None
    assert [done.asset for done in report.assets] == [
        "raw_documents",
        "chunks",
        "embeddings",
        "vector_index",
        "eval_scores",
        "published_index",
        "pipeline_metrics",
    ]
    assert [check.check for check in report.checks if not check.passed] == []
    answer = asked("When are the roses watered?", database)
    (first, *_) = answer.citations
    assert "each Tuesday" in first.quote
    assert PAGES[first.doc_id][first.start : first.end] == first.quote


def test_an_unchanged_run_does_nothing_and_says_so(run: Materialize) -> None:
    run()

    report = run()

    assert report.did_nothing
    assert did(report, "raw_documents")["unchanged"] == len(PAGES)


def test_a_changed_file_is_searchable_after_a_run_of_its_bucket_alone(
    run: Materialize, folder: Path, corpus: Corpus, database: DatabaseUrls
) -> None:
    run()
    (folder / "garden.md").write_text("# The garden\n\nThe gardener feeds the carp on Sundays.\n")

    report = run(buckets=[bucket_of("garden.md", corpus.buckets)])

    assert did(report, "embeddings") == {"texts_embedded": 1}
    assert "carp" in asked("Who feeds the carp?", database).text


def test_a_run_looks_at_what_it_wrote_and_a_check_alone_at_what_is_new(
    run: Materialize,
    folder: Path,
    corpus: Corpus,
    instance: dg.DagsterInstance,
    database: DatabaseUrls,
) -> None:
    run()
    with psycopg.connect(database.owner, autocommit=True) as connection:
        connection.execute(
            "UPDATE rag_assets.chunks SET text = 'Other words.' WHERE text LIKE '%oven%'"
        )
    (folder / "garden.md").write_text("# The garden\n\nThe gardener feeds the carp on Sundays.\n")

    assert "characters_match" not in failed(run())
    assert not checked_alone(corpus, instance)

    (folder / "cellar.txt").write_text("The key of the cellar has been lost since last winter.\n")
    with psycopg.connect(database.owner, autocommit=True) as connection:
        connection.execute(MISCOPIES)
    assert "characters_match" in failed(run())


MISCOPIES = """
    CREATE FUNCTION rag_assets.miscopy() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN NEW.text := overlay(NEW.text PLACING 'XX' FROM 5); RETURN NEW; END $$;
    CREATE TRIGGER miscopy BEFORE INSERT ON rag_assets.chunks
    FOR EACH ROW EXECUTE FUNCTION rag_assets.miscopy();
"""
"""From now on, chunks are not stored as they were cut."""


def failed(report: RunReport) -> set[str]:
    return {check.check for check in report.checks if not check.passed}


def checked_alone(corpus: Corpus, instance: dg.DagsterInstance) -> bool:
    key = dg.AssetCheckKey(dg.AssetKey([corpus.name, "chunks"]), "characters_match")
    made = corpus_definitions(corpus)
    job = dg.define_asset_job("alone", dg.AssetSelection.checks(key))
    defs = dg.Definitions.merge(made, dg.Definitions(jobs=[job]))
    done = defs.resolve_job_def("alone").execute_in_process(instance=instance)
    [found] = done.get_asset_check_evaluations()
    return bool(found.passed)


def test_a_run_that_goes_on_with_another_answers_for_what_that_wrote() -> None:
    assert lineage_of(dg.DagsterRun("notes", run_id="c")) == ("c",)
    third = dg.DagsterRun("notes", run_id="c", parent_run_id="b", root_run_id="a")
    assert lineage_of(third) == ("c", "b", "a")


def test_a_rename_embeds_nothing(run: Materialize, folder: Path, database: DatabaseUrls) -> None:
    run()
    (folder / "garden.md").rename(folder / "park.md")

    report = run()

    assert did(report, "embeddings") == {"texts_embedded": 0}
    assert asked("When are the roses watered?", database).citations[0].doc_id == "park.md"


def test_a_deleted_file_is_found_no_more(
    run: Materialize, folder: Path, database: DatabaseUrls
) -> None:
    run()
    (folder / "garden.md").unlink()

    assert did(run(), "vector_index")["removed"] == 1
    assert all(hit.doc_id != "garden.md" for hit in asked("roses Tuesday", database).hits)


def test_an_emptied_source_fails_a_check_and_deletes_nothing(
    run: Materialize, folder: Path, database: DatabaseUrls
) -> None:
    run()
    for name in PAGES:
        (folder / name).unlink()

    report = run()

    assert report.failure is None
    [failed] = [check for check in report.checks if not check.passed]
    assert failed.check == "deletions_believed"
    assert "lists nothing" in failed.description
    assert not asked("When are the roses watered?", database).refused


def test_a_file_without_text_is_a_dead_letter_and_stops_nothing(
    run: Materialize, folder: Path, database: DatabaseUrls
) -> None:
    (folder / "noise.txt").write_bytes(bytes(range(256)) * 8)

    report = run()

    assert report.failure is None
    assert did(report, "raw_documents")["dead"] == 1
    assert [check.check for check in report.checks if not check.passed] == ["no_dead_letters"]
    assert not asked("When are the roses watered?", database).refused


def test_part_of_the_buckets_is_not_published(run: Materialize) -> None:
    report = run(buckets=[0, 1])

    assert report.failure is not None
    assert "2 buckets were never looked at" in report.failure


@pytest.fixture
def smaller(corpus_with: Callable[..., Corpus]) -> Corpus:
    """The corpus with another chunker, and a gate that lets everything pass."""
    return corpus_with(
        chunking=ChunkingSettings(max_chars=60, min_chars=20),
        evaluation=EvaluationSettings(tolerance=1.0),
    )


def test_another_chunker_is_published_and_going_back_embeds_nothing(
    run: Materialize, smaller: Corpus, corpus_with: Callable[..., Corpus], database: DatabaseUrls
) -> None:
    forgiving = corpus_with(evaluation=smaller.evaluation)
    assert run(forgiving).failure is None
    assert run(smaller).failure is None
    assert states(database) == {1: "retired", 2: "published"}

    report = run(forgiving)

    assert states(database) == {1: "published", 2: "retired"}
    assert did(report, "embeddings") == {"texts_embedded": 0}


def test_what_was_rolled_back_does_not_come_back_by_itself(
    run: Materialize, smaller: Corpus, corpus: Corpus, database: DatabaseUrls
) -> None:
    run()
    run(smaller)
    Publisher(smaller, database).roll_back(run=RunIdentity("by hand", "1"))

    assert run(smaller).failure is None
    assert states(database) == {1: "published", 2: "retired"}


def test_a_label_whose_sentence_was_edited_is_left_out_and_named(
    run: Materialize, corpus_with: Callable[..., Corpus], folder: Path, tmp_path: Path
) -> None:
    golden = tmp_path / "golden.yaml"
    golden.write_text(
        "questions:\n"
        "  - {id: roses, question: When are the roses watered,"
        " answers: [{doc: garden.md, quote: waters the roses each Tuesday}]}\n"
        "  - {id: oven, question: How is the oven lit,"
        " answers: [{doc: kitchen.md, quote: pressing the brass knob}]}\n"
    )
    labelled = corpus_with(evaluation=EvaluationSettings(golden_set=str(golden)))
    assert run(labelled).failure is None
    (folder / "garden.md").write_text("# The garden\n\nThe roses are watered on Mondays.\n")

    report = run(labelled)

    assert report.failure is None
    assert [check.check for check in report.checks if not check.passed] == ["labels_fit"]


def test_a_worse_generation_is_refused_and_what_is_published_stays(
    run: Materialize, corpus_with: Callable[..., Corpus], database: DatabaseUrls
) -> None:
    run()
    unreachable = corpus_with(
        index=IndexSettings(m=8), evaluation=EvaluationSettings(floors={"ndcg@10": 1.01})
    )

    report = run(unreachable)

    gate = next(check for check in report.checks if check.check == "gate")
    assert not gate.passed
    assert states(database) == {1: "published", 2: "candidate"}
    assert not asked("When are the roses watered?", database).refused


def states(database: DatabaseUrls) -> dict[int, str]:
    history = wiring.stores(database).generations.history("notes")
    return {each.generation: each.state for each in history}


def test_without_a_database_the_run_says_what_to_do(
    run: Materialize, monkeypatch: pytest.MonkeyPatch
) -> None:
    for role in ("DATABASE", "WRITER", "READER"):
        monkeypatch.delenv(f"RAG_ASSETS_{role}_URL")

    report = run()

    assert report.failure is not None
    assert "rag-assets up" in report.failure


def test_each_bucket_of_an_asset_has_its_own_row_count(
    run: Materialize, corpus: Corpus, instance: dg.DagsterInstance
) -> None:
    run()

    rows = 0
    for key in corpus.bucket_keys:
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(
                asset_key=dg.AssetKey(["notes", "raw_documents"]), asset_partitions=[key]
            ),
            limit=1,
        ).records
        materialization = records[0].asset_materialization
        assert materialization is not None
        rows += int(str(materialization.metadata["dagster/partition_row_count"].value))
    assert rows == len(PAGES)


def test_every_asset_is_described(corpus: Corpus) -> None:
    specs = corpus_definitions(corpus).resolve_all_asset_specs()

    for spec in specs:
        assert spec.description, spec.key
        assert spec.group_name == "notes"
        assert spec.kinds
        assert spec.code_version
        assert spec.freshness_policy or spec.key.path[-1] == BESIDE, "a build is never overdue"
        assert {"dagster/column_schema", "dagster/column_lineage"} <= set(spec.metadata)


TABLES = {
    "documents": raw_documents,
    "chunks": chunks,
    "embeddings": embeddings,
    "index_1": vector_index,
    "evaluation_results": eval_scores,
    "published_index": published_index,
    "pipeline_metrics": pipeline_metrics,
}


def test_the_columns_of_an_asset_are_those_of_its_table(
    run: Materialize, database: DatabaseUrls
) -> None:
    run()
    with psycopg.connect(database.owner) as connection:
        for table, module in TABLES.items():
            rows = connection.execute(
                "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute"
                " WHERE attrelid = ('rag_assets.' || %s)::regclass AND attnum > 0",
                [table],
            )
            real = {name: TYPES.get(kind, kind) for name, kind in rows}
            for column in module.COLUMNS:
                assert real.get(column.name) == column.type, (table, column.name)


TYPES = {"timestamp with time zone": "timestamptz"}
