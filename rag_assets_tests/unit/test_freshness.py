"""What is told of changes that wait: which document, since when, why, and what to do."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from rag_assets.model import (
    MOVING,
    Backlog,
    Cause,
    FreshnessSettings,
    Recorded,
    SourceObject,
    SourceStanding,
    Wait,
)
from rag_assets.operations.freshness import (
    Unseen,
    corpus_freshness,
    source_freshness,
    still_unseen,
    unseen,
    with_unseen,
)

SETTINGS = FreshnessSettings(waiting_fail_min=60, source_fail_min=30)
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def wait(cause: Cause, age_s: float, *, changes: int = 1, doc_id: str = "a.md") -> Wait:
    return Wait(cause, changes, age_s, doc_id, bucket=3, reason="a reason")


def test_a_corpus_without_waiting_changes_is_fresh_however_old_it_is() -> None:
    verdict = corpus_freshness("notes", Backlog(7), SETTINGS)
    assert verdict.passed
    assert verdict.figures["waiting"] == 0
    assert verdict.figures["changes/not_seen_yet"] == 0


def test_a_change_that_waits_a_little_passes_and_is_named() -> None:
    verdict = corpus_freshness("notes", Backlog(7, (wait(Cause.WAITING, 3599),)), SETTINGS)
    assert verdict.passed
    assert "a.md has waited for 59 min" in verdict.description
    assert verdict.figures["document"] == "a.md"


@pytest.mark.parametrize("cause", Cause)
def test_a_change_that_waits_too_long_fails_whatever_it_waits_for(cause: Cause) -> None:
    verdict = corpus_freshness("notes", Backlog(7, (wait(cause, 3601),)), SETTINGS)
    assert not verdict.passed
    assert verdict.warning == (cause not in MOVING)
    assert verdict.figures["cause"] == cause
    assert verdict.figures[f"changes/{cause.replace(' ', '_')}"] == 1
    assert "notes" in verdict.description or "a reason" in verdict.description


def test_what_work_would_bring_is_told_before_what_waits_longer_for_a_person() -> None:
    waits = (wait(Cause.FAILING, 4000, doc_id="b.md"), wait(Cause.DEAD_LETTER, 90_000))
    verdict = corpus_freshness("notes", Backlog(7, waits), SETTINGS)
    assert (verdict.passed, verdict.warning) == (False, False)
    assert "2 changes wait; b.md has waited for 1 h 6 min" in verdict.description


def test_what_waits_too_long_for_a_person_is_told_before_what_waits_a_little() -> None:
    waits = (wait(Cause.WAITING, 10, doc_id="b.md"), wait(Cause.DEAD_LETTER, 90_000))
    verdict = corpus_freshness("notes", Backlog(7, waits), SETTINGS)
    assert (verdict.passed, verdict.warning) == (False, True)
    assert "a.md" in verdict.description
    assert "dead-letters list notes" in verdict.description
    assert (verdict.figures["waiting"], verdict.figures["oldest_waiting_s"]) == (1, 10)


def test_the_gist_changes_with_the_news_and_not_with_the_age() -> None:
    first = corpus_freshness("notes", Backlog(7, (wait(Cause.WAITING, 10),)), SETTINGS)
    older = corpus_freshness("notes", Backlog(7, (wait(Cause.WAITING, 70),)), SETTINGS)
    late = corpus_freshness("notes", Backlog(7, (wait(Cause.WAITING, 7000),)), SETTINGS)
    other = corpus_freshness("notes", Backlog(7, (wait(Cause.FAILING, 10),)), SETTINGS)
    assert first.gist == older.gist
    assert len({first.gist, late.gist, other.gist}) == 3


@pytest.mark.parametrize("cause", [Cause.NOT_PUBLISHED, Cause.NOT_SEEN, Cause.FAILING])
def test_a_first_build_may_take_days_as_long_as_it_comes_forward(cause: Cause) -> None:
    waits = (Wait(Cause.NOT_PUBLISHED, 1, 200_000), wait(cause, 200_000))
    verdict = corpus_freshness("notes", Backlog(None, waits, idle_s=65), SETTINGS)
    assert verdict.passed
    assert verdict.description == "The first index is being built; 1 min ago it came forward."
    assert (verdict.figures["cause"], verdict.figures["idle_s"]) == ("not published", 65)


def test_a_first_build_that_stands_still_is_a_warning_and_says_what_to_do() -> None:
    building = Backlog(None, (Wait(Cause.NOT_PUBLISHED, 1, 200_000),), idle_s=3601)
    verdict = corpus_freshness("notes", building, SETTINGS)
    assert (verdict.passed, verdict.warning) == (False, True)
    assert "for 1 h nothing has come of the first build. See the last run of notes" in (
        verdict.description
    )
    failing = replace(building, waits=(*building.waits, wait(Cause.FAILING, 10)))
    assert "Its bucket fails, at a reason" in (
        corpus_freshness("notes", failing, SETTINGS).description
    )
    assert verdict.gist != corpus_freshness("notes", replace(building, idle_s=1), SETTINGS).gist


# --- the source ----------------------------------------------------------------------------------


def test_a_source_that_was_listed_lately_is_fresh() -> None:
    standing = SourceStanding(listed_at=NOW - HOUR / 4, objects=12)
    verdict = source_freshness("notes", standing, SETTINGS, now=NOW)
    assert verdict.passed
    assert verdict.figures == {"not_listed_for_s": 900, "objects": 12}


def test_a_source_that_nobody_lists_fails_and_says_who_should() -> None:
    standing = SourceStanding(listed_at=NOW - HOUR)
    verdict = source_freshness("notes", standing, SETTINGS, now=NOW)
    assert not verdict.passed
    assert "1 h ago" in verdict.description
    assert "notes_source" in verdict.description


def test_a_source_that_cannot_be_listed_fails_after_its_time_and_says_why() -> None:
    standing = SourceStanding(
        listed_at=NOW - HOUR / 3, failing_since=NOW - HOUR / 6, error="It is locked."
    )
    assert source_freshness("notes", standing, SETTINGS, now=NOW).passed
    late = source_freshness("notes", standing, SETTINGS, now=NOW + HOUR / 2)
    assert not late.passed
    assert "For 40 min it cannot be: It is locked." in late.description
    never = replace(standing, listed_at=None)
    assert not source_freshness("notes", never, SETTINGS, now=NOW + HOUR / 2).passed


def test_a_source_that_nobody_has_watched_yet_is_no_failure() -> None:
    assert source_freshness("notes", None, SETTINGS, now=NOW).passed


# --- what nobody has recorded --------------------------------------------------------------------


def recorded(*present: str, withheld: str = "") -> Recorded:
    return Recorded(
        {doc_id: frozenset([doc_id.encode()]) for doc_id in present},
        frozenset(present),
        frozenset([withheld] if withheld else []),
        frozenset(),
    )


def listed(doc_id: str, content: str = "", *, at: datetime | None = None) -> SourceObject:
    return SourceObject(doc_id, f"file:{doc_id}", (content or doc_id).encode(), modified_at=at)


def test_a_source_that_holds_what_is_recorded_has_nothing_unseen() -> None:
    assert unseen([listed("a"), listed("b")], recorded("a", "b"), now=NOW) == []


def test_an_object_that_came_changed_or_left_is_unseen_since_it_was_modified_or_missed() -> None:
    before = NOW - HOUR
    objects = [listed("a", "other", at=NOW - HOUR / 2), listed("new", at=NOW - HOUR / 4)]
    found = unseen(objects, recorded("a", "gone"), looked_at=before, now=NOW)
    assert [(each.doc_id, each.since) for each in found] == [
        ("gone", before),
        ("a", NOW - HOUR / 2),
        ("new", NOW - HOUR / 4),
    ]


def test_an_old_file_that_was_moved_here_has_not_waited_for_years() -> None:
    old = listed("new", at=NOW - 1000 * HOUR)
    [first] = unseen([old], recorded(), now=NOW)
    assert first.since == NOW
    [later] = unseen([old], recorded(), looked_at=NOW - HOUR, now=NOW)
    assert later.since == NOW - HOUR


def test_a_change_keeps_its_time_from_look_to_look_until_it_is_another() -> None:
    first = unseen([listed("a", "one")], recorded("a", "gone"), now=NOW)
    again = unseen(
        [listed("a", "one")], recorded("a", "gone"), before=first, looked_at=NOW, now=NOW + HOUR
    )
    assert {each.since for each in again} == {NOW}
    [other, _] = unseen(
        [listed("a", "two")], recorded("a", "gone"),
        before=first, looked_at=NOW + HOUR, now=NOW + 2 * HOUR,
    )[::-1]  # fmt: skip
    assert (other.doc_id, other.since) == ("a", NOW + HOUR)


def test_withheld_and_erased_documents_are_not_unseen() -> None:
    import hashlib

    erased = frozenset([hashlib.sha256(b"erased").digest()])
    known = replace(recorded("kept", withheld="kept"), erased=erased)
    assert unseen([listed("erased")], known, now=NOW) == []


def test_what_a_run_has_recorded_since_is_unseen_no_more() -> None:
    found = [
        Unseen("a", NOW, b"a".hex()),
        Unseen("b", NOW, b"other".hex()),
        Unseen("gone", NOW),
        Unseen("left", NOW),
    ]
    left = still_unseen(found, recorded("a", "b", "left"))
    assert [each.doc_id for each in left] == ["b", "left"]


def test_unseen_changes_stand_beside_hints_and_the_oldest_of_both_is_named() -> None:
    hinted = Wait(Cause.NOT_SEEN, 2, 600, "hinted.md")
    backlog = Backlog(7, (hinted, wait(Cause.DEAD_LETTER, 10)))
    together = with_unseen(backlog, [Unseen("a.md", NOW - HOUR)], 5, now=NOW)
    assert together.waits[0] == Wait(Cause.NOT_SEEN, 7, 3600, "a.md")
    assert together.changes == 7
    younger = with_unseen(backlog, [Unseen("a.md", NOW)], 1, now=NOW)
    assert younger.waits[0].doc_id == "hinted.md"
    assert with_unseen(backlog, [], 0, now=NOW) == backlog
