"""The lineage of corpora, for people who review it: what depends on what, and what each run did."""

from rag_assets.lineage.graph import Lineage
from rag_assets.lineage.page import page
from rag_assets.lineage.reading import read

__all__ = ["Lineage", "page", "read"]
