"""Breaker and retries around one statement."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb import CircuitBreaker, errors
from netra_chdb.engine import pool_counters
from tests.engine.parts import THROW, ask, lose, retries
from tests.proxy import Proxy
from tests.servers import wait_for


def test_a_statement_with_all_its_retries_counts_as_one(
    make: Callable[..., sa.Engine], gate: Callable[[int], str]
) -> None:
    breaker = CircuitBreaker(fail_max=1000)
    engine = make(breaker)
    with pytest.raises(sa_exc.DBAPIError):
        ask(engine, f"SELECT {gate(202)}", settings=THROW)
    assert retries(engine) == 2
    assert breaker.fail_counter == 1


def test_retries_stop_when_the_breaker_opens_even_while_they_sleep(
    make: Callable[..., sa.Engine], gate: Callable[[int], str]
) -> None:
    breaker = CircuitBreaker(fail_max=1000)
    engine = make(breaker, {"initial_delay": 600, "max_delay": 600, "jitter": False})
    caught: list[Exception] = []

    def read() -> None:
        try:
            ask(engine, f"SELECT {gate(202)}", settings=THROW)
        except Exception as error:
            caught.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    wait_for(lambda: retries(engine) == 1, "the first retry")
    breaker.force_open("a test")
    thread.join(20)
    assert not thread.is_alive()
    assert errors.code_of(caught[0]) == 202
    counters = pool_counters(engine)
    assert (counters.circuit_breaker_state, counters.circuit_breaker_opens) == ("open", 1)


def test_a_trial_call_on_a_dead_connection_needs_one_permit(make: Callable[..., sa.Engine], proxy: Proxy) -> None:
    breaker = CircuitBreaker(half_open_calls=1, success_threshold=1)
    engine = make(breaker)
    ask(engine)
    breaker.half_open()
    lose(proxy, "needle")
    assert ask(engine, "SELECT 'needle'") == "needle"
    assert breaker.current_state == "closed"


def test_idle_connections_that_died_say_nothing_about_the_server(make: Callable[..., sa.Engine], proxy: Proxy) -> None:
    breaker = CircuitBreaker(fail_max=1)
    engine = make(breaker, pool_size=3, check_idle_after=0)
    connections = [engine.connect() for _ in range(3)]
    for connection in connections:
        connection.close()
    proxy.cut()
    for _ in range(3):
        assert ask(engine) == 42
    assert (breaker.current_state, breaker.fail_counter) == ("closed", 0)
