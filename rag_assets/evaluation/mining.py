"""Labelled questions out of what people said of passages.

A passage may be much longer than the sentence that helped, and a label of all of it would be held
against every chunker that cuts shorter; so the label is the part of the passage that speaks of the
question.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rag_assets.evaluation.golden_set.labels import (
    Label,
    LabelledQuestion,
    one_line,
    same_question,
)
from rag_assets.evaluation.golden_set.resolving import places_of
from rag_assets.model import Feedback

MINED = "mined"
"""The tag of such questions."""
LABEL_CHARS = 300
SENTENCE = re.compile(r"[^\s](?:[^.!?\n]|[.!?](?!\s)|\n(?!\s*\n))*[.!?]?")
WORD = re.compile(r"\w{3,}")

Passage = tuple[str, str]
"""Document and words."""


@dataclass(slots=True)
class Mined:
    """What feedback gave, and what it left for a person to decide."""

    questions: list[LabelledQuestion] = field(default_factory=list)
    contradicted: list[str] = field(default_factory=list)
    """Questions of which a passage was called both helpful and not."""
    only_unhelpful: list[str] = field(default_factory=list)
    """Nothing that was found for them helped: they have no answer here, or are not found."""
    without_passage: list[str] = field(default_factory=list)
    """Helped they did, but nobody has said by which passage."""
    unclear: list[str] = field(default_factory=list)
    """Long passages of which no part has a word of its question."""
    stale: list[str] = field(default_factory=list)
    """Passages that no longer stand in their documents, as sentences."""


def mined(feedback: Sequence[Feedback], texts: Mapping[str, str]) -> Mined:
    """Each question once, however it was spelt; the same for the same feedback."""
    asked: dict[str, list[Feedback]] = {}
    for each in feedback:
        asked.setdefault(same_question(each.question), []).append(each)
    found = Mined()
    for key, given in sorted(asked.items()):
        _sort_in(found, key, given, texts)
    return found


def _sort_in(found: Mined, key: str, given: Sequence[Feedback], texts: Mapping[str, str]) -> None:
    question = _most_usual(given)
    helpful, unhelpful = _passages(given, helpful=True), _passages(given, helpful=False)
    if helpful & unhelpful:
        found.contradicted.append(question)
    agreed = sorted(helpful - unhelpful)
    labels = list(_labels(found, question, agreed, texts))
    if labels:
        name = f"{MINED}-{hashlib.sha256(key.encode()).hexdigest()[:10]}"
        found.questions.append(LabelledQuestion(name, question, tuple(labels), (MINED,)))
    elif not any(each.helpful for each in given):
        found.only_unhelpful.append(question)
    elif not helpful:
        found.without_passage.append(question)


def _most_usual(given: Sequence[Feedback]) -> str:
    spelt = Counter(" ".join(each.question.split()) for each in given)
    return min(spelt, key=lambda question: (-spelt[question], question))


def _passages(given: Sequence[Feedback], *, helpful: bool) -> set[Passage]:
    """By their words: the same passage may have stood elsewhere when somebody else read it."""
    return {
        (each.doc_id, one_line(each.quote))
        for each in given
        if each.helpful is helpful and each.doc_id and each.quote
    }


def _labels(
    found: Mined, question: str, passages: Sequence[Passage], texts: Mapping[str, str]
) -> Iterator[Label]:
    for doc_id, quote in passages:
        text = texts.get(doc_id, "")
        places = places_of(quote, text)
        if len(places) != 1:
            found.stale.append(f"{question!r}: {_why_stale(doc_id, len(places), texts)}")
            continue
        start, end = places[0]
        part = telling_part(text[start:end], question)
        if part is None:
            found.unclear.append(question)
            continue
        yield _label(doc_id, text, start + part[0], start + part[1])


def _label(doc_id: str, text: str, start: int, end: int) -> Label:
    """By its words, and by its characters too where they stand elsewhere in the document."""
    words = one_line(text[start:end])
    if len(places_of(words, text)) == 1:
        return Label(doc_id, words)
    return Label(doc_id, words, start, end)


def _why_stale(doc_id: str, times: int, texts: Mapping[str, str]) -> str:
    if doc_id not in texts:
        return f"there is no document {doc_id!r} any more"
    stands = f"stands {times} times in" if times else "does not stand any more in"
    return f"what was read {stands} {doc_id!r}"


def telling_part(passage: str, question: str) -> tuple[int, int] | None:
    """The characters of the sentences that have most words of a question; of a short one, all.

    >>> text = "Slate is grey. " * 20 + "The roof was new in 1999. " + "Rain falls. " * 20
    >>> start, end = telling_part(text, "When was the roof new?")
    >>> text[start:end]
    'The roof was new in 1999.'
    """
    if len(passage) <= LABEL_CHARS:
        return 0, len(passage)
    wanted = set(WORD.findall(question.casefold()))
    found = (match.span() for match in SENTENCE.finditer(passage))
    sentences = [span for span in found if passage[span[0]] != "#"]  # a heading tells nothing
    best: tuple[int, int] | None = None
    most = (0, 0)
    for first, (start, _) in enumerate(sentences):
        for _, end in sentences[first:]:
            if end - start > LABEL_CHARS and end != sentences[first][1]:
                break
            words = set(WORD.findall(passage[start:end].casefold()))
            score = (len(words & wanted), start - end)  # of equally many words, the shorter
            if score[0] and score > most:
                best, most = (start, end), score
    return best
