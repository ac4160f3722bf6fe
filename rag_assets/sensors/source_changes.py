"""Watches the source of a corpus, and asks for runs of the buckets that have changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

from rag_assets import wiring
from rag_assets.adapters.system_clock import SystemClock
from rag_assets.errors import RagAssetsError, SourceError
from rag_assets.indexing.noticing import (
    Listing,
    Noticed,
    RunWish,
    RunWishes,
    is_news,
    listing_of,
    requests,
)
from rag_assets.model import Awaited, Corpus, S3Settings, bucket_key
from rag_assets.ports import ChangeFeed, Clock
from rag_assets.resources import CORPUS_TAG, HINTED_TAG, Platform, key_of
from rag_assets.sensors.outages import away, without_mark

QUICK_S = 5
"""A folder is listed in milliseconds, and a queue costs one request."""
LISTING_S = 60
"""Each thousand objects of a bucket cost a request to list."""
WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING)
RUNNING = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
AT_ONCE = 2
"""While one run goes on, one more may be asked for, so that no change waits for a long run."""


def build(corpus: Corpus, *, clock: Clock | None = None) -> dg.SensorDefinition:
    time = clock or SystemClock()

    @dg.sensor(
        name=f"{corpus.name}_source",
        job_name=corpus.name,
        # Dagster's daemon comes round every 5 seconds, and would pass over one that is due in 4.99.
        minimum_interval_seconds=max(1, interval_s(corpus) - 1),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Looks at the source of {corpus.name} every {interval_s(corpus)} seconds, and"
        " runs the buckets in which a document came, changed or left.",
    )
    def source_changes(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        before = Noticed.decoded(without_mark(context.cursor))
        return _Tick(corpus, platform, before, time.now()).result(context)

    return source_changes


def interval_s(corpus: Corpus) -> int:
    if corpus.watch.every_s is not None:
        return corpus.watch.every_s
    listed = isinstance(corpus.source, S3Settings) and corpus.source.queue_url is None
    return LISTING_S if listed else QUICK_S


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one look gave: a listing where one was due and came to its end."""

    awaited: Awaited
    listing: Listing | None
    error: str | None
    missed: bool
    """A listing was due, and did not come to its end."""


@dataclass(frozen=True, slots=True)
class _Tick:
    corpus: Corpus
    platform: Platform
    before: Noticed
    now: datetime

    def result(self, context: dg.SensorEvaluationContext) -> dg.SensorResult:
        """An error is the reason why nothing is asked for, and nothing that was known is lost."""
        if busy := _busy(context.instance, self.corpus):
            return dg.SensorResult(skip_reason=busy, cursor=without_mark(context.cursor) or "")
        try:
            seen = self._seen()
        except RagAssetsError as error:
            said = f"The source was not looked at. {error}"
            return away(context.cursor, said, now=self.now)
        wishes, after = requests(
            self.before,
            self.corpus,
            seen.awaited,
            seen.listing,
            now=self.now,
            remind_every=self._listing_every,
        )
        if wishes.runs:
            runs = _run_requests(self.corpus, wishes)
            return dg.SensorResult(run_requests=runs, cursor=after.encoded())
        if seen.missed and after == self.before:
            return away(context.cursor, self._quiet(seen), now=self.now)
        return dg.SensorResult(skip_reason=self._quiet(seen), cursor=after.encoded())

    @property
    def _listing_every(self) -> timedelta:
        return timedelta(seconds=self.corpus.watch.listing_every_s)

    def _seen(self) -> _Seen:
        """What is told comes first, then the listing: hints are kept before they are looked for."""
        stores, problems = self.platform.stores(), list[str]()
        every = self._heard(stores, problems)
        awaited = stores.sources.awaited(self.corpus.name, self.corpus.automation)
        due = self.before.must_list(self.corpus, awaited, now=self.now, every=every)
        listing = self._listed(problems) if due else None
        seen = _Seen(awaited, listing, " ".join(problems) or None, due and listing is None)
        self._note(seen, stores)
        return seen

    def _heard(self, stores: wiring.Stores, problems: list[str]) -> timedelta:
        """Keeps what the source has told of its changes; returns how often it must be listed."""
        try:
            if (feed := self.platform.changes(self.corpus)) is None:
                return timedelta()
            _keep_hints(feed, self.corpus, stores)
        except SourceError as error:
            problems.append(str(error))
            return min(self._listing_every, timedelta(seconds=LISTING_S))
        return self._listing_every

    def _listed(self, problems: list[str]) -> Listing | None:
        try:
            objects = self.platform.source(self.corpus).objects()
            return listing_of(objects, self.corpus)
        except SourceError as error:
            problems.append(str(error))
            return None

    def _note(self, seen: _Seen, stores: wiring.Stores) -> None:
        """For the checks and alerts: since when the source is known, or is not."""
        name, objects = self.corpus.name, seen.listing.objects if seen.listing else None
        if is_news(seen.awaited.standing, objects=objects, error=seen.error, now=self.now):
            if seen.error is None:
                stores.sources.listed(name, objects)
            else:
                stores.sources.failed(name, seen.error)

    def _quiet(self, seen: _Seen) -> str:
        if seen.error is not None:
            return seen.error
        if seen.listing is None:
            return "The queue told of no change."
        return f"Nothing has changed at the source. It lists {seen.listing.objects:,} documents."


def _busy(instance: dg.DagsterInstance, corpus: Corpus) -> str | None:
    """Why no more runs are to be asked for now: what changes meanwhile is seen at a later look."""
    found = instance.get_runs(
        dg.RunsFilter(tags={CORPUS_TAG: corpus.name}, statuses=[*WAITING, *RUNNING])
    )
    chain = [run for run in found if _looks_at_the_source(run, corpus)]
    waiting = [run for run in chain if run.status in WAITING]
    if waiting:
        return (
            f"{_runs(len(waiting))} of {corpus.name} to begin; then the source is looked at again."
        )
    if len(chain) >= AT_ONCE:
        return (
            f"{len(chain)} runs of {corpus.name} go on; the source is looked at when one has ended."
        )
    return None


def _runs(number: int) -> str:
    return "It waits for a run" if number == 1 else f"It waits for {number} runs"


def _looks_at_the_source(run: dg.DagsterRun, corpus: Corpus) -> bool:
    """Not the nightly jobs, nor a build or a repair that begins after `raw_documents`.

    Those may take hours, and changes are not to wait for them. `__ASSET_JOB` is Dagster's own, for
    assets that were picked.
    """
    picked = run.asset_selection
    if picked is not None and key_of(corpus, "raw_documents") not in picked:
        return False
    jobs = {corpus.name, f"{corpus.name}_bulk"}
    return run.job_name in jobs or run.job_name.startswith("__ASSET_JOB")


def _keep_hints(feed: ChangeFeed, corpus: Corpus, stores: wiring.Stores) -> None:
    """An event leaves the queue only when its hint is kept.

    Of a corpus that is not in the database none is kept: its first run, which begins later, looks
    at everything.
    """
    if events := feed.receive():
        told = {each.doc_id for each in events if each.doc_id is not None}
        stores.documents.add_hints(corpus.name, told)
        feed.done(events)


def _run_requests(corpus: Corpus, wishes: RunWishes) -> Sequence[dg.RunRequest]:
    return [_run_request(corpus, wish, wishes.counter) for wish in wishes.runs]


def _run_request(corpus: Corpus, wish: RunWish, counter: int) -> dg.RunRequest:
    first, last = (bucket_key(each, corpus.buckets) for each in (wish.first, wish.last))
    tags = {CORPUS_TAG: corpus.name} | ({HINTED_TAG: "true"} if wish.hinted else {})
    if first == last:
        return dg.RunRequest(
            run_key=f"{corpus.name}:{counter}:{first}", partition_key=first, tags=tags
        )
    in_range = {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }
    return dg.RunRequest(run_key=f"{corpus.name}:{counter}:{first}-{last}", tags=tags | in_range)
