"""The time of this machine."""

import time
from datetime import UTC, datetime
from threading import Event


class SystemClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def pause(self, seconds: float, *, unless: Event) -> None:
        unless.wait(seconds)
