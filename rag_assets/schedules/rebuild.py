"""Begins, or goes on with, the index of changed settings that is built beside the published one."""

from datetime import datetime, timedelta

import dagster as dg

from rag_assets import wiring
from rag_assets.errors import DatabaseError
from rag_assets.indexing.rebuilding import RebuildWindow, to_be_published, window_of
from rag_assets.model import Corpus
from rag_assets.resources import CORPUS_TAG, Platform, key_of
from rag_assets.schedules.nightly import GOING_ON

REST = timedelta(hours=6)
"""Where there is no window, a build is gone on with so often."""
RANGE = "dagster/asset_partition_range_start"
AFTER_LOOKING = (
    *("chunks", "embeddings", "vector_index"),
    *("eval_scores", "published_index", "pipeline_metrics"),
)
"""A run that looks at the source would keep what it finds from readers until all is built."""


def build(corpus: Corpus) -> dg.ScheduleDefinition | None:
    """Once each time that the window opens; without a window, now and then.

    Buckets that a change has brought up to date are not stale for Dagster, though most of their
    texts may still have to be embedded for the build. So this runs all of them. None where nothing
    is to be done without hands.
    """
    window, name = window_of(corpus.automation), f"{corpus.name}_rebuild"
    if window is None and not corpus.automation.repair:
        return None

    @dg.schedule(
        name=name,
        job_name=corpus.name,
        cron_schedule="*/15 * * * *",
        execution_timezone=corpus.automation.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Builds the index of changed settings of {corpus.name}, {_hours(corpus)},"
        " until it is complete.",
    )
    def rebuild(
        context: dg.ScheduleEvaluationContext, platform: Platform
    ) -> dg.RunRequest | dg.SkipReason:
        now = context.scheduled_execution_time
        since = _since(window, now)
        if since is None:
            return dg.SkipReason("The rebuild window is shut.")
        if busy := _busy(context.instance, corpus, name, since):
            return dg.SkipReason(busy)
        if not _is_wanted(corpus, platform):
            return dg.SkipReason("No index is being built beside the published one.")
        return _everything(corpus)

    return rebuild


def _hours(corpus: Corpus) -> str:
    return corpus.automation.rebuild_window or "whenever some of it was left"


def _since(window: RebuildWindow | None, now: datetime) -> datetime | None:
    """Since when one run is enough; None while nothing may be built."""
    if window is None:
        return now - REST
    open_one = window.open_at(now)
    return open_one[0] if open_one else None


def _busy(instance: dg.DagsterInstance, corpus: Corpus, name: str, since: datetime) -> str | None:
    """One that failed is tried again by the repair, so often and no more."""
    ours = dg.RunsFilter(tags={"dagster/schedule_name": name}, created_after=since)
    if instance.get_runs_count(ours):
        return "It was begun already."
    some = dg.RunsFilter(tags={CORPUS_TAG: corpus.name}, statuses=GOING_ON)
    if any(RANGE in run.tags for run in instance.get_runs(some)):
        return "Another run over many buckets is under way."
    return None


def _is_wanted(corpus: Corpus, platform: Platform) -> bool:
    """Also where the database does not answer: the run fails, is tried again, and tells of it."""
    try:
        living = platform.stores().generations.living(corpus.name)
    except DatabaseError:
        return True
    return to_be_published(wiring.recipe_of(corpus), living)


def _everything(corpus: Corpus) -> dg.RunRequest:
    return dg.RunRequest(
        asset_selection=[key_of(corpus, name) for name in AFTER_LOOKING],
        tags={
            CORPUS_TAG: corpus.name,
            RANGE: corpus.bucket_keys[0],
            "dagster/asset_partition_range_end": corpus.bucket_keys[-1],
        },
    )
