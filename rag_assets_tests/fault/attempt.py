"""One worker process, the faults that strike it, and what it paid."""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from rag_assets_tests.fault.faults import SERVICE, Action, Fault
from rag_assets_tests.fault.proxy import Gate, Link, Moment, Side
from rag_assets_tests.fault.statements import Statements
from rag_assets_tests.fault.worker import Ended, Job, Upgrade, work
from rag_assets_tests.services.embedding_service import Behaviour, EmbeddingService
from rag_assets_tests.services.faults import Fault as ServiceFault
from rag_assets_tests.services.faults import Faults as ServiceFaults

PATIENCE_S = 30.0
"""A worker that lives longer hangs."""
_ANSWER_UNDER_WAY_S = 0.05


@dataclass(slots=True)
class Attempt:
    """A worker behind a gate and with a service of its own."""

    process: ForkServerProcess
    gate: Gate
    service: EmbeddingService
    faults: "Strikes"
    _hears: Connection
    _around: ExitStack
    ended: Ended | None = None
    """None for a worker that was killed."""
    hung: bool = False

    def join(self) -> "Attempt":
        self.process.join(PATIENCE_S)
        if self.process.is_alive():
            self.hung = True
            self.process.kill()
            self.process.join()
        with suppress(EOFError):
            if self._hears.poll():
                self.ended = self._hears.recv()
        self.faults.over.set()
        self.faults.woken.set()
        self._around.close()
        return self

    @property
    def clean(self) -> bool:
        return self.ended is not None and not self.ended.error

    @property
    def paid(self) -> int:
        return self.service.paid.total()


@dataclass(slots=True)
class Strikes:
    """The faults that still wait for their moment, and those that have struck."""

    waiting: list[Fault]
    crash: Callable[[], None]
    terminate: Callable[[int], None]
    fill: Callable[[], None]
    pid: int = 0
    struck: list[Fault] = field(default_factory=list)
    paused: threading.Event = field(default_factory=threading.Event)
    woken: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def awaited(self, moment: Moment) -> bool:
        return any(fault.moment == moment for fault in self.waiting)

    def at(self, moment: Moment, link: Link | None) -> None:
        for fault in [fault for fault in self.waiting if fault.moment == moment]:
            self.waiting.remove(fault)
            self.strike(fault, link)

    def by_timer(self) -> None:
        began = time.monotonic()
        timed = sorted((fault for fault in self.waiting if not fault.moment), key=_time)
        for fault in timed:
            if not self.over.wait(max(0.0, began + fault.after_s - time.monotonic())):
                self.waiting.remove(fault)
                self.strike(fault, None)

    def wake(self) -> None:
        self._signal(signal.SIGCONT)
        self.woken.set()

    def strike(self, fault: Fault, link: Link | None) -> None:
        self.struck.append(fault)
        match fault.action:
            case Action.KILL:
                self._signal(signal.SIGKILL)
                if link:  # what it was about to say dies with it
                    link.cut()
            case Action.CUT if link:
                link.cut()
            case Action.TERMINATE if link and link.backend:
                self.terminate(link.backend)
            case Action.PAUSE | Action.FORSAKE:
                self._pause(fault, link)
            case Action.DELAY:
                time.sleep(_ANSWER_UNDER_WAY_S)
            case Action.CRASH:
                self.crash()
            case Action.FILL:
                self.fill()
            case _:
                self._signal(signal.SIGKILL)

    def _pause(self, fault: Fault, link: Link | None) -> None:
        self._signal(signal.SIGSTOP)
        if fault.action is Action.FORSAKE and link:
            link.lose_server()
        self.paused.set()
        self.woken.wait(PATIENCE_S / 2)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


def _time(fault: Fault) -> float:
    return fault.after_s


class _RequestFaults(ServiceFaults):
    """The faults of the service, with the moments of its requests."""

    def __init__(self, faults: ServiceFaults, strikes: Strikes) -> None:
        super().__init__()
        self._faults = faults
        self._strikes = strikes
        self._requests = 0

    def next(self) -> ServiceFault | None:
        self._requests += 1
        fault = self._faults.next()
        for side in Side:
            moment = Moment(SERVICE, self._requests, side)
            if not self._strikes.awaited(moment):
                continue
            if side is Side.BEFORE:
                self._strikes.at(moment, None)
                continue
            timer = threading.Timer(_ANSWER_UNDER_WAY_S, self._strikes.at, (moment, None))
            timer.daemon = True
            timer.start()
            return ServiceFault.SLOW
        return fault


@dataclass(frozen=True, slots=True)
class Ground:
    """What all attempts of a world share."""

    folder: Path
    server_url: str
    context: ForkServerContext
    statements: Statements
    crash: Callable[[], None]
    terminate: Callable[[int], None]
    fill: Callable[[], None]

    def begin(
        self,
        name: str,
        job: Callable[[Gate, EmbeddingService], Job | Upgrade],
        *,
        faults: Sequence[Fault] = (),
        service: ServiceFaults | None = None,
    ) -> Attempt:
        strikes = Strikes(list(faults), self.crash, self.terminate, self.fill)
        gate = Gate(
            self.folder / name,
            self.server_url,
            statements=self.statements,
            awaited=strikes.awaited,
            meets=strikes.at,
        )
        answering = EmbeddingService(
            Behaviour(hang_s=3.0, slow_s=3 * _ANSWER_UNDER_WAY_S, retry_after_s=0.02),
            _RequestFaults(service or ServiceFaults(), strikes),
        )
        around = ExitStack()
        around.callback(gate.close)
        around.enter_context(answering)
        hears, tells = self.context.Pipe(duplex=False)
        process = self.context.Process(target=work, args=(job(gate, answering), tells))
        process.start()
        tells.close()
        strikes.pid = process.pid or 0
        if any(not fault.moment for fault in faults):
            threading.Thread(target=strikes.by_timer, daemon=True).start()
        around.callback(hears.close)
        return Attempt(process, gate, answering, strikes, hears, around)
