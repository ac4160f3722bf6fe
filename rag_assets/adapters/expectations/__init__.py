"""Suites of Great Expectations, judged in the database, and the pages that show the results.

It costs seconds and a quarter of a gigabyte to load: only what judges imports it.
"""

from rag_assets.adapters.expectations.data_docs import DataDocs
from rag_assets.adapters.expectations.judging import GreatExpectations

__all__ = ["DataDocs", "GreatExpectations"]
