"""Finds passages that were cut elsewhere in the texts of documents, and what they leave out."""

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

from rag_assets.indexing.chunking import estimated_tokens
from rag_assets.indexing.parsing import page_of
from rag_assets.model import Chunk, ParsedDocument
from rag_assets.ports import Vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Span = tuple[int, int]

MOST_PLACES = 100
"""In one document; what stands there more often is no passage."""
WELL_COVERED = 0.9
"""With less of its letters a document is cut anew: its rows are of another version."""
WORDS_A_PRINT = 5
PRINTS_A_WINDOW = 4
FEWEST_WORDS = WORDS_A_PRINT + PRINTS_A_WINDOW - 1
"""A passage of so many words, or more, has a print in common with each text that it stands in."""
MOST_CANDIDATES = 50
_WORD = re.compile(r"\w+")
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Kana, Han
)
"""Letters of scripts that put no space between words: each counts as a word."""
_SPACED_OR_NOT = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_LETTER = re.compile(rf"[^\W{_UNSPACED}]")


def places(text: str, passage: str) -> list[Span] | None:
    r"""Where a passage stands: word for word, or else but for its white space.

    Whole words of the text, unless a long one was cut through words. None where it stands too often
    to be a passage: one of few words must stand there once.

    >>> places("A line.\n\n  Another line.", "line. Another")
    [(2, 18)]
    >>> places("A line.\n\n  Another line.", "line."), places("A line.", "in")
    (None, [])
    """
    short = _is_short(passage)
    alike = list(_exact(text, passage)) or list(_but_for_spaces(text, passage))
    whole = [span for span in alike if not _cuts_words(text, span)]
    if not whole and not short:  # a splitter that counts tokens, not words, has made it
        whole = alike
    return whole if len(whole) <= (1 if short else MOST_PLACES) else None


def _exact(text: str, passage: str) -> Iterator[Span]:
    start = text.find(passage) if passage.strip() else -1
    while start >= 0:
        span = start, start + len(passage)
        yield span
        start = text.find(passage, start + 1 if _cuts_words(text, span) else span[1])


def _but_for_spaces(text: str, passage: str) -> Iterator[Span]:
    words = passage.split()
    if words and max(words, key=len) in text:  # most passages of other documents end here
        pattern = re.compile(r"\s+".join(map(re.escape, words)))
        yield from (each.span() for each in pattern.finditer(text))


def _cuts_words(text: str, span: Span) -> bool:
    """Whether a letter stands before it and is its first too, or so at its end."""
    return any(
        0 < at < len(text) and _LETTER.match(text, at - 1) and _LETTER.match(text, at)
        for at in span
    )


def _is_short(passage: str) -> bool:
    """Whether it may stand somewhere by chance."""
    words = _SPACED_OR_NOT.finditer(passage)
    return len(list(islice(words, FEWEST_WORDS))) < FEWEST_WORDS


def coverage(parsed: ParsedDocument, spans: Iterable[Span]) -> float:
    """The share of a text's letters and digits that these spans hold; headings do not count.

    >>> coverage(ParsedDocument("", "abcd efgh"), [(0, 4)])
    0.5
    """
    all_of_it = _letters(parsed.text, _outside(parsed, []))
    if not all_of_it:
        return 1.0
    return 1 - _letters(parsed.text, _outside(parsed, spans)) / all_of_it


def completed(
    parsed: ParsedDocument, spans: Iterable[Span], own: Sequence[Chunk]
) -> tuple[Chunk, ...]:
    """A chunk for each span, and those of the corpus's own that hold what no span does."""
    spans = sorted(set(spans))
    lost = [
        (start, end)
        for start, end in _outside(parsed, spans)
        if _letters(parsed.text, [(start, end)])
    ]
    adopted = [adopted_chunk(parsed, span) for span in spans]
    added = [chunk for chunk in own if _holds_some(parsed.text, chunk, lost)]
    ordered = sorted([*adopted, *added], key=lambda chunk: (chunk.start, chunk.end))
    return tuple(replace(chunk, ord=number) for number, chunk in enumerate(ordered))


def adopted_chunk(parsed: ParsedDocument, span: Span) -> Chunk:
    """It has no headings: its vector was made from its text alone."""
    start, end = span
    text = parsed.text[start:end]
    page = page_of(parsed.pages, start)
    return Chunk(0, text, start, end, page=page, tokens=estimated_tokens(text))


def _holds_some(text: str, chunk: Chunk, lost: Sequence[Span]) -> bool:
    """Whether letters of what is lost stand in a chunk."""
    at = max(bisect_right(lost, (chunk.start, chunk.start)) - 1, 0)
    for start, end in lost[at:]:
        if start >= chunk.end:
            return False
        within = (max(start, chunk.start), min(end, chunk.end))
        if within[0] < within[1] and _letters(text, [within]):
            return True
    return False


def _outside(parsed: ParsedDocument, spans: Iterable[Span]) -> list[Span]:
    """What is in none of these spans, and in no line of a heading: its words say little alone."""
    inside = sorted([*spans, *_heading_lines(parsed)])
    gaps, end = [], 0
    for start, stop in inside:
        if start > end:
            gaps.append((end, start))
        end = max(end, stop)
    if end < len(parsed.text):
        gaps.append((end, len(parsed.text)))
    return gaps


def _heading_lines(parsed: ParsedDocument) -> Iterator[Span]:
    for heading in parsed.headings:
        end = parsed.text.find("\n", heading.start)
        yield heading.start, end if end >= 0 else len(parsed.text)


def _letters(text: str, spans: Iterable[Span]) -> int:
    return sum(sum(map(str.isalnum, text[start:end])) for start, end in spans)


# --- which document a row is of ------------------------------------------------------------------


class DocumentNames:
    """What other tools call the documents of a corpus: ids, addresses, or paths that end so."""

    def __init__(self, documents: Iterable[tuple[str, str]]) -> None:
        """From ids and addresses."""
        self._by_name: dict[str, str] = {}
        self._by_file: dict[str, str | None] = {}
        for doc_id, uri in documents:
            self._by_name[doc_id] = doc_id
            self._by_name.setdefault(uri, doc_id)
            file = doc_id.rpartition("/")[2]
            self._by_file[file] = None if file in self._by_file else doc_id

    def doc_id(self, name: str) -> str | None:
        """The document that is meant; None where there is none, or more than one.

        >>> names = DocumentNames([("how-to/roll-back.md", "file:///docs/how-to/roll-back.md")])
        >>> names.doc_id("/home/ann/docs/how-to/roll-back.md"), names.doc_id("roll-back.md")
        ('how-to/roll-back.md', 'how-to/roll-back.md')
        """
        if found := self._by_name.get(name):
            return found
        steps = name.replace("\\", "/").split("/")
        for first in range(1, len(steps)):
            if found := self._by_name.get("/".join(steps[first:])):
                return found
        return self._by_file.get(name) if len(steps) == 1 else None


@dataclass(slots=True)
class Prints:
    """Tells in which texts a passage may stand, by a few hashes of the words of each text."""

    _hashes: "array[int]" = field(default_factory=lambda: array("q"))
    _texts: "array[int]" = field(default_factory=lambda: array("l"))
    _sorted: "tuple[NDArray[np.int64], NDArray[np.int64]] | None" = None

    def add(self, number: int, text: str) -> None:
        prints = _prints_of(_WORD.findall(text))
        self._hashes.extend(prints)
        self._texts.extend([number] * len(prints))

    def candidates(self, passage: str) -> list[int] | None:
        """Numbers of texts; None where the passage is too short to tell."""
        import numpy as np

        words = _WORD.findall(passage)
        whole = words[1:-1]  # what a splitter has cut through is another word
        prints = _prints_of(whole if len(whole) >= FEWEST_WORDS else words)
        if not prints:
            return None
        hashes, texts = self._in_order()
        first = np.searchsorted(hashes, prints, "left")
        last = np.searchsorted(hashes, prints, "right")
        found = [(int(end - start), int(start)) for start, end in zip(first, last, strict=True)]
        count, start = min(found)  # each print of a passage is in every text that it stands in
        return sorted({int(number) for number in texts[start : start + count]})[:MOST_CANDIDATES]

    def _in_order(self) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
        import numpy as np

        if self._sorted is None:
            hashes = np.array(self._hashes, np.int64)
            order = np.argsort(hashes, kind="stable")
            self._sorted = hashes[order], np.array(self._texts, np.int64)[order]
            self._hashes, self._texts = array("q"), array("l")
        return self._sorted


def _prints_of(words: Sequence[str]) -> list[int]:
    """The least hash of each few neighbouring groups of words."""
    import numpy as np

    if len(words) < FEWEST_WORDS:
        return []
    groups = zip(*(words[first:] for first in range(WORDS_A_PRINT)), strict=False)
    hashes = np.fromiter((hash(group) for group in groups), np.int64)
    windows = len(hashes) - PRINTS_A_WINDOW + 1
    least = np.minimum.reduce([hashes[at : at + windows] for at in range(PRINTS_A_WINDOW)])
    return [int(each) for each in np.unique(least)]


# --- whether the vectors are what somebody says --------------------------------------------------


def cosine(left: Vectors, right: Vectors) -> float:
    """How alike two vectors are in their direction; their lengths do not count."""
    import numpy as np

    one, other = left.astype(np.float64), right.astype(np.float64)
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
