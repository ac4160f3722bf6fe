"""The extractive answer: the units of the best chunks that say most of what was asked for."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rag_assets.answering.likeness import Likeness, heading_of
from rag_assets.answering.matching import adjacency, coverage, stems
from rag_assets.answering.units import Unit, UnitKind, units
from rag_assets.model import Hit

CHUNKS_READ = 8
PASSAGES = 3

CHUNK_WEIGHT = 0.4
PASSAGE_WEIGHT = 0.2
LIKENESS_WEIGHT = 0.27
HEADING_WEIGHT = 0.05
HEADING_ADJACENCY_WEIGHT = 0.05
COMMAND_WEIGHT = 0.03
"""For a question that asks how to do something, and a passage with code."""
WORTH_ADDING = 0.75
"""A further passage must score this share of the first one."""

PASSAGE_CHARS = 600
"""How far a unit grows over its own section, for a sentence alone says little."""
MIN_WORDS = 3
MAX_PASSAGE_CHARS = 700
ASKS_HOW = re.compile(r"\bhow\s+(?:do|can|could|should|may|would|to)\b", re.IGNORECASE)
LINK = re.compile(r"\[[^\]]*\]\([^)]*\)")
ANNOUNCED = (UnitKind.CODE, UnitKind.ITEM, UnitKind.ROW)
LEANS_BACK = re.compile(
    r"(?:it|its|they|them|their|this|these|that|those|he|she|his|her|such|then|there|instead"
    r"|otherwise|afterwards|also)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Passage:
    """Characters of one hit's text, and how well they meet the question."""

    hit: Hit
    start: int
    end: int
    score: float

    @property
    def text(self) -> str:
        return self.hit.text[self.start : self.end]


def extracted(
    hits: Sequence[Hit], question: str, weights: Mapping[str, float], alike: Likeness
) -> tuple[Passage, ...]:
    """At most three passages, the best first."""
    asks_how = bool(ASKS_HOW.search(question))
    ranked = sorted(
        (
            passage
            for hit in hits[:CHUNKS_READ]
            for passage in _passages(hit, weights, alike, asks_how=asks_how)
        ),
        key=lambda passage: -passage.score,
    )
    chosen: list[Passage] = []
    for passage in ranked:
        if _is_worth_adding(passage, chosen):
            chosen.append(passage)
    return tuple(chosen)


def _is_worth_adding(passage: Passage, chosen: Sequence[Passage]) -> bool:
    if not chosen:
        return True
    return (
        len(chosen) < PASSAGES
        and passage.score >= WORTH_ADDING * chosen[0].score
        and not any(_touch(passage, other) for other in chosen)
    )


def _touch(one: Passage, other: Passage) -> bool:
    """In the document's characters, for neighbouring chunks may overlap; or the same words."""
    if one.text == other.text:
        return True
    return (
        one.hit.doc_id == other.hit.doc_id
        and one.hit.start + one.start < other.hit.start + other.end
        and other.hit.start + other.start < one.hit.start + one.end
    )


def _passages(
    hit: Hit, weights: Mapping[str, float], alike: Likeness, *, asks_how: bool
) -> Iterator[Passage]:
    text, found = hit.text, units(hit.text, first=hit.start == 0)
    above = stems(" ".join([hit.title, *hit.heading_path]))
    for number, unit in enumerate(found):
        if _says_too_little(text[unit.start : unit.end], unit.kind):
            continue
        first, last = _whole(text, found, number)
        whole = [text[each.start : each.end] for each in found[first : last + 1]]
        heading = heading_of(hit, unit)
        with_command = any(each.kind is UnitKind.CODE for each in found[first : last + 1])
        stems_of_all = above.union(stems(heading), *map(stems, whole))
        score = (
            CHUNK_WEIGHT * hit.score
            + PASSAGE_WEIGHT * coverage(weights, stems_of_all)
            + LIKENESS_WEIGHT * alike.of(whole, under=heading)
            + HEADING_WEIGHT * coverage(weights, stems(heading))
            + HEADING_ADJACENCY_WEIGHT * adjacency(weights, heading)
            + COMMAND_WEIGHT * (asks_how and with_command)
        )
        yield Passage(hit, *_characters(text, found, first, last), score)


def _says_too_little(text: str, kind: UnitKind) -> bool:
    """Code says enough in a word; links alone say where an answer may be, and are none."""
    is_code = kind in (UnitKind.CODE, UnitKind.CODE_PART)
    return not is_code and len(re.findall(r"\w+", LINK.sub("", text))) < MIN_WORDS


def _whole(text: str, found: Sequence[Unit], number: int) -> tuple[int, int]:
    """First and last unit of what should be read together with this one."""
    first, last = number, number
    if number and _leans_back(text, found[number - 1], found[number]):
        first -= 1
    before, after = True, True
    while before or after:
        after = _grows(found, last, last + 1, found[first].start)
        last += after
        before = _grows(found, first, first - 1, found[last].end)
        first -= before
    if first == number and first and _leans_back(text, found[first - 1], found[first]):
        first -= 1
    return first, _announced(text, found, first, last)


def _grows(found: Sequence[Unit], edge: int, beyond: int, far_end: int) -> bool:
    """Over what stands in one section without a gap, as far as that is short."""
    if not 0 <= beyond < len(found):
        return False
    one, other = found[edge], found[beyond]
    near_end = other.end if beyond > edge else other.start
    in_parts = UnitKind.CODE_PART in (one.kind, other.kind)
    apart = abs(one.block - other.block) > 1
    return not apart and not in_parts and abs(near_end - far_end) <= PASSAGE_CHARS


def _leans_back(text: str, before: Unit, unit: Unit) -> bool:
    """Whether the sentence before announces this one, or names what a pronoun stands for."""
    if before.kind is not UnitKind.SENTENCE or unit.block - before.block > 1:
        return False
    if unit.kind in (UnitKind.CODE, UnitKind.ITEM):
        return text[before.start : before.end].endswith(":")
    return before.block == unit.block and bool(LEANS_BACK.match(text[unit.start : unit.end]))


def _announced(text: str, found: Sequence[Unit], first: int, last: int) -> int:
    """After a colon: the code that follows, or as much of the list or table as fits."""
    if not text[found[last].start : found[last].end].endswith(":"):
        return last
    end = last
    for number in range(last + 1, len(found)):
        unit = found[number]
        fits = unit.end - found[first].start <= MAX_PASSAGE_CHARS
        if not fits or unit.kind not in ANNOUNCED or unit.block - found[end].block > 1:
            break
        if end > last and (unit.kind is UnitKind.CODE or unit.kind is not found[end].kind):
            break
        end = number
    return end


def _characters(text: str, found: Sequence[Unit], first: int, last: int) -> tuple[int, int]:
    """From the first character to the last; several items of a list keep the first one's mark."""
    start = found[first].start
    if first < last and found[first].kind is UnitKind.ITEM:
        line = text.rfind("\n", 0, start) + 1
        start = line + len(text[line:start]) - len(text[line:start].lstrip())
    return start, found[last].end
