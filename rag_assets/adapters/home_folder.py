"""The private folder of everything that runs on this machine: its files, its locks, its errors."""

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp

from rag_assets.errors import ServerError

LOCK = "lock"
_LARGEST_LOG = 10 * 1024 * 1024
_PAUSE_S = 0.05
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_REMEDIES = {
    errno.ENOSPC: "The disk is full: free some space, or name another folder with RAG_ASSETS_HOME.",
    errno.EDQUOT: "Your quota is used up: free some, or name another folder with RAG_ASSETS_HOME.",
    errno.EROFS: "The disk is read-only: name another folder with RAG_ASSETS_HOME.",
    errno.EACCES: "You may not use it: name another folder with RAG_ASSETS_HOME.",
    errno.EPERM: "You may not use it: name another folder with RAG_ASSETS_HOME.",
    errno.EEXIST: "A file is in the way: name another folder with RAG_ASSETS_HOME.",
    errno.ENOTDIR: "A file is in the way: name another folder with RAG_ASSETS_HOME.",
    errno.ENOENT: "It cannot be made there: name another folder with RAG_ASSETS_HOME.",
    errno.ENAMETOOLONG: "The path is too long: name a shorter folder with RAG_ASSETS_HOME.",
}


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turns what the operating system refuses into one message that says what to do."""
    try:
        yield
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        remedy = _REMEDIES.get(error.errno or 0, "Look at the folder, then try again.")
        raise ServerError(f"{doing}{where}: {error.strerror or error}. {remedy}") from error


def wait_until(claim: Callable[[], bool], *, timeout_s: float) -> bool:
    """Whether the claim became true in time; it is looked at twenty times a second."""
    end = time.monotonic() + timeout_s
    while not claim():
        if time.monotonic() >= end:
            return False
        time.sleep(_PAUSE_S)
    return True


@dataclass(frozen=True, slots=True)
class HomeFolder:
    """A folder that only its owner can enter."""

    path: Path

    def ensure(self) -> None:
        """Makes the folder, or checks that the one that is there is ours and private."""
        if re.search(r"[\x00-\x1f\ud800-\udfff]", str(self.path)):
            raise ServerError(
                f"The folder {str(self.path)!r} has a control character or a byte that is no UTF-8"
                " in its name, which PostgreSQL cannot take. Name another one with RAG_ASSETS_HOME."
            )
        with explained("The home folder cannot be written"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
            self._claim()

    def _claim(self) -> None:
        found = self.path.stat()
        if found.st_uid != os.geteuid():
            raise ServerError(
                f"The folder {self.path} belongs to another user (uid {found.st_uid}, you are"
                f" {os.geteuid()}). Name a folder of your own with RAG_ASSETS_HOME."
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            self._close()

    def _close(self) -> None:
        """Only a folder that holds nothing of anybody else is made private."""
        if (self.path / LOCK).exists() or not any(self.path.iterdir()):
            self.path.chmod(0o700)
            return
        raise ServerError(
            f"Others may enter the folder {self.path}, and it holds files that are not ours."
            f" Name another one with RAG_ASSETS_HOME, or run: chmod 700 '{self.path}'"
        )

    @contextmanager
    def locked(self, name: str = LOCK, *, timeout_s: float = 180.0) -> Iterator[int]:
        """One process at a time; the kernel frees the lock of one that dies.

        A child that is given the lock's descriptor holds it too, until it has ended as well.
        """
        with explained("The lock file cannot be opened"):
            lock = open_lock(self.path / name)
        try:
            if not wait_until(lambda: try_lock(lock), timeout_s=timeout_s):
                raise ServerError(
                    f"Another rag-assets command has held {self.path / name} for"
                    f" {timeout_s:.0f} seconds. Wait for it, or end it, then try again."
                )
            yield lock
        finally:
            os.close(lock)


def open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def try_lock(lock: int, *, shared: bool = False) -> bool:
    """Takes the lock if nobody holds it; never waits."""
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_private(path: Path, text: str, *, mode: int = 0o600, gid: int = -1) -> None:
    """The whole text or nothing, on disk when it returns, and never through a link."""
    handle, name = mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            if gid != -1:
                os.fchown(handle, -1, gid)
            os.fchmod(handle, mode)
            file.write(text)
            file.flush()
            os.fsync(handle)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def opened_log(path: Path) -> Iterator[int]:
    """Open for appending; a log that has grown large gives way to a new one, and is kept once."""
    if path.is_file() and path.stat().st_size > _LARGEST_LOG:
        path.replace(path.with_suffix(".log.1"))
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        yield log
    finally:
        os.close(log)


def tail(path: Path, *, since: int = 0, lines: int = 12) -> str:
    """The last lines that were written after that position, without their colours."""
    try:
        with path.open("rb") as file:
            file.seek(max(since, path.stat().st_size - 65_536))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(_COLOURS.sub("", text).rstrip().splitlines()[-lines:])
