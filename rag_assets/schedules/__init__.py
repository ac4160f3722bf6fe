"""What is done at certain hours, change or no change."""

from rag_assets.schedules import rebuild

__all__ = ["rebuild"]
