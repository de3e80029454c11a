"""Several starts of one data access: those that want the same are one, and one that is stopped says so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.util import greenlet_spawn

from netra_chdb import AsyncDataAccess, Config, DataAccess, access, errors, migrations
from netra_chdb.migrations.turns import Turns
from netra_chdb.validation.starts import Wanted
from netra_chdb.validation.startup import Startup
from tests.servers import ModernServer, wait_for

AWAY = "clickhouse+chhttp://u:p@127.0.0.1:1/"
STOPPED = r"^the start was stopped: "


class Caller(threading.Thread):
    """Calls something in a thread, and keeps what came of it."""

    def __init__(self, call: Callable[[], Startup]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.found: Startup | Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.found = self._call()
        except Exception as error:
            self.found = error

    def end(self) -> Startup | Exception | None:
        self.join(30)
        assert not self.is_alive()
        return self.found


def away(tmp_path: Path) -> DataAccess:
    return DataAccess(Config(url=AWAY, spool_dir=tmp_path / "spool"))


def test_threads_that_want_the_same_share_one_start(server: ModernServer, tmp_path: Path) -> None:
    with DataAccess(Config(url=server.url("chhttp"), spool_dir=tmp_path / "spool")) as data:
        callers = [Caller(data.initialize) for _ in range(8)]
        found = [caller.end() for caller in callers]
        assert [getattr(one, "phase", one) for one in found] == ["ready"] * 8
        assert data.breaker.current_state == "closed"
        assert data.initialize().ready, "one that has ended is not joined"


def test_who_joins_gets_its_failure(tmp_path: Path) -> None:
    told: list[list[str]] = [[], []]
    with away(tmp_path) as data:
        first = Caller(lambda: data.initialize(deadline=2.5, on_wait=told[0].append))
        wait_for(lambda: data.startup is not None, "the first")
        began = data.startup
        second = Caller(lambda: data.initialize(deadline=2.5, on_wait=told[1].append))
        for caller in (first, second):
            found = caller.end()
            assert isinstance(found, errors.NotReady)
            assert "connection refused" in str(found)
        assert data.startup is began
        assert all(told), "each has its listener"


def test_another_takes_its_place(tmp_path: Path) -> None:
    with away(tmp_path) as data:
        first = Caller(lambda: data.initialize(deadline=60))
        wait_for(lambda: data.startup is not None and data.startup.error is not None, "an attempt")
        behind = data.initialize(wait=False)
        found = first.end()
        assert isinstance(found, errors.NotReady)
        with pytest.raises(errors.NotReady, match=f"{STOPPED}another initialize.* connection refused"):
            raise found
        assert (behind.phase, data.initialize(wait=False)) == ("starting", behind)
        # What was promised with wait=False is kept.
        with pytest.raises(errors.StartingUp):
            data.events.count(user_id="u")


def test_one_that_is_stopped_closes_no_breaker(server: ModernServer, tmp_path: Path) -> None:
    """It is through at the very moment at which another one took its place."""
    with DataAccess(Config(url=server.url("chhttp"), spool_dir=tmp_path / "spool")) as data:
        mine: list[Startup] = []
        data._starts.join(Wanted(10, True, True), data.engine, None, mine.append)
        data.breaker.force_open(access._STARTING, errors.StartingUp)
        data._starts.join(Wanted(None, True, False), data.engine, None, lambda startup: None)
        with pytest.raises(errors.NotReady, match=STOPPED):
            mine[0].run()
        assert mine[0].phase == "stopped"
        mine[0]._when_ready()
        assert data.breaker.current_state == "open"


def test_close_is_told(tmp_path: Path) -> None:
    data = away(tmp_path)
    caller = Caller(lambda: data.initialize(deadline=60))
    wait_for(lambda: data.startup is not None and data.startup.error is not None, "an attempt")
    data.close()
    found = caller.end()
    assert isinstance(found, errors.NotReady)
    with pytest.raises(errors.NotReady, match=rf"{STOPPED}close\(\) was called"):
        raise found


class TestAsync:
    def run(self, work: Any) -> None:
        asyncio.run(asyncio.wait_for(work, 60))

    @pytest.mark.parametrize("driver", ["chdb", "chhttp"])
    def test_tasks_share_one_start(self, driver: str, server: ModernServer, embedded_url: str) -> None:
        url = embedded_url if driver == "chdb" else server.url(driver)

        async def work() -> None:
            async with AsyncDataAccess(Config(url=url)) as data:
                tasks = [asyncio.create_task(data.initialize()) for _ in range(4)]
                await asyncio.sleep(0)
                tasks[0].cancel()  # the one that began it
                found = await asyncio.gather(*tasks, return_exceptions=True)
                assert isinstance(found[0], asyncio.CancelledError)
                assert [getattr(one, "phase", one) for one in found[1:]] == ["ready"] * 3
                assert found[1] is found[2] is data.startup

        self.run(work())

    def test_starts_on_one_embedded_engine_take_turns(self, embedded_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(migrations, "behind", lambda engine: ["netra_traces"])  # each of them migrates

        async def work() -> None:
            async with (
                AsyncDataAccess(Config(url=embedded_url)) as one,
                AsyncDataAccess(Config(url=embedded_url)) as other,
            ):
                found = await asyncio.gather(one.initialize(), other.initialize(), other.initialize())
                assert [start.phase for start in found] == ["ready"] * 3

        self.run(work())

    def test_cancelled_it_can_be_started_again(self, embedded_url: str) -> None:
        async def work() -> None:
            async with AsyncDataAccess(Config(url=embedded_url)) as data:
                task = asyncio.create_task(data.initialize())
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert data.startup is not None
                assert not await asyncio.to_thread(data.startup.wait, 20)
                assert data.startup.phase == "stopped"
                assert (await data.initialize()).ready

        self.run(work())

    def test_close_is_told(self) -> None:
        async def work() -> None:
            data = AsyncDataAccess(Config(url=AWAY))
            task = asyncio.create_task(data.initialize())
            await asyncio.sleep(0.3)
            await data.close()
            with pytest.raises(errors.NotReady, match=rf"{STOPPED}close\(\) was called"):
                await task

        self.run(work())


class TestTurns:
    def test_of_tasks_in_one_thread(self) -> None:
        turns, order = Turns(), []

        async def work() -> None:
            gate = asyncio.Event()

            def hold(name: str) -> None:
                from sqlalchemy.util import await_only

                with turns:
                    order.append(name)
                    await_only(gate.wait())
                    order.append(name)

            tasks = [asyncio.create_task(greenlet_spawn(hold, name)) for name in "ab"]
            await asyncio.sleep(0.1)
            assert order == ["a"], "and the loop goes on"
            with pytest.raises(errors.MigrationLocked, match="in this thread already"), turns:
                pass
            gate.set()
            await asyncio.gather(*tasks)

        asyncio.run(asyncio.wait_for(work(), 20))
        assert order == ["a", "a", "b", "b"]
        with turns:
            pass
