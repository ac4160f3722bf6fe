"""A folder as a source of documents."""

import hashlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from rag_assets.errors import SourceError
from rag_assets.model import LocalFilesSettings, SourceObject

_CLOCK_TICK_S = 0.05
"""File times move in ticks of a few milliseconds: a younger file may change without a trace."""
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

    def read(self, doc_id: str) -> bytes | None:
        path = _path_of(doc_id, Path(self.settings.path))
        try:
            return path.read_bytes()
        except FileNotFoundError:
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
            if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
                return None
            status = path.stat()
        except FileNotFoundError:
            return None
        age = time.time() - status.st_ctime
        if 0 <= age < _CLOCK_TICK_S:
            time.sleep(_CLOCK_TICK_S)
            status = path.stat()
        return SourceObject(
            doc_id=_doc_id(path.relative_to(root)),
            uri=path.absolute().as_uri(),
            source_hash=_source_hash(status),
        )


def _source_hash(status: os.stat_result) -> bytes:
    """Changes with every write: size and times, the change time among them, which no tool sets."""
    parts = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


def _doc_id(relative: Path) -> str:
    """The path in slashes; bytes that are no UTF-8 are escaped, for a database holds only text."""
    return os.fsencode(relative.as_posix()).decode("utf-8", errors="backslashreplace")


def _path_of(doc_id: str, root: Path) -> Path:
    path = root / doc_id
    if path.exists() or "\\x" not in doc_id:
        return path
    raw = doc_id.encode().decode("unicode_escape", errors="ignore")
    return root / os.fsdecode(raw.encode("latin-1", errors="ignore"))


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


def _unlistable(error: OSError) -> None:
    raise SourceError(
        f"The source cannot be listed: {error.filename}: {error.strerror}. Nothing was deleted."
        " Mend it, and run again."
    ) from error
