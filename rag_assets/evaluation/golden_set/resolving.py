"""From labels to characters of the documents."""

from collections.abc import Mapping, Sequence

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden_set.labels import END_OF_DOCUMENT, Label, one_line
from rag_assets.model import SourceSpan


def span_of(label: Label, texts: Mapping[str, str], *, quoted: bool = True) -> SourceSpan:
    """Where the label stands today; an error says why it stands nowhere.

    It gets into records that an erasure leaves, so it never has words of the document; those of the
    label only where somebody has written them.
    """
    text = texts.get(label.doc_id)
    if text is None:
        raise ConfigurationError(f"there is no document {label.doc_id!r}")
    if label.start is not None and label.end is not None:
        return _checked(label, label.start, label.end, text, quoted=quoted)
    if label.quote is None:
        return SourceSpan(label.doc_id, 0, END_OF_DOCUMENT, label.grade)
    found = places_of(label.quote, text)
    if len(found) != 1:
        times = f"stands {len(found)} times in" if found else "does not stand in"
        hint = "; quote more of the sentence" if found else ""
        words = f"the quote {label.quote!r}" if quoted else "its quote"
        raise ConfigurationError(f"{words} {times} {label.doc_id!r}{hint}")
    return SourceSpan(label.doc_id, *found[0], label.grade)


def places_of(quote: str, text: str) -> list[tuple[int, int]]:
    r"""Everywhere these words stand; a line break is as good as a space.

    >>> places_of("the roof", "On the\nroof of the roof")
    [(3, 11), (15, 23)]
    """
    words, found, at = quote.split(), list[tuple[int, int]](), 0
    while words and (start := text.find(words[0], at)) >= 0:
        end = _end(words, text, start)
        found += [(start, end)] if end else []
        at = end or start + 1
    return found


def _end(words: Sequence[str], text: str, start: int) -> int | None:
    """Where they end that begin here, unless other words follow the first ones."""
    place = start
    for word in words:
        begins = place
        while text[begins : begins + 1].isspace():
            begins += 1
        if not text.startswith(word, begins) or (begins == place > start):
            return None
        place = begins + len(word)
    return place


def _checked(label: Label, start: int, end: int, text: str, *, quoted: bool) -> SourceSpan:
    if not 0 <= start < end <= len(text):
        raise ConfigurationError(
            f"characters {start} to {end} are not in {label.doc_id!r}, which has {len(text)}"
        )
    if label.quote is not None and one_line(text[start:end]) != one_line(label.quote):
        words = f"not {label.quote!r} any more" if quoted else "other words than its quote"
        raise ConfigurationError(f"characters {start} to {end} of {label.doc_id!r} are {words}")
    return SourceSpan(label.doc_id, start, end, label.grade)
