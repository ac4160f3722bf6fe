"""The step behind `chunks`: cuts texts into passages along their own structure."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from rag_assets.errors import ConfigurationError, UnreadableDocumentError
from rag_assets.indexing.batching import bounded
from rag_assets.indexing.parsing import heading_paths, page_of
from rag_assets.model import (
    Chunk,
    ChunkingSettings,
    ChunkSet,
    DeadLetter,
    Generation,
    ParsedDocument,
    RunIdentity,
    Stage,
    StoredText,
)
from rag_assets.ports import Chunker, ChunkStore, DeadLetterStore

if TYPE_CHECKING:
    from semantic_text_splitter import MarkdownSplitter

TEXTS_A_COMMIT = 256
"""Texts cut and written together, unless they are long."""
CHARS_A_COMMIT = 2_000_000
"""What bounds the memory of a run over long texts."""
REFUSALS = (UnreadableDocumentError, ValueError, LookupError, ArithmeticError, RecursionError)
"""What a text can make a chunker raise. Anything else ends the run: it says nothing of the text."""
LONGEST_LINE = 8_000
"""Characters without a line end that are still cut as a whole."""
VERSION = 1
"""Raise it when the same text is cut otherwise: a new generation is then built."""
_IDENTITY = re.compile(rf"markdown@{VERSION}:(\d+)-(\d+)")
ADOPTED_VERSION = 1
"""Raise it when other passages of the same table are adopted."""
ADOPTED_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_ADOPTED = re.compile(rf"adopted@{ADOPTED_VERSION}/({ADOPTED_NAME.pattern})\+(.+)")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_ASCII_KINDS = bytes(
    ord("w" if re.match(r"\w", chr(code)) else " " if re.match(r"\s", chr(code)) else ".")
    for code in range(256)
)


class MarkdownChunker:
    """Headings first, then paragraphs, sentences, words; every word is in exactly one chunk."""

    def __init__(self, settings: ChunkingSettings) -> None:
        self.settings = settings

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
        return f"markdown@{VERSION}:{self.settings.min_chars}-{self.settings.max_chars}"

    def split(self, document: ParsedDocument) -> tuple[Chunk, ...]:
        """Offsets count characters: `document.text[chunk.start:chunk.end] == chunk.text`."""
        paths = heading_paths(document.headings)
        starts = [heading.start for heading in document.headings]
        return tuple(
            Chunk(
                ord=ord_,
                text=text,
                start=start,
                end=start + len(text),
                heading_path=paths[bisect_right(starts, start)],
                page=page_of(document.pages, start),
                tokens=estimated_tokens(text),
            )
            for ord_, (start, text) in enumerate(self._passages(document.text))
        )

    def _passages(self, text: str) -> Iterator[tuple[int, str]]:
        longest = max(LONGEST_LINE, 2 * self.settings.max_chars)
        for begin, end in stretches(text, longest):
            for start, passage in self._splitter.chunk_indices(text[begin:end]):
                if passage.strip():  # control characters alone are no passage
                    yield begin + start, passage

    @cached_property
    def _splitter(self) -> "MarkdownSplitter":
        from semantic_text_splitter import MarkdownSplitter

        return MarkdownSplitter((self.settings.min_chars, self.settings.max_chars))


class AdoptedChunker:
    """Stands for passages that were cut elsewhere, and cuts by itself what none of them were of."""

    def __init__(self, name: str, own: Chunker) -> None:
        self._own = own
        self.identity = f"adopted@{ADOPTED_VERSION}/{name}+{own.identity}"

    def split(self, document: ParsedDocument) -> tuple[Chunk, ...]:
        return self._own.split(document)


def chunker_for(settings: ChunkingSettings) -> Chunker:
    """What a corpus is cut with.

    >>> chunker_for(ChunkingSettings(adopted="notes")).identity
    'adopted@1/notes+markdown@1:400-1200'
    """
    own = MarkdownChunker(settings)
    return AdoptedChunker(settings.adopted, own) if settings.adopted else own


def chunker_from_identity(identity: str) -> Chunker:
    """What a generation was cut with.

    >>> chunker_from_identity("adopted@1/notes+markdown@1:400-1200").identity
    'adopted@1/notes+markdown@1:400-1200'
    """
    if found := _ADOPTED.fullmatch(identity):
        return AdoptedChunker(found[1], MarkdownChunker.from_identity(found[2]))
    return MarkdownChunker.from_identity(identity)


def is_adopted(chunker: str) -> bool:
    """Whether the chunks of a chunker may overlap, and leave headings out."""
    return chunker.startswith("adopted@")


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
    if text and max(map(len, text.split("\n"))) <= longest:  # most texts, told fast
        yield 0, len(text)
        return
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
    if text.isascii():  # the same, ten times as fast
        kinds = text.encode().translate(_ASCII_KINDS)
        words = kinds.count(b" w") + kinds.count(b".w") + kinds.startswith(b"w")
        return words + kinds.count(b".")
    return len(_TOKEN.findall(text))


def cut(
    generation: Generation,
    buckets: Sequence[int],
    *,
    chunker: Chunker,
    store: ChunkStore,
    letters: DeadLetterStore,
    run: RunIdentity,
) -> int:
    """Cuts texts that this chunker has never seen; returns how many chunks it made.

    A text that cannot be cut makes dead letters of its documents, and stops no other.
    """
    made = 0
    texts = store.unchunked(generation, buckets)
    for batch in bounded(texts, TEXTS_A_COMMIT, weight=_chars, most=CHARS_A_COMMIT):
        cuts = [cut_one(text, chunker) for text in batch]
        made += store.add_chunks([each for each in cuts if isinstance(each, ChunkSet)], run)
        if refused := [each for each in cuts if isinstance(each, Uncut)]:
            having = store.documents_with(generation, [each.content_hash for each in refused])
            dead = [
                each.letter(doc_id, chunker, run)
                for each in refused
                for doc_id in having.get(each.content_hash, [])
            ]
            letters.add_dead_letters(generation.corpus, dead, run)
    return made


@dataclass(frozen=True, slots=True)
class Uncut:
    """A text that a chunker could not cut as it promised."""

    content_hash: bytes
    error: str
    reason: str

    def letter(self, doc_id: str, chunker: Chunker, run: RunIdentity) -> DeadLetter:
        return DeadLetter(
            doc_id=doc_id,
            stage=Stage.CHUNK,
            subject=chunker.identity,
            error=self.error,
            reason=f"{chunker.identity} cannot cut {doc_id}: {self.reason}.",
            code_version=run.code_version,
            content_hash=self.content_hash,
        )


def cut_one(text: StoredText, chunker: Chunker) -> ChunkSet | Uncut:
    try:
        chunks = chunker.split(text.parsed)
    except REFUSALS as error:
        name = type(error).__name__
        # The words of other errors may be words of the document.
        reason = str(error) if isinstance(error, UnreadableDocumentError) else f"it raised {name}"
        return Uncut(text.content_hash, name, reason.rstrip("."))
    if broken := broken_promise(text.parsed.text, chunks):
        return Uncut(text.content_hash, "BrokenPromise", broken)
    return ChunkSet(text.content_hash, text.parser, chunker.identity, chunks)


def broken_promise(text: str, chunks: Sequence[Chunk]) -> str | None:
    """What is wrong with the chunks of a text: they stand where they say, and nothing is lost.

    >>> broken_promise("One. Two.", [Chunk(0, "One.", 0, 4), Chunk(1, "Two.", 5, 9)])
    >>> broken_promise("One. Two.", [Chunk(0, "Two.", 5, 9)])
    'characters 0 to 5 are in no chunk'
    """
    end = 0
    for number, chunk in enumerate(chunks):
        if chunk.ord != number:
            return f"chunk {number} calls itself {chunk.ord}"
        if not chunk.text or text[chunk.start : chunk.end] != chunk.text or chunk.start < end:
            return f"chunk {number} does not stand where it says"
        if text[end : chunk.start].strip():
            return f"characters {end} to {chunk.start} are in no chunk"
        end = chunk.end
    return f"characters {end} to {len(text)} are in no chunk" if text[end:].strip() else None


def _chars(text: StoredText) -> int:
    return len(text.parsed.text)
