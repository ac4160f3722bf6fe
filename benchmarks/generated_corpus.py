"""Writes a folder of Markdown that is like real documentation, the same for the same numbers.

The prose is made of sentences that come with Python, the manual behind `help()`: real words, as
often as people use them, under headings and between blocks of code. Sizes spread as those of
documentation do: many short pages, few long ones. One document in two hundred is a copy.
"""

import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MEDIAN_CHARS = 1_900
SPREAD = 0.9
"""Of the logarithm of sizes: the mean is half as large again as the median."""
LONGEST_CHARS = 60_000
COPIES_EVERY = 200
FOLDERS = 40


@dataclass(frozen=True, slots=True)
class Prose:
    sentences: tuple[str, ...]
    names: tuple[str, ...]


def write_corpus(folder: Path, documents: int) -> None:
    """Each document depends on its number alone: a larger corpus begins with a smaller one."""
    for number in range(documents):
        file = folder / path_of(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text_of(number), encoding="utf-8")


def path_of(number: int) -> str:
    """Spread over folders, as a site is over sections."""
    return f"section-{number % FOLDERS:02}/page-{number:06}.md"


def text_of(number: int, *, revision: int = 0) -> str:
    """A document as it is at a revision; each revision ends in another paragraph."""
    copied = number - 1 if number % COPIES_EVERY == COPIES_EVERY - 1 else number
    draw = random.Random(copied)
    parts = [*_sections(draw, _size(draw))]
    if revision:
        parts.append(_paragraph(random.Random(f"{number} {revision}")))
    return "\n\n".join(parts) + "\n"


def _size(draw: random.Random) -> int:
    return min(int(draw.lognormvariate(math.log(MEDIAN_CHARS), SPREAD)), LONGEST_CHARS)


def _sections(draw: random.Random, chars: int) -> Iterator[str]:
    yield f"# {_title(draw)}"
    written = 0
    while written < chars:
        if written:
            yield f"{'#' * draw.choice((2, 2, 3))} {_title(draw)}"
        for _ in range(draw.randint(1, 4)):
            block = _code(draw) if draw.random() < 0.15 else _paragraph(draw)
            written += len(block)
            yield block


def _title(draw: random.Random) -> str:
    words = draw.choice(prose().sentences).split()[: draw.randint(2, 6)]
    return " ".join(words).rstrip(",.;:").capitalize()


def _paragraph(draw: random.Random) -> str:
    return " ".join(draw.choices(prose().sentences, k=draw.randint(1, 6)))


def _code(draw: random.Random) -> str:
    name, *rest = draw.choices(prose().names, k=draw.randint(3, 8))
    body = "\n".join(f"    {each} = {name}({draw.randint(0, 999)})" for each in rest)
    return f"```python\ndef {name}():\n{body}\n```"


@cache
def prose() -> Prose:
    from pydoc_data import topics

    text = "\n\n".join(topics.topics[name] for name in sorted(topics.topics))
    paragraphs = (" ".join(each.split()) for each in re.split(r"\n\s*\n", text))
    sentences = {
        sentence
        for paragraph in paragraphs
        for sentence in re.split(r"(?<=[.!?]) ", paragraph)
        if re.fullmatch(r"[A-Z][^`\\<>=|]{30,400}[.!?]", sentence)
    }
    return Prose(
        tuple(sorted(sentences)), tuple(sorted(set(re.findall(r"\b[a-z_]{3,20}\b", text))))
    )
