"""The assets of a corpus, in the order in which data flows through them."""

from rag_assets.assets import (
    candidate_index,
    chunks,
    embeddings,
    eval_scores,
    pipeline_metrics,
    published_index,
    raw_documents,
    vector_index,
)

__all__ = [
    "candidate_index",
    "chunks",
    "embeddings",
    "eval_scores",
    "pipeline_metrics",
    "published_index",
    "raw_documents",
    "vector_index",
]
