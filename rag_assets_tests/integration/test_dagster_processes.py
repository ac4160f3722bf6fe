"""Dagster's own processes, started and ended for real, with small definitions in place of ours."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from rag_assets.adapters.dagster_processes import MARK, SETTINGS, DagsterProcesses, port_problem
from rag_assets.errors import ServerError
from rag_assets.resources import CORPUS_TAG

DEFINITIONS = """
import dagster as dg

@dg.asset
def one() -> None: ...

defs = dg.Definitions([one])
"""
QUESTION = (
    "{instance {info} locationStatusesOrError"
    " {... on WorkspaceLocationStatusEntries {entries {name}}}}"
)
LAUNCH = """
mutation { launchRun(executionParams: {runConfigData: {}, selector: {
  repositoryLocationName: "tiny_definitions", repositoryName: "__repository__",
  jobName: "__ASSET_JOB", assetSelection: [{path: ["one"]}]}}) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
STATUS = '{ runOrError(runId: "%s") { ... on Run { status } } }'
SLEEPER = "import time; time.sleep(300)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where the small definitions can be imported."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "tiny_definitions.py").write_text(DEFINITIONS)
    return {**os.environ, "PYTHONPATH": str(folder)}


@pytest.fixture(scope="module")
def dagster(
    tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> Iterator[DagsterProcesses]:
    home = tmp_path_factory.mktemp("dagster") / "home of it"
    dagster = DagsterProcesses(
        home, port=_free_port(), environment=environment, module="tiny_definitions"
    )
    assert dagster.start()
    yield dagster
    dagster.stop()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder that remembers a start with this mark."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "dagster.json").write_text(json.dumps({"mark": "ours", "port": _free_port()}))
    return home


@pytest.fixture
def quick(home: Path) -> DagsterProcesses:
    return DagsterProcesses(home, port=_free_port(), environment=os.environ, patience_s=1.0)


def test_the_interface_answers_with_our_definitions_and_our_settings(
    dagster: DagsterProcesses,
) -> None:
    dagster.start()
    status = dagster.status()
    assert status.running
    answer = _ask(status.url, QUESTION)
    assert "telemetry:\n  enabled: false" in answer["instance"]["info"]
    locations = answer["locationStatusesOrError"]["entries"]
    assert [location["name"] for location in locations] == ["tiny_definitions"]


def test_dagster_understands_the_settings(tmp_path: Path) -> None:
    import dagster as dg

    (tmp_path / "dagster.yaml").write_text(SETTINGS)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert instance.run_monitoring_enabled
        assert instance.run_coordinator.dequeue_interval_seconds == 1  # type: ignore[attr-defined] # of the queue, which is the default
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == 4
        [limit] = queue.tag_concurrency_limits
        assert (limit["key"], limit["limit"]) == (CORPUS_TAG, 3), "one place is left for others"
        assert instance.run_retries_enabled
        assert instance.run_retries_max_retries == 1
        assert not instance.run_retries_retry_on_asset_or_op_failure
        for daemon in ("sensors", "schedules", "auto_materialize"):
            assert instance.get_settings(daemon)["use_threads"], daemon


def test_a_run_goes_through_the_queue(dagster: DagsterProcesses) -> None:
    dagster.start()
    url = dagster.status().url
    launched = _ask(url, LAUNCH)["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    status = STATUS % launched["run"]["runId"]
    assert _becomes(lambda: _ask(url, status)["runOrError"]["status"] == "SUCCESS", timeout_s=90)


def test_nothing_is_reported_to_anybody(dagster: DagsterProcesses) -> None:
    dagster.start()
    for pid in dagster.status().pids:
        assert psutil.Process(pid).environ()["DAGSTER_DISABLE_TELEMETRY"] == "1"
    assert not (dagster.home / ".telemetry").exists()
    assert not (dagster.home / "logs").exists()


def test_starting_again_says_that_it_runs_even_if_another_port_is_wanted(
    dagster: DagsterProcesses, environment: dict[str, str]
) -> None:
    dagster.start()
    before = dagster.status()
    again = DagsterProcesses(dagster.home.parent, port=_free_port(), environment=environment)
    assert not again.start()
    assert again.status() == before


def test_a_second_interface_on_the_same_port_is_refused_by_name(
    dagster: DagsterProcesses, tmp_path: Path
) -> None:
    dagster.start()
    port = urlsplit(dagster.status().url).port
    assert port is not None
    other = DagsterProcesses(tmp_path / "home", port=port, environment=os.environ)
    with pytest.raises(ServerError, match=rf"Port {port} is in use.*RAG_ASSETS_PORT={port + 1}"):
        other.start()
    with pytest.raises(ServerError, match=f"Port {port} is in use"):
        other.examine()
    assert not other.status().running, "somebody else's answer does not count"
    assert dagster.status().running


def test_it_is_out_of_reach_of_the_terminal(dagster: DagsterProcesses) -> None:
    dagster.start()
    for pid in dagster.status().pids:
        assert os.getsid(pid) != os.getsid(0)
        assert psutil.Process(pid).terminal() is None


def test_after_a_kill_of_the_parent_the_children_are_found_and_replaced(
    dagster: DagsterProcesses,
) -> None:
    dagster.start()
    before = set(dagster.status().pids)
    parent = min(before, key=lambda pid: psutil.Process(pid).create_time())
    os.kill(parent, signal.SIGKILL)
    assert _becomes(lambda: not _lives(parent))
    left = set(dagster.status().pids)
    assert left
    assert parent not in left
    assert dagster.stop()
    assert not any(_lives(pid) for pid in before | left)
    assert dagster.status().pids == ()
    assert not dagster.stop(), "there is nothing left to stop"


def test_an_instance_that_cannot_work_shows_the_end_of_its_log_and_leaves_no_process(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    home = tmp_path / "home"
    (home / "dagster").mkdir(parents=True)
    home.chmod(0o700)
    (home / "lock").touch()
    (home / "dagster" / "history").write_text("a file where Dagster wants a folder")
    dagster = DagsterProcesses(
        home, port=_free_port(), environment=environment, module="tiny_definitions"
    )
    with pytest.raises(ServerError, match="The Dagster UI did not start") as caught:
        dagster.start()
    assert "history" in str(caught.value)
    assert str(dagster.log) in str(caught.value)
    assert dagster.status().pids == ()


# --- whom a stop ends, and whom it does not ----------------------------------------------------


def test_a_child_that_dropped_the_mark_and_moved_to_another_session_is_ended_too(
    quick: DagsterProcesses,
) -> None:
    run = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', %r], env={}, start_new_session=True).pid, flush=True); import time; time.sleep(300)"
    with _process(run % SLEEPER, mark="ours") as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert quick.stop()
        assert not _lives(child)
        assert not _lives(parent.pid)


def test_one_that_ignores_the_request_is_killed(quick: DagsterProcesses) -> None:
    with _process(f"print(1, flush=True); {STUBBORN}", mark="ours") as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        with pytest.raises(ServerError, match=f"its processes .*{stubborn.pid}.* live"):
            quick.examine()
        assert quick.stop()
        assert stubborn.wait(timeout=5) == -signal.SIGKILL


def test_nobody_else_is_ended(quick: DagsterProcesses) -> None:
    with _process(SLEEPER, mark="theirs") as other, _process(SLEEPER) as unmarked:
        assert not quick.stop()
        assert other.poll() is None
        assert unmarked.poll() is None


def test_a_record_that_cannot_be_read_proves_nothing(home: Path, quick: DagsterProcesses) -> None:
    (home / "dagster.json").write_text('{"mark": ')
    with _process(SLEEPER, mark="ours") as process:
        assert not quick.stop()
        assert process.poll() is None


def test_stopping_what_never_was_is_harmless(tmp_path: Path) -> None:
    dagster = DagsterProcesses(tmp_path / "none", port=_free_port(), environment={})
    assert not dagster.stop()
    assert not dagster.status().running
    assert not (tmp_path / "none").exists()


def test_a_port_is_free_or_the_problem_names_another() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"Port {port} is in use" in str(port_problem(port))
    assert port_problem(port) is None


# --- the words of the tests --------------------------------------------------------------------


class _process:  # noqa: N801 # reads as a context
    def __init__(self, code: str, *, mark: str | None = None) -> None:
        self._code = code
        self._environment = {**os.environ, **({MARK: mark} if mark else {})}

    def __enter__(self) -> "subprocess.Popen[str]":
        self._process = subprocess.Popen(
            [sys.executable, "-c", self._code],
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self._process

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ask(url: str, question: str) -> Any:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/graphql", json.dumps({"query": question}), headers)
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer["data"]


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _becomes(claim: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    end = time.monotonic() + timeout_s
    while not claim():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
