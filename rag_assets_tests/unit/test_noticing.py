"""Which buckets are asked for: digests, the cursor, and the decision."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.indexing.looking import listed
from rag_assets.indexing.noticing import (
    SINGLES,
    Listing,
    Noticed,
    RunWish,
    RunWishes,
    is_news,
    listing_of,
    requests,
)
from rag_assets.model import (
    Awaited,
    Corpus,
    LocalFilesSettings,
    S3Settings,
    SourceObject,
    SourceStanding,
    bucket_of,
)

HOUR = timedelta(hours=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
BORN = datetime(2025, 12, 1, tzinfo=UTC)
NOTES = Corpus("notes", source=LocalFilesSettings("/documents"), buckets=16)

names = st.text(min_size=1, max_size=8)
contents = st.dictionaries(names, st.binary(min_size=1, max_size=3), max_size=30)
numbers = st.integers(0, 2**63 - 1)
cursors = st.builds(
    Noticed,
    *[numbers] * 6,
    st.lists(st.integers(0, 2**48 - 1), max_size=100).map(tuple),
)


def objects_of(held: Mapping[str, bytes]) -> Iterator[SourceObject]:
    return (SourceObject(name, f"file:{name}", content) for name, content in held.items())


def listing(held: Mapping[str, bytes], corpus: Corpus = NOTES) -> Listing:
    return listing_of(objects_of(held), corpus)


def looked(held: Mapping[str, bytes], corpus: Corpus = NOTES, **others: Any) -> Awaited:
    """The database after runs that saw all of this."""
    return Awaited(BORN, dict(enumerate(listing(held, corpus).digests)), **others)


def asked(
    before: Noticed,
    seen: Listing | None,
    awaited: Awaited,
    *,
    corpus: Corpus = NOTES,
    now: datetime = START,
) -> tuple[RunWishes, Noticed]:
    return requests(before, corpus, awaited, seen, now=now, remind_every=HOUR)


def settled(held: Mapping[str, bytes], corpus: Corpus = NOTES) -> Noticed:
    """The cursor after all was looked at."""
    return asked(Noticed(), listing(held, corpus), looked(held, corpus), corpus=corpus)[1]


def covered(wishes: RunWishes) -> set[int]:
    return {each for run in wishes.runs for each in range(run.first, run.last + 1)}


def documents_in(*buckets: int) -> dict[str, bytes]:
    """One document for each of these buckets."""
    found: dict[int, str] = {}
    for number in range(10_000):
        name = f"{number}.md"
        found.setdefault(bucket_of(name, NOTES.buckets), name)
    return {found[bucket]: b"1" for bucket in buckets}


# --- digests -------------------------------------------------------------------------------------


@given(held=contents, seed=st.integers())
def test_the_order_of_a_listing_says_nothing(held: dict[str, bytes], seed: int) -> None:
    shuffled = list(held.items())
    random.Random(seed).shuffle(shuffled)

    assert listing(dict(shuffled)) == listing(held)


@given(one=contents, other=contents)
def test_digests_differ_in_the_buckets_in_which_documents_do(
    one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    """So whatever came, changed, left or came back: only its own bucket shows it."""
    differ = {
        bucket_of(name, NOTES.buckets)
        for name in one.keys() | other.keys()
        if one.get(name) != other.get(name)
    }

    pairs = zip(listing(one).digests, listing(other).digests, strict=True)

    assert {bucket for bucket, (a, b) in enumerate(pairs) if a != b} == differ


@given(held=contents)
def test_other_settings_change_the_digest_of_every_bucket(held: dict[str, bytes]) -> None:
    for changed in OTHER_SETTINGS.values():
        pairs = zip(listing(held).digests, listing(held, changed).digests, strict=False)
        assert all(one != other for one, other in pairs)


def test_a_listing_that_ends_in_an_error_gives_no_digests() -> None:
    def broken() -> Iterator[SourceObject]:
        yield SourceObject("a.md", "", b"1")
        raise ConnectionError

    with pytest.raises(ConnectionError):
        listing_of(broken(), NOTES)


@given(held=contents)
def test_a_run_that_lists_says_what_the_sensor_says(held: dict[str, bytes]) -> None:
    class Held:
        def objects(self) -> Iterator[SourceObject]:
            return objects_of(held)

        def look(self, doc_id: str) -> SourceObject | None:
            raise NotImplementedError

        def read(self, doc_id: str) -> bytes | None:
            raise NotImplementedError

    seen = listed(Held(), NOTES, buckets=[3, 5])

    assert seen.digests == {bucket: listing(held).digests[bucket] for bucket in (3, 5)}


# --- the cursor ----------------------------------------------------------------------------------


@given(cursor=cursors)
def test_a_cursor_is_read_as_it_was_written(cursor: Noticed) -> None:
    assert Noticed.decoded(cursor.encoded()) == cursor


def test_a_cursor_over_a_hundred_buckets_is_smaller_than_a_kilobyte() -> None:
    most = 2**63 - 1
    largest = Noticed(most, most, most, most, most, most, (2**48 - 1,) * 100)

    assert len(largest.encoded()) <= 1024


@given(text=st.none() | st.text() | st.text().map("1.".__add__))
def test_what_is_no_cursor_is_void(text: str | None) -> None:
    assert Noticed.decoded(text) == Noticed()


@given(cursor=cursors, data=st.data())
def test_a_cursor_that_was_harmed_is_void(cursor: Noticed, data: st.DataObject) -> None:
    text = cursor.encoded()
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("ABCz09-_.!"))
    harmed = data.draw(st.sampled_from([text[:at], text[:at] + letter + text[at + 1 :]]))

    assert Noticed.decoded(harmed) in (Noticed(), cursor)  # the last bits of base64 are padding


def test_the_cursor_of_another_version_is_void() -> None:
    assert Noticed.decoded("2" + settled({}).encoded()[1:]) == Noticed()


# --- what is asked for ---------------------------------------------------------------------------


def test_of_a_source_never_looked_at_everything_is_asked_for_in_one_run() -> None:
    """Also of few buckets, and also where nothing is in it: no part can be published alone."""
    small = replace(NOTES, buckets=3)

    assert asked(Noticed(), listing({}), Awaited())[0].runs == (RunWish(0, 15),)
    few, _ = asked(Noticed(), listing({}, small), Awaited(), corpus=small)
    assert few.runs == (RunWish(0, 2),)


@given(held=contents)
def test_what_runs_have_looked_at_is_not_asked_for_whatever_the_cursor_says(
    held: dict[str, bytes],
) -> None:
    for cursor in (Noticed(), settled(held), settled({"other.md": b""})):
        assert asked(cursor, listing(held), looked(held))[0].runs == ()


@given(held=contents)
def test_what_was_asked_for_is_not_asked_for_again_while_no_run_has_looked(
    held: dict[str, bytes],
) -> None:
    """It may be on its way, or have failed: then the repair tries again, not the sensor."""
    for awaited in (Awaited(), Awaited(BORN), looked({"earlier.md": b""})):
        _, after = asked(Noticed(), listing(held), awaited)
        assert asked(after, listing(held), awaited)[0].runs == ()


def test_up_to_four_buckets_have_a_run_each_and_more_have_one_together() -> None:
    few, many = documents_in(2, 3, 9, 14), documents_in(2, 3, 9, 10, 14)

    assert asked(settled({}), listing(few), looked({}))[0].runs == tuple(
        RunWish(bucket, bucket) for bucket in (2, 3, 9, 14)
    )
    assert asked(settled({}), listing(many), looked({}))[0].runs == (RunWish(2, 14),)


@given(one=contents, other=contents)
def test_the_touched_buckets_are_asked_for_and_no_other_outside_a_range(
    one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    pairs = zip(listing(one).digests, listing(other).digests, strict=True)
    touched = {bucket for bucket, (a, b) in enumerate(pairs) if a != b}

    wishes, after = asked(settled(one), listing(other), looked(one))

    assert wishes.touched == len(touched)
    if len(touched) <= SINGLES:
        assert covered(wishes) == touched
    else:
        assert covered(wishes) == set(range(min(touched), max(touched) + 1))
    assert asked(after, listing(other), looked(one))[0].runs == ()
    assert asked(after, listing(other), looked(other))[0].runs == ()


def test_a_change_that_is_taken_back_before_a_run_has_looked_is_asked_for_again() -> None:
    """That run may still see it."""
    first, second = documents_in(5), dict.fromkeys(documents_in(5), b"2")
    third = dict.fromkeys(documents_in(5), b"3")

    there, after = asked(settled(first), listing(second), looked(first))
    on, after = asked(after, listing(third), looked(first))
    back, _ = asked(after, listing(second), looked(first))

    assert there.runs == on.runs == back.runs == (RunWish(5, 5),)
    assert there.counter < on.counter < back.counter


def test_a_change_that_only_a_run_has_seen_is_asked_for_when_it_was_taken_back() -> None:
    """Between two looks of the sensor: it sees no difference, but what the run recorded is wrong."""
    first, second = documents_in(5), dict.fromkeys(documents_in(5), b"2")
    _, after = asked(settled({}), listing(first), looked({}))

    back, _ = asked(after, listing(first), looked(second))

    assert back.runs == (RunWish(5, 5),)


@given(seconds=st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=8))
def test_no_number_is_used_twice_whatever_the_clock_does(seconds: list[int]) -> None:
    cursor, used = settled({}), []
    for turn, each in enumerate(seconds):
        seen, now = listing({"a.md": bytes([turn])}), START + timedelta(seconds=each)
        wishes, cursor = asked(cursor, seen, looked({}), now=now)
        used.append(wishes.counter)

    assert used == sorted(set(used))


def test_a_cursor_that_somebody_cleared_does_not_use_old_numbers_again() -> None:
    old, _ = asked(Noticed(), listing({}), Awaited(), now=START)
    new, _ = asked(Noticed(), listing({}), Awaited(), now=START + timedelta(seconds=1))

    assert new.counter > old.counter


def test_without_a_listing_digests_stay_and_a_void_cursor_stays_void() -> None:
    before, hinted = settled(documents_in(1)), looked({}, hints={1: 1})

    assert asked(before, None, looked({}))[1].digests == before.digests
    assert asked(before, None, looked({}))[0].runs == ()
    assert asked(Noticed(), None, hinted) == (RunWishes(), Noticed())


# --- other settings, other databases ---------------------------------------------------------------

OTHER_SETTINGS = {
    "folder": replace(NOTES, source=LocalFilesSettings("/elsewhere")),
    "store": replace(NOTES, source=S3Settings("documents")),
    "acl": replace(NOTES, acl=("staff",)),
    "buckets": replace(NOTES, buckets=8),
    "scope": replace(NOTES, scope="tenant"),
}


@pytest.mark.parametrize("changed", OTHER_SETTINGS.values(), ids=OTHER_SETTINGS)
def test_with_other_settings_everything_is_asked_for_once(changed: Corpus) -> None:
    held = documents_in(1, 2)

    wishes, after = asked(settled(held), listing(held, changed), looked(held), corpus=changed)

    assert wishes.everything
    assert covered(wishes) == set(range(changed.buckets))
    again, _ = asked(after, listing(held, changed), looked(held, changed), corpus=changed)
    assert again.runs == ()


def test_of_a_corpus_that_was_removed_or_made_anew_everything_is_asked_for() -> None:
    held = documents_in(1, 2)

    for awaited in (Awaited(), Awaited(BORN)):
        assert asked(settled(held), listing(held), awaited)[0].runs == (RunWish(0, 15),)


def test_of_a_database_from_a_backup_is_asked_for_what_has_changed_since() -> None:
    before, since = documents_in(1, 2), documents_in(1, 2, 3)

    assert asked(settled(since), listing(since), looked(before))[0].runs == (RunWish(3, 3),)


def test_while_a_corpus_is_not_in_the_database_any_change_asks_for_everything() -> None:
    _, after = asked(Noticed(), listing({}), Awaited())

    wishes, _ = asked(after, listing(documents_in(7)), Awaited())

    assert wishes.runs == (RunWish(0, 15),)


# --- hints and retries ---------------------------------------------------------------------------


def test_a_hint_asks_for_its_bucket_once_and_only_for_what_was_hinted_at() -> None:
    wishes, after = asked(settled({}), None, looked({}, hints={3: 7, 5: 9}))

    assert wishes.runs == (RunWish(3, 3, hinted=True), RunWish(5, 5, hinted=True))
    assert asked(after, None, looked({}, hints={3: 7, 5: 9}))[0].runs == ()
    assert asked(after, None, looked({}, hints={3: 10, 5: 9}))[0].runs == (
        RunWish(3, 3, hinted=True),
    )


def test_a_bucket_that_was_listed_otherwise_too_is_looked_at_in_whole() -> None:
    hints = looked({}, hints={3: 7, 4: 8})

    assert asked(settled({}), listing(documents_in(3)), hints)[0].runs == (
        RunWish(3, 3),
        RunWish(4, 4, hinted=True),
    )


def test_many_hinted_buckets_are_one_range_that_looks_at_hints_alone() -> None:
    hints = looked({}, hints={bucket: bucket + 1 for bucket in range(1, 7)})

    assert asked(settled({}), None, hints)[0].runs == (RunWish(1, 6, hinted=True),)
    assert asked(settled({}), listing(documents_in(9)), hints)[0].runs == (RunWish(1, 9),)


def test_a_dead_letter_that_is_due_asks_for_its_bucket_once_and_in_whole() -> None:
    due = looked({}, due={2: START})

    wishes, after = asked(settled({}), listing({}), due)

    assert wishes.runs == (RunWish(2, 2),)
    assert asked(after, listing({}), due)[0].runs == ()
    later = looked({}, due={2: START + timedelta(minutes=4)})
    assert asked(after, listing({}), later)[0].runs == (RunWish(2, 2),)


def test_what_still_waits_is_asked_for_again_after_an_hour() -> None:
    """Its run may have failed before it looked, or its seq was committed after a higher one."""
    waits = looked({}, hints={3: 7}, due={2: START})
    _, after = asked(settled({}), None, waits)

    again, since = asked(after, None, waits, now=START + HOUR)

    assert again.runs == (RunWish(2, 2), RunWish(3, 3, hinted=True))
    assert asked(since, None, waits, now=START + HOUR)[0].runs == ()


def test_what_waits_in_buckets_that_are_no_more_is_left_to_those_who_move_it() -> None:
    elsewhere = looked({}, hints={16: 1}, due={99: START})

    assert asked(settled({}), None, elsewhere)[0].runs == ()


def test_a_source_that_tells_is_listed_at_first_and_when_it_is_time() -> None:
    def must(cursor: Noticed, now: datetime, awaited: Awaited | None = None) -> bool:
        return cursor.must_list(NOTES, awaited or looked({}), now=now, every=HOUR)

    assert must(Noticed(), START)
    assert not must(settled({}), START + HOUR - timedelta(seconds=1))
    assert must(settled({}), START + HOUR)
    assert must(settled({}), START - timedelta(days=1))  # the clock was set back
    assert must(settled({}), START, Awaited())


# --- how a source stands ---------------------------------------------------------------------------


def test_how_a_source_stands_is_news_when_it_changes_and_else_once_a_minute() -> None:
    def news(
        standing: SourceStanding, objects: int | None, error: str | None, *, after_s: float = 30
    ) -> bool:
        now = START + timedelta(seconds=after_s)
        return is_news(standing, objects=objects, error=error, now=now)

    well = SourceStanding(listed_at=START, objects=5)
    ill = SourceStanding(START, 5, START, START, "The folder is not there.")

    assert news(SourceStanding(), 5, None)
    assert not news(well, 5, None)
    assert not news(well, None, None)  # it was heard, not listed
    assert news(well, 6, None)
    assert news(well, 5, None, after_s=60)
    assert news(well, None, "The folder is not there.")
    assert not news(ill, None, "The folder is not there.")
    assert news(ill, None, "The folder is not there.", after_s=60)
    assert news(ill, None, "The bucket is not there.")
    assert news(ill, 5, None)
