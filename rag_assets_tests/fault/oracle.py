"""What must be true, told from the tester's own memory of the source: a checker a promise."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rag_assets.indexing.chunking import MarkdownChunker
from rag_assets.indexing.parsing import DocumentParser
from rag_assets.indexing.planning import FEW
from rag_assets.model import Chunk, Corpus
from rag_assets_tests.fault.reader import Snapshot
from rag_assets_tests.fault.source import UNREADABLE, History, Revision, is_poison
from rag_assets_tests.fault.worker import DIMENSIONS
from rag_assets_tests.services.embedding_service import REJECTED_MARK
from rag_assets_tests.services.vectors import vector_of

Passages = tuple[tuple[int, str], ...]
_NEAR = 2e-3
"""What a vector may lose in half precision."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise that was not kept, and where."""

    promise: str
    what: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.what}"


class Oracle:
    """Knows what each revision of a document looks like when it is served."""

    def __init__(self, corpus: Corpus, history: History) -> None:
        self._history = history
        self._parser = DocumentParser(corpus.parser)
        self._chunker = MarkdownChunker(corpus.chunking).identity
        self._chunks: dict[tuple[str, str, str], tuple[Chunk, ...]] = {}
        self.chunkers: dict[int, str] = {}
        """Generation to the identity of its chunker, where it is not the corpus's first."""

    def chunks(self, doc_id: str, revision: Revision, generation: int = 0) -> tuple[Chunk, ...]:
        """None of a document that is not there or that is poison."""
        if revision.content is None or is_poison(revision.content):
            return ()
        return self._cut(doc_id, revision, generation)

    def _cut(self, doc_id: str, revision: Revision, generation: int) -> tuple[Chunk, ...]:
        assert revision.content is not None
        chunker = self.chunkers.get(generation, self._chunker)
        key = (doc_id, revision.content, chunker)
        if key not in self._chunks:
            parsed = self._parser.parse(revision.bytes, doc_id=doc_id)
            self._chunks[key] = MarkdownChunker.from_identity(chunker).split(parsed)
        return self._chunks[key]

    def passages(self, doc_id: str, revision: Revision, generation: int = 0) -> Passages:
        chunks = self.chunks(doc_id, revision, generation)
        return tuple((chunk.ord, chunk.text) for chunk in chunks)

    def now(self, generation: int) -> dict[str, Passages]:
        """What is served when everything has come to rest."""
        found = {
            doc_id: self.passages(doc_id, revisions[-1], generation)
            for doc_id, revisions in self._history.documents.items()
        }
        return {doc_id: passages for doc_id, passages in found.items() if passages}

    @property
    def texts(self) -> set[str]:
        """Every text that any revision may have had to pay for."""
        return {
            chunk.embedded_text
            for doc_id, revisions in self._history.documents.items()
            for revision in revisions
            if revision.content not in (None, UNREADABLE)
            for generation in {0, *self.chunkers}
            for chunk in self._cut(doc_id, revision, generation)
            if REJECTED_MARK not in chunk.text
        }

    # --- what readers saw ------------------------------------------------------------------------

    def half_reads(self, snapshots: Sequence[Snapshot]) -> Iterator[Broken]:
        """I2: one revision of each document, whole. I10: as the generation that was asked has it."""
        for number, snapshot in enumerate(snapshots):
            for doc_id, passages in snapshot.documents.items():
                if self._known(doc_id, passages, snapshot.generation):
                    if snapshot.contents[doc_id] == 1:
                        continue
                elif any(self._known(doc_id, passages, each) for each in self.chunkers):
                    yield Broken("I10", f"read {number} has {doc_id} as another generation has it")
                    continue
                ords = [ord_ for ord_, _ in passages]
                yield Broken("I2", f"read {number} has {doc_id} with passages {ords}")

    def _known(self, doc_id: str, passages: Passages, generation: int) -> bool:
        revisions = self._history.documents[doc_id]
        return any(self.passages(doc_id, each, generation) == passages for each in revisions)

    def backwards(self, snapshots: Sequence[Snapshot]) -> Iterator[Broken]:
        """I2, I3 and I11: what readers saw of a document follows the order of the source."""
        vanished = 0
        for doc_id, revisions in self._history.documents.items():
            order = [Revision(0, None), *revisions]
            at = 0
            for number, snapshot in enumerate(snapshots):
                seen = snapshot.documents.get(doc_id, ())
                fits = [
                    place
                    for place, revision in enumerate(order[at:], at)
                    if self.passages(doc_id, revision, snapshot.generation) == seen
                ]
                if fits:
                    at = fits[0]
                    continue
                if seen:
                    yield Broken("I3", f"read {number} has {doc_id} as it was before")
                else:
                    vanished += 1
                    yield Broken("I2", f"read {number} has {doc_id} in no revision")
                break
        if vanished > FEW:
            yield Broken("I11", f"{vanished} documents vanished that never left")

    def models(
        self, snapshots: Sequence[Snapshot], embedders: Mapping[int, str]
    ) -> Iterator[Broken]:
        """I10: a question is embedded by the model of the generation that is asked."""
        for number, snapshot in enumerate(snapshots):
            if embedders.get(snapshot.generation) != snapshot.embedder:
                yield Broken("I10", f"read {number} asked {snapshot.generation} by another model")

    # --- what is there in the end ----------------------------------------------------------------

    def served(self, last: Snapshot) -> Iterator[Broken]:
        """I1, I4 and I9: after rest a reader finds exactly what the source has."""
        wanted = self.now(last.generation)
        for doc_id in wanted.keys() - last.documents.keys():
            yield Broken("I1", f"{doc_id} is lost")
        for doc_id in last.documents.keys() - wanted.keys():
            yield Broken("I4", f"{doc_id} is still found, though it has left")
        for doc_id in wanted.keys() & last.documents.keys():
            if set(last.documents[doc_id]) < set(wanted[doc_id]):
                yield Broken("I9", f"{doc_id} is found in part")
            elif last.documents[doc_id] != wanted[doc_id]:
                yield Broken("I1", f"{doc_id} is not as it is at the source")

    def poison(self, dead: Iterable[str]) -> Iterator[Broken]:
        """I7: the dead letters are the poison documents, no more and no fewer."""
        live = {doc_id: revisions[-1] for doc_id, revisions in self._history.documents.items()}
        wanted = {
            doc_id for doc_id, last in live.items() if last.content and is_poison(last.content)
        }
        if difference := wanted ^ set(dead):
            yield Broken("I7", f"dead letters differ from the poison documents by {difference}")


def equal(ours: Mapping[str, Any], fresh: Mapping[str, Any]) -> Iterator[Broken]:
    """I1: all that is held equals a fresh build."""
    for kind in fresh:
        if ours[kind] != fresh[kind]:
            first = next(
                (pair for pair in zip(ours[kind], fresh[kind], strict=False) if pair[0] != pair[1]),
                (len(ours[kind]), len(fresh[kind])),
            )
            yield Broken("I1", f"{kind} differ from a fresh build: {str(first)[:300]}")


def sane(vectors: Iterable[Mapping[str, Any]]) -> Iterator[Broken]:
    """I8: a stored vector is the model's answer for that text."""
    for row in vectors:
        found = np.array(row["vector"].strip("[]").split(","), np.float32)
        wanted = vector_of(row["text"], dimensions=DIMENSIONS)
        if found.shape != wanted.shape or not np.abs(found - wanted).max() < _NEAR:
            yield Broken("I8", f"the vector of {row['doc_id']} #{row['ord']} is not its text's")
