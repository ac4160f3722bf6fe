"""When an index of changed settings may be built beside the one that is read."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from rag_assets.model import (
    AutomationSettings,
    Generation,
    GenerationState,
    Recipe,
    has_readers,
    own,
)

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class RebuildWindow:
    """The hours of each day in which a build may embed; they may reach over midnight.

    >>> night = RebuildWindow.read("22:00-06:00", "Europe/Berlin")
    >>> night.ends_at(datetime(2026, 1, 15, 23, 30, tzinfo=UTC)).isoformat()
    '2026-01-16T05:00:00+00:00'
    >>> night.ends_at(datetime(2026, 1, 15, 12, tzinfo=UTC)) is None
    True
    """

    start: time
    end: time
    zone: ZoneInfo

    @classmethod
    def read(cls, window: str, timezone: str) -> "RebuildWindow":
        start, _, end = window.partition("-")
        return cls(time.fromisoformat(start), time.fromisoformat(end), ZoneInfo(timezone))

    def ends_at(self, now: datetime) -> datetime | None:
        """When the window that is open closes; None while none is."""
        open_one = self.open_at(now)
        return open_one[1] if open_one else None

    def open_at(self, now: datetime) -> tuple[datetime, datetime] | None:
        """The window that is open: since when, and until when."""
        today = now.astimezone(self.zone).date()
        some = (self._of(day) for day in (today - DAY, today))
        return next(((opens, closes) for opens, closes in some if opens <= now < closes), None)

    def opens_at(self, now: datetime) -> datetime:
        """When the next window opens."""
        today = now.astimezone(self.zone).date()
        return next(
            opens
            for opens, _ in map(self._of, (today, today + DAY, today + 2 * DAY))
            if opens > now
        )

    def _of(self, day: date) -> tuple[datetime, datetime]:
        """The window that opens on a day, in UTC: clocks may be changed while it is open."""
        opens = datetime.combine(day, self.start, self.zone)
        last = day if self.end > self.start else day + DAY
        closes = datetime.combine(last, self.end, self.zone)
        return opens.astimezone(UTC), closes.astimezone(UTC)


def window_of(settings: AutomationSettings) -> RebuildWindow | None:
    if settings.rebuild_window is None:
        return None
    return RebuildWindow.read(settings.rebuild_window, settings.timezone)


def is_built_beside(generation: Generation, living: Iterable[Generation]) -> bool:
    """Whether a generation is a build that nobody misses yet, for readers have another one."""
    return generation.state is GenerationState.BUILDING and has_readers(living)


def current(living: Sequence[Generation]) -> list[Generation]:
    """Those that every change goes into as it comes: all but a build beside what is read."""
    return [each for each in living if not is_built_beside(each, living)]


def to_be_complete(living: Sequence[Generation]) -> list[Generation]:
    """Those in which no document should wait; a build, or what it has become, may be behind."""
    beside = {GenerationState.BUILDING, GenerationState.CANDIDATE}
    return [each for each in living if each.state not in beside or not has_readers(living)]


def is_to_be_built(recipe: Recipe, living: Sequence[Generation], *, held: bool) -> bool:
    """Whether something is to be built, or recalled, beside what is read.

    Not what somebody has ended (it is `held`), or has gone back from.
    """
    if not has_readers(living):
        return False
    found = own(recipe, living)
    if found is None:
        return not held
    recalled = found.state is GenerationState.RETIRED and not found.rolled_back
    return found.state is GenerationState.BUILDING or recalled
