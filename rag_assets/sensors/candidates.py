"""Begins, or goes on with, the index of changed settings that is built beside the published one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import dagster as dg

from rag_assets.adapters.system_clock import SystemClock
from rag_assets.automation import EVERY_S, GOING_ON, LONGEST_WAIT_S, RANGE_END, RANGE_START
from rag_assets.building import Builder
from rag_assets.errors import RagAssetsError
from rag_assets.indexing.rebuilding import is_built_beside, window_of
from rag_assets.model import Corpus, Generation
from rag_assets.ports import Clock
from rag_assets.resources import CORPUS_TAG, MAX_USD_TAG, RECIPE_TAG, REPAIR_TAG, Platform
from rag_assets.sensors.outages import away, without_mark

LONGEST_REST_S = 1800.0
"""Between runs of a build that have succeeded, and left something to do."""
FAILURE = dg.DagsterRunStatus.FAILURE
LOOKED_AT = 50
"""So many runs are looked at for how often a build has failed in a row."""


def build(corpus: Corpus, *, clock: Clock | None = None) -> dg.SensorDefinition | None:
    """None where nothing is to be done without hands."""
    time = clock or SystemClock()
    if not corpus.automation.repair or not corpus.automation.attempts:
        return None

    @dg.sensor(
        name=f"{corpus.name}_candidates",
        job_name=f"{corpus.name}_candidate",
        minimum_interval_seconds=EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Builds the index of changed settings of {corpus.name} beside the published"
        f" one, {corpus.automation.rebuild_window or 'at any hour'}, until it is complete.",
    )
    def candidates(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        try:
            found = _Look(platform.builder(corpus), context.instance, time.now()).found()
        except RagAssetsError as error:
            return away(context.cursor, f"No build was looked for. {error}", now=time.now())
        cursor = without_mark(context.cursor) or ""
        if isinstance(found, str):
            return dg.SensorResult(skip_reason=found, cursor=cursor)
        return dg.SensorResult(run_requests=[found], cursor=cursor)

    return candidates


@dataclass(frozen=True, slots=True)
class _Tried:
    """What runs have tried since the build was begun, or somebody has asked for it."""

    runs: int = 0
    failures: int = 0
    """Those in a row, up to the last."""
    last_at: datetime | None = None
    left: str | None = None
    """Why people are to say how it goes on after the last one."""


@dataclass(frozen=True, slots=True)
class _Look:
    builder: Builder
    instance: dg.DagsterInstance
    now: datetime

    def found(self) -> dg.RunRequest | str:
        """A run that is to begin, or why none is."""
        builder = self.builder
        builder.set_aside()
        if builder.wanted():
            return self._shut() or self._busy() or self._left() or self._request()
        if builder.has_failed():  # a run that finds nothing to do has nothing to fail at
            return self._busy() or self._request()
        return "No index is to be built beside the published one."

    def _shut(self) -> str | None:
        window = window_of(self.builder.corpus.automation)
        if window is None or window.ends_at(self.now):
            return None
        opens = window.opens_at(self.now).astimezone(window.zone)
        return f"The rebuild window is shut until {opens:%H:%M} ({window.zone})."

    def _busy(self) -> str | None:
        going_on = self.instance.get_runs_count(self._runs(statuses=GOING_ON))
        return "The build goes on." if going_on else None

    def _left(self) -> str | None:
        """To people, for good or for now."""
        tried = self._tried()
        if tried.left:
            return (
                f"{tried.left} `rag-assets materialize` goes on with the build, `rag-assets cancel`"
                " ends it."
            )
        if tried.failures >= self.builder.corpus.automation.attempts and self._given_up(tried):
            return f"The build was given up after {tried.failures} runs that failed."
        again = tried.last_at + self._wait(tried) if tried.last_at else self.now
        return f"It is tried again {again:%Y-%m-%d %H:%M:%S} UTC." if again > self.now else None

    def _runs(self, **which: object) -> dg.RunsFilter:
        return dg.RunsFilter(job_name=f"{self.builder.corpus.name}_candidate", **which)  # type: ignore[arg-type]  # of its own names

    def _build(self) -> Generation | None:
        """The one that is under way."""
        living = self.builder.stores.generations.living(self.builder.corpus.name)
        return next((each for each in living if is_built_beside(each, living)), None)

    def _tried(self) -> _Tried:
        """Runs are counted back to the one that somebody began by hand."""
        build = self._build()
        since = build.created_at if build and build.created_at else None
        records = self.instance.get_run_records(
            self._runs(tags={RECIPE_TAG: self.builder.recipe.fingerprint}), limit=LOOKED_AT
        )
        ended = [
            each
            for each in records
            if each.end_time and (since is None or each.end_time >= since.timestamp())
        ]
        return _counted(ended)

    def _wait(self, tried: _Tried) -> timedelta:
        automation = self.builder.corpus.automation
        longest = LONGEST_WAIT_S if tried.failures else LONGEST_REST_S
        doubled = automation.retry_after_s * 2.0 ** min(max(tried.runs - 1, 0), 60)
        return timedelta(seconds=min(doubled, longest))

    def _given_up(self, tried: _Tried) -> bool:
        """Ends it; False where nothing was begun that could be ended."""
        build = self._build()
        if build is None:
            return False
        job = f"{self.builder.corpus.name}_candidate"
        reason = f"{tried.failures} runs of {job} in a row have failed; the last ones say why"
        return self.builder.stores.generations.fail(build, reason=reason)

    def _request(self) -> dg.RunRequest:
        corpus = self.builder.corpus
        return dg.RunRequest(
            tags={
                CORPUS_TAG: corpus.name,
                REPAIR_TAG: "true",
                RECIPE_TAG: self.builder.recipe.fingerprint,
                RANGE_START: corpus.bucket_keys[0],
                RANGE_END: corpus.bucket_keys[-1],
            }
        )


def _counted(records: Sequence[dg.RunRecord]) -> _Tried:
    """Of runs that have ended, the newest first."""
    if not records:
        return _Tried()
    last = records[0]
    by_us = takewhile(lambda each: REPAIR_TAG in each.dagster_run.tags, records)
    counted = records[: sum(1 for _ in by_us) + 1]  # with the one that somebody began
    failed = takewhile(lambda each: each.dagster_run.status is FAILURE, counted)
    return _Tried(
        runs=len(counted),
        failures=sum(1 for _ in failed),
        last_at=datetime.fromtimestamp(last.end_time or 0, UTC),
        left=_left(last.dagster_run),
    )


def _left(run: dg.DagsterRun) -> str | None:
    if run.status is dg.DagsterRunStatus.CANCELED:
        return "Somebody has cancelled its run."
    if run.status is FAILURE and MAX_USD_TAG in run.tags:
        return f"Its last run was to spend no more than ${run.tags[MAX_USD_TAG]}."
    return None
