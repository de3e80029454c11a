"""The engine: pool counters, idle connections, the breaker in the execution events."""

from __future__ import annotations

import datetime as dt
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from netra_chdb import CircuitBreaker, Config, create_engine, errors
from netra_chdb.engine import guard, pool, pool_counters
from netra_chdb.session import SessionFactory


@pytest.fixture
def counted(embedded_url: str) -> Iterator[sa.Engine]:
    engine = create_engine(embedded_url, pool_size=2, max_overflow=0, check_idle_after=3600)
    yield engine
    engine.dispose()


@pytest.fixture
def refused_url() -> str:
    """A port of this machine where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return f"clickhouse+chhttp://default@127.0.0.1:{port}/default"


def test_a_plain_engine_comes_back(counted: sa.Engine) -> None:
    assert type(counted) is sa.Engine


def test_checkouts_are_hits_or_misses(counted: sa.Engine) -> None:
    before = pool_counters(counted)
    assert before.connection_state == "never"
    for _ in range(5):
        with counted.connect() as connection:
            assert connection.scalar(sa.text("SELECT 1")) == 1
    with counted.connect() as first, counted.connect() as second:
        assert first.scalar(sa.text("SELECT 1")) == second.scalar(sa.text("SELECT 1"))
    after = pool_counters(counted)
    # One connection for the five in turn, a second one for the two at once.
    assert (after.pool_misses, after.pool_hits) == (2, 5)
    assert after.checkouts == after.checkins == 7
    assert after.successful_connections == after.connection_attempts == 2
    assert after.connection_state == "connected"
    assert after.last_successful_connection is not None
    assert abs(dt.datetime.now(dt.UTC) - after.last_successful_connection) < dt.timedelta(minutes=1)


def test_an_invalidated_connection_is_counted_and_replaced(counted: sa.Engine) -> None:
    with counted.connect() as connection:
        connection.invalidate()
    with counted.connect() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1
    counters = pool_counters(counted)
    assert counters.invalidations == 1
    assert counters.pool_misses == 2


def test_after_a_fork_the_pool_is_new_and_the_old_connections_stay_open(
    counted: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a child runs first, here where its lines are measured; tests over real sockets fork.
    with counted.connect() as connection:
        parents: Any = connection.connection.dbapi_connection
    monkeypatch.setattr(pool, "_EVENTS", weakref.WeakKeyDictionary({counted: pool.pool_events(counted)}))
    pool._after_fork()
    with counted.connect() as connection:
        assert connection.connection.dbapi_connection is not parents
    assert pool_counters(counted).pool_misses == 2
    cursor = parents.cursor()
    cursor.execute("SELECT 1")
    assert cursor.fetchall() == [(1,)]
    parents.close()


def test_a_dead_idle_connection_is_replaced_at_checkout(embedded_url: str) -> None:
    engine = create_engine(embedded_url, pool_size=1, max_overflow=0, check_idle_after=0)
    try:
        with engine.connect() as connection:
            raw = connection.connection.dbapi_connection
        assert raw is not None
        raw.close()  # what a server or a firewall does to a connection that idles
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT 1")) == 1
            assert connection.connection.dbapi_connection is not raw
        assert pool_counters(engine).invalidations == 1
    finally:
        engine.dispose()


def test_a_connection_that_idles_shorter_is_not_asked(counted: sa.Engine) -> None:
    with counted.connect() as connection:
        raw = connection.connection.dbapi_connection
    assert raw is not None
    raw.close()
    with counted.connect() as connection, pytest.raises(sa.exc.InterfaceError, match="closed"):
        connection.scalar(sa.text("SELECT 1"))


def test_failed_connections_are_counted(refused_url: str) -> None:
    engine = create_engine(refused_url)
    for _ in range(3):
        with pytest.raises(sa.exc.OperationalError) as caught, engine.connect():
            pass
        assert errors.classify(caught.value) is errors.Outcome.REJECTED
    counters = pool_counters(engine)
    assert (counters.connection_attempts, counters.failed_connections, counters.consecutive_failures) == (3, 3, 3)
    assert counters.connection_state == "failing"
    assert counters.last_successful_connection is None


def test_the_breaker_opens_when_nobody_answers_and_then_nobody_is_asked(refused_url: str) -> None:
    engine = create_engine(refused_url)
    breaker = CircuitBreaker(fail_max=3, reset_timeout=3600)
    sessions = SessionFactory(engine, breaker=breaker)
    for _ in range(3):
        with pytest.raises(sa.exc.OperationalError), sessions() as session:
            session.execute(sa.text("SELECT 1"))
    assert breaker.current_state == "open"
    attempts = pool_counters(engine).connection_attempts
    with pytest.raises(errors.BreakerOpen), sessions() as session:
        session.execute(sa.text("SELECT 1"))
    assert pool_counters(engine).connection_attempts == attempts


@pytest.mark.parametrize(
    "statement",
    ["SELECT * FROM no_such_table_at_all", "SELEKT 1", "SELECT toUInt8('x')", "SELECT throwIf(1)"],
    ids=["unknown table", "syntax", "bad value", "thrown"],
)
def test_what_the_caller_did_wrong_never_opens_the_breaker(counted: sa.Engine, statement: str) -> None:
    breaker = CircuitBreaker(fail_max=2)
    sessions = SessionFactory(counted, breaker=breaker)
    for _ in range(5):
        with pytest.raises(sa.exc.DBAPIError), sessions() as session:
            session.execute(sa.text(statement))
    assert breaker.current_state == "closed"
    assert breaker.fail_counter == 0


def test_every_way_to_execute_passes_the_breaker(counted: sa.Engine) -> None:
    breaker = CircuitBreaker()
    guard(counted, breaker)
    with counted.connect() as connection:
        connection.execute(sa.text("CREATE TEMPORARY TABLE passes (x Int64) ENGINE = Memory"))
        breaker.force_open("a test")
        with pytest.raises(errors.BreakerOpen):
            connection.execute(sa.text("SELECT 1"))
        with pytest.raises(errors.BreakerOpen):
            connection.exec_driver_sql("SELECT 1")
        with pytest.raises(errors.BreakerOpen):
            connection.execution_options(no_parameters=True).exec_driver_sql("SELECT 1")
        with pytest.raises(errors.BreakerOpen):
            connection.execute(sa.insert(sa.table("passes", sa.column("x"))), [{"x": 1}, {"x": 2}])
        breaker.reset()
        assert connection.scalar(sa.text("SELECT count() FROM passes")) == 0


def test_one_breaker_an_engine(counted: sa.Engine) -> None:
    breaker = CircuitBreaker()
    guard(counted, breaker)
    guard(counted, breaker)
    with pytest.raises(ValueError, match="another breaker"):
        guard(counted, CircuitBreaker())


def test_the_configuration_sets_the_pool(embedded_url: str) -> None:
    engine = create_engine(Config(url=embedded_url, pool_size=3, max_overflow=4, pool_timeout=5.0))
    assert isinstance(engine.pool, sa.pool.QueuePool)
    assert engine.pool.size() == 3
    assert engine.pool.timeout() == 5.0
    assert create_engine(Config(url=embedded_url, pool_size=3), pool_size=7).pool.size() == 7  # type: ignore[attr-defined]


def test_without_the_embedded_engine_the_error_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['chdb'] = None\n"
        "from netra_chdb import create_engine, errors\n"
        "try:\n    create_engine().connect()\n"
        "except errors.EngineMissing as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.startswith("the embedded engine is not installed: pip install 'netra-chdb[embedded]'"), (
        done.stderr
    )


def test_while_the_breaker_is_open_an_idle_connection_is_not_asked_either(embedded_url: str) -> None:
    engine = create_engine(embedded_url, pool_size=1, max_overflow=0, check_idle_after=0)
    breaker = CircuitBreaker()
    guard(engine, breaker)
    with engine.connect() as connection:
        raw = connection.connection.dbapi_connection
    assert raw is not None
    ping, asked = raw.ping, []
    raw.ping = lambda: asked.append(ping())
    breaker.force_open("a test")
    with engine.connect() as connection, pytest.raises(errors.BreakerOpen):
        connection.execute(sa.text("SELECT 1"))
    assert asked == []
    breaker.reset()
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1
    assert len(asked) == 1
    assert pool_counters(engine).invalidations == 0
    engine.dispose()


@pytest.mark.parametrize(("driver", "port"), [("chhttp", 8443), ("chnative", 9440)])
def test_a_password_never_goes_in_clear_to_a_port_with_tls(driver: str, port: int) -> None:
    """A listener without TLS on ClickHouse's port for it sees the beginning of a handshake, and no password."""
    heard = bytearray()

    def listen(listener: socket.socket) -> None:
        with listener.accept()[0] as line:
            line.settimeout(2)
            heard.extend(line.recv(65_536))

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        thread = threading.Thread(target=listen, args=(listener,))
        thread.start()
        url = f"clickhouse+{driver}://bob:hidden-marker@127.0.0.1:{port}/x?connect_timeout=3"
        with pytest.raises(sa.exc.DBAPIError) as caught, create_engine(url).connect():
            pass
        thread.join()
    assert heard[:2] == b"\x16\x03"  # a TLS handshake record
    assert b"hidden-marker" not in heard
    assert "hidden-marker" not in str(caught.value)


@pytest.mark.parametrize(("driver", "port"), [("chhttp", 8443), ("chnative", 9440)])
def test_a_url_that_asks_for_no_tls_on_its_port_is_refused(driver: str, port: int) -> None:
    with pytest.raises(sa.exc.ArgumentError, match=f"port {port} is ClickHouse's port with TLS"):
        create_engine(f"clickhouse+{driver}://u:p@127.0.0.1:{port}/x?secure=false").connect()
