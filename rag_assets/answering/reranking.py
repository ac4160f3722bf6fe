"""A closer look at the first candidates: where in a chunk the question's words stand."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from rag_assets.answering.matching import adjacency, coverage, stems
from rag_assets.answering.units import units
from rag_assets.model import Hit

LOOKED_AT = 40

BEST_UNIT_WEIGHT = 0.2
ADJACENCY_WEIGHT = 0.2
HEADING_WEIGHT = 0.1
ALL_WEIGHTS = 1 + BEST_UNIT_WEIGHT + ADJACENCY_WEIGHT + HEADING_WEIGHT


def reranked(hits: Sequence[Hit], weights: Mapping[str, float]) -> tuple[Hit, ...]:
    """One sentence that holds the words is worth more than a chunk that scatters them.

    Scores stay between 0 and 1. Whoever is not looked at gets nothing on top, so the order holds.
    """
    scored = [
        replace(hit, score=(hit.score + extra) / ALL_WEIGHTS)
        for hit, extra in zip(hits, _extras(hits, weights), strict=True)
    ]
    return tuple(sorted(scored, key=lambda hit: (-hit.score, hit.doc_id, hit.ord)))


def _extras(hits: Sequence[Hit], weights: Mapping[str, float]) -> Iterator[float]:
    for place, hit in enumerate(hits):
        yield _extra(hit, weights) if place < LOOKED_AT else 0.0


def _extra(hit: Hit, weights: Mapping[str, float]) -> float:
    quotable = units(hit.text, first=hit.start == 0)
    best = max((coverage(weights, stems(hit.text[u.start : u.end])) for u in quotable), default=0.0)
    heading = coverage(weights, stems(" ".join(hit.heading_path[-1:])))
    return (
        BEST_UNIT_WEIGHT * best
        + ADJACENCY_WEIGHT * adjacency(weights, hit.text)
        + HEADING_WEIGHT * heading
    )
