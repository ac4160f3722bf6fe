"""Making the data folder: complete or not there at all."""

import os
import shutil
from pathlib import Path
from tempfile import mkdtemp, mkstemp

from rag_assets.adapters.embedded_postgres.account import DATA, Place
from rag_assets.adapters.embedded_postgres.credentials import ADMIN, Credentials
from rag_assets.adapters.embedded_postgres.programs import MAJOR
from rag_assets.errors import ServerError

_UNFINISHED = f"{DATA}.new-"
_OPTIONS = (
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--data-checksums",
    f"--username={ADMIN}",
)


def make_cluster(place: Place, credentials: Credentials, *, durable: bool, lock: int) -> None:
    """Built beside its final name and renamed, so that a half-made one is never mistaken for it.

    initdb goes on when we are killed. It holds our lock too, so nobody clears up under it.
    """
    _clear(place)
    new = Path(mkdtemp(prefix=_UNFINISHED, dir=place.folder))
    place.account.give(new)
    word = _password_file(place, credentials)
    try:
        _initdb(place, new, word, durable=durable, lock=lock)
    finally:
        word.unlink()
    new.rename(place.data)
    _sync(place.folder)


def check_version(place: Place) -> None:
    found = (place.data / "PG_VERSION").read_text(encoding="utf-8").strip()
    if found != str(MAJOR):
        raise ServerError(
            f"The data in {place.data} is that of PostgreSQL {found}; the installed programs are"
            f" PostgreSQL {MAJOR}. Take a backup with the earlier version of rag_assets, move"
            f" {place.data} away, and restore the backup with this one."
        )


def system_identifier(place: Place) -> str:
    command = (place.programs.named("pg_controldata"), "--pgdata", str(place.data))
    answer = place.account.run(command).stdout
    for line in answer.splitlines():
        name, _, value = line.partition(":")
        if name == "Database system identifier":
            return value.strip()
    raise ServerError(
        f"The data in {place.data} is damaged: {answer.strip()}. Move the folder"
        f" {place.folder} away, run `rag-assets up`, and restore a backup."
    )


def _initdb(place: Place, new: Path, word: Path, *, durable: bool, lock: int) -> None:
    options = (
        *_OPTIONS,
        f"--pwfile={word}",
        f"--pgdata={new}",
        *(() if durable else ("--no-sync",)),
    )
    done = place.account.run((place.programs.named("initdb"), *options), pass_fds=(lock,))
    if done.returncode == 0:
        return
    shutil.rmtree(new, ignore_errors=True)
    said = "\n".join(done.stdout.strip().splitlines()[-8:])
    raise ServerError(f"The database cannot be made in {place.folder}. {explained(said)}")


def explained(said: str) -> str:
    """What to do where the reason is known, and the last words of PostgreSQL where it is not."""
    known = remedy(said)
    return known or f"What it said last:\n{said}"


def remedy(said: str) -> str | None:
    """What to do about the commonest reasons, by the words PostgreSQL has for them."""
    if "No space left on device" in said:
        return "The disk is full: free some space, or name another folder with RAG_ASSETS_HOME."
    if "Read-only file system" in said:
        return "The disk is read-only: name another folder with RAG_ASSETS_HOME."
    if "unshare failed" in said:
        return (
            "This machine no longer lets root make a user namespace: run rag-assets as the user"
            " that shall own the folder."
        )
    return None


def _password_file(place: Place, credentials: Credentials) -> Path:
    handle, name = mkstemp(prefix=f"{_UNFINISHED}password-", dir=place.folder)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(credentials.admin + "\n")
    path = Path(name)
    place.account.give(path)
    return path


def _clear(place: Place) -> None:
    for leftover in place.folder.glob(f"{_UNFINISHED}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
