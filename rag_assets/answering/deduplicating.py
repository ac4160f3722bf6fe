"""The same passage is shown once, however many documents hold it."""

from collections.abc import Iterable

from rag_assets.model import Hit


def distinct(hits: Iterable[Hit]) -> tuple[Hit, ...]:
    """The first of each text: spaces and line breaks make no other passage."""
    first: dict[str, Hit] = {}
    for hit in hits:
        first.setdefault(" ".join(hit.text.split()), hit)
    return tuple(first.values())
