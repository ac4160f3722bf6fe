"""Labels of one text of a document in another text of it."""

import pytest

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden_set import END_OF_DOCUMENT, GoldenSet, Label, LabelledQuestion
from rag_assets.evaluation.golden_set.carrying import carried
from rag_assets.evaluation.scoring import finds
from rag_assets.model import GoldenQuestion, Hit, SourceSpan

BEFORE = {"roof.md": "Slate is grey. The *old* roof leaks. Slate is grey."}
AFTER = {"roof.md": "<p>Slate is grey.</p>\n<p>The old\nroof leaks.</p>\n<p>Slate is grey.</p>"}


def asked(*labels: Label) -> GoldenSet:
    return GoldenSet("s", (LabelledQuestion("q", "How is the roof?", labels),))


def words(question: GoldenQuestion, texts: dict[str, str]) -> list[str]:
    return [texts[each.doc_id][each.start : each.end] for each in question.answers]


def hit(texts: dict[str, str]) -> Hit:
    """A chunk that is the whole document."""
    text = texts["roof.md"]
    return Hit(1, "roof.md", 0, "", "", (), text, 0, len(text), b"", "run-1", 1.0, None, None)


def test_the_same_words_are_found_whatever_marks_stand_between_them() -> None:
    golden_set = asked(Label("roof.md", "The *old* roof leaks."))
    [found] = carried(golden_set, reference=BEFORE, texts=AFTER)
    assert words(found, AFTER) == ["The old\nroof leaks"]


def test_of_words_that_stand_twice_the_same_ones_are_meant() -> None:
    second = BEFORE["roof.md"].rindex("Slate")
    golden_set = asked(Label("roof.md", None, second, second + len("Slate is grey.")))
    [found] = carried(golden_set, reference=BEFORE, texts=AFTER)
    assert found.answers[0].start == AFTER["roof.md"].rindex("Slate")


def test_words_that_were_lost_are_asked_for_and_never_found() -> None:
    labels = Label("roof.md", "The *old* roof leaks."), Label("roof.md", None, 0, 14)
    lost = {"roof.md": "Th3 0ld r00f l3aks. Sl4te 1s gr3y."}
    [found] = carried(asked(*labels), reference=BEFORE, texts=lost)
    assert len(set(found.answers)) == 2
    assert not any(finds(hit(lost), each) for each in found.answers)


def test_a_label_that_only_the_new_text_fits_counts_there() -> None:
    golden_set = asked(Label("roof.md", "The old roof leaks."))
    [found] = carried(golden_set, reference=BEFORE, texts=AFTER)
    assert words(found, AFTER) == ["The old\nroof leaks."]


def test_a_document_that_the_parser_has_not_read_is_left_out() -> None:
    golden_set = asked(Label("roof.md", "The *old* roof leaks."))
    assert carried(golden_set, reference=BEFORE, texts={}) == ()


def test_a_whole_document_stays_one() -> None:
    [found] = carried(asked(Label("roof.md")), reference=BEFORE, texts=AFTER)
    assert found.answers == (SourceSpan("roof.md", 0, END_OF_DOCUMENT),)


def test_what_nothing_answers_stays_a_question() -> None:
    [found] = carried(asked(), reference=BEFORE, texts=AFTER)
    assert found.answers == ()


def test_a_set_that_fits_no_text_at_all_is_no_set() -> None:
    with pytest.raises(ConfigurationError, match="no longer fits"):
        carried(asked(Label("roof.md", "Tiles.")), reference=BEFORE, texts=AFTER)
