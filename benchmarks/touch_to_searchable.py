"""How long it takes from touching a file until its new text is found, with all that `up` starts.

    python -m benchmarks.touch_to_searchable [--touches 10] [--folder FOLDER]

Starts the platform in a temporary home, over a copy of the handbook or of FOLDER, waits until the
sensor has had everything indexed, and writes a new word into one file after the other. A word is
found when a search of the published index gives it. Where the time goes is read from Dagster's own
record of the run. Nothing else should run on the machine.
"""

import argparse
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import dagster as dg

from benchmarks.running_platform import ROOT, idle, platform, wait
from rag_assets import wiring
from rag_assets.errors import RagAssetsError
from rag_assets.model import PublishedIndex
from rag_assets.settings import Settings

CORPUS = "touched"
MOST_MEDIAN_S = 10.0
FIRST_S = 300.0
LONGEST_S = 120.0


@dataclass(frozen=True, slots=True)
class Touch:
    """Seconds, one after the other."""

    noticed: float
    """Until the run was asked for: the sensor came round and listed the source."""
    begun: float
    """Until its process was told to start: it was queued and taken from the queue."""
    started: float
    """Until that process had loaded everything, and the run began."""
    found: float
    """Until the text was found, while the run went on."""

    @property
    def total(self) -> float:
        return float(sum(astuple(self)))


class Reader:
    """Searches as the online half does: the published row, and the index that it names."""

    def __init__(self) -> None:
        self._index = wiring.search_index(wiring.database_urls(Settings.from_environment()))

    def is_published(self) -> bool:
        try:
            return bool(self._row())
        except RagAssetsError:
            return False

    def finds(self, word: str) -> bool:
        row = self._row()
        vector = wiring.embedder_for(row.question_embedder).embed_question(word)
        found = self._index.find(row, question=word, vector=vector, principals=["everyone"])
        return any(word in hit.text for hit in found.hits)

    def _row(self) -> PublishedIndex:
        return self._index.published(CORPUS)


def touch(file: Path, reader: Reader, instance: dg.DagsterInstance) -> Touch:
    word = "".join(random.choices("bcdfghklmnprstvz", k=12))
    with file.open("a") as text:
        text.write(f"\n\nThe password of this page is {word}.\n")
    written = time.time()
    found = wait(lambda: reader.finds(word), at_most_s=LONGEST_S, what=f"{file} was not found")
    run = next(iter(instance.get_run_records(limit=1)))
    wait(lambda: idle(instance), at_most_s=LONGEST_S, what="runs still went on")
    told = instance.get_run_stats(run.dagster_run.run_id)
    created = run.create_timestamp.timestamp()
    launched, started = told.launch_time or created, told.start_time or created
    return Touch(created - written, launched - created, started - launched, found - started)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--touches", type=int, default=10)
    options.add_argument("--folder", type=Path, default=ROOT / "docs")
    chosen = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("It was told to end."))  # and ends the rest
    with tempfile.TemporaryDirectory() as made:
        folder, home = Path(made, "documents"), Path(made, "home")
        shutil.copytree(chosen.folder, folder)
        with platform(CORPUS, folder, home) as running:
            touches = list(measured(folder, running.instance, number=chosen.touches))
    return shown(touches)


def measured(folder: Path, instance: dg.DagsterInstance, *, number: int) -> Iterator[Touch]:
    reader = Reader()
    wait(reader.is_published, at_most_s=FIRST_S, what="nothing was published")
    wait(lambda: idle(instance), at_most_s=FIRST_S, what="runs still went on")
    files = sorted(folder.rglob("*.md"))
    for file in random.sample(files, k=number):
        time.sleep(random.uniform(5, 12))
        each = touch(file, reader, instance)
        print(row(file.name[:28], each), flush=True)
        yield each


def row(name: str, each: Touch) -> str:
    parts = "  ".join(f"{seconds:7.2f}" for seconds in astuple(each))
    return f"{name:28}  {parts}  {each.total:7.2f}"


def shown(touches: list[Touch]) -> int:
    names = "  ".join(f"{field.name:>7}" for field in fields(Touch))
    print(f"\n{'seconds':28}  {names}    total")
    for name, chosen in (("median", statistics.median), ("longest", max)):
        columns = [chosen(column) for column in zip(*map(astuple, touches), strict=True)]
        total = chosen([each.total for each in touches])
        print(f"{name:28}  {'  '.join(f'{each:7.2f}' for each in columns)}  {total:7.2f}")
    median = statistics.median(each.total for each in touches)
    print(f"\nThe median may be {MOST_MEDIAN_S:.0f} s.")
    return 0 if median <= MOST_MEDIAN_S else 1


if __name__ == "__main__":
    sys.exit(main())
