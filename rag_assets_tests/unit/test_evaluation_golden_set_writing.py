"""Golden sets that are written and read again."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden_set import GoldenSet, Label, LabelledQuestion, read_golden_set
from rag_assets.evaluation.golden_set.beir import written_folder
from rag_assets.evaluation.golden_set.writing import by_place, by_quote
from rag_assets.evaluation.golden_set.yaml_file import written_yaml

TEXTS = {
    "roof.md": "The roof is\nnew. It has 900 tiles: “slate”, # and not clay. It has walls.",
    "empty: odd name.md": "Nothing much.",
}
SET = GoldenSet(
    "written",
    (
        LabelledQuestion("tiles", "How many tiles?", (Label("roof.md", "900 tiles"),), ("a", "b")),
        LabelledQuestion("new", "Is it new?", (Label("roof.md", "The roof is new."),)),
        LabelledQuestion(
            "twice",
            "What does it have?",
            (Label("roof.md", "It has", 17, 23), Label("roof.md", "It has", 60, 66, 2)),
        ),
        LabelledQuestion("all", "Which page?", (Label("empty: odd name.md", grade=3),)),
        LabelledQuestion("none", "yes", (), ("null", "1")),
    ),
)


def in_yaml(folder: Path, golden_set: GoldenSet, **how: list[str]) -> GoldenSet:
    path = folder / golden_set.name
    path.write_text(written_yaml(golden_set.questions, **how), encoding="utf-8")
    return read_golden_set(path)


def in_folder(folder: Path, golden_set: GoldenSet) -> GoldenSet:
    for name, content in written_folder(by_place(golden_set, TEXTS)).items():
        file = folder / golden_set.name / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    return read_golden_set(folder / golden_set.name)


def test_what_is_written_as_yaml_reads_as_the_same(tmp_path: Path) -> None:
    assert in_yaml(tmp_path, SET, comments=["made: by hand"]) == SET


def test_what_is_written_as_a_folder_has_the_same_spans_and_comes_back_by_its_quotes(
    tmp_path: Path,
) -> None:
    again = in_folder(tmp_path, SET)
    assert again.resolve(TEXTS) == SET.resolve(TEXTS)
    assert by_quote(again, TEXTS) == SET.questions


def test_a_quote_is_written_as_somebody_has_written_it() -> None:
    label = Label("roof.md", "The  roof\nis new.")
    golden_set = GoldenSet("s", (LabelledQuestion("1", "?", (label,)),))
    assert by_quote(golden_set, TEXTS) == golden_set.questions


def test_characters_become_a_quote_where_their_words_stand_once() -> None:
    placed = GoldenSet(
        "known",
        (
            LabelledQuestion(
                "1", "?", (Label("roof.md", None, 0, 16), Label("roof.md", None, 17, 23))
            ),
        ),
    )
    [question] = by_quote(placed, TEXTS)
    assert question.labels == (
        Label("roof.md", "The roof is new."),
        Label("roof.md", "It has", 17, 23),
    )


def test_a_label_that_fits_no_more_is_written_as_it_was_and_has_no_place() -> None:
    stale = GoldenSet("s", (LabelledQuestion("1", "?", (Label("roof.md", "thatched"),)),))
    assert by_quote(stale, TEXTS) == stale.questions
    with pytest.raises(ConfigurationError, match="'thatched' does not stand"):
        by_place(stale, TEXTS)


WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=30
).filter(lambda text: text.split() != [] and text == text.strip())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(
            LabelledQuestion,
            WORDS,
            WORDS,
            st.lists(st.builds(Label, WORDS, WORDS), max_size=2).map(tuple),
            st.lists(WORDS, max_size=2).map(tuple),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda question: question.id,
    )
)
def test_any_words_survive_the_yaml_file(
    tmp_path_factory: pytest.TempPathFactory, questions: list[LabelledQuestion]
) -> None:
    golden_set = GoldenSet("any.yaml", tuple(questions))
    assert in_yaml(tmp_path_factory.mktemp("any"), golden_set) == golden_set
