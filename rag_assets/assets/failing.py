"""Remembers in the database what an asset fails with, until it succeeds again."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg

from rag_assets.errors import DatabaseError, RagAssetsError
from rag_assets.model import Corpus
from rag_assets.resources import Platform, run_of

UNEXPECTED = "Something unexpected; the Dagster run shows where."
"""What else such an error says may be a word of a document."""


@dataclass(frozen=True, slots=True)
class Partly:
    """An asset that was materialized, but not for some of the generations.

    No run fails of them, so they are no business of the repair: the sensor of the source asks for
    their buckets again, ever more slowly.
    """

    result: dg.MaterializeResult[Any]
    failed: Mapping[int, RagAssetsError]
    """Which generation, and why."""


@contextmanager
def remembered_failures(
    context: dg.AssetExecutionContext, platform: Platform, corpus: Corpus, buckets: Sequence[int]
) -> Iterator[None]:
    """Notes an error of what is done inside, and raises it again.

    A database that is down has no place for it, and never hides the error itself.
    """
    try:
        yield
    except Exception as error:
        _note(context, platform, corpus, buckets, error=error)
        raise


def remember_parts(
    context: dg.AssetExecutionContext,
    platform: Platform,
    corpus: Corpus,
    buckets: Sequence[int],
    failed: Mapping[int, RagAssetsError],
) -> None:
    """Notes what an asset that has succeeded could not do."""
    for generation, error in failed.items():
        _note(context, platform, corpus, buckets, error=error, generation=generation)


def _note(
    context: dg.AssetExecutionContext,
    platform: Platform,
    corpus: Corpus,
    buckets: Sequence[int],
    *,
    error: Exception,
    generation: int = 0,
) -> None:
    stage = context.asset_key.path[-1]
    try:
        platform.stores().failures.record(
            corpus.name,
            stage,
            buckets,
            error=type(error).__name__,
            reason=str(error) if isinstance(error, RagAssetsError) else UNEXPECTED,
            run=run_of(context.run.run_id),
            generation=generation,
        )
    except DatabaseError as missed:
        context.log.warning(f"That {stage} failed could not be noted: {missed}")


def forget_failures(
    context: dg.AssetExecutionContext,
    platform: Platform,
    corpus: Corpus,
    buckets: Sequence[int],
    *,
    but_for: Collection[int] = (),
) -> None:
    """It has succeeded, but for some generations; where nothing had failed, nothing is written."""
    stage = context.asset_key.path[-1]
    try:
        platform.stores().failures.clear(corpus.name, stage, buckets, but_for=but_for)
    except DatabaseError as missed:
        context.log.warning(f"That {stage} succeeded could not be noted: {missed}")
