"""What stands on the terminal: every word of a document as it is, and nothing cut off."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from rag_assets import printing
from rag_assets.adapters.postgres.generations import GenerationRecord
from rag_assets.installation import CorpusStanding, Standing, Verified
from rag_assets.materializing import AssetDone, CheckDone, RunReport
from rag_assets.model import (
    Answer,
    Citation,
    Damage,
    DeadLetter,
    Hit,
    QuestionScore,
    Receipt,
    Repair,
    Scores,
    SearchResult,
    Stage,
    WhyWithheld,
    WithheldDeletion,
)
from rag_assets.operations.doctor import Finding

Capture = pytest.CaptureFixture[str]

MARKUP = "[bold]roof[/] [/nosuch] :smile: a\tb \\"
"""What a terminal library could take for its own: styles, an end without a beginning, a tab."""

HIT = Hit(
    generation=1,
    doc_id=f"{MARKUP}.md",
    ord=3,
    title=MARKUP,
    uri=f"file:///{MARKUP}",
    heading_path=(MARKUP, "Tiles"),
    text=f"{MARKUP}\nThe slate came from Wales.\\",
    start=0,
    end=50,
    content_hash=b"hash",
    run_id="run",
    score=0.5,
    dense=None,
    lexical=2.5,
)
CITATION = Citation(
    number=1,
    generation=1,
    doc_id=f"{MARKUP}.md",
    ord=3,
    title=MARKUP,
    uri=f"file:///{MARKUP}",
    heading_path=(MARKUP, "Tiles"),
    start=24,
    end=50,
    quote=f"The slate {MARKUP}",
    content_hash=b"hash",
    run_id="run",
)
ANSWER = Answer(
    question="Where from?",
    corpus="house",
    generation=1,
    citations=(CITATION,),
    hits=(HIT,),
    lexical_support=0.75,
    never_mentioned=(MARKUP,),
)
SINCE = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
RECORD = GenerationRecord(
    generation=1,
    state="published",
    fingerprint="0123456789abcdef",
    parser="auto@1",
    chunker="markdown@1:400-1200",
    embedder="wordllama:l2_supercat_256/document@1",
    dimensions=256,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    published_at=None,
    retired_at=None,
    documents=12,
    chunks=345,
)


def letter(number: int) -> DeadLetter:
    return DeadLetter(f"{number}.md", Stage.PARSE, "Error", f"{number}.md is no text: [/] odd", "1")


def gone(reason: WhyWithheld) -> WithheldDeletion:
    return WithheldDeletion(f"{MARKUP}.md", reason, SINCE)


def check(
    name: str, *, passed: bool, description: str = "as it should be", warning: bool = False
) -> CheckDone:
    return CheckDone("chunks", name, passed, description, blocking=not passed, warning=warning)


def report(**changes: Any) -> RunReport:
    return RunReport(run_id="run", checks=[check("complete", passed=True)], **changes)


# --- answers -----------------------------------------------------------------------------------


def test_an_answer_is_shown_word_for_word_with_its_citation(capsys: Capture) -> None:
    printing.answer(ANSWER)

    shown = capsys.readouterr().out
    assert f"The slate {MARKUP} [1]" in shown
    assert (
        f"[1] {MARKUP}.md, characters 24-50\n    {MARKUP} > Tiles\n    file:///{MARKUP}\n" in shown
    )
    assert f"The corpus never mentions: {MARKUP}\n" in shown


def test_a_document_cannot_take_over_the_terminal(capsys: Capture) -> None:
    printing.answer(replace(ANSWER, citations=(replace(CITATION, quote="\x1b]0;mine\x07 \x9b2J"),)))

    assert "\n\ufffd]0;mine\ufffd \ufffd2J [1]\n" in f"\n{capsys.readouterr().out}"


def test_a_refusal_says_so_and_what_was_nearest(capsys: Capture) -> None:
    printing.answer(replace(ANSWER, citations=()))

    shown = capsys.readouterr().out
    assert shown.startswith("Not in the corpus.")
    assert f"{MARKUP}.md#3" in shown


def test_a_search_shows_scores_and_the_beginning_of_each_chunk(capsys: Capture) -> None:
    printing.search_result(SearchResult("slate", "house", 1, hits=(HIT,), terms=()))

    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["score", "cosine", "BM25", "chunk"]
    assert line.split()[:3] == ["0.500", "-", "2.500"]
    assert f"{MARKUP}.md#3 [bold]roof[/] [/nosuch] :smile: a b \\ The" in line


def test_a_search_without_result_says_so(capsys: Capture) -> None:
    printing.search_result(SearchResult("slate", "house", 1, hits=(), terms=()))

    assert capsys.readouterr().out == "Nothing found that you may see.\n"


# --- runs --------------------------------------------------------------------------------------


def test_an_asset_says_only_what_it_did(capsys: Capture) -> None:
    printing.asset_done(AssetDone("chunks", 1.25, 1234, {"chunks_cut": 3, "waiting": 0}))
    printing.asset_done(AssetDone("embeddings", 0.1, 12, {"texts_embedded": 0}))

    first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["✓", "chunks", "1,234", "rows", "1.2", "s", "3", "chunks", "cut"]
    assert second.endswith("0.1 s")


def test_a_run_that_found_everything_in_place_says_that_there_was_nothing_to_do(
    capsys: Capture,
) -> None:
    quiet = [AssetDone("raw_documents", 0.1, 7, {"added": 0, "unchanged": 7})]

    printing.run_report(report(assets=quiet), "house")
    assert "Nothing to do: the index of house equals its source." in capsys.readouterr().out

    printing.run_report(report(assets=quiet, failure="It failed."), "house")
    assert "Nothing to do" not in capsys.readouterr().out


def test_a_failed_check_is_shown_with_its_reason_unless_the_error_says_the_same(
    capsys: Capture,
) -> None:
    found = report(failure="The gate refuses.")
    found.checks += [
        check("gate", passed=False, description="The gate refuses."),
        check("sound", passed=False, description=f"odd: {MARKUP}", warning=True),
        check("whole", passed=False, description="2 are missing"),
    ]

    printing.run_report(found, "house")

    shown = capsys.readouterr().out
    assert "gate" not in shown
    assert f"! chunks.sound: odd: {MARKUP}\n" in shown
    assert "✗ chunks.whole: 2 are missing\n" in shown
    assert "1 of 4 checks passed" in shown


def test_a_source_without_a_document_is_wondered_at(capsys: Capture) -> None:
    printing.run_report(report(assets=[AssetDone("raw_documents", 0.1, 0, {})]), "house")

    assert "the source has no document; do `path` and `include` fit it?" in capsys.readouterr().out


def test_a_run_without_checks_counts_none(capsys: Capture) -> None:
    printing.run_report(RunReport(failure="No source."), "house")

    assert capsys.readouterr().out == ""


# --- scores ------------------------------------------------------------------------------------


def test_metrics_stand_in_one_order_whatever_order_they_come_in() -> None:
    means = {"refusal_correct": 1.0, "house_rule": 0.1, "mrr@10": 0.5, "recall@5": 0.7}

    assert [name for name, _ in printing.in_order(means)] == [
        "recall@5", "mrr@10", "refusal_correct", "house_rule",
    ]  # fmt: skip


def test_scores_on_generated_questions_say_so_and_searches_have_their_times(
    capsys: Capture,
) -> None:
    questions = tuple(
        QuestionScore(str(number), {"recall@5": 1.0}, float(number)) for number in range(1, 101)
    )
    printing.scores(Scores(2, "generated@1", questions), "house")
    shown = capsys.readouterr().out
    assert "! these questions were made from the documents themselves" in shown
    assert "a search took 50 ms (p50), 95 ms (p95)" in shown
    printing.scores(Scores(2, "golden.yaml@1", (QuestionScore("a", {"recall@5": 1.0}),)), "house")
    shown = capsys.readouterr().out
    assert "made from" not in shown
    assert "ms" not in shown


def test_scores_say_on_how_many_questions_they_rest(capsys: Capture) -> None:
    questions = (
        QuestionScore("a", {"recall@5": 1.0, "refusal_correct": 1.0}),
        QuestionScore("b", {"refusal_correct": 0.0}),
    )

    printing.scores(Scores(2, "golden.yaml@1", questions), "house")

    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["metric", "mean", "questions"],
        ["recall@5", "1.000", "1"],
        ["refusal_correct", "0.500", "2"],
    ]


# --- the installation --------------------------------------------------------------------------


def standing(**changes: Any) -> Standing:
    house = CorpusStanding(
        "house",
        documents=12,
        dead_letters=[letter(n) for n in range(12)],
        withheld_deletions=[gone(WhyWithheld.TOO_MANY)] * 30,
        documents_waiting=2,
        published_generation=1,
        generations=[RECORD],
    )
    return replace(
        Standing(Path("/home/[x]"), True, "db/rag", 1, False, "http://127.0.0.1:3000", [house]),
        **changes,
    )


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_a_narrow_terminal_cuts_nothing_off(
    columns: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)

    printing.standing(standing())

    shown = capsys.readouterr().out
    assert "…" not in shown
    assert (
        "1           published  12         345     wordllama:l2_supercat_256/document@1  " in shown
    )


def test_the_status_says_which_documents_could_not_be_read_and_why(capsys: Capture) -> None:
    printing.standing(standing())

    shown = capsys.readouterr().out
    assert "house: 12 documents, 12 dead letters, generation 1 published\n" in shown
    assert "  ! 0.md is no text: [/] odd\n" in shown
    assert "  ! and 2 more: `rag-assets dead-letters list house`\n" in shown


def test_the_status_says_what_waits_and_what_was_not_believed(capsys: Capture) -> None:
    printing.standing(standing())

    shown = capsys.readouterr().out
    assert "documents that wait to be served: 2;" in shown
    assert "deletions that are withheld: 30;" in shown
    assert "`rag-assets approve-deletions house --help`" in shown


@pytest.mark.parametrize(
    ("state", "held", "said"),
    [
        ("building", False, "generation 2 is being built: 5 of 12 documents are in it\n"),
        ("failed", True, "generation 2 failed: no luck; `rag-assets materialize house` begins it"),
        ("cancelled", True, "generation 2 was cancelled: no luck; `rag-assets materialize house`"),
    ],
)
def test_the_status_says_how_far_a_build_is_or_why_there_is_none(
    state: str, held: bool, said: str, capsys: Capture
) -> None:
    (house,) = standing().corpora
    other = replace(
        RECORD,
        fingerprint="another",
        generation=2,
        state=state,
        documents=5,
        held=held,
        ended_reason="no luck",
    )

    printing.standing(standing(corpora=[replace(house, generations=[RECORD, other])]))

    assert f"  ! {said}" in capsys.readouterr().out


def test_a_source_that_lists_nothing_is_to_be_put_back_and_not_approved(capsys: Capture) -> None:
    (house,) = standing().corpora
    empty = replace(house, withheld_deletions=[gone(WhyWithheld.EMPTY)])

    printing.standing(standing(corpora=[empty]))

    shown = capsys.readouterr().out
    assert "the source lists nothing; put it back" in shown
    assert "approve-deletions" not in shown


# --- what needs a person -----------------------------------------------------------------------


def table(shown: str) -> list[list[str]]:
    """Cells, of which two blanks at least part one from the next."""
    return [re.split(r" {2,}", line.strip()) for line in shown.splitlines()]


def test_dead_letters_stand_in_a_table_with_their_reasons_last(capsys: Capture) -> None:
    waits = replace(letter(1), subject="auto@1", attempts=3, first_seen_at=SINCE, retry_at=SINCE)

    printing.dead_letters([waits, letter(2)], "house")

    header, first, second, hint = table(capsys.readouterr().out)
    assert header[-1] == "reason"
    assert first == [
        "1.md", "parse", "auto@1", "3", "2026-05-04 03:02", "2026-05-04 03:02",
        "1.md is no text: [/] odd",
    ]  # fmt: skip
    assert second[2:6] == ["-", "1", "-", "-"]
    assert "no next try" in hint[0]


def test_a_corpus_without_dead_letters_says_so(capsys: Capture) -> None:
    printing.dead_letters([], "house")

    assert capsys.readouterr().out == (
        "house has no dead letter: every document could be processed.\n"
    )


def test_one_dead_letter_is_shown_with_all_that_is_known(capsys: Capture) -> None:
    printing.dead_letter([letter(1), replace(letter(1), stage=Stage.EMBED, content_hash=b"\x01")])

    shown = capsys.readouterr().out
    assert shown.count("1.md\n") == 2
    assert "  stage         embed\n" in shown
    assert "  content hash  01\n" in shown
    assert "  reason        1.md is no text: [/] odd\n" in shown


def test_withheld_deletions_are_named_up_to_ten(capsys: Capture) -> None:
    printing.withheld([gone(WhyWithheld.TOO_MANY)] * 12, "house")

    shown = capsys.readouterr().out
    assert "Withheld deletions of house: 12\n" in shown
    assert shown.count(f"{MARKUP}.md  since 2026-05-04 03:02 UTC\n") == 10
    assert "and 2 more" in shown
    assert "listed nothing" not in shown


def test_an_empty_listing_is_said_to_delete_nothing_in_any_case(capsys: Capture) -> None:
    printing.withheld([gone(WhyWithheld.EMPTY)], "house")

    assert "deletes nothing, approved or not" in capsys.readouterr().out


DAMAGE = Damage(
    kind="text",
    what="is not what was written",
    subjects=("a.md", f"{MARKUP}.md"),
    repair=Repair.READ_AGAIN,
    generation=3,
    bucket=7,
)


def test_a_sound_corpus_is_one_line(capsys: Capture) -> None:
    printing.verified(Verified("house", [], []), repaired=False)

    assert capsys.readouterr().out == "✓ house: sound\n"


def test_damage_is_told_with_its_place_and_what_mends_it(capsys: Capture) -> None:
    printing.verified(Verified("house", [DAMAGE], [DAMAGE]), repaired=False)

    shown = capsys.readouterr().out
    assert shown.startswith("✗ house: damaged\n")
    assert "  text in generation 3, bucket 7: is not what was written: 2 (read again)\n" in shown
    assert f"    a.md, {MARKUP}.md\n" in shown
    assert "`rag-assets verify house --repair`" in shown


def test_a_repair_that_left_nothing_says_so(capsys: Capture) -> None:
    printing.verified(Verified("house", [DAMAGE], []), repaired=True)

    shown = capsys.readouterr().out
    assert shown.startswith("! house: damaged\n")
    assert shown.endswith("Repaired; a second look found nothing.\n")


def test_a_repair_says_what_the_next_run_has_to_make_again(capsys: Capture) -> None:
    printing.verified(Verified("house", [DAMAGE], [DAMAGE]), repaired=True)

    shown = capsys.readouterr().out
    assert shown.startswith("✗ house: damaged\n")
    assert "text in generation 3" in shown.partition("Left:")[2]
    assert "`rag-assets materialize house` makes again what was lost" in shown
    assert "--repair" not in shown


RECEIPT = Receipt(
    corpus="house",
    doc_id=f"{MARKUP}.md",
    erased={"documents": 1, "chunks": 0, "embeddings": 4},
    duplicates=(("garden", "copy.md"),),
    proof="SELECT count(*)\nFROM documents",
    remaining=0,
    unreached=("Backups.",),
)


def test_a_receipt_says_what_went_what_stays_and_how_it_is_proven(capsys: Capture) -> None:
    printing.receipt(RECEIPT)

    shown = capsys.readouterr().out
    assert f"Erased {MARKUP}.md from house.\n" in shown
    assert "embeddings  4\n" in shown
    assert "chunks" not in shown
    assert "was not touched: copy.md in garden\n" in shown
    assert "Proof: 0 rows left, counted by\n  SELECT count(*)\n  FROM documents\n" in shown
    assert shown.endswith("Out of reach:\n  - Backups.\n")


def test_a_receipt_for_nothing_says_that_the_id_is_blocked(capsys: Capture) -> None:
    printing.receipt(replace(RECEIPT, erased={"documents": 0}))

    shown = capsys.readouterr().out
    assert shown.startswith(f"house held nothing of {MARKUP}.md; its id is blocked now.\n")
    assert "rows taken away" not in shown


# --- findings ----------------------------------------------------------------------------------


def test_a_finding_stands_with_its_remedy(capsys: Capture) -> None:
    printing.findings(
        [
            Finding("Python", ok=True, detail="version 3.11"),
            Finding("disk space", ok=False, detail=f"none: {MARKUP}", remedy="Make room."),
        ]
    )

    fine, wrong, remedy = capsys.readouterr().out.splitlines()
    assert fine.startswith("✓ Python")
    assert wrong == f"✗ disk space   none: {MARKUP}"
    assert remedy.strip() == "Make room."


# --- colours -----------------------------------------------------------------------------------


def shown_on_a_terminal(**environment: str) -> str:
    """What a command that says something in green writes where colours are possible."""

    @click.command()
    def program() -> None:
        printing.say(("fine", "good"))

    return CliRunner().invoke(program, color=True, env=environment).output


def test_colours_are_left_out_where_the_environment_says_so() -> None:
    assert shown_on_a_terminal() == "\x1b[32mfine\x1b[0m\n"
    assert shown_on_a_terminal(NO_COLOR="1") == "fine\n"


# --- progress ----------------------------------------------------------------------------------


def test_what_is_being_done_goes_to_standard_error_as_one_line_of_a_log(capsys: Capture) -> None:
    with printing.Doing("working on [x]") as doing:
        doing.now("still working")
        doing.aside(print)("done")

    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("done\n", "… working on [x]\n")
