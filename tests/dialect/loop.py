"""What tests of async engines share: running them, and looking for what they may have left behind."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from netra_chdb import create_async_engine
from tests.servers import wait_for

__all__ = ["SLOW", "ask", "cancelled", "fresh", "queries", "threads", "until"]

#: Runs for minutes, in steps of a tenth of a second; the tag tells it from others.
SLOW = "SELECT sum(sleepEachRow(0.1)) + {tag} FROM numbers(3000) SETTINGS max_block_size = 1"


#: The names of the threads of async connections; a monitor or a start that another test left has others.
_OURS = ("netra-chdb connection", "netra-chdb kill")


@contextlib.asynccontextmanager
async def fresh(url: str, **options: Any) -> AsyncIterator[AsyncEngine]:
    """An engine that is disposed of, and leaves no thread."""
    engine = create_async_engine(url, **options)
    try:
        yield engine
    finally:
        await engine.dispose()
    await until(lambda: not threads(), "the threads of the connections to end")


def threads() -> list[str]:
    """The threads of async connections that are alive."""
    return [thread.name for thread in threading.enumerate() if thread.name in _OURS]


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for ``condition`` while the loop runs; an upper bound, not a measure."""
    await asyncio.to_thread(wait_for, lambda: bool(condition()), what)


async def ask(engine: AsyncEngine, sql: str, **parameters: Any) -> Any:
    """Return the one value that ``sql`` asks for."""
    async with engine.connect() as connection:
        return await connection.scalar(sa.text(sql), parameters)


def queries(engine: sa.Engine, tag: str) -> int:
    """How many queries with ``tag`` in their text run on the server."""
    sql = "SELECT count() FROM system.processes WHERE position(query, :tag) > 0 AND position(query, 'processes') = 0"
    with engine.connect() as connection:
        return int(connection.execute(sa.text(sql), {"tag": tag}).scalar_one())


async def cancelled(task: asyncio.Task[Any] | asyncio.Future[Any] | Awaitable[Any]) -> bool:
    """Cancel ``task``, wait for its end, and say whether that was by the cancellation."""
    future = asyncio.ensure_future(task)
    future.cancel()
    await asyncio.wait([future])
    return future.cancelled()
