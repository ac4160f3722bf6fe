"""A wrong expectation is told with its line before anything runs; a right one is taken whole."""

from pathlib import Path

import pytest

from rag_assets.corpus_file import check_defs, read_corpus
from rag_assets.model import Expectation

FILE = """\
type: rag_assets.components.Corpus
attributes:
  source:
    local_files:
      path: .
  expectations:
    required: true
"""
BETWEEN = "expect: expect_column_values_to_be_between"


def declared(folder: Path, stage: str, *lines: str) -> Path:
    """A corpus of which one thing is expected."""
    corpus = folder / "notes"
    corpus.mkdir()
    first, *others = lines
    item = [f"    {stage}:", f"      - {first}", *(f"        {line}" for line in others)]
    (corpus / "defs.yaml").write_text(FILE + "\n".join(item) + "\n")
    return corpus


def test_an_expectation_is_its_name_with_its_arguments(tmp_path: Path) -> None:
    lines = (BETWEEN, "column: characters", "min_value: 20", "mostly: 0.9", "quarantine: true")

    expected = read_corpus(declared(tmp_path, "documents", *lines)).expectations

    assert expected.required
    arguments = {"column": "characters", "min_value": 20, "mostly": 0.9}
    assert expected.documents == (Expectation(BETWEEN[8:], arguments, quarantine=True),)
    assert expected.stages["chunks"] == ()


QUERY = "expect: unexpected_rows_expectation"
WRONG = [
    (
        "chunks",
        ["expect: expect_column_values_to_be_betwen", "column: tokens", "min_value: 1"],
        "did you mean 'expect_column_values_to_be_between'?",
    ),
    (
        "chunks",
        ["expect: expect_column_values_to_be_json_parseable", "column: tokens"],
        "there is no expectation 'expect_column_values_to_be_json_parseable'",
    ),
    (
        "chunks",
        [BETWEEN, "column: tokns", "min_value: 1"],
        "the rows of 'chunks' have no column 'tokns'; did you mean 'tokens'?",
    ),
    (
        "documents",
        [BETWEEN, "column: ord", "min_value: 1"],
        "the rows of 'documents' have no column 'ord'",
    ),
    (
        "index",
        ["expect: expect_compound_columns_to_be_unique", "column_list: [doc_id, part]"],
        "the rows of 'index' have no column 'part'",
    ),
    (
        "chunks",
        [BETWEEN, "column: tokens", "min_val: 1"],
        "takes no 'min_val'; did you mean 'min_value'?",
    ),
    ("chunks", [BETWEEN, "min_value: 1"], "needs 'column'"),
    ("chunks", [BETWEEN, "column: tokens"], "needs 'min_value' or 'max_value'"),
    ("chunks", ["column: tokens"], "expect: missing; begin each with 'expect: NAME'"),
    (
        "chunks",
        [BETWEEN, "column: tokens", "min_value: 1", "mostly: 90"],
        "'mostly' is the share of the rows, from 0 to 1",
    ),
    (
        "chunks",
        [BETWEEN, "column: tokens", "min_value: 1", "severity: eror"],
        "unknown severity 'eror'",
    ),
    ("chunks", [BETWEEN, "column: tokens", 'quarantine: "yes"'], "quarantine"),
    (
        "chunks",
        [
            "expect: expect_column_mean_to_be_between",
            "column: tokens",
            "min_value: 1",
            "quarantine: true",
        ],
        "looks at all rows together, so it cannot quarantine any of them",
    ),
    (
        "index",
        [BETWEEN, "column: words", "min_value: 1", "quarantine: true"],
        "a row of the index cannot be quarantined",
    ),
    ("chunks", [QUERY, "unexpected_rows_query: SELECT 1"], "must read FROM {batch}"),
    (
        "chunks",
        [QUERY, "unexpected_rows_query: SELECT 1 FROM {batch} WHERE doc_id ~ 'a{5}'"],
        "write {{ and }}",
    ),
]


@pytest.mark.parametrize(("stage", "lines", "expected"), WRONG, ids=[case[2] for case in WRONG])
def test_a_wrong_expectation_is_told_with_its_line_and_what_was_meant(
    tmp_path: Path, stage: str, lines: list[str], expected: str
) -> None:
    declared(tmp_path, stage, *lines)

    (problem, *_) = check_defs(tmp_path)

    assert expected in str(problem)
    assert problem.path.startswith(f"attributes.expectations.{stage}[0]")
    assert problem.line is not None
    assert problem.line >= 9
