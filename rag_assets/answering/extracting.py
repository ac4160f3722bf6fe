"""The extractive answer: the units of the best chunks that say most of what was asked for."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rag_assets.answering.matching import coverage, stems
from rag_assets.answering.units import Unit, UnitKind, units
from rag_assets.model import Hit

CHUNKS_READ = 8
PASSAGES = 3
CHUNKS_CITED = 2

OWN_WEIGHT = 0.45
CONTEXT_WEIGHT = 0.25
CHUNK_WEIGHT = 0.3
WORTH_ADDING = 0.75
"""A further passage must score this share of the first one."""

MIN_WORDS = 3
MAX_PASSAGE_CHARS = 700
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


def extracted(hits: Sequence[Hit], weights: Mapping[str, float]) -> tuple[Passage, ...]:
    """At most three passages of at most two chunks, the best first."""
    ranked = sorted(
        (passage for hit in hits[:CHUNKS_READ] for passage in _passages(hit, weights)),
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
    chunks = {(other.hit.doc_id, other.hit.ord) for other in chosen}
    place = (passage.hit.doc_id, passage.hit.ord)
    return (
        len(chosen) < PASSAGES
        and passage.score >= WORTH_ADDING * chosen[0].score
        and (place in chunks or len(chunks) < CHUNKS_CITED)
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


def _passages(hit: Hit, weights: Mapping[str, float]) -> Iterator[Passage]:
    found = units(hit.text, first=hit.start == 0)
    stems_of = [stems(hit.text[unit.start : unit.end]) for unit in found]
    headings = stems(" ".join([hit.title, *hit.heading_path]))
    for number, unit in enumerate(found):
        if _says_too_little(hit.text[unit.start : unit.end], unit.kind):
            continue
        around = headings.union(*stems_of[max(0, number - 1) : number + 2])
        score = (
            OWN_WEIGHT * coverage(weights, stems_of[number])
            + CONTEXT_WEIGHT * coverage(weights, around)
            + CHUNK_WEIGHT * hit.score
        )
        start, end = _whole(hit.text, found, number)
        yield Passage(hit, start, end, score)


def _says_too_little(text: str, kind: UnitKind) -> bool:
    is_code = kind in (UnitKind.CODE, UnitKind.CODE_PART)
    return not is_code and len(re.findall(r"\w+", text)) < MIN_WORDS


def _whole(text: str, found: Sequence[Unit], number: int) -> tuple[int, int]:
    """The unit with what it leans on: the sentence before, the list or code that it announces."""
    first, last = number, number
    if number and _leans_back(text, found[number - 1], found[number]):
        first -= 1
    while last + 1 < len(found) and _goes_on(text, found, number, last):
        if found[last + 1].end - found[first].start > MAX_PASSAGE_CHARS:
            break
        last += 1
    return found[first].start, found[last].end


def _leans_back(text: str, before: Unit, unit: Unit) -> bool:
    if before.kind is not UnitKind.SENTENCE or unit.kind is UnitKind.CODE_PART:
        return False
    if unit.kind is UnitKind.CODE:
        return text[before.start : before.end].endswith(":")
    in_one_paragraph = before.block == unit.block
    return in_one_paragraph and bool(LEANS_BACK.match(text[unit.start : unit.end]))


def _goes_on(text: str, found: Sequence[Unit], number: int, last: int) -> bool:
    """After a colon the first thing that follows, and of a list or table the rest as well."""
    if not text[found[number].start : found[number].end].endswith(":"):
        return False
    following = found[last + 1]
    if following.kind is UnitKind.CODE_PART:
        return False
    return last == number or following.kind is found[number + 1].kind is not UnitKind.SENTENCE
