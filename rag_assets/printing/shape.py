"""How lines, tables and work under way are shown."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self, TypeVar

import click
from rich.console import Console
from rich.status import Status
from rich.text import Text

BRIEF = 160
"""How many letters of a list are shown that other places show in full."""


NAMED = 10
"""How many documents are named where their number says enough."""


Shown = TypeVar("Shown")


Piece = str | tuple[str, str]
"""Text, or text and its style."""


_STYLES: Mapping[str, Mapping[str, Any]] = {
    "bold": {"bold": True},
    "dim": {"dim": True},
    "cyan": {"fg": "cyan"},
    "good": {"fg": "green"},
    "bad": {"fg": "red"},
    "odd": {"fg": "yellow"},
}


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What would move the cursor or rename the window, if a document holds it."""


def say(*pieces: Piece) -> None:
    """A line on standard output, without colours where it is no terminal or NO_COLOR is set."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    click.echo("".join(map(_rendered, pieces)), color=False if plain else None)


def _rendered(piece: Piece) -> str:
    text, style = (piece, None) if isinstance(piece, str) else piece
    shown = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)
    return click.style(shown, **_STYLES[style]) if style else shown


class Doing:
    """What is being done right now, on standard error: it moves where that is a terminal."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._console = Console(stderr=True)
        self._status = Status(Text(what), console=self._console, spinner="line")

    def __enter__(self) -> Self:
        if self._console.is_interactive:
            self._status.start()
        else:
            self.tell(self._what)
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def now(self, what: str) -> None:
        """Says what comes next; one line is enough for a log."""
        self._status.update(Text(what))

    def tell(self, what: str) -> None:
        """A line that stays."""
        self.aside(lambda line: click.echo(line, err=True))(f"… {what}")

    def aside(self, show: Callable[[Shown], None]) -> Callable[[Shown], None]:
        """Makes way for something that is shown meanwhile, for both share one terminal."""

        def shows(what: Shown) -> None:
            self._status.stop()
            show(what)
            if self._console.is_interactive:
                self._status.start()

        return shows


def time_of(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Whole lines, also where the terminal is narrow."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for number, line in enumerate(lines):
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        text = "  ".join(cells).rstrip()
        say((text, "dim") if number == 0 else text)


def odd(text: str) -> None:
    say("  ", ("!", "odd"), f" {text}")


def published(generation: int | None) -> str:
    return "nothing published" if generation is None else f"generation {generation} published"


def counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
