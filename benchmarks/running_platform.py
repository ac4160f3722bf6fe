"""All that `rag-assets up` starts, in a temporary home, for benchmarks of the whole."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

ROOT = Path(__file__).parents[1]
DEFS = """\
type: rag_assets.components.Corpus
attributes:
  source:
    local_files:
      path: {folder}
"""
LOCATIONS = "{ workspaceOrError { ... on Workspace { locationEntries { name } } } }"
RELOAD = 'mutation { reloadRepositoryLocation(repositoryLocationName: "%s") { __typename } }'


@dataclass(frozen=True, slots=True)
class Platform:
    """One corpus over a folder, with the UI and the daemon."""

    corpus: str
    folder: Path
    home: Path
    port: int
    instance: dg.DagsterInstance

    def declare(self, *settings: str) -> None:
        """Writes its defs.yaml; `deploy` takes it over."""
        lines = "".join(f"  {line}\n" for line in settings)
        declared(self.home, self.corpus).write_text(DEFS.format(folder=self.folder) + lines)

    def deploy(self) -> None:
        """As the button of the UI does."""
        workspace = self._asked(LOCATIONS)["workspaceOrError"]
        for location in workspace["locationEntries"]:
            self._asked(RELOAD % location["name"])

    def _asked(self, query: str) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            data=json.dumps({"query": query}).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["data"]


@contextmanager
def platform(corpus: str, folder: Path, home: Path, *settings: str) -> Iterator[Platform]:
    """Up, and watching the folder; down at the end."""
    port = free_port()
    file = declared(home, corpus)
    file.parent.mkdir(parents=True)
    os.environ |= {
        "RAG_ASSETS_HOME": str(home),
        "RAG_ASSETS_DEFS": str(file.parents[1]),
        "RAG_ASSETS_PORT": str(port),
    }
    file.write_text(DEFS.format(folder=folder) + "".join(f"  {line}\n" for line in settings))
    try:
        rag_assets("up")
        with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
            yield Platform(corpus, folder, home, port, instance)
    finally:
        rag_assets("down")


def declared(home: Path, corpus: str) -> Path:
    return home.parent / "defs" / corpus / "defs.yaml"


def rag_assets(*command: str) -> None:
    subprocess.run([sys.executable, "-m", "rag_assets.cli", *command], cwd=ROOT, check=True)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait(true: Callable[[], bool], *, at_most_s: float, what: str) -> float:
    """When it became true."""
    until = time.time() + at_most_s
    while not true():
        if time.time() > until:
            sys.exit(f"After {at_most_s:.0f} seconds {what}.")
        time.sleep(0.05)
    return time.time()


def idle(instance: dg.DagsterInstance) -> bool:
    going = [
        dg.DagsterRunStatus.QUEUED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
    ]
    return not instance.get_runs(dg.RunsFilter(statuses=going), limit=1)
