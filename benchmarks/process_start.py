"""What it costs to start: CPU seconds of new processes, and how they compare.

    python benchmarks/process_start.py [rounds]

The definitions are held against `import dagster`, the command line against a budget in seconds,
because the first is dominated by Dagster and the second must not know it. The best of the rounds
counts: other processes of the machine can only add.
"""

import os
import subprocess
import sys
from dataclasses import dataclass

PYTHON = (sys.executable, "-c")


@dataclass(frozen=True, slots=True)
class Start:
    name: str
    command: tuple[str, ...]


BASE = Start("import dagster", (*PYTHON, "import dagster"))
DEFINITIONS = Start("import rag_assets.definitions", (*PYTHON, "import rag_assets.definitions"))
HELP = Start("rag-assets --help", (sys.executable, "-m", "rag_assets.cli", "--help"))
BARE = Start("python", (*PYTHON, "pass"))

MOST_OF_DAGSTER = 1.3
MOST_OF_HELP_S = 0.3


def cpu_seconds(start: Start) -> float:
    before = os.times()
    subprocess.run(start.command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    )


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    starts = (BARE, HELP, BASE, DEFINITIONS)
    best = {start.name: float("inf") for start in starts}
    for _ in range(rounds + 1):  # one more, for the first writes bytecode
        for start in starts:
            best[start.name] = min(best[start.name], cpu_seconds(start))
    for name, seconds in best.items():
        print(f"{name:32} {seconds:6.2f} CPU s")
    ratio = best[DEFINITIONS.name] / best[BASE.name]
    print(f"definitions / dagster            {ratio:6.2f}, at most {MOST_OF_DAGSTER}")
    print(
        f"rag-assets --help                {best[HELP.name]:6.2f} CPU s, at most {MOST_OF_HELP_S}"
    )
    return 0 if ratio <= MOST_OF_DAGSTER and best[HELP.name] <= MOST_OF_HELP_S else 1


if __name__ == "__main__":
    sys.exit(main())
