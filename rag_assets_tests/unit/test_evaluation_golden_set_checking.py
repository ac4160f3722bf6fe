"""What is found wrong with a golden set, and how small a difference it can show."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden_set import GoldenSet, Label, LabelledQuestion, read_golden_set
from rag_assets.evaluation.golden_set.checking import duplicates, resolution, stale_labels
from rag_assets.evaluation.golden_set.moving import nearest
from rag_assets.model import QuestionScore, Scores

TEXTS = {
    "roof.md": "# The roof\n\nThe roof is made of black slate.\n\nIt was new in 1999.",
    "door.md": "The door is painted green. Nobody has\ncounted the nails.",
}


def asked(*labels: Label, question: str = "?") -> LabelledQuestion:
    return LabelledQuestion("q", question, labels)


# --- where a sentence may be now -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("quote", "doc_id", "found", "likeness"),
    [
        ("Nobody has counted the nails.", "door.md", "Nobody has counted the nails.", 1.0),
        ("The roof is made of slate.", "roof.md", "The roof is made of black slate.", 0.92),
        ("the door is painted green.", "door.md", "The door is painted green.", 0.99),
    ],
)
def test_the_nearest_sentence_is_found_wherever_it_is(
    quote: str, doc_id: str, found: str, likeness: float
) -> None:
    other, place = nearest(["Whales sing.", quote], TEXTS.items())
    assert other is None
    assert place is not None
    assert (place.doc_id, place.quote) == (doc_id, found)
    assert place.likeness == pytest.approx(likeness, abs=0.01)
    assert " ".join(TEXTS[place.doc_id][place.start : place.end].split()) == found


@pytest.mark.parametrize("quote", ["Whales sing in the deep sea.", "xyz", "..."])
def test_what_is_like_nothing_has_no_nearest_sentence(quote: str) -> None:
    assert nearest([quote], TEXTS.items()) == [None]
    assert nearest([quote], []) == [None]


def test_a_stale_label_is_named_with_the_place_and_others_read_nothing() -> None:
    good = asked(Label("roof.md", "It was new in 1999."))

    def never() -> Iterator[tuple[str, str]]:
        raise AssertionError("every document was read")

    assert list(stale_labels(GoldenSet("s", (good,)), TEXTS, never)) == []
    stale = asked(Label("roof.md", "The roof is made of slate."), Label("roff.md"))
    moved, renamed = stale_labels(GoldenSet("s", (stale,)), TEXTS, TEXTS.items)
    assert moved.nearest is not None
    assert renamed.nearest_document == "roof.md"


def test_questions_that_ask_the_same_and_labels_that_stand_twice_are_named() -> None:
    label = Label("roof.md", "It was new in 1999.")
    golden_set = GoldenSet(
        "s",
        (
            LabelledQuestion("a", "How old is it?", (label, label)),
            LabelledQuestion("b", "how  old is it", (label,)),
            LabelledQuestion("c", "Is it old?", (label,)),
        ),
    )
    assert list(duplicates(golden_set)) == [
        "question 'a' has the same label twice",
        "questions 'a', 'b' ask the same",
    ]


# --- how small a difference shows ----------------------------------------------------------------


def scores(generation: int, *values: float) -> Scores:
    found = (QuestionScore(str(number), {"m": value}) for number, value in enumerate(values))
    return Scores(generation, "s", tuple(found))


def test_two_generations_that_agree_question_by_question_show_more_than_one_alone() -> None:
    spread = [0.0, 1.0] * 50
    moved = [*spread[:-4], *([0.5] * 4)]
    pair = resolution([scores(1, *spread), scores(2, *moved)], "m", 0.02)
    alone = resolution([scores(2, *moved)], "m", 0.02)
    assert pair is not None
    assert alone is not None
    assert (pair.paired, alone.paired) == (True, False)
    assert pair.detectable < alone.detectable / 2
    assert pair.needed < alone.needed
    assert pair.generations == (1, 2)


def test_enough_questions_show_the_tolerance_and_it_takes_four_times_as_many_for_half() -> None:
    before = scores(1, *[0.0, 1.0] * 100)
    after = scores(2, *[0.1, 1.0] * 100)
    coarse, fine = (resolution([before, after], "m", tolerance) for tolerance in (0.1, 0.05))
    assert coarse is not None
    assert fine is not None
    assert fine.needed == pytest.approx(4 * coarse.needed, abs=4)
    assert (coarse.needed <= 200) == (coarse.detectable <= 0.1)


def test_what_was_not_measured_shows_nothing() -> None:
    assert resolution([], "m", 0.02) is None
    assert resolution([scores(1, 1.0, 0.0)], "other", 0.02) is None
    assert resolution([scores(1, 1.0)], "m", 0.02) is None


# --- tables --------------------------------------------------------------------------------------


def table(folder: Path, name: str, content: str) -> GoldenSet:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return read_golden_set(path)


def test_tables_and_lines_read_as_the_same_questions(tmp_path: Path) -> None:
    tsv = 'id\tquestion\tdoc\tquote\ttags\n1\tHow old?\troof.md\tIt was "new" in 1999.\tx;y\n'
    csv = 'question,doc,quote,id,tags\nHow old?,roof.md,"It was ""new"" in 1999.",1,"x, y"\n'
    row = {"id": "1", "question": "How old?", "doc": "roof.md", "quote": 'It was "new" in 1999.'}
    answers = [{"doc": "roof.md", "quote": 'It was "new" in 1999.'}]
    whole = {"id": "1", "question": "How old?", "tags": ["x", "y"], "answers": answers}
    found = [
        table(
            tmp_path,
            "a.tsv",
            tsv.replace('"new"', '""new""').replace("It", '"It').replace("1999.", '1999."'),
        ).questions,
        table(tmp_path, "a.csv", "\ufeff" + csv).questions,
        table(tmp_path, "a.jsonl", json.dumps(row | {"tags": ["x", "y"]}) + "\n\n").questions,
        table(tmp_path, "b.jsonl", json.dumps(whole)).questions,
    ]
    assert found == [found[0]] * 4
    assert found[0][0].tags == ("x", "y")


def test_lines_with_one_id_or_one_question_are_one_question(tmp_path: Path) -> None:
    rows = [
        {"question": "How old?", "doc": "a", "quote": "x"},
        {"question": "how old", "doc": "b", "whole": True, "grade": 2},
        {"question": "How old is it really, then?", "doc": "c", "start": 0, "end": 2},
        {"question": "How old is it really, or not?"},
    ]
    one, two, three = table(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows))).questions
    assert one.labels == (Label("a", "x"), Label("b", grade=2))
    assert (two.id, three.id) == ("how-old-is-it-really", "how-old-is-it-really-2")
    assert three.labels == ()


@pytest.mark.parametrize(
    ("name", "content", "problems"),
    [
        ("a.jsonl", '{"question": "a"}\nnot json\n[1]\n{"q": 1}', ["line 2", "line 3", "line 4"]),
        ("a.tsv", "question\tdoc\tquote\nq\td\nq\td\tx\ty\n\n", ["line 2", "line 3"]),
        ("a.csv", "question,doc,quotes\nq,d,x\n", ["line 2: quotes: Extra inputs"]),
        ("a.csv", "id,question\n1,a\n1,b\n", ["another question has the id '1'"]),
        ("a.csv", "question\n", ["no question in"]),
        ("a.jsonl", "", ["no question in"]),
    ],
)
def test_everything_wrong_with_a_table_is_named_at_once(
    tmp_path: Path, name: str, content: str, problems: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        table(tmp_path, name, content)
    assert [problem for problem in problems if problem not in str(caught.value)] == []
