"""Stands between a worker and PostgreSQL, and knows which statement is on its way.

So a fault can be put before or after any statement of the product, which itself has no hook.
"""

import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

from rag_assets_tests.fault.statements import Statements

_SYNC = ""
_EXECUTES, _PREPARES, _BINDS, _ASKS, _SYNCS = b"E", b"P", b"B", b"Q", b"S"
_ANSWERS = (b"C", b"I", b"s")  # done, an empty query, a part of a result
_FAILS, _READY, _KEY = b"E", b"Z", b"K"


class Side(StrEnum):
    BEFORE = "before"
    """The server has not seen the statement."""
    AFTER = "after"
    """The server has answered, and the worker does not know."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A statement at its nth occurrence in one worker's life."""

    statement: str
    nth: int
    side: Side

    def __str__(self) -> str:
        return f"{self.side} {self.statement} #{self.nth}"


Meets = Callable[[Moment, "Link"], None]
"""What happens at a moment. It may cut the link, kill the worker, or take its time."""


class Gate:
    """A socket that one worker takes for the server's."""

    def __init__(
        self,
        folder: Path,
        server_url: str,
        *,
        statements: Statements,
        awaited: Callable[[Moment], bool],
        meets: Meets,
    ) -> None:
        self._server_url = server_url
        self._folder = folder
        self.statements = statements
        self.awaited = awaited
        self.meets = meets
        self.seen: Counter[str] = Counter()
        self.order: list[str] = []
        self._links: list[Link] = []
        self._counting = threading.Lock()
        folder.mkdir()
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(folder / ".s.PGSQL.5432"))
        self._listening.listen(64)
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def url(self, url: str) -> str:
        """The way through this gate to what a URL names."""
        parts = urlsplit(url)
        query = f"host={quote(str(self._folder), safe='')}&port=5432"
        return urlunsplit(parts._replace(query=query))

    def count(self, statement: str) -> int:
        with self._counting:
            self.seen[statement] += 1
            self.order.append(statement)
            return self.seen[statement]

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listening.close()
        for link in self._links:
            link.close()

    def _accept(self) -> None:
        address = parse_qs(urlsplit(self._server_url).query)
        path = f"{address['host'][0]}/.s.PGSQL.{address.get('port', ['5432'])[0]}"
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(path)
                except OSError:  # it is down: the worker sees what it would see without us
                    client.close()
                    server.close()
                    continue
                self._links.append(Link(self, client, server))


class Link:
    """One connection through the gate."""

    def __init__(self, gate: Gate, client: socket.socket, server: socket.socket) -> None:
        self._gate = gate
        self._client = client
        self._server = server
        self._texts: dict[bytes, str] = {}
        self._bound: dict[bytes, str] = {}
        self._last = "nothing"
        self._under_way: deque[tuple[str, int]] = deque()
        self.backend: int | None = None
        """The process id of the server's side."""
        self._threads = [
            threading.Thread(target=self._carry, args=(carries,), daemon=True)
            for carries in (self._requests, self._answers)
        ]
        for thread in self._threads:
            thread.start()

    def cut(self) -> None:
        self.lose_server()
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        for thread in self._threads:
            thread.join()
        self._client.close()
        self._server.close()

    def lose_server(self) -> None:
        """The server believes the client gone; the client does not know yet."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)

    def _carry(self, carries: Callable[[], None]) -> None:
        try:
            with suppress(OSError):
                carries()
        finally:
            self.cut()

    def _requests(self) -> None:
        """From the worker to the server, holding what is awaited until its moment has passed."""
        for kind, message in _messages(self._client, starts=True):
            if kind in (_EXECUTES, _ASKS):
                statement = self._statement(kind, message[5:])
                nth = self._gate.count(statement)
                self._meet(Moment(statement, nth, Side.BEFORE))
                self._under_way.append((statement, nth))
            elif kind in (_PREPARES, _BINDS):
                self._remember(kind, message[5:])
            if kind in (_SYNCS, _ASKS):
                self._under_way.append((_SYNC, 0))
            self._server.sendall(message)

    def _answers(self) -> None:
        held = b""
        acting: Moment | None = None
        for kind, message in _messages(self._server):
            if kind == _KEY:
                self.backend = struct.unpack("!i", message[5:9])[0]
            moment = self._answered(kind)
            if moment and self._gate.awaited(moment):
                acting = acting or moment
            if acting and (kind == _READY or not self._sync_is_sent()):
                self._meet(acting)
                acting = None
            held += message
            if not acting:
                self._client.sendall(held)
                held = b""

    def _answered(self, kind: bytes) -> Moment | None:
        """The moment after the statement that this message ends."""
        if kind in (_READY, _FAILS):
            while self._under_way and self._under_way[0][0] != _SYNC:
                self._under_way.popleft()
            if kind == _READY and self._under_way:
                self._under_way.popleft()
        elif kind in _ANSWERS and self._under_way and self._under_way[0][0] != _SYNC:
            statement, nth = self._under_way.popleft()
            return Moment(statement, nth, Side.AFTER)
        return None

    def _sync_is_sent(self) -> bool:
        return any(statement == _SYNC for statement, _ in self._under_way)

    def _meet(self, moment: Moment) -> None:
        if self._gate.awaited(moment):
            self._gate.meets(moment, self)

    def _remember(self, kind: bytes, body: bytes) -> None:
        first, second, *_ = body.split(b"\0", 2)
        if kind == _PREPARES:
            self._texts[first] = self._gate.statements.name(second.decode(errors="replace"))
        else:
            self._bound[first] = self._texts.get(second, "other")

    def _statement(self, kind: bytes, body: bytes) -> str:
        if kind == _EXECUTES:
            name = self._bound.get(body.split(b"\0", 1)[0], "other")
        else:
            name = self._gate.statements.name(body.rstrip(b"\0").decode(errors="replace"))
        if "." in name:
            self._last = name
            return name
        return f"{name} after {self._last}"


def _messages(stream: socket.socket, *, starts: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """Whole messages; the first of a client has no letter."""
    buffer = b""
    while data := stream.recv(65536):
        buffer += data
        while len(buffer) >= 5:
            letters = 0 if starts else 1
            length = letters + struct.unpack_from("!i", buffer, letters)[0]
            if len(buffer) < length:
                break
            yield (b"" if starts else buffer[:1]), buffer[:length]
            buffer, starts = buffer[length:], False
