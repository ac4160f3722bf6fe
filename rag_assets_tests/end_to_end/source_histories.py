"""Random lives of a source under the real sensor, with a model of what its runs would see.

A history puts, overwrites, reverts and deletes documents in bursts, lets listings fail, leaves runs
waiting and looks missed. What the sensor asks for becomes a run, which at some later time lists its
buckets and records what it saw. In the end every bucket must have been seen as it is, and none may
have been asked for without need.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Protocol

import dagster as dg
from dagster._core.test_utils import create_run_for_test

from rag_assets.components.corpus import corpus_definitions
from rag_assets.errors import SourceError
from rag_assets.indexing.looking import listed
from rag_assets.indexing.noticing import SINGLES
from rag_assets.model import Corpus, RunIdentity, SourceObject, bucket_of
from rag_assets.ports import DocumentStore, Source
from rag_assets.resources import CORPUS_TAG, Platform
from rag_assets.sensors.source_changes import AT_ONCE
from rag_assets_tests.services.object_store import ObjectStore

NAMES = tuple(f"page-{number}.md" for number in range(14))
VERSIONS = (b"one", b"two", b"three")
Requests = list[dg.RunRequest]


class HistoryError(AssertionError):
    """The sensor asked for too little or for too much."""


# --- sources -------------------------------------------------------------------------------------


class Store(Protocol):
    def put(self, name: str, content: bytes) -> None: ...

    def delete(self, name: str) -> None: ...

    def fail(self, *, failing: bool) -> None:
        """Whether it can be listed."""


@dataclass(slots=True)
class MemoryStore:
    """Lists what it holds, half of it before it fails; counts how often each name was put."""

    held: dict[str, bytes] = field(default_factory=dict)
    puts: dict[str, int] = field(default_factory=dict)
    failing: bool = False

    def put(self, name: str, content: bytes) -> None:
        self.held[name] = content
        self.puts[name] = self.puts.get(name, 0) + 1

    def delete(self, name: str) -> None:
        self.held.pop(name, None)

    def fail(self, *, failing: bool) -> None:
        self.failing = failing

    def objects(self) -> Iterator[SourceObject]:
        for number, (name, content) in enumerate(self.held.items()):
            if self.failing and number >= len(self.held) // 2:
                break
            yield SourceObject(name, f"memory:{name}", blake2b(content, digest_size=16).digest())
        if self.failing:
            raise SourceError("The listing broke off.")

    def look(self, doc_id: str) -> SourceObject | None:
        raise NotImplementedError

    def read(self, doc_id: str) -> bytes | None:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class BucketStore:
    """A bucket of an object store behind HTTP."""

    store: ObjectStore
    bucket: str

    def put(self, name: str, content: bytes) -> None:
        self.store.put(self.bucket, name, content)

    def delete(self, name: str) -> None:
        self.store.delete(self.bucket, name)

    def fail(self, *, failing: bool) -> None:
        if failing:
            self.store.fail(403, code="AccessDenied", only=f"GET /{self.bucket}")
        else:
            self.store.heal()


# --- the sensor ----------------------------------------------------------------------------------


def platform_over(source: Source) -> Platform:
    """The real one, with a source that is made once."""

    class OneSource(Platform):
        def source(self, corpus: Corpus) -> Source:
            return source

    return OneSource()


@dataclass(slots=True)
class Watcher:
    """Evaluates the sensor as Dagster's daemon does, and keeps its cursor."""

    corpus: Corpus
    platform: Platform
    instance: dg.DagsterInstance
    repository: dg.RepositoryDefinition
    cursor: str | None = None

    def tick(self, store: Store) -> Requests:
        return self.evaluated(self.instance)

    def evaluated(self, instance: dg.DagsterInstance) -> Requests:
        with dg.build_sensor_context(
            instance=instance,
            cursor=self.cursor,
            repository_def=self.repository,
            resources={"platform": self.platform},
        ) as context:
            sensor = self.repository.get_sensor_def(f"{self.corpus.name}_source")
            try:
                data = sensor.evaluate_tick(context)
            except dg.Failure:  # a source that is away for more than a look; the cursor stays
                return []
        self.cursor = data.cursor
        return list(data.run_requests or ())


def watcher_of(
    corpus: Corpus,
    platform: Platform,
    instance: dg.DagsterInstance,
    kind: Callable[..., Watcher] = Watcher,
) -> Watcher:
    return kind(corpus, platform, instance, corpus_definitions(corpus).get_repository_def())


# --- histories -----------------------------------------------------------------------------------


RUN = RunIdentity("run-of-a-history", "1")


def forget_looks(documents: DocumentStore, corpus: Corpus) -> None:
    """As after a first run that saw something else; none before has recorded a bucket."""
    with documents.hold(corpus, range(corpus.buckets), RUN) as held:
        for bucket in held.never_recorded:
            held.record(bucket)
        held.looked(dict.fromkeys(range(corpus.buckets), -1))


@dataclass(slots=True)
class Run:
    run_id: str
    buckets: frozenset[int]
    begun: bool = False


Snapshot = frozenset[tuple[str, bytes]]


@dataclass(slots=True)
class Tally:
    """What some histories were made of, so that it shows whether they tried anything."""

    histories: int = 0
    ticks: int = 0
    failed_listings: int = 0
    busy: int = 0
    singles: int = 0
    ranges: int = 0


@dataclass(slots=True)
class History:
    store: Store
    watcher: Watcher
    chance: random.Random
    documents: DocumentStore
    tally: Tally = field(default_factory=Tally)
    held: dict[str, bytes] = field(default_factory=dict)
    seen: dict[int, Snapshot] = field(default_factory=dict)
    """By bucket, as the last run that looked at it found it."""
    asked: dict[int, tuple[Snapshot, Snapshot | None]] = field(default_factory=dict)
    """By bucket, as it was, and had been seen, when a run was last asked for."""
    runs: list[Run] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)

    def lives(self) -> None:
        for _ in range(self.chance.randint(3, 6)):
            self.burst()
            if self.chance.random() < 0.85:
                self.look(failing=self.chance.random() < 0.15)
            for run in list(self.runs):
                if self.chance.random() < 0.6:
                    self.go_on(run)
        self.comes_to_rest()
        wrong = [bucket for bucket in self.all if self.seen.get(bucket) != self.now(bucket)]
        if wrong:
            raise HistoryError(f"the last state of the buckets {wrong} was never looked at")

    def comes_to_rest(self) -> None:
        for _ in range(5):
            while self.runs:
                self.go_on(self.runs[0])
            if not self.look():
                return
        raise HistoryError("there is no end of runs")

    # --- the source ------------------------------------------------------------------------------

    def burst(self) -> None:
        for _ in range(self.chance.choice((0, 1, 1, 2, 3, 14))):
            name = self.chance.choice(NAMES)
            what = self.chance.random()
            if what < 0.25:
                self.store.delete(name)
                self.held.pop(name, None)
            elif what < 0.4 and name in self.held:
                self.store.put(name, self.held[name])  # the same again
            else:
                self.held[name] = self.chance.choice(VERSIONS)
                self.store.put(name, self.held[name])

    def clear(self) -> None:
        """For the next history in the same place."""
        for name in self.held:
            self.store.delete(name)

    @property
    def all(self) -> range:
        return range(self.watcher.corpus.buckets)

    def now(self, bucket: int) -> Snapshot:
        buckets = self.watcher.corpus.buckets
        return frozenset(
            each for each in self.held.items() if bucket_of(each[0], buckets) == bucket
        )

    # --- looks and runs --------------------------------------------------------------------------

    def look(self, *, failing: bool = False) -> bool:
        """Whether anything was asked for."""
        self.store.fail(failing=failing)
        requests = self.watcher.tick(self.store)
        self.store.fail(failing=False)
        waiting = [run for run in self.runs if not run.begun]
        busy = bool(waiting) or len(self.runs) >= AT_ONCE
        self.tally.ticks += 1
        self.tally.failed_listings += failing and not busy
        self.tally.busy += busy
        if requests and busy:
            raise HistoryError("more was asked for while runs were waiting")
        self.judge([frozenset(buckets_of(request)) for request in requests])
        for request in requests:
            self.begin(request)
        return bool(requests)

    def judge(self, requests: list[frozenset[int]]) -> None:
        touched = {bucket for bucket in self.all if self.needs_a_look(bucket)}
        for buckets in requests:
            if len(buckets) == 1 and not buckets <= touched:
                raise HistoryError(f"the unchanged bucket {set(buckets)} was asked for")
            if len(buckets) > 1 and (
                len(touched) <= SINGLES or {min(buckets), max(buckets)} - touched
            ):
                raise HistoryError(f"{set(buckets)} were asked for, {touched} had changed")
            self.asked |= {each: (self.now(each), self.seen.get(each)) for each in buckets}
            self.tally.singles += len(buckets) == 1
            self.tally.ranges += len(buckets) > 1

    def needs_a_look(self, bucket: int) -> bool:
        """No run has seen it as it is, nor was it asked for since any has seen it."""
        now, seen = self.now(bucket), self.seen.get(bucket)
        return now != seen and self.asked.get(bucket) != (now, seen)

    def begin(self, request: dg.RunRequest) -> None:
        """As Dagster does: never twice under one key."""
        if request.run_key is None or request.run_key in self.keys:
            return
        self.keys.add(request.run_key)
        made = create_run_for_test(
            self.watcher.instance,
            job_name=self.watcher.corpus.name,
            status=dg.DagsterRunStatus.STARTING,  # a queued one would need a code location
            tags={CORPUS_TAG: self.watcher.corpus.name},
        )
        self.runs.append(Run(made.run_id, frozenset(buckets_of(request))))

    def go_on(self, run: Run) -> None:
        """A waiting run begins; one that has begun looks at its buckets, and ends."""
        instance = self.watcher.instance
        if not run.begun:
            run.begun = True
            started = dg.DagsterEventType.RUN_START.value
            job = self.watcher.corpus.name
            instance.handle_run_event(run.run_id, dg.DagsterEvent(started, job_name=job))
            return
        corpus, source = self.watcher.corpus, self.watcher.platform.source(self.watcher.corpus)
        with self.documents.hold(corpus, sorted(run.buckets), RUN) as held:
            held.looked(listed(source, corpus, buckets=run.buckets).digests)
        self.seen |= {bucket: self.now(bucket) for bucket in run.buckets}
        instance.delete_run(run.run_id)
        self.runs.remove(run)


def buckets_of(request: dg.RunRequest) -> range:
    tags: Mapping[str, str] = request.tags
    first = tags.get("dagster/partition") or tags["dagster/asset_partition_range_start"]
    last = tags.get("dagster/partition") or tags["dagster/asset_partition_range_end"]
    return range(int(first), int(last) + 1)


def lived(
    number: int, store: Store, watcher: Watcher, documents: DocumentStore, *, seed: int
) -> Tally:
    """So many histories, each from a source and a cursor that are empty."""
    tally = Tally()
    for each in range(seed, seed + number):
        watcher.cursor = None
        forget_looks(documents, watcher.corpus)
        history = History(store, watcher, random.Random(each), documents, tally)
        tally.histories += 1
        try:
            history.lives()
        except HistoryError as error:
            raise HistoryError(f"seed {each}: {error}") from error
        history.clear()
    return tally
