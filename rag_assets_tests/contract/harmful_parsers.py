"""Parsers for tests, handed to workers by name: they do the harm that the document asks for."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from rag_assets.adapters.parse_workers.frames import frame
from rag_assets.errors import ConfigurationError, UnreadableDocumentError
from rag_assets.model import Heading, ParsedDocument
from rag_assets.ports import Parser

WHERE = "rag_assets_tests.contract.harmful_parsers:parser_of"


class HarmfulParser:
    """The first word of a document names the harm; one that names none is read as it is."""

    def __init__(self, identity: str) -> None:
        self.identity = identity

    def parse(self, content: bytes, *, doc_id: str) -> ParsedDocument:
        text = content.decode()
        word, _, rest = text.partition(" ")
        if word == "refuse":
            raise UnreadableDocumentError(f"{doc_id} is refused.")
        found = HARMS.get(word, _no_harm)(rest)
        if found is not None:
            return found
        return ParsedDocument(doc_id, text, (Heading(1, doc_id, 0),), ("w",), (0, 1))


def parser_of(identity: str) -> Parser:
    if identity == "unknown@1":
        raise ConfigurationError("There is no parser 'unknown@1'.")
    return HarmfulParser(identity)


def _no_harm(rest: str) -> None:
    pass


def _fail(rest: str) -> None:
    raise KeyError(rest)


def _exit(rest: str) -> None:
    os._exit(3)


def _crash(rest: str) -> None:
    ctypes.string_at(0)


def _die_once(trace: str) -> None:
    """As if somebody had killed it; the folder that is gone is the trace."""
    with suppress(OSError):
        os.rmdir(trace)  # noqa: PTH106
        os.kill(os.getpid(), signal.SIGKILL)


def _spin(rest: str) -> None:
    while True:
        pass


def _fill_memory(rest: str) -> None:
    kept = []
    while True:
        kept.append(bytearray(int(rest)))


def _answer_nonsense(rest: str) -> None:
    _write_to_every_pipe(b"nonsense" * 1000)


def _answer_without_end(rest: str) -> None:
    while True:
        _write_to_every_pipe(bytes(10**6))


def _answer_twice(rest: str) -> None:
    for number in _open_files():
        if number > 2:
            with suppress(OSError):
                for piece in frame({"number": int(rest), "unreadable": "first"}):
                    os.write(number, piece)


def _print(rest: str) -> None:
    print("x" * 100_000)
    sys.stdout.flush()


def _write(path: str) -> None:
    with open(path, "w") as file:  # noqa: PTH123
        file.write("x")


def _surroundings(rest: str) -> ParsedDocument:
    return ParsedDocument("", repr((dict(os.environ), len(_open_files()))))


HARMS: dict[str, Callable[[str], ParsedDocument | None]] = {
    "fail": _fail,
    "exit": _exit,
    "crash": _crash,
    "die-once": _die_once,
    "hang": lambda rest: time.sleep(1000),
    "nap": lambda rest: time.sleep(float(rest)),
    "spin": _spin,
    "memory": _fill_memory,
    "nonsense": _answer_nonsense,
    "endless": _answer_without_end,
    "twice": _answer_twice,
    "print": _print,
    "write": _write,
    "much": lambda rest: ParsedDocument("", "x" * int(rest)),
    "lie": lambda rest: ParsedDocument("", "x", pages=(99,)),
    "halves": lambda rest: ParsedDocument("\ud800", "x"),
    "process": lambda rest: ParsedDocument("", str(os.getpid())),
    "modules": lambda rest: ParsedDocument("", " ".join(sys.modules)),
    "surroundings": _surroundings,
}


def _write_to_every_pipe(raw: bytes) -> None:
    for number in _open_files():
        if number > 2:
            with suppress(OSError):
                os.write(number, raw)


def _open_files() -> list[int]:
    found = []
    for number in range(64):
        with suppress(OSError):
            os.fstat(number)
            found.append(number)
    return found
