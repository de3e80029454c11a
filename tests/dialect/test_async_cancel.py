"""A cancelled task: its query ends on the server, its connection is never handed out again, nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from netra_chdb import CircuitBreaker, create_async_engine
from netra_chdb.engine import guard, pool_counters
from tests.conftest import started
from tests.dialect.loop import SLOW, ask, cancelled, fresh, queries, threads, until
from tests.servers import ModernServer


@pytest.fixture
def tag() -> str:
    """A number that no other query has in its text."""
    return str(uuid.uuid4().int % 10**15)


@pytest.fixture
def watch(url: str) -> Iterator[sa.Engine]:
    """A sync engine beside the one under test, to look at the server."""
    engine = sa.create_engine(url)
    yield engine
    engine.dispose()


async def running(watch: sa.Engine, tag: str, count: int = 1) -> None:
    await until(lambda: queries(watch, tag) == count, "the query to run")


async def gone(watch: sa.Engine, tag: str) -> None:
    await until(lambda: queries(watch, tag) == 0, "the query to end")


def test_a_cancelled_query_ends_on_the_server(url: str, watch: sa.Engine, tag: str) -> None:
    async def run() -> None:
        async with fresh(url, pool_size=1, max_overflow=0) as engine:
            for number in range(3):
                task = asyncio.create_task(ask(engine, SLOW.format(tag=tag)))
                await running(watch, tag)
                assert await cancelled(task)
                await gone(watch, tag)
                # On the only connection of the pool: an answer of its own, not the cancelled one's.
                assert await ask(engine, "SELECT :n + 1", n=number) == number + 1
            counters = pool_counters(engine)
            assert counters.invalidations == 3
            assert counters.failed_connections == 0

    asyncio.run(run())


def test_a_time_out_ends_the_query(url: str, watch: sa.Engine, tag: str) -> None:
    async def run() -> None:
        async with fresh(url) as engine:
            await ask(engine, "SELECT 1")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await ask(engine, SLOW.format(tag=tag))
            await gone(watch, tag)
            assert await ask(engine, "SELECT 42") == 42

    asyncio.run(run())


def test_a_cancelled_insert_ends_on_the_server(url: str, watch: sa.Engine, tag: str) -> None:
    async def run() -> None:
        async with fresh(url) as engine:
            async with engine.connect() as connection:
                await connection.execute(sa.text("CREATE TEMPORARY TABLE slow (n UInt64)"))
                insert = "INSERT INTO FUNCTION null('n UInt64') SELECT sleepEachRow(0.1) FROM numbers(3000)"
                statement = sa.text(f"{insert} WHERE number != {tag} SETTINGS max_block_size = 1")
                task = asyncio.create_task(connection.execute(statement))
                await running(watch, tag)
                assert await cancelled(task)
            await gone(watch, tag)

    asyncio.run(run())


@pytest.mark.parametrize("rows", [1, 5_000], ids=["while waiting for rows", "with rows at hand"])
def test_a_cancelled_stream_ends_on_the_server(url: str, watch: sa.Engine, tag: str, rows: int) -> None:
    # The first block comes at once, each other one takes a fifth of a second.
    sql = (
        f"SELECT number + {tag} FROM numbers(10000000) WHERE number < {rows} OR sleepEachRow({0.2 / rows}) = 0 "
        f"SETTINGS max_block_size = {rows}, max_threads = 1"
    )

    async def read(connection: AsyncConnection) -> None:
        async for _ in await connection.stream(sa.text(sql)):
            pass

    async def run() -> None:
        async with fresh(url, pool_size=1, max_overflow=0) as engine:
            async with engine.connect() as connection:
                task = asyncio.create_task(read(connection))
                await running(watch, tag)
                assert await cancelled(task)
            await gone(watch, tag)
            assert await ask(engine, "SELECT 42") == 42

    asyncio.run(run())


def test_a_stream_given_up_ends_on_the_server(url: str, watch: sa.Engine, tag: str) -> None:
    async def run() -> None:
        async with fresh(url, pool_size=1, max_overflow=0) as engine:
            async with engine.connect() as connection:
                result = await connection.stream(sa.text(f"SELECT number + {tag} FROM numbers(1000000000000)"))
                assert (await result.fetchone()) == (int(tag),)
            await gone(watch, tag)
            assert await ask(engine, "SELECT 42") == 42
            assert pool_counters(engine).invalidations == 0

    asyncio.run(run())


def test_a_session_goes_on_after_a_cancelled_query(url: str, watch: sa.Engine, tag: str) -> None:
    async def run() -> None:
        async with fresh(url) as engine, AsyncSession(engine) as session:
            task = asyncio.create_task(session.scalar(sa.text(SLOW.format(tag=tag))))
            await running(watch, tag)
            assert await cancelled(task)
            await session.rollback()
            assert await session.scalar(sa.text("SELECT 42")) == 42
            await gone(watch, tag)

    asyncio.run(run())


def test_many_at_once(url: str, watch: sa.Engine, tag: str) -> None:
    async def run() -> None:
        async with fresh(url, pool_size=10, max_overflow=0) as engine:
            # Ten run, the others wait for a connection: those have nothing to end.
            tasks = [asyncio.create_task(ask(engine, SLOW.format(tag=tag))) for _ in range(30)]
            await running(watch, tag, 10)
            assert all(await asyncio.gather(*map(cancelled, tasks)))
            await gone(watch, tag)
            answers = await asyncio.gather(*[ask(engine, "SELECT :n * 2", n=number) for number in range(30)])
            assert answers == [number * 2 for number in range(30)]

    asyncio.run(run())


def test_cancelled_twice(url: str, watch: sa.Engine, tag: str) -> None:
    async def run() -> None:
        async with fresh(url) as engine:
            task = asyncio.create_task(ask(engine, SLOW.format(tag=tag)))
            await running(watch, tag)
            task.cancel()
            await asyncio.sleep(0)
            assert await cancelled(task)
            await gone(watch, tag)
            assert await ask(engine, "SELECT 42") == 42

    asyncio.run(run())


def test_the_loop_ends_with_a_query_running(url: str, watch: sa.Engine, tag: str) -> None:
    async def run() -> None:
        task = asyncio.create_task(ask(create_async_engine(url), SLOW.format(tag=tag)))
        await running(watch, tag)
        assert not task.done()

    asyncio.run(run())  # cancels what still runs
    asyncio.run(gone(watch, tag))
    asyncio.run(until(lambda: not threads(), "the thread of the connection to end"))


def test_neither_success_nor_failure_for_the_breaker(url: str, watch: sa.Engine, tag: str) -> None:
    breaker = CircuitBreaker(fail_max=3)

    async def run() -> None:
        async with fresh(url) as engine:
            guard(engine, breaker)
            await ask(engine, "SELECT 1")
            with pytest.raises(sa_exc.DBAPIError):  # code 159: the server's fault
                await ask(engine, "SELECT sleep(3) SETTINGS max_execution_time = 1")
            assert breaker.fail_counter == 1
            task = asyncio.create_task(ask(engine, SLOW.format(tag=tag)))
            await running(watch, tag)
            assert await cancelled(task)
            assert breaker.fail_counter == 1
            assert await ask(engine, "SELECT 42") == 42
            assert breaker.fail_counter == 0

    asyncio.run(run())


@pytest.mark.parametrize("driver", ["chhttp", "chnative"])
def test_cancelled_while_it_connects(modern_server: ModernServer, driver: str) -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = modern_server.url(driver, port=silent.getsockname()[1], connect_timeout=1, send_receive_timeout=1)
            async with fresh(url) as engine:
                task = asyncio.create_task(ask(engine, "SELECT 1"))
                await until(threads, "the connection to be tried")
                assert await cancelled(task)
                assert pool_counters(engine).connection_state == "never"

    asyncio.run(run())


@pytest.mark.parametrize("driver", ["chhttp", "chnative"])
def test_a_server_that_hangs_does_not_hold_up_a_cancelled_task(tmp_path: Path, driver: str) -> None:
    async def run(server: ModernServer) -> None:
        async with fresh(server.url(driver, send_receive_timeout=10, connect_timeout=2)) as engine:
            await ask(engine, "SELECT 1")
            server.pause()
            try:
                task = asyncio.create_task(ask(engine, "SELECT 2"))
                await asyncio.sleep(0.1)
                assert await asyncio.wait_for(cancelled(task), 5)
            finally:
                server.resume()
            assert await ask(engine, "SELECT 42") == 42

    with contextlib.contextmanager(started)(ModernServer(tmp_path)) as server:
        asyncio.run(run(server))


async def storm(url: str, watch: sa.Engine, tag: str, count: int) -> int:
    """Cancel ``count`` queries at random moments, four at a time; return how many were not yet done."""
    chance = random.Random(count)
    sql = f"SELECT max(number) + :n FROM numbers({tag}, 10) WHERE sleepEachRow(0.01) = 0 SETTINGS max_block_size = 1"
    hits = 0

    async def one(engine: AsyncEngine, number: int) -> None:
        nonlocal hits
        task = asyncio.create_task(ask(engine, sql, n=number))
        await asyncio.sleep(chance.random() * 0.15)
        if await cancelled(task):
            hits += 1
        else:
            assert task.result() == int(tag) + 9 + number

    async with fresh(url, pool_size=10, max_overflow=10) as engine:
        waiting = iter(range(count))

        async def worker() -> None:
            for number in waiting:
                await one(engine, number)

        await asyncio.gather(*[worker() for _ in range(4)])
        await gone(watch, tag)
        answers = await asyncio.gather(*[ask(engine, "SELECT :n * 2", n=number) for number in range(30)])
        assert answers == [number * 2 for number in range(30)]
    return hits


def connections(server: ModernServer) -> int:
    metrics = "SELECT sum(value) FROM system.metrics WHERE metric IN ('TCPConnection', 'HTTPConnection')"
    return int(server.query(metrics))


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_many_cancelled_queries_leave_nothing(
    url: str, watch: sa.Engine, tag: str, modern_server: ModernServer, count: int
) -> None:
    watch.dispose()
    before = connections(modern_server)
    assert asyncio.run(storm(url, watch, tag, count)) > count // 4
    assert queries(watch, tag) == 0
    watch.dispose()
    assert threads() == []
    asyncio.run(until(lambda: connections(modern_server) <= before, "the connections to close"))
