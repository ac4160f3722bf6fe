"""From bytes to text, headings and pages. Offsets count characters of the parsed text."""

from collections.abc import Callable

from rag_assets.errors import ConfigurationError
from rag_assets.indexing.parsing.decoding import decode, western
from rag_assets.indexing.parsing.docx import parse_docx
from rag_assets.indexing.parsing.html import parse_html
from rag_assets.indexing.parsing.kinds import (
    Kind,
    content_hash,
    kind_of,
    kind_of_name,
    refuse_other_formats,
)
from rag_assets.indexing.parsing.markdown import (
    first_line,
    heading_paths,
    page_of,
    parse_markdown,
    parse_text,
)
from rag_assets.indexing.parsing.pdf import parse_pdf
from rag_assets.model import ParsedDocument
from rag_assets.ports import Parser

__all__ = [
    "DocumentParser",
    "TextParser",
    "content_hash",
    "decode",
    "first_line",
    "heading_paths",
    "page_of",
    "parse_markdown",
    "parser_of",
]

VERSION = 2
"""Raise it when the same bytes give another text: every document is then read again."""
AUTO = "auto"


def parser_of(identity: str) -> Parser:
    """The parser of an identity, of this version or an earlier one.

    >>> parser_of("auto@1").identity, parser_of("pdf@2").identity
    ('auto@1', 'pdf@2')
    """
    reads, _, version = identity.partition("@")
    if version == "1" and reads in (AUTO, Kind.MARKDOWN, Kind.TEXT):
        return TextParser(reads)
    if version == str(VERSION) and reads in (AUTO, *Kind):
        return DocumentParser(reads)
    raise ConfigurationError(
        f"There is no parser {identity!r} in this version. Build a new generation with `rag-assets"
        " materialize`, or install the earlier one again."
    )


class DocumentParser:
    """Reads each file as what it is, or all of them as one kind."""

    def __init__(self, reads: str = AUTO) -> None:
        self._reads = None if reads == AUTO else Kind(reads)

    @property
    def identity(self) -> str:
        return f"{self._reads or AUTO}@{VERSION}"

    def parse(self, content: bytes, *, doc_id: str) -> ParsedDocument:
        kind = self._reads or kind_of(content, doc_id=doc_id)
        return _READERS[kind](content, doc_id=doc_id)


class TextParser:
    """Version 1 knew Markdown and plain text only; generations that live are made with it."""

    def __init__(self, reads: str = AUTO) -> None:
        self._reads = reads

    @property
    def identity(self) -> str:
        return f"{self._reads}@1"

    def parse(self, content: bytes, *, doc_id: str) -> ParsedDocument:
        text, warnings = decode(content, doc_id=doc_id, guess=western)
        is_markdown = (
            kind_of_name(doc_id) is Kind.MARKDOWN
            if self._reads == AUTO
            else (self._reads == Kind.MARKDOWN)
        )
        parse = parse_markdown if is_markdown else parse_text
        return parse(text, warnings=warnings)


def _read_markdown(content: bytes, *, doc_id: str) -> ParsedDocument:
    refuse_other_formats(content, doc_id=doc_id)
    text, warnings = decode(content, doc_id=doc_id)
    return parse_markdown(text, warnings=warnings)


def _read_text(content: bytes, *, doc_id: str) -> ParsedDocument:
    refuse_other_formats(content, doc_id=doc_id)
    text, warnings = decode(content, doc_id=doc_id)
    return parse_text(text, warnings=warnings)


_READERS: dict[Kind, Callable[..., ParsedDocument]] = {
    Kind.MARKDOWN: _read_markdown,
    Kind.TEXT: _read_text,
    Kind.HTML: parse_html,
    Kind.PDF: parse_pdf,
    Kind.DOCX: parse_docx,
}
