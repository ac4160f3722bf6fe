"""Runs `rag-assets` as its users do: in a process of its own, with an environment of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from rag_assets.cli import main

PROGRAM = (sys.executable, "-m", "rag_assets.cli")
ROOT = Path(__file__).parents[2]
OWN = ("RAG_ASSETS_", "DAGSTER_", "PYTHON", "LC_", "LANG")
"""Beginnings of variables that a test sets itself."""


@dataclass(frozen=True)
class Done:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on standard output."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one message of a command that failed; what was going on before does not count."""
        lines = [line for line in self.err.splitlines() if not line.startswith("… ")]
        assert self.code == 1, self
        assert lines[0].startswith("Error: "), self
        assert "Traceback" not in self.out + self.err
        assert self.err.count("Error: ") == 1, self
        return "\n".join(lines).removeprefix("Error: ")


@dataclass(frozen=True)
class Shell:
    """A working folder, and a home for the services."""

    folder: Path
    home: Path

    def run(self, *words: str, **variables: str) -> Done:
        process = self.start(*words, **variables)
        out, err = process.communicate(timeout=120)
        return Done(process.returncode, out, err)

    def run_here(self, *words: str, **variables: str) -> Done:
        """In this process: the same command without the second that its imports take."""
        ours = {"RAG_ASSETS_HOME": str(self.home), "RAG_ASSETS_DEFS": str(self.folder / "defs")}
        with chdir(self.folder):
            result = CliRunner().invoke(main, words, env={**ours, **variables})
        return Done(result.exit_code, result.stdout, result.stderr)

    def start(self, *words: str, **variables: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*PROGRAM, *words],
            cwd=self.folder,
            env=self.environment(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogateescape",
        )

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        theirs = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
        ours = {"RAG_ASSETS_HOME": str(self.home), "PYTHONPATH": str(ROOT)}
        return {**theirs, **ours, **variables}


class Project:
    """A user's folder with one corpus in it, and a shell there."""

    def __init__(self, folder: Path, home: Path, corpus: str, **variables: str) -> None:
        self.corpus = corpus
        self.variables = variables
        self.documents = folder / "documents"
        self.file = folder / "defs" / corpus / "defs.yaml"
        self.shell = Shell(folder, home)
        self.documents.mkdir()
        self.file.parent.mkdir(parents=True)
        self.declare()

    def declare(self, *settings: str, source: str = "../../documents") -> None:
        """Writes the corpus file, with these settings beside its source."""
        lines = [
            "type: rag_assets.components.Corpus",
            "attributes:",
            f"  source: {{local_files: {{path: {source}}}}}",
            *(f"  {setting}" for setting in settings),
        ]
        self.file.write_text("\n".join(lines) + "\n")

    def write(self, documents: dict[str, str]) -> None:
        for name, text in documents.items():
            (self.documents / name).write_text(text)

    def run(self, *words: str, **variables: str) -> Done:
        return self.shell.run(*words, **(self.variables | variables))

    def materialized(self, *words: str) -> dict[str, dict[str, int]]:
        """What each asset did in a run that succeeds: asset to counts."""
        done = self.here("materialize", "--json", *words)
        assert done.code == 0, done
        return {each["asset"]: each["did"] for each in done.json["assets"]}

    def here(self, *words: str, **variables: str) -> Done:
        return self.shell.run_here(*words, **(self.variables | variables))

    def ask(self, *words: str) -> Done:
        return self.here("ask", "--corpus", self.corpus, *words)

    def generations(self) -> list[tuple[int, str]]:
        """Number and state, oldest first."""
        corpora = self.here("status", "--json").json["corpora"]
        (found,) = (each for each in corpora if each["corpus"] == self.corpus)
        return [(each["generation"], each["state"]) for each in found["generations"]]


@contextmanager
def in_the_middle(shell: Shell, *words: str, after: str) -> Iterator["subprocess.Popen[str]"]:
    """A command that runs, as soon as its output has a line with these words."""
    process = shell.start(*words, PYTHONUNBUFFERED="1")
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if after in line:
                break
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: "subprocess.Popen[str]") -> Done:
    out, err = process.communicate(timeout=60)
    return Done(process.returncode, out, err)
