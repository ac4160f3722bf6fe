"""`defs.yaml`: its schema, its problems with line and suggestion, and the corpora it declares."""

from rag_assets.corpus_file.problems import Problem
from rag_assets.corpus_file.reading import check_defs, read_corpora, read_corpus

__all__ = ["Problem", "check_defs", "read_corpora", "read_corpus"]
