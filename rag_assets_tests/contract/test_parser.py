"""What every parser promises. A new one joins by a line in `PARSERS`."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.errors import UnreadableDocumentError
from rag_assets.indexing.parsing import TextParser
from rag_assets.model import ParsedDocument
from rag_assets.ports import Parser

PARSERS: dict[str, Parser] = {name: TextParser(name) for name in ("auto", "markdown", "text")}

each_parser = pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS)

MARKDOWN = b"---\ntitle: T\n---\n# One\n\nText.\n\n## Two\n\nMore.\n"


def check(parsed: ParsedDocument) -> None:
    """A database takes it, and every heading stands in the text, in order."""
    starts = [heading.start for heading in parsed.headings]
    assert starts == sorted(starts)
    assert all(0 <= start < len(parsed.text) for start in starts)
    assert all(1 <= heading.level <= 6 and heading.title for heading in parsed.headings)
    for text in (parsed.text, parsed.title, *(each.title for each in parsed.headings)):
        assert "\0" not in text
        text.encode("utf-8")
    assert "\n" not in parsed.title


@each_parser
def test_the_identity_names_the_parser_and_its_version(parser: Parser) -> None:
    name, _, version = parser.identity.partition("@")
    assert name
    assert version.isdecimal()


def test_no_two_parsers_are_one() -> None:
    assert len({parser.identity for parser in PARSERS.values()}) == len(PARSERS)


@each_parser
@pytest.mark.parametrize("doc_id", ["a.md", "b/c.txt", "noname"])
def test_the_same_bytes_give_the_same_document(parser: Parser, doc_id: str) -> None:
    parsed = parser.parse(MARKDOWN, doc_id=doc_id)
    assert parsed == parser.parse(MARKDOWN, doc_id=doc_id)
    check(parsed)


@each_parser
def test_the_text_depends_on_the_name_only_as_far_as_the_content_key_does(parser: Parser) -> None:
    """Documents of one content hash share one text."""
    assert parser.parse(MARKDOWN, doc_id="a.md") == parser.parse(MARKDOWN, doc_id="x/y z.MD")
    assert parser.parse(MARKDOWN, doc_id="a.txt") == parser.parse(MARKDOWN, doc_id="b")


@each_parser
def test_an_empty_document_is_a_document(parser: Parser) -> None:
    assert parser.parse(b"", doc_id="a.md").text == ""


@each_parser
def test_what_is_no_text_is_refused_and_the_document_is_named(parser: Parser) -> None:
    with pytest.raises(UnreadableDocumentError, match=r"bad\.md"):
        parser.parse(bytes(range(256)), doc_id="bad.md")


@each_parser
@given(content=st.binary(max_size=200), doc_id=st.sampled_from(["a.md", "a.txt"]))
def test_any_bytes_are_parsed_or_refused(parser: Parser, content: bytes, doc_id: str) -> None:
    with suppress(UnreadableDocumentError):
        check(parser.parse(content, doc_id=doc_id))


@pytest.mark.data
@each_parser
def test_awkward_files_are_parsed_or_refused(parser: Parser) -> None:
    if not (data := os.environ.get("RAG_ASSETS_DATA")):
        pytest.skip("RAG_ASSETS_DATA names no folder")
    for file in (Path(data) / "messy").iterdir():
        with suppress(UnreadableDocumentError):
            check(parser.parse(file.read_bytes(), doc_id=file.name))
