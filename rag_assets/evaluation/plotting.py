"""Scores over time as a picture that the pages of Dagster show."""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from itertools import pairwise
from math import ceil, floor

from rag_assets.model import ScoredPoint

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 44, 34
COLOURS = ("#1f5fbf", "#c05a00", "#2a7f3f", "#8a3fa0")
STEP = 0.1
MOST_POINTS = 150
"""A picture is part of each materialization, and should stay small."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """From times and scores to places in the picture."""

    first: float
    last: float
    low: float
    high: float

    def x(self, at: datetime) -> float:
        span = self.last - self.first
        share = (at.timestamp() - self.first) / span if span else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def plot(
    points: Sequence[ScoredPoint],
    metrics: Sequence[str],
    *,
    tolerated: Mapping[str, tuple[float, float]] | None = None,
    title: str = "Scores of what readers are served",
) -> str:
    """An SVG of the means of some metrics, each with the band within which it may fall.

    A line is broken where the questions changed, and a vertical line shows where readers were given
    another generation. Without any point, an empty string.
    """
    shown = sorted(points, key=lambda each: each.scored_at)[-MOST_POINTS:]
    named = [metric for metric in metrics if any(metric in each.metrics for each in shown)]
    if not named:
        return ""
    bands = {name: band for name, band in (tolerated or {}).items() if name in named}
    frame = _frame(shown, named, bands)
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(named)}
    drawn = [
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        *_grid(frame),
        *_dates(shown),
        *_generations(shown, frame),
        *_bands(bands, colours, frame),
        *(each for name in named for each in _line(shown, name, colours[name], frame)),
        *_legend(title, colours),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"'
        f' height="{HEIGHT}" font-family="sans-serif" font-size="11"'
        f' role="img" aria-label="{escape(title)}">{"".join(drawn)}</svg>'
    )


def as_markdown(svg: str, description: str) -> str:
    """The picture within the text: nothing is loaded for it.

    >>> as_markdown("<svg/>", "Scores")
    '![Scores](data:image/svg+xml;base64,PHN2Zy8+)'
    """
    data = b64encode(svg.encode()).decode()
    return f"![{description}](data:image/svg+xml;base64,{data})"


def _frame(
    points: Sequence[ScoredPoint], named: Sequence[str], bands: Mapping[str, tuple[float, float]]
) -> _Frame:
    values = [each.metrics[name] for each in points for name in named if name in each.metrics]
    values += [value for band in bands.values() for value in band]
    low = max(0.0, floor(min(values) / STEP - 0.2) * STEP)
    high = min(1.0, ceil(max(values) / STEP + 0.2) * STEP)
    times = [each.scored_at.timestamp() for each in points]
    return _Frame(min(times), max(times), low, max(high, low + STEP))


def _grid(frame: _Frame) -> Iterator[str]:
    for tick in range(round(frame.low / STEP), round(frame.high / STEP) + 1):
        y = frame.y(tick * STEP)
        yield f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="#ddd"/>'
        yield _text(LEFT - 6, y + 4, f"{tick * STEP:.1f}", anchor="end")


def _dates(points: Sequence[ScoredPoint]) -> Iterator[str]:
    first, last = points[0].scored_at, points[-1].scored_at
    y = HEIGHT - BOTTOM + 18
    if first.date() == last.date():
        yield _text(WIDTH - RIGHT, y, f"{last:%Y-%m-%d}", anchor="end")
    else:
        yield _text(LEFT, y, f"{first:%Y-%m-%d}")
        yield _text(WIDTH - RIGHT, y, f"{last:%Y-%m-%d}", anchor="end")


def _generations(points: Sequence[ScoredPoint], frame: _Frame) -> Iterator[str]:
    starts = [
        points[0],
        *(new for old, new in pairwise(points) if new.generation != old.generation),
    ]
    for number, each in enumerate(starts):
        x = frame.x(each.scored_at)
        if number:
            yield (f'<path d="M{x} {TOP}V{HEIGHT - BOTTOM}" stroke="#888" stroke-dasharray="4 3"/>')
        anchor = "end" if x > WIDTH - 90 else "start"
        yield _text(
            x + (-3 if anchor == "end" else 3),
            TOP - 4,
            f"generation {each.generation}",
            anchor=anchor,
        )


def _bands(
    bands: Mapping[str, tuple[float, float]], colours: Mapping[str, str], frame: _Frame
) -> Iterator[str]:
    for name, (low, high) in bands.items():
        top, bottom = frame.y(high), frame.y(low)
        yield (
            f'<rect x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}"'
            f' height="{round(bottom - top, 1)}" fill="{colours[name]}" opacity="0.1"/>'
        )
        yield (
            f'<path d="M{LEFT} {bottom}H{WIDTH - RIGHT}" stroke="{colours[name]}"'
            ' stroke-dasharray="2 4"/>'
        )


def _line(points: Sequence[ScoredPoint], name: str, colour: str, frame: _Frame) -> Iterator[str]:
    path, golden_set = "", None
    for each in points:
        if name not in each.metrics:
            continue
        x, y = frame.x(each.scored_at), frame.y(each.metrics[name])
        path += f"{'L' if golden_set == each.golden_set else 'M'}{x} {y}"
        golden_set = each.golden_set
        yield f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>'
    yield f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _legend(title: str, colours: Mapping[str, str]) -> Iterator[str]:
    yield _text(LEFT, 16, title, weight="bold")
    x = WIDTH - RIGHT
    for name, colour in reversed(list(colours.items())):
        yield _text(x, 16, name, anchor="end", fill=colour, weight="bold")
        x -= 7 * len(name) + 14


def _text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    fill: str = "#333",
    weight: str = "normal",
) -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{fill}"'
        f' font-weight="{weight}">{escape(words)}</text>'
    )
