"""Fakes of the ports that keep their promises: for the tests of whoever builds on the ports."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np
import Stemmer

from rag_assets.errors import EmbeddingError, NotPublishedError
from rag_assets.model import (
    Chunk,
    Found,
    Hit,
    PublishedIndex,
    QuestionTerm,
    RetrievalSettings,
    SourceObject,
)
from rag_assets.ports import Vectors

STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
        a about above after again against all am an and any are as at be because been before being
        below between both but by can did do does doing don down during each few for from further
        had has have having he her here hers herself him himself his how i if in into is it its
        itself just me more most my myself no nor not now of off on once only or other our ours
        ourselves out over own s same she should so some such t than that the their theirs them
        themselves then there these they this those through to too under until up very was we were
        what when where which while who whom why will with you your yours yourself yourselves
        """,
    )
)


def analysed(text: str) -> dict[str, str]:
    """Word to stem, without stop words, in the order of the text.

    >>> analysed("How are the chunks embedded?")
    {'chunks': 'chunk', 'embedded': 'embed'}
    """
    words = [word for word in re.findall(r"[^\W_]+", text.lower()) if word not in STOP_WORDS]
    return dict(zip(words, Stemmer.Stemmer("english").stemWords(words), strict=True))


def stems_of(text: str) -> list[str]:
    words = [word for word in re.findall(r"[^\W_]+", text.lower()) if word not in STOP_WORDS]
    stems: list[str] = Stemmer.Stemmer("english").stemWords(words)
    return stems


@dataclass(frozen=True, slots=True)
class HashEmbedder:
    """Words hashed to dimensions: texts that share words are near, and nothing has to be loaded."""

    dimensions: int = 64

    @property
    def identity(self) -> str:
        return f"hash:words_{self.dimensions}/plain@1"

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return np.array([self._vector(text) for text in texts], np.float32).reshape(
            len(texts), self.dimensions
        )

    def embed_question(self, text: str) -> Vectors:
        return self._vector(text)

    def _vector(self, text: str) -> Vectors:
        vector = np.zeros(self.dimensions, np.float32)
        for word in re.findall(r"\w+", text.lower()):
            number = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())
            vector[number % self.dimensions] += 1 if number & 1 << 63 else -1
        length = float(np.linalg.norm(vector))
        if not length:
            raise EmbeddingError(
                f"{self.identity} has no vector for the text that begins {text[:40]!r}."
            )
        return vector / np.float32(length)


@dataclass(slots=True)
class InMemorySource:
    """A source that a test changes by changing its mapping."""

    contents: dict[str, bytes] = field(default_factory=dict)

    def objects(self) -> Iterable[SourceObject]:
        return [self._object(doc_id) for doc_id in sorted(self.contents)]

    def look(self, doc_id: str) -> SourceObject | None:
        return self._object(doc_id) if doc_id in self.contents else None

    def read(self, doc_id: str) -> bytes | None:
        return self.contents.get(doc_id)

    def _object(self, doc_id: str) -> SourceObject:
        digest = hashlib.sha256(self.contents[doc_id]).digest()
        return SourceObject(doc_id, f"memory:{doc_id}", digest)


@dataclass(frozen=True, slots=True)
class IndexedDocument:
    """A document as an index holds it: cut, and with those who may see it."""

    doc_id: str
    title: str
    chunks: tuple[Chunk, ...]
    acl: tuple[str, ...] = ("everyone",)


class InMemorySearchIndex:
    """One published generation, searched without any approximation: true cosine, true BM25."""

    def __init__(
        self,
        documents: Sequence[IndexedDocument],
        *,
        embedder: HashEmbedder,
        corpus: str = "handbook",
        retrieval: RetrievalSettings | None = None,
    ) -> None:
        self._published = PublishedIndex(
            corpus=corpus,
            generation=1,
            embedder=embedder.identity,
            retrieval=retrieval or RetrievalSettings(),
            published_at=datetime(2026, 1, 1, tzinfo=UTC),
            run_id="in-memory",
        )
        self._acls = [document.acl for document in documents for _ in document.chunks]
        self._hits = [_hit(document, chunk) for document in documents for chunk in document.chunks]
        texts = [chunk.embedded_text for document in documents for chunk in document.chunks]
        self._vectors = embedder.embed_documents(texts)
        self._words = [Counter(stems_of(text)) for text in texts]

    def published(self, corpus: str | None) -> PublishedIndex:
        if corpus not in (None, self._published.corpus):
            raise NotPublishedError(f"Corpus {corpus!r} is not published; publish it first.")
        return self._published

    def find(
        self, index: PublishedIndex, *, question: str, vector: Vectors, principals: Sequence[str]
    ) -> Found:
        words = analysed(question)
        visible = [row for row, acl in enumerate(self._acls) if set(acl) & set(principals)]
        dense = {row: float(self._vectors[row] @ vector) for row in visible}
        lexical = {row: self._bm25(row, set(words.values())) for row in visible}
        rows = _first(dense, index.retrieval.candidates) | _first(
            {row: score for row, score in lexical.items() if score > 0}, index.retrieval.candidates
        )
        return Found(
            hits=tuple(
                replace(self._hits[row], dense=dense[row], lexical=lexical[row] or None)
                for row in rows
            ),
            terms=tuple(
                QuestionTerm(
                    word=word,
                    stem=stem,
                    chunks=self._holding(stem),
                    visible=any(stem in self._words[row] for row in visible),
                )
                for word, stem in words.items()
            ),
            chunks=len(self._hits),
        )

    def _holding(self, stem: str) -> int:
        return sum(stem in words for words in self._words)

    def _bm25(self, row: int, stems: Iterable[str]) -> float:
        words = self._words[row]
        average = sum(found.total() for found in self._words) / len(self._words)
        norm = 1.5 * (0.25 + 0.75 * words.total() / average)
        return sum(
            math.log1p((len(self._hits) - held + 0.5) / (held + 0.5))
            * words[stem]
            / (words[stem] + norm)
            for stem in stems
            for held in [self._holding(stem)]
            if words[stem]
        )


def _first(scores: Mapping[int, float], count: int) -> set[int]:
    return set(sorted(scores, key=lambda row: (-scores[row], row))[:count])


def _hit(document: IndexedDocument, chunk: Chunk) -> Hit:
    return Hit(
        generation=1,
        doc_id=document.doc_id,
        ord=chunk.ord,
        title=document.title,
        uri=f"memory:{document.doc_id}",
        heading_path=chunk.heading_path,
        text=chunk.text,
        start=chunk.start,
        end=chunk.end,
        content_hash=chunk.text_hash,
        run_id="in-memory",
        score=0.0,
        dense=None,
        lexical=None,
    )
