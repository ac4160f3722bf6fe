"""What may be quoted: a chunk's sentences, list items, table rows and code, each by its place.

Markdown is read just far enough to keep such a thing whole. A heading is no answer, and neither is
front matter, a rule, a picture, or a block of code of which the chunk holds only one end.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

MAX_UNIT_CHARS = 400
MAX_CODE_CHARS = 700
TEXTS_KEPT = 4096
"""Chunks that were read lately, for the best ones come again with the next question."""

FENCE = re.compile(r"[ \t]*(?:> ?)?(`{3,}|~{3,})[ \t]*(.*)")
HEADING = re.compile(r" {0,3}#{1,6}(?:\s|$)")
UNDERLINE = re.compile(r" {0,3}(?:=+|-{2,})\s*$")
NOT_PROSE = re.compile(
    r"\s*(?:$|(?:[-*_]\s*){3,}$|<!--.*-->\s*$|!\[[^\]]*\]\([^)]*\)\s*$"
    r"|\[[^\]]+\]:\s|> ?\[!\w+\]\s*$)"
)
ITEM = re.compile(r"\s*(?:[-*+]|\d{1,3}[.)])\s+(?:\[[ xX]\]\s+)?")
ROW = re.compile(r"\s*\|.*\|\s*$")
ROW_RULE = re.compile(r"\s*\|?(?:\s*:?-+:?\s*\|)+(?:\s*:?-+:?\s*)?$")
SENTENCE_END = re.compile(
    r"""[.!?…]+["'”’)\]*_`]*(?=\s+(?:["'“‘(\[*_]*[A-Z0-9À-Þ]|`))|[。！？]+"""  # noqa: RUF001
)
ABBREVIATION = re.compile(
    r"(?:^|[\s(\[])(?:e\.g|i\.e|etc|vs|cf|approx|incl|resp|no|nos|vol|pp?|fig|eq|ch|sec|dept|est"
    r"|dr|mrs?|ms|prof|st|jr|sr|inc|ltd|co|corp|gen|col|lt|sgt|capt|rev|hon|u\.s|u\.k"
    r"|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|[a-z])\.$",
    re.IGNORECASE,
)
INLINE_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)


class UnitKind(StrEnum):
    SENTENCE = "sentence"
    ITEM = "item"
    ROW = "row"
    CODE = "code"
    CODE_PART = "code part"
    HEADING = "heading"
    """Of a block only: no unit is one."""


@dataclass(frozen=True, slots=True)
class Unit:
    """The smallest thing that can be quoted.

    `block` is the number of its paragraph, item, table or code; what stands between two blocks and
    cannot be quoted, such as a heading, has a number too. `heading` is the last one above it in
    this text, empty where there is none.
    """

    kind: UnitKind
    start: int
    end: int
    block: int
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Block:
    """Lines that belong together; of a table its rows, of a fence all lines with both fences."""

    kind: UnitKind
    lines: tuple[Line, ...]


@lru_cache(TEXTS_KEPT)
def units(text: str, *, first: bool = False) -> tuple[Unit, ...]:
    r"""In the order of the text; `first` says that the document begins here.

    >>> text = "# Undo\nIt is quick. Run:\n```\nrag-assets rollback\n```\n- one\n- two\n"
    >>> [text[unit.start : unit.end] for unit in units(text)]
    ['It is quick.', 'Run:', '```\nrag-assets rollback\n```', 'one', 'two']
    """
    found: list[Unit] = []
    heading = ""
    for number, block in enumerate(_blocks(_lines(text), first=first)):
        if block and block.kind is UnitKind.HEADING:
            heading = block.lines[0].text.strip().strip("#").strip()
        elif block:
            found += [
                Unit(kind, start, end, number, heading)
                for kind, start, end in _split(text, block)
                if start < end
            ]
    return tuple(found)


def headings(text: str, *, first: bool = False) -> tuple[tuple[int, str], ...]:
    r"""Level and title of each heading, in the order of the text.

    >>> headings("# Undo\nIt is quick.\n## At once\n")
    ((1, 'Undo'), (2, 'At once'))
    """
    lines = (
        block.lines[0].text.strip()
        for block in _blocks(_lines(text), first=first)
        if block and block.kind is UnitKind.HEADING
    )
    return tuple((len(line) - len(line.lstrip("#")), line.strip("#").strip()) for line in lines)


# --- blocks ------------------------------------------------------------------------------------


def _lines(text: str) -> list[Line]:
    lines, start = [], 0
    for raw in text.splitlines(keepends=True):
        lines.append(Line(raw.rstrip("\r\n"), start))
        start += len(raw)
    return lines


def _blocks(lines: list[Line], *, first: bool) -> Iterator[Block | None]:
    """None stands for lines that cannot be quoted and part what can."""
    at = _after_front_matter(lines) if first else 0
    inside = 0 if first else _code_from_before(lines)
    if inside:
        yield Block(UnitKind.CODE_PART, tuple(lines[: inside - 1]))
        at = inside
    in_list = False
    while at < len(lines):
        block, after = _block(lines, at, in_list=in_list)
        if block or lines[at].text.strip():
            yield block
        if block:
            indented = lines[at].text.startswith((" ", "\t"))
            in_list = block.kind is UnitKind.ITEM or (in_list and indented)
        at = after


def _block(lines: list[Line], at: int, *, in_list: bool) -> tuple[Block | None, int]:
    """The block that begins here, if it can be quoted, and where the next one begins."""
    line = lines[at]
    if fence := FENCE.match(line.text):
        return _fenced(lines, at, fence.group(1))
    if _ends_prose(line.text) and not ITEM.match(line.text) and not ROW.match(line.text):
        return Block(UnitKind.HEADING, (line,)) if HEADING.match(line.text) else None, at + 1
    if _is_table(lines, at):
        return _table(lines, at)
    if item := ITEM.match(line.text):
        after = _prose_end(lines, at + 1)
        head = Line(line.text[item.end() :], line.start + item.end())
        return Block(UnitKind.ITEM, (head, *lines[at + 1 : after])), after
    after = _prose_end(lines, at + 1)
    if after < len(lines) and UNDERLINE.match(lines[after].text):
        return Block(UnitKind.HEADING, (lines[after - 1],)), after + 1
    indented = all(each.text.startswith(("    ", "\t")) for each in lines[at:after])
    kind = UnitKind.CODE if indented and not in_list else UnitKind.SENTENCE
    return Block(kind, tuple(lines[at:after])), after


def _fenced(lines: list[Line], at: int, mark: str) -> tuple[Block, int]:
    for end in range(at + 1, len(lines)):
        closing = FENCE.match(lines[end].text)
        if closing and closing.group(1).startswith(mark) and not closing.group(2).strip():
            return Block(UnitKind.CODE, tuple(lines[at : end + 1])), end + 1
    return Block(UnitKind.CODE_PART, tuple(lines[at + 1 :])), len(lines)


def _table(lines: list[Line], at: int) -> tuple[Block, int]:
    after = at
    while after < len(lines) and "|" in lines[after].text:
        after += 1
    rules = [row for row in range(at, after) if ROW_RULE.match(lines[row].text)]
    body = rules[0] + 1 if rules else at
    return Block(UnitKind.ROW, tuple(lines[body:after])), after


def _is_table(lines: list[Line], at: int) -> bool:
    below = lines[at + 1].text if at + 1 < len(lines) else ""
    return bool(ROW.match(lines[at].text)) or (
        "|" in lines[at].text and bool(ROW_RULE.match(below))
    )


def _prose_end(lines: list[Line], at: int) -> int:
    while at < len(lines) and not _ends_prose(lines[at].text):
        at += 1
    return at


def _ends_prose(text: str) -> bool:
    patterns = (NOT_PROSE, HEADING, FENCE, ITEM, ROW, UNDERLINE)
    return any(pattern.match(text) for pattern in patterns)


def _after_front_matter(lines: list[Line]) -> int:
    if lines and lines[0].text.rstrip() == "---":
        for number, line in enumerate(lines[1:], 1):
            if line.text.rstrip() in ("---", "..."):
                return number + 1
    return 0


def _code_from_before(lines: list[Line]) -> int:
    """How many lines, to the closing fence, are of a block that began in the chunk before.

    An odd number of fences says that one end is missing; a closing fence names no language.
    """
    fences = [(n, match) for n, line in enumerate(lines) if (match := FENCE.match(line.text))]
    if len(fences) % 2 == 0 or fences[0][1].group(2).strip() or fences[-1][1].group(2).strip():
        return 0
    before = [line.text for line in lines[: fences[0][0]] if line.text.strip()]
    opens_here = bool(before) and (HEADING.match(before[0]) or before[-1].rstrip().endswith(":"))
    return 0 if opens_here else fences[0][0] + 1


# --- units of a block --------------------------------------------------------------------------


def _split(text: str, block: Block) -> Iterator[tuple[UnitKind, int, int]]:
    if not block.lines:
        return
    start, end = _trimmed(text, block.lines[0].start, block.lines[-1].end)
    if block.kind is UnitKind.ROW:
        for line in block.lines:
            yield (UnitKind.ROW, *_trimmed(text, line.start, line.end))
    elif block.kind in (UnitKind.CODE, UnitKind.CODE_PART):
        if block.kind is UnitKind.CODE and end - start <= MAX_CODE_CHARS:
            yield UnitKind.CODE, start, end
        else:
            yield from _code_parts(text, block)
    elif block.kind is UnitKind.ITEM and end - start <= MAX_UNIT_CHARS:
        yield UnitKind.ITEM, start, end
    else:
        for sentence in _sentences(text, start, end):
            yield (UnitKind.SENTENCE, *sentence)


def _code_parts(text: str, block: Block) -> Iterator[tuple[UnitKind, int, int]]:
    """Lines without the fences, together as far as no blank line parts them, if that is short."""
    runs: list[list[Line]] = [[]]
    for line in block.lines:
        if not line.text.strip() or FENCE.match(line.text):
            runs.append([])
        else:
            runs[-1].append(line)
    for run in filter(None, runs):
        whole = [(run[0].start, run[-1].end)]
        short = run[-1].end - run[0].start <= MAX_UNIT_CHARS
        for start, end in whole if short else [(line.start, line.end) for line in run]:
            yield (UnitKind.CODE_PART, *_trimmed(text, start, end))


def _sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    prose = text[start:end]
    code = [match.span() for match in INLINE_CODE.finditer(prose)]
    begin = 0
    for match in SENTENCE_END.finditer(prose):
        within = any(left < match.start() < right - 1 for left, right in code)
        if within or ABBREVIATION.search(prose[begin : match.start() + 1]):
            continue
        yield _trimmed(text, start + begin, start + match.end())
        begin = match.end()
    yield _trimmed(text, start + begin, end)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
