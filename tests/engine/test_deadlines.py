"""Until when a session's statement is answered: with the opening of its connection, and to the answer's last byte."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb import CircuitBreaker, SessionFactory, create_async_engine, create_engine, errors
from netra_chdb.engine import guard, pool_counters
from netra_chdb.engine.pool import pool_events
from netra_chdb.resilience import deadline
from netra_chdb.resilience.retry import RetryPolicy
from netra_chdb.resilience.store import AnswerStore
from netra_chdb.session import AsyncSessionFactory, freshness
from tests.engine.parts import QUICK, Base, Thing, ask
from tests.proxy import Proxy
from tests.servers import ModernServer, free_port

ONE = sa.text("SELECT 1")
# Far less than what drivers wait (10 s to connect, 300 s for an answer), far more than a busy machine needs.
SOON = 8.0


@contextlib.contextmanager
def soon() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < SOON


class TestOpening:
    """A connection that has to be opened for a statement is opened within the statement's time."""

    @pytest.fixture(params=[True, False], ids=["retried", "once"])
    def sessions(self, request: pytest.FixtureRequest, modern_server: ModernServer, driver: str, proxy: Proxy) -> Any:
        engine = create_engine(modern_server.url(driver, port=proxy.port, connect_timeout="30"))
        guard(engine, CircuitBreaker(fail_max=1000), RetryPolicy(attempt_timeout=30) if request.param else None)
        yield SessionFactory(engine, store=AnswerStore())
        proxy.flow()
        engine.dispose()

    def test_on_a_silent_server(self, sessions: Any, proxy: Proxy) -> None:
        proxy.hang()
        with soon(), sessions() as session, pytest.raises(sa_exc.OperationalError):
            session.execute(ONE, execution_options={"timeout": 1})
        with soon(), sessions() as session, pytest.raises(sa_exc.OperationalError):
            session.scalar(ONE.execution_options(timeout=1))

    def test_the_stored_answer_comes_in_time(self, sessions: Any, proxy: Proxy) -> None:
        options = {"timeout": 1, "stale_if_error": 60}
        with sessions() as session:
            assert session.execute(sa.select(sa.literal(42)), execution_options=options).scalar() == 42
        sessions.engine.dispose()
        proxy.hang()
        with soon(), sessions() as session:
            result = session.execute(sa.select(sa.literal(42)), execution_options=options)
            assert freshness(result).stale  # type: ignore[union-attr]
            assert result.scalar() == 42

    def test_the_time_to_open_is_taken_off_the_statement(self, sessions: Any) -> None:
        seen = sa.text("SELECT toFloat64(getSetting('max_execution_time'))")

        @sa.event.listens_for(sessions.engine, "connect")
        def slow(connection: Any, record: Any) -> None:
            time.sleep(0.5)

        with sessions() as session:
            first = session.scalar(seen, execution_options={"timeout": 60})
            assert 50 < first < 59.5
            # The next deadline is one of its own, and what has none got none.
            assert session.scalar(seen, execution_options={"timeout": 70}) > 60
            assert session.scalar(seen) == 0

    def test_attempts_to_connect_stop(self, modern_server: ModernServer, driver: str) -> None:
        engine = create_engine(modern_server.url(driver, port=free_port()))
        policy = RetryPolicy(max_attempts=1000, initial_delay=0.2, max_delay=0.2, jitter=False)
        sessions = SessionFactory(engine)
        guard(engine, CircuitBreaker(fail_max=1000), policy)
        with soon(), sessions() as session, pytest.raises(sa_exc.OperationalError):
            session.execute(ONE, execution_options={"timeout": 1})
        assert 1 <= pool_counters(engine).connection_attempts <= 7
        engine.dispose()

    def test_a_host_that_hangs_leaves_time_for_the_next(
        self, modern_server: ModernServer, driver: str, proxy: Proxy
    ) -> None:
        proxy.hang()
        live = f"127.0.0.1:{modern_server.port(driver)}"
        engine = create_engine(modern_server.url(driver, port=proxy.port, alt_hosts=live))
        guard(engine, CircuitBreaker(), RetryPolicy(**QUICK))
        with SessionFactory(engine)() as session:
            assert session.scalar(ONE, execution_options={"timeout": 6}) == 1
        engine.dispose()

    def test_async(self, modern_server: ModernServer, driver: str, proxy: Proxy) -> None:
        async def run() -> None:
            engine = create_async_engine(modern_server.url(driver, port=proxy.port, connect_timeout="30"))
            sessions = AsyncSessionFactory(engine, breaker=CircuitBreaker())
            proxy.hang()
            async with sessions() as session:
                with soon(), pytest.raises(sa_exc.OperationalError):
                    await session.execute(ONE, execution_options={"timeout": 1})
            assert deadline.left() is None
            proxy.flow()
            async with sessions() as session:
                assert await session.scalar(ONE, execution_options={"timeout": 30}) == 1
            await engine.dispose()

        asyncio.run(run())

    def test_an_idle_connection_is_asked_within_it(
        self, modern_server: ModernServer, driver: str, proxy: Proxy
    ) -> None:
        engine = create_engine(
            modern_server.url(driver, port=proxy.port, connect_timeout="30", sync_request_timeout="30")
            if driver == "chnative"
            else modern_server.url(driver, port=proxy.port, connect_timeout="30"),
            check_idle_after=0,
        )
        guard(engine, CircuitBreaker())
        assert ask(engine) == 42
        proxy.hang()
        with soon(), SessionFactory(engine)() as session, pytest.raises(sa_exc.OperationalError):
            session.execute(ONE, execution_options={"timeout": 1})
        proxy.flow()
        engine.dispose()

    def test_the_question_about_a_restart_is_asked_within_it(
        self, make: Callable[..., sa.Engine], proxy: Proxy
    ) -> None:
        engine = make()
        assert ask(engine) == 42
        pool_events(engine).lost(engine.raw_connection().dbapi_connection)
        engine.dispose()
        with SessionFactory(engine)() as session:
            assert session.scalar(ONE, execution_options={"timeout": 5}) == 1

    def test_a_flush_on_the_way_is_not_cut_short(self, make: Callable[..., sa.Engine]) -> None:
        engine = make()
        Base.metadata.drop_all(engine)
        Base.metadata.create_all(engine)
        sent: list[Any] = []

        @sa.event.listens_for(engine, "after_cursor_execute")
        def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
            sent.append((statement.split()[0], context.time_limit))

        with SessionFactory(engine)() as session:
            session.add(Thing(id=1, name="a"))
            assert session.scalar(sa.select(Thing.name), execution_options={"timeout": 30}) == "a"
        assert ("INSERT", None) in sent
        assert [limit for verb, limit in sent if verb == "SELECT"][-1] > 0
        Base.metadata.drop_all(engine)


class TestLate:
    """A server that stops in the middle of an answer does not get the time once more."""

    @pytest.mark.slow
    def test_the_end_of_an_answer_has_to_come_in_time(self, make: Callable[..., sa.Engine], proxy: Proxy) -> None:
        engine = make(policy={"max_attempts": 1})
        rows = sa.text("SELECT sleepEachRow(0.2) FROM numbers(60) SETTINGS max_block_size = 1, max_threads = 1")
        with engine.connect() as connection:
            connection.scalar(ONE)
            pause = threading.Timer(4.5, proxy.hang)
            pause.start()
            began = time.monotonic()
            with pytest.raises(sa_exc.DBAPIError):
                connection.execute(rows, execution_options={"timeout": 6}).all()
            took = time.monotonic() - began
            pause.cancel()
        # 6.25 s, and over the native protocol 3 s to kill the query; with the time begun anew it was 10.5 and 13.7.
        assert took < (9 if engine.url.drivername == "clickhouse+chhttp" else 12)
        proxy.flow()
        assert ask(engine) == 42

    def test_an_answer_that_never_pauses_ends_as_well(self, make: Callable[..., sa.Engine]) -> None:
        engine = make(policy={"max_attempts": 1})
        connection = engine.raw_connection()
        dialect: Any = engine.dialect
        dialect.limit_wait(connection.dbapi_connection, 0.5, in_all=True)
        cursor = connection.cursor()
        # The server is told of no limit: it is the client that gives up.
        with pytest.raises(dialect.loaded_dbapi.OperationalError):
            cursor.execute("SELECT sleepEachRow(0.1) FROM numbers(80) SETTINGS max_block_size = 1, max_threads = 1")
        connection.invalidate()
        connection.close()


@pytest.mark.parametrize("wrong", ["x", 0, -1, math.nan, math.inf, True, [1]], ids=repr)
def test_a_timeout_is_a_number_of_seconds(make: Callable[..., sa.Engine], wrong: Any) -> None:
    engine = make()
    message = f"timeout must be a number of seconds, more than 0, not {wrong!r}"
    with SessionFactory(engine)() as session, pytest.raises(errors.NetraError) as caught:
        session.execute(ONE, execution_options={"timeout": wrong})
    assert str(caught.value) == message
    with pytest.raises(errors.NetraError) as caught:
        ask(engine, timeout=wrong)
    assert str(caught.value) == message
    assert ask(engine, timeout=None) == 42


def test_an_inner_deadline_is_never_later_than_the_outer_one() -> None:
    assert deadline.left() is None
    with deadline.within(5):
        with deadline.within(50):
            assert deadline.left() <= 5  # type: ignore[operator]
        with deadline.within(1):
            assert deadline.left() <= 1  # type: ignore[operator]
        assert 1 < deadline.left() <= 5  # type: ignore[operator]
    assert deadline.left() is None
