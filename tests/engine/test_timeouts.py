"""For how long a statement is tried."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb import CircuitBreaker, create_engine, errors
from netra_chdb.engine import guard, pool_counters
from netra_chdb.resilience.retry import RetryPolicy
from tests.engine.parts import QUICK, THROW, ask, retries
from tests.proxy import Proxy
from tests.servers import ModernServer


def test_a_timeout_is_sent_and_the_smaller_limit_wins(make: Callable[..., sa.Engine]) -> None:
    engine = make()
    limit = "SELECT toFloat64(getSetting('max_execution_time'))"
    assert 7 < ask(engine, limit, timeout=7.5) <= 7.5
    assert ask(engine, limit, timeout=7.5, settings={"max_execution_time": 3}) == 3
    assert 7 < ask(engine, limit, timeout=7.5, settings={"max_execution_time": 30}) <= 7.5
    assert ask(engine, limit) == 0


def test_a_timeout_ends_a_slow_query(make: Callable[..., sa.Engine]) -> None:
    engine = make()
    began = time.monotonic()
    with pytest.raises(sa_exc.DBAPIError) as caught:
        ask(engine, "SELECT sum(sleepEachRow(0.05)) FROM numbers(1000) SETTINGS max_block_size = 1", timeout=0.5)
    assert errors.code_of(caught.value) == 159
    assert time.monotonic() - began < 20
    assert retries(engine) == 0
    assert pool_counters(engine).invalidations == 0


def test_a_timeout_covers_all_attempts(make: Callable[..., sa.Engine], gate: Callable[[int], str]) -> None:
    engine = make(policy={"max_attempts": 1000, "initial_delay": 0.2, "max_delay": 0.2, "jitter": False})
    began = time.monotonic()
    with pytest.raises(sa_exc.DBAPIError) as caught:
        ask(engine, f"SELECT {gate(202)}", settings=THROW, timeout=1)
    assert errors.code_of(caught.value) in (202, 159)
    # Five delays and no more, however many attempts there might be.
    assert 1 <= retries(engine) <= 6
    assert 0.5 < time.monotonic() - began < 20


def test_a_timeout_ends_the_wait_for_a_silent_line(make: Callable[..., sa.Engine], proxy: Proxy) -> None:
    engine = make()
    with engine.connect() as connection:
        connection.scalar(sa.text("SELECT 1"))
        proxy.hang()
        began = time.monotonic()
        with pytest.raises(sa_exc.DBAPIError) as caught:
            connection.scalar(sa.text("SELECT 1").execution_options(timeout=0.5))
        assert errors.classify(caught.value) is errors.Outcome.AMBIGUOUS
        assert time.monotonic() - began < 20  # not the 300 s that the driver waits
    proxy.flow()
    assert ask(engine) == 42


def test_a_timeout_without_a_retry_policy(make: Callable[..., sa.Engine], modern_server: ModernServer) -> None:
    engine = create_engine(modern_server.url("chnative"))
    guard(engine, CircuitBreaker())
    assert ask(engine, "SELECT toFloat64(getSetting('max_execution_time'))", timeout=9) <= 9
    with pytest.raises(sa_exc.DBAPIError):
        ask(engine, "SELECT no_such_column")
    assert retries(engine) == 0
    engine.dispose()


def test_a_read_only_user_may_not_send_a_timeout(modern_server: ModernServer, driver: str) -> None:
    engine = create_engine(modern_server.url(driver, user="reader"))
    guard(engine, CircuitBreaker(), RetryPolicy(**QUICK))
    assert ask(engine) == 42
    with pytest.raises(sa_exc.DBAPIError) as caught:
        ask(engine, timeout=5)
    assert errors.code_of(caught.value) == 164
    engine.dispose()


def test_an_old_server_gets_whole_seconds(old_server: Any) -> None:
    engine = create_engine(old_server.url("chnative"))
    guard(engine, CircuitBreaker(), RetryPolicy(**QUICK))
    sql = "SELECT value FROM system.settings WHERE name = 'max_execution_time'"
    assert ask(engine, sql, timeout=7.3) == "8"
    assert ask(engine, sql, timeout=0.2) == "1"
    engine.dispose()
