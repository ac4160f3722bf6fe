"""What can be done to a worker, and when."""

from dataclasses import dataclass
from enum import StrEnum

from rag_assets_tests.fault.proxy import Moment

SERVICE = "embedding service"
"""Its requests are moments like the statements of the database."""


class Action(StrEnum):
    KILL = "worker killed"
    CUT = "connection cut"
    TERMINATE = "backend terminated"
    PAUSE = "worker paused"
    """It wakes up when others have gone on."""
    FORSAKE = "paused worker loses its connection"
    """So also its locks. It wakes up when others have gone on."""
    DELAY = "statement delayed"
    CRASH = "database server crashes"
    FILL = "disk full"


ENDS_THE_WORKER = (Action.KILL,)
PAUSES = (Action.PAUSE, Action.FORSAKE)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is done to a worker: at a moment, or so many seconds after its start."""

    action: Action
    moment: Moment | None = None
    after_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.action} {self.moment or f'after {self.after_s * 1000:.0f} ms'}"
