"""What a tick says that finds the database or the source away: once is passed over, twice fails.

Dagster shows a tick that was skipped in grey and one that failed in red. A sensor that failed has
its next turn as any other, with the cursor that it had. So the first look in a row that fails is
skipped, and leaves in the cursor since when; every later one fails, and leaves the cursor as it is.
The first look that succeeds writes a cursor without the mark.
"""

from datetime import UTC, datetime

import dagster as dg

MARK = " away since "


def without_mark(cursor: str | None) -> str | None:
    """What the sensor itself has written.

    >>> without_mark("1.abc away since 1777888999"), without_mark(" away since 1777888999")
    ('1.abc', None)
    """
    return (cursor or "").partition(MARK)[0] or None


def away(cursor: str | None, said: str, *, now: datetime) -> dg.SensorResult:
    """Of the first look in a row that fails; of every later one, a failed tick."""
    mark = (cursor or "").partition(MARK)[2]
    if not mark.isdecimal():
        marked = f"{without_mark(cursor) or ''}{MARK}{int(now.timestamp())}"
        return dg.SensorResult(skip_reason=said, cursor=marked)
    since = datetime.fromtimestamp(int(mark), UTC)
    told = f"{said} It has been so since {since:%Y-%m-%d %H:%M:%S} UTC."
    raise dg.Failure(description=told) from None  # in our words alone: an error may hold anything
