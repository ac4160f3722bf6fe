"""Labelled questions: read from files, tied to characters of the documents, checked, written.

A label keeps the words of its answer, so it survives a new parser and a new chunker; only a change
of the very sentence needs a new label, and then it is named.
"""

from rag_assets.evaluation.golden_set.labels import END_OF_DOCUMENT, Label, LabelledQuestion
from rag_assets.evaluation.golden_set.reading import read_golden_set
from rag_assets.evaluation.golden_set.sets import GoldenSet

__all__ = ["END_OF_DOCUMENT", "GoldenSet", "Label", "LabelledQuestion", "read_golden_set"]
