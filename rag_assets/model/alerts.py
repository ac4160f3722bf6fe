"""Messages to people."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Urgency(StrEnum):
    """The most urgent first; in the words of PagerDuty."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class AlertPhase(StrEnum):
    OPENED = "opened"
    REMINDED = "reminded"
    """It is still so."""
    RECOVERED = "recovered"
    NEWS = "news"
    TRIAL = "trial"


@dataclass(frozen=True, slots=True)
class Alert:
    """A message to people: what, since when, where to look and what to do."""

    id: str
    """The same for one that is delivered twice."""
    phase: AlertPhase
    corpus: str
    cause: str
    """All messages of one cause are of one incident."""
    title: str
    urgency: Urgency
    since: datetime
    at: datetime
    detail: str = ""
    count: int = 1
    run_url: str | None = None
    runbook: str | None = None
    """The address of the page, or where it stands in the repository."""
