"""Asking a model for vectors: the one wrapper around every provider.

Texts are put into requests that fit, a few requests are under way at once, each goes out when the
shared rate allows it, and again where that can help:

    busy (429, 5xx, no answer)   the same request, later; as long as the provider wishes, or longer
    wrong answer                 the same request, later
    rejected input               each half by itself, down to the text that is to blame
    a vector that cannot be      that text by itself; then the text is rejected
    refusal (key, quota, model)  nothing more; what is under way is still handed over
    money (of a run with a limit)  the same, before a request that might cost more than is left

What a request gave is handed over, to be kept, before another is made: where texts are paid for,
what a killed run loses is never more than the requests that may be under way at once.
"""

import random
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from itertools import count
from threading import Event
from typing import TYPE_CHECKING, Generic, TypeVar

from rag_assets.errors import (
    ConfigurationError,
    EmbeddingError,
    ProviderBusyError,
    ProviderRefusalError,
    RagAssetsError,
    RejectedInputError,
    WrongAnswerError,
)
from rag_assets.indexing.spending import Budget, usd_of
from rag_assets.model import InputKind, RequestLimits, Spent
from rag_assets.ports import Clock, EmbeddingProvider, ProviderAnswer, RateLimits, Vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Key = TypeVar("Key")

PROBE = "word"
"""A text that every model can embed: if this is rejected, the documents are not to blame."""
SUSPECTS = 3
"""So many rejected texts, and none accepted yet, make us ask for the probe."""
UNUSABLE_VECTORS = 6
"""So many vectors that cannot be, for one text by itself, and it is rejected."""
ASK_AGAIN_S = 0.2
"""Until we look again whether another run has let go of texts."""
BYTES_A_TOKEN = 4
"""Of usual text."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long one request is tried."""

    attempts: int = 10
    total_s: float = 900
    first_s: float = 0.5
    longest_s: float = 60


PATIENCE = Patience()
PATIENCE_OF_A_READER = Patience(attempts=3, total_s=15, first_s=0.2, longest_s=2)


class NoRateLimits:
    """For a model that anybody may ask as often as they like."""

    def take(self, tokens: int) -> float:  # noqa: ARG002 - as the port has it
        return 0.0

    def settle(self, unused: int) -> None:
        pass

    def throttled(self, wait_s: float) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Rejected(Generic[Key]):
    """A text that this model gives no vector; `reason` has no word of it."""

    key: Key
    error: str
    reason: str


@dataclass(frozen=True, slots=True)
class Answer(Generic[Key]):
    """What requests gave since the last answer: a row of `vectors` for each of `keys`."""

    keys: tuple[Key, ...]
    vectors: Vectors
    rejected: tuple[Rejected[Key], ...]
    spent: Spent
    asked: Mapping[Key, int] = field(default_factory=dict)
    """What it was spent on: about how many tokens each of these has. None: a probe."""


class PatientEmbedder:
    """An embedder over any provider."""

    def __init__(
        self,
        provider: EmbeddingProvider,
        *,
        clock: Clock,
        chance: random.Random,
        rate: RateLimits | None = None,
        patience: Patience = PATIENCE,
        concurrency: int = 1,
        price: Decimal | None = None,
        budget: Budget | None = None,
        count: Callable[[str], int] | None = None,
    ) -> None:
        self._provider = provider
        self.clock = clock
        self._chance = chance
        self._rate = rate or NoRateLimits()
        self._patience = patience
        self.concurrency = concurrency
        self.price = price
        """US dollars a million tokens, where it is known."""
        self._budget = budget if provider.metered else None
        self._count = count or most_tokens

    @property
    def identity(self) -> str:
        return self._provider.identity

    @property
    def dimensions(self) -> int:
        return self._provider.dimensions

    @property
    def metered(self) -> bool:
        return self._provider.metered

    @property
    def texts_a_request(self) -> int:
        return self._provider.limits.texts

    def answers(
        self,
        batches: Iterable[Sequence[tuple[Key, str]]],
        kind: InputKind = InputKind.DOCUMENT,
    ) -> Generator[Answer[Key], None, None]:
        """Every text gets its vector or is rejected, in no order.

        An empty batch says that there is nothing just now: the next is asked for when all that was
        given before is kept, or a little later.
        To be closed when it is not read to its end.
        """
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="embedding") as pool:
            stop = Event()
            requests = packed(batches, self._provider.limits)
            try:
                yield from _Asking(self, requests, kind, pool, stop).answers()
            finally:
                stop.set()

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return self._embed(texts, InputKind.DOCUMENT)

    def embed_question(self, text: str) -> Vectors:
        row: Vectors = self._embed([text], InputKind.QUESTION)[0]
        return row

    def _embed(self, texts: Sequence[str], kind: InputKind) -> Vectors:
        import numpy as np

        vectors = np.empty((len(texts), self.dimensions), np.float32)
        with closing(self.answers([list(enumerate(texts))] if texts else [], kind)) as answers:
            for answer in answers:
                for rejected in answer.rejected:
                    raise RejectedInputError(
                        f"{self.identity} has no vector for the text that begins"
                        f" {texts[rejected.key][:40]!r}: {rejected.reason}"
                    )
                vectors[list(answer.keys)] = answer.vectors
        return vectors

    # --- one request -----------------------------------------------------------------------------

    def ask(
        self, texts: Sequence[str], kind: InputKind, stop: Event
    ) -> tuple[ProviderAnswer | RagAssetsError, Spent]:
        """One request until it is answered, rejected or given up; what it cost to get there."""
        ends_at: float | None = None  # waiting for the rate is no failure
        spent = Spent()
        for attempt in count(1):
            try:
                outcome = self._ask_once(texts, kind, stop)
                match outcome:
                    case ProviderAnswer():
                        return outcome, spent + Spent(1, len(texts), outcome.tokens)
                    case RejectedInputError():
                        return outcome, spent + Spent(1)
                    case WrongAnswerError():
                        spent += Spent(1, tokens=outcome.tokens)
                    case _:
                        spent += Spent(1)
                if ends_at is None:
                    ends_at = self.clock.monotonic() + self._patience.total_s
                self._back_off(outcome, attempt, ends_at, stop)
            except ProviderRefusalError as error:
                return error, spent + Spent(1)
            except RagAssetsError as error:  # no request was made, or it is counted already
                return error, spent
        raise AssertionError  # `count` does not end

    def _ask_once(
        self, texts: Sequence[str], kind: InputKind, stop: Event
    ) -> ProviderAnswer | RejectedInputError | ProviderBusyError | WrongAnswerError:
        with self._paid_for(texts) as pays:
            entered = sum(map(estimated_tokens, texts))
            if wait_s := self._rate.take(entered):
                self.clock.pause(wait_s * self._chance.uniform(1, 1.05), unless=stop)
            if stop.is_set():
                raise _StoppedError
            try:
                answer = self._answer(texts, kind)
            except (RejectedInputError, ProviderBusyError, WrongAnswerError) as error:
                tokens = getattr(error, "tokens", 0)
                self._rate.settle(entered - tokens)
                pays(tokens or (None if _may_be_billed(error) else 0))
                return error
            self._rate.settle(entered - answer.tokens)
            pays(answer.tokens)
            return answer

    @contextmanager
    def _paid_for(self, texts: Sequence[str]) -> Iterator[Callable[[int | None], None]]:
        """Sets the most that a request can cost aside, until it is told what it did cost.

        None: nobody knows whether it was billed, and so all of it counts as spent.
        """
        if self._budget is None:
            yield lambda _: None
            return
        if self.price is None:
            raise ConfigurationError(
                f"Nobody knows what {self.identity} costs, so no limit can be kept. Name its price"
                " in the file of RAG_ASSETS_PRICES, or run without a limit."
            )
        price = self.price
        most = usd_of(sum(map(self._count, texts)), price)
        with self._budget.reserved(most) as settle:
            yield lambda tokens: settle(None if tokens is None else usd_of(tokens, price))

    def _answer(self, texts: Sequence[str], kind: InputKind) -> ProviderAnswer:
        answer = self._provider.request(texts, kind)
        if len(answer.vectors) != len(texts):
            raise WrongAnswerError(
                f"{self.identity} gave {len(answer.vectors)} vectors for {len(texts)} texts.",
                tokens=answer.tokens,
            )
        return answer

    def _back_off(
        self,
        failure: ProviderBusyError | WrongAnswerError,
        attempt: int,
        ends_at: float,
        stop: Event,
    ) -> None:
        """Waits as long as the provider says, or ever longer; raises when patience has an end."""
        wait_s = self._wait_s(failure, attempt)
        if attempt >= self._patience.attempts or self.clock.monotonic() + wait_s > ends_at:
            tried = "once" if attempt == 1 else f"{attempt} times"
            later = f" It asks to wait {wait_s:.0f} seconds." if asked_wait_s(failure) else ""
            text = f"{failure}{later} It was asked {tried}; what was paid for is kept. Run again."
            raise type(failure)(text)
        if isinstance(failure, ProviderBusyError) and failure.too_many:
            self._rate.throttled(wait_s)
        self.clock.pause(wait_s, unless=stop)

    def _wait_s(self, failure: ProviderBusyError | WrongAnswerError, attempt: int) -> float:
        asked = asked_wait_s(failure, now=self.clock.now())
        doubled = self._patience.first_s * 2.0 ** min(attempt - 1, 30)
        own = min(self._patience.longest_s, doubled) * self._chance.uniform(0.5, 1)
        return own if asked is None else asked + own / 10


# --- many requests -------------------------------------------------------------------------------


class _StoppedError(EmbeddingError):
    """Another request has failed for good."""


@dataclass(frozen=True, slots=True)
class _Job(Generic[Key]):
    items: Sequence[tuple[Key, str]]
    unusable: int = 0
    """How many vectors that cannot be its only text was given, by itself."""


@dataclass(slots=True)
class _Asking(Generic[Key]):
    """Requests under way: those to come, those to be made again, and what they have given."""

    embedder: PatientEmbedder
    requests: Iterator[Sequence[tuple[Key, str]]]
    kind: InputKind
    pool: ThreadPoolExecutor
    stop: Event
    again: deque[_Job[Key]] = field(default_factory=deque)
    running: dict["Future[_Outcome]", _Job[Key]] = field(default_factory=dict)
    suspects: list[Rejected[Key]] = field(default_factory=list)
    """Rejected while no text had been accepted: the request itself may be to blame."""
    accepted: bool = False
    to_come: bool = True
    dry: bool = False
    """The last batch was empty."""
    failure: RagAssetsError | None = None

    def answers(self) -> Iterator[Answer[Key]]:
        while self._start(all_kept=True):
            if not self.running and self.suspects:  # another run may wait for a verdict on these
                yield self._judged_by_probe()
            for outcome, job in self._completed():
                answer = self._judged(outcome, job)
                if not self.embedder.metered:  # it works while this is being kept
                    self._start(all_kept=False)
                yield answer
        if self.suspects and not self.failure:
            yield self._judged_by_probe()
        if self.failure:
            raise self.failure

    def _start(self, *, all_kept: bool) -> bool:
        """Keeps as many requests under way as may be; returns whether any is or will be."""
        while self.failure is None and len(self.running) < self.embedder.concurrency:
            job = self.again.popleft() if self.again else self._next(all_kept)
            if job is None:
                break
            texts = [text for _, text in job.items]
            self.running[self.pool.submit(self.embedder.ask, texts, self.kind, self.stop)] = job
        return bool(self.running) or (self.failure is None and self.to_come)

    def _next(self, all_kept: bool) -> _Job[Key] | None:
        """After an empty batch the next is asked for only when all that was given is kept."""
        nothing_under_way = all_kept and not self.running
        items: Sequence[tuple[Key, str]] | None = ()
        if self.to_come and (nothing_under_way or not self.dry):
            items = next(self.requests, None)
        if self.to_come and nothing_under_way and items is not None and not items:
            items = next(self.requests, None)
        self.to_come, self.dry = self.to_come and items is not None, not items
        return _Job(items) if items else None

    def _completed(self) -> Iterator[tuple["_Outcome", _Job[Key]]]:
        """What has been answered; where nothing is under way, others hold what is left."""
        if not self.running:
            self.embedder.clock.pause(ASK_AGAIN_S, unless=self.stop)
        for future in wait(self.running, return_when=FIRST_COMPLETED).done if self.running else ():
            job = self.running.pop(future)
            yield future.result(), job

    def _fail(self, error: RagAssetsError) -> None:
        """Nothing more is asked; the first reason is the one to be told."""
        if not isinstance(error, _StoppedError):
            self.failure = self.failure or error
        self.stop.set()

    def _judged(self, outcome: "_Outcome", job: _Job[Key]) -> Answer[Key]:
        answered, spent = outcome
        if isinstance(answered, ProviderAnswer):
            return self._looked_at(answered, job, spent)
        if not isinstance(answered, RejectedInputError):
            self._fail(answered)
            return self._answer(spent=spent, of=job)
        if len(job.items) > 1:
            middle = len(job.items) // 2
            self.again.extendleft([_Job(job.items[middle:]), _Job(job.items[:middle])])
            return self._answer(spent=spent, of=job)
        return self._rejected(answered, job, spent)

    def _looked_at(self, answer: ProviderAnswer, job: _Job[Key], spent: Spent) -> Answer[Key]:
        """Keeps the vectors that can be; the texts of the others are asked for by themselves."""
        wrong = problems_of(answer.vectors, self.embedder.dimensions)
        rejected = self._convicted()
        for (key, text), problem in zip(job.items, wrong, strict=True):
            alone = _Job([(key, text)], unusable=job.unusable + (len(job.items) == 1))
            if problem is not None and alone.unusable < UNUSABLE_VECTORS:
                self.again.append(alone)
            elif problem is not None:
                reason = f"{self.embedder.identity} gave it a vector {problem}, again and again."
                rejected += (Rejected(key, "UnusableVector", reason),)
        good = {
            key: vector
            for (key, _), vector, problem in zip(job.items, answer.vectors, wrong, strict=True)
            if problem is None and vector is not None
        }
        return self._answer(good, rejected=rejected, spent=spent, of=job)

    def _rejected(self, error: RejectedInputError, job: _Job[Key], spent: Spent) -> Answer[Key]:
        [(key, _)] = job.items
        self.suspects.append(Rejected(key, type(error).__name__, str(error)))
        if self.accepted:
            return self._answer(rejected=self._convicted(), spent=spent, of=job)
        if self.failure is None and len(self.suspects) >= SUSPECTS:
            return self._judged_by_probe(spent, job)
        return self._answer(spent=spent, of=job)

    def _convicted(self) -> tuple[Rejected[Key], ...]:
        """All suspects: some text has been accepted."""
        self.accepted = True
        convicted, self.suspects = tuple(self.suspects), []
        return convicted

    def _judged_by_probe(
        self,
        before: Spent = Spent(),  # noqa: B008 - it is frozen
        of: _Job[Key] | None = None,
    ) -> Answer[Key]:
        """Nothing has been accepted yet: a text that must be tells who is to blame."""
        answered, spent = self.embedder.ask([PROBE], self.kind, Event())
        if isinstance(answered, RejectedInputError):
            answered = ProviderRefusalError(
                f"{answered} Even a single word is rejected, so no document is to blame. Correct"
                " the settings `embedder` and `embedding`."
            )
        if isinstance(answered, RagAssetsError):
            self._fail(answered)
            return self._answer(spent=before + spent, of=of)
        return self._answer(rejected=self._convicted(), spent=before + spent, of=of)

    def _answer(
        self,
        vectors: Mapping[Key, Vectors] | None = None,
        *,
        rejected: tuple[Rejected[Key], ...] = (),
        spent: Spent,
        of: _Job[Key] | None = None,
    ) -> Answer[Key]:
        import numpy as np

        vectors = vectors or {}
        rows = np.array([*vectors.values()], np.float32)
        rows = rows.reshape(len(vectors), self.embedder.dimensions)
        asked = {key: estimated_tokens(text) for key, text in of.items} if of else {}
        return Answer(tuple(vectors), rows, rejected, spent, asked)


_Outcome = tuple[ProviderAnswer | RagAssetsError, Spent]


# --- texts and vectors ---------------------------------------------------------------------------


def packed(
    batches: Iterable[Sequence[tuple[Key, str]]], limits: RequestLimits
) -> Iterator[list[tuple[Key, str]]]:
    """Each batch as requests that fit; an empty one stays.

    A text that seems too long by itself goes alone, so that no other is rejected with it.

    >>> few = RequestLimits(texts=2, tokens=100, tokens_a_text=10)
    >>> texts = [(1, "a"), (2, "b" * 60), (3, "c"), (4, "d")]
    >>> [[key for key, _ in request] for request in packed([texts, []], few)]
    [[2], [1, 3], [4], []]
    """
    for batch in batches:
        request: list[tuple[Key, str]] = []
        tokens = 0
        for item in batch:
            most = most_tokens(item[1])
            if estimated_tokens(item[1]) > limits.tokens_a_text:
                yield [item]
                continue
            if request and (len(request) == limits.texts or tokens + most > limits.tokens):
                yield request
                request, tokens = [], 0
            request.append(item)
            tokens += most
        if request or not batch:
            yield request


def most_tokens(text: str) -> int:
    """No tokenizer makes more tokens of a text than it has bytes, beside a few marks.

    >>> most_tokens("naïve")
    14
    """
    return len(text.encode()) + 8


def estimated_tokens(text: str) -> int:
    """About how many there are: what is entered into the rate until the provider has counted.

    >>> estimated_tokens("The roof was new in 1999.")
    7
    """
    return -(-len(text.encode()) // BYTES_A_TOKEN)


def problems_of(
    vectors: "Sequence[NDArray[np.float32] | None]", dimensions: int
) -> list[str | None]:
    """What makes each vector unusable, also once it is stored with half the precision.

    >>> import numpy as np
    >>> good, tiny = np.array([0.6, 0.8], np.float32), np.array([0, 1e-9], np.float32)
    >>> problems_of([good, None, tiny], 2)
    [None, 'that has not 2 dimensions', 'without direction']
    """
    import numpy as np

    rows = [
        vector if vector is not None and vector.shape == (dimensions,) else None
        for vector in vectors
    ]
    with np.errstate(over="ignore"):
        halves = np.array([row for row in rows if row is not None], np.float32).astype(np.float16)
    halves = halves.reshape(-1, dimensions)
    finite = np.logical_and.reduce(np.isfinite(halves), axis=1).tolist()
    verdicts = zip(finite, np.logical_or.reduce(halves, axis=1).tolist(), strict=True)
    return [
        f"that has not {dimensions} dimensions" if row is None else _verdict(*next(verdicts))
        for row in rows
    ]


def _verdict(finite: bool, directed: bool) -> str | None:
    if not finite:
        return "with numbers that are none, or too large"
    return None if directed else "without direction"


def _may_be_billed(error: Exception) -> bool:
    """Whether a server may have done the work, though it has not said what it billed."""
    return isinstance(error, WrongAnswerError) or getattr(error, "unanswered", False)


def asked_wait_s(failure: Exception, *, now: datetime | None = None) -> float | None:
    """The seconds of a Retry-After header, as a number or a date; None without a readable one."""
    headers: Mapping[str, str] = getattr(failure, "headers", {})
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if (text := headers.get(name)) is not None:
            seconds = _seconds(text, now)
            if seconds is not None:
                return seconds * unit_s
    return None


def _seconds(text: str, now: datetime | None) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return _seconds_until(text, now)
    return seconds if 0 <= seconds < float("inf") else None


def _seconds_until(text: str, now: datetime | None) -> float | None:
    try:
        date = parsedate_to_datetime(text)
        return None if now is None else max(0.0, (date - now).total_seconds())
    except (ValueError, TypeError):  # no date, or one without a zone
        return None
