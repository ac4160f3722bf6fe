"""Keeps the workers busy, judges what becomes of them, and replaces those that are lost."""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import rag_assets
from rag_assets.adapters.parse_workers.frames import (
    Frames,
    MalformedFrameError,
    frame,
    to_document,
)
from rag_assets.errors import ConfigurationError, ServerError, UnreadableDocumentError
from rag_assets.model import ParsedDocument, ParseJob

Outcome: TypeAlias = ParsedDocument | UnreadableDocumentError

_JOBS_A_WORKER = 16
"""Sent ahead, so that small documents do not wait for one another."""
_MOST_JOBS = 64
_MOST_BYTES = 16 * 1024 * 1024
"""Of documents and texts on their way, unless a single one is larger."""
_ENOUGH_FOR_ONE = 64 * 1024
_ATTEMPTS = 2
_PIECE = 1024 * 1024
_BEGIN = (
    "import json, sys; settings = json.loads(sys.argv[1]); sys.path[:] = settings['path'];"
    " from rag_assets.adapters.parse_workers.worker import main; main(settings)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one document may take. More than this, and it becomes a dead letter."""

    memory_mb: int = 400
    cpu_s: float = 30
    wall_s: float = 120
    """Longer than `cpu_s`, for a busy machine is no fault of the document."""
    content_mb: int = 100
    output_mb: int = 64


class ParseWorkers:
    """Reads documents in processes with limits. Started when there is work, ended by `close`.

    `parsers` is where the workers find the function from a parser's identity to the parser:
    `package.module:function`. They import it themselves.
    """

    def __init__(self, parsers: str, *, workers: int = 2, limits: Limits | None = None) -> None:
        self._parsers = parsers
        self._workers = workers
        self._limits = limits or Limits()
        self._idle: list[_Worker] = []
        self._end = weakref.finalize(self, _end_all, self._idle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes; they are started again if there is more to do."""
        _end_all(self._idle)

    def parsed(self, jobs: Iterable[ParseJob]) -> Iterator[Outcome]:
        crew = _Crew(self._idle, self._parsers, self._workers, self._limits)
        waiting: deque[_Task] = deque()
        coming = iter(jobs)
        is_over = False
        try:
            while not is_over or waiting:
                while not is_over and crew.has_room(waiting):
                    if (job := next(coming, None)) is None:
                        is_over = True
                    else:
                        waiting.append(task := _Task(job))
                        crew.give(task)
                if waiting and waiting[0].outcome is None:
                    crew.listen()
                while waiting and (outcome := waiting[0].outcome) is not None:
                    waiting.popleft()
                    yield outcome
        finally:
            crew.dismiss()


def _end_all(workers: "list[_Worker]") -> None:
    while workers:
        workers.pop().end()


# --- one document, one worker ---------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Task:
    job: ParseJob
    outcome: Outcome | None = None
    attempts: int = 0

    @property
    def size(self) -> int:
        if isinstance(self.outcome, ParsedDocument):
            return len(self.outcome.text)
        return len(self.job.content)

    def refuse(self, reason: str) -> None:
        self.outcome = UnreadableDocumentError(
            f"{self.job.doc_id} {reason}. Exclude it in the corpus's `source`, or save it in a"
            " simpler form."
        )


@dataclass(slots=True, eq=False)
class _Worker:
    """A process with the documents it was given, in order: the first is the one it reads."""

    process: subprocess.Popen[bytes]
    lifeline: int
    frames: Frames
    patience_s: float
    is_ready: bool = False
    sent: int = 0
    tasks: deque[_Task] = field(default_factory=deque)
    unsent: deque[memoryview] = field(default_factory=deque)

    @classmethod
    def started(cls, parsers: str, limits: Limits) -> "_Worker":
        ours, theirs = os.pipe()
        settings = {
            "path": [str(Path(rag_assets.__file__).parents[1]), *map(os.path.abspath, sys.path)],
            "parsers": parsers,
            "lifeline": ours,
            "memory_bytes": limits.memory_mb * 1024**2,
            "output_bytes": limits.output_mb * 1024**2,
            "cpu_s": limits.cpu_s,
        }
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BEGIN, json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env={},  # no password or key of ours is there to be read
                pass_fds=(ours,),
            )
        except OSError as error:
            os.close(theirs)
            raise ServerError(f"A parse worker cannot be started: {error.strerror}.") from error
        finally:
            os.close(ours)
        worker = cls(process, theirs, Frames(limits.output_mb * 1024**2), limits.wall_s)
        os.set_blocking(worker.requests, False)
        os.set_blocking(worker.answers, False)
        return worker

    @property
    def requests(self) -> int:
        assert self.process.stdin is not None  # noqa: S101 - both are pipes
        return self.process.stdin.fileno()

    @property
    def answers(self) -> int:
        assert self.process.stdout is not None  # noqa: S101 - see above
        return self.process.stdout.fileno()

    @property
    def load(self) -> int:
        return sum(len(task.job.content) for task in self.tasks)

    def send(self, task: _Task) -> None:
        job = task.job
        header = {"number": self.sent, "doc_id": job.doc_id, "parser": job.parser}
        self.tasks.append(task)
        self.sent += 1
        self.unsent.extend(map(memoryview, frame(header, job.content)))
        self.write()

    def write(self) -> None:
        """As much as the pipe takes now."""
        try:
            while self.unsent:
                written = os.write(self.requests, self.unsent[0])
                self.unsent[0] = self.unsent[0][written:]
                if not self.unsent[0]:
                    self.unsent.popleft()
        except BlockingIOError:
            pass
        except BrokenPipeError:  # it has ended, as its answers will tell
            self.unsent.clear()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        os.close(self.lifeline)


# --- all workers of one run -----------------------------------------------------------------------


class _Crew:
    """The workers that read for one caller. They come from those that are idle, and go back."""

    def __init__(
        self, idle: list[_Worker], parsers: str, most_workers: int, limits: Limits
    ) -> None:
        self._idle = idle
        self._parsers = parsers
        self._most_workers = most_workers
        self._limits = limits
        self._workers: list[_Worker] = []

    def has_room(self, waiting: deque[_Task]) -> bool:
        if len(waiting) >= _MOST_JOBS or sum(task.size for task in waiting) >= _MOST_BYTES:
            return not waiting
        return any(len(worker.tasks) < _JOBS_A_WORKER for worker in self._workers) or (
            len(self._workers) < self._most_workers
        )

    def give(self, task: _Task) -> None:
        if len(task.job.content) > self._limits.content_mb * 1024**2:
            task.refuse(f"is larger than {self._limits.content_mb} MB")
            return
        self._least_busy().send(task)

    def _least_busy(self) -> _Worker:
        """Another worker is taken on when none is free and there is more than a little to do."""
        least = min(self._workers, key=lambda worker: worker.load, default=None)
        is_enough = least is not None and (
            least.load < _ENOUGH_FOR_ONE and len(least.tasks) < _JOBS_A_WORKER
        )
        if least is not None and (is_enough or len(self._workers) >= self._most_workers):
            return least
        worker = self._one_that_is_idle() or _Worker.started(self._parsers, self._limits)
        self._workers.append(worker)
        return worker

    def _one_that_is_idle(self) -> _Worker | None:
        try:
            return self._idle.pop()  # another thread may do the same
        except IndexError:
            return None

    def listen(self) -> None:
        """Waits for an answer, or for a worker to run out of time; only waiting counts as time."""
        busy = [worker for worker in self._workers if worker.tasks]
        with selectors.PollSelector() as selector:
            for worker in busy:
                selector.register(worker.answers, selectors.EVENT_READ, worker)
                if worker.unsent:
                    selector.register(worker.requests, selectors.EVENT_WRITE, worker)
            began = time.monotonic()
            events = selector.select(max(min(worker.patience_s for worker in busy), 0))
            waited = time.monotonic() - began
        for worker in busy:
            worker.patience_s -= waited
        for key, mask in events:
            if mask & selectors.EVENT_WRITE:
                key.data.write()
            else:
                self._read(key.data)
        for worker in busy:
            if worker in self._workers and worker.tasks and worker.patience_s <= 0:
                self._lose(worker, f"took longer than {self._limits.wall_s:g} s to read")

    def _read(self, worker: _Worker) -> None:
        try:
            piece = os.read(worker.answers, _PIECE)
        except BlockingIOError:
            return
        if not piece:
            self._bury(worker)
            return
        worker.frames.feed(piece)
        try:
            for header, body in worker.frames.complete():
                self._take(worker, header, body)
                if worker not in self._workers:
                    return
        except MalformedFrameError:
            self._lose(worker, "made its reader answer nonsense")

    def _take(self, worker: _Worker, header: dict[str, Any], body: bytes) -> None:
        worker.patience_s = self._limits.wall_s
        if "failed" in header:
            self._fail(worker, str(header["failed"]))
        elif not worker.is_ready:
            worker.is_ready = True
        elif not worker.tasks:  # nobody has asked
            self._lose(worker)
        elif header.get("number") != worker.sent - len(worker.tasks):
            self._lose_or_try_again(worker, "made its reader answer nonsense")
        elif "unreadable" in header:
            worker.tasks.popleft().outcome = UnreadableDocumentError(str(header["unreadable"]))
        elif "broken" in header:
            self._lose(worker, f"makes its reader fail ({str(header['broken'])[:80]})")
        elif header.get("exceeded") == "memory":
            reason = f"needs more than {self._limits.memory_mb} MB of memory to be read"
            self._lose_or_try_again(worker, reason)
        elif header.get("exceeded") == "output":
            worker.tasks.popleft().refuse(f"has more than {self._limits.output_mb} MB of text")
        else:
            document = to_document(header, body)
            worker.tasks.popleft().outcome = document

    def _fail(self, worker: _Worker, reason: str) -> None:
        if worker.is_ready:
            raise ConfigurationError(reason)
        raise ServerError(f"A parse worker cannot be started: {reason}.")

    def _bury(self, worker: _Worker) -> None:
        """Its answers have ended."""
        code = worker.process.wait()
        if not worker.is_ready:
            raise ServerError(f"A parse worker cannot be started: it ended with code {code}.")
        if -code == signal.SIGXCPU:
            self._lose(worker, f"took longer than {self._limits.cpu_s:g} s to read")
        else:
            how = signal.Signals(-code).name if code < 0 else f"code {code}"
            self._lose_or_try_again(worker, f"makes its reader crash ({how})")

    def _lose_or_try_again(self, worker: _Worker, reason: str) -> None:
        """Somebody else may have killed it, and documents before this one have taken memory."""
        worker.tasks[0].attempts += 1
        self._lose(worker, reason if worker.tasks[0].attempts >= _ATTEMPTS else None)

    def _lose(self, worker: _Worker, reason: str | None = None) -> None:
        """Ends a worker; with a reason its first document is refused, the others go to another."""
        self._workers.remove(worker)
        worker.end()
        if reason is not None and worker.tasks:
            worker.tasks.popleft().refuse(reason)
        while worker.tasks:
            self.give(worker.tasks.popleft())

    def dismiss(self) -> None:
        """Workers that have nothing to do are kept for the next caller."""
        for worker in self._workers:
            if worker.tasks:
                worker.end()
            else:
                self._idle.append(worker)
        self._workers.clear()
