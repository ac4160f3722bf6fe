"""`rag-assets eval`, `diff`, `history` and `publish --force` on two generations."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rag_assets.cli import main
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.integration.evaluated import Evaluated
from rag_assets_tests.integration.test_gate import FACTS, QUESTIONS, TINY, parish_in, written

pytestmark = pytest.mark.timeout(300)
DEFS = """\
type: rag_assets.components.Corpus
attributes:
  source: {local_files: {path: .}}
  buckets: 2
  chunking: {max_chars: 50, min_chars: 20}
  evaluation: {golden_set: golden.yaml}
"""


@pytest.fixture
def defs(tmp_path: Path) -> Path:
    """A folder of corpora whose only one says how the second generation is made."""
    folder = tmp_path / "defs" / "parish"
    folder.mkdir(parents=True)
    folder.joinpath("defs.yaml").write_text(DEFS)
    written(folder / "golden.yaml", QUESTIONS)
    return folder.parent


@pytest.fixture
def parish(database: DatabaseUrls, defs: Path) -> Evaluated:
    """A second generation waits, and is worse."""
    first = parish_in(database, defs / "parish" / "golden.yaml")
    first.publish(first.build(), "the first")
    worse = first.with_settings(chunking=TINY)
    worse.build()
    return worse


@pytest.fixture
def command(
    parish: Evaluated, defs: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    monkeypatch.setenv("RAG_ASSETS_DEFS", str(defs))
    monkeypatch.setenv("RAG_ASSETS_DATABASE_URL", parish.urls.owner)
    monkeypatch.setenv("RAG_ASSETS_WRITER_URL", parish.urls.writer)
    monkeypatch.setenv("RAG_ASSETS_READER_URL", parish.urls.reader)
    return lambda *words: CliRunner().invoke(main, list(words))


def test_a_worse_generation_is_shown_beside_the_published_one_with_its_questions(
    command: Callable[..., Result],
) -> None:
    shown = command("eval", "parish", "--generation", "2")
    assert shown.exit_code == 1
    assert "gen. 1" in shown.output
    assert "▼ surely worse" in shown.output
    assert "questions that changed most (6 fell, 0 rose)" in shown.output
    assert QUESTIONS["roof"] in shown.output
    assert "found first: roof.md#0 → " in shown.output
    assert "refused\n" in shown.output


def test_the_comparison_is_complete_for_scripts(command: Callable[..., Result]) -> None:
    shown = command("eval", "parish", "--generation", "2", "--json")
    found = json.loads(shown.stdout)
    assert found["compared_with"]["scores"]["generation"] == 1
    assert not found["verdict"]["accepted"]
    assert {each["question_id"] for each in found["questions"]} == set(QUESTIONS)
    by_metric = {each["metric"]: each for each in found["verdict"]["differences"]}
    assert by_metric["answer_span_hit@5"]["before"] == 1.0
    assert by_metric["answer_span_hit@5"]["questions"] == 6


def test_what_two_generations_serve_is_held_against_each_other(
    command: Callable[..., Result],
) -> None:
    shown = command("diff", "parish", "1", "2")
    assert shown.exit_code == 0, shown.output
    assert "chunker: markdown@1:400-1200 → markdown@1:20-50" in shown.output
    assert "documents  6 → 6: 0 added, 0 removed, 0 with another content" in shown.output
    found = json.loads(command("diff", "parish", "1", "2", "--json").stdout)
    assert len(found["served"]["chunks"]) == len(FACTS)
    refused = command("diff", "parish", "1", "7")
    assert refused.exit_code == 1
    assert "no living generation 7; living: 1, 2" in refused.output


def test_what_is_forced_is_not_judged_and_stands_in_the_history(
    command: Callable[..., Result], parish: Evaluated
) -> None:
    done = command("publish", "parish", "--force", "the labels are old")
    assert done.exit_code == 0, done.output
    shown = command("history", "parish")
    assert "generation 2 instead of 1  forced" in shown.output
    assert "forced: the labels are old" in shown.output
    rolled_back = command("rollback", "parish")
    assert rolled_back.output == "Generation 1 of parish is published again.\n"
    found = json.loads(command("history", "parish", "--json").stdout)
    assert [each["generation"] for each in found["publications"]] == [1, 2, 1]
    assert found["publications"][0]["rolled_back"]
    assert found["gate_verdicts"] == []
    assert parish.stores.generations.published("parish").generation == 1
