"""What readers search."""

from typing import Any

import dagster as dg

from rag_assets.adapters.postgres.index import Merged
from rag_assets.assets.reporting import ROWS, changes_of, diff_of_run, report
from rag_assets.assets.shape import (
    DAILY_CODE,
    Column,
    buckets_in,
    corpus_asset,
    current_generations,
)
from rag_assets.indexing.quality import judgings
from rag_assets.model import Change, Corpus, has_readers
from rag_assets.resources import Platform, run_of

COLUMNS = (
    Column("doc_id", "text", "The document", (("raw_documents", "doc_id"),)),
    Column("ord", "integer", "The chunk in its document", (("chunks", "ord"),)),
    Column("bucket", "smallint", "The partition", (("raw_documents", "bucket"),)),
    Column("acl", "text[]", "Who may see the row", (("raw_documents", "acl"),)),
    Column("text_hash", "bytea", "The text that was embedded", (("chunks", "text_hash"),)),
    Column("words", "integer", "Length for BM25", (("chunks", "text"),)),
    Column("embedding", "halfvec", "The vector, at half precision", (("embeddings", "embedding"),)),
)


def build(corpus: Corpus) -> dg.AssetsDefinition:
    @corpus_asset(
        corpus,
        after=("raw_documents", "embeddings"),
        kinds={"postgres"},
        code_version=DAILY_CODE,
        columns=COLUMNS,
        table="indexed_documents",
    )
    def vector_index(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult[Any]:
        """The table that is searched, one a generation; each bucket changes in one transaction.

        Every generation that is read, or may be again, receives every change and every deletion.
        A build beside them catches up by itself, in `candidate_index`. Rows that were lost are
        written again from what is stored.
        """
        stores, buckets = platform.stores(), buckets_in(context)
        generations, totals = current_generations(corpus, stores), dict[str, int]()
        changes: list[Change] = []
        run = run_of(context.run.run_id)
        for generation in generations:
            # What a stage has left unjudged, for it failed on its way, is not to be served.
            rules = judgings(generation.recipe, corpus.quality)
            stores.quality.judge(corpus.name, rules, buckets, run)
            merged = stores.index.merge(
                generation,
                buckets,
                run,
                keep_last_good=corpus.on_poison == "keep_last_good",
            )
            stores.generations.finish(generation)
            stores.measuring.measure(generation)
            changes += changes_of(generation.number, merged)
            for each in merged.values():
                _add(totals, each)
        if has_readers(generations):  # before the gate: it speaks of candidates, not of settings
            platform.publisher(corpus).update_row()
        rows = {bucket: _bucket(generations[-1].number, each) for bucket, each in merged.items()}
        report(context, corpus, rows, changes)
        did = {f"run/{name}": number for name, number in totals.items()}
        all_rows = stores.generations.content(generations[-1].number).chunks
        return dg.MaterializeResult(
            metadata={"dagster/row_count": all_rows, **diff_of_run(changes), **did}
        )

    return vector_index


def _bucket(generation: int, merged: Merged) -> dict[str, int]:
    return {
        ROWS: merged.chunks,
        "documents": merged.documents,
        "waiting": merged.waiting,
        "kept": merged.kept,
        "healed": merged.healed,
        "generation": generation,
    }


def _add(totals: dict[str, int], merged: Merged) -> None:
    for name in ("added", "replaced", "removed", "described", "waiting", "kept", "healed"):
        totals[name] = totals.get(name, 0) + getattr(merged, name)
