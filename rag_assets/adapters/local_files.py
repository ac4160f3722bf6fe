"""A folder as a source of documents."""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote_from_bytes

from rag_assets.adapters.document_names import (
    LARGEST_BYTES,
    LONGEST_ID,
    doc_id_of,
    may_be_shortened,
    name_of,
    taken_by,
)
from rag_assets.errors import SourceError
from rag_assets.model import LocalFilesSettings, SourceObject

_CLOCK_TICK_S = 0.05
"""File times move in ticks of a few milliseconds: a younger file may change without a trace."""
_LOOKS = 10
_LEFT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """Lists and reads files below a folder; never follows a link out of it."""

    settings: LocalFilesSettings

    def objects(self) -> Iterator[SourceObject]:
        root = self._root()
        takes = taken_by(self.settings.include, self.settings.exclude)
        uri = root.absolute().as_uri().rstrip("/")
        beginning = len(os.path.join(root, ""))  # noqa: PTH118 # a string, for every file of a corpus
        for entry in _files(str(root)):
            relative = entry.path[beginning:]
            if not takes(relative):
                continue
            if entry.is_symlink() and not _is_inside(Path(entry.path), root):
                continue
            if (status := _settled_status(entry)) is not None:
                yield _object(relative, status, uri)

    def look(self, doc_id: str) -> SourceObject | None:
        root = self._root()
        path = _path_of(doc_id, root)
        if not path.is_relative_to(root):
            return None
        relative = path.relative_to(root)
        takes = taken_by(self.settings.include, self.settings.exclude)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or not takes(str(relative)) or not _is_inside(path, root):
            return None
        status = _settled_status(path)
        uri = root.absolute().as_uri().rstrip("/")
        return None if status is None else _object(str(relative), status, uri)

    def read(self, doc_id: str) -> bytes | None:
        root = self._root()
        path = _path_of(doc_id, root)
        if may_be_shortened(doc_id) and not os.path.lexists(path):
            raise SourceError(
                f"The path of {doc_id} is longer than {LONGEST_ID} bytes. Move the file further"
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


def _files(root: str) -> Iterator["os.DirEntry[str]"]:
    """What is no folder, in the order of paths; a folder that cannot be listed ends the listing."""
    folders = [iter(_entries(root))]
    while folders:
        for entry in folders[-1]:
            if entry.is_dir(follow_symlinks=False):
                folders.append(iter(_entries(entry.path)))
                break
            yield entry
        else:
            folders.pop()


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        _unlistable(error)
    return sorted(visible, key=lambda entry: entry.name)


def _object(relative: str, status: os.stat_result, root_uri: str) -> SourceObject:
    raw = os.fsencode(relative)
    return SourceObject(
        doc_id=doc_id_of(raw),
        uri=f"{root_uri}/{quote_from_bytes(raw)}",
        source_hash=_source_hash(status),
        modified_at=_time(status.st_mtime),
    )


def _time(seconds: float) -> datetime | None:
    """A file may be dated to a year that no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _is_inside(path: Path, root: Path) -> bool:
    """Wherever links lead; `realpath`, unlike `Path.resolve`, does not raise where they circle."""
    if not _leads_through_links(path, root):
        return True
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def _leads_through_links(path: Path, root: Path) -> bool:
    below = path.relative_to(root).parts if path.is_relative_to(root) else ("..",)
    place = root
    for part in below:
        place /= part
        if part == ".." or place.is_symlink():
            return True
    return False


def _settled_status(file: "Path | os.DirEntry[str]") -> os.stat_result | None:
    """A regular file's status once its times are old enough to tell of any later write."""
    try:
        status = file.stat()
        for _ in range(_LOOKS):
            if not 0 <= time.time() - status.st_ctime < _CLOCK_TICK_S:
                break
            time.sleep(_CLOCK_TICK_S)
            status = os.stat(file)  # noqa: PTH116 # an entry remembers its first status
    except OSError as error:
        if error.errno in _LEFT:
            return None
        _unlistable(error)
    return status if stat.S_ISREG(status.st_mode) else None


def _content(path: Path) -> bytes | None:
    """The bytes of a file; a pipe or a folder that has taken its place has none to wait for."""
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        return None
    with os.fdopen(opened, "rb") as file:
        content = file.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {LARGEST_BYTES >> 20} MB")
    return content


def _source_hash(status: os.stat_result) -> bytes:
    """Changes with every write: size and times, the change time among them, which no tool sets."""
    parts = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


def _path_of(doc_id: str, root: Path) -> Path:
    return root / os.fsdecode(name_of(doc_id))


def _unlistable(error: OSError) -> NoReturn:
    raise SourceError(
        f"The source cannot be listed: {error.filename}: {error.strerror}. Nothing was deleted."
        " Mend it, and run again."
    ) from error
