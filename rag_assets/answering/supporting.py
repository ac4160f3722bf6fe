"""How far the corpus supports an answer: what decides between answering and refusing."""

from collections.abc import Iterable, Sequence

from rag_assets.answering.extracting import Passage
from rag_assets.answering.matching import coverage, stems, weights
from rag_assets.model import QuestionTerm


def never_mentioned(terms: Iterable[QuestionTerm]) -> tuple[str, ...]:
    """The question's words that no chunk this reader may see holds in any form."""
    return tuple(term.word for term in terms if not term.visible)


def lexical_support(
    passages: Sequence[Passage], terms: Sequence[QuestionTerm], *, chunks: int
) -> float:
    """The share of the question that stands in the best passage, its chunk and its headings."""
    if not passages:
        return 0.0
    wanted = weights(terms, chunks=chunks)
    best = passages[0]
    around = stems(" ".join([best.hit.title, *best.hit.heading_path, best.hit.text]))
    return coverage(wanted, around)
