"""How fast a provider may be asked, shared by every run through the database and its clock."""

from contextlib import ExitStack
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, LiteralString, Self

from rag_assets.adapters.postgres import queries
from rag_assets.adapters.postgres.connections import connect, only_row

if TYPE_CHECKING:
    from rag_assets.adapters.postgres.connections import Connection


class PostgresRateLimits:
    """The limits of one provider, over one connection that is made when it is first asked.

    `provider` names what the limits are for, such as a model at a server. A limit of None holds
    nobody up, but a pause that the provider asks of one run is still kept by all.
    """

    def __init__(
        self,
        url: str,
        provider: str,
        *,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
    ) -> None:
        self._url = url
        self._which = {
            "provider": provider,
            "requests_a_second": _a_second(requests_per_minute),
            "tokens_a_second": _a_second(tokens_per_minute),
        }
        self._one_at_a_time = Lock()
        self._open = ExitStack()
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """What ended the connection comes out in our words, so it must be told of it."""
        self._open.__exit__(kind, error, traceback)

    def take(self, tokens: int) -> float:
        with self._one_at_a_time:
            row = only_row(
                self._connected().execute(_query("take"), self._which | {"tokens": tokens})
            )
        return float(row["wait_s"])

    def settle(self, unused: int) -> None:
        self._tell("settle", unused=unused)

    def throttled(self, wait_s: float) -> None:
        self._tell("throttle", wait_s=wait_s)

    def _tell(self, query: str, **what: Any) -> None:
        with self._one_at_a_time:
            self._connected().execute(_query(query), self._which | what)

    def _connected(self) -> "Connection":
        if self._connection is None:
            self._connection = self._open.enter_context(connect(self._url))
            self._connection.execute(_query("hurry"))
        return self._connection


def _a_second(per_minute: int | None) -> float | None:
    return None if per_minute is None else per_minute / 60


def _query(name: str) -> LiteralString:
    return queries.load("rate_limits")[name]
