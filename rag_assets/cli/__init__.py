"""The commands of `rag-assets`. What a command does not need, it does not import."""

from rag_assets.cli.shape import Commands, main

# In the order in which the help lists their commands.
from rag_assets.cli import services  # isort: skip
from rag_assets.cli import corpora  # isort: skip
from rag_assets.cli import plans  # isort: skip
from rag_assets.cli import generations  # isort: skip
from rag_assets.cli import questions  # isort: skip
from rag_assets.cli import golden_sets  # isort: skip
from rag_assets.cli import care  # isort: skip

__all__ = [
    "Commands",
    "care",
    "corpora",
    "generations",
    "golden_sets",
    "main",
    "plans",
    "questions",
    "services",
]
