"""How much of a question stands in a text: by stems, rare words weighing more than common ones."""

import math
import re
from collections.abc import Iterable, Mapping

import Stemmer

from rag_assets.model import QuestionTerm

WORD = re.compile(r"\w(?:[\w.\-/]*\w)?")
SEPARATOR = re.compile(r"[_.\-/]+")


def stems(text: str) -> frozenset[str]:
    """The stems a database may know of this text: of each word, and of the parts of a compound.

    >>> sorted(stems("Running rag-assets"))
    ['asset', 'assets', 'rag', 'rag-asset', 'rag-assets', 'run', 'running']
    """
    words = set()
    for word in WORD.findall(text.lower()):
        words.add(word)
        words.update(part for part in SEPARATOR.split(word) if part)
    # A stemmer keeps state while it works, so threads cannot share one.
    return frozenset(words).union(Stemmer.Stemmer("english").stemWords(list(words)))


def weights(terms: Iterable[QuestionTerm], *, chunks: int) -> dict[str, float]:
    """The inverse document frequency of each stem of the question, each counted once.

    >>> rare, common = QuestionTerm("a", "a", 1, True), QuestionTerm("b", "b", 90, True)
    >>> {stem: round(weight, 2) for stem, weight in weights([rare, common], chunks=100).items()}
    {'a': 4.21, 'b': 0.11}
    """
    return {
        term.stem: math.log1p((chunks - term.chunks + 0.5) / (term.chunks + 0.5)) for term in terms
    }


def coverage(weights: Mapping[str, float], found: Iterable[str]) -> float:
    """The share of the question's weight that is found, from 0 to 1."""
    total = sum(weights.values())
    return sum(weights[stem] for stem in weights.keys() & set(found)) / total if total else 0.0
