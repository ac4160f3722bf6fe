"""The hours of a rebuild window, over midnight and over changes of the clock."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.indexing.rebuilding import RebuildWindow, waits_for_window, window_of
from rag_assets.model import (
    AutomationSettings,
    Generation,
    GenerationState,
    IndexSettings,
    Recipe,
)

BERLIN = ZoneInfo("Europe/Berlin")
RECIPE = Recipe("auto@1", "markdown@1", "hash@1", 64, IndexSettings())


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

    assert waits_for_window(other, [published, other]) is (state is GenerationState.BUILDING)
    assert not waits_for_window(other, [other])
    assert not waits_for_window(published, [published, other])
