"""Labels of one text of a document, found again in another: two parsers read it each its way."""

import re
from collections.abc import Iterator, Mapping

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden_set.labels import END_OF_DOCUMENT, Label, LabelledQuestion
from rag_assets.evaluation.golden_set.resolving import span_of
from rag_assets.evaluation.golden_set.sets import GoldenSet
from rag_assets.model import GoldenQuestion, SourceSpan

LOST_CHARS = 100
"""How long a span is that no chunk can hold."""
WORD = re.compile(r"[^\W_]+")


def carried(
    golden_set: GoldenSet, *, reference: Mapping[str, str], texts: Mapping[str, str]
) -> tuple[GoldenQuestion, ...]:
    """The questions with characters of `texts`, though their labels are of the `reference`.

    Words that a parser has lost can never be found: the question stays, and speaks against it.
    Left out is what stands in neither text, and what is of a document that is not in `texts`.
    """
    found = [_question(each, reference, texts) for each in golden_set.questions]
    if not any(each.answers for each in found):
        golden_set.fitting(reference)  # says what is wrong, where nothing fits there either
    asked = zip(golden_set.questions, found, strict=True)
    return tuple(each for labelled, each in asked if each.answers or not labelled.labels)


def _question(
    each: LabelledQuestion, reference: Mapping[str, str], texts: Mapping[str, str]
) -> GoldenQuestion:
    spans = _spans(each.labels, reference, texts)
    return GoldenQuestion(each.id, each.question, tuple(dict.fromkeys(spans)), each.tags)


def _spans(
    labels: tuple[Label, ...], reference: Mapping[str, str], texts: Mapping[str, str]
) -> Iterator[SourceSpan]:
    for number, label in enumerate(labels, 1):
        there, here = _span(label, reference), _span(label, texts)
        if label.doc_id not in texts or (there is None and here is None):
            continue
        if there is None or label.whole or texts[label.doc_id] == reference[label.doc_id]:
            yield here or _lost(label, number)
        else:
            yield _again(there, reference, texts) or _lost(label, number)


def _span(label: Label, texts: Mapping[str, str]) -> SourceSpan | None:
    try:
        return span_of(label, texts)
    except ConfigurationError:
        return None


def _again(
    there: SourceSpan, reference: Mapping[str, str], texts: Mapping[str, str]
) -> SourceSpan | None:
    """Where the same words stand, whatever marks and line breaks are between them."""
    text = reference[there.doc_id]
    words = WORD.findall(text[there.start : there.end])
    places = _places(words, texts[there.doc_id])
    if not places:
        return None
    before = sum(start < there.start for start, _ in _places(words, text))
    return SourceSpan(there.doc_id, *places[min(before, len(places) - 1)], there.grade)


def _places(words: list[str], text: str) -> list[tuple[int, int]]:
    pattern = r"[\W_]+".join(map(re.escape, words))
    return [match.span() for match in re.finditer(pattern, text)] if pattern else []


def _lost(label: Label, number: int) -> SourceSpan:
    """Behind the end of every document, each label in a place of its own."""
    start = END_OF_DOCUMENT - (number + 1) * LOST_CHARS
    return SourceSpan(label.doc_id, start, start + LOST_CHARS, label.grade)
