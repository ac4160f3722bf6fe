"""Whatever happens at a source: its last state is looked at, and nothing is looked at for nothing.

Against the real sensor, with the real S3 adapter over HTTP, or with a source in memory.
RAG_ASSETS_HISTORIES says how many histories the bucket has; RAG_ASSETS_SEED with which it begins.
"""

import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import dagster as dg
import pytest

from rag_assets import wiring
from rag_assets.indexing.noticing import listing_of
from rag_assets.model import Corpus, SourceObject, bucket_of
from rag_assets.ports import DocumentStore, Source
from rag_assets.resources import Platform
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.end_to_end.source_histories import (
    BucketStore,
    History,
    HistoryError,
    MemoryStore,
    Requests,
    Store,
    Watcher,
    buckets_of,
    forget_looks,
    lived,
    platform_over,
    watcher_of,
)
from rag_assets_tests.services.object_store import ObjectStore

HISTORIES = int(os.environ.get("RAG_ASSETS_HISTORIES", "25"))
SEED = int(os.environ.get("RAG_ASSETS_SEED", "1"))


@pytest.fixture
def corpus(corpus: Corpus) -> Corpus:
    return replace(corpus, buckets=8)


@pytest.fixture
def documents(database: DatabaseUrls, monkeypatch: pytest.MonkeyPatch) -> DocumentStore:
    """What runs record; the sensor finds the same database through the environment."""
    monkeypatch.setenv("RAG_ASSETS_DATABASE_URL", database.owner)
    monkeypatch.setenv("RAG_ASSETS_WRITER_URL", database.writer)
    monkeypatch.setenv("RAG_ASSETS_READER_URL", database.reader)
    return wiring.stores(database).documents


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def test_every_last_state_of_a_bucket_is_looked_at_and_nothing_unchanged_is(
    corpus: Corpus,
    instance: dg.DagsterInstance,
    documents: DocumentStore,
    object_store: ObjectStore,
) -> None:
    object_store.make_bucket("documents")
    on_s3 = replace(corpus, source=object_store.settings("documents"))
    source = Platform().source(on_s3)
    watcher = watcher_of(on_s3, platform_over(source), instance)

    tally = lived(HISTORIES, BucketStore(object_store, "documents"), watcher, documents, seed=SEED)

    print(tally)
    assert tally.histories == HISTORIES
    assert min(tally.busy, tally.failed_listings, tally.singles, tally.ranges) > HISTORIES // 4


def test_so_it_is_with_a_listing_that_breaks_off_in_its_middle(
    corpus: Corpus, instance: dg.DagsterInstance, documents: DocumentStore
) -> None:
    store = MemoryStore()

    lived(15, store, watcher_of(corpus, platform_over(store), instance), documents, seed=SEED)


# --- sensors and sources that are wrong ------------------------------------------------------------


class BareDigestKeys(Watcher):
    """Names its runs after what it saw: Dagster drops a name that it has had."""

    def tick(self, store: Store) -> Requests:
        requests = self.evaluated(self.instance)
        if not requests:
            return []
        digests = listing_of(self.platform.source(self.corpus).objects(), self.corpus).digests
        return [
            each.with_replaced_attrs(run_key=f"{each.partition_key} {digests[buckets_of(each)[0]]}")
            for each in requests
        ]


class AdvancesOnErrors(Watcher):
    """Forgets that a listing failed."""

    def tick(self, store: Store) -> Requests:
        requests = self.evaluated(self.instance)
        if requests or not isinstance(store, MemoryStore) or not store.failing:
            return requests
        store.fail(failing=False)
        self.evaluated(self.instance)
        return []


class AdvancesWhileRunsWait(Watcher):
    """Takes what changes meanwhile for what the waiting run will see."""

    def tick(self, store: Store) -> Requests:
        before = self.cursor
        requests = self.evaluated(self.instance)
        if self.cursor == before:
            with dg.DagsterInstance.ephemeral() as idle:
                self.evaluated(idle)
        return requests


class PilesUp(Watcher):
    """Does not look whether runs wait."""

    def tick(self, store: Store) -> Requests:
        with dg.DagsterInstance.ephemeral() as idle:
            return self.evaluated(idle)


class AsksForSome(Watcher):
    """Takes what it asked for to be all that it saw."""

    def tick(self, store: Store) -> Requests:
        return self.evaluated(self.instance)[:2]


@dataclass(slots=True)
class Distorted:
    """A source seen as by sensors that are in use elsewhere."""

    store: MemoryStore
    remembered: dict[str, SourceObject] = field(default_factory=dict)

    def objects(self) -> Iterator[SourceObject]:
        return self.store.objects()

    def look(self, doc_id: str) -> SourceObject | None:
        return self.store.look(doc_id)

    def read(self, doc_id: str) -> bytes | None:
        return self.store.read(doc_id)


class NamesAlone(Distorted):
    def objects(self) -> Iterator[SourceObject]:
        return (replace(each, source_hash=b"") for each in self.store.objects())


class TimesOfWriting(Distorted):
    def objects(self) -> Iterator[SourceObject]:
        for each in self.store.objects():
            yield replace(each, source_hash=str(self.store.puts[each.doc_id]).encode())


class NeverForgets(Distorted):
    def objects(self) -> Iterator[SourceObject]:
        self.remembered |= {each.doc_id: each for each in self.store.objects()}
        return iter(self.remembered.values())


class ShortWhenItFails(Distorted):
    def objects(self) -> Iterator[SourceObject]:
        held = self.store.held if not self.store.failing else {}
        for name, content in held.items():
            yield SourceObject(name, name, blake2b(content, digest_size=16).digest())


SENSORS: Mapping[str, type[Watcher]] = {
    each.__name__: each for each in (AdvancesOnErrors, AdvancesWhileRunsWait, PilesUp, AsksForSome)
}
SOURCES: Mapping[str, type[Distorted]] = {
    each.__name__: each for each in (NamesAlone, TimesOfWriting, NeverForgets, ShortWhenItFails)
}


@pytest.mark.parametrize(("kind", "is_seen"), [(Watcher, True), (BareDigestKeys, False)])
def test_a_change_that_is_taken_back_is_seen_though_it_looks_as_it_did_before(
    *,
    kind: type[Watcher],
    is_seen: bool,
    corpus: Corpus,
    instance: dg.DagsterInstance,
    documents: DocumentStore,
) -> None:
    """Of random histories few take a whole bucket back, so this one does."""
    store = MemoryStore()
    watcher = watcher_of(corpus, platform_over(store), instance, kind)
    forget_looks(documents, corpus)
    history = History(store, watcher, random.Random(SEED), documents)

    for version in (b"none", b"one", b"two", b"one"):  # the first run is of all buckets
        history.held["page-0.md"] = version
        store.put("page-0.md", version)
        history.comes_to_rest()

    bucket = bucket_of("page-0.md", corpus.buckets)
    assert (history.seen[bucket] == history.now(bucket)) is is_seen


@pytest.mark.parametrize("kind", SENSORS.values(), ids=SENSORS)
def test_a_sensor_that_is_wrong_is_caught(
    kind: type[Watcher], corpus: Corpus, instance: dg.DagsterInstance, documents: DocumentStore
) -> None:
    store = MemoryStore()
    watcher = watcher_of(corpus, platform_over(store), instance, kind)

    with pytest.raises(HistoryError):
        lived(100, store, watcher, documents, seed=1)


@pytest.mark.parametrize("kind", SOURCES.values(), ids=SOURCES)
def test_a_source_that_says_too_little_or_too_much_is_caught(
    kind: type[Distorted], corpus: Corpus, instance: dg.DagsterInstance, documents: DocumentStore
) -> None:
    store = MemoryStore()
    source: Source = kind(store)

    with pytest.raises(HistoryError):
        lived(100, store, watcher_of(corpus, platform_over(source), instance), documents, seed=1)
