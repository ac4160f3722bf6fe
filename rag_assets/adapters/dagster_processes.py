"""The Dagster UI and daemon of one home folder, started and ended with all they have started.

`dagster dev` leaves children behind when it dies: code servers, run workers. Each of them inherits
a random mark in its environment, by which it is found whatever its parent and session are. A
process without the mark that none of them started is never touched.
"""

import errno
import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from rag_assets.adapters.home_folder import (
    HomeFolder,
    explained,
    opened_log,
    tail,
    wait_until,
    write_private,
)
from rag_assets.errors import ServerError

HOST = "127.0.0.1"
MARK = "RAG_ASSETS_STARTED_BY"
SETTINGS = """\
# Written by `rag-assets up` at each start. Without a `storage` Dagster keeps its runs in SQLite.
telemetry:
  enabled: false
nux:
  enabled: false # no welcome dialog that asks for an address

sensors: # in threads: a source that answers slowly holds up no other corpus
  use_threads: true
  num_workers: 8
schedules:
  use_threads: true
  num_workers: 4
auto_materialize:
  use_threads: true
  num_workers: 4

run_queue:
  dequeue_interval_seconds: 1 # a change at the source is not to wait for a poll

concurrency:
  runs:
    max_concurrent_runs: 4
    tag_concurrency_limits: # no corpus takes the places of all others
      - key: rag_assets/corpus
        value:
          applyLimitPerUniqueValue: true
        limit: 3

run_monitoring: # a run whose process was killed is told to have failed
  enabled: true
  poll_interval_seconds: 20
  start_timeout_seconds: 120
  cancel_timeout_seconds: 60

run_retries: # and is begun once more; a step that fails has its own retries, and the repair loop
  enabled: true
  max_retries: 1
  retry_on_asset_or_op_failure: false

retention:
  schedule:
    purge_after_days: { skipped: 3, success: 30, failure: 30 }
  sensor:
    purge_after_days: { skipped: 3, success: 30, failure: 30 }
  auto_materialize:
    purge_after_days: { skipped: 3, success: 30, failure: 30 }
"""
# Exits at once, so that what it starts is nobody's child. A shell's `&` would make it ignore
# SIGINT, and with that Dagster ignores SIGTERM too.
_LET_GO = "import os, sys; os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])"
_START_S = 120.0


@dataclass(frozen=True, slots=True)
class DagsterStatus:
    running: bool
    url: str
    log: Path
    pids: tuple[int, ...] = ()
    """Every process of it that lives, also where the UI does not answer."""


@dataclass(frozen=True, slots=True)
class _Record:
    """What is remembered of the last start."""

    mark: str
    port: int


class DagsterProcesses:
    def __init__(
        self,
        home: Path,
        *,
        port: int,
        environment: Mapping[str, str],
        module: str = "rag_assets.definitions",
        working_folder: Path | None = None,
        patience_s: float = 20.0,
    ) -> None:
        """The environment is the whole one, of the command that starts the processes.

        The patience is what a process that is told to end gets before it is killed.
        """
        self._folder = HomeFolder(home.resolve())
        self._port = port
        self._environment = environment
        self._module = module
        self._working_folder = working_folder
        self._patience_s = patience_s

    @property
    def home(self) -> Path:
        """Of Dagster itself: DAGSTER_HOME."""
        return self._folder.path / "dagster"

    @property
    def has_history(self) -> bool:
        """Whether any run was ever recorded here."""
        return (self.home / "history").is_dir()

    @property
    def log(self) -> Path:
        return self._folder.path / "dagster.log"

    def prepared_home(self) -> Path:
        """The home with its settings, for a run that needs no UI and no daemon."""
        self._folder.ensure()
        with explained("Dagster's home cannot be made"):
            self._write_settings()
        return self.home

    def start(self) -> bool:
        """Whether it had to be started; False where it runs already, perhaps at another port."""
        self._folder.ensure()
        with self._locked(), explained("The Dagster UI cannot be started"):
            if self.status().running:
                return False
            self._end_all()
            self._require_free_port()
            self._write_settings()
            mark = secrets.token_hex(16)
            self._remember(_Record(mark, self._port))
            position = self._spawn(mark)
            self._wait(position)
            return True

    def stop(self) -> bool:
        """Whether there was anything to end. None of the processes is left."""
        if not self._folder.path.is_dir():
            return False
        self._folder.ensure()
        with self._locked(), explained("The Dagster UI cannot be stopped"):
            was_alive = bool(self._ours())
            self._end_all()
            self._record_file.unlink(missing_ok=True)
            return was_alive

    def status(self) -> DagsterStatus:
        record = self._recorded()
        port = record.port if record else self._port
        ours = self._ours()
        return DagsterStatus(
            running=bool(ours) and _answers(port),
            url=f"http://{HOST}:{port}",
            log=self.log,
            pids=tuple(process.pid for process in ours),
        )

    def examine(self) -> str:
        """For the doctor: what runs or could, or an error that says what to do."""
        status = self.status()
        if status.running:
            return f"answers at {status.url}"
        if status.pids:
            raise ServerError(
                f"The Dagster UI does not answer, but its processes {list(status.pids)} live. Wait"
                f" for it if it is being started, else run `rag-assets down`. Its log: {self.log}"
            )
        self._require_free_port()
        return f"is not running; port {self._port} is free"

    @contextmanager
    def _locked(self) -> Iterator[int]:
        with self._folder.locked("dagster.lock") as lock:
            yield lock

    # --- starting -------------------------------------------------------------------------------

    def _require_free_port(self) -> None:
        problem = port_problem(self._port)
        if problem:
            raise ServerError(problem)

    def _write_settings(self) -> None:
        self.home.mkdir(mode=0o700, exist_ok=True)
        write_private(self.home / "dagster.yaml", SETTINGS)

    def _spawn(self, mark: str) -> int:
        """Where in the log the words of this start begin."""
        command = (
            *(sys.executable, "-m", "dagster", "dev", "-m", self._module),
            *("--host", HOST, "--port", str(self._port)),
        )
        with opened_log(self.log) as log:
            position = os.fstat(log).st_size
            subprocess.run(
                [sys.executable, "-I", "-S", "-c", _LET_GO, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._working_folder or self.home,
                env=self._marked_environment(mark),
                umask=0o077,
                start_new_session=True,
                check=True,
            )
        return position

    def _marked_environment(self, mark: str) -> dict[str, str]:
        return {
            **self._environment,
            "RAG_ASSETS_HOME": str(self._folder.path),
            "DAGSTER_HOME": str(self.home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            # Beside threads for sensors: a large bucket takes more than a minute to list.
            "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS": "300",
            "PYTHONUNBUFFERED": "1",
            MARK: mark,
        }

    def _wait(self, position: int) -> None:
        """Whatever ends the wait, no half-started process stays."""
        try:
            wait_until(lambda: _answers(self._port) or not self._ours(), timeout_s=_START_S)
            started = self.status().running
        except BaseException:
            self._end_all()
            raise
        if not started:
            self._end_all()
            raise ServerError(
                f"The Dagster UI did not start.\n{tail(self.log, since=position)}\n"
                f"The whole log: {self.log}"
            )

    # --- what was started -----------------------------------------------------------------------

    @property
    def _record_file(self) -> Path:
        return self._folder.path / "dagster.json"

    def _remember(self, record: _Record) -> None:
        write_private(self._record_file, json.dumps(asdict(record)) + "\n")

    def _recorded(self) -> _Record | None:
        """None also for a file that says nothing we understand: then nothing is proven ours."""
        try:
            found = json.loads(self._record_file.read_text(encoding="utf-8"))
            return _Record(mark=str(found["mark"]), port=int(found["port"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _ours(self) -> list[psutil.Process]:
        """Those that carry the mark, and whatever they started that does not."""
        record = self._recorded()
        if record is None:
            return []
        marked = [process for process in psutil.process_iter() if _carries(process, record.mark)]
        started = [child for process in marked for child in _descendants(process)]
        return list({process.pid: process for process in (*marked, *started)}.values())

    # --- stopping -------------------------------------------------------------------------------

    def _end_all(self) -> None:
        """First politely, so that runs are recorded as ended; those that stay are killed."""
        seen: set[psutil.Process] = set()
        for end in (psutil.Process.terminate, psutil.Process.kill):
            if self._all_end(end, seen):
                return
        raise ServerError(
            f"Processes of the Dagster UI cannot be ended: {sorted(each.pid for each in seen)}."
            " End those that are left, then run `rag-assets down` again."
        )

    def _all_end(self, end: Callable[[psutil.Process], None], seen: set[psutil.Process]) -> bool:
        """Looks again and again, for what is told to end may still start something."""
        told: set[psutil.Process] = set()

        def none_is_left() -> bool:
            seen.update(self._ours())
            alive = {process for process in seen if _lives(process)}
            for process in alive - told:
                _tell(process, end)
            told.update(alive)
            return not alive

        return wait_until(none_is_left, timeout_s=self._patience_s)


def port_problem(port: int) -> str | None:
    """Why nothing can listen at the port, with what to do; None if it is free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            why = {
                errno.EADDRINUSE: "is in use by another program",
                errno.EACCES: "needs the rights of root",
            }
            return (
                f"Port {port} {why.get(error.errno or 0, error.strerror)}. Choose another one, for"
                f" example: RAG_ASSETS_PORT={port + 1 if 1024 <= port < 65535 else 3001}"
            )
    return None


def _answers(port: int) -> bool:
    """Whether Dagster's web server is there; asked without the proxies of the environment."""
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/server_info")
        return b"dagster_version" in connection.getresponse().read(4096)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _lives(process: psutil.Process) -> bool:
    """Also tells a process from a later one that was given the same number."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _tell(process: psutil.Process, end: Callable[[psutil.Process], None]) -> None:
    try:
        end(process)
    except psutil.NoSuchProcess:
        return
