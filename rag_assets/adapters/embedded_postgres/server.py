"""Starts and stops the one server of a home folder."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rag_assets.adapters.embedded_postgres import cluster, connecting, machine, processes
from rag_assets.adapters.embedded_postgres.account import (
    DATA,
    Place,
    WhenRoot,
    existing_place,
    make_place,
    new_place,
)
from rag_assets.adapters.embedded_postgres.configuration import HBA, configuration
from rag_assets.adapters.embedded_postgres.connecting import Answer, State
from rag_assets.adapters.embedded_postgres.credentials import ADMIN, DATABASE, Credentials
from rag_assets.adapters.embedded_postgres.programs import find_programs
from rag_assets.adapters.embedded_postgres.socket_folder import (
    has_socket,
    make_socket_folder,
    remove_socket_folder,
    socket_folder,
)
from rag_assets.adapters.home_folder import (
    HomeFolder,
    explained,
    open_lock,
    opened_log,
    tail,
    try_lock,
    wait_until,
    write_private,
)
from rag_assets.errors import ServerError
from rag_assets.settings import DatabaseUrls

ELSEWHERE = Path("/var/lib/rag_assets")
_SILENCE_S = 60.0
_PATIENCE_S = 10.0
_PAUSE_S = 0.02
_STOP_TIMEOUTS_S = {"fast": 90, "immediate": 30}
_CONFIGURATION = "postgresql.conf"
_HBA = "pg_hba.conf"


@dataclass(frozen=True, slots=True)
class ServerStatus:
    running: bool
    data_folder: Path
    data_bytes: int
    log: Path
    pid: int | None = None
    version: str | None = None
    vector_version: str | None = None
    socket_folder: Path | None = None
    pids: tuple[int, ...] = ()
    """Every process of it that lives, also where it does not answer."""


class EmbeddedPostgres:
    """The server of one home folder. Any number of processes may hold one of these at once.

    Every process of the server inherits an open, locked file. So that lock is free exactly when
    the last of them has gone, also where their process ids cannot be seen or mean somebody else.
    """

    def __init__(
        self,
        home: Path,
        *,
        durable: bool = True,
        when_root: WhenRoot = WhenRoot.DETECT,
        elsewhere: Path = ELSEWHERE,
    ) -> None:
        self._folder = HomeFolder(home.resolve())
        self._durable = durable
        self._when_root = when_root
        self._elsewhere = elsewhere

    @property
    def home(self) -> Path:
        return self._folder.path

    @property
    def log(self) -> Path:
        return self.home / "postgres.log"

    def start(self) -> DatabaseUrls:
        """Harmless when the server runs already, in this process or in any other."""
        self._folder.ensure()
        with self._folder.locked() as lock, explained("The embedded server cannot be started"):
            place, credentials = self._settle()
            if _answering(self.home, place, credentials) is None:
                credentials = self._bring_up(place, credentials, lock)
            folder = make_socket_folder(self.home, place)
            connecting.set_up(credentials, folder)
            return credentials.urls(folder)

    def stop(self) -> bool:
        """Whether there was a server to stop; none of its processes is left."""
        if not self.home.is_dir():
            return False
        self._folder.ensure()
        with self._folder.locked(), explained("The embedded server cannot be stopped"):
            place = existing_place(self.home, find_programs(), self._elsewhere)
            if place is None:
                return False
            was_alive = self._alive(place)
            self._end(place)
            self._clear_leftovers(place)
            return was_alive

    def urls(self) -> DatabaseUrls | None:
        """None unless the server answers, and is the one that belongs to this folder."""
        found = self._running()
        return None if found is None else found.credentials.urls(found.socket_folder)

    def admin_url(self, *, database: str = DATABASE) -> str | None:
        """The superuser's, for set-up, backup and restore."""
        found = self._running()
        if found is None:
            return None
        return found.credentials.url(ADMIN, found.socket_folder, database=database)

    def status(self) -> ServerStatus:
        found = self._running()
        place = existing_place(self.home, find_programs(), self._elsewhere)
        data = place.data if place else self.home / DATA
        main = processes.postmaster(data) if found else None
        return ServerStatus(
            running=found is not None,
            data_folder=data,
            data_bytes=machine.size_bytes(data),
            log=self.log,
            pid=main.pid if main else None,
            version=found.answer.version if found else None,
            vector_version=found.vector_version() if found else None,
            socket_folder=found.socket_folder if found else None,
            pids=tuple(process.pid for process in processes.server_processes(data)),
        )

    def examine(self) -> str:
        """For the doctor: what runs, or an error that says what to do."""
        status = self.status()
        if status.running:
            megabytes = status.data_bytes / 1024**2
            return (
                f"PostgreSQL {status.version} with pgvector {status.vector_version} answers;"
                f" {megabytes:.0f} MB in {status.data_folder}"
            )
        if status.pids:
            raise ServerError(
                f"The embedded server does not answer, but its processes {list(status.pids)} live."
                f" Run `rag-assets down`, then `rag-assets up`. Its log: {self.log}"
            )
        raise ServerError("The embedded server is not running. Run `rag-assets up`.")

    # --- is it there? ---------------------------------------------------------------------------

    @property
    def _secrets(self) -> Path:
        return self.home / "secrets.json"

    @property
    def _server_lock(self) -> Path:
        return self.home / "postgres.lock"

    def _running(self) -> "_Running | None":
        credentials = Credentials.load(self._secrets)
        place = existing_place(self.home, find_programs(), self._elsewhere)
        if credentials is None or place is None:
            return None
        return _answering(self.home, place, credentials)

    def _alive(self, place: Place) -> bool:
        """Whether any process of the server lives, seen or unseen."""
        lock = open_lock(self._server_lock)
        try:
            return not try_lock(lock, shared=True) or bool(processes.server_processes(place.data))
        finally:
            os.close(lock)

    # --- starting -------------------------------------------------------------------------------

    def _settle(self) -> tuple[Place, Credentials]:
        """Where the server is or will be, and its passwords; one without the other is fatal."""
        programs = find_programs()
        place = existing_place(self.home, programs, self._elsewhere)
        credentials = Credentials.load(self._secrets)
        if place is None and credentials and credentials.system_identifier:
            raise ServerError(
                f"{self._secrets} belongs to a server whose data folder is gone. Put the folder"
                f" back, or delete {self._secrets} to begin with an empty database."
            )
        if place and credentials is None:
            raise ServerError(
                f"{self._secrets} is gone; without its passwords the data in {place.data} cannot"
                f" be opened. Put it back, or move {place.data} away to begin anew."
            )
        place = place or new_place(
            self.home, programs, when_root=self._when_root, elsewhere=self._elsewhere
        )
        make_place(place, programs)
        return place, self._complete(place, credentials or Credentials.random())

    def _complete(self, place: Place, credentials: Credentials) -> Credentials:
        """The passwords are on disk before there is a server that knows them."""
        if place.data.is_dir() and not credentials.system_identifier:
            credentials = credentials.belonging_to(cluster.system_identifier(place))
        credentials.save(self._secrets)
        return credentials

    def _bring_up(self, place: Place, credentials: Credentials, lock: int) -> Credentials:
        if self._earlier_one_comes_up(place, credentials):
            return credentials
        self._clear_leftovers(place)
        if not place.data.is_dir():
            cluster.make_cluster(place, credentials, durable=self._durable, lock=lock)
            credentials = self._complete(place, credentials)
        cluster.check_version(place)
        self._configure(place)
        position = self._spawn(place)
        if not self._comes_up(place, credentials):
            said = tail(self.log, since=position)
            raise ServerError(
                f"The embedded server did not start. {cluster.explained(said)}\n"
                f"The whole log: {self.log}"
            )
        return credentials

    def _earlier_one_comes_up(self, place: Place, credentials: Credentials) -> bool:
        """False once nothing of an earlier server is left."""
        if processes.postmaster(place.data) and self._comes_up(place, credentials):
            return True
        self._see_the_last_go(place)
        return False

    def _comes_up(self, place: Place, credentials: Credentials) -> bool:
        """False if it dies. Recovery after a crash may take long, but it says that it is busy."""
        folder = socket_folder(self.home, place)
        patient_until = time.monotonic() + _SILENCE_S
        while self._alive(place):
            answer = connecting.ask(credentials, folder) if folder else Answer(State.SILENT)
            if answer.comes_from(place.data, credentials):
                return True
            if answer.state is State.BUSY:
                patient_until = time.monotonic() + _SILENCE_S
            if time.monotonic() > patient_until:
                raise ServerError(
                    f"The embedded server runs but has not answered for {_SILENCE_S:.0f} seconds."
                    f" Run `rag-assets down`, then `rag-assets up`. Its log: {self.log}\n"
                    f"{tail(self.log)}"
                )
            time.sleep(_PAUSE_S)
        return False

    def _configure(self, place: Place) -> None:
        text = configuration(
            socket_folder=make_socket_folder(self.home, place),
            memory_bytes=machine.memory_bytes(),
            shared_memory_bytes=machine.shared_memory_bytes(),
            durable=self._durable,
        )
        mode = 0o600 if place.group == -1 else 0o640
        write_private(place.folder / _CONFIGURATION, text, mode=mode, gid=place.group)
        write_private(place.folder / _HBA, HBA, mode=mode, gid=place.group)

    def _spawn(self, place: Place) -> int:
        """Where in the log the new server's words begin. The shell lets go of it at once."""
        command = (
            *("/bin/sh", "-c", '"$@" &', "sh"),
            *(place.programs.named("postgres"), "-D", str(place.data)),
            *("-c", f"config_file={place.folder / _CONFIGURATION}"),
            *("-c", f"hba_file={place.folder / _HBA}"),
        )
        with self._inherited_lock() as lock, opened_log(self.log) as log:
            position = os.fstat(log).st_size
            place.account.run(command, pass_fds=(lock,), output=log)
        return position

    @contextmanager
    def _inherited_lock(self) -> Iterator[int]:
        lock = open_lock(self._server_lock)
        try:
            if not wait_until(lambda: try_lock(lock), timeout_s=_PATIENCE_S):
                raise ServerError(self._unseen())
            yield lock
        finally:
            os.close(lock)

    # --- stopping -------------------------------------------------------------------------------

    def _end(self, place: Place) -> None:
        """Cleanly; in a hurry only if that does not end, which the next start recovers from."""
        program = (place.programs.named("pg_ctl"), "stop", "--wait", "--pgdata", str(place.data))
        for mode, timeout_s in _STOP_TIMEOUTS_S.items():
            if processes.postmaster(place.data) is None:
                break
            place.account.run((*program, f"--mode={mode}", f"--timeout={timeout_s}"))
        self._see_the_last_go(place)

    def _see_the_last_go(self, place: Place) -> None:
        if not processes.end_orphans(place.data):
            raise ServerError(
                f"Processes of an earlier server still work in {place.data} and cannot be ended:"
                f" {[process.pid for process in processes.server_processes(place.data)]}."
            )
        if not wait_until(lambda: not self._alive(place), timeout_s=_PATIENCE_S):
            raise ServerError(self._unseen())

    def _unseen(self) -> str:
        return (
            f"Something holds {self._server_lock} that cannot be seen from here: most likely a"
            f" server in another container uses {self.home}. Stop that one first."
        )

    def _clear_leftovers(self, place: Place) -> None:
        """Only called when no process of the server lives, so whatever these files say is past."""
        (place.data / processes.PID_FILE).unlink(missing_ok=True)
        remove_socket_folder(self.home, place)


@dataclass(frozen=True, slots=True)
class _Running:
    credentials: Credentials
    socket_folder: Path
    answer: Answer

    def vector_version(self) -> str | None:
        return connecting.vector_version(self.credentials, self.socket_folder)


def _answering(home: Path, place: Place, credentials: Credentials) -> _Running | None:
    folder = socket_folder(home, place)
    if folder is None or not credentials.system_identifier or not has_socket(folder):
        return None
    answer = connecting.ask(credentials, folder)
    if not answer.comes_from(place.data, credentials):
        return None
    return _Running(credentials, folder, answer)
