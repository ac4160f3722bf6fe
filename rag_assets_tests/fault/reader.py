"""Reads the published index all the time, as an application does, and keeps what it saw."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from rag_assets import wiring
from rag_assets.adapters.postgres.search import PostgresSearchIndex
from rag_assets.errors import NotPublishedError, RagAssetsError
from rag_assets.model import Hit, PublishedIndex
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.fault.worker import DIMENSIONS
from rag_assets_tests.services.vectors import vector_of

PAUSE_S = 0.01
CATCH_UP_S = 10.0
QUESTION = "Whither?"
"""No document has a word of it: all is found by its vector."""


Opens = Callable[[DatabaseUrls], PostgresSearchIndex]
"""How a reader comes to its index."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything one request found: with more candidates than there are chunks, that is all."""

    generation: int
    embedder: str
    documents: dict[str, tuple[tuple[int, str], ...]]
    """Document to its passages with their numbers."""
    contents: dict[str, int]
    """Document to how many different versions of it were in this one answer."""


@dataclass(slots=True)
class Reader:
    """A thread that ends with its context."""

    urls: DatabaseUrls
    corpus: str
    opens: Opens = wiring.search_index
    snapshots: list[Snapshot] = field(default_factory=list)
    reads: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    """Errors that nobody can act on."""
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Reader":
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()

    def see(self, snapshot: Snapshot) -> None:
        self.reads += 1
        if not self.snapshots or self.snapshots[-1] != snapshot:
            self.snapshots.append(snapshot)

    def catch_up(self) -> None:
        """Waits for a request that began after this, answered or refused."""
        asked, ends_at = self._asked, time.monotonic() + CATCH_UP_S
        while self._asked < asked + 2 and time.monotonic() < ends_at:
            time.sleep(PAUSE_S)

    @property
    def _asked(self) -> int:
        return self.reads + self.refused.total() + len(self.broken)

    def _poll(self) -> None:
        while not self._over.is_set():
            try:
                with self.opens(self.urls) as index:
                    while not self._over.wait(PAUSE_S):
                        self.see(look(index, self.corpus))
            except NotPublishedError:
                time.sleep(PAUSE_S)
            except RagAssetsError as error:
                self.refused[type(error).__name__] += 1
                time.sleep(PAUSE_S)
            except Exception as error:  # noqa: BLE001 -- the tester must hear of whatever it is
                self.broken.append(f"{type(error).__name__}: {error}")
                time.sleep(PAUSE_S)


def look(
    index: PostgresSearchIndex, corpus: str, published: PublishedIndex | None = None
) -> Snapshot:
    """One request for all that everyone may see."""
    published = published or index.published(corpus)
    vector = vector_of(QUESTION, dimensions=DIMENSIONS)
    found = index.find(published, question=QUESTION, vector=vector, principals=("everyone",))
    return snapshot(published.generation, published.embedder, found.hits)


def snapshot(generation: int, embedder: str, hits: tuple[Hit, ...]) -> Snapshot:
    documents: dict[str, list[tuple[int, str]]] = {}
    contents: dict[str, set[bytes]] = {}
    for hit in hits:
        documents.setdefault(hit.doc_id, []).append((hit.ord, hit.text))
        contents.setdefault(hit.doc_id, set()).add(hit.content_hash)
    return Snapshot(
        generation,
        embedder,
        {doc_id: tuple(sorted(rows)) for doc_id, rows in sorted(documents.items())},
        {doc_id: len(found) for doc_id, found in contents.items()},
    )
