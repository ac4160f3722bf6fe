"""How an embedding service can fail, and in which order it does: listed, or drawn from a seed."""

import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock


class Fault(StrEnum):
    """What happens to one request. Those marked "paid" have been computed and billed."""

    RATE_LIMITED = "rate_limited"
    """429 with Retry-After."""
    RATE_LIMITED_SILENTLY = "rate_limited_silently"
    """429 without it."""
    SERVER_ERROR = "server_error"
    """500 with the error body of the API."""
    OVERLOADED = "overloaded"
    """503 with a page of HTML, as a proxy before the API answers."""
    HANG = "hang"
    """Paid; no answer comes."""
    SLOW = "slow"
    """Paid; the right answer comes late."""
    CUT = "cut"
    """Paid; the connection ends in the middle of the body."""
    CLOSED = "closed"
    """The connection ends before a word of the answer."""
    NOT_JSON = "not_json"
    """Paid; 200 with a body that is no JSON."""
    TOO_FEW = "too_few"
    """Paid; one vector is missing."""
    TOO_MANY = "too_many"
    """Paid; one vector comes twice."""
    SHUFFLED = "shuffled"
    """Paid; in another order, of which the answer tells (`index`, or the texts)."""
    WRONG_INDEX = "wrong_index"
    """Paid; two vectors claim the same place."""
    NOT_A_NUMBER = "not_a_number"
    """Paid; one vector has a NaN."""
    INFINITE = "infinite"
    """Paid; one vector has an infinity."""
    ZERO = "zero"
    """Paid; one vector is all zeros."""
    WRONG_DIMENSION = "wrong_dimension"
    """Paid; one vector is too short."""
    NULL = "null"
    """Paid; one vector is null."""
    QUOTA = "quota"
    """The account has no money left."""
    AUTH = "auth"
    """The key is refused."""


STOPPING = (Fault.QUOTA, Fault.AUTH)
"""After these a run ends, and a person must act."""

BEFORE_WORK = (
    Fault.RATE_LIMITED,
    Fault.RATE_LIMITED_SILENTLY,
    Fault.SERVER_ERROR,
    Fault.OVERLOADED,
    Fault.CLOSED,
    *STOPPING,
)
"""Nothing was computed, and nothing is billed."""

HARMLESS = (Fault.SLOW, Fault.SHUFFLED)
"""The answer can be used."""

PASSING = tuple(fault for fault in Fault if fault not in STOPPING)
"""What a run must live through."""


@dataclass(slots=True)
class Faults:
    """Which fault each request meets: first those listed, then at random from a seed.

    >>> faults = Faults(seed=7, rate=0.5, kinds=(Fault.CUT, Fault.ZERO))
    >>> faults.add([Fault.QUOTA, None])
    >>> [faults.next() for _ in range(2)]
    [<Fault.QUOTA: 'quota'>, None]
    """

    seed: int = 0
    rate: float = 0.0
    kinds: Sequence[Fault] = PASSING
    _listed: deque[Fault | None] = field(default_factory=deque)
    _drawn: int = 0
    _lock: Lock = field(default_factory=Lock)

    def add(self, faults: Iterable[Fault | None]) -> None:
        """The next requests meet these, one each; None is a request without a fault."""
        with self._lock:
            self._listed.extend(faults)

    def next(self) -> Fault | None:
        with self._lock:
            if self._listed:
                return self._listed.popleft()
            self._drawn += 1
            random_of_request = random.Random(f"{self.seed} {self._drawn}")
            if random_of_request.random() >= self.rate:
                return None
            return random_of_request.choice(list(self.kinds))
