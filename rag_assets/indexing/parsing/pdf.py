"""PDF: lines with their places on the page, put together to paragraphs again."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from rag_assets.errors import UnreadableDocumentError
from rag_assets.indexing.parsing.kinds import is_pdf, refuse_other_formats
from rag_assets.indexing.parsing.writing import Writer, plain
from rag_assets.model import ParsedDocument

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage, PdfTextPage

_WRONG_PASSWORD = 4
_LINE_END = re.compile("\r\n|[\r\n\ufffe]")
"""The reader writes U+FFFE for a hyphen at the end of a line."""
_HYPHEN = "\ufffe"
_BULLET = re.compile(r"^[•●○◦▪■□▸►‣⁃·\uf0b7\uf0a7\u2013\u2014*-](?:\s+|$)")  # noqa: RUF001
_NUMBERED = re.compile(r"^(?:\d{1,3}[.)]|\(?[a-zA-Z]\)|\[\d{1,3}\])\s")
_SENTENCE_END = re.compile(r"[.!?:;…。！？]['\"”’)\]]*$")  # noqa: RUF001
_NUMBER = re.compile(r"\d{1,9}")
_LETTERS = re.compile(r"[^\W\d_]")
_SECTION_NUMBER = re.compile(r"^(?:[\dA-Z]+(?:\.\d+)*\.?|[IVXLC]+\.)\s+")
_PAGE_NUMBER = re.compile(
    r"^\W*(?:page\s+)?(\d{1,4}|[ivxlc]{1,6})(?:\s*(?:/|of)\s*\d+)?\W*$", re.IGNORECASE
)
_NO_TITLE = re.compile(
    r"^\W*(?:untitled|anonymous|unknown|unspecified|title|document\d*|slide \d+|powerpoint.*)?\W*$"
    r"|^microsoft \w+ - |\.(?:docx?|pptx?|xlsx?|indd|tex|dvi|qxd|rtf|odt|html?|pdf|txt)$",
    re.IGNORECASE,
)
_UNREADABLE = re.compile(r"[\x00-\x08\x0e-\x1f\ue000-\uf8ff\ufffd]")
_MOST_DAMAGE = 0.5
_LEADERS = re.compile(r"(?:\s?[.·_]){5,}")
_FEW = 3
_LARGER = 1.15
"""How much larger than running text a line is that is a heading."""
_LONGEST_HEADING = 120
_SHORTEST_FULL_LINE = 25
"""Characters: columns are no narrower."""


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    page: int
    left: float
    right: float
    bottom: float
    top: float
    hyphenated: bool = False
    """A word goes on in the next line."""
    level: int = 0
    """Of a heading."""

    @property
    def size(self) -> float:
        return max(self.top - self.bottom, 1.0)


def parse_pdf(content: bytes, *, doc_id: str) -> ParsedDocument:
    """Paragraphs in reading order, headings where outline or size show them, and the pages."""
    from pypdfium2 import PdfDocument, PdfiumError

    if not is_pdf(content, doc_id=doc_id):
        refuse_other_formats(content, doc_id=doc_id)
    try:
        with PdfDocument(content) as pdf:
            if pdf.get_formtype():
                pdf.init_forms()
            return _read(pdf, doc_id)
    except PdfiumError as error:
        raise _refused(doc_id, has_password=error.err_code == _WRONG_PASSWORD) from error


def _refused(doc_id: str, *, has_password: bool) -> UnreadableDocumentError:
    if has_password:
        return UnreadableDocumentError(
            f"{doc_id} is encrypted and needs a password. Save it without one, or exclude it in the"
            " corpus's `source`."
        )
    return UnreadableDocumentError(
        f"{doc_id} cannot be opened as PDF: it is damaged or cut off. Copy it again from where it"
        " came from, or exclude it in the corpus's `source`."
    )


def _read(pdf: "PdfDocument", doc_id: str) -> ParsedDocument:
    pages = [_lines_of_page(pdf, number) for number in range(len(pdf))]
    _check_readable(pages, doc_id)
    warnings = []
    if empty := sum(not page for page in pages):
        warnings.append(f"{empty} of {len(pages)} pages have no text")
    pages = _without_running_heads(pages)
    if not _mark_outline(pages, pdf):
        _mark_larger(pages)
    writer = Writer(doc_id=doc_id)
    for block in _blocks(pages):
        _write(block, writer)
    while writer.pages < len(pages):
        writer.page()
    return writer.document(title=_title(pdf), warnings=warnings)


def _check_readable(pages: Sequence[Sequence[_Line]], doc_id: str) -> None:
    text = "".join(line.text for page in pages for line in page)
    if not any(character.isalnum() for character in text):
        raise UnreadableDocumentError(
            f"{doc_id} has no text, only pictures of it on {len(pages)} pages. Recognise the text"
            " with an OCR program and save the PDF again, or exclude it in the corpus's `source`."
        )
    if len(_UNREADABLE.findall(text)) > _MOST_DAMAGE * len(text):
        raise UnreadableDocumentError(
            f"{doc_id} does not say which characters its letters are. Export it again with embedded"
            " fonts, run an OCR program over it, or exclude it in the corpus's `source`."
        )


# --- lines of a page ------------------------------------------------------------------------------


def _lines_of_page(pdf: "PdfDocument", number: int) -> list[_Line]:
    """In the order in which they were written; in that of their places where that is chaos."""
    page = _opened(pdf, number)
    if page is None:
        return []
    text_page = page.get_textpage()
    try:
        lines = _in_order([*_lines(text_page, number)])
    finally:
        text_page.close()
        page.close()
    return lines


def _opened(pdf: "PdfDocument", number: int) -> "PdfPage | None":
    """A page with what is written into its forms; None where it is broken."""
    from pypdfium2 import PdfiumError

    try:
        page = pdf[number]
        if pdf.formenv is not None:
            page.flatten()
            page.close()
            page = pdf[number]
    except PdfiumError:
        return None
    return page


def _lines(text_page: "PdfTextPage", page: int) -> Iterator[_Line]:
    written = text_page.get_text_range()
    begin = 0
    for found in [*_LINE_END.finditer(written), None]:
        end = found.start() if found else len(written)
        raw = written[begin:end]
        if text := plain(_LEADERS.sub(" … ", raw)):
            first = begin + len(raw) - len(raw.lstrip())
            last = begin + len(raw.rstrip()) - 1
            hyphenated = found is not None and found[0] == _HYPHEN
            left, right, bottom, top = _place(text_page, first, last)
            yield _Line(text, page, left, right, bottom, top, hyphenated)
        begin = found.end() if found else end


def _place(text_page: "PdfTextPage", first: int, last: int) -> tuple[float, float, float, float]:
    from pypdfium2 import PdfiumError
    from pypdfium2.raw import FPDFText_GetCharIndexFromTextIndex as index_of

    try:
        one, other = (
            text_page.get_charbox(index_of(text_page, index), loose=True) for index in (first, last)
        )
    except PdfiumError:
        return 0.0, 0.0, 0.0, 0.0
    return min(one[0], other[0]), max(one[2], other[2]), one[1], one[3]


def _in_order(lines: list[_Line]) -> list[_Line]:
    """Written order is reading order, column by column, unless it jumps up again and again."""
    jumps = sum(after.bottom > before.top for before, after in pairwise(lines))
    return _cut_apart(lines) if jumps > max(6, len(lines) // 4) else lines


def _cut_apart(lines: list[_Line], depth: int = 0) -> list[_Line]:
    """Parts with a gap between them are read one by one: columns first, then what stands below."""
    gutter = _gap([(line.left, line.right) for line in lines])
    if depth < 20 and gutter is not None:
        left = [line for line in lines if line.right <= gutter]
        right = [line for line in lines if line.right > gutter]
        if min(len(left), len(right)) > 2:
            return _cut_apart(left, depth + 1) + _cut_apart(right, depth + 1)
    fold = _gap([(-line.top, -line.bottom) for line in lines])
    if depth < 20 and fold is not None:
        upper = [line for line in lines if -line.bottom <= fold]
        lower = [line for line in lines if -line.bottom > fold]
        return _cut_apart(upper, depth + 1) + _cut_apart(lower, depth + 1)
    return sorted(lines, key=lambda line: (-round(line.bottom), line.left))


def _gap(spans: list[tuple[float, float]]) -> float | None:
    """Where the widest stretch begins that no span covers, if there is one."""
    widest, at, reached = 6.0, None, None
    for begin, end in sorted(spans):
        if reached is not None and begin - reached > widest:
            widest, at = begin - reached, reached
        reached = end if reached is None else max(reached, end)
    return at


# --- headings, headers, footers -------------------------------------------------------------------


def _without_running_heads(pages: Sequence[list[_Line]]) -> list[list[_Line]]:
    """Pages without page numbers and without lines that most of them repeat at top or bottom."""
    edges = [_edge(lines) for lines in pages]
    repeated = Counter(
        key for edge in edges for key in {key for line in edge for key in _running(line)}
    )
    most, some = max(_FEW, len(pages) * 0.4), max(_FEW, len(pages) * 0.02)
    kept = []
    for lines, edge in zip(pages, edges, strict=True):
        heads = [
            line
            for line in edge
            if repeated[line.text.casefold()] >= most
            or any(repeated[key] >= some for key in _counting(line))
        ]
        heads += [line for line in lines[-1:] + lines[:1] if _is_page_number(line)]
        kept.append([line for line in lines if line not in heads] if heads else lines)
    return kept


def _edge(lines: Sequence[_Line]) -> list[_Line]:
    """The two highest and the two lowest lines, if there is anything between them."""
    if len(lines) <= 4:
        return []
    by_height = sorted(lines, key=lambda line: line.bottom)
    return [*by_height[:2], *by_height[-2:]]


def _running(line: _Line) -> set[str]:
    return {line.text.casefold(), *_counting(line)}


def _counting(line: _Line) -> set[str]:
    """The line with its first or its last number less the page: `4 of 9` on page 4 is `#0 of 9`."""
    text = line.text.casefold()
    found = [*_NUMBER.finditer(text)]
    return {
        f"{text[: number.start()]}#{int(number[0]) - line.page - 1}{text[number.end() :]}"
        for number in found[:1] + found[-1:]
    }


def _is_page_number(line: _Line) -> bool:
    number = _PAGE_NUMBER.match(line.text)
    return number is not None and number[1] == str(line.page + 1)


def _mark_outline(pages: list[list[_Line]], pdf: "PdfDocument") -> bool:
    """Marks the lines that the table of contents leads to; whether there were any."""
    marked = False
    for bookmark in pdf.get_toc():
        destination = bookmark.get_dest()
        page = destination.get_index() if destination else None
        if page is None or not 0 <= page < len(pages):
            continue
        for number, line in enumerate(pages[page]):
            if not line.level and _is_titled(line.text, plain(bookmark.get_title())):
                pages[page][number] = replace(line, level=min(bookmark.level + 1, 6))
                marked = True
                break
    return marked


def _is_titled(line: str, title: str) -> bool:
    """Whether a line is that title, with or without the number of its section."""
    line, title = line.casefold(), title.casefold()
    return bool(title) and (
        line == title or _SECTION_NUMBER.sub("", line) == _SECTION_NUMBER.sub("", title)
    )


def _mark_larger(pages: list[list[_Line]]) -> None:
    """Short lines in larger letters than running text are headings; the largest come first."""
    sizes: Counter[int] = Counter()
    for line in (line for page in pages for line in page):
        sizes[round(line.size)] += len(line.text)
    running = max(sizes, key=lambda size: sizes[size], default=0)
    larger = sorted((size for size in sizes if size >= _LARGER * running), reverse=True)
    for page in pages:
        for number, line in enumerate(page):
            if round(line.size) in larger and _could_be_heading(line.text):
                page[number] = replace(line, level=min(larger.index(round(line.size)) + 1, 6))


def _could_be_heading(text: str) -> bool:
    return len(text) <= _LONGEST_HEADING and len(_LETTERS.findall(text)) > 1


def _title(pdf: "PdfDocument") -> str:
    title = plain(pdf.get_metadata_value("Title"))
    return "" if _NO_TITLE.search(title) else title


# --- paragraphs -----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Block:
    """Lines that belong together, each with what stands between it and the one before."""

    lines: list[_Line]
    glue: list[str]


def _blocks(pages: Sequence[list[_Line]]) -> Iterator[_Block]:
    block: _Block | None = None
    for lines in pages:
        spacing = _spacing(lines)
        for number, line in enumerate(lines):
            glue = None
            if block is not None:
                edge = _right_edge(lines, number, block.lines[-1])
                glue = _glue(block.lines, line, edge=edge, spacing=spacing)
            if block is not None and glue is not None:
                block.lines.append(line)
                block.glue.append(glue)
                continue
            if block is not None:
                yield block
            block = _Block([line], [""])
    if block is not None:
        yield block


def _spacing(lines: Sequence[_Line]) -> float:
    """From one line to the next within a paragraph, on this page."""
    steps = sorted(
        step
        for before, after in pairwise(lines)
        if 0 < (step := before.bottom - after.bottom) <= 4 * before.size
    )
    return steps[len(steps) // 2] if steps else 0.0


def _right_edge(lines: Sequence[_Line], number: int, before: _Line) -> float:
    """How far the lines around go that begin below one another, the one before left aside.

    The longest row of a table goes beyond all others; a full line of a paragraph does not.
    """
    around = lines[max(number - 8, 0) : number + 8]
    rights = [
        line.right
        for line in around
        if line is not before and abs(line.left - before.left) <= 2 * before.size
    ]
    return max(rights, default=before.right)


def _glue(block: Sequence[_Line], after: _Line, *, edge: float, spacing: float) -> str | None:
    """What stands between a paragraph and its next line; None where another one begins."""
    before = block[-1]
    is_below = _is_below(before, after, spacing)
    if before.level or after.level:
        return " " if is_below and before.level == after.level else None
    if _BULLET.fullmatch(before.text):
        return " "
    if _BULLET.match(after.text) or _NUMBERED.match(after.text):
        return None
    if before.hyphenated:
        return "" if after.text[0].islower() else "-"
    is_full = _is_full(before, after, edge)
    if is_below and not _begins_anew(block, after):
        return " " if is_full else "\n"
    return " " if not is_below and is_full and _goes_on(before, after) else None


def _is_full(before: _Line, after: _Line, edge: float) -> bool:
    """Whether the next word would not have fitted in, and no table row ends here."""
    letter = (before.right - before.left) / len(before.text)
    needed = (len(after.text.split(" ", 1)[0]) + 1) * letter
    is_row = before.text[-1].isdigit() and not after.text[0].islower()
    is_prose = len(before.text) >= _SHORTEST_FULL_LINE and not is_row
    return is_prose and edge - needed <= before.right <= edge + 2 * letter


def _is_below(before: _Line, after: _Line, spacing: float) -> bool:
    """The next line of the same column."""
    step = before.bottom - after.bottom
    return (
        before.page == after.page
        and 0 < step <= 1.35 * max(spacing, before.size)
        and after.left < before.right
        and before.left < after.right
    )


def _begins_anew(block: Sequence[_Line], after: _Line) -> bool:
    """By its indent, or by the size of its letters."""
    before = block[-1]
    if abs(before.size - after.size) > 0.25 * before.size:
        return True
    moved = (after.left - before.left) / before.size
    if len(block) == 1 and (_BULLET.match(before.text) or _NUMBERED.match(before.text)):
        return moved < 0.3  # what belongs to a list item is set in below its mark
    return moved > 0.8 or (moved < -0.8 and len(block) > 1 and not _goes_on(before, after))


def _goes_on(before: _Line, after: _Line) -> bool:
    """Whether a sentence runs over the end of a column or page."""
    return not _SENTENCE_END.search(before.text) and after.text[0].islower()


def _write(block: _Block, writer: Writer) -> None:
    texts: dict[int, str] = {}
    for line, glue in zip(block.lines, block.glue, strict=True):
        texts[line.page] = texts.get(line.page, "") + glue + line.text
    for number, (page, text) in enumerate(texts.items()):
        while writer.pages <= page:
            writer.page()
        if number:
            writer.continued(text)
        elif level := block.lines[0].level:
            writer.heading(level, text)
        elif bullet := _BULLET.match(text):
            writer.item(text[bullet.end() :])
        else:
            writer.paragraph(text)
