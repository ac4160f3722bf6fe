"""Remembers in the database what an asset fails with, until it succeeds again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dagster as dg

from rag_assets.errors import DatabaseError, RagAssetsError
from rag_assets.model import Corpus
from rag_assets.resources import Platform, run_of

UNEXPECTED = "Something unexpected; the Dagster run shows where."
"""What else such an error says may be a word of a document."""


@contextmanager
def remembered_failures(
    context: dg.AssetExecutionContext, platform: Platform, corpus: Corpus, buckets: Sequence[int]
) -> Iterator[None]:
    """Notes an error of what is done inside, and raises it again.

    A database that is down has no place for it, and never hides the error itself.
    """
    stage, run = context.asset_key.path[-1], run_of(context.run.run_id)
    try:
        yield
    except Exception as error:
        known = isinstance(error, RagAssetsError)
        try:
            platform.stores().failures.record(
                corpus.name,
                stage,
                buckets,
                error=type(error).__name__,
                reason=str(error) if known else UNEXPECTED,
                run=run,
            )
        except DatabaseError as missed:
            context.log.warning(f"That {stage} failed could not be noted: {missed}")
        raise


def forget_failures(
    context: dg.AssetExecutionContext, platform: Platform, corpus: Corpus, buckets: Sequence[int]
) -> None:
    """The asset has succeeded; where nothing had failed, nothing is written."""
    stage = context.asset_key.path[-1]
    try:
        platform.stores().failures.clear(corpus.name, stage, buckets)
    except DatabaseError as missed:
        context.log.warning(f"That {stage} succeeded could not be noted: {missed}")
