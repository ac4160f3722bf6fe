"""What may be published, judged once; and what is published, held against what it was."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from rag_assets.errors import ConfigurationError
from rag_assets.model import (
    ChunkingSettings,
    Corpus,
    EvaluationSettings,
    Generation,
    GenerationSettings,
    GenerationState,
    LocalFilesSettings,
    QualitySettings,
    RetrievalSettings,
    RunIdentity,
)
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.evaluated import Evaluated
from rag_assets_tests.integration.flow import rows, value

FACTS = {
    "roof": "The roof of the church is covered with grey slate from the quarry in the north.",
    "well": "The well behind the orchard is eleven fathoms deep and never runs dry in summer.",
    "bell": "The bell in the tower was cast by a founder from the coast in seventeen hundred ten.",
    "boat": "The harbour master keeps the key of the rowing boat in a red tin on his shelf.",
    "bees": "The beekeeper moves both hives behind the meadow in the last week of October.",
    "oven": "Bread is baked in the communal oven on Fridays before the evening service begins.",
}
QUESTIONS = {
    "roof": "What covers the roof of the church?",
    "well": "How deep is the well behind the orchard?",
    "bell": "Who cast the bell in the tower?",
    "boat": "Where is the key of the rowing boat?",
    "bees": "When are the hives moved?",
    "oven": "When is bread baked in the oven?",
}
TINY = ChunkingSettings(max_chars=50, min_chars=20)
SMALL = ChunkingSettings(max_chars=300, min_chars=100)
LATER = RunIdentity("run-2", "code-1")


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """Six questions, each with the sentence that answers it."""
    return written(tmp_path / "golden.yaml", QUESTIONS)


def written(path: Path, questions: dict[str, str]) -> Path:
    lines = ["questions:"]
    for name, question in questions.items():
        lines.append(f"  - id: {name}\n    question: {question}")
        lines.append(f"    answers: [{{doc: {name}.md, quote: {FACTS[name]!r}}}]")
    path.write_text("\n".join(lines))
    return path


def parish_in(database: DatabaseUrls, golden: Path) -> Evaluated:
    """Six pages, of which nothing is built yet."""
    source = InMemorySource(
        {f"{name}.md": f"# The {name}\n\n{fact}\n".encode() for name, fact in FACTS.items()}
    )
    evaluation = EvaluationSettings(golden_set=str(golden))
    corpus = Corpus("parish", source=LocalFilesSettings("."), buckets=2, evaluation=evaluation)
    return Evaluated(database, corpus, source)


@pytest.fixture
def parish(database: DatabaseUrls, golden: Path) -> Evaluated:
    """With their index built and published."""
    parish = parish_in(database, golden)
    first = parish.build()
    assert parish.verdict(first).accepted
    parish.publish(first)
    return parish


@pytest.fixture
def worse(parish: Evaluated) -> Evaluated:
    """With a chunker that cuts every answer to pieces."""
    worse = parish.with_settings(chunking=TINY)
    worse.build()
    return worse


def newest(parish: Evaluated) -> Generation:
    return parish.living[-1]


def decisions(parish: Evaluated) -> list[str]:
    found = parish.stores.evaluations.decisions("parish")
    return [each.run_id for each in found if each.generation != 1]


# --- judged once ---------------------------------------------------------------------------------


def test_a_refusal_says_what_fell_how_surely_and_in_which_questions(worse: Evaluated) -> None:
    verdict = worse.verdict(newest(worse))
    assert not verdict.accepted
    assert "answer_span_hit@5 went from 1.000 to 0.000" in " ".join(verdict.reasons)
    changes = worse.publisher.changes(worse.living[0], newest(worse), worse.questions)
    assert {each.question_id for each in changes} == set(QUESTIONS)
    assert changes[0].question in QUESTIONS.values()
    assert changes[0].change("answer_span_hit@5") == -1.0


def test_so_few_questions_are_warned_of(worse: Evaluated) -> None:
    few, blind = worse.verdict(newest(worse)).warnings
    assert few.startswith("Only 6 questions were compared")
    assert "The tolerance is 0.020; more questions see more." in blind


def test_the_same_case_is_judged_once(worse: Evaluated) -> None:
    first = worse.verdict(newest(worse))
    again = replace(worse, run=LATER).verdict(newest(worse))
    assert again == first
    assert decisions(worse) == ["run-1"]


def test_what_was_refused_is_neither_scored_nor_searched_again(worse: Evaluated) -> None:
    """A remembered verdict stands, though the index it would be judged by has no row any more."""
    first = worse.verdict(newest(worse))
    number = newest(worse).number
    rows(worse.urls.writer, f"UPDATE index_{number} SET embedding = embedding RETURNING 1")
    rows(worse.urls.writer, f"DELETE FROM postings_{number} RETURNING 1")
    assert worse.verdict(newest(worse)) == first


@pytest.mark.parametrize(
    "change",
    [
        {"evaluation": {"tolerance": 1.0}},
        {"evaluation": {"gate": ("recall@10",)}},
        {"evaluation": {"floors": {"recall@5": 0.5}}},
        {"quality": {"min_recall": 0.5}},
        {"retrieval": {"candidates": 50}},
    ],
    ids=str,
)
def test_other_rules_judge_anew(worse: Evaluated, change: dict[str, dict[str, object]]) -> None:
    worse.verdict(newest(worse))
    [(group, values)] = change.items()
    settings = {group: replace(getattr(worse.corpus, group), **values)}
    replace(worse.with_settings(**settings), run=LATER).verdict(newest(worse))
    assert decisions(worse) == ["run-2", "run-1"]


def test_somebody_who_asks_for_it_is_given_a_new_verdict(worse: Evaluated) -> None:
    strict = worse.with_settings(quality=QualitySettings(min_recall=1.0))
    number = newest(strict).number
    rows(strict.urls.owner, f"DELETE FROM postings_{number} RETURNING 1")
    before = strict.verdict(newest(strict))
    strict.publisher.verdict(newest(strict), strict.questions, LATER, anew=True)
    assert decisions(strict) == ["run-1"], "nothing else was found"
    assert strict.verdict(newest(strict)) == before


def test_how_far_what_is_published_may_fall_is_none_of_the_rules(worse: Evaluated) -> None:
    worse.verdict(newest(worse))
    lax = replace(worse.corpus.evaluation, drift_tolerance=0.5, on_drift="rebuild")
    replace(worse.with_settings(evaluation=lax), run=LATER).verdict(newest(worse))
    assert decisions(worse) == ["run-1"]


def test_a_changed_document_judges_anew(worse: Evaluated) -> None:
    worse.verdict(newest(worse))
    worse.source.contents["roof.md"] += b"\nIt was mended in spring.\n"
    worse.build()
    replace(worse, run=LATER).verdict(newest(worse))
    assert decisions(worse) == ["run-2", "run-1"]


# --- what else is looked at ----------------------------------------------------------------------


@pytest.fixture
def other(parish: Evaluated) -> Evaluated:
    """With a chunker that makes no difference to such short pages."""
    other = parish.with_settings(chunking=SMALL)
    other.build()
    return other


def test_an_equal_candidate_is_accepted_with_its_figures(other: Evaluated) -> None:
    verdict = other.verdict(newest(other))
    assert verdict.accepted
    assert verdict.evidence == {
        "recall": 1.0,
        "documents": 6,
        "chunks": 6,
        "missing_documents": 0,
        "buckets_that_differ_from_their_manifest": 0,
    }


def test_a_candidate_that_lost_rows_is_refused_until_it_is_mended(other: Evaluated) -> None:
    candidate = newest(other)
    assert other.verdict(candidate).accepted
    rows(
        other.urls.writer,
        f"DELETE FROM index_{candidate.number} WHERE doc_id = 'roof.md' RETURNING 1",
    )
    refused = other.verdict(candidate)
    assert not refused.accepted
    assert refused.reasons[0].startswith("Buckets that do not hold the rows")
    other.build()
    assert other.verdict(candidate).accepted


def test_a_candidate_without_a_document_that_readers_have_is_refused_and_names_it(
    other: Evaluated,
) -> None:
    candidate = newest(other)
    rows(
        other.urls.writer,
        f"DELETE FROM indexed_documents WHERE generation = {candidate.number}"
        " AND doc_id = 'well.md' RETURNING 1",
    )
    refused = other.verdict(candidate)
    assert not refused.accepted
    assert "could not take: 1: well.md." in " ".join(refused.reasons)


def test_an_index_that_finds_too_little_is_refused_beside_its_scores(worse: Evaluated) -> None:
    strict = worse.with_settings(quality=QualitySettings(min_recall=1.1))
    reasons = strict.verdict(newest(strict)).reasons
    assert any("answer_span_hit@5" in reason for reason in reasons)
    assert any("1.100 is wanted" in reason for reason in reasons)


# --- drift ---------------------------------------------------------------------------------------


def spoil(parish: Evaluated, *names: str) -> None:
    """Their answers stand where nobody who asks for them finds them."""
    for name in names:
        noise = " ".join(f"{QUESTIONS[name]} Nobody knows." for _ in range(40))
        for copy in range(12):
            parish.source.contents[f"noise-{name}-{copy}.md"] = (
                f"# Noise {copy}\n\n{noise}".encode()
            )
    parish.build()


def test_nothing_drifts_that_has_not_changed(parish: Evaluated) -> None:
    drift = parish.publisher.drift(parish.questions, parish.run)
    assert drift is not None
    assert not drift.fallen
    assert "has not drifted since" in drift.sentence


def test_a_fall_after_changes_is_told_with_the_questions_that_fell(parish: Evaluated) -> None:
    spoil(parish, "roof", "well", "bees")
    drift = parish.publisher.drift(parish.questions, parish.run)
    assert drift is not None
    assert "ndcg@10" in {each.metric for each in drift.fallen}
    assert drift.changed[0].question_id in {"roof", "well", "bees"}
    assert "has fallen since" in drift.sentence


def test_another_golden_set_or_search_is_another_baseline(
    parish: Evaluated, tmp_path: Path
) -> None:
    spoil(parish, "roof", "well", "bees")
    fewer = written(tmp_path / "fewer.yaml", {"roof": QUESTIONS["roof"]})
    evaluation = EvaluationSettings(golden_set=str(fewer))
    for change in ({"evaluation": evaluation}, {"retrieval": RetrievalSettings(candidates=50)}):
        changed = parish.with_settings(**change)
        assert changed.publisher.drift(changed.questions, changed.run) is None
        changed.scores(changed.living[0])
        begun = changed.publisher.drift(changed.questions, changed.run)
        assert begun is not None
        assert not begun.fallen


def test_a_fall_is_answered_by_one_build_and_no_more(parish: Evaluated) -> None:
    spoil(parish, "roof", "well", "bees")
    drift = parish.publisher.drift(parish.questions, parish.run)
    assert drift is not None
    begun = parish.publisher.rebuild_after(drift)
    assert begun is not None
    assert (begun.recipe, begun.state) == (parish.living[0].recipe, GenerationState.BUILDING)
    assert parish.publisher.rebuild_after(drift) is None, "one is being built"
    parish.build()
    assert parish.verdict(newest(parish)).accepted, "it is no worse"
    parish.publish(newest(parish), "built again")
    still = parish.publisher.drift(parish.questions, parish.run)
    assert still is not None
    assert still.fallen, "a build that is no better does not make the fall forgotten"
    assert parish.publisher.rebuild_after(still) is None


def test_the_baseline_outlives_old_measurements(parish: Evaluated) -> None:
    for name in ("roof", "well"):
        spoil(parish, name)
        parish.scores(parish.living[0])
    assert value(parish.urls.writer, "SELECT count(*) FROM evaluations") == 3
    rows(
        parish.urls.owner,
        "UPDATE evaluations SET scored_at = scored_at - interval '200 days' RETURNING 1",
    )
    rows(
        parish.urls.owner,
        "UPDATE publications SET published_at = published_at - interval '200 days' RETURNING 1",
    )
    parish.stores.collecting.collect_logs("parish", timedelta(days=90))
    assert value(parish.urls.writer, "SELECT count(*) FROM evaluations") == 2
    drift = parish.publisher.drift(parish.questions, parish.run)
    assert drift is not None
    assert drift.baseline.means["recall@10"] == 1.0


def test_the_line_of_scores_is_that_of_what_readers_had(other: Evaluated) -> None:
    other.verdict(newest(other))
    spoil(other, "roof")
    other.scores(other.living[0])
    other.scores(newest(other))
    other.publish(newest(other))
    found = [each.generation for each in other.stores.evaluations.line("parish")]
    assert found == [1, 1, 2]


# --- what differs --------------------------------------------------------------------------------


def test_a_diff_counts_chunks_by_their_texts_and_names_the_parts_of_the_recipe(
    worse: Evaluated,
) -> None:
    worse.scores(newest(worse))
    found = worse.publisher.diff(1, 2)
    assert set(found.recipe) == {"chunker"}
    served = found.served
    assert (served.documents_before, served.documents_after, served.documents_added) == (6, 6, 0)
    assert (served.chunks_before, served.chunks_kept) == (6, 0)
    assert served.chunks_after == served.chunks_added > 6
    assert served.documents_cut_differently == 6
    assert {each.doc_id for each in served.chunks} == {f"{name}.md" for name in FACTS}
    assert {each.metric for each in found.differences} >= {"ndcg@10", "answer_span_hit@5"}
    assert len(found.questions) == 6


def test_a_diff_of_equal_generations_finds_nothing(other: Evaluated) -> None:
    found = other.publisher.diff(1, 2).served
    assert found.nothing
    assert found.chunks == ()


def test_a_diff_names_documents_of_one_generation_alone(other: Evaluated) -> None:
    rows(
        other.urls.writer,
        "DELETE FROM indexed_documents WHERE generation = 2 AND doc_id = 'well.md' RETURNING 1",
    )
    rows(other.urls.writer, "DELETE FROM index_2 WHERE doc_id = 'well.md' RETURNING 1")
    found = other.publisher.diff(1, 2).served
    assert (found.removed, found.added, found.chunks_removed) == (("well.md",), (), 1)
    back = other.publisher.diff(2, 1).served
    assert (back.removed, back.added, back.chunks_added) == ((), ("well.md",), 1)


def test_a_dropped_generation_cannot_be_compared(other: Evaluated) -> None:
    other.publish(newest(other))
    other.stores.generations.drop_expired("parish", grace=timedelta(0), keep=0)
    with pytest.raises(ConfigurationError, match="no living generation 1; living: 2"):
        other.publisher.diff(1, 2)


# --- grace ---------------------------------------------------------------------------------------


def test_a_retired_generation_takes_every_change_and_holds_nothing_that_was_erased(
    other: Evaluated,
) -> None:
    other.publish(newest(other))
    other.source.contents["roof.md"] = b"# The roof\n\nThe roof is thatched with straw now.\n"
    del other.source.contents["well.md"]
    other.build()
    other.stores.erasing.erase("parish", "bell.md", other.run)
    retired, published = other.living
    assert (retired.state, published.state) == (GenerationState.RETIRED, GenerationState.PUBLISHED)
    left = {"roof.md", "boat.md", "bees.md", "oven.md"}
    for generation in other.living:
        query = f"SELECT DISTINCT doc_id FROM index_{generation.number}"
        assert {row["doc_id"] for row in rows(other.urls.writer, query)} == left
    other.publisher.roll_back(run=LATER)
    query = "SELECT c.text FROM index_1 JOIN chunks c USING (text_hash) WHERE doc_id = 'roof.md'"
    assert {"straw" in row["text"] for row in rows(other.urls.writer, query)} == {True}


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        (GenerationSettings(grace_h=24, keep=0), [1, 2, 3]),
        (GenerationSettings(grace_h=0, keep=0), [3]),
        (GenerationSettings(grace_h=0, keep=1), [2, 3]),
        (GenerationSettings(grace_h=0, keep=2), [1, 2, 3]),
    ],
    ids=str,
)
def test_how_long_and_how_many_generations_are_kept_is_a_setting(
    parish: Evaluated, settings: GenerationSettings, left: list[int]
) -> None:
    for chunking in (SMALL, ChunkingSettings(max_chars=400, min_chars=100)):
        parish = parish.with_settings(chunking=chunking)
        parish.publish(parish.build())
    assert [each.number for each in parish.living] == [1, 2, 3]
    parish = parish.with_settings(generations=settings)
    parish.publish(newest(parish))
    assert [each.number for each in parish.living] == left


def test_what_readers_saw_is_remembered_with_its_reason(other: Evaluated) -> None:
    publisher = other.publisher
    publisher.publish(newest(other), run=LATER, reason="forced: a test", forced=True)
    publisher.roll_back(run=LATER)
    found = other.stores.generations.publications("parish")
    assert [(each.generation, each.replaced, each.forced, each.rolled_back) for each in found] == [
        (1, 2, False, True),
        (2, 1, True, False),
        (1, None, False, False),
    ]
