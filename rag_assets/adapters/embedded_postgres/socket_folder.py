"""The private folder of the socket: a socket's whole path has room for about 100 bytes."""

import os
import stat
from pathlib import Path
from tempfile import gettempdir, mkdtemp

from rag_assets.adapters.embedded_postgres.account import Place
from rag_assets.adapters.embedded_postgres.credentials import PORT
from rag_assets.adapters.home_folder import write_private

_INSIDE = "socket"
_RECORD = "socket_folder"
_LONGEST = 100
_SOCKET = f".s.PGSQL.{PORT}"


def socket_folder(home: Path, place: Place) -> Path | None:
    """Where the socket is, if a folder was made for it and is still private."""
    folder = place.folder / _INSIDE
    if not _fits(folder):
        try:
            folder = Path((home / _RECORD).read_text(encoding="utf-8").rstrip("\n"))
        except FileNotFoundError:
            return None
    return folder if _is_private(folder, place) else None


def make_socket_folder(home: Path, place: Place) -> Path:
    if folder := socket_folder(home, place):
        return folder
    folder = place.folder / _INSIDE
    if _fits(folder):
        _make(folder)
    else:
        folder = Path(mkdtemp(prefix="rag_assets-", dir=_short_temporary_folder()))
        write_private(home / _RECORD, f"{folder}\n")
    place.account.give(folder)
    return folder


def has_socket(folder: Path) -> bool:
    return (folder / _SOCKET).exists()


def remove_socket_folder(home: Path, place: Place) -> None:
    """Only what PostgreSQL leaves there goes with it; a folder that is not ours is left alone."""
    if folder := socket_folder(home, place):
        for name in (_SOCKET, f"{_SOCKET}.lock"):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
    (home / _RECORD).unlink(missing_ok=True)


def _fits(folder: Path) -> bool:
    """A comma would split the host in a client's URL, a colon the port."""
    path = str(folder / _SOCKET)
    return len(os.fsencode(path)) <= _LONGEST and not set(path) & {",", ":"}


def _short_temporary_folder() -> str:
    """The system's own one where the one that TMPDIR names would not do."""
    return gettempdir() if _fits(Path(gettempdir(), "rag_assets-12345678")) else "/tmp"  # noqa: S108 # mkdtemp makes a private folder in it


def _make(folder: Path) -> None:
    """A thing of that name that is no private folder of ours goes: the folder above is ours."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)


def _is_private(folder: Path, place: Place) -> bool:
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    owner = os.geteuid() if place.account.uid is None else place.account.uid
    private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700
    return private and found.st_uid == owner
