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
    """An asset that was materialized, but for some of its parts, such as one of its generations.

    No run fails of them, so they are no business of the repair: the sensor of the source asks for
    their buckets again, ever more slowly.
    """

    result: dg.MaterializeResult[Any]
    failed: Mapping[str, RagAssetsError]
    """What part, as in `generation 3`, and why."""


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
        stage = context.asset_key.path[-1]
        _note(context, platform, corpus, buckets, stage=stage, error=error)
        raise


def remember_parts(
    context: dg.AssetExecutionContext,
    platform: Platform,
    corpus: Corpus,
    buckets: Sequence[int],
    failed: Mapping[str, RagAssetsError],
) -> None:
    """Notes what an asset that has succeeded could not do."""
    for part, error in failed.items():
        stage = f"{context.asset_key.path[-1]} of {part}"
        _note(context, platform, corpus, buckets, stage=stage, error=error)


def _note(
    context: dg.AssetExecutionContext,
    platform: Platform,
    corpus: Corpus,
    buckets: Sequence[int],
    *,
    stage: str,
    error: Exception,
) -> None:
    try:
        platform.stores().failures.record(
            corpus.name,
            stage,
            buckets,
            error=type(error).__name__,
            reason=str(error) if isinstance(error, RagAssetsError) else UNEXPECTED,
            run=run_of(context.run.run_id),
        )
    except DatabaseError as missed:
        context.log.warning(f"That {stage} failed could not be noted: {missed}")


def forget_failures(
    context: dg.AssetExecutionContext,
    platform: Platform,
    corpus: Corpus,
    buckets: Sequence[int],
    *,
    but_for: Collection[str] = (),
) -> None:
    """The asset has succeeded, but for some parts; where nothing had failed, nothing is written."""
    stage = context.asset_key.path[-1]
    parts = [f"{stage} of {part}" for part in but_for]
    try:
        platform.stores().failures.clear(corpus.name, stage, buckets, but_for=parts)
    except DatabaseError as missed:
        context.log.warning(f"That {stage} succeeded could not be noted: {missed}")
