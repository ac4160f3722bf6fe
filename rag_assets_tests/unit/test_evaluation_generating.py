"""Test questions that a model writes: which passages it is shown, and what of it is believed."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from rag_assets.errors import ProviderBusyError, ProviderRefusalError, RejectedInputError
from rag_assets.evaluation.generating import (
    Generated,
    Passage,
    chosen_passages,
    problem_with,
    written,
)
from rag_assets.evaluation.golden_set import GoldenSet
from rag_assets.model import ChatPrice, Draft, ModelUse, ParsedDocument
from rag_assets.testing import StoppedClock

USED = ModelUse(1000, 100)
PRICE = ChatPrice(Decimal(1), Decimal(10))
"""A draft costs 0.002 dollars, and at most 0.004."""


def paragraph(of: str) -> str:
    return f"The {of} of the parish is described in this paragraph. " + f"It is a good {of}. " * 12


def document(*of: str) -> ParsedDocument:
    return ParsedDocument("The parish", "\n\n".join(map(paragraph, of)), ())


DOCUMENTS = {
    f"{name}.md": document(*(f"{name} {number}" for number in range(9)))
    for name in ("roof", "door", "oven")
}


def quote_of(passage: str) -> str:
    return passage.partition(". ")[0] + "."


def good(passage: str) -> Draft:
    quote = quote_of(passage)
    return Draft(f"Where is the {quote.split()[1]} told of, {len(passage)}?", quote, USED)


@dataclass(slots=True)
class Scripted:
    """Writes what it is told to, then good drafts."""

    ready: list[Draft | Exception] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    identity: str = "openai:scripted"

    def most(self, passage: str, *, title: str, complaint: str = "") -> ModelUse:
        return ModelUse(1000, 300)

    def write(self, passage: str, *, title: str, complaint: str = "") -> Draft:
        self.asked.append((passage, complaint))
        draft = self.ready.pop(0) if self.ready else good(passage)
        if isinstance(draft, Exception):
            raise draft
        return draft


def generated(
    writer: Scripted,
    wanted: int = 3,
    *,
    price: ChatPrice | None = PRICE,
    max_usd: Decimal | None = None,
    clock: StoppedClock | None = None,
) -> Generated:
    return written(
        DOCUMENTS,
        wanted,
        writer=writer,
        clock=clock or StoppedClock(),
        price=price,
        max_usd=max_usd,
        paid=lambda _: None,
    )


# --- passages ------------------------------------------------------------------------------------


def test_passages_are_the_same_for_the_same_documents_and_spread_over_them() -> None:
    long = {
        name: document(*(f"{name} {n}" for n in range(20))) for name in ("a.md", "b.md", "c.md")
    }
    passages = list(chosen_passages(long))
    assert passages == list(chosen_passages(dict(reversed(long.items()))))
    assert len(passages) > 9
    first = Counter(each.doc_id for each in passages[:9])
    assert set(first.values()) == {3}
    assert len({each.id for each in passages}) == len(passages)
    for each in passages:
        assert each.text in long[each.doc_id].text
        assert len(each.text) <= 1500


def test_documents_that_say_too_little_or_have_no_paragraphs_are_left_out() -> None:
    documents = {
        "short.md": ParsedDocument("", "Nothing much.", ()),
        "empty.md": ParsedDocument("", "", ()),
    }
    assert list(chosen_passages(documents | {"line.md": ParsedDocument("", "x" * 9000, ())})) == []


# --- what is believed ----------------------------------------------------------------------------

PASSAGE = Passage("roof.md", "", "The roof was made\nof slate in 1999. It is new.", 0)
TEXT = PASSAGE.text + " It is dear. It is dear."


@pytest.mark.parametrize(
    ("question", "quote", "problem"),
    [
        ("What is on top?", "The roof was made of slate in 1999.", ""),
        ("What is on top?", "The roof  was made of\nslate in 1999.", ""),
        ("What is on top?", "The roof was made of slate.", "does not stand in the passage"),
        ("What is on top?", "It is dear. It is dear.", "does not stand in the passage"),
        ("What is on top?", "It is new.", "must have 15 to 500"),
        ("The roof was made of slate in 1999?", "The roof was made of slate in 1999.", "repeats"),
        (
            "Is it so: the roof was made of slate in 1999",
            "The roof was made of slate in 1999.",
            "repeats",
        ),
        ("", "The roof was made of slate in 1999.", "no JSON"),
        ("What is on top?", "", "no JSON"),
        ("What?" * 70, "The roof was made of slate in 1999.", "too long"),
        ("what is it made of", "The roof was made of slate in 1999.", "same question"),
    ],
)
def test_only_a_question_in_other_words_with_a_quote_that_stands_once_is_believed(
    question: str, quote: str, problem: str
) -> None:
    found = problem_with(Draft(question, quote, USED), PASSAGE, TEXT, {"what is it made of"})
    assert problem in found
    assert bool(found) == bool(problem)


def test_a_quote_that_stands_twice_in_the_document_is_not_believed() -> None:
    draft = Draft("What is on top?", "The roof was made of slate in 1999.", USED)
    assert "several times" in problem_with(draft, PASSAGE, TEXT + PASSAGE.text)


# --- writing -------------------------------------------------------------------------------------


def test_questions_have_labels_that_resolve_and_say_that_nobody_wrote_them() -> None:
    found = generated(Scripted())
    golden_set = GoldenSet("new.yaml", tuple(found.questions))
    assert golden_set.generated
    resolved = golden_set.resolve({name: each.text for name, each in DOCUMENTS.items()})
    assert [len(each.answers) for each in resolved] == [1, 1, 1]
    assert (found.requests, found.used, found.usd) == (3, ModelUse(3000, 300), Decimal("0.006"))
    assert found.questions == generated(Scripted()).questions


def test_what_cannot_be_used_is_asked_for_once_more_and_then_left_out_and_counted() -> None:
    wrong = Draft("What?", "This stands nowhere at all.", USED)
    writer = Scripted([wrong, wrong, wrong])
    found = generated(writer)
    complaints = [complaint for _, complaint in writer.asked]
    assert complaints[0] == complaints[2] == ""
    assert "word for word" in complaints[1]
    assert complaints[1] == complaints[3]
    assert writer.asked[0][0] == writer.asked[1][0]
    assert found.left_out == {"The quote does not stand in the passage word for word.": 1}
    assert len(found.questions) == 3
    assert found.requests == 6


def test_a_model_that_writes_nonsense_is_not_asked_for_ever() -> None:
    found = generated(Scripted([Draft("", "", USED)] * 99), wanted=2)
    assert (found.questions, found.requests) == ([], 2 * 2 * 2)
    assert sum(found.left_out.values()) == 4


def test_a_passage_that_the_model_rejects_is_left_out() -> None:
    found = generated(Scripted([RejectedInputError("no")]))
    assert found.left_out == {"The model would not read it.": 1}
    assert len(found.questions) == 3


def test_every_answer_is_told_to_who_pays_also_those_that_cannot_be_used() -> None:
    paid: list[Draft] = []
    writer = Scripted([Draft("", "", USED)])
    written(
        DOCUMENTS,
        1,
        writer=writer,
        clock=StoppedClock(),
        price=None,
        max_usd=None,
        paid=paid.append,
    )
    assert len(paid) == 2


@pytest.mark.parametrize(("limit", "requests"), [("0.01", 4), ("0.004", 1), ("0.0039", 0)])
def test_it_stops_before_a_request_that_could_cost_more_than_the_limit(
    limit: str, requests: int
) -> None:
    found = generated(Scripted(), 6, max_usd=Decimal(limit))
    assert (found.requests, found.limit_reached) == (requests, True)
    assert len(found.questions) == requests
    assert (found.usd or 0) <= Decimal(limit)


def test_an_answer_that_never_came_may_have_cost_as_much_as_it_could() -> None:
    lost = ProviderBusyError("no answer", unanswered=True)
    found = generated(Scripted([lost, lost]), max_usd=Decimal("0.0119"))
    assert (found.questions, found.failure) == ([], lost)
    assert len(generated(Scripted([lost]), max_usd=Decimal("0.0119")).questions) == 2


def test_a_busy_server_is_asked_again_later_as_long_as_it_wishes() -> None:
    clock = StoppedClock()
    busy = ProviderBusyError("busy", headers={"retry-after": "7"})
    begun = clock.monotonic()
    found = generated(Scripted([busy, ProviderBusyError("busy")]), clock=clock)
    assert len(found.questions) == 3
    assert clock.monotonic() - begun > 7.5


@pytest.mark.parametrize(
    "errors",
    [[ProviderRefusalError("no key")], [ProviderBusyError("busy")] * 6],
)
def test_a_server_that_will_not_answer_ends_it_and_what_was_written_stays(
    errors: list[Exception],
) -> None:
    def drafts() -> Iterator[Draft | Exception]:
        yield good(next(chosen_passages(DOCUMENTS)).text)
        yield from errors

    found = generated(Scripted([*drafts()]))
    assert len(found.questions) == 1
    assert type(found.failure) is type(errors[0])
