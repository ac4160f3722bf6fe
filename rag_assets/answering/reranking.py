"""A closer look at the first candidates: what their headings and sentences say of the question."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from rag_assets.answering.likeness import Likeness, heading_of
from rag_assets.answering.matching import adjacency, coverage, stems
from rag_assets.answering.units import units
from rag_assets.model import Hit

LOOKED_AT = 40

FUSED_WEIGHT = 0.2
CHUNK_WEIGHT = 0.25
TITLE_WEIGHT = 0.08
HEADING_WEIGHT = 0.09
HEADING_ADJACENCY_WEIGHT = 0.06
HEADING_LIKENESS_WEIGHT = 0.16
SENTENCE_LIKENESS_WEIGHT = 0.16
"""They sum to 1. Fitted to labelled questions on three corpora, then rounded."""


def reranked(hits: Sequence[Hit], weights: Mapping[str, float], alike: Likeness) -> tuple[Hit, ...]:
    """One sentence or heading that fits the question is worth more than words scattered in a chunk.

    Scores stay between 0 and 1. Whoever is not looked at gets nothing on top of the fused score.
    """
    scored = [
        replace(hit, score=FUSED_WEIGHT * hit.score + extra)
        for hit, extra in zip(hits, _extras(hits, weights, alike), strict=True)
    ]
    return tuple(sorted(scored, key=lambda hit: (-hit.score, hit.doc_id, hit.ord)))


def _extras(hits: Sequence[Hit], weights: Mapping[str, float], alike: Likeness) -> Iterator[float]:
    for place, hit in enumerate(hits):
        yield _extra(hit, weights, alike) if place < LOOKED_AT else 0.0


def _extra(hit: Hit, weights: Mapping[str, float], alike: Likeness) -> float:
    found = units(hit.text, first=hit.start == 0)
    headings = {heading_of(hit, unit) for unit in found}
    whole = stems(" ".join([hit.title, *hit.heading_path, hit.text]))
    sentence = max(
        (
            alike.of([hit.text[unit.start : unit.end]], under=heading_of(hit, unit))
            for unit in found
        ),
        default=0.0,
    )
    return (
        CHUNK_WEIGHT * coverage(weights, whole)
        + TITLE_WEIGHT * coverage(weights, stems(hit.title))
        + HEADING_WEIGHT * max((coverage(weights, stems(each)) for each in headings), default=0.0)
        + HEADING_ADJACENCY_WEIGHT
        * max((adjacency(weights, each) for each in headings), default=0.0)
        + HEADING_LIKENESS_WEIGHT * max((alike.of([each]) for each in headings), default=0.0)
        + SENTENCE_LIKENESS_WEIGHT * sentence
    )
