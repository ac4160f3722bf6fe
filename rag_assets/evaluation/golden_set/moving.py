"""Where a sentence may have moved to that no longer stands where its label says."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from rag_assets.evaluation.golden_set.labels import one_line
from rag_assets.evaluation.golden_set.resolving import places_of

ALIKE_ENOUGH = 0.6
"""Less alike than this, and it is another sentence."""
CONSIDERED = 3
"""Of how many documents every sentence is looked at: those with most of the words."""
SENTENCE = re.compile(r"\S(?:[^.!?\n]|[.!?](?!\s)|\n(?!\s*\n))*[.!?]?")
WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Place:
    """The sentence that is most like one that is looked for."""

    doc_id: str
    start: int
    end: int
    quote: str
    likeness: float
    """1: the same words."""

    def __str__(self) -> str:
        how = "it stands" if self.likeness == 1 else f"{self.likeness:.0%} alike is"
        return f"{how} in {self.doc_id!r}, characters {self.start} to {self.end}: {self.quote!r}"


def nearest(quotes: Sequence[str], texts: Iterable[tuple[str, str]]) -> list[Place | None]:
    """For each quote among all documents, which are read once, however many quotes there are."""
    wanted = [set(WORD.findall(quote.casefold())) for quote in quotes]
    best: list[list[tuple[int, str, str]]] = [[] for _ in quotes]
    for doc_id, text in texts if quotes else ():
        words = set(WORD.findall(text.casefold()))
        for found, each in zip(best, wanted, strict=True):
            found.append((len(each & words), doc_id, text))
            found.sort(key=lambda one: (-one[0], one[1]))
            del found[CONSIDERED:]
    return [_best(quote, found) for quote, found in zip(quotes, best, strict=True)]


def _best(quote: str, documents: Sequence[tuple[int, str, str]]) -> Place | None:
    places = [place for _, doc_id, text in documents for place in _in_one(quote, doc_id, text)]
    return max(places, key=lambda place: place.likeness, default=None)


def _in_one(quote: str, doc_id: str, text: str) -> Iterable[Place]:
    """The very words, or else the sentence that is most like them."""
    if exact := places_of(quote, text):
        yield Place(doc_id, *exact[0], one_line(quote), 1.0)
        return
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(quote.casefold().split())
    alike = [(_likeness(matcher, match.group()), match) for match in SENTENCE.finditer(text)]
    likeness, match = max(alike, key=lambda each: each[0], default=(0.0, None))
    if match is not None and likeness >= ALIKE_ENOUGH:
        likeness = min(likeness, 0.99)  # other marks or capitals: not the same words
        yield Place(doc_id, *match.span(), one_line(match.group()), likeness)


def _likeness(matcher: "SequenceMatcher[str]", sentence: str) -> float:
    matcher.set_seq1(sentence.casefold().split())
    if matcher.real_quick_ratio() < ALIKE_ENOUGH or matcher.quick_ratio() < ALIKE_ENOUGH:
        return 0.0
    return matcher.ratio()
