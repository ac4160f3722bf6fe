"""Questions that are asked again and again, and embedded once."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

from rag_assets.ports import Embedder, Vectors


class QuestionVectors:
    """What models made of questions; of so many the least lately asked is forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: OrderedDict[tuple[str, str], Vectors] = OrderedDict()
        self._one_at_a_time = Lock()

    def of(self, embedder: Embedder, text: str) -> Vectors:
        key = (embedder.identity, text)
        with self._one_at_a_time:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        vectors = embedder.embed_question(text)
        with self._one_at_a_time:
            self._found[key] = vectors
            if len(self._found) > self._most:
                self._found.popitem(last=False)
        return vectors


@dataclass(frozen=True, slots=True)
class AskedOnce:
    """Embeds each question once, however often it is searched for."""

    embedder: Embedder
    known: QuestionVectors

    @property
    def identity(self) -> str:
        return self.embedder.identity

    @property
    def dimensions(self) -> int:
        return self.embedder.dimensions

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return self.embedder.embed_documents(texts)

    def embed_question(self, text: str) -> Vectors:
        return self.known.of(self.embedder, text)
