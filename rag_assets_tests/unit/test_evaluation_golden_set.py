"""Labelled questions, from files to characters."""

import gzip
import json
from pathlib import Path

import pytest

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden_set import (
    END_OF_DOCUMENT,
    GoldenSet,
    Label,
    LabelledQuestion,
    read_golden_set,
)
from rag_assets.model import SourceSpan

GOLDEN = """
questions:
  - id: default-buckets
    question: How many buckets are there?
    answers:
      - doc: buckets.md
        quote: "The default is 16 buckets."
    tags: [literal]
  - id: by-place
    question: What is first?
    answers:
      - {doc: buckets.md, start: 0, end: 3}
  - id: france
    question: What is the capital of France?
    answers: []
"""

TEXTS = {"buckets.md": "The buckets. The default\n  is 16 buckets. They stay."}


def written(folder: Path, content: str) -> GoldenSet:
    path = folder / "golden.yaml"
    path.write_text(content, encoding="utf-8")
    return read_golden_set(path)


def test_a_quote_becomes_the_characters_it_stands_at_whatever_the_line_breaks(
    tmp_path: Path,
) -> None:
    literal, by_place, france = written(tmp_path, GOLDEN).resolve(TEXTS)
    [span] = literal.answers
    assert TEXTS[span.doc_id][span.start : span.end] == "The default\n  is 16 buckets."
    assert by_place.answers == (SourceSpan("buckets.md", 0, 3),)
    assert not france.answerable
    assert literal.tags == ("literal",)


def test_the_documents_that_labels_point_to_are_named(tmp_path: Path) -> None:
    assert written(tmp_path, GOLDEN).doc_ids == {"buckets.md"}


def test_the_identity_changes_with_a_label_and_not_with_a_comment(tmp_path: Path) -> None:
    identity = written(tmp_path, GOLDEN).identity
    assert identity.startswith("golden.yaml@")
    assert written(tmp_path, "# a comment\n" + GOLDEN).identity == identity
    assert written(tmp_path, GOLDEN.replace("16", "17")).identity != identity
    assert written(tmp_path, GOLDEN.replace("France", "Spain")).identity != identity


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("There are 17 buckets.", "does not stand in 'buckets.md'"),
        ("The default is 16 buckets. The default is 16 buckets.", "stands 2 times in 'buckets.md'"),
    ],
)
def test_a_quote_that_does_not_occur_exactly_once_is_named_with_question_and_document(
    tmp_path: Path, text: str, problem: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        written(tmp_path, GOLDEN).resolve({"buckets.md": text})
    assert "'default-buckets'" in str(caught.value)
    assert "'The default is 16 buckets.'" in str(caught.value)
    assert problem in str(caught.value)


def test_all_labels_that_do_not_fit_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        written(tmp_path, GOLDEN).resolve({"buckets.md": "x"})
    assert str(caught.value).count("\n- ") == 2


def test_labels_that_no_longer_fit_are_left_out_and_named(tmp_path: Path) -> None:
    text = TEXTS["buckets.md"].replace("16", "32")

    fitting, stale = written(tmp_path, GOLDEN).fitting({"buckets.md": text})

    assert [question.id for question in fitting.questions] == ["by-place", "france"]
    assert len(stale) == 1
    assert "'default-buckets'" in stale[0]


def test_what_no_longer_fits_of_a_generated_question_is_named_without_words_of_its_document() -> (
    None
):
    labels = (Label("a.md", "the roof leaks"), Label("a.md", "the roof", 0, 8), Label("a.md"))
    golden = GoldenSet("g", (LabelledQuestion("q", "roof leaks", labels, ("generated",)),))

    _, stale = golden.fitting({"a.md": "Ann has mended it."})

    assert stale == (
        "question 'q': its quote does not stand in 'a.md'",
        "question 'q': characters 0 to 8 of 'a.md' are other words than its quote",
    )


def test_a_golden_set_without_one_fitting_label_judges_nothing_and_is_refused(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigurationError, match="no longer fits the documents"):
        written(tmp_path, GOLDEN).fitting({})


def test_a_document_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no document 'buckets\.md'"):
        written(tmp_path, GOLDEN).resolve({})


def test_a_label_may_be_a_whole_document_and_may_be_graded(tmp_path: Path) -> None:
    text = GOLDEN.replace("{doc: buckets.md, start: 0, end: 3}", "{doc: d, whole: true, grade: 3}")
    _, whole, _ = written(tmp_path, text).resolve(TEXTS | {"d": "x"})
    assert whole.answers == (SourceSpan("d", 0, END_OF_DOCUMENT, 3),)


def test_only_a_grade_that_was_given_is_part_of_the_identity(tmp_path: Path) -> None:
    plain, ungraded, graded = (
        written(tmp_path, GOLDEN.replace("end: 3}", end)).identity
        for end in ("end: 3}", "end: 3, grade: 1}", "end: 3, grade: 2}")
    )
    assert plain == ungraded
    assert plain != graded


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (GOLDEN.replace("end: 3}", "end: 3, whole: true}"), "or whole: true for all of it"),
        (GOLDEN.replace(", start: 0, end: 3", ""), "give a quote, or start and end, or whole"),
        ("questions: []", "there is no question in it"),
        ("- a\n- b", "golden.yaml is not valid"),
        (GOLDEN.replace("id: by-place", "id: france"), "these ids stand twice: france"),
        (GOLDEN.replace("    answers: []\n", ""), "question 'france', answers: Field required"),
        (GOLDEN.replace("quote:", "qoute:"), "question 'default-buckets', answers.0.qoute: Extra"),
        (GOLDEN.replace(", end: 3", ""), "question 'by-place', answers.0: give both"),
        (GOLDEN.replace("  - id: france\n    question", "  - question"), "question 3, id: Field"),
        ("questions: [", "cannot be read"),
    ],
)
def test_a_file_that_is_not_valid_says_which_question_and_what(
    tmp_path: Path, wrong: str, message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        written(tmp_path, wrong)
    assert message in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no golden set at"):
        read_golden_set(tmp_path / "none.yaml")


# --- the layout of BEIR ------------------------------------------------------------------------


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    folder = tmp_path / "bench"
    folder.mkdir()
    queries = [{"_id": "1", "text": "What is lift?"}, {"_id": "2", "text": "What is drag?"}]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n1\td7\t1\n1\td8\t0\n")
    return folder


def test_a_judged_document_is_a_label_of_the_whole_document(beir: Path) -> None:
    golden = read_golden_set(beir)
    lift, drag = golden.resolve({"d7": "Lift is a force."})
    assert lift.answers == (SourceSpan("d7", 0, END_OF_DOCUMENT),)
    assert not drag.answerable
    assert golden.identity.startswith("bench@")


def test_answers_with_characters_are_preferred_and_held_against_their_text(beir: Path) -> None:
    row = {
        "query_id": "1",
        "doc_id": "d7",
        "answers": [{"text": "a force", "start": 8, "end": 15}],
    }
    (beir / "answers.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    golden = read_golden_set(beir)
    assert golden.resolve({"d7": "Lift is a force."})[0].answers == (SourceSpan("d7", 8, 15),)
    with pytest.raises(ConfigurationError, match="are not 'a force' any more") as caught:
        golden.resolve({"d7": "Lift is the force."})
    assert "the for" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="which has 5"):
        golden.resolve({"d7": "short"})


def test_answers_in_several_documents_are_all_kept_and_the_rest_is_whole_documents(
    beir: Path,
) -> None:
    rows = [
        {"query_id": "1", "doc_id": "d7", "answers": [{"text": "force", "start": 10, "end": 15}]},
        {"query_id": "1", "doc_id": "d9", "answers": [{"text": "up", "start": 0, "end": 2}]},
    ]
    (beir / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with (beir / "qrels.tsv").open("a") as qrels:
        qrels.write("2\td7\t2\n1\td9\t3\n")
    lift, drag = read_golden_set(beir).resolve({"d7": "Lift is a force.", "d9": "up"})
    assert lift.answers == (SourceSpan("d7", 10, 15), SourceSpan("d9", 0, 2, 3))
    assert drag.answers == (SourceSpan("d7", 0, END_OF_DOCUMENT, 2),)


def test_a_folder_without_judgements_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "queries.jsonl").write_text("")
    with pytest.raises(ConfigurationError, match=r"qrels\.tsv or answers\.jsonl"):
        read_golden_set(tmp_path)


def test_a_broken_line_in_a_folder_is_a_clear_error(beir: Path) -> None:
    (beir / "queries.jsonl").write_text("{not json")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_golden_set(beir)


def test_a_folder_without_a_question_or_with_an_id_twice_is_refused(beir: Path) -> None:
    row = json.dumps({"_id": 1, "text": "What is lift?"})
    for content, message in (("\n", "no question in it"), (f"{row}\n{row}", "ids stand twice: 1")):
        (beir / "queries.jsonl").write_text(content)
        with pytest.raises(ConfigurationError, match=message):
            read_golden_set(beir)


def test_everything_wrong_with_a_folder_is_named_at_once_by_file_and_line(beir: Path) -> None:
    (beir / "queries.jsonl").write_text('{"text": "a"}\n\n[1]\n{"_id": "1", "text": ""}\n{no')
    (beir / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n1\td7\n1\td7\tgood\n")
    answer = {"query_id": "1", "doc_id": "d7", "answers": [{"text": "x", "start": 0}]}
    (beir / "answers.jsonl").write_text(json.dumps(answer))
    with pytest.raises(ConfigurationError) as caught:
        read_golden_set(beir)
    expected = [
        "qrels.tsv, line 2: write question",
        "qrels.tsv, line 3: write question",
        "answers.jsonl, line 1: answers.0.end: Field required",
        "queries.jsonl, line 1: _id: Field required",
        "queries.jsonl, line 3: write an object",
        "queries.jsonl, line 4: text: String should have at least 1 character",
        "queries.jsonl, line 5: Expecting property name",
    ]
    found = str(caught.value).splitlines()[1:]
    assert len(found) == len(expected)
    for line, each in zip(found, expected, strict=True):
        assert line.startswith(f"- {each}")


def test_judgements_without_a_header_are_all_read(beir: Path) -> None:
    (beir / "qrels.tsv").write_text("1\td7\t1\n2\td8\t1\n")
    lift, drag = read_golden_set(beir).questions
    assert [label.doc_id for each in (lift, drag) for label in each.labels] == ["d7", "d8"]


def test_a_file_named_like_the_questions_nobody_has_written_is_not_taken_for_them(
    beir: Path,
) -> None:
    renamed = beir.rename(beir.parent / "generated")
    assert not read_golden_set(renamed).identity.startswith("generated@")
