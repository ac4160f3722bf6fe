"""What every parser promises. A new one joins by a line in `PARSERS`."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.errors import UnreadableDocumentError
from rag_assets.indexing.chunking import MarkdownChunker
from rag_assets.indexing.parsing import parser_of
from rag_assets.model import ChunkingSettings, ParsedDocument
from rag_assets.ports import Parser
from rag_assets_tests.unit.made_documents import Text, docx, p, pdf

PARSERS: dict[str, Parser] = {
    identity: parser_of(identity)
    for identity in (
        *("auto@1", "markdown@1", "text@1"),
        *("auto@2", "markdown@2", "text@2", "html@2", "pdf@2", "docx@2"),
    )
}
OF_TEXT = {name: parser for name, parser in PARSERS.items() if name[0] not in "pd"}
"""Those that read any text."""

each_parser = pytest.mark.parametrize("parser", PARSERS.values(), ids=PARSERS)
each_parser_of_text = pytest.mark.parametrize("parser", OF_TEXT.values(), ids=OF_TEXT)

MARKDOWN = b"---\ntitle: T\n---\n# One\n\nText.\n\n## Two\n\nMore.\n"
CONTENTS = {
    "markdown": MARKDOWN,
    "html": b"<title>T</title><h1>One</h1><p>Text.<h2>Two</h2><ul><li>More.</ul>",
    "pdf": pdf([[Text("One", size=20), Text("Text.", y=690)], [Text("More.")]]),
    "docx": docx(p("One", properties='<w:outlineLvl w:val="0"/>') + p("Text.")),
}


def check(parsed: ParsedDocument) -> None:
    """A database takes it; headings and pages stand in the text, in order."""
    starts = [heading.start for heading in parsed.headings]
    assert starts == sorted(starts)
    assert all(0 <= start < len(parsed.text) for start in starts)
    assert all(1 <= heading.level <= 6 and heading.title for heading in parsed.headings)
    assert list(parsed.pages) == sorted(parsed.pages)
    assert all(0 <= start <= len(parsed.text) for start in parsed.pages)
    for text in (parsed.text, parsed.title, *(each.title for each in parsed.headings)):
        assert "\0" not in text
        text.encode("utf-8")
    assert "\n" not in parsed.title
    assert len(parsed.title) <= 200


@each_parser
def test_the_identity_names_the_parser_and_its_version(parser: Parser) -> None:
    name, _, version = parser.identity.partition("@")
    assert name
    assert version.isdecimal()


def test_no_two_parsers_are_one() -> None:
    assert {parser.identity for parser in PARSERS.values()} == set(PARSERS)


@each_parser
@pytest.mark.parametrize("doc_id", ["a.md", "b/c.txt", "d.html", "e.pdf", "f.docx", "noname"])
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_the_same_bytes_give_the_same_document(parser: Parser, content: bytes, doc_id: str) -> None:
    with suppress(UnreadableDocumentError):
        parsed = parser.parse(content, doc_id=doc_id)
        assert parsed == parser.parse(content, doc_id=doc_id)
        check(parsed)


@each_parser_of_text
def test_the_text_depends_on_the_name_only_as_far_as_the_content_key_does(parser: Parser) -> None:
    """Documents of one content hash share one text."""
    assert parser.parse(MARKDOWN, doc_id="a.md") == parser.parse(MARKDOWN, doc_id="x/y z.MD")
    assert parser.parse(MARKDOWN, doc_id="a.txt") == parser.parse(MARKDOWN, doc_id="b")
    assert parser.parse(MARKDOWN, doc_id="a.html") == parser.parse(MARKDOWN, doc_id="b.HTM")


@each_parser_of_text
def test_an_empty_document_is_a_document(parser: Parser) -> None:
    assert parser.parse(b"", doc_id="a.md").text == ""


@each_parser
def test_what_is_no_text_is_refused_and_the_document_is_named(parser: Parser) -> None:
    with pytest.raises(UnreadableDocumentError, match=r"bad\.md"):
        parser.parse(bytes(range(256)), doc_id="bad.md")


@each_parser
@given(
    content=st.binary(max_size=200),
    doc_id=st.sampled_from(["a.md", "a.txt", "a.html", "a.pdf", "a.docx"]),
)
def test_any_bytes_are_parsed_or_refused(parser: Parser, content: bytes, doc_id: str) -> None:
    with suppress(UnreadableDocumentError):
        check(parser.parse(content, doc_id=doc_id))


@pytest.fixture
def messy() -> dict[str, bytes]:
    if not (data := os.environ.get("RAG_ASSETS_DATA")):
        pytest.skip("RAG_ASSETS_DATA names no folder")
    return {file.name: file.read_bytes() for file in (Path(data) / "messy").iterdir()}


@pytest.mark.data
@each_parser
def test_awkward_files_are_parsed_or_refused(parser: Parser, messy: dict[str, bytes]) -> None:
    for name, content in messy.items():
        with suppress(UnreadableDocumentError):
            check(parser.parse(content, doc_id=name))


WITHOUT_TEXT = {
    "imagemagick-CCITTFaxDecode.pdf": "has no text, only pictures",
    "libreoffice-writer-password.pdf": "needs a password",
    "random.bin": "is no text",
    "sample.epub": "is an EPUB book",
    "sample.xlsx": "is an Excel workbook",
    "truncated.docx": "is damaged",
    "truncated.pdf": "is damaged or cut off",
}
EMPTY = {"empty.txt", "whitespace-only.txt", "front-matter-only.md"}
SAYS = {
    "arabic-habibi.pdf": "habibi",
    "blog.html": "The Auto-GPT project is an example",
    "bom-crlf.md": "# Heading\n\nA paragraph with CRLF.\n",
    "borderless-table.pdf": "SKU-9201 Hardware $32.50 $25,285.00 2024-10-22 Verified",
    "cp932-mskanji.csv": "名前,年齢,住所",
    "docx-tables.docx": "| Header Col 1 | Header Col 2 |",
    "equations.docx": "mλ/a",
    "google-doc-document.pdf": "Beautiful is better than ugly.\nExplicit",
    "html-cp1252.html": "Die schöne Frau hat einen Kaffee",
    "html-named.pdf": "level 2 Algebra",
    "multicolumn.pdf": "Fusce mauris. Vestibulum luctus nibh at lectus. Sed bibendum, nulla a faucibus",
    "pdflatex-outline.pdf": "# 2 Bar",
    "stanley-cups-utf-16.csv": "Stanley Cups",
    "umlauts-non-utf8.md": "## können",
    "utf-16-le.txt": "This is a test document",
    "utf-32.txt": "This is a test document",
    "with-comment.docx": "# Abstract",
}


@pytest.mark.data
def test_only_files_without_a_readable_text_are_refused(messy: dict[str, bytes]) -> None:
    chunker = MarkdownChunker(ChunkingSettings())
    for name, content in messy.items():
        if reason := WITHOUT_TEXT.get(name):
            with pytest.raises(UnreadableDocumentError, match=reason):
                parser_of("auto@2").parse(content, doc_id=name)
            continue
        parsed = parser_of("auto@2").parse(content, doc_id=name)
        assert SAYS.get(name, "") in parsed.text
        assert bool(chunker.split(parsed)) == (name not in EMPTY)
