"""What all assets of a corpus have in common: keys, partitions, columns, and how they fail."""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import Any

import dagster as dg

from rag_assets import __version__, wiring
from rag_assets.assets.failing import (
    Partly,
    forget_failures,
    remember_parts,
    remembered_failures,
)
from rag_assets.automation import repair_condition
from rag_assets.errors import DatabaseError, NotMigratedError, RagAssetsError
from rag_assets.indexing.rebuilding import current
from rag_assets.model import NO_BUCKET, Corpus, Generation, GenerationState, has_readers
from rag_assets.resources import Platform, key_of

Body = Callable[..., dg.MaterializeResult[Any] | Partly | None]

DAILY_CODE = "1"
"""Changed settings are no reason to run what keeps the index up to date that is read: it was made
with others, and keeps them. What they change is built beside it, by `candidate_index`."""
RETRIES = 2
"""A database that restarts is away for a moment. A provider has been asked patiently before."""
RETRY_AFTER_S = 2.0
"""Short, for a run keeps its place in the queue's limit meanwhile."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table behind an asset, and the columns it is made from."""

    name: str
    type: str
    description: str
    sources: tuple[tuple[str, str], ...] = ()


def corpus_asset(
    corpus: Corpus,
    *,
    after: Sequence[str],
    kinds: set[str],
    code_version: str,
    columns: Sequence[Column],
    table: str,
    in_buckets: bool = True,
    may_be_left: bool = False,
    pool: str | None = None,
    daily: bool = True,
) -> Callable[[Body], dg.AssetsDefinition]:
    """Makes an asset of a corpus from its body, whose name and docstring are the asset's.

    One that `may_be_left` materializes nothing when its body returns None; what comes after it in
    the run is then skipped. Of the assets of one `pool` only so many run at once as the instance
    says, whichever corpora they are of. One that is not `daily` is neither overdue nor repaired.
    """

    def made(body: Body) -> dg.AssetsDefinition:
        with warnings.catch_warnings():  # parts are in beta; the pinned version is known
            warnings.simplefilter("ignore", dg.BetaWarning)
            told = {
                "dagster/column_lineage": lineage_of(corpus, columns),
                "code_version": code_version,
                "rag_assets_version": __version__,
            }
            return _decorator(body)(completed(body, corpus, told, in_buckets=in_buckets))

    def _decorator(body: Body) -> Callable[..., dg.AssetsDefinition]:
        return dg.asset(
            key=key_of(corpus, body.__name__),
            deps=[key_of(corpus, name) for name in after],
            partitions_def=buckets_of(corpus) if in_buckets else None,
            backfill_policy=dg.BackfillPolicy.single_run() if in_buckets else None,
            group_name=corpus.name,
            owners=list(corpus.owners),
            kinds=kinds,
            code_version=code_version,
            description=inspect.getdoc(body),
            metadata={
                "dagster/column_schema": schema_of(columns),
                "dagster/column_lineage": lineage_of(corpus, columns),
                "dagster/table_name": f"rag_assets.{table}",
                "dagster/storage_kind": "postgres",
                "dagster/code_references": _code_of(body),
            },
            tags={"rag_assets/corpus": corpus.name},
            freshness_policy=freshness_of(corpus) if daily else None,
            automation_condition=repair_condition(corpus) if daily else None,
            pool=pool,
            op_tags={"dagster/priority": "1"},  # before the checks: readers wait for the index
            output_required=not may_be_left,
        )

    return made


def buckets_of(corpus: Corpus) -> dg.StaticPartitionsDefinition:
    return dg.StaticPartitionsDefinition(corpus.bucket_keys)


def freshness_of(corpus: Corpus) -> dg.FreshnessPolicy:
    """How long after its last run an asset turns yellow, then red."""
    warn = corpus.freshness.warn_after_h
    return dg.FreshnessPolicy.time_window(
        fail_window=timedelta(hours=corpus.freshness.fail_after_h),
        warn_window=timedelta(hours=warn) if warn is not None else None,
    )


def schema_of(columns: Sequence[Column]) -> dg.TableSchema:
    return dg.TableSchema(
        [dg.TableColumn(each.name, each.type, each.description) for each in columns]
    )


def lineage_of(corpus: Corpus, columns: Sequence[Column]) -> dg.TableColumnLineage:
    """Where each column comes from, column by column."""
    return dg.TableColumnLineage(
        {
            each.name: [
                dg.TableColumnDep(asset_key=key_of(corpus, asset), column_name=column)
                for asset, column in each.sources
            ]
            for each in columns
            if each.sources
        }
    )


def _code_of(body: Body) -> dg.CodeReferencesMetadataValue:
    """Where the body stands, for the catalogue."""
    code = inspect.unwrap(body).__code__
    place = dg.LocalFileCodeReference(
        file_path=code.co_filename, line_number=code.co_firstlineno, label=body.__name__
    )
    return dg.CodeReferencesMetadataValue(code_references=[place])


def completed(
    body: Body, corpus: Corpus, told: Mapping[str, Any], *, in_buckets: bool
) -> Callable[..., Iterator[dg.MaterializeResult[Any]]]:
    """Adds what every materialization tells; explains and remembers failures.

    What a person can act on becomes the failure that Dagster shows, without our stack.
    """

    @wraps(body)
    def runs(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> Iterator[dg.MaterializeResult[Any]]:
        buckets = buckets_in(context) if in_buckets else [NO_BUCKET]
        try:
            with remembered_failures(context, platform, corpus, buckets):
                made = body(context, platform)
        except RagAssetsError as error:
            if _may_pass(error) and context.retry_number < RETRIES:
                raise dg.RetryRequested(RETRIES, RETRY_AFTER_S) from error
            raise dg.Failure(description=str(error)) from error
        if made is not None:
            result, failed = (made.result, made.failed) if isinstance(made, Partly) else (made, {})
            forget_failures(context, platform, corpus, buckets, but_for=failed)
            remember_parts(context, platform, corpus, buckets, failed)
            yield dg.MaterializeResult(
                metadata={**(result.metadata or {}), **told},
                data_version=result.data_version,
            )

    runs.__annotations__["return"] = Iterator[dg.MaterializeResult[Any]]
    return runs


def _may_pass(error: RagAssetsError) -> bool:
    """Whether the same step may succeed a moment later, with nobody doing anything."""
    return isinstance(error, DatabaseError) and not isinstance(error, NotMigratedError)


def buckets_in(context: dg.AssetExecutionContext) -> list[int]:
    """The buckets of this run: one, or a range."""
    return [int(key) for key in context.partition_keys]


def current_generations(corpus: Corpus, stores: wiring.Stores) -> list[Generation]:
    """All that changes go into as they come; the one of today's settings, or what is read, last.

    The first index of a corpus is opened here. Any other is built beside it, by `candidate_index`,
    and ended by it: this run may have begun with settings that are no longer those of the corpus.
    """
    generations, recipe = stores.generations, wiring.recipe_of(corpus)
    living = generations.living(corpus.name)
    if not has_readers(living):
        generations.open(corpus.name, recipe, by_hand=True)
        living = generations.living(corpus.name)
    return sorted(
        current(living),
        key=lambda each: (each.recipe == recipe, each.state is GenerationState.PUBLISHED),
    )
