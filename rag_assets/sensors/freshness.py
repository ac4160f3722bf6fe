"""Judges between runs whether readers see what the source holds; it starts none."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import dagster as dg

from rag_assets import wiring
from rag_assets.adapters.system_clock import SystemClock
from rag_assets.errors import RagAssetsError, SourceError
from rag_assets.model import Backlog, Corpus, S3Settings, SourceStanding
from rag_assets.operations.freshness import (
    CORPUS_CHECK,
    NEVER,
    SOURCE_CHECK,
    FreshnessVerdict,
    Unseen,
    corpus_freshness,
    source_freshness,
    still_unseen,
    unseen,
    with_unseen,
)
from rag_assets.ports import Clock
from rag_assets.resources import Platform, key_of, run_of
from rag_assets.sensors.outages import away, without_mark

EVERY_S = 60
TELL_EVERY = timedelta(minutes=15)
"""What has not changed is told all the same, so that it is seen that somebody watches."""
LOOK_EVERY = timedelta(minutes=15)
"""How often the source is held against what is recorded: a whole listing."""
MOST_LISTED = 200_000
"""More than these are not held against each other in memory: their changes are known by hints, and
by the nightly reconciliation."""
REMEMBERED = 20
"""How many unrecorded changes are remembered from one look to the next."""


def build(corpus: Corpus, *, clock: Clock | None = None) -> dg.SensorDefinition:
    time = clock or SystemClock()

    @dg.sensor(
        name=f"{corpus.name}_watch",
        minimum_interval_seconds=EVERY_S - 1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Judges how long the changes of {corpus.name} wait, and when its source was"
        " last listed: the checks corpus_freshness and source_freshness, also between runs. It"
        " starts no run.",
    )
    def watch(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        before = Watched.decoded(without_mark(context.cursor))
        tick = _Tick(corpus, platform, before, time.now())
        try:
            return tick.result()
        except RagAssetsError as error:
            return away(context.cursor, f"The freshness is not known. {error}", now=tick.now)

    return watch


@dataclass(frozen=True, slots=True)
class Watched:
    """What was told, and what was found at the source: the cursor."""

    gists: Mapping[str, str] = field(default_factory=dict)
    told_at: datetime | None = None
    looked_at: datetime | None = None
    unseen: tuple[Unseen, ...] = ()
    more: int = 0
    """Unrecorded changes beside those that are remembered."""

    @classmethod
    def decoded(cls, cursor: str | None) -> "Watched":
        """One that cannot be read is as good as none: it is of another version."""
        try:
            found = json.loads(cursor or "{}")
            return cls(
                gists=dict(found["gists"]),
                told_at=_moment(found["told_at"]),
                looked_at=_moment(found["looked_at"]),
                unseen=tuple(
                    Unseen(doc_id, datetime.fromisoformat(since), token)
                    for doc_id, since, token in found["unseen"]
                ),
                more=int(found["more"]),
            )
        except (ValueError, KeyError, TypeError):
            return cls()

    def encoded(self) -> str:
        return json.dumps(
            {
                "gists": self.gists,
                "told_at": self.told_at.isoformat() if self.told_at else None,
                "looked_at": self.looked_at.isoformat() if self.looked_at else None,
                "unseen": [
                    [each.doc_id, each.since.isoformat(), each.source_hash] for each in self.unseen
                ],
                "more": self.more,
            }
        )


@dataclass(frozen=True, slots=True)
class _Tick:
    corpus: Corpus
    platform: Platform
    before: Watched
    now: datetime

    def result(self) -> dg.SensorResult:
        stores = self.platform.stores()
        backlog = stores.waiting.backlog(self.corpus.name)
        if backlog.generation is None and not backlog.waits:
            return dg.SensorResult(skip_reason=NEVER, cursor=self.before.encoded())
        standing = stores.sources.standing(self.corpus.name)
        after = self._looked(stores, standing)
        backlog = with_unseen(backlog, after.unseen, len(after.unseen) + after.more, now=self.now)
        verdicts = self._verdicts(standing, backlog)
        gists = {name: verdict.gist for (_, name), verdict in verdicts.items()}
        tells = gists != self.before.gists or _is_due(self.before.told_at, TELL_EVERY, self.now)
        after = replace(after, gists=gists, told_at=self.now if tells else self.before.told_at)
        events: list[dg.AssetCheckEvaluation | dg.AssetObservation] = []
        if tells:
            events += [self._evaluation(*which, verdict) for which, verdict in verdicts.items()]
        if tells or backlog.changes:  # whoever scales by the table needs to see it move
            observed = self._measured(stores, backlog)
            events += [observed] if tells else []
        told = " ".join(verdict.description for verdict in verdicts.values())
        return dg.SensorResult(asset_events=events, cursor=after.encoded(), skip_reason=told)

    def _verdicts(
        self, standing: SourceStanding | None, backlog: Backlog
    ) -> dict[tuple[str, str], FreshnessVerdict]:
        name, settings = self.corpus.name, self.corpus.freshness
        return {
            CORPUS_CHECK: corpus_freshness(name, backlog, settings),
            SOURCE_CHECK: source_freshness(name, standing, settings, now=self.now),
        }

    def _looked(self, stores: wiring.Stores, standing: SourceStanding | None) -> Watched:
        """What nobody has recorded: looked for now and then, and remembered in between."""
        waiting, name = stores.waiting, self.corpus.name
        if not _is_due(self.before.looked_at, self._look_every, self.now):
            doc_ids = [each.doc_id for each in self.before.unseen]
            if not doc_ids:
                return self.before
            left = still_unseen(self.before.unseen, waiting.recorded(name, doc_ids))
            return replace(self.before, unseen=tuple(left))
        if standing and (standing.objects or 0) > MOST_LISTED:
            return replace(self.before, unseen=(), more=0)
        try:
            objects = list(self.platform.source(self.corpus).objects())
        except SourceError:  # which the other check tells
            return self.before
        found = unseen(
            objects,
            waiting.recorded(name),
            before=self.before.unseen,
            looked_at=self.before.looked_at,
            now=self.now,
        )
        return replace(
            self.before,
            looked_at=self.now,
            unseen=tuple(found[:REMEMBERED]),
            more=len(found[REMEMBERED:]),
        )

    @property
    def _look_every(self) -> timedelta:
        """A source that tells of its changes is not listed more often for this."""
        source = self.corpus.source
        if isinstance(source, S3Settings) and source.queue_url:
            return max(LOOK_EVERY, timedelta(seconds=self.corpus.watch.listing_every_s))
        return LOOK_EVERY

    def _evaluation(
        self, asset: str, check: str, verdict: FreshnessVerdict
    ) -> dg.AssetCheckEvaluation:
        severity = dg.AssetCheckSeverity.WARN if verdict.warning else dg.AssetCheckSeverity.ERROR
        return dg.AssetCheckEvaluation(
            asset_key=key_of(self.corpus, asset),
            check_name=check,
            passed=verdict.passed,
            severity=severity,
            description=verdict.description,
            metadata=dict(verdict.figures),
        )

    def _measured(self, stores: wiring.Stores, backlog: Backlog) -> dg.AssetObservation:
        """A row of the table, and the same for the UI."""
        metrics = stores.waiting.measure(self.corpus.name, backlog)
        stores.waiting.keep(self.corpus.name, metrics, run_of(f"{self.corpus.name}_watch"))
        return dg.AssetObservation(
            asset_key=key_of(self.corpus, "pipeline_metrics"), metadata=dict(metrics.figures)
        )


def _is_due(last: datetime | None, every: timedelta, now: datetime) -> bool:
    return last is None or now - last >= every


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
