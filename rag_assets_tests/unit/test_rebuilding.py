"""What is built beside what is read, and the hours of a rebuild window."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.indexing.rebuilding import (
    RebuildWindow,
    current,
    is_built_beside,
    is_to_be_built,
    to_be_complete,
    window_of,
)
from rag_assets.model import (
    LIVING,
    AutomationSettings,
    Generation,
    GenerationState,
    IndexSettings,
    Recipe,
)

BERLIN = ZoneInfo("Europe/Berlin")
RECIPE = Recipe("auto@1", "markdown@1", "hash@1", 64, IndexSettings())
OTHER = replace(RECIPE, chunker="markdown@2")


def berlin(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


def generation(number: int, state: GenerationState) -> Generation:
    return Generation(number, "notes", state, RECIPE)


@pytest.mark.parametrize(
    ("window", "now", "ends"),
    [
        ("01:00-05:00", "2026-06-10T01:00", "2026-06-10T05:00"),
        ("01:00-05:00", "2026-06-10T04:59:59", "2026-06-10T05:00"),
        ("01:00-05:00", "2026-06-10T05:00", None),
        ("01:00-05:00", "2026-06-10T00:59:59", None),
        ("22:00-06:00", "2026-06-10T23:30", "2026-06-11T06:00"),
        ("22:00-06:00", "2026-06-11T02:00", "2026-06-11T06:00"),
        ("22:00-06:00", "2026-06-11T06:00", None),
        ("22:00-06:00", "2026-06-11T12:00", None),
    ],
)
def test_a_window_is_open_from_its_beginning_until_just_before_its_end(
    window: str, now: str, ends: str | None
) -> None:
    found = RebuildWindow.read(window, "Europe/Berlin").ends_at(berlin(now))

    assert found == (berlin(ends) if ends else None)


def test_a_window_keeps_the_hours_of_the_wall_clock_when_the_clock_is_changed() -> None:
    window = RebuildWindow.read("22:00-06:00", "Europe/Berlin")

    into_summer = window.ends_at(berlin("2026-03-28T22:00"))
    into_winter = window.ends_at(berlin("2026-10-24T22:00"))

    assert into_summer == berlin("2026-03-28T22:00") + timedelta(hours=7)
    assert into_winter == berlin("2026-10-24T22:00") + timedelta(hours=9)


@given(
    now=st.integers(0, 366 * 86_400).map(lambda s: berlin("2026-01-01") + timedelta(seconds=s)),
    start=st.times(),
    end=st.times(),
)
def test_it_opens_after_now_and_is_open_then(now: datetime, start: object, end: object) -> None:
    if str(start)[:5] == str(end)[:5]:
        return
    window = RebuildWindow.read(f"{str(start)[:5]}-{str(end)[:5]}", "Europe/Berlin")

    opens = window.opens_at(now)

    assert now < opens < now + timedelta(days=2)
    closes = window.ends_at(now)
    assert closes is None or now < closes < now + timedelta(hours=26)


def test_without_a_window_there_is_none() -> None:
    assert window_of(AutomationSettings()) is None
    assert window_of(AutomationSettings(rebuild_window="22:00-06:00", timezone="Asia/Tokyo")) == (
        RebuildWindow.read("22:00-06:00", "Asia/Tokyo")
    )


@pytest.mark.parametrize("state", list(GenerationState))
def test_only_a_build_beside_a_published_index_waits(state: GenerationState) -> None:
    published = generation(1, GenerationState.PUBLISHED)
    other = generation(2, state)

    assert is_built_beside(other, [published, other]) is (state is GenerationState.BUILDING)
    assert not is_built_beside(other, [other])
    assert not is_built_beside(published, [published, other])
    assert current([published, other]) == (
        [published] if state is GenerationState.BUILDING else [published, other]
    )
    assert current([other]) == [other]


@pytest.mark.parametrize("state", LIVING)
def test_a_candidate_may_be_behind_for_a_moment_where_there_is_something_to_read(
    state: GenerationState,
) -> None:
    published, other = generation(1, GenerationState.PUBLISHED), generation(2, state)
    beside = state in {GenerationState.BUILDING, GenerationState.CANDIDATE}

    assert (other in to_be_complete([published, other])) is not beside
    assert to_be_complete([other]) == [other]


@pytest.mark.parametrize(
    ("state", "rolled_back", "wanted"),
    [
        (GenerationState.BUILDING, False, True),
        (GenerationState.CANDIDATE, False, False),
        (GenerationState.RETIRED, False, True),
        (GenerationState.RETIRED, True, False),
    ],
)
def test_what_is_begun_or_comes_back_is_built_and_what_somebody_went_back_from_is_not(
    state: GenerationState, rolled_back: bool, wanted: bool
) -> None:
    read = replace(generation(1, GenerationState.PUBLISHED), recipe=OTHER)
    ours = replace(generation(2, state), rolled_back=rolled_back)

    assert is_to_be_built(RECIPE, [read, ours], held=False) is wanted


def test_a_recipe_without_an_index_is_built_unless_it_is_held_or_nothing_is_read() -> None:
    read = generation(1, GenerationState.PUBLISHED)

    assert is_to_be_built(OTHER, [read], held=False)
    assert not is_to_be_built(OTHER, [read], held=True)
    assert not is_to_be_built(OTHER, [], held=False), "the daily run builds the first"
    assert not is_to_be_built(RECIPE, [read], held=False)
    again = generation(2, GenerationState.BUILDING)
    assert is_to_be_built(RECIPE, [read, again], held=False), "a build of the same recipe"
