"""A problem of a `defs.yaml`, and where it stands."""

from dataclasses import dataclass
from pathlib import Path

Steps = tuple[str | int, ...]
"""The way to a setting: `("attributes", "acl", 0)`."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Counted from 1, as editors do."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend: where, what, and how."""

    file: Path
    message: str
    suggestion: str | None = None
    path: str = ""
    line: int | None = None
    column: int | None = None

    @classmethod
    def at(
        cls,
        place: Place,
        file: Path,
        steps: Steps,
        message: str,
        suggestion: str | None = None,
    ) -> "Problem":
        return cls(file, message, suggestion, dotted(steps), place.line, place.column)

    def __str__(self) -> str:
        where = str(self.file) if self.line is None else f"{self.file}:{self.line}"
        advice = f"; {self.suggestion}" if self.suggestion else ""
        return ": ".join(part for part in (where, self.path, self.message + advice) if part)


def dotted(steps: Steps) -> str:
    """The way to a setting, as people write it.

    >>> dotted(("attributes", "acl", 0))
    'attributes.acl[0]'
    """
    parts = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps]
    return "".join(parts).removeprefix(".")
