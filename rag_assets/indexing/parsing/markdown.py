"""Markdown and plain text: the text stays as it is, headings are found in it."""

import re
from bisect import bisect_right
from functools import cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, TypeAlias

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
_Found: TypeAlias = tuple[int, str, int]
"""Level, title and line of a heading."""
_ATX_HEADING = re.compile(r"(#{1,6})(?:[ \t]+(.*?))??(?:[ \t]+#+)?[ \t]*")
_FENCE = re.compile(r"(`{3,})[^`]*$|(~{3,})")
_PROSE = re.compile(r"[^\W\d_]|[|(\"']|\*\*[^\W\d_]")
_HTML = re.compile(r" {0,3}<")
_NEEDS_CARE = re.compile(
    r" {1,3}(?:```|~~~)"
    r"| {0,3}<(?:!--(?!.*-->[ \t]*$)|[?]|![A-Za-z\[]|(?:script|pre|style|textarea)\b)",
    re.IGNORECASE,
)
"""A fence that may belong to a list; HTML that does not end at a blank line."""
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
    lines = text.split("\n")
    line_starts = [0, *(accumulate(len(line) + 1 for line in lines))]
    found = _quickly(lines)
    if found is None:
        found = _exactly(lines, 0)
    return tuple(Heading(level, title, line_starts[at]) for level, title, at in found if title)


def _exactly(lines: list[str], begin: int) -> list[_Found]:
    """As CommonMark has it; `begin` is the number of the first of these lines."""
    found = []
    for opening, inline in pairwise(_block_parser().parse("\n".join(lines))):
        if opening.type == "heading_open" and opening.map and opening.level == 0:
            title = " ".join(inline.content.split())
            found.append((int(opening.tag[1]), title, begin + opening.map[0]))
    return found


def _quickly(lines: list[str]) -> list[_Found] | None:
    """The same, where only what is not prose is read exactly; None where that takes all of it.

    Most lines of most documents are prose, headings with `#`, or code between fences, and reading
    them exactly takes most of the time. Nothing can reach over a line with `#` at its beginning,
    or over one of prose after a blank line, except a fence or a block of HTML that is still open.
    """
    found: list[_Found] = []
    at = begin = 0
    is_prose, is_html, after_blank = True, False, True
    while at < len(lines):
        line = lines[at]
        fence = _FENCE.match(line)
        if _NEEDS_CARE.match(line) or (fence and is_html):
            return None
        heading = None if is_html else _ATX_HEADING.fullmatch(line)
        if fence or heading or (after_blank and _PROSE.match(line)):
            if not is_prose:
                found += _exactly(lines[begin:at], begin)
            begin, is_prose, is_html = at, True, False
        if heading:
            found.append((len(heading[1]), " ".join((heading[2] or "").split()), at))
            begin = at + 1
        elif fence:
            at = begin = _after_fence(lines, at, fence[1] or fence[2])
            after_blank = False
            continue
        elif not line.strip(" \t"):
            is_html = False
        elif not _PROSE.match(line):
            is_prose = False
            is_html = is_html or _HTML.match(line) is not None
        after_blank = not line.strip(" \t")
        at += 1
    return found if is_prose else found + _exactly(lines[begin:], begin)


def _after_fence(lines: list[str], at: int, mark: str) -> int:
    closing = re.compile(rf" {{0,3}}{mark[0]}{{{len(mark)},}}[ \t]*")
    for number in range(at + 1, len(lines)):
        if closing.fullmatch(lines[number]):
            return number + 1
    return len(lines)


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
