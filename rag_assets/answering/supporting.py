"""How far the corpus supports an answer: what decides between answering and refusing."""

from collections.abc import Mapping, Sequence

from rag_assets.answering.extracting import Passage
from rag_assets.answering.matching import CARRIERS, coverage, parted, stems
from rag_assets.model import Hit, QuestionTerm

CHUNKS_TOGETHER = 3


def never_mentioned(terms: Sequence[QuestionTerm]) -> tuple[str, ...]:
    """The question's words that no chunk this reader may see holds in any form.

    Words such as "much" or "mean" carry a question and are not what it is about.
    """
    unseen = (term.word for term in parted(terms) if not term.visible)
    return tuple(dict.fromkeys(word for word in unseen if word.lower() not in CARRIERS))


def lexical_support(
    passages: Sequence[Passage], hits: Sequence[Hit], weights: Mapping[str, float]
) -> float:
    """The share of the question that the best passage's chunk holds, and the first hits together.

    A word that the index does not know weighs most of all, so a question about something else
    falls short however many of its other words are there. Headings are read with their chunk.
    """
    if not passages:
        return 0.0
    alone = coverage(weights, _stems(passages[0].hit))
    together = frozenset[str]().union(*map(_stems, hits[:CHUNKS_TOGETHER]))
    return (alone + coverage(weights, together)) / 2


def _stems(hit: Hit) -> frozenset[str]:
    return stems(" ".join([hit.title, *hit.heading_path, hit.text]))
