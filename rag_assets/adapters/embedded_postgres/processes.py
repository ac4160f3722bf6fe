"""The server's processes, told apart from everybody else's.

A number in `postmaster.pid` proves nothing: after a crash or a restart of the machine it may be
anybody's. A process is ours if it is called postgres and its working directory is our data folder,
which nobody else can enter.
"""

from pathlib import Path

import psutil

from rag_assets.adapters.home_folder import wait_until

PID_FILE = "postmaster.pid"
_PATIENCE_S = 2.0


def server_processes(data: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["name"])
        if process.info["name"] == "postgres" and _works_in(process, data)
    ]


def postmaster(data: Path) -> psutil.Process | None:
    """The living process that the pid file names, if it is ours."""
    pid = _recorded_pid(data)
    return next((process for process in server_processes(data) if process.pid == pid), None)


def end_orphans(data: Path) -> bool:
    """Whether all is quiet after what a dead postmaster left behind was given time, then ended.

    A backend in the middle of a long query does not notice at once that its postmaster has gone.
    """
    if wait_until(lambda: not server_processes(data), timeout_s=_PATIENCE_S):
        return True
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in server_processes(data):
            try:
                end(process)
            except psutil.NoSuchProcess:
                continue
        if wait_until(lambda: not server_processes(data), timeout_s=_PATIENCE_S):
            return True
    return False


def _works_in(process: psutil.Process, data: Path) -> bool:
    try:
        return data.samefile(process.cwd())
    except (psutil.Error, OSError):
        return False


def _recorded_pid(data: Path) -> int | None:
    try:
        first = (data / PID_FILE).read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    except FileNotFoundError:
        return None
    return int(first) if first.strip().isdecimal() else None
