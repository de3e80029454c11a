"""How long the event loop stands still while an async engine works, and how soon a cancelled query is gone."""

from __future__ import annotations

import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from netra_chdb import create_async_engine
from tests.servers import ModernServer

REPEAT = 5
CANCELLED = 20
BEAT = 0.001
ROWS = "SELECT number, number / 3, toString(number), toDateTime(number) FROM numbers(1000000)"
HEAVY = "SELECT uniqExact(number * 7) FROM numbers(20000000)"
SLOW = "SELECT sum(sleepEachRow(0.01)) FROM numbers(3000) SETTINGS max_block_size = 1"
LEFT = "SELECT count() FROM system.processes WHERE match(query, 'sleepEachRow.0.01') AND NOT match(query, 'processes')"


def run() -> None:
    # A service does this when it has started: else each full collection goes through all that it has imported.
    gc.collect()
    gc.freeze()
    with tempfile.TemporaryDirectory() as folder:
        server = ModernServer(Path(folder)).start()
        try:
            for url in (server.url("chhttp"), server.url("chnative"), f"clickhouse+chdb:///{folder}/embedded"):
                asyncio.run(_run(url))
        finally:
            server.kill()
            gc.unfreeze()


async def _run(url: str) -> None:
    name = sa.make_url(url).get_driver_name()
    engine = create_async_engine(url)
    assert await _ask(engine, "SELECT 42") == 42

    async def aggregate() -> None:
        assert await _ask(engine, HEAVY) == 20_000_000

    async def burst() -> None:
        answers = await asyncio.gather(*[_ask(engine, "SELECT :n + 1", n=number) for number in range(100)])
        assert answers == [number + 1 for number in range(100)]

    async def cold_burst() -> None:
        await engine.dispose()
        await burst()

    async def stream() -> None:
        async with engine.connect() as connection:
            result = await connection.stream(sa.text(ROWS))
            assert sum([len(rows) async for rows in result.partitions(1000)]) == 1_000_000

    async def execute() -> None:
        async with engine.connect() as connection:
            assert len((await connection.execute(sa.text(ROWS))).all()) == 1_000_000

    await _lag(f"{name}: a heavy aggregate", aggregate, wanted="< 20")
    await _lag(f"{name}: 100 tasks at once, connections open", burst, wanted="< 50")
    await _lag(f"{name}: 100 tasks at once, none open", cold_burst, wanted="< 50")
    await _lag(f"{name}: a million rows, stream()", stream, wanted="< 50")
    await _lag(f"{name}: a million rows, execute().all()", execute, wanted="none: one list")
    await _cancellation(name, engine)
    await engine.dispose()


async def _ask(engine: AsyncEngine, sql: str, **parameters: Any) -> Any:
    async with engine.connect() as connection:
        return await connection.scalar(sa.text(sql), parameters)


async def _lag(name: str, work: Callable[[], Awaitable[None]], *, wanted: str) -> None:
    """Print how late a task woke up that sleeps for a millisecond at a time beside ``work``."""
    late: list[float] = []

    async def beat() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(BEAT)
            late.append(time.perf_counter() - before - BEAT)

    worst, took = [], []
    for _ in range(REPEAT):
        gc.collect()
        late.clear()
        heart = asyncio.create_task(beat())
        await asyncio.sleep(0.01)
        start = time.perf_counter()
        await work()
        took.append(time.perf_counter() - start)
        await asyncio.sleep(2 * BEAT)
        heart.cancel()
        worst.append(max(late))
    print(
        f"{name:<50} took {statistics.median(took) * 1e3:8.1f} ms   loop lag, worst moment: median of {REPEAT} runs "
        f"{statistics.median(worst) * 1e3:7.1f} ms, highest {max(worst) * 1e3:7.1f} ms   wanted {wanted}",
        flush=True,
    )


async def _cancellation(name: str, engine: AsyncEngine) -> None:
    ended, gone = [], []
    for _ in range(CANCELLED):
        task = asyncio.create_task(_ask(engine, SLOW))
        while not await _ask(engine, LEFT):
            pass
        start = time.perf_counter()
        task.cancel()
        await asyncio.wait([task])
        ended.append(time.perf_counter() - start)
        while await _ask(engine, LEFT):
            pass
        gone.append(time.perf_counter() - start)
    print(
        f"{name + ': cancelled':<50} the task ends after {statistics.median(ended) * 1e3:.1f} ms, its query "
        f"on the server after {statistics.median(gone) * 1e3:.1f} ms, at most {max(gone) * 1e3:.1f} ms   wanted <= 500",
        flush=True,
    )
