"""Which buckets are asked for: digests, the cursor, and the decision."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.indexing.noticing import (
    SINGLES,
    Listing,
    Noticed,
    RunWish,
    RunWishes,
    listing_of,
    requests,
)
from rag_assets.model import (
    Awaited,
    Corpus,
    LocalFilesSettings,
    S3Settings,
    SourceObject,
    bucket_of,
)

HOUR = timedelta(hours=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
BORN = datetime(2025, 12, 1, tzinfo=UTC)
NOTES = Corpus("notes", source=LocalFilesSettings("/documents"), buckets=16)
THERE = Awaited(created_at=BORN, epochs=20)

names = st.text(min_size=1, max_size=8)
contents = st.dictionaries(names, st.binary(min_size=1, max_size=3), max_size=30)
numbers = st.integers(0, 2**63 - 1)
cursors = st.builds(
    Noticed,
    st.binary(min_size=8, max_size=8),
    *[numbers] * 7,
    st.lists(st.integers(0, 2**48 - 1), max_size=100).map(tuple),
)


def objects_of(held: Mapping[str, bytes]) -> Iterator[SourceObject]:
    return (SourceObject(name, f"file:{name}", content) for name, content in held.items())


def listing(held: Mapping[str, bytes], corpus: Corpus = NOTES) -> Listing:
    return listing_of(objects_of(held), buckets=corpus.buckets)


def asked(
    before: Noticed,
    seen: Listing | None,
    awaited: Awaited = THERE,
    *,
    corpus: Corpus = NOTES,
    now: datetime = START,
) -> tuple[RunWishes, Noticed]:
    return requests(before, corpus, awaited, seen, now=now, remind_every=HOUR)


def settled(held: Mapping[str, bytes], awaited: Awaited = THERE) -> Noticed:
    """The cursor after everything was asked for once."""
    return asked(Noticed(), listing(held), awaited)[1]


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


def test_a_listing_that_ends_in_an_error_gives_no_digests() -> None:
    def broken() -> Iterator[SourceObject]:
        yield SourceObject("a.md", "", b"1")
        raise ConnectionError

    with pytest.raises(ConnectionError):
        listing_of(broken(), buckets=4)


# --- the cursor ----------------------------------------------------------------------------------


@given(cursor=cursors)
def test_a_cursor_is_read_as_it_was_written(cursor: Noticed) -> None:
    assert Noticed.decoded(cursor.encoded()) == cursor


def test_a_cursor_over_a_hundred_buckets_is_smaller_than_a_kilobyte() -> None:
    most = 2**63 - 1
    largest = Noticed(
        b"settings",
        created_at=most,
        epochs=most,
        counter=most,
        hints=most,
        due=most,
        listed_at=most,
        reminded_at=most,
        digests=(2**48 - 1,) * 100,
    )

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


def test_of_a_source_never_seen_everything_is_asked_for_in_one_run() -> None:
    """Also of few buckets, and also where nothing is in it: no part can be published alone."""
    small = replace(NOTES, buckets=3)

    assert asked(Noticed(), listing({}))[0].runs == (RunWish(0, 15),)
    assert asked(Noticed(), listing({}, small), Awaited(), corpus=small)[0].runs == (RunWish(0, 2),)


@given(held=contents)
def test_an_unchanged_source_is_asked_for_once(held: dict[str, bytes]) -> None:
    wishes, after = asked(settled(held), listing(held))

    assert wishes.runs == ()
    assert after.digests == settled(held).digests


def test_up_to_four_buckets_have_a_run_each_and_more_have_one_together() -> None:
    few, many = documents_in(2, 3, 9, 14), documents_in(2, 3, 9, 10, 14)

    assert asked(settled({}), listing(few))[0].runs == tuple(
        RunWish(bucket, bucket) for bucket in (2, 3, 9, 14)
    )
    assert asked(settled({}), listing(many))[0].runs == (RunWish(2, 14),)


@given(one=contents, other=contents)
def test_the_touched_buckets_are_asked_for_and_no_other_outside_a_range(
    one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    pairs = zip(listing(one).digests, listing(other).digests, strict=True)
    touched = {bucket for bucket, (a, b) in enumerate(pairs) if a != b}

    wishes, after = asked(settled(one), listing(other))

    assert covered(wishes) >= touched
    assert wishes.touched == len(touched)
    if len(touched) <= SINGLES:
        assert covered(wishes) == touched
    else:
        assert covered(wishes) == set(range(min(touched), max(touched) + 1))
    assert asked(after, listing(other))[0].runs == ()


def test_a_change_that_is_taken_back_is_asked_for_again() -> None:
    first, second = documents_in(5), dict.fromkeys(documents_in(5), b"2")

    there, after = asked(settled(first), listing(second))
    back, _ = asked(after, listing(first))

    assert there.runs == back.runs == (RunWish(5, 5),)
    assert back.counter > there.counter


@given(seconds=st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=8))
def test_no_number_is_used_twice_whatever_the_clock_does(seconds: list[int]) -> None:
    cursor, used = settled({}), [settled({}).counter]
    for turn, each in enumerate(seconds):
        seen = listing({"a.md": bytes([turn])})
        wishes, cursor = asked(cursor, seen, now=START + timedelta(seconds=each))
        used.append(wishes.counter)

    assert used == sorted(set(used))


def test_a_cursor_that_somebody_cleared_does_not_use_old_numbers_again() -> None:
    old, _ = asked(Noticed(), listing({}), now=START)
    new, _ = asked(Noticed(), listing({}), now=START + timedelta(seconds=1))

    assert new.counter > old.counter


def test_without_a_listing_digests_stay_and_a_void_cursor_stays_void() -> None:
    before = settled(documents_in(1))

    assert asked(before, None)[1].digests == before.digests
    assert asked(before, None)[0].runs == ()
    assert asked(Noticed(), None) == (RunWishes(), Noticed())


# --- what makes a cursor void --------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        replace(NOTES, source=LocalFilesSettings("/elsewhere")),
        replace(NOTES, source=S3Settings("documents")),
        replace(NOTES, acl=("staff",)),
        replace(NOTES, buckets=8),
        replace(NOTES, scope="tenant"),
    ],
    ids=["folder", "store", "acl", "buckets", "scope"],
)
def test_with_other_settings_everything_is_asked_for(changed: Corpus) -> None:
    held = documents_in(1, 2)

    wishes, after = asked(settled(held), listing(held, changed), corpus=changed)

    assert wishes.everything
    assert covered(wishes) == set(range(changed.buckets))
    assert asked(after, listing(held, changed), corpus=changed)[0].runs == ()


@pytest.mark.parametrize(
    "awaited",
    [
        Awaited(),
        replace(THERE, created_at=BORN + timedelta(microseconds=1)),
        replace(THERE, epochs=THERE.epochs - 1),
    ],
    ids=["removed", "made anew", "from a backup"],
)
def test_of_another_database_everything_is_asked_for(awaited: Awaited) -> None:
    assert asked(settled({}), listing({}), awaited)[0].everything


def test_a_corpus_that_comes_into_the_database_was_asked_for_already() -> None:
    first = settled({}, Awaited())

    assert asked(first, listing({}), replace(THERE, epochs=1))[0].runs == ()


def test_while_a_corpus_is_not_in_the_database_any_change_asks_for_everything() -> None:
    wishes, _ = asked(settled({}, Awaited()), listing(documents_in(7)), Awaited())

    assert wishes.runs == (RunWish(0, 15),)


# --- hints and retries ---------------------------------------------------------------------------


def test_a_hint_asks_for_its_bucket_once_and_only_for_what_was_hinted_at() -> None:
    wishes, after = asked(settled({}), None, replace(THERE, hints={3: 7, 5: 9}))

    assert wishes.runs == (RunWish(3, 3, hinted=True), RunWish(5, 5, hinted=True))
    assert asked(after, None, replace(THERE, hints={3: 7, 5: 9}))[0].runs == ()
    assert asked(after, None, replace(THERE, hints={3: 10, 5: 9}))[0].runs == (
        RunWish(3, 3, hinted=True),
    )


def test_a_bucket_that_was_listed_otherwise_too_is_looked_at_in_whole() -> None:
    wishes, _ = asked(settled({}), listing(documents_in(3)), replace(THERE, hints={3: 7, 4: 8}))

    assert wishes.runs == (RunWish(3, 3), RunWish(4, 4, hinted=True))


def test_many_hinted_buckets_are_one_range_that_looks_at_hints_alone() -> None:
    hints = {bucket: bucket + 1 for bucket in range(1, 7)}

    assert asked(settled({}), None, replace(THERE, hints=hints))[0].runs == (
        RunWish(1, 6, hinted=True),
    )
    mixed, _ = asked(settled({}), listing(documents_in(9)), replace(THERE, hints=hints))
    assert mixed.runs == (RunWish(1, 9),)


def test_a_dead_letter_that_is_due_asks_for_its_bucket_once_and_in_whole() -> None:
    due = replace(THERE, due={2: START})

    wishes, after = asked(settled({}), listing({}), due)

    assert wishes.runs == (RunWish(2, 2),)
    assert asked(after, listing({}), due)[0].runs == ()
    later = replace(THERE, due={2: START + timedelta(minutes=4)})
    assert asked(after, listing({}), later)[0].runs == (RunWish(2, 2),)


def test_what_still_waits_is_asked_for_again_after_an_hour() -> None:
    """Its run may have failed before it looked, or its seq was committed after a higher one."""
    waits = replace(THERE, hints={3: 7}, due={2: START})
    _, after = asked(settled({}), None, waits)

    again, since = asked(after, None, waits, now=START + HOUR)

    assert again.runs == (RunWish(2, 2), RunWish(3, 3, hinted=True))
    assert asked(since, None, waits, now=START + HOUR)[0].runs == ()


def test_what_waits_in_buckets_that_are_no_more_is_left_to_those_who_move_it() -> None:
    assert asked(settled({}), None, replace(THERE, hints={16: 1}, due={99: START}))[0].runs == ()


def test_a_source_that_tells_is_listed_at_first_and_when_it_is_time() -> None:
    def must(cursor: Noticed, now: datetime, awaited: Awaited = THERE) -> bool:
        return cursor.must_list(NOTES, awaited, now=now, every=HOUR)

    assert must(Noticed(), START)
    assert not must(settled({}), START + HOUR - timedelta(seconds=1))
    assert must(settled({}), START + HOUR)
    assert must(settled({}), START - timedelta(days=1))  # the clock was set back
    assert must(settled({}), START, Awaited())
