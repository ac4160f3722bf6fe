"""The index of changed settings, beside the one that is read."""

from datetime import datetime
from typing import Any

import dagster as dg

from rag_assets import wiring
from rag_assets.adapters.postgres.index import Merged
from rag_assets.adapters.system_clock import SystemClock
from rag_assets.assets.reporting import (
    ROWS,
    asked_of_models,
    cost_of_run,
    judged_in_run,
    kept_to,
    report,
)
from rag_assets.assets.shape import Column, buckets_in, corpus_asset
from rag_assets.building import Builder, Built
from rag_assets.indexing.rebuilding import RebuildWindow, window_of
from rag_assets.model import Corpus, Generation, GenerationState, recipe_changes
from rag_assets.ports import Clock
from rag_assets.resources import REPAIR_TAG, Platform, run_of

COLUMNS = (
    Column("doc_id", "text", "The document", (("raw_documents", "doc_id"),)),
    Column("ord", "integer", "The chunk in its document", (("raw_documents", "content_hash"),)),
    Column("bucket", "smallint", "The partition", (("raw_documents", "bucket"),)),
    Column("acl", "text[]", "Who may see the row", (("raw_documents", "acl"),)),
    Column("text_hash", "bytea", "The text that was embedded"),
    Column("words", "integer", "Length for BM25"),
    Column("embedding", "halfvec", "The vector, at half precision"),
)


def build(corpus: Corpus, *, clock: Clock | None = None) -> dg.AssetsDefinition:
    time, window = clock or SystemClock(), window_of(corpus.automation)

    @corpus_asset(
        corpus,
        after=("raw_documents",),
        kinds={"ai", "postgres"},
        code_version=wiring.recipe_of(corpus).fingerprint,
        columns=COLUMNS,
        table="indexed_documents",
        pool="generation_builds",
        daily=False,
    )
    def candidate_index(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult[Any]:
        """The index of changed settings, built beside the one that is read; not by daily runs.

        It is made of stored texts, with the vectors that are there already. Daily runs pass between
        its turns; what they change meanwhile is caught up with at the end. A build that was killed,
        or whose hours are over, is gone on with. When it is complete it is a candidate: scored,
        judged, and published if it is not worse.
        """
        builder, buckets = platform.builder(corpus, context.run), buckets_in(context)
        generation = builder.begun(by_hand=REPAIR_TAG not in context.run.tags)
        if generation is None:
            return dg.MaterializeResult(metadata=_nothing(builder))
        until = window.ends_at(time.now()) or time.now() if window else None
        built = builder.build(generation, buckets, run=run_of(context.run.run_id), until=until)
        report(context, corpus, {bucket: _row(each) for bucket, each in built.loaded.items()})
        costs = builder.stores.provenance.costs(corpus.name, context.run.run_id)
        return dg.MaterializeResult(
            metadata={
                **_standing(builder, built),
                "run/chunks_cut": built.chunks,
                **asked_of_models(built.embedded),
                "run/documents_written": built.documents,
                **judged_in_run(built.judged),
                **cost_of_run(costs),
                **kept_to(builder.spending.budget),
                "waits_for": _waits_for(built, window, time.now()),
            }
        )

    return candidate_index


def _row(merged: Merged) -> dict[str, int]:
    return {ROWS: merged.chunks, "documents": merged.documents, "waiting": merged.waiting}


def _nothing(builder: Builder) -> dict[str, Any]:
    name = builder.corpus.name
    held = builder.stores.generations.held(name, builder.recipe)
    said = f"An earlier one was {held}." if held else "The settings of today have their index."
    return {"waits_for": f"No build is wanted. {said}", "fingerprint": builder.recipe.fingerprint}


def _standing(builder: Builder, built: Built) -> dict[str, Any]:
    """Which build it is, how it differs from what is read, and how far it has come."""
    generations, generation = builder.stores.generations, built.generation
    content = generations.content(generation.number)
    return {
        "dagster/row_count": content.chunks,
        "generation": generation.number,
        "state": str(generation.state) if built.ended is None else str(built.ended.state),
        "fingerprint": generation.recipe.fingerprint,
        **_differing(builder, generation),
        "documents_loaded": content.documents,
        "documents": builder.stores.documents.live_documents(builder.corpus.name),
    }


def _differing(builder: Builder, generation: Generation) -> dict[str, Any]:
    """Nothing where it is built again as it was, or nothing is read yet."""
    living = builder.stores.generations.living(builder.corpus.name)
    read = [each.recipe for each in living if each.state is GenerationState.PUBLISHED]
    parts = recipe_changes(generation.recipe, *read) if read else {}
    rows = [
        dg.TableRecord({"part": part, "of_this_build": this, "of_the_published": that})
        for part, (this, that) in parts.items()
    ]
    return {"differs_in": dg.MetadataValue.table(rows)} if rows else {}


def _waits_for(built: Built, window: RebuildWindow | None, now: datetime) -> str:
    if built.ended is not None:
        return f"Nothing: it was ended meanwhile ({built.ended})."
    if built.embedded.stopped and window is not None:
        opens = window.opens_at(now).astimezone(window.zone)
        return f"The rebuild window, which opens {opens:%Y-%m-%d %H:%M} ({window.zone})."
    if built.left:
        return (
            f"{built.left.documents_waiting} documents that cannot be processed yet, and"
            f" {built.left.buckets_unseen} buckets that no run has looked at."
        )
    return "The gate: it is complete."
