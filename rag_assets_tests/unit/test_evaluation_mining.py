"""Labelled questions out of feedback, and what is left for a person."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rag_assets.evaluation.golden_set import GoldenSet, Label
from rag_assets.evaluation.mining import LABEL_CHARS, Mined, mined, telling_part
from rag_assets.model import Feedback

TEXTS = {
    "roof.md": "# The roof\n\nThe roof is made of slate.\n\nIt was new in 1999.",
    "door.md": "The door is green. The door is green.",
}
SLATE = ("roof.md", "The roof is made\nof slate.")
NEW = ("roof.md", "It was new in 1999.")


def said(
    question: str, passage: tuple[str, str] | None = None, *, helpful: bool = True
) -> Feedback:
    doc_id, quote = passage or (None, None)
    start = TEXTS.get(doc_id or "", "").find((quote or "")[:10])
    return Feedback(
        question, helpful, datetime.now(UTC), 1, doc_id, start, start + len(quote or ""), quote
    )


def mine(*feedback: Feedback, texts: dict[str, str] = TEXTS) -> Mined:
    return mined(feedback, texts)


def labels(found: Mined) -> list[Sequence[Label]]:
    return [each.labels for each in found.questions]


def test_a_question_with_a_helpful_passage_is_labelled_by_its_words() -> None:
    found = mine(said("What is the roof made of?", SLATE))
    [question] = found.questions
    assert question.question == "What is the roof made of?"
    assert question.labels == (Label("roof.md", "The roof is made of slate."),)
    assert question.tags == ("mined",)
    assert len(GoldenSet("m", tuple(found.questions)).resolve(TEXTS)[0].answers) == 1


def test_wordings_that_ask_the_same_are_one_question_in_the_most_usual_wording() -> None:
    found = mine(
        said("what is  it made of", SLATE),
        said("What is it made of?", NEW),
        said("What is it made of?", SLATE),
    )
    [question] = found.questions
    assert question.question == "What is it made of?"
    assert len(question.labels) == 2


def test_a_question_keeps_its_id_whatever_is_said_later() -> None:
    first, later = mine(said("A roof?", SLATE)), mine(said("Is it?", NEW), said("a roof", SLATE))
    assert first.questions[0].id in {each.id for each in later.questions}
    assert mine(said("A roof?", SLATE), said("Is it?", NEW)) == mine(
        said("Is it?", NEW), said("A roof?", SLATE)
    )


def test_a_passage_that_people_disagree_on_is_left_out_and_the_others_stay() -> None:
    found = mine(said("Roof?", SLATE), said("Roof?", SLATE, helpful=False), said("Roof?", NEW))
    assert labels(found) == [(Label("roof.md", "It was new in 1999."),)]
    assert found.contradicted == ["Roof?"]


def test_what_nothing_helped_with_is_for_a_person_to_decide() -> None:
    found = mine(said("Who is Ann?", SLATE, helpful=False), said("Who is Ann?", helpful=False))
    assert (found.questions, found.only_unhelpful) == ([], ["Who is Ann?"])


def test_praise_of_an_answer_without_a_passage_labels_nothing() -> None:
    found = mine(said("Roof?"))
    assert (found.questions, found.without_passage) == ([], ["Roof?"])
    assert found.only_unhelpful == []


def test_passages_that_stand_no_more_or_not_once_are_named() -> None:
    found = mine(
        said("Roof?", ("roof.md", "The roof is thatched.")),
        said("Roof?", ("gone.md", "The roof is gone.")),
        said("Door?", ("door.md", "The door is green.")),
    )
    assert found.questions == []
    assert len(found.stale) == 3
    assert any("does not stand any more in 'roof.md'" in each for each in found.stale)
    assert any("no document 'gone.md'" in each for each in found.stale)
    assert any("stands 2 times in 'door.md'" in each for each in found.stale)


def test_of_a_long_passage_the_part_that_speaks_of_the_question_is_labelled() -> None:
    """So that a chunker that cuts shorter is not held against the whole passage."""
    answer = "The bell was cast in Lyon in 1780."
    passage = f"# The bell\n\n{'Other things are told here. ' * 15}{answer} {'More of them. ' * 15}"
    found = mine(said("Where was the bell cast?", ("bell.md", passage)), texts={"bell.md": passage})
    assert labels(found) == [(Label("bell.md", answer),)]


def test_a_long_passage_without_a_word_of_the_question_is_left_to_a_person() -> None:
    passage = "Nothing is told here. " * 30
    found = mine(said("Where was the bell cast?", ("a.md", passage)), texts={"a.md": passage})
    assert (found.questions, found.unclear) == ([], ["Where was the bell cast?"])


def test_words_that_stand_elsewhere_too_are_labelled_by_their_characters() -> None:
    sentence = "The bell was cast in Lyon."
    passage = f"{sentence} {'Other things are told here. ' * 20}"
    text = f"{passage}\n\n{sentence} Again."
    found = mine(said("Where was the bell cast?", ("a.md", passage)), texts={"a.md": text})
    assert labels(found) == [(Label("a.md", sentence, 0, len(sentence)),)]


def test_the_telling_part_is_never_longer_than_a_label_should_be() -> None:
    passage = "The bell was cast here, and the bell was heard. " * 40
    part = telling_part(passage, "Was the bell cast here or heard elsewhere?")
    assert part is not None
    assert part[1] - part[0] <= LABEL_CHARS
