"""A limit that holds whatever asks at once, and shares that add up."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.errors import BudgetSpentError
from rag_assets.indexing.spending import Budget, by_bucket, shared
from rag_assets.model import Spent

AMOUNTS = st.lists(st.integers(0, 10_000), min_size=1, max_size=20)


@given(st.integers(0, 10**9), AMOUNTS)
def test_shares_add_up_and_none_is_off_by_a_whole_one(total: int, weights: list[int]) -> None:
    shares = shared(total, weights)
    assert sum(shares) == total
    if any(weights):
        for share, weight in zip(shares, weights, strict=True):
            assert abs(share - total * weight / sum(weights)) < 1


def test_what_was_asked_for_no_document_is_of_no_bucket() -> None:
    assert by_bucket(Spent(1, 0, 3), {}) == {-1: Spent(1, 0, 3)}


def test_what_was_set_aside_and_not_needed_comes_back() -> None:
    budget = Budget(Decimal(10))
    for _ in range(9):
        with budget.reserved(Decimal(2)) as settle:
            settle(Decimal(1))
    assert budget.spent == 9
    with pytest.raises(BudgetSpentError, match="another --max-cost"):
        budget.reserved(Decimal(2)).__enter__()
    with budget.reserved(Decimal(1)):
        pass
    assert budget.spent == 9, "a request that was not made costs nothing"


def test_a_request_waits_for_one_that_may_give_back_enough() -> None:
    budget, entered = Budget(Decimal(3)), threading.Event()

    def second() -> None:
        entered.set()
        with budget.reserved(Decimal(2)) as settle:
            settle(Decimal(2))

    with ThreadPoolExecutor(1) as pool, budget.reserved(Decimal(2)) as settle:
        waits = pool.submit(second)
        assert entered.wait(10)
        settle(Decimal(1))
        assert not waits.done()
    waits.result(10)
    assert budget.spent == 3


def test_many_threads_never_spend_more_together_than_the_limit() -> None:
    budget, refused = Budget(Decimal(50)), []

    def spends(number: int) -> None:
        try:
            with budget.reserved(Decimal(4)) as settle:
                time.sleep(0.0005 * (number % 3))
                settle(Decimal(number % 4 + 1))
        except BudgetSpentError:
            refused.append(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(spends, range(40)))
    assert Decimal(46) < budget.spent <= 50
    assert refused
