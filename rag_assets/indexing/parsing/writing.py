"""A text in the manner of Markdown, written block by block by readers of other formats."""

import re
from collections.abc import Sequence

from rag_assets.errors import UnreadableDocumentError
from rag_assets.indexing.parsing.decoding import storable
from rag_assets.indexing.parsing.markdown import first_line, short_title
from rag_assets.model import Heading, ParsedDocument

MOST_CHARS = 20_000_000
_SPACE = re.compile(r"\s+")
_INVISIBLE = re.compile(r"[\u00ad\u200b\u200e\u200f\u2060\ufeff]")
_CONTROL = re.compile(r"[\x01-\x08\x0e-\x1b\x7f\ufffe\uffff]")
_TICKS = re.compile(r"^ {0,3}(`{3,})", re.MULTILINE)


def plain(text: str) -> str:
    r"""White space is one space, and what cannot be seen is gone.

    >>> plain(" soft\u00adened \n text\u00a0")
    'softened text'
    """
    return _SPACE.sub(" ", _CONTROL.sub("", _INVISIBLE.sub("", storable(text)))).strip()


class Writer:
    """Puts blocks one below the other, and notes where headings and pages begin."""

    def __init__(self, *, doc_id: str) -> None:
        self._doc_id = doc_id
        self._parts: list[str] = []
        self._length = 0
        self._headings: list[Heading] = []
        self._pages: list[int] = []
        self._group: object = None

    @property
    def length(self) -> int:
        return self._length

    @property
    def pages(self) -> int:
        """How many have begun."""
        return len(self._pages)

    @property
    def headings(self) -> Sequence[Heading]:
        return self._headings

    def page(self) -> None:
        """The next block is the first of a new page."""
        self._pages.append(-1)

    def heading(self, level: int, title: str) -> None:
        title = plain(title)
        if title:
            level = min(max(level, 1), 6)
            self._begin()
            self._headings.append(Heading(level, title, self._length))
            self._put(f"{'#' * level} {title}")

    def paragraph(self, text: str) -> None:
        """A block with its own line breaks, if there is a word in it."""
        if text := _lines(text):
            self._begin()
            self._put(text)

    def item(self, text: str, *, depth: int = 0, mark: str = "-") -> None:
        """A line of a list; what goes on in it, or has no mark of its own, is set in."""
        if text := _lines(text):
            lead = "  " * depth
            self._begin("list")
            below = f"{lead}{' ' * (len(mark) + 1 if mark else 2)}"
            self._put((f"{lead}{mark} " if mark else below) + text.replace("\n", f"\n{below}"))

    def table(self, rows: Sequence[Sequence[str]], *, headed: bool) -> None:
        """Rows between pipes; the rule below the first says that it names the columns."""
        filled = [cells for row in rows if any(cells := [_cell(each) for each in row])]
        group = object()
        for number, cells in enumerate(filled):
            self._begin(group)
            self._put(f"| {' | '.join(cells)} |")
            if number == 0 and headed and len(filled) > 1:
                self._put(f"\n|{' --- |' * len(cells)}")

    def code(self, text: str, *, language: str = "") -> None:
        """Word for word between fences that are longer than any within."""
        text = _CONTROL.sub("", storable(text)).strip("\n")
        if text.strip():
            longest = max((len(found) for found in _TICKS.findall(text)), default=2)
            fence = "`" * max(3, longest + 1)
            self._begin()
            self._put(f"{fence}{language}\n{text}\n{fence}")

    def continued(self, text: str) -> None:
        """Goes on with the last block, over a page break; what joins both stands in front."""
        glue = text[: len(text) - len(text.lstrip())]
        if text := _lines(text):
            self._put(glue)
            self._turn_page()
            self._put(text)

    def document(self, *, title: str = "", warnings: Sequence[str] = ()) -> ParsedDocument:
        text = "".join(self._parts)
        self._turn_page()
        title = plain(title) or (self._headings[0].title if self._headings else first_line(text))
        return ParsedDocument(
            title=short_title(title),
            text=text + "\n" if text else "",
            headings=tuple(self._headings),
            warnings=tuple(warnings),
            pages=tuple(self._pages),
        )

    def _begin(self, group: object = None) -> None:
        """Blocks of one group stand on consecutive lines; others are set apart."""
        if self._parts:
            self._put("\n" if group is not None and group == self._group else "\n\n")
        self._group = group
        self._turn_page()

    def _turn_page(self) -> None:
        for number in range(len(self._pages) - 1, -1, -1):
            if self._pages[number] >= 0:
                break
            self._pages[number] = self._length

    def _put(self, text: str) -> None:
        self._length += len(text)
        if self._length > MOST_CHARS:
            raise UnreadableDocumentError(
                f"{self._doc_id} has more than {MOST_CHARS:,} characters of text. Split it, or"
                " exclude it in the corpus's `source`."
            )
        self._parts.append(text)


def _lines(text: str) -> str:
    return "\n".join(line for raw in text.split("\n") if (line := plain(raw)))


def _cell(text: str) -> str:
    return plain(text).replace("|", "\\|")
