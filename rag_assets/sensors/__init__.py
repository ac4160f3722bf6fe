"""What is watched: one sensor a file, each made for a corpus."""

from rag_assets.sensors import alerts, candidates, freshness, source_changes

__all__ = ["alerts", "candidates", "freshness", "source_changes"]
