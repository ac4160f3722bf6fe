"""Questions made from the documents themselves."""

import os
import subprocess
import sys
from pathlib import Path

from rag_assets.evaluation.known_items import known_items
from rag_assets.model import Heading, ParsedDocument


def parsed(text: str) -> ParsedDocument:
    headings, start = [], 0
    for line in text.splitlines(keepends=True):
        if line.startswith("#"):
            level = len(line) - len(line.lstrip("#"))
            headings.append(Heading(level, line.lstrip("# ").strip(), start))
        start += len(line)
    return ParsedDocument("title", text, tuple(headings))


DOCUMENTS = {
    "buckets.md": parsed(
        "# Buckets\n\n## Why there are buckets\n\nSixteen partitions keep a failure small and the"
        " list readable for everybody.\n\nMore follows here.\n\n## Examples\n\nThis is one of the"
        " examples that are given.\n"
    ),
    "gate.md": parsed(
        "# Gate\n\n## Examples\n\nThe tolerance decides how much worse a candidate may become."
        "\n\n```\nThis Sentence stands in a block of code and is never asked for, not once.\n```\n"
    ),
}


def test_a_heading_asks_for_the_paragraph_under_it() -> None:
    [asked] = [
        each
        for each in known_items(DOCUMENTS).questions
        if each.question == "Why there are buckets"
    ]
    [label] = asked.labels
    assert label.start is not None
    quote = DOCUMENTS["buckets.md"].text[label.start : label.end]
    assert quote.startswith("Sixteen partitions")
    assert quote.endswith("everybody.")


def test_a_heading_that_stands_in_several_documents_asks_for_nothing() -> None:
    assert "Examples" not in {each.question for each in known_items(DOCUMENTS).questions}


def test_the_rarest_words_of_a_sentence_ask_for_it() -> None:
    [asked] = [
        each
        for each in known_items(DOCUMENTS).questions
        if each.labels[0].doc_id == "gate.md" and "-sentence-" in each.id
    ]
    [label] = asked.labels
    assert label.start is not None
    sentence = DOCUMENTS["gate.md"].text[label.start : label.end]
    assert sentence == "The tolerance decides how much worse a candidate may become."
    assert set(asked.question.split()) < set(sentence.lower().replace(".", "").split())
    assert "tolerance" in asked.question


def test_every_question_is_tagged_as_generated_and_resolves() -> None:
    golden = known_items(DOCUMENTS)
    texts = {doc_id: document.text for doc_id, document in DOCUMENTS.items()}
    assert len(golden.resolve(texts)) == len(golden.questions)
    assert {each.tags for each in golden.questions} == {("generated",)}


def test_no_id_of_a_question_holds_the_name_of_its_document() -> None:
    ids = [each.id for each in known_items(DOCUMENTS).questions]
    assert len(set(ids)) == len(ids)
    assert not [each for each in ids if "gate" in each or "buckets" in each or ".md" in each]


def test_the_same_documents_give_the_same_set_in_any_order() -> None:
    backwards = dict(reversed(DOCUMENTS.items()))
    assert known_items(DOCUMENTS).identity == known_items(backwards).identity


EQUALLY_RARE = """
from rag_assets.evaluation.known_items import known_items
from rag_assets.model import ParsedDocument

def sentence(kind, rarest):  # its words stand in 1, 2, 3 … documents, those of every kind alike
    return f"The {' '.join(kind * 6 + letter for letter in 'bcdfghjk'[rarest:])} and the end."

documents = {
    f"{n}.md": ParsedDocument("", "\\n\\n".join(sentence(kind, n) for kind in "mnopqrs"))
    for n in range(8)
}
print(known_items(documents).identity)
"""


def test_every_process_chooses_the_same_of_equally_rare_sentences() -> None:
    made = {
        subprocess.run(
            [sys.executable, "-c", EQUALLY_RARE],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3", "4")
    }
    assert len(made) == 1


def test_no_more_questions_are_made_than_asked_for() -> None:
    assert len(known_items(DOCUMENTS, limit=1).questions) == 1


def test_documents_without_prose_give_no_questions() -> None:
    assert known_items({"empty.md": parsed(""), "short.md": parsed("# A b\n\nx")}).questions == ()
