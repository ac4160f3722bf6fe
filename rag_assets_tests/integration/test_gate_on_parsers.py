"""Two parsers read the same pages each its way: each is judged on the text it has made."""

from html import escape
from pathlib import Path

import pytest

from rag_assets.model import Corpus, EvaluationSettings, LocalFilesSettings
from rag_assets.settings import DatabaseUrls
from rag_assets.testing import InMemorySource
from rag_assets_tests.integration.evaluated import Evaluated

FACTS = {
    "roof.html": "The roof of the church is covered with grey slate from the northern quarry.",
    "well.html": "The well behind the orchard is eleven fathoms deep and never runs dry.",
    "bees.html": "The beekeeper moves both hives behind the meadow in the last week of October.",
    "oven.html": "Bread is baked in the communal oven on Fridays before the evening service.",
}
QUESTIONS = {
    "roof.html": "What covers the roof of the church?",
    "well.html": "How deep is the well behind the orchard?",
    "bees.html": "When are the hives moved?",
    "oven.html": "When is bread baked in the oven?",
}


def page(name: str, fact: str) -> bytes:
    """Read as plain text, its tags move every word."""
    title = f"<h1>About the {name.removesuffix('.html')}</h1>"
    return f"<html><body>\n\n{title}\n\n<p>{fact}</p>\n\n</body></html>\n".encode()


def coded(fact: str) -> str:
    """The same words to a reader of HTML, and to nobody else."""
    return escape(fact).replace("e", "&#101;")


@pytest.fixture
def pages(database: DatabaseUrls) -> Evaluated:
    source = InMemorySource({name: page(name, fact) for name, fact in FACTS.items()})
    return Evaluated(database, Corpus("pages", source=LocalFilesSettings("."), buckets=2), source)


@pytest.fixture
def asked(pages: Evaluated, tmp_path: Path) -> Evaluated:
    """With questions that somebody has written."""
    lines = ["questions:"]
    for name, question in QUESTIONS.items():
        lines.append(f"  - id: {name}\n    question: {question}")
        lines.append(f"    answers: [{{doc: {name}, quote: {FACTS[name]!r}}}]")
    golden = tmp_path / "golden.yaml"
    golden.write_text("\n".join(lines))
    return pages.with_settings(evaluation=EvaluationSettings(golden_set=str(golden)))


def published(pages: Evaluated) -> Evaluated:
    first = pages.build()
    assert pages.verdict(first).accepted
    pages.publish(first)
    return pages


def read_as_text(pages: Evaluated) -> Evaluated:
    """By another parser, with a candidate built from what it made."""
    other = pages.with_settings(parser="text")
    other.build()
    texts = other.stores.documents.live_texts("pages", FACTS)
    assert all("<p>" in text for text in texts.values())
    return other


def test_a_parser_that_moves_every_word_loses_and_wins_nothing(asked: Evaluated) -> None:
    published(asked)
    other = read_as_text(asked)
    before, after = (other.scores(each) for each in other.living)
    assert before.means["answer_span_hit@5"] == after.means["answer_span_hit@5"] == 1.0
    assert [each.question_id for each in before.questions] == list(QUESTIONS)
    assert other.verdict(other.living[1]).accepted
    assert other.publisher.stale_labels(other.questions) == ()


def test_questions_made_of_the_documents_are_asked_of_both_texts(pages: Evaluated) -> None:
    published(pages)
    own = pages.questions
    other = read_as_text(pages)
    assert other.questions == own, "they are of what readers have"
    before, after = (other.scores(each) for each in other.living)
    assert before.means["answer_span_hit@5"] == after.means["answer_span_hit@5"] == 1.0
    assert len(before.questions) == len(after.questions) == len(own.questions) > 0


@pytest.mark.parametrize("written", [True, False])
def test_a_parser_that_garbles_what_readers_have_is_refused(
    pages: Evaluated, asked: Evaluated, written: bool
) -> None:
    garbling = asked if written else pages
    for name, fact in FACTS.items():
        garbling.source.contents[name] = page(name, coded(fact))
    published(garbling)
    other = read_as_text(garbling)
    verdict = other.verdict(other.living[1])
    assert not verdict.accepted
    assert "answer_span_hit@5 went from 1.000 to 0.000" in " ".join(verdict.reasons)


def test_once_the_other_text_is_what_readers_have_its_labels_are_held_against_it(
    asked: Evaluated,
) -> None:
    published(asked)
    other = read_as_text(asked)
    other.publish(other.living[1])
    other.source.contents["oven.html"] = page("oven.html", coded(FACTS["oven.html"]))
    other.build()
    [stale] = other.publisher.stale_labels(other.questions)
    assert "oven.html" in stale
    assert len(other.scores(other.living[1]).questions) == len(QUESTIONS) - 1
