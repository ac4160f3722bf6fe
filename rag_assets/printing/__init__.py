"""What commands show to people."""

from rag_assets.printing.answers import answer, hits, search_result
from rag_assets.printing.care import (
    dead_letter,
    dead_letters,
    expected,
    quarantine,
    receipt,
    upkeep,
    vacuumed,
    verified,
    withheld,
)
from rag_assets.printing.graphs import lineage, origin
from rag_assets.printing.installation import alerts_tried, checked, findings, standing
from rag_assets.printing.runs import asset_done, run_report
from rag_assets.printing.scoring import in_order, scores, stale_labels
from rag_assets.printing.shape import Doing, Piece, say

__all__ = [
    "Doing",
    "Piece",
    "alerts_tried",
    "answer",
    "asset_done",
    "checked",
    "dead_letter",
    "dead_letters",
    "expected",
    "findings",
    "hits",
    "in_order",
    "lineage",
    "origin",
    "quarantine",
    "receipt",
    "run_report",
    "say",
    "scores",
    "search_result",
    "stale_labels",
    "standing",
    "upkeep",
    "vacuumed",
    "verified",
    "withheld",
]
