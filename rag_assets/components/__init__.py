"""What a `defs.yaml` can be the declaration of."""

from rag_assets.components.corpus import Corpus

__all__ = ["Corpus"]
