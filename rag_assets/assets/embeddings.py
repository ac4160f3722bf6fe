"""The vectors of the passages."""

from typing import Any

import dagster as dg

from rag_assets import wiring
from rag_assets.assets.shape import Column, buckets_in, corpus_asset, living_generations, report
from rag_assets.indexing.embedding import embed
from rag_assets.model import Corpus
from rag_assets.resources import Platform, run_of

COLUMNS = (
    Column("scope", "text", "Corpora of one scope share their vectors"),
    Column("model", "text", "Provider, model and preprocessing, with their versions"),
    Column("text_hash", "bytea", "The text that was embedded", (("chunks", "text_hash"),)),
    Column("embedding", "vector", "What the model answered", (("chunks", "text"),)),
    Column("run_id", "text", "The run that asked the model"),
    Column("created_at", "timestamptz", "When it was asked"),
)


def build(corpus: Corpus) -> dg.AssetsDefinition:
    @corpus_asset(
        corpus,
        after=("chunks",),
        kinds={"ai", "postgres"},
        code_version=wiring.recipe_of(corpus).embedder,
        columns=COLUMNS,
    )
    def embeddings(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult[Any]:
        """The vector of every text, asked for once: renames, copies and rebuilds cost nothing."""
        stores, buckets = platform.stores(), buckets_in(context)
        generations, embedded = living_generations(corpus, stores), 0
        for generation in generations:
            if wiring.can_still_make(generation, corpus):
                embedded += embed(
                    generation,
                    buckets,
                    embedder=wiring.embedder_for(generation.recipe.embedder),
                    store=stores.embeddings,
                    run=run_of(context.run.run_id),
                )
        counts = stores.embeddings.counts(generations[-1], buckets)
        rows = {bucket: {"dagster/row_count": counts.get(bucket, 0)} for bucket in buckets}
        report(context, corpus, rows)
        return dg.MaterializeResult(metadata={"run/texts_embedded": embedded})

    return embeddings
