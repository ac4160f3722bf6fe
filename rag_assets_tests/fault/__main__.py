"""The crash tester by hand: random trials by number, by time, or one by its seed.

python -m rag_assets_tests.fault --trials 200
python -m rag_assets_tests.fault --minutes 30
python -m rag_assets_tests.fault --seed 17
python -m rag_assets_tests.fault --seed 17 --mutant "no fence" --trials 5
python -m rag_assets_tests.fault --generations
"""

import argparse
import itertools
import math
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

from rag_assets_tests.fault.chance import random_trial
from rag_assets_tests.fault.lifetimes import DEEDS, PAIRS, lives
from rag_assets_tests.fault.mutants import MUTANTS
from rag_assets_tests.fault.report import Report
from rag_assets_tests.fault.trials import Findings
from rag_assets_tests.fault.world import World, world

SAY_EVERY = 10
"""Trials."""


def main() -> int:
    options = _options()
    first = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    until = time.monotonic() + options.minutes * 60 if options.minutes else None
    report = Report()
    print(f"seed {first}", flush=True)
    with world() as ground, suppress(KeyboardInterrupt):  # what was found until then is told
        for findings in _findings(ground, first, options):
            report.add(findings)
            if not report.trials[-1].clean:
                print(report.failures()[-1], flush=True)
            if len(report.trials) % SAY_EVERY == 0:
                print(f"{len(report.trials)} trials, {report.faults.total()} faults", flush=True)
            trials = math.inf if options.generations else options.trials
            if time.monotonic() > until if until else len(report.trials) >= trials:
                break
    print(report.text())
    return int(bool(report.broken))


def _findings(ground: World, first: int, options: argparse.Namespace) -> Iterator[Findings]:
    if not options.generations:
        for seed in itertools.count(first):
            yield random_trial(ground, seed, mutant=options.mutant)
    for deed in (*DEEDS, *PAIRS):
        yield from lives(ground, deed, seed=first)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, help="of the first trial; each next one has the next")
    parser.add_argument("--trials", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="as many trials as fit")
    parser.add_argument(
        "--generations", action="store_true", help="all moments of all that is done to generations"
    )
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS], help="a broken protocol")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
