"""Generations on a terminal: side by side, over time, and what they differ in."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from rag_assets.adapters.postgres.evaluations import Decision
from rag_assets.adapters.postgres.generations import GenerationRecord
from rag_assets.model import (
    ChunksOfDocument,
    Difference,
    GenerationDiff,
    Publication,
    QuestionChange,
    Verdict,
)
from rag_assets.printing import comparisons

Capture = pytest.CaptureFixture[str]
MARKUP = "[bold]not ours[/bold]"
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
WORSE = Difference(
    "ndcg@10",
    before=0.9,
    after=0.5,
    low=-0.6,
    high=-0.2,
    better=(),
    worse=("roof[1]", "garden"),
    questions=40,
    detectable=0.1,
    confidence=0.95,
)
GATE = ("ndcg@10", "answer_span_hit@5")


@pytest.fixture
def shown(capsys: Capture) -> Callable[[], str]:
    return lambda: capsys.readouterr().out


def test_metrics_stand_side_by_side_with_how_sure_their_difference_is(
    shown: Callable[[], str],
) -> None:
    better = replace(WORSE, metric="mrr@10", low=0.1, high=0.3, after=1.0, better=("a",), worse=())
    chance = replace(WORSE, metric="recall@5", low=-0.1, high=0.3)
    comparisons.comparison([WORSE, better, chance], gate=GATE, before=1, after=12)
    header, *lines = shown().splitlines()
    assert header.split() == [
        "metric",
        "gate",
        "gen.",
        "1",
        "gen.",
        "12",
        "change",
        "95",
        "%",
        "interval",
    ]
    assert [line.split()[0] for line in lines] == ["recall@5", "mrr@10", "ndcg@10"]
    assert lines[0].endswith("may be chance")
    assert lines[1].endswith("1 better, 0 worse  ▲ surely better")
    assert lines[2].split()[:5] == ["ndcg@10", "gate", "0.900", "0.500", "-0.400"]
    assert lines[2].endswith("-0.600 to -0.200  0 better, 2 worse  ▼ surely worse")


def test_nothing_compared_shows_no_empty_table(shown: Callable[[], str]) -> None:
    comparisons.comparison([], gate=GATE, before=1, after=2)
    comparisons.questions([], gate=GATE, first={})
    assert shown() == ""


def test_a_verdict_gives_its_reasons_and_what_weakens_them(shown: Callable[[], str]) -> None:
    comparisons.verdict(Verdict(accepted=False, reasons=(f"worse: {MARKUP}",), warnings=("Few.",)))
    assert shown() == f"refused\n  worse: {MARKUP}\n  ! Few.\n"


def test_a_question_that_changed_is_shown_with_its_words_and_what_was_found_first(
    shown: Callable[[], str],
) -> None:
    fell = QuestionChange(
        "roof", "What covers it?", {"ndcg@10": 1.0}, {"ndcg@10": 0.0, "answer_span_hit@5": 0.0}
    )
    others = [replace(fell, question_id=f"q{n}", after={"ndcg@10": 2.0}) for n in range(12)]
    comparisons.questions([fell, *others], gate=GATE, first={"roof": ("roof.md#0", "")})
    text = shown()
    assert "(1 fell, 12 rose)" in text
    assert (
        "  roof  What covers it?\n      ndcg@10 1.000 → 0.000   answer_span_hit@5 - → 0.000\n"
        in text
    )
    assert "      found first: roof.md#0 → nothing\n" in text
    assert text.endswith("  and 3 more; --json has them all\n")


def test_the_past_says_who_published_what_and_why_and_how_others_ended(
    shown: Callable[[], str],
) -> None:
    first = Publication(1, None, "first", False, False, "run-1", "1.0", AT)
    forced = Publication(2, 1, "forced: why not", True, False, "run-2", None, AT.replace(hour=13))
    back = Publication(1, 2, "rolled back", False, True, "run-3", "1.0", AT.replace(hour=14))
    record = GenerationRecord(
        3, "failed", "f", "p", "c", "e", 8, AT, None, None, 0, 0, ended_at=AT, ended_reason="why"
    )
    decision = Decision(3, 1, False, ("ndcg@10 fell",), (), "run-4", AT)
    comparisons.history("house", [back, forced, first], [record], [decision])
    text = shown()
    assert "2026-03-01 14:00 to now  generation 1 instead of 2  rolled back\n" in text
    assert "2026-03-01 13:00 to 2026-03-01 14:00  generation 2 instead of 1  forced\n" in text
    assert "      by run-2, version unknown\n" in text
    assert "  generation 3 failed: why\n" in text
    assert "generation 3 against 1\n      ndcg@10 fell\n" in text


def test_nothing_published_is_said(shown: Callable[[], str]) -> None:
    comparisons.history("house", [], [], [])
    assert "no generation has been published yet" in shown()


def test_a_diff_goes_from_the_recipe_to_the_chunks(shown: Callable[[], str]) -> None:
    found = GenerationDiff(
        documents_before=30,
        documents_after=31,
        documents_added=12,
        documents_removed=11,
        documents_changed=0,
        chunks_before=100,
        chunks_after=120,
        chunks_kept=60,
        documents_cut_differently=9,
        added=tuple(f"new-{n}.md" for n in range(12)),
        removed=("old.md",),
        chunks=(ChunksOfDocument("roof.md", 3, 7, 1),),
    )
    comparisons.diff(found, before=1, after=2, recipe={"chunker": ("a", "b")})
    text = shown()
    assert "  chunker: a → b\n" in text
    assert "documents  30 → 31: 12 added, 11 removed, 0 with another content\n" in text
    assert "  and 2 more\n" in text
    assert "chunks     100 → 120: 60 the same, 60 added, 40 removed, in 9 documents\n" in text
    assert "  roof.md: 3 → 7  (1 the same, 2 changed)\n  and 8 more\n" in text


def test_the_same_recipe_is_said(shown: Callable[[], str]) -> None:
    nothing = GenerationDiff(1, 1, 0, 0, 0, 1, 1, 1, 0, (), (), ())
    comparisons.diff(nothing, before=1, after=2, recipe={})
    assert "  the same recipe\n" in shown()
    assert nothing.nothing
