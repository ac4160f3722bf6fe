"""Parsers in processes of their own, so that no document can harm the run that reads it."""

from rag_assets.adapters.parse_workers.pool import Limits, ParseWorkers

__all__ = ["Limits", "ParseWorkers"]
