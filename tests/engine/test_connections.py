"""Connecting, and what becomes of connections that break."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb import CircuitBreaker, create_engine
from netra_chdb.engine import guard, pool_counters
from netra_chdb.resilience.retry import RetryPolicy
from tests.conftest import started
from tests.engine.parts import QUICK, ask, lose, retries
from tests.proxy import Proxy
from tests.servers import ModernServer, free_port, wait_for


def test_connecting_is_tried_again(modern_server: ModernServer, driver: str) -> None:
    breaker = CircuitBreaker()
    engine = create_engine(modern_server.url(driver, port=free_port()))
    guard(engine, breaker, RetryPolicy(**QUICK))
    with pytest.raises(sa_exc.OperationalError), engine.connect():
        pass
    counters = pool_counters(engine)
    assert (counters.connection_attempts, counters.failed_connections, counters.retry_attempts) == (3, 3, 2)
    assert breaker.fail_counter == 1


def test_a_statement_that_has_to_connect_does_not_multiply_the_attempts(
    make: Callable[..., sa.Engine], proxy: Proxy
) -> None:
    engine = make(policy={"max_attempts": 4})
    with engine.connect() as connection:
        connection.scalar(sa.text("SELECT 1"))
        proxy.close()
        with pytest.raises(sa_exc.DBAPIError):
            connection.scalar(sa.text("SELECT 1"))
        assert connection.invalidated
    # Over HTTP the statement's first attempt was one to connect, inside its client.
    assert pool_counters(engine).connection_attempts == 1 + 3
    assert retries(engine) == 3


def test_what_goes_wrong_when_a_connection_is_replaced_leaves_none(
    make: Callable[..., sa.Engine], proxy: Proxy
) -> None:
    engine = make()
    broken = True

    def connected(*_: object) -> None:
        if broken:
            raise ValueError("not this one")

    with engine.connect() as connection:
        connection.scalar(sa.text("SELECT 1"))
        sa.event.listen(engine, "connect", connected)
        lose(proxy, "needle")
        with pytest.raises(ValueError, match="not this one"):
            connection.scalar(sa.text("SELECT 'needle'"))
        assert connection.invalidated
        broken = False
        connection.rollback()
        assert connection.scalar(sa.text("SELECT 42")) == 42
    counters = pool_counters(engine)
    assert counters.checkouts == counters.checkins


def test_a_connection_lost_while_it_is_made_ready_is_not_replaced(make: Callable[..., sa.Engine], proxy: Proxy) -> None:
    engine = make()
    lose(proxy, "SELECT version()")
    if engine.dialect.driver == "chhttp":
        lose(proxy, "currentDatabase")
    with pytest.raises(sa_exc.DBAPIError), engine.connect():
        pass
    assert ask(engine) == 42


def test_a_detached_connection_is_not_replaced(make: Callable[..., sa.Engine], proxy: Proxy) -> None:
    engine = make()
    with engine.connect() as connection:
        connection.scalar(sa.text("SELECT 1"))
        connection.detach()
        lose(proxy, "needle")
        with pytest.raises(sa_exc.DBAPIError):
            connection.scalar(sa.text("SELECT 'needle'"))
    assert ask(engine) == 42


def test_only_the_broken_connection_goes(
    make: Callable[..., sa.Engine], proxy: Proxy, modern_server: ModernServer
) -> None:
    # uptime() has whole seconds: connections of a server's first one may be older than it, as far as it can tell.
    wait_for(lambda: int(modern_server.query("SELECT uptime()")) >= 2, "the server to be two seconds old")
    engine = make(pool_size=3)
    connections = [engine.connect() for _ in range(3)]
    for connection in connections[1:]:
        connection.close()
    lose(proxy, "needle")
    assert connections[0].scalar(sa.text("SELECT 'needle'")) == "needle"
    connections[0].close()
    again = [engine.connect() for _ in range(3)]
    for connection in again:
        assert connection.scalar(sa.text("SELECT 42")) == 42
        connection.close()
    assert proxy.accepted == 4
    assert pool_counters(engine).invalidations == 1


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModernServer]:
    yield from started(ModernServer(tmp_path_factory.mktemp("guard")))


def test_after_a_restart_one_retry_is_enough_for_the_whole_pool(own_server: ModernServer) -> None:
    engine = create_engine(own_server.url("chnative"), pool_size=4, max_overflow=0)
    guard(engine, CircuitBreaker(fail_max=1000), RetryPolicy(**QUICK))

    def all_at_once() -> list[Any]:
        connections = [engine.connect() for _ in range(4)]
        answers = [connection.scalar(sa.text("SELECT 42")) for connection in connections]
        for connection in connections:
            connection.close()
        return answers

    assert all_at_once() == [42] * 4
    own_server.restart()
    assert ask(engine) == 42
    assert all_at_once() == [42] * 4
    counters = pool_counters(engine)
    assert (counters.retry_attempts, counters.invalidations, counters.connection_attempts) == (1, 4, 8)
    engine.dispose()


def test_a_connection_that_dies_while_it_is_asked_for_the_uptime(make: Callable[..., sa.Engine], proxy: Proxy) -> None:
    engine = make()
    with engine.connect() as connection:
        connection.scalar(sa.text("SELECT 1"))
        lose(proxy, "needle")

        def lose_next(*_: object) -> None:
            lose(proxy, "uptime()")

        sa.event.listen(engine, "invalidate", lose_next, once=True)
        assert connection.scalar(sa.text("SELECT 'needle'")) == "needle"
    # Over HTTP the next request opens a new line by itself.
    assert retries(engine) == (1 if engine.dialect.driver == "chhttp" else 2)


def test_a_plain_engine_can_be_guarded(modern_server: ModernServer, driver: str) -> None:
    engine = sa.create_engine(modern_server.url(driver), poolclass=sa.NullPool)
    with pytest.raises(KeyError):
        pool_counters(engine)
    guard(engine, CircuitBreaker(), RetryPolicy(**QUICK))
    assert ask(engine) == 42
    assert pool_counters(engine).checkouts == 1


def test_a_forked_child_leaves_the_parents_sockets_alone(modern_server: ModernServer, driver: str) -> None:
    code = f"""
import os, sys
import sqlalchemy as sa
from netra_chdb import CircuitBreaker, create_engine
from netra_chdb.engine import guard, pool_counters
engine = create_engine({modern_server.url(driver)!r}, pool_size=1, max_overflow=0)
guard(engine, CircuitBreaker())
def ask(sql):
    with engine.connect() as connection:
        return connection.scalar(sa.text(sql))
assert ask("SELECT 1") == 1
for turn in range(3):
    child = os.fork()
    if not child:
        good = ask("SELECT 42") == 42 and pool_counters(engine).connection_attempts == 2
        engine.dispose()
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ask("SELECT 43") == 43
    assert pool_counters(engine).connection_attempts == 1
print("good")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[1]
    )
    assert done.stdout.strip() == "good", done.stderr
