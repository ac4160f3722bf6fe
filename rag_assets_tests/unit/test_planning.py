"""What a run has to do, from what it saw and what is recorded."""

import hashlib
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.indexing.planning import Plan, believed, plan
from rag_assets.model import DeadLetter, DocumentState, Mark, SourceObject, Stage

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CODE = "code-1"
HERE = SourceObject("a.md", "file:a.md", b"1", rev=5)
MARK = Mark("a.md", b"1", "file:a.md", 5, "live", own_parser=True, own_acl=True)
DELETED = MARK._replace(state="deleted")
DEAD = MARK._replace(state="dead")


def letter(
    stage: Stage = Stage.PARSE,
    *,
    source_hash: bytes = b"1",
    code_version: str = CODE,
    retry_at: datetime | None = None,
    dropped: bool = False,
) -> DeadLetter:
    return DeadLetter(
        "a.md",
        stage,
        "Error",
        "It is bad.",
        code_version,
        source_hash=source_hash,
        retry_at=retry_at,
        dropped=dropped,
    )


def planned(
    *seen: SourceObject,
    mark: Mark | None = None,
    letters: Collection[DeadLetter] = (),
    erased: Collection[str] = (),
) -> Plan:
    return plan(
        {each.doc_id: each for each in seen},
        [mark] if mark else [],
        now=NOW,
        code_version=CODE,
        dead_letters=letters,
        erased={hashlib.sha256(name.encode()).digest() for name in erased},
    )


READ = Plan(reads=[HERE], retries=set(), descriptions=[], gone=[], blocked=set())
DESCRIBED = replace(READ, reads=[], descriptions=[HERE])
GONE = replace(READ, reads=[], gone=["a.md"])
NOTHING = replace(READ, reads=[])
UNCHANGED = replace(READ, reads=[], unchanged=1)


# --- a listing against what is recorded -----------------------------------------------------------


def test_a_new_document_is_read() -> None:
    assert planned(HERE) == READ


def test_an_unchanged_document_is_left_alone() -> None:
    assert planned(HERE, mark=MARK) == UNCHANGED


def test_another_source_hash_is_read() -> None:
    assert planned(HERE, mark=MARK._replace(source_hash=b"0")) == READ


def test_what_another_parser_read_is_read_again() -> None:
    assert planned(HERE, mark=MARK._replace(own_parser=False)) == READ


def test_a_dead_document_is_not_read_again_while_it_stays_as_it_is() -> None:
    assert planned(HERE, mark=DEAD, letters=[letter()]) == UNCHANGED
    assert planned(HERE, mark=DEAD) == UNCHANGED


@pytest.mark.parametrize("changes", [{"uri": "file:old"}, {"own_acl": False}, {"rev": 4}])
def test_another_place_number_or_other_permissions_are_described_without_reading(
    changes: dict[str, object],
) -> None:
    assert planned(HERE, mark=MARK._replace(**changes)) == DESCRIBED  # type: ignore[arg-type] # one field each
    assert planned(HERE, mark=DEAD._replace(**changes)) == DESCRIBED  # type: ignore[arg-type]


def test_what_is_not_seen_is_gone_but_only_once() -> None:
    assert planned(mark=MARK) == GONE
    assert planned(mark=DEAD) == GONE
    assert planned(mark=DELETED) == NOTHING


def test_a_deleted_document_of_a_source_without_numbers_that_is_listed_again_is_read() -> None:
    found = replace(HERE, rev=None)
    assert planned(found, mark=DELETED._replace(rev=None)).reads == [found]


def test_an_erased_document_is_neither_read_nor_described() -> None:
    expected = replace(NOTHING, blocked={"a.md"})
    assert planned(HERE, erased=["a.md"]) == expected
    assert planned(HERE, mark=MARK._replace(own_acl=False), erased=["a.md"]) == expected
    assert planned(HERE, erased=["b.md"]) == READ


# --- the order of revisions -----------------------------------------------------------------------


def test_a_lower_number_never_takes_a_document_back() -> None:
    older = replace(HERE, source_hash=b"0", uri="file:old", rev=4)
    assert planned(older, mark=MARK) == UNCHANGED
    assert planned(replace(older, rev=6), mark=MARK).reads == [replace(older, rev=6)]
    assert planned(older, mark=MARK._replace(own_parser=False)) == UNCHANGED


def test_permissions_change_also_while_the_source_shows_an_older_number() -> None:
    older = replace(HERE, source_hash=b"0", uri="file:old", rev=4)
    assert planned(older, mark=MARK._replace(own_acl=False)) == DESCRIBED


def test_a_lower_number_never_revives_a_deleted_document() -> None:
    older = replace(HERE, rev=4)
    assert planned(older, mark=DELETED) == UNCHANGED
    assert planned(older, mark=DELETED._replace(own_acl=False)) == UNCHANGED
    assert planned(replace(HERE, rev=6), mark=DELETED).reads == [replace(HERE, rev=6)]


def test_a_document_that_a_listing_left_out_comes_back_under_its_number() -> None:
    assert planned(HERE, mark=DELETED).reads == [HERE]


# --- what failed before ---------------------------------------------------------------------------

UNREAD = DEAD._replace(source_hash=b"")
SOON, DUE = NOW + timedelta(seconds=1), NOW


def test_what_could_not_be_read_is_tried_again_when_it_is_time() -> None:
    retried = replace(READ, retries={"a.md"})
    for mark in (UNREAD, MARK._replace(source_hash=b"")):
        assert planned(HERE, mark=mark, letters=[letter(Stage.READ, retry_at=SOON)]) == UNCHANGED
        assert planned(HERE, mark=mark, letters=[letter(Stage.READ)]) == UNCHANGED
        assert planned(HERE, mark=mark, letters=[letter(Stage.READ, retry_at=DUE)]) == retried


@pytest.mark.parametrize("stage", [Stage.READ, Stage.PARSE])
def test_other_code_opens_a_dead_letter_again(stage: Stage) -> None:
    mark = UNREAD if stage is Stage.READ else DEAD
    found = planned(HERE, mark=mark, letters=[letter(stage, code_version="code-0")])
    assert found == replace(READ, retries={"a.md"})


@pytest.mark.parametrize("stage", [Stage.READ, Stage.PARSE])
@pytest.mark.parametrize("dropped", [False, True])
def test_a_changed_document_is_read_whatever_failed_before(stage: Stage, dropped: bool) -> None:
    mark = UNREAD if stage is Stage.READ else DEAD._replace(source_hash=b"0")
    old = letter(stage, source_hash=b"0", dropped=dropped)
    assert planned(HERE, mark=mark, letters=[old]) == READ


@pytest.mark.parametrize("stage", [Stage.READ, Stage.PARSE])
def test_what_was_dropped_stays_out_while_it_does_not_change(stage: Stage) -> None:
    mark = UNREAD if stage is Stage.READ else DEAD
    dropped = letter(stage, dropped=True, code_version="code-0", retry_at=DUE)
    assert planned(HERE, mark=mark, letters=[dropped]) == UNCHANGED


def test_a_hash_that_vouches_for_nothing_is_read_where_no_letter_says_why() -> None:
    assert planned(HERE, mark=MARK._replace(source_hash=b"")) == READ
    assert planned(HERE, mark=MARK._replace(source_hash=b""), letters=[letter()]) == READ


# --- every document has one place -----------------------------------------------------------------

NAMES = st.sampled_from("abcdef")
REVS = st.sampled_from([None, 1, 2])
OBJECTS = st.builds(
    SourceObject, NAMES, st.sampled_from(["u1", "u2"]), st.sampled_from([b"1", b"2"]), REVS
)
MARKS = st.builds(
    Mark,
    NAMES,
    st.sampled_from([b"", b"1", b"2"]),
    st.sampled_from(["u1", "u2"]),
    REVS,
    st.sampled_from(["live", "dead", "deleted"]),
    st.booleans(),
    st.booleans(),
)


@given(
    st.lists(OBJECTS, unique_by=lambda each: each.doc_id),
    st.lists(MARKS, unique_by=lambda mark: mark.doc_id),
    st.sets(NAMES),
)
def test_every_document_is_counted_in_one_place(
    seen: list[SourceObject], marks: list[Mark], erased: set[str]
) -> None:
    found = plan(
        {each.doc_id: each for each in seen},
        marks,
        now=NOW,
        code_version=CODE,
        erased={hashlib.sha256(name.encode()).digest() for name in erased},
    )
    placed = [each.doc_id for part in (found.reads, found.descriptions) for each in part]
    placed += found.blocked
    assert len(placed) == len(set(placed))
    assert len(placed) + found.unchanged == len(seen)
    assert not set(found.gone) & {each.doc_id for each in seen}
    assert set(found.blocked) <= erased


@given(st.lists(OBJECTS, unique_by=lambda each: each.doc_id))
def test_what_was_recorded_as_it_is_seen_is_unchanged(seen: list[SourceObject]) -> None:
    """After the work is done, the same look finds nothing to do."""
    settled = [
        Mark(each.doc_id, each.source_hash, each.uri, each.rev, DocumentState.LIVE, True, True)
        for each in seen
    ]
    found = plan({each.doc_id: each for each in seen}, settled, now=NOW, code_version=CODE)
    assert found == replace(NOTHING, unchanged=len(seen))


# --- which deletions are believed -----------------------------------------------------------------


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 1000))
def test_ten_deletions_a_day_are_always_believed_and_a_fifth_of_what_was_there(
    gone: int, lately: int, live: int
) -> None:
    expected = gone + lately <= 10 or (gone + lately) * 5 <= live + lately
    assert believed(gone=gone, lately=lately, live=live) == expected
