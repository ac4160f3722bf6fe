"""What `rag-assets lineage` tells of real runs: the graph, the diff of each run, one citation."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from rag_assets import materializing, wiring
from rag_assets.components.corpus import corpus_definitions
from rag_assets.corpus_file import read_corpora
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.conftest import fresh_database
from rag_assets_tests.end_to_end.command_line import Project

SECRET = "xylophone"


@pytest.fixture(scope="module")
def parish(tmp_path_factory: pytest.TempPathFactory, server: Any) -> Iterator[Project]:
    """Three runs: three documents come; one comes, one changes, one leaves; nothing."""
    folder = tmp_path_factory.mktemp("parish")
    with fresh_database(server) as urls, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", "")
        patch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
        project = Project(
            folder,
            folder / "home",
            "parish",
            RAG_ASSETS_DATABASE_URL=urls.owner,
            RAG_ASSETS_WRITER_URL=urls.writer,
            RAG_ASSETS_READER_URL=urls.reader,
        )
        project.declare(
            "buckets: 2", "owners: [team:vestry]", 'description: "Notes <script>alert(1)</script>"'
        )
        project.write(
            {
                "boat.md": f"# The boat\n\nThe {SECRET} is kept in the boat of the harbour master.",
                "bees.md": "# The bees\n\nThe beekeeper moves both hives in October.",
                "well.md": "# The well\n\nA bucket of water weighs eleven kilograms.",
            }
        )
        project.materialized()
        project.write(
            {
                "boat.md": f"# The boat\n\nThe {SECRET} is kept on the quay of the harbour.",
                "oven.md": "# The oven\n\nBread is baked on Fridays.",
            }
        )
        (project.documents / "bees.md").unlink()
        project.materialized()
        project.materialized()
        yield project


@pytest.fixture(scope="module")
def found(parish: Project) -> Any:
    done = parish.here("lineage", "--json")
    assert done.code == 0, done
    (corpus,) = done.json["corpora"]
    return corpus


def asset(found: Any, name: str) -> Any:
    (only,) = (each for each in found["assets"] if each["name"] == name)
    return only


def diffs(of_asset: Any) -> list[dict[str, tuple[int, str]]]:
    """Newest run first."""
    return [
        {each["change"]: (each["documents"], each["which"]) for each in run["diff"]}
        for run in of_asset["runs"]
    ]


def test_each_run_tells_which_documents_it_took_in_and_which_it_served(found: Any) -> None:
    first = (3, "bees.md, boat.md, well.md")

    assert diffs(asset(found, "raw_documents")) == [
        {},
        {"added": (1, "oven.md"), "changed": (1, "boat.md"), "deleted": (1, "bees.md")},
        {"added": first},
    ]
    assert diffs(asset(found, "vector_index")) == [
        {},
        {"added": (1, "oven.md"), "replaced": (1, "boat.md"), "removed": (1, "bees.md")},
        {"added": first},
    ]


def test_the_graph_is_that_of_the_definitions(found: Any, parish: Project) -> None:
    (corpus,) = read_corpora(parish.file.parents[1])
    graph = corpus_definitions(corpus).resolve_asset_graph()

    assert {each["name"]: set(each["upstream"]) for each in found["assets"]} == {
        key.path[-1]: {parent.path[-1] for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert {check["name"] for each in found["assets"] for check in each["checks"]} == {
        key.name for key in graph.asset_check_keys
    }


def test_an_asset_is_told_with_its_columns_its_code_and_how_it_stands(found: Any) -> None:
    index = asset(found, "vector_index")

    assert index["rows"] == 3
    assert index["owners"] == ["team:vestry"]
    assert index["table"] == "rag_assets.indexed_documents"
    assert index["code"].startswith("rag_assets/assets/vector_index.py:")
    assert index["buckets"] == {"states": {"00": "materialized", "01": "materialized"}}
    assert index["freshness"]["health"] == "good"
    columns = {each["name"]: each["made_from"] for each in index["columns"]}
    assert columns["embedding"] == [["embeddings", "embedding"]]
    assert [run["started_by"] for run in index["runs"]] == ["command line"] * 3
    assert len({run["run_id"] for run in index["runs"]}) == 3
    (matches,) = (each for each in index["checks"] if each["name"] == "matches_manifest")
    assert matches["health"] == "good"
    assert matches["run_id"] == index["runs"][0]["run_id"]


def test_what_starts_runs_by_itself_is_named(found: Any) -> None:
    names = {each["name"]: each for each in found["automation"]}

    assert names["parish_source"]["kind"] == "sensor"
    assert names["parish_source"]["running"]


def test_the_page_is_written_and_holds_no_word_of_a_document(
    parish: Project, tmp_path: Path
) -> None:
    file = tmp_path / "lineage.html"

    done = parish.here("lineage", "--html", str(file))

    assert (done.code, done.out) == (0, f"Wrote {file}.\n")
    text = file.read_text()
    assert "vector_index" in text
    assert "oven.md" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script" not in text
    for word in (SECRET, "harbour", "Fridays"):
        assert word not in text


def test_a_terminal_shows_the_graph_and_what_is_new(parish: Project) -> None:
    out = parish.here("lineage").out

    assert "parish: 3 documents, generation 1 published" in out
    assert "vector_index" in out
    assert "changed 1: boat.md" in out
    assert "removed 1 in generation 1: bees.md" in out


def test_without_the_database_the_rest_is_still_told(parish: Project) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"

    done = parish.here(
        "lineage", "--json", RAG_ASSETS_DATABASE_URL=nowhere, RAG_ASSETS_WRITER_URL=nowhere,
        RAG_ASSETS_READER_URL=nowhere,
    )  # fmt: skip

    assert done.code == 0
    assert "left out" in done.json["notes"][0]
    assert done.json["corpora"][0]["ledger"] is None
    assert asset(done.json["corpora"][0], "vector_index")["runs"]


def test_a_citation_is_followed_to_its_runs_which_dagster_knows(
    parish: Project, found: Any
) -> None:
    done = parish.here("lineage", "--citation", "boat.md#0", "--json")

    origin = done.json
    second = asset(found, "vector_index")["runs"][1]["run_id"]
    assert origin["uri"] == (parish.documents / "boat.md").as_uri()
    assert origin["current"]
    assert {origin[step]["run_id"] for step in ("observed", "cut", "embedded", "merged")} == {
        second
    }
    home = parish.shell.home / "dagster"
    with materializing.instance_of(home) as instance:
        run = instance.get_run_by_id(second)
    assert run
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert SECRET not in json.dumps(origin)


def test_a_terminal_shows_a_citation_step_by_step(parish: Project) -> None:
    done = parish.here("lineage", "--citation", "boat.md#0")

    assert done.code == 0
    for words in ("characters", "boat.md", "wordllama:", "markdown@", "published", "content hash"):
        assert words in done.out
    assert SECRET not in done.out


def test_what_cannot_be_followed_is_refused_in_words(parish: Project) -> None:
    assert "there is no #7" in parish.here("lineage", "--citation", "boat.md#7").error
    assert "document 'nowhere.md'" in parish.here("lineage", "--citation", "nowhere.md#0").error
    assert "deleted since" in parish.here("lineage", "--citation", "bees.md#0").error
    assert parish.here("lineage", "--citation", "boat.md").code == 2
    assert parish.here("lineage", "--generation", "1").code == 2


def test_the_rows_of_a_run_can_be_found_by_its_id(parish: Project, found: Any) -> None:
    urls = DatabaseUrls(
        *(parish.variables[f"RAG_ASSETS_{role}_URL"] for role in ("DATABASE", "WRITER", "READER"))
    )
    second = asset(found, "raw_documents")["runs"][1]["run_id"]

    changes = wiring.stores(urls).provenance.changes("parish", second, {0: 0, 1: 0})

    told = {each.change: each.doc_ids for each in changes}
    assert told["deleted"] == ("bees.md",)
    assert "boat.md" in told["changed"]
