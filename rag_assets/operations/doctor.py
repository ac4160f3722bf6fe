"""Looks at everything that must be right on this machine, and says what to do where it is not."""

import os
import shutil
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rag_assets.errors import ConfigurationError, RagAssetsError
from rag_assets.model import Corpus
from rag_assets.settings import Secret

Look = Callable[[], str]
"""Says what it found; raises a RagAssetsError, with what to do, where something is wrong."""

OLDEST_PYTHON = (3, 11)
LEAST_FREE_BYTES = 1024**3


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    ok: bool
    detail: str
    remedy: str = ""
    """Empty where all is well, and where the detail says what to do."""


def examine(home: Path, looks: Mapping[str, Look]) -> list[Finding]:
    """The machine first, then each look in its order; a look that fails stops none that follow."""
    return [
        python_version(sys.version_info[:2]),
        home_folder(home),
        disk_space(home, shutil.disk_usage(_existing(home)).free),
        *(attempt(name, look) for name, look in looks.items()),
    ]


def attempt(name: str, look: Look) -> Finding:
    try:
        return Finding(name, ok=True, detail=look())
    except RagAssetsError as error:
        return Finding(name, ok=False, detail=str(error))


def python_version(version: tuple[int, int]) -> Finding:
    """Whether it is new enough for us.

    >>> python_version((3, 12)).ok, python_version((3, 10)).ok
    (True, False)
    """
    return Finding(
        "Python",
        ok=version >= OLDEST_PYTHON,
        detail=f"version {version[0]}.{version[1]}",
        remedy="" if version >= OLDEST_PYTHON else "Use Python 3.11 or newer.",
    )


def home_folder(home: Path) -> Finding:
    """A folder that is not there yet must only be possible to make."""
    if not home.exists():
        return _home_to_be_made(home)
    found = home.stat()
    if found.st_uid != os.geteuid():
        return _wrong_home(
            f"{home} belongs to another user (uid {found.st_uid})",
            "Name a folder of your own with RAG_ASSETS_HOME.",
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        return _wrong_home(
            f"{home} can be entered by others (mode {found.st_mode & 0o777:o})",
            f"Run: chmod go-rwx '{home}'",
        )
    if not os.access(home, os.W_OK | os.X_OK):
        return _wrong_home(f"{home} cannot be written", "Name another folder with RAG_ASSETS_HOME.")
    return Finding("home folder", ok=True, detail=f"{home} is ours and private")


def disk_space(home: Path, free_bytes: int) -> Finding:
    enough = free_bytes >= LEAST_FREE_BYTES
    return Finding(
        "disk space",
        ok=enough,
        detail=f"{free_bytes / 1024**3:.1f} GB free for {home}",
        remedy="" if enough else "Make room, or name another folder with RAG_ASSETS_HOME.",
    )


def alert_variables(corpora: Sequence[Corpus], environ: Mapping[str, str]) -> str:
    """Whether all is set that alerts need; otherwise the first one fails to be told.

    >>> alert_variables([], {})
    'no corpus names anybody who is to be told'
    """
    missing: dict[str, list[str]] = {}
    for corpus in corpora:
        for variable in corpus.alerts.variables:
            if Secret.from_environment(variable, environ) is None:
                missing.setdefault(variable, []).append(corpus.name)
    if missing:
        told = "; ".join(f"{name} (of {', '.join(of)})" for name, of in missing.items())
        raise ConfigurationError(
            f"Alerts need variables that are not set here: {told}. Set each, or the same name with"
            " _FILE behind it, here and in the environment of Dagster's daemon and code server."
            " Then try `rag-assets alerts test`."
        )
    wanted = [corpus.name for corpus in corpora if corpus.alerts.wanted]
    if not wanted:
        return "no corpus names anybody who is to be told"
    return f"all variables are set for {', '.join(wanted)}; `rag-assets alerts test` tries them"


def _home_to_be_made(home: Path) -> Finding:
    above = _existing(home)
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        return Finding("home folder", ok=True, detail=f"{home} will be made by `rag-assets up`")
    return _wrong_home(
        f"{home} cannot be made in {above}", "Name another folder with RAG_ASSETS_HOME."
    )


def _wrong_home(detail: str, remedy: str) -> Finding:
    return Finding("home folder", ok=False, detail=detail, remedy=remedy)


def _existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    return next(each for each in (path, *path.absolute().parents) if each.exists())
