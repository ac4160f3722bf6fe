"""From bytes to text and headings. Offsets count characters of the parsed text."""

import codecs
import hashlib
import re
from bisect import bisect_right
from functools import cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from rag_assets.errors import UnreadableDocumentError
from rag_assets.model import Heading, ParsedDocument

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

VERSION = 1
"""Raise it when the same bytes give another text: every document is then read again."""
MARKDOWN_SUFFIXES = (".md", ".markdown", ".mdx")
# It begins with a field: prose between two rules is none.
_FRONT_MATTER = re.compile(
    r"\A---[ \t]*\n(?=(?:[ \t]*\n|\#.*\n)*(?:[^\s:#][^:\n]*:\s|---[ \t]*(?:\n|\Z)))"
    r"(?P<fields>(?:.*\n)*?)---[ \t]*(?:\n|\Z)"
)
_TITLE_FIELD = re.compile(
    r"^title:[ \t]*(?P<quote>[\"']?)(?P<title>.+?)(?P=quote)[ \t]*$", re.MULTILINE
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\ufffd]")
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WORD = re.compile(r"\w")
_LONGEST_TITLE = 200
_MOST_DAMAGE = 0.1


class TextParser:
    """Reads Markdown and plain text: by the name's ending, or all files as one of the two."""

    def __init__(self, reads: str = "auto") -> None:
        self._reads = reads

    @property
    def identity(self) -> str:
        return f"{self._reads}@{VERSION}"

    def parse(self, content: bytes, *, doc_id: str) -> ParsedDocument:
        text, warnings = decode(content, doc_id=doc_id)
        if self._reads == "markdown" or (self._reads == "auto" and is_markdown(doc_id)):
            return parse_markdown(text, warnings=warnings)
        return ParsedDocument(title=first_line(text), text=text, warnings=warnings)


def is_markdown(doc_id: str) -> bool:
    return doc_id.lower().endswith(MARKDOWN_SUFFIXES)


def content_hash(content: bytes, *, doc_id: str) -> bytes:
    """The key of everything derived: the bytes, and whether their name says Markdown.

    >>> content_hash(b"# a", doc_id="a.md") == content_hash(b"# a", doc_id="moved/b.md")
    True
    >>> content_hash(b"# a", doc_id="a.md") == content_hash(b"# a", doc_id="a.txt")
    False
    """
    kind = b"markdown\0" if is_markdown(doc_id) else b"text\0"
    return hashlib.sha256(kind + content).digest()


def decode(content: bytes, *, doc_id: str) -> tuple[str, tuple[str, ...]]:
    r"""Text with plain line ends and no NUL, and what had to be mended on the way.

    >>> decode("Grüße\r\n".encode("cp1252"), doc_id="a.txt")
    ('Grüße\n', ('not UTF-8: read as Windows-1252',))
    """
    text, warnings = _decoded(content)
    damage = len(_CONTROL.findall(text))
    if damage > _MOST_DAMAGE * len(text):
        raise UnreadableDocumentError(
            f"{doc_id} is no text: {damage} of {len(text)} characters are control codes or cannot"
            " be decoded. Exclude it in the corpus's `source`, or save it as UTF-8."
        )
    if "\0" in text:
        warnings = (*warnings, "NUL characters were taken out")
    text = text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")
    return text, warnings


def _decoded(content: bytes) -> tuple[str, tuple[str, ...]]:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return _replacing(content, encoding)
    try:
        return content.decode("utf-8"), ()
    except UnicodeDecodeError:
        mended, warnings = _replacing(content, "utf-8")
    if mended.count("\ufffd") * 2 < sum(character > "\x7f" for character in mended):
        return mended, warnings
    try:
        return content.decode("cp1252"), ("not UTF-8: read as Windows-1252",)
    except UnicodeDecodeError:
        return mended, warnings


def _replacing(content: bytes, encoding: str) -> tuple[str, tuple[str, ...]]:
    text = content.decode(encoding, errors="replace")
    if count := text.count("\ufffd"):
        return text, (f"{count} characters could not be decoded",)
    return text, ()


def parse_markdown(text: str, *, warnings: tuple[str, ...] = ()) -> ParsedDocument:
    r"""The body without front matter, with the offset of every heading.

    >>> parse_markdown("---\ntitle: T\n---\n# A\n\n## B ##\n").headings
    (Heading(level=1, title='A', start=0), Heading(level=2, title='B', start=5))
    """
    title = ""
    if front := _FRONT_MATTER.match(text):
        field = _TITLE_FIELD.search(front["fields"])
        title = field["title"] if field else ""
        text = text[front.end() :]
    headings = _headings(text)
    if not title:
        title = headings[0].title if headings else first_line(text)
    return ParsedDocument(title[:_LONGEST_TITLE], text, headings, warnings)


def _headings(text: str) -> tuple[Heading, ...]:
    line_starts = [0, *(accumulate(len(line) + 1 for line in text.split("\n")))]
    tokens = _block_parser().parse(text)
    found = []
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open" and opening.map and opening.level == 0:
            title = " ".join(inline.content.split())
            found.append(Heading(int(opening.tag[1]), title, line_starts[opening.map[0]]))
    return tuple(heading for heading in found if heading.title)


@cache
def _block_parser() -> "MarkdownIt":
    """A CommonMark parser that leaves the insides of paragraphs alone."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").disable("inline")


def first_line(text: str) -> str:
    """The first line that says something, as a title for a text without headings."""
    line = next((line.strip() for line in text.split("\n") if _WORD.search(line)), "")
    return line[:_LONGEST_TITLE]


def heading_path(headings: tuple[Heading, ...], position: int) -> tuple[str, ...]:
    """The titles above a character, outermost first.

    >>> heading_path((Heading(1, "A", 0), Heading(2, "B", 10), Heading(2, "C", 20)), 25)
    ('A', 'C')
    """
    path: list[Heading] = []
    for heading in headings[: bisect_right(headings, position, key=lambda found: found.start)]:
        while path and path[-1].level >= heading.level:
            path.pop()
        path.append(heading)
    return tuple(heading.title for heading in path)
