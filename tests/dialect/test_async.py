"""Async engines beyond the contract: SQLAlchemy's async classes, threads that end with their connections, the loop."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.ext.asyncio import exc as sa_async_exc

from netra_chdb import CircuitBreaker, Config, create_async_engine, errors
from netra_chdb.dialect import MergeTree
from netra_chdb.engine import guard, pool_counters
from tests.dialect.loop import ask, fresh, threads, until
from tests.proxy import Proxy
from tests.servers import ModernServer, free_port


class Base(orm.DeclarativeBase):
    pass


class Reading(Base):
    __tablename__ = "readings"
    __table_args__ = (MergeTree(order_by="id"),)

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]


@asynccontextmanager
async def with_table(url: str, database: str) -> AsyncIterator[AsyncEngine]:
    """An engine on ``database``, which gets the table of ``Reading``."""
    whole = sa.make_url(url)
    if whole.get_driver_name() == "chdb":
        own = whole.update_query_dict({"database": database})
    else:
        own = whole.set(database=database)
    async with fresh(own.render_as_string(hide_password=False)) as engine:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield engine


def test_a_plain_async_engine_comes_back(url: str) -> None:
    engine = create_async_engine(Config(url=url, pool_size=3, max_overflow=4, pool_timeout=5.0))
    assert type(engine) is AsyncEngine
    assert isinstance(engine.pool, sa.pool.AsyncAdaptedQueuePool)
    assert (engine.pool.size(), engine.pool.timeout()) == (3, 5.0)
    assert threads() == []


def test_objects_through_an_async_session(url: str, database: str) -> None:
    async def run() -> list[str]:
        async with with_table(url, database) as engine, AsyncSession(engine) as session:
            session.add_all([Reading(id=number, name=f"name {number}") for number in range(5)])
            await session.commit()
            found = await session.scalars(sa.select(Reading).where(Reading.id > 2).order_by(Reading.id))
            one = await session.get(Reading, 1)
            assert one is not None
            assert one.name == "name 1"
            return [reading.name for reading in found]

    assert asyncio.run(run()) == ["name 3", "name 4"]


def test_streams(url: str, database: str) -> None:
    async def run() -> None:
        async with with_table(url, database) as engine, AsyncSession(engine) as session:
            await session.execute(sa.insert(Reading), [{"id": number, "name": str(number)} for number in range(2500)])
            ordered = sa.select(Reading).order_by(Reading.id)
            objects = await session.stream_scalars(ordered.execution_options(yield_per=100))
            assert [reading.id async for reading in objects] == list(range(2500))
            async with engine.connect() as connection:
                rows = await connection.stream(ordered)
                sizes = [len(partition) async for partition in rows.partitions(1000)]
                assert sizes == [1000, 1000, 500]
                async with connection.stream(sa.select(Reading.id).order_by(Reading.id)) as result:
                    assert await result.fetchone() == (0,)
                    assert [tuple(row) for row in await result.fetchmany(2)] == [(1,), (2,)]
                    assert len(await result.all()) == 2497
                assert await connection.scalar(sa.text("SELECT 42")) == 42

    asyncio.run(run())


def test_many_rows_stream_in_order(url: str) -> None:
    async def run() -> None:
        async with fresh(url) as engine, engine.connect() as connection:
            result = await connection.stream(sa.text("SELECT number, toString(number) FROM numbers(300000)"))
            expected = 0
            async for partition in result.partitions(10_000):
                assert partition[0] == (expected, str(expected))
                expected += len(partition)
            assert expected == 300_000

    asyncio.run(run())


def test_a_stream_needs_the_method_that_streams(url: str) -> None:
    async def run() -> None:
        async with fresh(url) as engine, engine.connect() as connection:
            with pytest.raises(sa_async_exc.AsyncMethodRequired):
                await connection.execute(sa.text("SELECT 1"), execution_options={"stream_results": True})
            assert await connection.scalar(sa.text("SELECT 42")) == 42

    asyncio.run(run())


def test_a_hundred_tasks_at_once(url: str) -> None:
    async def run() -> None:
        async with fresh(url, pool_size=5, max_overflow=10) as engine:
            for _ in range(3):
                answers = await asyncio.gather(*[ask(engine, "SELECT :n + 1", n=number) for number in range(100)])
                assert answers == [number + 1 for number in range(100)]
                assert 0 < len(threads()) <= 15
            counters = pool_counters(engine)
            assert counters.checkouts == counters.checkins == 300
            assert counters.pool_hits + counters.pool_misses == 300
            assert counters.successful_connections == counters.pool_misses

    asyncio.run(run())


def test_the_loop_goes_on_while_a_query_runs(url: str) -> None:
    # How well it does is measured by tests.bench.async_loop.
    async def run() -> None:
        beats = 0
        async with fresh(url) as engine:
            task = asyncio.create_task(ask(engine, "SELECT sleep(1)"))
            while not task.done():
                await asyncio.sleep(0.01)
                beats += 1
        assert await task == 0
        assert beats > 5

    asyncio.run(run())


def test_errors_are_those_of_the_sync_drivers(url: str) -> None:
    async def run() -> None:
        async with fresh(url, pool_size=1, max_overflow=0) as engine:
            for sql, code in [("SELECT * FROM no_such_table", 60), ("SELEKT 1", 62), ("SELECT throwIf(1)", 395)]:
                with pytest.raises(sa_exc.DatabaseError) as caught:
                    await ask(engine, sql)
                assert getattr(caught.value.orig, "code", None) == code
                assert await ask(engine, "SELECT 42") == 42

    asyncio.run(run())


# -- threads -----------------------------------------------------------------------------------


def test_a_connection_has_one_thread_until_it_is_closed(url: str) -> None:
    async def run() -> None:
        engine = create_async_engine(url, pool_size=2)
        async with engine.connect() as one, engine.connect() as other:
            for connection in (one, other):
                assert await connection.scalar(sa.text("SELECT 42")) == 42
            assert len(threads()) == 2
            await one.invalidate()
            assert len(threads()) == 1
            await one.rollback()
            assert await one.scalar(sa.text("SELECT 42")) == 42
            assert len(threads()) == 2
        assert len(threads()) == 2  # in the pool
        await engine.dispose()
        assert threads() == []

    asyncio.run(run())


def test_statements_run_on_the_connections_thread(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()

    async def run() -> None:
        async with fresh(url) as engine:
            dbapi: Any = engine.dialect.dbapi
            execute = dbapi.Cursor.execute

            def noted(*args: Any, **kw: Any) -> Any:
                seen.add(threading.current_thread().name)
                return execute(*args, **kw)

            monkeypatch.setattr(dbapi.Cursor, "execute", noted)
            assert await ask(engine, "SELECT 42") == 42

    asyncio.run(run())
    assert seen == {"netra-chdb connection"}


def test_without_a_pool_nothing_stays(url: str) -> None:
    async def run() -> None:
        engine = create_async_engine(url, poolclass=sa.pool.NullPool)
        for _ in range(3):
            assert await ask(engine, "SELECT 42") == 42
            assert threads() == []

    asyncio.run(run())


def test_an_engine_that_is_forgotten_takes_its_threads_with_it(url: str) -> None:
    async def run() -> None:
        assert await ask(create_async_engine(url), "SELECT 42") == 42
        gc.collect()
        await until(lambda: not threads(), "the thread to end")

    asyncio.run(run())


@pytest.mark.parametrize("driver", ["chhttp", "chnative"])
def test_a_refused_connection_leaves_no_thread(driver: str) -> None:
    async def run() -> None:
        async with fresh(f"clickhouse+{driver}://127.0.0.1:{free_port()}") as engine:
            with pytest.raises(sa_exc.OperationalError) as caught:
                await ask(engine, "SELECT 1")
            assert errors.classify(caught.value) is errors.Outcome.REJECTED
            assert pool_counters(engine).failed_connections == 1
            await until(lambda: not threads(), "the thread to end")

    asyncio.run(run())


@pytest.mark.parametrize("driver", ["chhttp", "chnative"])
def test_a_line_cut_while_idle_is_replaced(modern_server: ModernServer, driver: str) -> None:
    async def run() -> None:
        with Proxy(modern_server.port(driver)) as proxy:
            async with fresh(modern_server.url(driver, port=proxy.port), check_idle_after=0) as engine:
                assert await ask(engine, "SELECT 42") == 42
                proxy.cut()
                assert await ask(engine, "SELECT 42") == 42
                assert len(threads()) == 1

    asyncio.run(run())


def test_a_loop_connection_outside_of_greenlets_says_so(url: str) -> None:
    async def run() -> None:
        async with fresh(url) as engine, engine.connect() as connection:
            raw: Any = (await connection.get_raw_connection()).dbapi_connection
            with pytest.raises(sa_exc.MissingGreenlet, match="AsyncConnection"):
                raw.ping()

    asyncio.run(run())


def test_two_loops_in_turn(url: str) -> None:
    engine = create_async_engine(url, pool_size=1)
    for number in range(3):
        assert asyncio.run(ask(engine, "SELECT :n", n=number)) == number
    assert pool_counters(engine).pool_misses == 1
    asyncio.run(engine.dispose())
    assert threads() == []


# -- the breaker -------------------------------------------------------------------------------


@pytest.mark.parametrize("face", [lambda engine: engine, lambda engine: engine.sync_engine], ids=["async", "sync"])
def test_every_way_to_execute_passes_the_breaker(url: str, face: Callable[[AsyncEngine], Any]) -> None:
    breaker = CircuitBreaker()

    async def run() -> None:
        async with fresh(url) as engine:
            guard(face(engine), breaker)
            guard(engine, breaker)
            async with engine.connect() as connection, AsyncSession(engine) as session:
                await session.execute(sa.text("SELECT 1"))
                breaker.force_open("a test")
                for attempt in (connection.execute, connection.stream, connection.scalar, session.execute):
                    with pytest.raises(errors.BreakerOpen):
                        await attempt(sa.text("SELECT 1"))
                with pytest.raises(errors.BreakerOpen):
                    await connection.exec_driver_sql("SELECT 1")
                breaker.reset()
                assert await connection.scalar(sa.text("SELECT 42")) == 42

    asyncio.run(run())


def test_the_breaker_opens_when_nobody_answers() -> None:
    breaker = CircuitBreaker(fail_max=3, reset_timeout=3600)

    async def run() -> None:
        async with fresh(f"clickhouse+chhttp://127.0.0.1:{free_port()}") as engine:
            guard(engine, breaker)
            for _ in range(3):
                with pytest.raises(sa_exc.OperationalError):
                    await ask(engine, "SELECT 1")
            attempts = pool_counters(engine).connection_attempts
            with pytest.raises(errors.BreakerOpen):
                await ask(engine, "SELECT 1")
            assert pool_counters(engine).connection_attempts == attempts == 3

    asyncio.run(run())


# -- the interpreter's exit ----------------------------------------------------------------------

LEFT_OPEN = """
import asyncio, sys
import sqlalchemy as sa
from netra_chdb import create_async_engine

async def main():
    global engine, connection
    engine = create_async_engine(sys.argv[1])
    async with engine.connect() as pooled:
        print(await pooled.scalar(sa.text("SELECT 42")))
    connection = await engine.connect()
    {rest}

loop = asyncio.new_event_loop()
loop.run_until_complete(main())
"""


@pytest.mark.parametrize(
    "rest",
    [
        "pass",
        "global task; task = asyncio.create_task(connection.execute(sa.text("
        "'SELECT sum(sleepEachRow(0.1)) FROM numbers(3000) SETTINGS max_block_size = 1'))); await asyncio.sleep(0.5)",
    ],
    ids=["idle", "with a query running"],
)
@pytest.mark.parametrize("driver", ["chdb", "chhttp", "chnative"])
def test_exit_does_not_hang(modern_server: ModernServer, tmp_path: Path, driver: str, rest: str) -> None:
    url = f"clickhouse+chdb:///{tmp_path / 'db'}" if driver == "chdb" else modern_server.url(driver)
    command = [sys.executable, "-c", LEFT_OPEN.format(rest=rest), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "42\n"


def test_in_memory() -> None:
    code = (
        "import asyncio, sqlalchemy as sa\n"
        "from netra_chdb import create_async_engine\n"
        "async def main():\n"
        "    engine = create_async_engine('clickhouse+chdb://')\n"
        "    async with engine.connect() as connection:\n"
        "        await connection.execute(sa.text('CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a'))\n"
        "        await connection.execute(sa.text('INSERT INTO t SELECT number FROM numbers(10)'))\n"
        "    await engine.dispose()\n"
        "    async def count():\n"
        "        async with engine.connect() as connection:\n"
        "            return await connection.scalar(sa.text('SELECT count() FROM t'))\n"
        "    print(await asyncio.gather(*[count() for _ in range(5)]))\n"
        "    await engine.dispose()\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[10, 10, 10, 10, 10]\n", done.stderr
