"""A folder as a source of documents."""

import errno
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NoReturn

from rag_assets.errors import SourceError
from rag_assets.model import LocalFilesSettings, SourceObject

_CLOCK_TICK_S = 0.05
"""File times move in ticks of a few milliseconds: a younger file may change without a trace."""
_LOOKS = 10
_LONGEST_ID = 1500
"""Bytes: what the database's indexes hold beside a word."""
_SHORTENED = re.compile(r".{100}…[0-9a-f]{16}\Z", re.DOTALL)
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
_WILD = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """Lists and reads files below a folder; never follows a link out of it."""

    settings: LocalFilesSettings

    def objects(self) -> Iterator[SourceObject]:
        root = self._root()
        for path in sorted(self._paths(root)):
            if (found := self._object(path, root)) is not None:
                yield found

    def look(self, doc_id: str) -> SourceObject | None:
        root = self._root()
        path = _path_of(doc_id, root)
        relative = path.relative_to(root)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or not self._takes(relative) or not _is_inside(path, root):
            return None
        return self._object(path, root)

    def read(self, doc_id: str) -> bytes | None:
        root = self._root()
        path = _path_of(doc_id, root)
        if _SHORTENED.search(doc_id) and not os.path.lexists(path):
            raise SourceError(
                f"The path of {doc_id} is longer than {_LONGEST_ID} bytes. Move the file further"
                " up, or exclude it in the corpus's `source`."
            )
        if not _is_inside(path, root):
            return None
        try:
            return _content(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise SourceError(
                f"{doc_id} cannot be read ({error.strerror}). Mend it, or exclude it in the"
                " corpus's `source`; the run tries again each time."
            ) from error

    def _root(self) -> Path:
        root = Path(self.settings.path)
        if not root.is_dir():
            raise SourceError(
                f"The source folder {root} is not there. Nothing was deleted. Make it, or correct"
                " `source.local_files.path` in the corpus's defs.yaml."
            )
        return root

    def _paths(self, root: Path) -> Iterator[Path]:
        """Files that the patterns take; a folder that cannot be listed ends the listing."""
        for folder, folders, files in os.walk(root, onerror=_unlistable):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                path = Path(folder, name)
                if not name.startswith(".") and self._takes(path.relative_to(root)):
                    yield path

    def _takes(self, relative: Path) -> bool:
        name = PurePosixPath(relative)
        return any(_matches(name, pattern) for pattern in self.settings.include) and not any(
            _matches(name, pattern) for pattern in self.settings.exclude
        )

    def _object(self, path: Path, root: Path) -> SourceObject | None:
        try:
            if path.is_symlink() and not _is_inside(path, root):
                return None
            status = _settled_status(path)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                return None
            _unlistable(error)
        if not stat.S_ISREG(status.st_mode):
            return None
        return SourceObject(
            doc_id=_doc_id(path.relative_to(root)),
            uri=path.absolute().as_uri(),
            source_hash=_source_hash(status),
        )


def _is_inside(path: Path, root: Path) -> bool:
    """Wherever links lead; `realpath`, unlike `Path.resolve`, does not raise where they circle."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def _settled_status(path: Path) -> os.stat_result:
    """A file's status once its times are old enough to tell of any later write."""
    status = path.stat()
    for _ in range(_LOOKS):
        if not 0 <= time.time() - status.st_ctime < _CLOCK_TICK_S:
            break
        time.sleep(_CLOCK_TICK_S)
        status = path.stat()
    return status


def _content(path: Path) -> bytes | None:
    """The bytes of a file; a pipe or a folder that has taken its place has none to wait for."""
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        return None
    with os.fdopen(opened, "rb") as file:
        return file.read()


def _source_hash(status: os.stat_result) -> bytes:
    """Changes with every write: size and times, the change time among them, which no tool sets."""
    parts = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


def _doc_id(relative: Path) -> str:
    r"""The path in slashes; bytes that are no UTF-8 are escaped, for a database holds only text.

    >>> _doc_id(Path(os.fsdecode(b"caf\xe9.md"))), _doc_id(Path(r"caf\xe9.md"))
    ('caf\\xe9.md', 'caf\\x5cxe9.md')
    """
    raw = os.fsencode(relative.as_posix()).replace(b"\\x", b"\\x5cx")
    if len(raw) > _LONGEST_ID:
        digest = hashlib.blake2b(raw, digest_size=8).hexdigest()
        return f"{_text(raw[: _LONGEST_ID // 2])}…{digest}"
    return _text(raw)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="backslashreplace")


def _path_of(doc_id: str, root: Path) -> Path:
    raw = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), doc_id.encode())
    return root / os.fsdecode(raw)


def _matches(name: PurePosixPath, pattern: str) -> bool:
    """`**/` stands for any folders, none included; `*` stays within one name.

    >>> [_matches(PurePosixPath(name), "a/**/*.md") for name in ("a/b.md", "a/b/c.md", "x/a/b.md")]
    [True, True, False]
    """
    return _compiled(pattern).fullmatch(str(name)) is not None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return re.compile("".join(_WILD.get(part, re.escape(part)) for part in parts), re.DOTALL)


def _unlistable(error: OSError) -> NoReturn:
    raise SourceError(
        f"The source cannot be listed: {error.filename}: {error.strerror}. Nothing was deleted."
        " Mend it, and run again."
    ) from error
