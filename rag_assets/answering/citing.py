"""From passages to citations: numbered, and checked against the characters they claim."""

from collections.abc import Iterable

from rag_assets.answering.extracting import Passage
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
            heading_path=passage.hit.heading_path,
            start=passage.hit.start + passage.start,
            end=passage.hit.start + passage.end,
            quote=passage.text,
        )
        for number, passage in enumerate(passages, 1)
    )
