"""Makes `.venv` from `requirements.lock`, and mends it when it was left half made.

It runs on the machine's Python alone. A second call with nothing to do ends after one small read;
calls at the same time wait for each other; a call that was killed leaves no stamp, so that the next
one starts afresh. Any Python 3 can read this file, for an old one has to say what is missing.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

OLDEST = (3, 11)
NEWER_NAMES = ("python3.13", "python3.12", "python3.11", "python3.14")
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "made.json"
LOCK = ROOT / "requirements.lock"
WITH_THIS_PYTHON = "--with-this-python"
MISLEADING = ("PIP_PREFIX", "PIP_TARGET", "PIP_USER", "PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV")


class CannotMakeError(Exception):
    """Why there is no environment, and what to do about it."""


def main() -> int:
    try:
        run_on_a_new_enough_python()
        if not is_made():
            with only_one_at_a_time() as lock_fd:
                if not is_made():
                    make(lock_fd)
    except (CannotMakeError, OSError) as error:
        print(f"The environment .venv cannot be made: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def run_on_a_new_enough_python() -> None:
    """Replaces this process by a newer Python where this one is too old."""
    if sys.version_info >= OLDEST:
        return
    for name in NEWER_NAMES:
        found = shutil.which(name)
        if found and answers(found):
            os.execv(found, [found, "-I", *sys.argv])
    version = "{}.{}".format(*sys.version_info[:2])
    raise CannotMakeError(
        f"it needs Python 3.11 or newer, and {sys.executable} is Python {version}. Install a newer"
        " one, or name it: make PYTHON=/path/to/python3.12"
    )


def answers(python: str) -> bool:
    """A name on the path may be a shim with nothing behind it."""
    nowhere = subprocess.DEVNULL
    return subprocess.call([python, "-c", ""], stdout=nowhere, stderr=nowhere) == 0


def is_made() -> bool:
    return stamped() == wanted() and is_usable()


def is_usable() -> bool:
    """A venv links to the Python that made it, which may have been removed since."""
    return all((VENV / "bin" / name).exists() for name in ("python", "uv"))


def stamped() -> "dict[str, str]":
    try:
        found = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def wanted() -> "dict[str, str]":
    """The place and the Python, which a venv cannot change, and what is to be installed in it.

    The Python that it was made with stays, unless another one is asked for by name.
    """
    made_with = {} if WITH_THIS_PYTHON in sys.argv else stamped()
    contents = hashlib.sha256()
    for name in ("requirements.lock", "pyproject.toml", "setup.py"):
        contents.update((ROOT / name).read_bytes())
    return {
        "place": str(VENV),
        "python": made_with.get("python", f"{sys.base_prefix} {sys.version}"),
        "contents": contents.hexdigest(),
    }


@contextlib.contextmanager
def only_one_at_a_time() -> "Iterator[int]":
    """Yields a descriptor for child processes to inherit: one that outlives us keeps the lock."""
    with (ROOT / ".venv.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another make is at work on .venv; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def make(lock_fd: int) -> None:
    before, now = stamped(), wanted()
    lasting = is_usable() and all(before.get(name) == now[name] for name in ("place", "python"))
    STAMP.unlink(missing_ok=True)
    steps = Steps(lock_fd)
    if not lasting:
        say("Making .venv with Python {}.{}.{}".format(*sys.version_info[:3]))
        steps.create()
        steps.install_uv()
    say("Installing requirements.lock; the first time this downloads several hundred megabytes")
    steps.install_locked()
    steps.install_project()
    unfinished = STAMP.with_suffix(".new")
    unfinished.write_text(json.dumps(now))
    unfinished.replace(STAMP)


class Steps:
    """The commands that fill `.venv`, in the order in which they run."""

    def __init__(self, lock_fd: int) -> None:
        self.lock_fd = lock_fd
        self.python = str(VENV / "bin" / "python")
        self.uv = str(VENV / "bin" / "uv")

    def create(self) -> None:
        if importlib.util.find_spec("ensurepip") is None:
            name = "python{}.{}-venv".format(*sys.version_info[:2])
            raise CannotMakeError(
                f"this Python has no ensurepip, which is in a package of its own on Debian and"
                f" Ubuntu. Install it: apt-get install {name}"
            )
        self.run(base_python(), "-m", "venv", "--clear", str(VENV))

    def install_uv(self) -> None:
        """By pip, from its own lines of the lock: from here on hashes are checked."""
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirement:
            requirement.write(lines_of("uv", LOCK.read_text()))
            requirement.flush()
            self.pip_install(requirement.name)

    def install_locked(self) -> None:
        sync = (self.uv, "pip", "sync", "--quiet", "--require-hashes", "--python", self.python)
        if self.code(*sync, str(LOCK)) != 0:
            say("uv could not do it; trying pip, for which a mirror or a proxy may be configured")
            self.pip_install(str(LOCK))

    def install_project(self) -> None:
        """The project itself, editable; its setuptools is the lock's."""
        install = (self.uv, "pip", "install", "--quiet", "--python", self.python)
        self.run(*install, "--no-deps", "--no-build-isolation", "--editable", str(ROOT))

    def pip_install(self, requirements: str) -> None:
        install = (self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        self.run(*install, "--no-deps", "--require-hashes", "--requirement", requirements)

    def run(self, *command: str) -> None:
        if self.code(*command) != 0:
            raise CannotMakeError(
                "this command failed, for the reason above. Mend that and call make again:\n  "
                + " ".join(command)
            )

    def code(self, *command: str) -> int:
        environ = {name: value for name, value in os.environ.items() if name not in MISLEADING}
        return subprocess.run(
            command, cwd=ROOT, env=environ, pass_fds=[self.lock_fd], check=False
        ).returncode


def base_python() -> str:
    """The Python below any venv, for ours may be the active one and is about to be cleared."""
    beside = Path(sys.base_prefix, "bin", "python{}.{}".format(*sys.version_info[:2]))
    return str(beside) if beside.exists() else sys.executable


def lines_of(package: str, lock: str) -> str:
    r"""The entry of one package with its hashes, continued over lines by backslashes.

    >>> lines_of("uv", "six==1 \\\n  --hash=a\nuv==2 \\\n  --hash=b\nxx==3\n")
    'uv==2 \\\n  --hash=b\n'
    """
    entry = ""
    for line in lock.splitlines(keepends=True):
        if entry.endswith("\\\n") or line.startswith(f"{package}=="):
            entry += line
    if not entry:
        raise CannotMakeError(
            f"requirements.lock has no entry for {package}. Run: git checkout requirements.lock"
        )
    return entry


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
