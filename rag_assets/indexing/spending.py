"""Money: what tokens cost, a limit that is kept, and whose share of a request is whose."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import ROUND_UP, Decimal
from threading import Condition

from rag_assets.errors import BudgetSpentError
from rag_assets.model import Spent

A_MILLION = 1_000_000
MICRO = Decimal("0.000001")


def usd_of(tokens: int, price: Decimal) -> Decimal:
    """At a price a million.

    >>> usd_of(50_000, Decimal("0.02"))
    Decimal('0.001')
    """
    return (tokens * price / A_MILLION).normalize()


def in_usd(amount: Decimal) -> str:
    """For people: never shown as less than it is.

    >>> in_usd(Decimal("0.00123")), in_usd(Decimal("12.3")), in_usd(Decimal("0"))
    ('$0.00123', '$12.30', '$0.00')
    """
    rounded = amount.quantize(MICRO, ROUND_UP)
    whole, _, cents = f"{rounded:f}".partition(".")
    return f"${whole}.{cents.rstrip('0').ljust(2, '0')}"


def in_vain(unanswered: Decimal) -> str:
    """Names the part of a sum that nobody may have billed.

    >>> in_vain(Decimal(2)), in_vain(Decimal())
    (', of which $2.00 for requests that were never answered', '')
    """
    if not unanswered:
        return ""
    return f", of which {in_usd(unanswered)} for requests that were never answered"


class Budget:
    """What a run may spend, shared by all that ask a model for it, from any thread.

    Before a request the most that it can cost is set aside; with the answer the rest comes back. A
    request waits where others might still give back enough.
    """

    def __init__(self, limit: Decimal, *, spent: Decimal = Decimal()) -> None:
        self.limit = limit
        self.spent = spent
        self.unanswered = Decimal()
        """What of it may have been spent for nothing: nobody knows, and no ledger has it."""
        self._aside = Decimal()
        self._changed = Condition()

    @contextmanager
    def reserved(self, most: Decimal) -> Iterator[Callable[[Decimal | None], None]]:
        """Gives what is to be called with the price; without a call, nothing was spent.

        None, where no answer came: all of it counts, for it may have been billed.
        """
        paid = unanswered = Decimal()

        def settle(usd: Decimal | None) -> None:
            nonlocal paid, unanswered
            paid, unanswered = (most, most) if usd is None else (usd, Decimal())

        self._set_aside(most)
        try:
            yield settle
        finally:
            with self._changed:
                self._aside -= most
                self.spent += paid
                self.unanswered += unanswered
                self._changed.notify_all()

    def _set_aside(self, most: Decimal) -> None:
        with self._changed:
            while self.spent + self._aside + most > self.limit:
                if not self._aside or self.spent + most > self.limit:
                    raise self._over(most)
                self._changed.wait()
            self._aside += most

    def _over(self, most: Decimal) -> BudgetSpentError:
        return BudgetSpentError(
            f"Of the {in_usd(self.limit)} that may be spent, {in_usd(self.spent)} is"
            f"{in_vain(self.unanswered)}; the next request may cost {in_usd(most)}. What was"
            " paid for is kept, and not paid again: run `rag-assets apply` again with"
            " another --max-cost to go on."
        )


def shared(total: int, weights: Sequence[int]) -> list[int]:
    """A whole number in proportion to weights; what is left over goes to the largest remainders.

    >>> shared(10, [1, 1, 1]), shared(1, [2, 5]), shared(7, [0, 0])
    ([4, 3, 3], [0, 1], [7, 0])
    """
    if not any(weights):
        weights = [1, *[0] * (len(weights) - 1)]
    parts = [divmod(total * weight, sum(weights)) for weight in weights]
    left = total - sum(whole for whole, _ in parts)
    first = sorted(range(len(parts)), key=lambda place: -parts[place][1])[:left]
    return [whole + (place in first) for place, (whole, _) in enumerate(parts)]


def by_bucket(spent: Spent, asked: Mapping[tuple[int, bytes], int]) -> dict[int, Spent]:
    """What was spent on some texts, by the bucket of each: nothing is lost, nothing counted twice.

    A request counts where most of its tokens are. What was asked for no text is of no bucket (-1).

    >>> found = by_bucket(Spent(1, 3, 100), {(0, b"a"): 10, (0, b"b"): 20, (3, b"c"): 60})
    >>> found[0], found[3]
    (Spent(requests=0, texts=2, tokens=33), Spent(requests=1, texts=1, tokens=67))
    """
    if not asked:
        return {-1: spent}
    weights: dict[int, int] = {}
    texts: dict[int, int] = {}
    for (bucket, _), tokens in asked.items():
        weights[bucket] = weights.get(bucket, 0) + tokens
        texts[bucket] = texts.get(bucket, 0) + 1
    shares = zip(
        _each(spent.requests, weights),
        _each(spent.texts, texts),
        _each(spent.tokens, weights),
        strict=True,
    )
    return dict(zip(weights, (Spent(*share) for share in shares), strict=True))


def _each(total: int, weights: Mapping[int, int]) -> list[int]:
    return shared(total, list(weights.values()))
