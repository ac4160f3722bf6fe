"""How the pipeline stands at the end of a run."""

from typing import Any

import dagster as dg

from rag_assets.assets.shape import Column, corpus_asset
from rag_assets.model import Corpus
from rag_assets.resources import Platform, run_of

COLUMNS = (
    Column("corpus", "text", "The corpus"),
    Column("measured_at", "timestamptz", "When"),
    Column("run_id", "text", "The run, or the sensor that measures between runs"),
    Column(
        "documents", "integer", "Documents that readers see", (("published_index", "generation"),)
    ),
    Column("chunks", "integer", "Their chunks", (("vector_index", "ord"),)),
    Column("waiting", "integer", "Changes that wait to be served"),
    Column("oldest_waiting_s", "double precision", "For how long the oldest of them has waited"),
    Column(
        "failed", "integer", "Documents that could not be processed", (("raw_documents", "state"),)
    ),
    Column("documents_an_hour", "double precision", "Written to the index within the last hour"),
    Column("provider_errors", "integer", "Failed attempts at embedding, not made good yet"),
)


def build(corpus: Corpus) -> dg.AssetsDefinition:
    @corpus_asset(
        corpus,
        after=("published_index",),
        kinds={"postgres"},
        code_version="1",
        columns=COLUMNS,
        table="pipeline_metrics",
        in_buckets=False,
    )
    def pipeline_metrics(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult[Any]:
        """How much waits, and how long; how fast the work goes, what has failed, what it costs.

        The number and age of waiting changes is what autoscaling goes by. Between runs, the sensor
        that watches freshness adds a row when something waits.
        """
        waiting, run = platform.stores().waiting, run_of(context.run.run_id)
        metrics = waiting.measure(corpus.name, waiting.backlog(corpus.name))
        rows = waiting.keep(corpus.name, metrics, run)
        tokens, usd = waiting.cost_of(corpus.name, run)
        cost: dict[str, int | float] = {"tokens_of_this_run": tokens}
        if usd is not None:
            cost["usd_of_this_run"] = float(usd)
        return dg.MaterializeResult(metadata={"dagster/row_count": rows, **metrics.figures, **cost})

    return pipeline_metrics
