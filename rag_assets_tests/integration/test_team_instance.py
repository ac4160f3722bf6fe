"""The instance of a team, deploy/dagster.yaml, started for real: its storage is in PostgreSQL."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import dagster as dg
import psutil
import psycopg
import pytest

from rag_assets.adapters.embedded_postgres import EmbeddedPostgres
from rag_assets.resources import CORPUS_TAG

SETTINGS = Path(__file__).parents[2] / "deploy" / "dagster.yaml"
PATIENCE_S = 120
POOL = "generation_builds"
DEFINITIONS = """
import os, time
from pathlib import Path

import dagster as dg

FOLDER = Path(__file__).parent


@dg.op(out=dg.Out(dg.Nothing))
def look() -> None: ...


@dg.op(pool="generation_builds", ins={"looked": dg.In(dg.Nothing)})
def build(context: dg.OpExecutionContext) -> None:
    (FOLDER / f"{context.run_id}.pid").write_text(str(os.getpid()))
    while not (FOLDER / "go_on").exists():
        time.sleep(0.1)


@dg.job(executor_def=dg.in_process_executor)
def building() -> None:
    build(look())


defs = dg.Definitions(jobs=[building])
"""
LAUNCH = """
mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
QUICKER = {
    "poll_interval_seconds: 30": "poll_interval_seconds: 2",
    "free_slots_after_run_end_seconds: 60": "free_slots_after_run_end_seconds: 1",
    "        limit: 3\n": "        limit: 1\n",
}
"""Only how often one looks is changed for the test, and how many runs it takes to reach a limit."""


@dataclass(frozen=True)
class Team:
    url: str
    folder: Path
    instance: dg.DagsterInstance

    def launch(self, corpus: str) -> str:
        answer = self.asked(
            LAUNCH,
            params={
                "selector": {
                    "repositoryLocationName": "team_definitions",
                    "repositoryName": "__repository__",
                    "jobName": "building",
                },
                "runConfigData": {},
                "executionMetadata": {"tags": [{"key": CORPUS_TAG, "value": corpus}]},
            },
        )["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def asked(self, question: str, **variables: Any) -> Any:
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        body = json.dumps({"query": question, "variables": variables})
        connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer["data"]

    def status(self, run_id: str) -> str:
        run = self.instance.get_run_by_id(run_id)
        return run.status.value if run else "gone"

    def statuses(self, run_ids: Sequence[str]) -> list[str]:
        return sorted(map(self.status, run_ids))

    def building(self) -> dict[str, int]:
        """Runs that are or were inside the pool, and their processes."""
        return {file.stem: int(file.read_text() or 0) for file in self.folder.glob("*.pid")}


@pytest.fixture
def storage_url(server: EmbeddedPostgres) -> Iterator[str]:
    """A database of Dagster's own with a role of its own, at the folder of a socket."""
    admin = server.admin_url(database="postgres")
    assert admin is not None
    place = psycopg.conninfo.conninfo_to_dict(admin)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("CREATE ROLE dagster_team LOGIN PASSWORD 'of the team'")
        connection.execute("CREATE DATABASE dagster_team OWNER dagster_team")
        yield (
            f"postgresql+psycopg2://dagster_team:{quote('of the team')}@/dagster_team"
            f"?host={quote(str(place['host']), safe='')}&port={place.get('port', 5432)}"
        )
        connection.execute("DROP DATABASE dagster_team WITH (FORCE)")
        connection.execute("DROP ROLE dagster_team")


@pytest.fixture
def team(storage_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    """Web server, daemon and code server over small definitions."""
    home, port = tmp_path / "home", _free_port()
    home.mkdir()
    settings = SETTINGS.read_text()
    for slow, quick in QUICKER.items():
        assert slow in settings
        settings = settings.replace(slow, quick)
    (home / "dagster.yaml").write_text(settings)
    (tmp_path / "team_definitions.py").write_text(DEFINITIONS)
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", storage_url)
    with (
        dg.DagsterInstance.from_config(str(home)) as instance,
        _running(tmp_path, home, port, storage_url),
    ):
        url = f"http://127.0.0.1:{port}"
        _becomes(lambda: _answers(port), what="the web server answers")
        yield Team(url, tmp_path, instance)


def test_a_team_shares_a_queue_with_limits_and_a_killed_run_is_begun_again(team: Team) -> None:
    team.instance.event_log_storage.set_concurrency_slots(POOL, 1)
    assert team.instance.global_op_concurrency_default_limit == 4

    first = [team.launch("sagas") for _ in range(2)]
    other = team.launch("recipes")
    begun = ["QUEUED", "STARTED"]
    _becomes(lambda: team.statuses(first) == begun, what="as many of a corpus run as may")
    _becomes(lambda: team.status(other) == "STARTED", what="another corpus does not wait for it")

    _becomes(lambda: len(team.building()) == 1, what="one run is in the pool")
    time.sleep(2)
    [(killed, pid)] = team.building().items()
    os.kill(pid, signal.SIGKILL)
    _becomes(lambda: team.status(killed) == "FAILURE", what="it is told to have failed")
    _becomes(lambda: _retried(team, killed) is not None, what="it is begun again")
    _becomes(lambda: len(team.building()) == 2, what="its place in the pool is given to another")

    (team.folder / "go_on").touch()
    again = _retried(team, killed)
    assert again is not None
    left = [*(run for run in (*first, other) if run != killed), again]
    _becomes(lambda: set(team.statuses(left)) == {"SUCCESS"}, what="all of them end well")
    assert team.status(killed) == "FAILURE"


def _retried(team: Team, run_id: str) -> str | None:
    runs = team.instance.get_runs(dg.RunsFilter(tags={"dagster/parent_run_id": run_id}))
    return runs[0].run_id if runs else None


class _running:  # noqa: N801 # reads as a context
    """`dagster dev`, which also starts children: all of them are ended."""

    def __init__(self, folder: Path, home: Path, port: int, storage_url: str) -> None:
        self._log = folder / "dagster.log"
        self._command = (
            *(sys.executable, "-m", "dagster", "dev", "-m", "team_definitions"),
            *("--host", "127.0.0.1", "--port", str(port)),
        )
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(folder),
            "DAGSTER_HOME": str(home),
            "DAGSTER_POSTGRES_URL": storage_url,
            "DAGSTER_DISABLE_TELEMETRY": "1",
        }

    def __enter__(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._log.parent,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __exit__(self, kind: object, *_: object) -> None:
        ours = [*psutil.Process(self._process.pid).children(recursive=True)]
        for process in (psutil.Process(self._process.pid), *ours):
            if process.is_running():
                process.kill()
        self._process.wait(timeout=20)
        psutil.wait_procs(ours, timeout=20)
        if kind is not None:
            sys.stdout.write(self._log.read_text(errors="replace")[-5000:])


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/server_info")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _becomes(claim: Callable[[], bool], *, what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not claim():
        if time.monotonic() > end:
            pytest.fail(f"not within {PATIENCE_S} seconds: {what}")
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
