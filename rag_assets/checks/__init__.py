"""What guards each asset, under the name of the asset."""

from rag_assets.checks import (
    chunks,
    embeddings,
    eval_scores,
    expectations,
    freshness,
    published_index,
    raw_documents,
    shape,
    vector_index,
)

__all__ = [
    "chunks",
    "embeddings",
    "eval_scores",
    "expectations",
    "freshness",
    "published_index",
    "raw_documents",
    "shape",
    "vector_index",
]
