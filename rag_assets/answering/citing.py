"""From passages to citations: numbered, and checked against the characters they claim."""

from collections.abc import Iterable

from rag_assets.answering.extracting import Passage
from rag_assets.answering.units import headings
from rag_assets.model import Citation


def cited(passages: Iterable[Passage]) -> tuple[Citation, ...]:
    """`document.text[start:end] == quote`, for a chunk is a slice of its document."""
    return tuple(
        Citation(
            number=number,
            generation=passage.hit.generation,
            doc_id=passage.hit.doc_id,
            ord=passage.hit.ord,
            title=passage.hit.title,
            uri=passage.hit.uri,
            heading_path=headings_above(passage),
            start=passage.hit.start + passage.start,
            end=passage.hit.start + passage.end,
            quote=passage.text,
            content_hash=passage.hit.content_hash,
            run_id=passage.hit.run_id,
        )
        for number, passage in enumerate(passages, 1)
    )


def headings_above(passage: Passage) -> tuple[str, ...]:
    """The headings over the quote itself, for a chunk may hold more than one section."""
    hit = passage.hit
    path = list(enumerate(hit.heading_path, 1))
    for level, title in headings(hit.text[: passage.start], first=hit.start == 0):
        path = [*(above for above in path if above[0] < level), (level, title)]
    return tuple(title for _, title in path)
