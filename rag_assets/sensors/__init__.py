"""What is watched: one sensor a file, each made for a corpus."""

from rag_assets.sensors import source_changes

__all__ = ["source_changes"]
