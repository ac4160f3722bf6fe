"""The rate at which a provider is asked is one for all runs, and the database's clock counts it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from rag_assets.adapters.postgres.rate_limits import PostgresRateLimits
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.integration.flow import rows, value


class Limits:
    """Makes limits of one provider, each with a connection of its own, as runs have them."""

    def __init__(self, urls: DatabaseUrls, stack: ExitStack) -> None:
        self.urls, self._stack = urls, stack

    def __call__(self, provider: str = "fake:model", **limits: int) -> PostgresRateLimits:
        return self._stack.enter_context(PostgresRateLimits(self.urls.writer, provider, **limits))

    def age(self, seconds: float) -> None:
        """As if so much time had passed."""
        rows(
            self.urls.writer,
            "UPDATE rate_limits SET refilled_at = refilled_at - make_interval(secs => %(s)s::float8),"
            " slowed_at = slowed_at - make_interval(secs => %(s)s::float8),"
            " paused_until = paused_until - make_interval(secs => %(s)s::float8)"
            " RETURNING provider",
            s=seconds,
        )

    def pace(self) -> float:
        return float(value(self.urls.writer, "SELECT pace FROM rate_limits"))


@pytest.fixture
def limits(database: DatabaseUrls) -> Iterator[Limits]:
    with ExitStack() as stack:
        yield Limits(database, stack)


def test_without_limits_nobody_waits(limits: Limits) -> None:
    free = limits()
    assert [free.take(10_000) for _ in range(50)] == [0.0] * 50


def test_requests_past_the_rate_wait_each_a_little_longer(limits: Limits) -> None:
    sixty = limits(requests_per_minute=60)
    waits = [sixty.take(1) for _ in range(14)]
    assert waits[:10] == [0.0] * 10  # ten seconds' worth is there at the beginning
    assert waits[10:] == pytest.approx([1, 2, 3, 4], abs=0.9)


def test_tokens_past_the_rate_wait_until_they_are_there(limits: Limits) -> None:
    few = limits(tokens_per_minute=600)
    assert few.take(100) == 0.0
    assert few.take(50) == pytest.approx(5, abs=0.9)


def test_a_request_larger_than_the_bucket_is_taken_on_credit(limits: Limits) -> None:
    few = limits(tokens_per_minute=600)
    assert few.take(700) == pytest.approx(60, abs=0.9)


def test_the_bucket_fills_with_time_and_no_higher_than_its_brim(limits: Limits) -> None:
    sixty = limits(requests_per_minute=60)
    for _ in range(12):
        sixty.take(1)
    limits.age(5)
    assert sixty.take(1) == 0.0
    limits.age(3600)
    assert [sixty.take(1) for _ in range(11)][-1] > 0


def test_what_was_not_needed_is_given_back(limits: Limits) -> None:
    few = limits(tokens_per_minute=600)
    few.take(150)
    few.settle(100)
    assert few.take(50) == 0.0


def test_runs_share_the_rate(limits: Limits) -> None:
    runs = [limits(requests_per_minute=60) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        waits = [
            each
            for run in pool.map(lambda run: [run.take(1) for _ in range(5)], runs)
            for each in run
        ]
    assert sum(wait == 0 for wait in waits) == 10
    assert max(waits) == pytest.approx(10, abs=1.5)


def test_each_provider_has_its_own_rate(limits: Limits) -> None:
    one, other = limits("a:one", requests_per_minute=6), limits("a:other", requests_per_minute=6)
    assert one.take(1) == 0.0
    assert one.take(1) > 0
    assert other.take(1) == 0.0


def test_too_many_requests_pause_every_run_and_slow_it_down(limits: Limits) -> None:
    one, other = limits(requests_per_minute=600), limits(requests_per_minute=600)
    one.take(1)
    one.throttled(30)
    assert other.take(1) == pytest.approx(30, abs=0.9)
    assert limits.pace() == pytest.approx(0.7)
    other.throttled(5)  # what many hear at once counts once, and the longest pause is kept
    assert limits.pace() == pytest.approx(0.7)
    assert one.take(1) == pytest.approx(30, abs=0.9)


def test_the_pace_recovers_with_answers_and_never_stops(limits: Limits) -> None:
    one = limits(requests_per_minute=600)
    one.take(1)
    for _ in range(20):
        one.throttled(0)
        limits.age(10)
    assert limits.pace() == pytest.approx(0.05)
    for _ in range(60):
        one.settle(0)
    assert limits.pace() == 1


def test_a_pause_is_kept_also_where_no_limit_is_set(limits: Limits) -> None:
    one, other = limits(), limits()
    one.take(1)
    one.throttled(20)
    assert other.take(1) == pytest.approx(20, abs=0.9)
    limits.age(21)
    assert other.take(1) == 0.0
