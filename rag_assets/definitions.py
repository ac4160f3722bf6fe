"""What Dagster loads: the corpora of a folder.

The folder is the one that RAG_ASSETS_DEFS names. A project with a definitions module of its own
names its folder itself:

    from rag_assets.definitions import build_definitions

    defs = build_definitions(Path(__file__).parent / "defs")
"""

from pathlib import Path

import dagster as dg

from rag_assets.components.corpus import corpus_definitions
from rag_assets.corpus_file import read_corpora
from rag_assets.settings import Settings


def build_definitions(defs_folder: Path) -> dg.Definitions:
    """Everything of every corpus: `defs_folder` holds a folder for each, with its `defs.yaml`."""
    return dg.Definitions.merge(*map(corpus_definitions, read_corpora(defs_folder)))


@dg.definitions
def defs() -> dg.Definitions:
    """Read when Dagster asks for it, so that importing this module reads nothing."""
    return dg.Definitions.merge(
        build_definitions(Settings.from_environment().defs),
        dg.Definitions(executor=dg.in_process_executor),  # a process a step costs seconds each
    )
