"""Writes a golden set by its quotes, or by the characters where they stand today."""

from collections.abc import Mapping
from dataclasses import replace

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden_set.labels import Label, LabelledQuestion, one_line
from rag_assets.evaluation.golden_set.resolving import places_of, span_of
from rag_assets.evaluation.golden_set.sets import GoldenSet


def by_quote(golden_set: GoldenSet, texts: Mapping[str, str]) -> tuple[LabelledQuestion, ...]:
    """Each label by its words alone where these stand once, so that it survives edits around it.

    A label that fits no document any more stays as it is.
    """
    return tuple(
        replace(each, labels=tuple(_quoted(label, texts) for label in each.labels))
        for each in golden_set.questions
    )


def by_place(golden_set: GoldenSet, texts: Mapping[str, str]) -> tuple[LabelledQuestion, ...]:
    """Each label with its characters and their text; all must fit the documents as they are."""
    golden_set.resolve(texts)
    return tuple(
        replace(each, labels=tuple(_placed(label, texts) for label in each.labels))
        for each in golden_set.questions
    )


def _quoted(label: Label, texts: Mapping[str, str]) -> Label:
    try:
        placed = _placed(label, texts)
    except ConfigurationError:
        return label
    if placed.quote is None or label.start is None:
        return label
    quote = one_line(placed.quote)
    if len(places_of(quote, texts[label.doc_id])) == 1:
        return Label(label.doc_id, quote, grade=label.grade)
    return replace(placed, quote=quote)


def _placed(label: Label, texts: Mapping[str, str]) -> Label:
    span = span_of(label, texts)
    if label.whole:
        return label
    text = texts[label.doc_id][span.start : span.end]
    return replace(label, quote=text, start=span.start, end=span.end)
