"""Under which user id the server runs, and where its files therefore lie.

PostgreSQL refuses to run as root. Where root may make a user namespace, the server runs inside one
under an ordinary id, while every file stays root's own. Where that is forbidden, as in many
containers, it runs as another existing user, in a private folder outside the home folder, since
that user may not enter the home folder and nobody's folders are opened up for it.
"""

import hashlib
import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from rag_assets.adapters.embedded_postgres.programs import Programs
from rag_assets.errors import ServerError

DATA = "postgres"
_OVERFLOW_ID = 65534
"""Inside a namespace the files of everybody unknown seem to belong to this id."""


class WhenRoot(StrEnum):
    """What root does, since PostgreSQL will not run as root."""

    DETECT = "detect"
    NAMESPACE = "namespace"
    OTHER_USER = "other user"


@dataclass(frozen=True, slots=True)
class Account:
    """Starts programs so that they do not run as root."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None

    def run(
        self, command: Sequence[str], *, pass_fds: Sequence[int] = (), output: int = subprocess.PIPE
    ) -> subprocess.CompletedProcess[str]:
        """Runs to the end, in a session of its own and with nothing of our environment."""
        return subprocess.run(
            [*self.prefix, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd="/",
            env=_environment(),
            umask=0o077,
            start_new_session=True,
            pass_fds=pass_fds,
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
            check=False,
        )

    def give(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


@dataclass(frozen=True, slots=True)
class Place:
    """Who runs the server, with which programs, in which folder."""

    account: Account
    programs: Programs
    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / DATA

    @property
    def group(self) -> int:
        """The group that must read the server's settings, or -1 where it is our own process."""
        return -1 if self.account.gid is None else self.account.gid


def existing_place(home: Path, programs: Programs, elsewhere: Path) -> Place | None:
    """Where the data is. It stays there, whatever root would choose today."""
    if (home / DATA).is_dir():
        return Place(_namespace() if os.geteuid() == 0 else Account(), programs, home)
    private = _private_folder(home, elsewhere)
    if os.geteuid() == 0 and (private / DATA).is_dir():
        return _place_of_other_user(private)
    return None


def new_place(home: Path, programs: Programs, *, when_root: WhenRoot, elsewhere: Path) -> Place:
    if os.geteuid() != 0:
        return Place(Account(), programs, home)
    if when_root is WhenRoot.DETECT:
        works = _namespace_works(home, programs)
        when_root = WhenRoot.NAMESPACE if works else WhenRoot.OTHER_USER
    if when_root is WhenRoot.NAMESPACE:
        return Place(_namespace(), programs, home)
    return _place_of_other_user(_private_folder(home, elsewhere))


def _private_folder(home: Path, elsewhere: Path) -> Path:
    return elsewhere / hashlib.sha256(os.fsencode(home)).hexdigest()[:16]


def _place_of_other_user(folder: Path) -> Place:
    return Place(_other_user(), Programs(folder / "programs"), folder)


def make_place(place: Place, programs: Programs) -> None:
    """Another user's private folder, with programs that he can read. Everything else is there."""
    if place.account.uid is None:
        return
    place.folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    place.folder.mkdir(mode=0o750, exist_ok=True)
    os.chown(place.folder, 0, place.group)
    _copy_programs(programs, place.programs)


def _namespace_works(home: Path, programs: Programs) -> bool:
    """Also false where root lacks, inside, the right to pass somebody's private folder above."""
    if shutil.which("unshare") is None:
        return False
    test = 'test -w "$1" && exec "$2" --version'
    command = ("/bin/sh", "-c", test, "sh", str(home), programs.named("postgres"))
    return _namespace().run(command).returncode == 0


def _namespace() -> Account:
    user = _unprivileged(avoiding=_OVERFLOW_ID)
    mapping = (f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}")
    return Account(prefix=("unshare", "--user", *mapping, "--"))


def _other_user() -> Account:
    user = _unprivileged(avoiding=-1)
    return Account(uid=user.pw_uid, gid=user.pw_gid)


def _unprivileged(*, avoiding: int) -> pwd.struct_passwd:
    """`nobody` if he is not to be avoided, else the first ordinary user: initdb needs a name."""
    users = [user for user in pwd.getpwall() if user.pw_uid not in {0, avoiding}]
    if not users:
        raise ServerError(
            "PostgreSQL does not run as root, and this machine knows no other user. Add one, for"
            " example with: useradd --system rag_assets; or run rag-assets as an ordinary user."
        )
    return min(users, key=lambda user: (user.pw_name != "nobody", user.pw_uid))


def _copy_programs(source: Programs, target: Programs) -> None:
    """The copy is known by the version and size of what it was made from."""
    mark = target.site / "copied_from"
    stamp = f"{source.site}\n{(source.bin / 'postgres').stat().st_mtime_ns}\n"
    if mark.is_file() and mark.read_text(encoding="utf-8") == stamp:
        return
    shutil.rmtree(target.site, ignore_errors=True)
    for part in source.parts():
        shutil.copytree(source.site / part, target.site / part, symlinks=True)
    for path in (target.site, *target.site.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    mark.write_text(stamp, encoding="utf-8")


def _environment() -> dict[str, str]:
    """PostgreSQL's own variables, such as PGPORT, must not reach the server."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC", **kept}
