"""What is looked at every night, change or no change: the source, and all that is stored."""

from collections.abc import Mapping

import dagster as dg

from rag_assets.automation import GOING_ON
from rag_assets.model import Corpus
from rag_assets.resources import CORPUS_TAG


def build_reconciliation(corpus: Corpus) -> dg.ScheduleDefinition | None:
    """Without hints, so that nothing that a source has failed to tell stays unseen for long."""
    return nightly(
        corpus,
        "reconciliation",
        corpus.schedules.reconciliation,
        job=corpus.name,
        description=f"Holds all buckets of {corpus.name} against a listing of its source, whatever"
        " it has told of its changes.",
        tags={
            "dagster/asset_partition_range_start": corpus.bucket_keys[0],
            "dagster/asset_partition_range_end": corpus.bucket_keys[-1],
        },
    )


def build_quality(corpus: Corpus) -> dg.ScheduleDefinition | None:
    return nightly(
        corpus,
        "quality",
        corpus.schedules.quality,
        job=f"{corpus.name}_quality",
        description=f"Judges everything that is stored of {corpus.name}, and scores its index.",
    )


def nightly(
    corpus: Corpus,
    name: str,
    cron: str | None,
    *,
    job: str,
    description: str,
    tags: Mapping[str, str] | None = None,
) -> dg.ScheduleDefinition | None:
    """One run each time, unless the last one still goes on; None where there is no time for it."""
    if cron is None:
        return None
    called = f"{corpus.name}_{name}"

    @dg.schedule(
        name=called,
        job_name=job,
        cron_schedule=cron,
        execution_timezone=corpus.automation.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if earlier := _going_on(context.instance, called, None if job == corpus.name else job):
            return dg.SkipReason(f"Run {earlier} of {called} still goes on.")
        return dg.RunRequest(tags={CORPUS_TAG: corpus.name, **(tags or {})})

    return schedule


def _going_on(instance: dg.DagsterInstance, schedule: str, job: str | None) -> str | None:
    """The id of its last run, or of one of its job that somebody began, while it goes on."""
    of_schedule = dg.RunsFilter(tags={"dagster/schedule_name": schedule}, statuses=GOING_ON)
    for asked in (of_schedule, dg.RunsFilter(job_name=job, statuses=GOING_ON) if job else None):
        if asked and (found := instance.get_runs(asked, limit=1)):
            return found[0].run_id
    return None
