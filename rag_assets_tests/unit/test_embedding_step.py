"""Each text is given to the model once, and what it answers is looked at."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from rag_assets.errors import EmbeddingError
from rag_assets.indexing.embedding import CHUNKS_A_CALL, embed
from rag_assets.model import (
    Chunk,
    Generation,
    GenerationState,
    IndexSettings,
    Recipe,
    RunIdentity,
)
from rag_assets.ports import Vectors
from rag_assets.testing import HashEmbedder

RUN = RunIdentity("run-1", "code-1")
RECIPE = Recipe("auto@1", "markdown@1:20-60", HashEmbedder().identity, 64, IndexSettings())
GENERATION = Generation(1, "notes", GenerationState.BUILDING, RECIPE)


def chunks(count: int) -> list[Chunk]:
    return [Chunk(n, f"Text {n}.", 0, 8, ("Heading",)) for n in range(count)]


@dataclass(slots=True)
class Store:
    waiting: list[Chunk]
    vectors: dict[bytes, Vectors] = field(default_factory=dict)
    commits: list[int] = field(default_factory=list)
    closed: bool = False

    def unembedded(
        self, generation: Generation, buckets: Sequence[int], *, at_once: int
    ) -> Generator[Sequence[Chunk], None, None]:
        try:
            for start in range(0, len(self.waiting), at_once):
                yield self.waiting[start : start + at_once]
        finally:
            self.closed = True

    def add_embeddings(
        self,
        generation: Generation,
        text_hashes: Sequence[bytes],
        vectors: Vectors,
        run: RunIdentity,
    ) -> None:
        self.vectors |= dict(zip(text_hashes, vectors, strict=True))
        self.commits.append(len(text_hashes))


@dataclass(frozen=True, slots=True)
class Answers:
    """A model that answers what a test gives it."""

    answer: Vectors
    dimensions: int = 64
    identity: str = "a model"

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return self.answer

    def embed_question(self, text: str) -> Vectors:
        return self.answer[:1]


def test_every_text_gets_the_vector_of_its_heading_and_passage() -> None:
    store = Store(chunks(3))
    assert embed(GENERATION, [0], embedder=HashEmbedder(), store=store, run=RUN) == 3
    for chunk in store.waiting:
        expected = HashEmbedder().embed_question(f"Heading\n{chunk.text}")
        np.testing.assert_array_equal(store.vectors[chunk.text_hash], expected)


def test_each_call_is_kept_at_once() -> None:
    store = Store(chunks(CHUNKS_A_CALL + 5))
    embed(GENERATION, [0], embedder=HashEmbedder(), store=store, run=RUN)
    assert store.commits == [CHUNKS_A_CALL, 5]


def test_nothing_to_embed_asks_no_model() -> None:
    store = Store([])
    never_asked = Answers(np.empty((0, 1), np.float32))
    assert embed(GENERATION, [0], embedder=never_asked, store=store, run=RUN) == 0
    assert store.closed


@pytest.mark.parametrize(
    "answer",
    [
        np.ones((1, 64)),
        np.ones((3, 64)),
        np.ones((2, 63)),
        np.ones(64),
        np.array([[1.0] * 64, [0.0] * 64]),
        np.array([[1.0] * 64, [float("nan")] + [1.0] * 63]),
        np.array([[1.0] * 64, [float("inf")] + [1.0] * 63]),
    ],
    ids=["too few", "too many", "too short", "flat", "zero", "not a number", "infinite"],
)
def test_an_answer_that_cannot_be_right_is_not_kept(answer: Vectors) -> None:
    store = Store(chunks(2))
    with pytest.raises(EmbeddingError, match="Nothing of this call was kept"):
        embed(
            GENERATION,
            [0],
            embedder=Answers(answer.astype(np.float32)),
            store=store,
            run=RUN,
        )
    assert store.vectors == {}
    assert store.closed


def test_a_vector_without_direction_names_its_text() -> None:
    answer = np.array([[1.0] * 64, [0.0] * 64], np.float32)
    with pytest.raises(
        EmbeddingError, match=r"a model gave a vector without direction.*'Text 1\.'"
    ):
        embed(GENERATION, [0], embedder=Answers(answer), store=Store(chunks(2)), run=RUN)
