"""Markdown and plain text: the text stays as it is, headings are found in it."""

import re
from bisect import bisect_right
from functools import cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from rag_assets.model import Heading, ParsedDocument

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

# It begins with a field: prose between two rules is none.
_FRONT_MATTER = re.compile(
    r"\A---[ \t]*\n(?=(?:[ \t]*\n|\#.*\n)*(?:[^\s:#][^:\n]*:\s|---[ \t]*(?:\n|\Z)))"
    r"(?P<fields>(?:.*\n)*?)---[ \t]*(?:\n|\Z)"
)
_TITLE_FIELD = re.compile(
    r"^title:[ \t]*(?P<quote>[\"']?)(?P<title>.+?)(?P=quote)[ \t]*$", re.MULTILINE
)
_WORD = re.compile(r"\w")
_LONGEST_TITLE = 200


def parse_text(text: str, *, warnings: tuple[str, ...] = ()) -> ParsedDocument:
    return ParsedDocument(title=first_line(text), text=text, warnings=warnings)


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
    return ParsedDocument(short_title(title), text, headings, warnings)


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
    return short_title(line)


def short_title(title: str) -> str:
    return title[:_LONGEST_TITLE]


def heading_paths(headings: tuple[Heading, ...]) -> list[tuple[str, ...]]:
    """The titles above a character, outermost first: before any heading, then after each.

    >>> heading_paths((Heading(1, "A", 0), Heading(2, "B", 10), Heading(2, "C", 20)))
    [(), ('A',), ('A', 'B'), ('A', 'C')]
    """
    paths: list[tuple[str, ...]] = [()]
    above: list[Heading] = []
    for heading in headings:
        while above and above[-1].level >= heading.level:
            above.pop()
        above.append(heading)
        paths.append(tuple(each.title for each in above))
    return paths


def page_of(pages: tuple[int, ...], position: int) -> int | None:
    """The number of the page on which a character stands, from 1; None where there are none.

    >>> page_of((0, 10, 10, 20), 9), page_of((0, 10, 10, 20), 10), page_of((), 5)
    (1, 3, None)
    """
    return max(bisect_right(pages, position), 1) if pages else None
