"""Begins, or goes on with, the index of changed settings when its hours have come."""

import dagster as dg

from rag_assets import wiring
from rag_assets.errors import DatabaseError
from rag_assets.indexing.rebuilding import window_of
from rag_assets.model import Corpus, GenerationState
from rag_assets.resources import CORPUS_TAG, Platform


def build(corpus: Corpus) -> dg.ScheduleDefinition | None:
    """None where an index may be built at any time: the repair begins it as soon as it is wanted.

    Buckets that a change has brought up to date meanwhile are not stale for Dagster, though their
    texts wait for the window. So the schedule runs all of them.
    """
    window = window_of(corpus.automation)
    if window is None:
        return None
    everything = dg.RunRequest(
        tags={
            CORPUS_TAG: corpus.name,
            "dagster/asset_partition_range_start": corpus.bucket_keys[0],
            "dagster/asset_partition_range_end": corpus.bucket_keys[-1],
        }
    )

    @dg.schedule(
        name=f"{corpus.name}_rebuild",
        job_name=corpus.name,
        cron_schedule=f"{window.start.minute} {window.start.hour} * * *",
        execution_timezone=corpus.automation.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Builds the index of changed settings of {corpus.name}, from"
        f" {window.start:%H:%M} to {window.end:%H:%M}, until it is complete.",
    )
    def rebuild(platform: Platform) -> dg.RunRequest | dg.SkipReason:
        try:
            finished = _is_complete(corpus, platform)
        except DatabaseError:
            finished = False  # the run fails, is tried again, and tells of it
        return (
            dg.SkipReason("The index of today's settings is complete.") if finished else everything
        )

    return rebuild


def _is_complete(corpus: Corpus, platform: Platform) -> bool:
    own = wiring.recipe_of(corpus)
    return any(
        each.recipe == own and each.state is not GenerationState.BUILDING
        for each in platform.stores().generations.living(corpus.name)
    )
