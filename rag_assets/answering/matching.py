"""How much of a question stands in a text: by stems, rare words weighing more than common ones."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

import Stemmer

from rag_assets.model import QuestionTerm

WORD = re.compile(r"\w(?:[\w.\-/]*\w)?")
SEPARATOR = re.compile(r"[_.\-/]+")

TEXTS_KEPT = 16384
"""Texts whose stems are remembered: what one question reads, the next one often reads again."""

CARRIERS = frozenset(
    re.findall(
        r"\w+",
        """
        able actually allowed already also another anybody anything become certain come comes could
        different else ever every everything exactly exist exists get gets getting give gives given
        go goes going got happen happened happens however instead kind kinds know known knows large
        let like long look made make makes making many may mean means meant might much must need
        needed needs nobody nothing often one please possible put puts really said say says see
        shall show shown shows somebody someone something sort still sure take takes tell tells
        thing things tried try type use used uses using want wanted wants way ways whether without
        work works would yet
        """,
    )
)
"""Words that carry a question and are not its subject, though a corpus may hardly have them."""

CARRIER_WEIGHT = 0.3
UNKNOWN_NAME_WEIGHT = 1.5
"""A name that the corpus has never heard of is likely what the question is about."""
MISSPELT_LETTERS = 5
"""Shorter words are too often other words."""


@lru_cache(TEXTS_KEPT)
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


def weights(terms: Sequence[QuestionTerm], *, chunks: int) -> dict[str, float]:
    """The inverse document frequency of each stem of the question, each counted once.

    >>> rare, common = QuestionTerm("a", "a", 1, True), QuestionTerm("b", "b", 90, True)
    >>> {stem: round(weight, 2) for stem, weight in weights([rare, common], chunks=100).items()}
    {'a': 4.21, 'b': 0.11}
    """
    return {term.stem: _rarity(term, chunks) * _standing(term) for term in parted(terms)}


def _rarity(term: QuestionTerm, chunks: int) -> float:
    """A word that stands only where this reader may not look is as unknown as any other."""
    held = term.chunks if term.visible else 0
    return math.log1p((chunks - held + 0.5) / (held + 0.5))


def _standing(term: QuestionTerm) -> float:
    """What a word is in the question, whatever the corpus: its subject, or what carries it."""
    if term.word.lower() in CARRIERS:
        return CARRIER_WEIGHT
    is_name = term.word[:1].isupper() or any(map(str.isdigit, term.word))
    return UNKNOWN_NAME_WEIGHT if is_name and not term.visible else 1


def mended(
    weights: Mapping[str, float], terms: Sequence[QuestionTerm], known: Iterable[str]
) -> dict[str, float]:
    """With a misspelt word counted as the word that the candidates have in its place.

    >>> misspelt = QuestionTerm("exlude", "exlud", 0, visible=False)
    >>> mended({"exlud": 4.0, "file": 1.0}, [misspelt], ["exclud", "exist", "file"])
    {'exclud': 4.0, 'file': 1.0}
    """
    unknown = {
        term.stem for term in terms if not term.visible and len(term.stem) >= MISSPELT_LETTERS
    }
    alike = [stem for stem in known if len(stem) >= MISSPELT_LETTERS] if unknown else []
    meant = {
        stem: min((each for each in alike if _misspells(stem, each)), default=stem)
        for stem in unknown
    }
    return {meant.get(stem, stem): weight for stem, weight in weights.items()}


def _misspells(stem: str, known: str) -> bool:
    """With a letter left out or two letters swapped; with another letter it may be another word.

    >>> _misspells("exlud", "exclud"), _misspells("polciy", "policy"), _misspells("world", "word")
    (True, True, False)
    """
    if len(known) == len(stem) + 1:
        return any(known[:at] + known[at + 1 :] == stem for at in range(len(known)))
    return len(known) == len(stem) and any(
        known[:at] + known[at + 1] + known[at] + known[at + 2 :] == stem != known
        for at in range(len(known) - 1)
    )


def parted(terms: Sequence[QuestionTerm]) -> list[QuestionTerm]:
    """Without compounds that are unknown as such, when their parts are asked for as well.

    >>> whole = QuestionTerm("set-up", "set-up", 0, visible=False)
    >>> part = QuestionTerm("set-up", "set", 9, visible=True)
    >>> [term.stem for term in parted([whole, part])]
    ['set']
    """
    stems_of = Counter(term.word for term in terms)
    return [
        term
        for term in terms
        if term.visible or stems_of[term.word] == 1 or not SEPARATOR.search(term.stem)
    ]


def coverage(weights: Mapping[str, float], found: Iterable[str]) -> float:
    """The share of the question's weight that is found, from 0 to 1."""
    total = sum(weights.values())
    return sum(weights[stem] for stem in weights.keys() & set(found)) / total if total else 0.0


def adjacency(weights: Mapping[str, float], text: str) -> float:
    """The share of the question's weight whose stems stand beside one another, as in the question.

    >>> wanted = {"golden": 1.0, "set": 1.0, "score": 1.0}
    >>> round(adjacency(wanted, "A golden set has no score."), 2)
    0.67
    """
    places: dict[str, set[int]] = {}
    words = [word.lower() for word in re.findall(r"[^\W_]+", text)]
    for place, stem in enumerate(Stemmer.Stemmer("english").stemWords(words)):
        if stem in weights:
            places.setdefault(stem, set()).add(place)
    beside: set[str] = set()
    for one, other in pairwise(weights):
        near = {place + step for place in places.get(one, ()) for step in (-2, -1, 1, 2)}
        if near & places.get(other, set()):
            beside.update((one, other))
    return coverage(weights, beside)
