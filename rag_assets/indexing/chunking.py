"""The step behind `chunks`: cuts texts into passages along their own structure."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from rag_assets.errors import ConfigurationError
from rag_assets.indexing.batching import batches
from rag_assets.indexing.parsing import heading_path
from rag_assets.model import (
    Chunk,
    ChunkingSettings,
    ChunkSet,
    Generation,
    ParsedDocument,
    StoredText,
)
from rag_assets.ports import Chunker, ChunkStore

if TYPE_CHECKING:
    from semantic_text_splitter import MarkdownSplitter

TEXTS_A_COMMIT = 64
"""Texts cut and written together."""
LONGEST_LINE = 8_000
"""Characters without a line end that are still cut as a whole."""
VERSION = 1
"""Raise it when the same text is cut otherwise: a new generation is then built."""
_IDENTITY = re.compile(rf"markdown@{VERSION}:(\d+)-(\d+)")
_TOKEN = re.compile(r"\w+|[^\w\s]")


class MarkdownChunker:
    """Headings first, then paragraphs, sentences, words; every word is in exactly one chunk."""

    def __init__(self, settings: ChunkingSettings) -> None:
        self._settings = settings

    @classmethod
    def from_identity(cls, identity: str) -> "MarkdownChunker":
        """The chunker that a generation was made with.

        >>> MarkdownChunker.from_identity("markdown@1:400-1200").identity
        'markdown@1:400-1200'
        """
        if not (found := _IDENTITY.fullmatch(identity)):
            raise ConfigurationError(
                f"A generation was made with the chunker {identity!r}, which this version does not"
                " have. Build a new one with `rag-assets materialize`, or install the earlier one."
            )
        return cls(ChunkingSettings(min_chars=int(found[1]), max_chars=int(found[2])))

    @property
    def identity(self) -> str:
        return f"markdown@{VERSION}:{self._settings.min_chars}-{self._settings.max_chars}"

    def split(self, document: ParsedDocument) -> tuple[Chunk, ...]:
        """Offsets count characters: `document.text[chunk.start:chunk.end] == chunk.text`."""
        return tuple(
            Chunk(
                ord=ord_,
                text=text,
                start=start,
                end=start + len(text),
                heading_path=heading_path(document.headings, start),
                tokens=estimated_tokens(text),
            )
            for ord_, (start, text) in enumerate(self._passages(document.text))
        )

    def _passages(self, text: str) -> Iterator[tuple[int, str]]:
        longest = max(LONGEST_LINE, 2 * self._settings.max_chars)
        for begin, end in stretches(text, longest):
            for start, passage in self._splitter.chunk_indices(text[begin:end]):
                if passage.strip():  # control characters alone are no passage
                    yield begin + start, passage

    @cached_property
    def _splitter(self) -> "MarkdownSplitter":
        from semantic_text_splitter import MarkdownSplitter

        return MarkdownSplitter((self._settings.min_chars, self._settings.max_chars))


def stretches(text: str, longest: int) -> Iterator[tuple[int, int]]:
    r"""The whole text, except that endless lines stand apart, in pieces broken at white space.

    The splitter's time grows with the square of what it finds no structure in, such as an
    embedded picture.

    >>> list(stretches("short\n" + "ab " * 4, 10))
    [(0, 6), (6, 15), (15, 18)]
    >>> list(stretches("short\nshort", 10))
    [(0, 11)]
    """
    begin = 0
    for line in re.finditer(rf"[^\n]{{{longest + 1},}}\n?", text):
        if begin < line.start():
            yield begin, line.start()
        begin = line.start()
        while line.end() - begin > longest:
            end = begin + longest
            end = max(text.rfind(" ", begin, end) + 1, 0) or end
            yield begin, end
            begin = end
    if begin < len(text):
        yield begin, len(text)


def estimated_tokens(text: str) -> int:
    """Words and punctuation marks: an offline estimate, the same for every model.

    >>> estimated_tokens("Don't panic.")
    5
    """
    return len(_TOKEN.findall(text))


def cut(
    generation: Generation, buckets: Sequence[int], *, chunker: Chunker, store: ChunkStore
) -> int:
    """Cuts texts that this chunker has never seen; returns how many chunks it made."""
    made = 0
    for batch in batches(store.unchunked(generation, buckets), TEXTS_A_COMMIT):
        made += store.add_chunks([_chunk_set(text, chunker) for text in batch])
    return made


def _chunk_set(text: StoredText, chunker: Chunker) -> ChunkSet:
    return ChunkSet(text.content_hash, text.parser, chunker.identity, chunker.split(text.parsed))
