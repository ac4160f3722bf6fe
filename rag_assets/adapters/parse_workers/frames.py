"""What goes between a run and its parse workers: a short header in JSON, then bytes.

Nothing that a worker sends is ever executed or unpickled: it has read documents of strangers.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rag_assets.model import Heading, ParsedDocument

_SIZES = struct.Struct(">II")
MOST_HEADER = 32 * 1024 * 1024


class MalformedFrameError(Exception):
    """What came is no frame, or larger than one may be."""


def frame(header: dict[str, Any], body: bytes = b"") -> list[bytes]:
    """In pieces, so that a large body is not copied."""
    head = json.dumps(header, ensure_ascii=False).encode()
    return [_SIZES.pack(len(head), len(body)) + head, body]


@dataclass(slots=True)
class Frames:
    """Puts frames together again from what has come so far."""

    most_body: int
    _received: bytearray = field(default_factory=bytearray)

    def feed(self, piece: bytes) -> None:
        self._received += piece

    def complete(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        while len(self._received) >= _SIZES.size:
            head, body = _SIZES.unpack_from(self._received)
            if head > MOST_HEADER or body > self.most_body:
                raise MalformedFrameError
            if len(self._received) < (end := _SIZES.size + head + body):
                return
            with memoryview(self._received) as received:
                header = _object(bytes(received[_SIZES.size : _SIZES.size + head]))
                content = bytes(received[_SIZES.size + head : end])
            del self._received[:end]
            yield header, content


def _object(raw: bytes) -> dict[str, Any]:
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedFrameError from error
    if not isinstance(header, dict):
        raise MalformedFrameError
    return header


def from_document(document: ParsedDocument) -> tuple[dict[str, Any], bytes]:
    """Header and body of the frame that `to_document` reads."""
    header = {
        "title": document.title,
        "headings": [[each.level, each.title, each.start] for each in document.headings],
        "warnings": document.warnings,
        "pages": document.pages,
    }
    return header, document.text.encode()


def to_document(header: dict[str, Any], body: bytes) -> ParsedDocument:
    """Believes nothing: types and offsets are looked at."""
    try:
        text = body.decode()
        headings = tuple(Heading(*each) for each in header["headings"])
        document = ParsedDocument(
            header["title"], text, headings, tuple(header["warnings"]), tuple(header["pages"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MalformedFrameError from error
    words = [document.title, *(each.title for each in headings), *document.warnings]
    numbers = [
        *document.pages,
        *(each.start for each in headings),
        *(each.level for each in headings),
    ]
    if not all(type(word) is str and _is_storable(word) for word in words) or not all(
        type(number) is int and 0 <= number <= max(len(text), 6) for number in numbers
    ):
        raise MalformedFrameError
    return document


def _is_storable(word: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in word)
