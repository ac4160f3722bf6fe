"""Looks for words that must be nowhere: in files, in databases, in what is packed inside them.

A word is found as it is, and as it comes out of base64, hexadecimal and zlib, which is how Dagster
keeps snapshots. Every value of every SQLite file is read, and every file byte by byte.
"""

import base64
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

BITS_A_LETTER = 6


class Canaries:
    def __init__(self, words: Mapping[str, str]) -> None:
        """By name; a finding tells the name, and never the word."""
        self._forms = {form: name for name, word in words.items() for form in _forms(word.encode())}

    def in_bytes(self, content: bytes) -> set[str]:
        """The names of those that a content holds, packed or not."""
        found = {name for form, name in self._forms.items() if form in content}
        for unpacked in _unpacked(content):
            found |= {name for form, name in self._forms.items() if form in unpacked}
        return found

    def in_text(self, text: str) -> set[str]:
        return self.in_bytes(text.encode("utf-8", "surrogateescape"))

    def in_folder(self, folder: Path) -> set[tuple[str, str]]:
        """File and name, also for file names."""
        found = set()
        for file in sorted(folder.rglob("*")):
            place = file.relative_to(folder).as_posix()
            contents = [place.encode(), *(_contents(file) if file.is_file() else ())]
            found |= {(place, name) for each in contents for name in self.in_bytes(each)}
        return found


def _forms(word: bytes) -> Iterator[bytes]:
    yield word
    yield word.hex().encode()
    yield quote(word, safe="").encode()
    for shift in range(3):  # where it begins in the text decides how base64 writes it
        packed = base64.b64encode(b"\0" * shift + word)
        yield packed[4 if shift else 0 : len(packed) - 4]


def _contents(file: Path) -> Iterator[bytes]:
    content = file.read_bytes()
    yield content
    if content.startswith(b"SQLite format 3\0"):
        yield from _values(file)


def _values(file: Path) -> Iterator[bytes]:
    """A long value is spread over pages of the file, and whole only here."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        connection.text_factory = bytes
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (name,) in names:
            for row in connection.execute(f'SELECT * FROM "{name.decode()}"'):
                yield from (each for each in row if isinstance(each, bytes))


def _unpacked(content: bytes) -> Iterator[bytes]:
    for window in (zlib.MAX_WBITS, zlib.MAX_WBITS | 16):
        try:
            yield zlib.decompressobj(window).decompress(content)
        except zlib.error:
            continue
