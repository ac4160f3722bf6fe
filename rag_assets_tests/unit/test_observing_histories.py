"""After any history what is recorded equals the source: thousands of them, without any I/O.

A history edits, renames, deletes and erases documents, looks at all of them or at some buckets or
hints, shows listings that are late or short, lets documents fail, and lets runs die in the middle.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag_assets.errors import SourceError
from rag_assets.indexing.observing import observe
from rag_assets.indexing.parsing import TextParser, content_hash
from rag_assets.model import (
    Corpus,
    DocumentState,
    LocalFilesSettings,
    ObservedDocument,
    RunIdentity,
    SourceObject,
    bucket_of,
)
from rag_assets.testing import InMemoryDocuments, InMemorySource, InProcessParsing

CORPUS = Corpus("notes", source=LocalFilesSettings("/nowhere"), buckets=3)
RUN = RunIdentity("run-1", "code-1")
PARSER = TextParser()
HISTORIES = int(os.environ.get("RAG_ASSETS_TEST_LEDGER_HISTORIES", "1000"))
STARTING = 30
BAD = bytes(30)


class KilledError(Exception):
    """The process of a run was killed."""


@dataclass(slots=True)
class Source(InMemorySource):
    """With revisions, if they are wanted; some documents cannot be read."""

    counts: bool = False
    changes: int = 0
    locked: set[str] = field(default_factory=set)
    kill_after: int | None = None

    def write(self, doc_id: str, content: bytes) -> None:
        self.changes += 1
        self.contents[doc_id] = content
        if self.counts:
            self.revs[doc_id] = self.changes

    def remove(self, doc_id: str) -> None:
        self.changes += 1
        self.contents.pop(doc_id, None)

    def read(self, doc_id: str) -> bytes | None:
        if self.kill_after is not None:
            self.kill_after -= 1
            if self.kill_after < 0:
                raise KilledError
        if doc_id in self.locked:
            raise SourceError("It is locked.")
        return InMemorySource.read(self, doc_id)


@dataclass(frozen=True, slots=True)
class LateListing:
    """Lists what was there once; what is read is there now."""

    listed: tuple[SourceObject, ...]
    source: Source

    def objects(self) -> Iterable[SourceObject]:
        return self.listed

    def look(self, doc_id: str) -> SourceObject | None:
        return next((each for each in self.listed if each.doc_id == doc_id), None)

    def read(self, doc_id: str) -> bytes | None:
        return self.source.read(doc_id)


@dataclass(slots=True)
class World:
    """A source and what is recorded of it, with what must never happen."""

    counts: bool
    source: Source = field(default_factory=Source)
    ledger: InMemoryDocuments = field(default_factory=InMemoryDocuments)
    erased: set[str] = field(default_factory=set)
    late: tuple[SourceObject, ...] = ()

    def __post_init__(self) -> None:
        self.source.counts = self.counts
        for number in range(STARTING):
            self.source.write(name_of(number), f"Page {number}".encode())
        self.look()
        self.late = tuple(self.source.objects())

    def look(
        self,
        buckets: Iterable[int] = range(3),
        *,
        hinted: bool = False,
        late: bool = False,
    ) -> None:
        self.ledger.now += timedelta(minutes=1)
        before = dict(self.ledger.documents)
        try:
            observe(
                CORPUS,
                sorted(set(buckets)),
                source=LateListing(self.late, self.source) if late else self.source,
                parsers=[PARSER.identity],
                parsing=InProcessParsing([PARSER]),
                store=self.ledger,
                run=RUN,
                hinted=hinted,
            )
        except KilledError:
            self.source.kill_after = None
        finally:
            assert self.ledger.held == set()
        self.nothing_went_back(before)

    def nothing_went_back(self, before: Mapping[str, ObservedDocument]) -> None:
        for doc_id, old in before.items():
            new = self.ledger.documents.get(doc_id)
            assert new is not None or doc_id in self.erased
            if new is not None and new.rev is not None and old.rev is not None:
                assert new.rev >= old.rev
        assert not self.erased & self.ledger.documents.keys()

    def expected(self) -> dict[str, bytes]:
        return {
            doc_id: content_hash(content, doc_id=doc_id)
            for doc_id, content in self.source.contents.items()
            if doc_id not in self.erased and content != BAD
        }

    def live(self) -> dict[str, bytes]:
        return {
            each.doc_id: each.content_hash
            for each in self.ledger.documents.values()
            if each.state is DocumentState.LIVE
        }


def name_of(number: int) -> str:
    return f"{number}.md"


NUMBERS = st.integers(0, STARTING + 9)
BUCKETS = st.sets(st.integers(0, 2), min_size=1)
STEPS = st.one_of(
    st.tuples(st.just("write"), NUMBERS, st.integers(0, 60)),
    st.tuples(st.just("spoil"), NUMBERS),
    st.tuples(st.just("delete"), NUMBERS),
    st.tuples(st.just("delete many"), NUMBERS, st.integers(5, STARTING)),
    st.tuples(st.just("rename"), NUMBERS, NUMBERS),
    st.tuples(st.just("rename many"), NUMBERS, st.integers(5, STARTING)),
    st.tuples(st.just("erase"), NUMBERS),
    st.tuples(st.just("lock"), NUMBERS),
    st.tuples(st.just("unlock")),
    st.tuples(st.just("look"), BUCKETS),
    st.tuples(st.just("hint"), st.sets(NUMBERS, max_size=20), BUCKETS),
    st.tuples(st.just("remember the listing")),
    st.tuples(st.just("late look"), NUMBERS),
    st.tuples(st.just("kill"), st.integers(0, 5), BUCKETS),
    st.tuples(st.just("wait"), st.integers(1, 2000)),
    st.tuples(st.just("approve"), st.integers(0, STARTING)),
)


def act(world: World, step: tuple[object, ...]) -> None:  # noqa: C901, PLR0912 # one case a step
    source, ledger = world.source, world.ledger
    match step:
        case ("write", int(number), int(page)):
            source.write(name_of(number), f"Page {page}".encode())
        case ("spoil", int(number)):
            source.write(name_of(number), BAD)
        case ("delete", int(number)):
            source.remove(name_of(number))
        case ("delete many", int(first), int(count)):
            for number in range(first, first + count):
                source.remove(name_of(number))
        case ("rename", int(number), int(to)) if name_of(number) in source.contents:
            content = source.contents[name_of(number)]
            source.remove(name_of(number))
            source.write(name_of(to), content)
        case ("rename many", int(first), int(count)):
            for number in range(first, first + count):
                if (text := source.contents.get(name_of(number))) is not None:
                    source.remove(name_of(number))
                    source.write(f"moved/{name_of(number)}", text)
        case ("erase", int(number)):
            doc_id = name_of(number)
            world.erased.add(doc_id)
            ledger.erase(doc_id, bucket=bucket_of(doc_id, CORPUS.buckets))
        case ("lock", int(number)):
            source.locked.add(name_of(number))
        case ("unlock",):
            source.locked.clear()
        case ("look", set(buckets)):
            world.look(buckets)
        case ("hint", set(numbers), set(buckets)):
            ledger.add_hints([name_of(number) for number in numbers])
            world.look(buckets, hinted=True)
        case ("remember the listing",):
            world.late = tuple(source.objects())
        case ("late look", int(number)) if world.counts:
            source.write(name_of(number), b"Newer than the late listing")
            world.look()
            world.look(late=True)
        case ("kill", int(reads), set(buckets)):
            source.kill_after = reads
            world.look(buckets)
            source.kill_after = None
        case ("wait", int(minutes)):
            ledger.now += timedelta(minutes=minutes)
        case ("approve", int(up_to)):
            ledger.approve_deletions(up_to=up_to)


def settle(world: World) -> None:
    """Everything can be read, somebody has approved and retried, and the source is looked at."""
    world.source.locked.clear()
    if not world.expected():
        world.source.write("last.md", b"The last page")
    world.ledger.approve_deletions(up_to=1000)
    world.ledger.retry_dead_letters()
    world.look()


@settings(max_examples=HISTORIES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.booleans(), st.lists(STEPS, max_size=12))
def test_after_any_history_what_is_recorded_equals_the_source(
    counts: bool, steps: list[tuple[object, ...]]
) -> None:
    world = World(counts)
    for step in steps:
        act(world, step)
    settle(world)
    assert world.live() == world.expected()
    assert world.ledger.withheld == {}
    dead = {each.doc_id for each in world.ledger.letters.values()}
    bad = {name for name, content in world.source.contents.items() if content == BAD}
    assert dead == bad - world.erased
    before = dict(world.ledger.epochs)
    world.look()
    assert world.ledger.epochs == before


LOSSES = st.lists(
    st.one_of(
        st.tuples(st.just("lose"), st.integers(1, 12)),
        st.tuples(st.just("add"), st.integers(1, 40)),
        st.tuples(st.just("look"), BUCKETS),
        st.tuples(st.just("wait"), st.integers(1, 300)),
    ),
    max_size=20,
)


@settings(max_examples=HISTORIES // 4, deadline=None)
@given(LOSSES, st.integers(20, 100))
def test_no_day_takes_more_than_ten_documents_or_a_fifth(
    steps: list[tuple[object, ...]], documents: int
) -> None:
    """Whatever is added meanwhile, however the looks are spread, and nobody approves anything."""
    world = World(counts=False)
    source, ledger = world.source, world.ledger
    for number in range(STARTING, documents):
        source.write(name_of(number), f"Page {number}".encode())
    world.look()
    for step in steps:
        match step:
            case ("lose", int(count)):
                for doc_id in list(source.contents)[:count]:
                    source.remove(doc_id)
            case ("add", int(count)):
                for _ in range(count):
                    source.write(f"new/{source.changes}.md", f"New {source.changes}".encode())
            case ("look", set(buckets)):
                world.look(buckets)
            case ("wait", int(minutes)):
                ledger.now += timedelta(minutes=minutes)
        lately = [when for when in ledger.deleted.values() if when > ledger.now - timedelta(days=1)]
        ever = len(ledger.documents)
        assert len(lately) <= max(10, 0.2 * ever)


MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("move"), st.integers(0, STARTING - 1), st.integers(1, STARTING)),
        st.tuples(st.just("look"), BUCKETS),
        st.tuples(st.just("wait"), st.integers(1, 300)),
    ),
    max_size=12,
)


@settings(max_examples=HISTORIES // 4, deadline=None)
@given(MOVES)
def test_no_rename_is_taken_for_a_deletion(steps: list[tuple[object, ...]]) -> None:
    """However many there are, and in whichever buckets the new names are."""
    world = World(counts=False)
    source = world.source
    for step in steps:
        match step:
            case ("move", int(first), int(count)):
                for doc_id in sorted(source.contents)[first : first + count]:
                    source.contents[f"{source.changes}/{doc_id}"] = source.contents.pop(doc_id)
                source.changes += 1
            case ("look", set(buckets)):
                world.look(buckets)
            case ("wait", int(minutes)):
                world.ledger.now += timedelta(minutes=minutes)
        assert world.ledger.withheld == {}
    world.look()
    assert world.live() == world.expected()
