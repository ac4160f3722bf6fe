"""What is done at certain hours, change or no change."""

from rag_assets.schedules import nightly, rebuild, upkeep

__all__ = ["nightly", "rebuild", "upkeep"]
