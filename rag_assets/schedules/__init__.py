"""What is done at certain hours, change or no change."""

from rag_assets.schedules import nightly, upkeep

__all__ = ["nightly", "upkeep"]
