"""What is published gets worse with its documents: the check, the picture, and the answer to it."""

from base64 import b64decode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import dagster as dg
import pytest

from rag_assets import wiring
from rag_assets.materializing import CheckDone, RunReport, materialize
from rag_assets.model import Corpus, EvaluationSettings, GenerationState
from rag_assets.resources import key_of
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.integration.test_gate import FACTS, QUESTIONS, written


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def watched(
    corpus: Corpus,
    folder: Path,
    database: DatabaseUrls,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Corpus:
    """Six pages with their golden set, and whoever sees them fall builds the index once more."""
    monkeypatch.setenv("RAG_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RAG_ASSETS_DATABASE_URL", database.owner)
    monkeypatch.setenv("RAG_ASSETS_WRITER_URL", database.writer)
    monkeypatch.setenv("RAG_ASSETS_READER_URL", database.reader)
    for name, fact in FACTS.items():
        (folder / f"{name}.md").write_text(f"# The {name}\n\n{fact}\n")
    golden_set = str(written(tmp_path / "golden.yaml", QUESTIONS))
    evaluation = EvaluationSettings(golden_set=golden_set, on_drift="rebuild")
    return replace(corpus, buckets=1, evaluation=evaluation)


def run(corpus: Corpus, instance: dg.DagsterInstance) -> RunReport:
    return materialize(corpus, instance=instance, buckets=[0])


def drift(report: RunReport) -> CheckDone:
    return next(check for check in report.checks if check.check == "drift")


def picture(corpus: Corpus, instance: dg.DagsterInstance) -> ElementTree.Element:
    event = instance.get_latest_materialization_event(key_of(corpus, "eval_scores"))
    assert event is not None
    assert event.asset_materialization is not None
    found = event.asset_materialization.metadata["scores_over_time"]
    assert isinstance(found, dg.MarkdownMetadataValue)
    data = str(found.value).partition("base64,")[2].rstrip(")")
    return ElementTree.fromstring(b64decode(data))


def test_a_fall_is_told_drawn_and_answered_by_one_build(
    watched: Corpus, folder: Path, instance: dg.DagsterInstance, database: DatabaseUrls
) -> None:
    assert drift(run(watched, instance)).passed
    for name in ("roof", "well", "bees", "boat"):
        noise = " ".join(f"{QUESTIONS[name]} Nobody knows." for _ in range(40))
        for copy in range(12):
            (folder / f"noise-{name}-{copy}.md").write_text(f"# Noise {copy}\n\n{noise}")

    fallen = drift(run(watched, instance))

    assert not fallen.passed
    assert not fallen.blocking
    assert "Generation 1 has fallen since" in fallen.description
    generations = wiring.stores(database).generations
    earlier, built = generations.living(watched.name)
    assert (earlier.state, built.state) == (GenerationState.RETIRED, GenerationState.PUBLISHED)
    assert earlier.recipe == built.recipe, "it is no worse, and was built with the same settings"

    still = drift(run(watched, instance))

    assert not still.passed, "it did not help"
    assert "The index is not built again for it" in still.description
    assert [each.number for each in generations.living(watched.name)] == [1, 2]
    drawn = picture(watched, instance)
    dots = [*drawn.iter("{http://www.w3.org/2000/svg}circle")]
    assert len(dots) == 3 * len(watched.evaluation.gate), "before and after the fall, and rebuilt"
    words = [each.text for each in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"generation 1", "generation 2"} <= set(words)
