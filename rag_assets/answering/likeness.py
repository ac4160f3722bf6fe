"""How near in meaning a sentence is to the question, where the embedder can tell at no cost."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rag_assets.answering.units import Unit, units
from rag_assets.model import Hit
from rag_assets.ports import Embedder, SentenceEmbedder, Vectors

HEADING_SHARE = 0.5
"""A sentence is read under its heading, which counts half as much as the sentence."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """The question among the sentences and headings of its candidates; empty, all are alike."""

    question: Vectors
    vectors: Mapping[str, Vectors] = field(default_factory=dict)

    def of(self, texts: Iterable[str], *, under: str = "") -> float:
        """The cosine of the question and these texts together, never below 0."""
        known = [self.vectors[text] for text in texts if text in self.vectors]
        if not known:
            return 0.0
        total = known[0] if len(known) == 1 else sum(known[1:], known[0])
        total = total / (_length(total) or 1.0)
        if under in self.vectors:
            total = total + HEADING_SHARE * self.vectors[under]
        length = _length(total) * _length(self.question)
        return max(0.0, float(total @ self.question) / length) if length else 0.0


def _length(vector: Vectors) -> float:
    """For so short a vector quicker than numpy's norm: this is called for every sentence."""
    return math.sqrt(float(vector @ vector))


def likeness(embedder: Embedder, question: Vectors, hits: Sequence[Hit]) -> Likeness:
    """Ready for every sentence and heading of these hits."""
    if not isinstance(embedder, SentenceEmbedder):
        return Likeness(question)
    texts = list(dict.fromkeys(text for hit in hits for text in _texts(hit)))
    return Likeness(question, dict(zip(texts, embedder.sentence_vectors(texts), strict=True)))


def heading_of(hit: Hit, unit: Unit) -> str:
    """The nearest heading above: in the chunk, else above the chunk, else the document's title."""
    return unit.heading or (hit.heading_path[-1] if hit.heading_path else hit.title)


def _texts(hit: Hit) -> Iterable[str]:
    for unit in units(hit.text, first=hit.start == 0):
        yield hit.text[unit.start : unit.end]
        if heading := heading_of(hit, unit):
            yield heading
