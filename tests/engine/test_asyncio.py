"""Retries on an event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from netra_chdb import CircuitBreaker, create_async_engine
from netra_chdb.engine import guard, pool_counters
from netra_chdb.resilience.retry import RetryPolicy
from tests.engine.parts import lose
from tests.proxy import Proxy
from tests.servers import ModernServer


def test_the_loop_goes_on_while_a_task_waits_for_its_next_attempt(
    modern_server: ModernServer, driver: str, proxy: Proxy
) -> None:
    async def run() -> None:
        engine = create_async_engine(modern_server.url(driver, port=proxy.port), pool_size=1)
        policy = RetryPolicy(max_attempts=2, initial_delay=0.3, max_delay=0.3, jitter=False)
        guard(engine, CircuitBreaker(), policy)
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.01)
                beats += 1

        async with engine.connect() as connection:
            await connection.scalar(sa.text("SELECT 1"))
            lose(proxy, "needle")
            heart = asyncio.create_task(beat())
            assert await connection.scalar(sa.text("SELECT 'needle'")) == "needle"
            heart.cancel()
            result = await connection.stream(sa.text("SELECT number FROM numbers(3)"))
            assert [row.number async for row in result] == [0, 1, 2]
        assert beats >= 10
        assert pool_counters(engine).retry_attempts == 1
        await engine.dispose()

    asyncio.run(run())


def test_a_task_cancelled_between_two_attempts_leaves_no_connection_behind(
    modern_server: ModernServer, driver: str, proxy: Proxy
) -> None:
    async def run() -> None:
        engine = create_async_engine(modern_server.url(driver, port=proxy.port), pool_size=1, max_overflow=0)
        breaker = CircuitBreaker(fail_max=1)
        guard(engine, breaker, RetryPolicy(initial_delay=600, max_delay=600, jitter=False))

        async def read(sql: str) -> Any:
            async with engine.connect() as connection:
                return await connection.scalar(sa.text(sql))

        await read("SELECT 1")
        lose(proxy, "needle")
        task = asyncio.create_task(read("SELECT 'needle'"))
        while not pool_counters(engine).retry_attempts:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await read("SELECT 42") == 42
        assert breaker.fail_counter == 0
        counters = pool_counters(engine)
        assert counters.checkouts == counters.checkins
        await engine.dispose()

    asyncio.run(run())
