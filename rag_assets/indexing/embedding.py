"""The step behind `embeddings`: gives every text its vector, once."""

from collections.abc import Sequence
from contextlib import closing

from rag_assets.errors import EmbeddingError
from rag_assets.model import Chunk, Generation, RunIdentity
from rag_assets.ports import Embedder, EmbeddingStore, Vectors

CHUNKS_A_CALL = 256
"""Texts sent to the model in one call, and committed at once."""


def embed(
    generation: Generation,
    buckets: Sequence[int],
    *,
    embedder: Embedder,
    store: EmbeddingStore,
    run: RunIdentity,
) -> int:
    """Embeds texts that have no vector, a batch a commit; returns how many the model was given."""
    embedded = 0
    with closing(store.unembedded(generation, buckets, at_once=CHUNKS_A_CALL)) as unembedded:
        for batch in unembedded:
            vectors = embedder.embed_documents([chunk.embedded_text for chunk in batch])
            _check(vectors, batch, embedder)
            store.add_embeddings(generation, [chunk.text_hash for chunk in batch], vectors, run)
            embedded += len(batch)
    return embedded


def _check(vectors: Vectors, batch: Sequence[Chunk], embedder: Embedder) -> None:
    """As many vectors as texts, of the right length, finite and with a direction."""
    if vectors.shape != (len(batch), embedder.dimensions):
        raise EmbeddingError(
            f"{embedder.identity} gave vectors of shape {vectors.shape} for {len(batch)} texts;"
            f" ({len(batch)}, {embedder.dimensions}) was expected. Nothing of this call was kept."
        )
    import numpy as np

    norms = np.linalg.norm(vectors, axis=1)
    if not (np.isfinite(norms).all() and (norms > 0).all()):
        wrong = int(np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))[0])
        raise EmbeddingError(
            f"{embedder.identity} gave a vector without direction for the text beginning"
            f" {batch[wrong].text[:60]!r}. Nothing of this call was kept."
        )
