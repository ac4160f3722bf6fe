"""Two legs, one order: each leg's raw scores are stretched over this question's candidates."""

from collections.abc import Sequence
from dataclasses import replace

from rag_assets.model import Hit


def fused(hits: Sequence[Hit], *, lexical_weight: float) -> tuple[Hit, ...]:
    """Best first. Equal scores stand in the order of their place, so the same question repeats."""
    lexical = stretched([hit.lexical for hit in hits])
    dense = stretched([hit.dense for hit in hits])
    scored = [
        replace(hit, score=lexical_weight * words + (1 - lexical_weight) * meaning)
        for hit, words, meaning in zip(hits, lexical, dense, strict=True)
    ]
    return tuple(sorted(scored, key=lambda hit: (-hit.score, hit.doc_id, hit.ord)))


def stretched(scores: Sequence[float | None]) -> list[float]:
    """From 0 for the least to 1 for the most; who has no score has the least.

    >>> stretched([2.0, None, 4.0, 3.0])
    [0.0, 0.0, 1.0, 0.5]
    >>> stretched([7.0, None])
    [1.0, 0.0]
    """
    known = [score for score in scores if score is not None]
    if not known:
        return [0.0] * len(scores)
    least, most = min(known), max(known)
    if least == most:
        return [0.0 if score is None else 1.0 for score in scores]
    return [0.0 if score is None else (score - least) / (most - least) for score in scores]
