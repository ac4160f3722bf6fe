"""A parse worker: reads document after document within its limits, and has nothing to steal.

It is started with an empty environment, opens no file but modules, and dies with its run.
"""

import fcntl
import importlib
import math
import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, BinaryIO

from rag_assets.adapters.parse_workers.frames import Frames, frame, from_document
from rag_assets.errors import RagAssetsError, UnreadableDocumentError
from rag_assets.ports import Parser

_PIECE = 1024 * 1024


def main(settings: dict[str, Any]) -> None:
    """Runs until nobody asks any more, or a document was too much."""
    _die_with_the_run(settings["lifeline"])
    answers = _private_output()
    try:
        parser_of = _imported(settings["parsers"])
    except (ImportError, AttributeError) as error:
        _send(answers, frame({"failed": f"{type(error).__name__}: {error}"}))
        return
    _limit(settings)
    _send(answers, frame({"ready": True}))
    requests = Frames(most_body=2**32)
    while piece := os.read(0, _PIECE):
        requests.feed(piece)
        for request, content in requests.complete():
            _limit_cpu(settings["cpu_s"])
            number = {"number": request["number"]}
            try:
                header, body = _answer(parser_of, request, content)
                answer = frame(number | header, body)
            except MemoryError:
                _send(answers, frame(number | {"exceeded": "memory"}))
                return
            except Exception as error:
                _send(answers, frame(number | {"broken": type(error).__name__}))
                raise  # who knows what state it leaves behind: another worker goes on
            is_small = sum(map(len, answer)) <= settings["output_bytes"]
            _send(answers, answer if is_small else frame(number | {"exceeded": "output"}))


def _answer(
    parser_of: Callable[[str], Parser], request: dict[str, Any], content: bytes
) -> tuple[dict[str, Any], bytes]:
    try:
        parser = parser_of(request["parser"])
        return from_document(parser.parse(content, doc_id=request["doc_id"]))
    except UnreadableDocumentError as error:
        return {"unreadable": str(error)}, b""
    except RagAssetsError as error:
        return {"failed": str(error)}, b""


def _imported(name: str) -> Callable[[str], Parser]:
    module, _, function = name.partition(":")
    found: Callable[[str], Parser] = getattr(importlib.import_module(module), function)
    return cache(found)


def _private_output() -> BinaryIO:
    """Where answers go; what a library prints goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)
    return answers


def _send(answers: BinaryIO, pieces: list[bytes]) -> None:
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            rest = rest[answers.write(rest) or 0 :]


# --- limits ---------------------------------------------------------------------------------------


def _die_with_the_run(lifeline: int) -> None:
    """The run holds the other end of this pipe: when that closes, the kernel ends this process.

    Also in the middle of a document, and however the run ended. (The signal for a parent's death
    is no good for that: it comes when the thread ends that started the worker.) Where the kernel
    sends none, the end of the requests is seen after the document.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    with suppress(OSError):
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)


def _limit(settings: dict[str, Any]) -> None:
    """No file can be written and no core dumped; memory is what was given."""
    for kind, most in (
        (resource.RLIMIT_AS, settings["memory_bytes"]),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        with suppress(ValueError, OSError):  # some systems refuse some of them
            resource.setrlimit(kind, (most, most))


def _limit_cpu(seconds: float) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = math.ceil(used.ru_utime + used.ru_stime + seconds)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (most, hard))
