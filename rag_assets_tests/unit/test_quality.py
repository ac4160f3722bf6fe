"""What is judged, by which limits, and what is written where it differs from what is known."""

from dataclasses import replace
from typing import get_args

import pytest

from rag_assets.indexing.merging import merge_plan
from rag_assets.indexing.quality import fallen, judgings, verdict_changes
from rag_assets.model import (
    RULES,
    Comparison,
    Description,
    DocumentState,
    Finding,
    GenerationSize,
    IndexSettings,
    KnownVerdict,
    QualityRule,
    QualitySettings,
    QualityStage,
    Recipe,
)

RECIPE = Recipe("auto@2", "markdown@1:400-1200", "wordllama:x/document@1", 256, IndexSettings())
FOUND = Finding("a.md", b"1", "empty_text", '{"chars": 0}')
KNOWN = KnownVerdict("a.md", "empty_text", b"1", quarantined=True, released=False, current=True)
QUARANTINE = ["empty_text"]


def test_every_rule_belongs_to_one_stage() -> None:
    assert sorted(rule for rules in RULES.values() for rule in rules) == sorted(
        get_args(QualityRule)
    )


def test_a_limit_of_one_stage_judges_that_stage_again_and_no_other() -> None:
    before = judgings(RECIPE, QualitySettings())
    after = judgings(RECIPE, QualitySettings(max_copies=7))
    changed = [now.stage for then, now in zip(before, after, strict=True) if then != now]
    assert changed == [QualityStage.DOCUMENTS]
    assert before[0].rules != after[0].rules


def test_a_rule_that_quarantines_no_more_judges_again() -> None:
    before, after = (
        judgings(RECIPE, QualitySettings(quarantine=rules), [QualityStage.EMBEDDINGS])
        for rules in (("bad_norm",), ("wrong_dimension", "bad_norm"))
    )
    assert before[0].rules != after[0].rules
    assert (before[0].quarantine, after[0].quarantine) == (
        ("bad_norm",),
        ("wrong_dimension", "bad_norm"),
    )


def test_chunks_are_held_against_the_sizes_they_were_cut_with() -> None:
    [known] = judgings(RECIPE, QualitySettings(), [QualityStage.CHUNKS])
    assert (known.limits["max_chars"], known.limits["few_chars"]) == (1200, 40)
    other = replace(RECIPE, chunker="sentences@9")
    [unknown] = judgings(other, QualitySettings(), [QualityStage.CHUNKS])
    assert (unknown.limits["max_chars"], unknown.limits["few_chars"]) == (None, None)


@pytest.mark.parametrize(
    ("embedder", "unit"),
    [
        ("wordllama:l2_supercat_256/document@1", True),
        ("openai:text-embedding-3-small/1536/plain@1", True),
        ("openai:bge/1024/plain@1 at http://gpu:8000/v1", False),
        ("cohere:embed-v4.0/1536/document@1", False),
    ],
)
def test_unit_vectors_are_asked_of_models_that_give_them(embedder: str, *, unit: bool) -> None:
    recipe = replace(RECIPE, embedder=embedder)
    [judging] = judgings(recipe, QualitySettings(), [QualityStage.EMBEDDINGS])
    assert (judging.limits["greatest_norm"] == 1.01) is unit


def test_what_is_known_is_not_written_again() -> None:
    assert not verdict_changes([FOUND], [KNOWN], quarantine=QUARANTINE)


@pytest.mark.parametrize(
    "known",
    [
        [],
        [replace(KNOWN, content_hash=b"0", current=False)],
        [replace(KNOWN, quarantined=False)],
    ],
)
def test_a_document_that_comes_under_quarantine_is_looked_at_by_merges(
    known: list[KnownVerdict],
) -> None:
    changes = verdict_changes([FOUND], known, quarantine=QUARANTINE)
    assert (changes.put, changes.void, changes.touched) == ((FOUND,), (), ("a.md",))


def test_a_rule_that_is_only_told_of_disturbs_no_merge() -> None:
    changes = verdict_changes([FOUND], [], quarantine=[])
    assert (changes.put, changes.touched) == ((FOUND,), ())


def test_a_rule_that_quarantines_no_more_lets_the_document_out() -> None:
    changes = verdict_changes([FOUND], [KNOWN], quarantine=[])
    assert (changes.put, changes.touched) == ((FOUND,), ("a.md",))


@pytest.mark.parametrize(
    ("known", "touched"),
    [
        (KNOWN, ("a.md",)),
        (replace(KNOWN, released=True), ()),
        (replace(KNOWN, current=False), ()),
        (replace(KNOWN, quarantined=False), ()),
    ],
)
def test_only_a_verdict_that_kept_a_document_out_is_missed(
    known: KnownVerdict, touched: tuple[str, ...]
) -> None:
    changes = verdict_changes([], [known], quarantine=QUARANTINE)
    assert (changes.put, changes.void, changes.touched) == ((), (known,), touched)


HERE = Description(b"1", uri="file:a.md", title="A", acl=("everyone",))
QUARANTINED = Comparison(
    "a.md", DocumentState.LIVE, version=3, observed=HERE, ready=True, quarantined=True
)


def test_what_is_in_quarantine_is_not_added_and_does_not_wait() -> None:
    assert not merge_plan([QUARANTINED])
    assert merge_plan([replace(QUARANTINED, ready=False)]).waiting == ()


def test_what_was_good_before_stays_where_that_is_asked_for() -> None:
    before = replace(QUARANTINED, served=replace(HERE, content_hash=b"0"))
    assert merge_plan([before]).remove == ("a.md",)
    assert merge_plan([before], keep_last_good=True).kept == ("a.md",)


def test_what_was_found_to_be_bad_since_it_is_served_was_never_good() -> None:
    same = replace(QUARANTINED, served=HERE)
    assert merge_plan([same], keep_last_good=True).remove == ("a.md",)


@pytest.mark.parametrize(
    ("size", "drop"),
    [
        (GenerationSize(1, 10, 100, 10, 100), 0.0),
        (GenerationSize(1, 5, 100, 10, 100), 0.5),
        (GenerationSize(1, 10, 75, 10, 100), 0.25),
        (GenerationSize(1, 0, 0, 0, 0), 0.0),
        (GenerationSize(1, 12, 120, 10, 100), -0.2),
    ],
)
def test_the_drop_is_of_documents_or_of_chunks_whichever_is_greater(
    size: GenerationSize, drop: float
) -> None:
    assert size.drop == pytest.approx(drop)


@pytest.mark.parametrize(
    ("documents", "chunks", "is_told"),
    [(71, 100, False), (69, 100, True), (100, 69, True), (100, 100, False)],
)
def test_a_generation_has_fallen_that_lost_more_than_the_settings_allow(
    documents: int, chunks: int, is_told: bool
) -> None:
    size = GenerationSize(1, documents, chunks, 100, 100)
    assert fallen([size], QualitySettings(max_drop=0.3)) == [size] * is_told


def test_a_few_that_are_gone_are_no_drop_whatever_share_they_are() -> None:
    assert fallen([GenerationSize(1, 0, 2, 10, 12)], QualitySettings(max_drop=0.1)) == []
    lost = GenerationSize(1, 0, 1, 11, 12)
    assert fallen([lost], QualitySettings(max_drop=0.1)) == [lost]
