"""What everything promises that runs parsers: outcomes in order, one a job, whatever it reads."""

from collections.abc import Iterator
from itertools import count, islice

import pytest

from rag_assets.adapters.parse_workers import ParseWorkers
from rag_assets.errors import UnreadableDocumentError
from rag_assets.model import Heading, ParsedDocument, ParseJob
from rag_assets.ports import Parsing
from rag_assets.testing import InProcessParsing
from rag_assets_tests.contract import harmful_parsers

IDENTITIES = ("a@1", "b@1")


@pytest.fixture(params=["in this process", "one worker", "two workers"], scope="module")
def parsing(request: pytest.FixtureRequest) -> Iterator[Parsing]:
    match request.param:
        case "in this process":
            yield InProcessParsing([harmful_parsers.parser_of(name) for name in IDENTITIES])
        case "one worker":
            with ParseWorkers(harmful_parsers.WHERE, workers=1) as workers:
                yield workers
        case _:
            with ParseWorkers(harmful_parsers.WHERE) as workers:
                yield workers


def job(content: str, doc_id: str = "a.txt", parser: str = "a@1") -> ParseJob:
    return ParseJob(doc_id, content.encode(), parser)


def texts(parsing: Parsing, *contents: str) -> list[str]:
    return [
        outcome.text if isinstance(outcome, ParsedDocument) else str(outcome)
        for outcome in parsing.parsed(map(job, contents))
    ]


def test_no_job_has_no_outcome(parsing: Parsing) -> None:
    assert list(parsing.parsed([])) == []


def test_a_document_comes_back_whole(parsing: Parsing) -> None:
    text = "Grüße, 世界 🦓\n\u2028 and a \x01"
    [outcome] = parsing.parsed([job(text, doc_id="ü\n.txt")])
    assert outcome == ParsedDocument("ü\n.txt", text, (Heading(1, "ü\n.txt", 0),), ("w",), (0, 1))


def test_an_empty_document_is_a_document(parsing: Parsing) -> None:
    [outcome] = parsing.parsed([job("much 0")])
    assert isinstance(outcome, ParsedDocument)
    assert outcome.text == ""


def test_outcomes_come_in_the_order_of_the_jobs_whatever_they_take(parsing: Parsing) -> None:
    contents = ["nap 0.2", *(f"document {number} {'x' * number**2}" for number in range(300))]
    assert texts(parsing, *contents) == contents


def test_a_refusal_is_the_outcome_of_its_document_alone(parsing: Parsing) -> None:
    outcomes = list(parsing.parsed([job("one"), job("refuse", "bad.md"), job("two")]))
    assert isinstance(outcomes[1], UnreadableDocumentError)
    assert str(outcomes[1]) == "bad.md is refused."
    assert all(isinstance(outcomes[at], ParsedDocument) for at in (0, 2))


def test_large_documents_come_back_whole(parsing: Parsing) -> None:
    contents = [
        letter * size for letter, size in zip("abcdef", (0, 1, 10**6, 3, 10**7, 10**5), strict=True)
    ]
    assert texts(parsing, *contents) == contents


def test_jobs_are_taken_as_they_are_wanted(parsing: Parsing) -> None:
    """An endless source is read no further than a little ahead."""
    taken = count()
    jobs = (job(f"document {next(taken)}") for _ in count())
    outcomes = parsing.parsed(jobs)
    found = [each.text for each in islice(outcomes, 500) if isinstance(each, ParsedDocument)]
    assert found == [f"document {number}" for number in range(500)]
    assert next(taken) < 700


def test_it_can_be_used_again_and_before_it_was_read_to_its_end(parsing: Parsing) -> None:
    for _ in range(3):
        assert isinstance(next(parsing.parsed([job("one"), job("two")])), ParsedDocument)
    assert texts(parsing, "three") == ["three"]


def test_two_can_use_it_at_once(parsing: Parsing) -> None:
    one, other = (parsing.parsed(map(job, ["1", "2", "3"])) for _ in range(2))
    pairs = [(a, b) for a, b in zip(one, other, strict=True)]
    assert [a for a, _ in pairs] == [b for _, b in pairs]


def test_an_error_of_the_source_passes_through(parsing: Parsing) -> None:
    def jobs() -> Iterator[ParseJob]:
        yield job("one")
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(parsing.parsed(jobs()))
    assert texts(parsing, "two") == ["two"]
