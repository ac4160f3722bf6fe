"""Takes away what nothing uses any more, and cleans the tables: a job, and when it is done."""

from typing import Any

import dagster as dg

from rag_assets import installation
from rag_assets.errors import RagAssetsError
from rag_assets.model import Corpus
from rag_assets.resources import CORPUS_TAG, Platform
from rag_assets.schedules.nightly import nightly


def build(corpus: Corpus) -> dg.ScheduleDefinition | None:
    return nightly(
        corpus,
        "upkeep",
        corpus.schedules.upkeep,
        job=f"{corpus.name}_upkeep",
        description=f"Takes away what nothing of {corpus.name} uses any more, and cleans the tables"
        " in which much has changed.",
    )


def build_job(corpus: Corpus) -> dg.JobDefinition:
    """Its counts are the metadata of its steps. A job of ops, for it makes no data."""
    collect, vacuum = _collect(corpus), _vacuum(corpus)

    @dg.job(
        name=f"{corpus.name}_upkeep",
        executor_def=dg.in_process_executor,
        tags={CORPUS_TAG: corpus.name},
        description="Drops generations whose grace is over, deletes texts, chunks and vectors that"
        " no document and no generation needs, and old measurements, a little at a time; then"
        " cleans and counts the tables in which much has changed.",
    )
    def upkeep() -> None:
        vacuum(collect())

    return upkeep


def _collect(corpus: Corpus) -> dg.OpDefinition:
    @dg.op(
        name=f"{corpus.name}_collect",
        out=dg.Out(dg.Nothing),
        description="Deletes what nothing uses.",
    )
    def collect(context: dg.OpExecutionContext, platform: Platform) -> None:
        try:
            done = installation.upkept(platform.stores(), corpus)
        except RagAssetsError as error:
            raise dg.Failure(description=str(error)) from error
        context.add_output_metadata(_figures(done))

    return collect


def _vacuum(corpus: Corpus) -> dg.OpDefinition:
    @dg.op(
        name=f"{corpus.name}_vacuum",
        ins={"collected": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        description="Cleans and counts the tables in which much has changed.",
    )
    def vacuum(context: dg.OpExecutionContext, platform: Platform) -> None:
        try:
            tables = platform.stores().collecting.vacuum()
        except RagAssetsError as error:
            raise dg.Failure(description=str(error)) from error
        context.add_output_metadata({"tables": tables})

    return vacuum


def _figures(done: installation.Upkeep) -> dict[str, Any]:
    found = done.collected
    return {
        "generations_dropped": done.generations,
        "texts": found.texts,
        "chunk_sets": found.chunk_sets,
        "chunks": found.chunks,
        "embeddings": found.embeddings,
        "claims": found.claims,
        "verdicts": found.verdicts,
        "log_rows": done.log_rows,
        "left_for_later": found.busy,
        "collected_by_another_run": found.elsewhere,
    }
