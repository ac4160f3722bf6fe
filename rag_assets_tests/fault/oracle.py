"""What must be true, told from the tester's own memory of the source: a checker a promise."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rag_assets.indexing.chunking import MarkdownChunker
from rag_assets.indexing.parsing import TextParser
from rag_assets.model import Chunk, Corpus
from rag_assets_tests.fault.reader import Snapshot
from rag_assets_tests.fault.source import History, Revision
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
        self._parser = TextParser(corpus.parser)
        self._chunkers = [MarkdownChunker(corpus.chunking)]
        self._served: dict[tuple[str, str], tuple[Chunk, ...]] = {}

    def chunks(self, doc_id: str, revision: Revision) -> tuple[Chunk, ...]:
        """None of a document that is not there or that is poison."""
        if revision.content is None or is_poison(revision.content):
            return ()
        key = (doc_id, revision.content)
        if key not in self._served:
            parsed = self._parser.parse(revision.bytes, doc_id=doc_id)
            self._served[key] = self._chunkers[0].split(parsed)
        return self._served[key]

    def passages(self, doc_id: str, revision: Revision) -> Passages:
        return tuple((chunk.ord, chunk.text) for chunk in self.chunks(doc_id, revision))

    @property
    def now(self) -> dict[str, Passages]:
        """What is served when everything has come to rest."""
        found = {
            doc_id: self.passages(doc_id, revisions[-1])
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
            for chunk in self.chunks(doc_id, revision)
        }

    # --- what readers saw ------------------------------------------------------------------------

    def half_reads(self, snapshots: Sequence[Snapshot]) -> Iterator[Broken]:
        """I2: one revision of each document, whole."""
        for number, snapshot in enumerate(snapshots):
            for doc_id, passages in snapshot.documents.items():
                known = {self.passages(doc_id, each) for each in self._history.documents[doc_id]}
                if passages not in known or snapshot.contents[doc_id] != 1:
                    ords = [ord_ for ord_, _ in passages]
                    yield Broken("I2", f"read {number} has {doc_id} with passages {ords}")

    def backwards(self, snapshots: Sequence[Snapshot]) -> Iterator[Broken]:
        """I3 and I11: what readers saw follows the source's order, and leaves out what it must."""
        if not snapshots:
            return
        for doc_id, revisions in self._history.documents.items():
            seen = [snapshot.documents.get(doc_id, ()) for snapshot in snapshots]
            order = [(), *(self.passages(doc_id, revision) for revision in revisions)]
            at = 0
            for number, passages in enumerate(seen):
                later = [place for place in range(at, len(order)) if order[place] == passages]
                if later:
                    at = later[0]
                elif not passages:
                    yield Broken("I11", f"read {number} has lost {doc_id}, which never left")
                    break
                elif () in order[:at] and passages in order[: at + 1]:
                    yield Broken("I3", f"read {number} has an old {doc_id} again")
                    break
                else:
                    yield Broken("I3", f"read {number} has {doc_id} as it never was, or was before")
                    break

    def one_generation(
        self, snapshots: Sequence[Snapshot], recipes: Mapping[int, str]
    ) -> Iterator[Broken]:
        """I10: a request reads one generation, with that generation's model."""
        for number, snapshot in enumerate(snapshots):
            if recipes.get(snapshot.generation) != snapshot.embedder:
                yield Broken("I10", f"read {number} asked generation {snapshot.generation} wrongly")

    # --- what is there in the end ----------------------------------------------------------------

    def served(self, last: Snapshot) -> Iterator[Broken]:
        """I1, I4 and I9: after rest a reader finds exactly what the source has."""
        wanted = self.now
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


def is_poison(content: str) -> bool:
    return content == "unreadable" or REJECTED_MARK in content


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
