"""Another embedding model under load: reads go on, edits go on, then it is taken back.

    python -m benchmarks.generation_swap [--documents 5000] [--rate 50] [--edit-every 15]

Starts the platform in a temporary home over generated documents, and asks it all the time, from
processes of their own. Then the setting `embedder` is changed and deployed: the platform builds,
scores and publishes another generation, while documents are changed and deleted. At the end it is
rolled back. No read may fail, none may give rows of two generations, every edit must be in both
generations, and going back may take a second.
"""

import argparse
import contextlib
import multiprocessing
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path
from threading import Event as Over
from threading import Thread

import dagster as dg

from benchmarks.generated_corpus import path_of, text_of, write_corpus
from benchmarks.running_platform import Platform, idle, platform, wait
from rag_assets import wiring
from rag_assets.corpus_file import read_corpus
from rag_assets.errors import RagAssetsError
from rag_assets.model import GenerationState, RunIdentity
from rag_assets.publishing import Publisher
from rag_assets.settings import DatabaseUrls, Settings

CORPUS = "swapped"
BEFORE, AFTER = "embedder: wordllama:l2_supercat_128", "embedder: wordllama:l2_supercat_256"
READERS = 2
LONGEST_BUILD_S = 3600.0
DELETE_EVERY = 5
MOST_ROLLBACK_S = 1.0
CALM_S = 15.0


@dataclass(frozen=True, slots=True)
class Read:
    """One request: when it began, how long it took, and of which generation its rows were."""

    at: float
    took_s: float
    generation: int = 0
    mixed: bool = False
    error: str = ""


def reading(
    urls: DatabaseUrls, rate: float, seed: int, over: Event, told: "multiprocessing.Queue[Read]"
) -> None:
    """Asks steadily, on one connection, until it is told to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    draw, due = random.Random(seed), time.monotonic()
    with wiring.search_index(urls) as index:
        while not over.is_set():
            due = max(due + 1 / rate, time.monotonic() - 1)  # what was missed is made up for
            time.sleep(max(0.0, due - time.monotonic()))
            question = " ".join(draw.sample(text_of(draw.randrange(200)).split(), k=6))
            at, began = time.time(), time.monotonic()
            try:
                row = index.published(CORPUS)
                vector = wiring.embedder_for(row.question_embedder).embed_question(question)
                found = index.find(row, question=question, vector=vector, principals=["everyone"])
                mixed = not found.hits or {each.generation for each in found.hits} != {
                    row.generation
                }
                told.put(Read(at, time.monotonic() - began, row.generation, mixed))
            except RagAssetsError as error:
                told.put(Read(at, time.monotonic() - began, error=str(error)))


@dataclass(slots=True)
class Readers:
    """Processes that read until the context ends; then what they saw is at hand."""

    urls: DatabaseUrls
    rate: float
    reads: list[Read] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator["Readers"]:
        spawn = multiprocessing.get_context("spawn")
        over, told = spawn.Event(), spawn.Queue()
        each_rate = self.rate / READERS
        processes = [
            spawn.Process(target=reading, args=(self.urls, each_rate, seed, over, told))
            for seed in range(READERS)
        ]
        for process in processes:
            process.start()
        collecting = Thread(target=self._collect, args=(told,), daemon=True)
        collecting.start()
        try:
            yield self
        finally:
            over.set()
            for process in processes:
                process.join(60)
            told.put(None)
            collecting.join()

    def _collect(self, told: "multiprocessing.Queue[Read | None]") -> None:
        while (read := told.get()) is not None:
            self.reads.append(read)

    def since(self, at: float) -> list[Read]:
        return [read for read in self.reads if read.at >= at]


@dataclass(slots=True)
class Editor:
    """Changes a document now and then, and deletes one of five; knows what must be found."""

    folder: Path
    documents: int
    every_s: float
    words: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator["Editor"]:
        over = Over()
        editing = Thread(target=self._edit, args=(over,), daemon=True)
        editing.start()
        try:
            yield self
        finally:
            over.set()
            editing.join()

    def _edit(self, over: Over) -> None:
        draw = random.Random(7)
        numbers = draw.sample(range(self.documents), k=min(self.documents, 1000))
        for count, number in enumerate(numbers):
            if over.wait(self.every_s):
                return
            name = path_of(number)
            if count % DELETE_EVERY == DELETE_EVERY - 1:
                (self.folder / name).unlink()
                self.deleted.append(name)
                continue
            word = "".join(draw.choices("bcdfghklmnprstvz", k=12))
            with (self.folder / name).open("a", encoding="utf-8") as text:
                text.write(f"\n\nThe password of this page is {word}.\n")
            self.words.append(word)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--documents", type=int, default=5000)
    options.add_argument("--rate", type=float, default=50, help="reads a second")
    options.add_argument("--edit-every", type=float, default=15, help="seconds")
    chosen = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("It was told to end."))  # and ends the rest
    with tempfile.TemporaryDirectory() as made:
        folder, home = Path(made, "documents"), Path(made, "home")
        write_corpus(folder, chosen.documents)
        with platform(CORPUS, folder, home, BEFORE) as running:
            return swap(running, chosen)


def swap(running: Platform, chosen: argparse.Namespace) -> int:
    urls = wiring.database_urls(Settings.from_environment())
    readers = Readers(urls, chosen.rate)
    editor = Editor(running.folder, chosen.documents, chosen.edit_every)
    wait(lambda: published(urls) == 1, at_most_s=LONGEST_BUILD_S, what="nothing was published")
    settle(running)
    print(f"Generation 1 of {chosen.documents} documents is published.", flush=True)
    with readers.running():
        time.sleep(CALM_S)
        calm_since, began = time.time() - CALM_S / 2, time.time()
        with editor.running():
            running.declare(AFTER)
            running.deploy()
            what = "the other model was not published"
            ended = wait(lambda: published(urls) == 2, at_most_s=LONGEST_BUILD_S, what=what)
            print(f"Generation 2 is published after {ended - began:.0f} s.", flush=True)
            time.sleep(CALM_S)
        settle(running)
        for said in failed_runs(running):
            print(said, flush=True)
        left = not_in_both(urls, editor)
        rolled_back_s = rolled_back(running, urls)
        time.sleep(CALM_S / 3)
    return shown(
        readers.reads,
        editor,
        left=left,
        rolled_back_s=rolled_back_s,
        calm_since=calm_since,
        began=began,
        ended=ended,
    )


def settle(running: Platform) -> None:
    """Until no run has been under way for longer than the sensors need."""
    calm = 0
    while calm < 8:
        wait(lambda: idle(running.instance), at_most_s=LONGEST_BUILD_S, what="runs still went on")
        time.sleep(2)
        calm = calm + 1 if idle(running.instance) else 0


def failed_runs(running: Platform) -> list[str]:
    """What each run that failed said of its steps: a swap should have none."""
    failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])
    steps = {dg.DagsterEventType.STEP_FAILURE}
    return [
        f"FAILED {run.job_name} {entry.step_key}: {entry.step_failure_data.error}"[:1500]
        for run in running.instance.get_runs(failed)
        for logged in running.instance.all_logs(run.run_id, of_type=steps)
        if (entry := logged.dagster_event)
    ]


def published(urls: DatabaseUrls) -> int:
    with contextlib.suppress(RagAssetsError), wiring.search_index(urls) as index:
        return index.published(CORPUS).generation
    return 0


def not_in_both(urls: DatabaseUrls, editor: Editor) -> list[str]:
    """Edits that some living generation does not serve, and deletions that it still does."""
    import psycopg

    wrong = []
    with psycopg.connect(urls.writer) as connection:
        connection.execute("SELECT set_config('rag_assets.principals', '{everyone}', true)")
        for generation in wiring.stores(urls).generations.living(CORPUS):
            served = f"rag_assets.served_{generation.number}"
            texts = f"SELECT string_agg(text, ' ') FROM {served} WHERE text LIKE '%%password%%'"
            found = (connection.execute(texts).fetchone() or ("",))[0] or ""
            names = f"SELECT DISTINCT doc_id FROM {served} WHERE doc_id = ANY (%s)"
            there = {row[0] for row in connection.execute(names, [editor.deleted])}
            wrong += [f"{generation.number}: {each}" for each in editor.words if each not in found]
            wrong += [f"{generation.number}: {each}" for each in there]
    return wrong


def rolled_back(running: Platform, urls: DatabaseUrls) -> float:
    """How long it takes until readers see the first generation again."""
    corpus = read_corpus(running.home.parent / "defs" / CORPUS)
    began = time.monotonic()
    target = Publisher(corpus, urls).roll_back(run=RunIdentity("benchmark", "benchmark"))
    took = time.monotonic() - began
    states = {each.number: each.state for each in wiring.stores(urls).generations.living(CORPUS)}
    assert target.number == 1, target
    assert states[1] is GenerationState.PUBLISHED, states
    return took


def shown(
    reads: Sequence[Read],
    editor: Editor,
    *,
    left: Sequence[str],
    rolled_back_s: float,
    calm_since: float,
    began: float,
    ended: float,
) -> int:
    failed = [read for read in reads if read.error]
    mixed = [read for read in reads if not read.error and read.mixed]
    whole_s = reads[-1].at - reads[0].at
    rate = len(reads) / whole_s
    print(f"reads                 {len(reads)} in {whole_s:.0f} s: {rate:.1f} a second")
    for name, since, until in (("before", calm_since, began), ("during", began, ended)):
        some = sorted(read.took_s for read in reads if since <= read.at < until)
        if some:
            middle, late = statistics.median(some), some[int(0.95 * (len(some) - 1))]
            print(f"latency {name}        p50 {1000 * middle:.0f} ms, p95 {1000 * late:.0f} ms")
    print(f"failed reads          {len(failed)} {failed[0].error if failed else ''}")
    print(f"mixed or empty        {len(mixed)}")
    print(f"edits and deletions   {len(editor.words)} and {len(editor.deleted)}")
    print(f"not in a generation   {len(left)} {', '.join(left[:3])}")
    print(f"going back            {1000 * rolled_back_s:.0f} ms")
    good = not failed and not mixed and not left and rolled_back_s <= MOST_ROLLBACK_S
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
