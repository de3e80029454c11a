"""A server that is away under many readers: what reaches it, how soon it answers again, and what is left behind."""

from __future__ import annotations

import collections
import gc
import math
import random
import threading
import time
import tracemalloc
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb import CircuitBreaker, create_engine
from netra_chdb.engine import guard, pool_counters
from netra_chdb.errors import BreakerOpen
from netra_chdb.resilience.retry import RetryBudget, RetryPolicy
from tests.conftest import started
from tests.servers import ModernServer, wait_for

READERS = 100
CONNECTIONS = 15
HALF_OPEN_CALLS = 3
FAILURES = 5
ROOM = 2.0


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModernServer]:
    yield from started(ModernServer(tmp_path_factory.mktemp("outage")))


@pytest.mark.parametrize("driver", ["chhttp", "chnative"])
@pytest.mark.parametrize(("away", "half_open_after"), [(3.0, 0.5), pytest.param(60.0, 5.0, marks=pytest.mark.slow)])
def test_an_outage_under_many_readers(server: ModernServer, driver: str, away: float, half_open_after: float) -> None:
    """A server that is away for ``away`` seconds under 100 readers that never stop asking.

    Every attempt that gets as far as the server is one to open a connection, or one on a connection that was open
    when the server went, of which there are C = 15. The others are bounded by

        A = C + R + P * H

    first attempts, R retries, and trial calls. R = tokens / 5 = 100: the budget, of which nothing comes back while
    nothing succeeds. At most C statements are under way at once, each with its own connection, so C first attempts
    can fail before the breaker is open; after that it lets H = 3 calls through in each of P periods, where P is
    ``away`` by the shortest open time (it is jittered by a fifth and only grows) plus one.
    """
    engine = create_engine(server.url(driver), pool_size=CONNECTIONS, max_overflow=0, pool_timeout=120)
    breaker = CircuitBreaker(
        FAILURES, half_open_after, half_open_calls=HALF_OPEN_CALLS, success_threshold=HALF_OPEN_CALLS,
        max_reset_timeout=half_open_after * 2, rng=random.Random(3),
    )  # fmt: skip
    budget = RetryBudget(500)
    guard(engine, breaker, RetryPolicy(initial_delay=0.05, max_delay=0.2, budget=budget))
    outcomes: collections.Counter[str] = collections.Counter()
    answered = threading.Event()
    ended = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        while not ended.is_set():
            try:
                with engine.connect() as connection:
                    assert connection.scalar(sa.text("SELECT 42")) == 42
                outcomes["answered"] += 1
                answered.set()
            except BreakerOpen:
                outcomes["refused"] += 1
                time.sleep(0.05)
            except sa_exc.DBAPIError:
                outcomes["failed"] += 1
            except BaseException as error:
                failures.append(error)
                return

    before = threading.active_count()
    readers = [threading.Thread(target=read) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    try:
        wait_for(lambda: outcomes["answered"] >= 3 * READERS, "the readers to be at work", 60)
        ready = pool_counters(engine)
        tokens = budget.tokens
        server.kill()
        time.sleep(away)
        counters = pool_counters(engine)
        attempts = counters.connection_attempts - ready.connection_attempts
        retried = counters.retry_attempts - ready.retry_attempts
        shortest = half_open_after * 0.8
        periods = math.ceil(away / shortest) + 1
        bound = CONNECTIONS + tokens // 5 + periods * HALF_OPEN_CALLS
        print(f"{driver}, away {away} s: {attempts} attempts to connect, {retried} retries, bound {bound}, {outcomes}")
        assert attempts <= bound
        assert retried <= tokens // 5
        assert breaker.current_state in ("open", "half-open")
        server.start()
        answered.clear()
        back, period = time.monotonic(), breaker.snapshot().retry_after
        # A trial call that is under way now may fail yet, and start a period: the longest, jittered by a fifth.
        left = half_open_after * 2.4 if period is None else period
        assert answered.wait(30 + left)
        took = time.monotonic() - back
        print(f"first good answer {took:.2f} s after the server was back, {left:.2f} s of the period were left")
        # What was left of the period, a reader's pause, and room for a hundred threads on a machine with other work.
        assert took < left + 0.05 + ROOM
        wait_for(lambda: breaker.current_state == "closed", "the breaker to close", 60)
    finally:
        ended.set()
        for reader in readers:
            reader.join(60)
    assert failures == []
    counters = pool_counters(engine)
    assert counters.checkouts == counters.checkins
    pool = engine.pool
    assert isinstance(pool, sa.QueuePool)
    assert pool.checkedout() == 0
    engine.dispose()
    assert threading.active_count() == before


@pytest.mark.parametrize("queries", [1_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_memory_stays_flat(embedded_url: str, queries: int) -> None:
    """Also when every hundredth fails: a failure's traceback leads to its connection and back."""
    engine = create_engine(embedded_url, pool_size=1, max_overflow=0)
    guard(engine, CircuitBreaker(fail_max=1000), RetryPolicy(initial_delay=0, max_delay=0, max_attempts=2))
    failing = sa.text("SELECT throwIf(1, 'x', toInt16(202))").execution_options(
        settings={"allow_custom_error_code_in_throwif": 1}
    )

    def ask(count: int) -> None:
        with engine.connect() as connection:
            for number in range(count):
                if number % 100:
                    connection.scalar(sa.text("SELECT 1"))
                else:
                    with pytest.raises(sa_exc.DBAPIError):
                        connection.scalar(failing)

    ask(1000)
    gc.collect()
    tracemalloc.start()
    try:
        ask(queries)
        gc.collect()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        engine.dispose()
    assert grown < 1_000_000
