"""Start-up: before the server, with twenty others, against what will never answer, behind the application's back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netra_chdb import AsyncDataAccess, Config, DataAccess, errors
from netra_chdb.scope import EVERYONE
from netra_chdb.validation import startup
from tests.servers import PASSWORD, ModernServer, wait_for
from tests.validation.conftest import ONE_DRIVER

WORKER = """
import json, logging, sys, time
from dataclasses import asdict
from netra_chdb import Config, DataAccess

class Kept(logging.Handler):
    def emit(self, record):
        kept.append(record.getMessage())

kept = []
logging.getLogger().addHandler(Kept(logging.WARNING))
print("there", flush=True)
began = time.monotonic()
with DataAccess(Config(url=sys.argv[1], spool_dir=sys.argv[2])) as data:
    started = data.initialize(deadline=200)
    count = data.events.count(user_id="nobody")
    pool = data.pool()
    print(json.dumps({"began": began, "ready": started.ready, "attempts": started.attempts, "count": count,
                      "logs": kept, "connections": pool.connection_attempts, "failed": pool.failed_connections}))
"""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[ModernServer]:
    """A server that is not started, and knows no schema."""
    server = ModernServer(tmp_path / "own")
    yield server
    server.kill()


@contextlib.contextmanager
def started_workers(
    server: ModernServer, driver: str, spools: Path, number: int
) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that initialize; those that are left at the end of the block are ended."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLICKHOUSE_")}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, server.url(driver), str(spools / str(place))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for place in range(number)
    ]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def processes_before_server(
    server: ModernServer, driver: str, spools: Path, number: int, delay: float
) -> tuple[int, float]:
    """Start processes, then the server, and look how they came through.

    Returns:
        The attempts of the process that came nearest to what it may make, and that bound.
    """
    with started_workers(server, driver, spools, number) as workers:
        # Twenty interpreters take longer to start than a server: the delay counts from when all of them are there.
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "there\n"
        began = time.monotonic()
        time.sleep(delay)
        server.start()
        up = time.monotonic()

        def allowed(one: dict[str, Any]) -> float:
            return 10 + up - float(one["began"])

        found = []
        for worker in workers:
            out, err = worker.communicate(timeout=280)
            assert worker.returncode == 0, err
            found.append(json.loads(out))
        for one in found:
            assert one["ready"]
            assert one["logs"] == []
            assert one["count"] == 0
            # What the first statement took; none while the server was away.
            assert (one["connections"], one["failed"]) == (1, 0)
            # Some eight attempts until a pause is two seconds, then one a second at most. The first process that is
            # there has tried for as long as the last one took to come.
            assert one["attempts"] <= allowed(one)
        attempts = sorted(one["attempts"] for one in found)
        most = max(found, key=lambda one: one["attempts"] / allowed(one))
        print(
            f"{number} processes, server {delay} s later, up after {up - began:.1f} s: {attempts} attempts; "
            f"{allowed(most):.0f} are allowed to who made {most['attempts']}",
            flush=True,
        )
        versions = server.query("SELECT count() FROM netra_traces.alembic_version_log WHERE is_head")
        assert versions == "1"
        return most["attempts"], allowed(most)


def test_processes_that_are_there_before_the_server(own: ModernServer, tmp_path: Path) -> None:
    processes_before_server(own, "chnative", tmp_path / "spools", number=4, delay=2)


# Once each, and then until there were more than fifty starts: drivers and delays together 6 x 9.
@pytest.mark.slow
@pytest.mark.timeout(4500)
@pytest.mark.parametrize("rounds", [1, 8])
@pytest.mark.parametrize("delay", [0, 5, 20])
@pytest.mark.parametrize("driver", ["chhttp", "chnative"])
def test_twenty_processes_before_the_server(driver: str, delay: float, rounds: int, tmp_path: Path) -> None:
    found = []
    for number in range(rounds):
        base = tmp_path / str(number)
        server = ModernServer(base / "server")
        print(f"{driver}, round {number + 1}: ", end="")
        try:
            found.append(processes_before_server(server, driver, base / "spools", number=20, delay=delay))
        finally:
            server.kill()
        shutil.rmtree(base)
    most, bound = max(found, key=lambda one: one[0] / one[1])
    print(f"{driver}, server {delay} s later: {rounds} rounds, nearest to its bound: {most} attempts of {bound:.0f}")


class TestWhatNeverAnswers:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"password": "wrong"}, "error 516 .* CLICKHOUSE_PASSWORD"),
            ({"user": "nobody"}, "error 516 .* CLICKHOUSE_USER"),
            ({"database": "nosuch"}, "error 81 .* does not exist.*CLICKHOUSE_DB"),
            ({"port": "other"}, "not ClickHouse, or speaks its other protocol"),
            ({"secure": "true"}, "does not speak TLS"),
        ],
    )
    def test_is_told_at_once(self, server: ModernServer, driver: str, change: dict[str, Any], message: str) -> None:
        if change.get("port"):
            change = {"port": server.tcp_port if driver == "chhttp" else server.http_port}
        with DataAccess(Config(url=server.url(driver, **change))) as data:
            with pytest.raises(errors.NotReady, match=f"^ClickHouse is not ready: .*{message}") as caught:
                data.initialize(deadline=100)
            assert data.startup is not None
            assert (data.startup.phase, data.startup.attempts) == ("failed", 1)
        assert PASSWORD not in str(caught.value)

    def test_an_unknown_name_has_some_seconds(self, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(startup, "_NAME_GRACE", 0.5)
        with DataAccess(Config(url=f"clickhouse+{driver}://u:p@nosuch.invalid:9999/")) as data:
            with pytest.raises(errors.NotReady, match=r"nosuch.invalid:9999 cannot be resolved"):
                data.initialize(deadline=100)
            assert data.startup is not None
            assert data.startup.attempts > 1

    def test_a_closed_port_until_the_deadline(self, driver: str, caplog: pytest.LogCaptureFixture) -> None:
        told: list[str] = []
        with DataAccess(Config(url=f"clickhouse+{driver}://u:p@127.0.0.1:1/")) as data, caplog.at_level(logging.INFO):
            with pytest.raises(errors.NotReady, match=r"after \d s and \d+ attempt.* connection refused; start"):
                data.initialize(deadline=2.3, on_wait=told.append)
            assert data.pool().connection_attempts == 0
            assert data.breaker.current_state == "closed"
        assert [text.split(":")[0] for text in told[:2]] == [f"waiting {n} s for ClickHouse" for n in (1, 2)]
        assert all("nobody listens on 127.0.0.1:1" in text for text in told)
        assert [r.getMessage() for r in caplog.records if r.name == startup.__name__] == told
        assert {record.levelno for record in caplog.records} == {logging.INFO}

    def test_a_listener_that_raises_changes_nothing(self, driver: str, caplog: pytest.LogCaptureFixture) -> None:
        def fail(text: str) -> None:
            raise RuntimeError("mine")

        config = Config(url=f"clickhouse+{driver}://u:p@127.0.0.1:1/")
        with DataAccess(config) as data, pytest.raises(errors.NotReady):
            data.initialize(deadline=1.3, on_wait=fail)
        assert "on_wait failed" in caplog.text


@pytest.mark.parametrize("driver", ["chhttp", pytest.param("chnative", marks=pytest.mark.slow)])
def test_without_migrating_it_only_looks(own: ModernServer, driver: str) -> None:
    own.start()
    # A database of ours in the URL is not there yet either.
    with DataAccess(Config(url=own.url(driver, database="netra_analytics"))) as data:
        with pytest.raises(errors.SchemaMismatch, match=r"netra_traces, netra_analytics not at the newest .*init"):
            data.initialize(migrate=False)
        assert "netra" not in own.query("SHOW DATABASES")
        assert data.initialize().ready
        assert data.initialize(migrate=False).ready
        own.query("DROP TABLE netra_analytics.events SYNC")
        with pytest.raises(errors.SchemaMismatch, match="has no events"):
            data.initialize(migrate=False)


@ONE_DRIVER
class TestBehind:
    def data(self, server: ModernServer, driver: str, tmp_path: Path, **settings: Any) -> DataAccess:
        return DataAccess(Config(url=server.url(driver), spool_dir=tmp_path / "spool", **settings))

    def test_rows_wait_and_reads_say_so_until_it_is_ready(
        self, own: ModernServer, driver: str, tmp_path: Path, user_id: str
    ) -> None:
        with self.data(own, driver, tmp_path) as data:
            began = data.initialize(wait=False)
            assert began.phase == "starting"
            with pytest.raises(errors.NotReady, match="the start is not through yet") as caught:
                data.events.count(user_id=user_id)
            assert isinstance(caught.value, errors.BreakerOpen)
            row = {"user_id": user_id, "event_type": "ui", "event_name": "click"}
            data.events.record(row)
            receipt = data.events.insert([{**row, "timestamp": time_of_day()}])
            assert receipt.state == "spooled"
            wait_for(lambda: "connection refused" in began.status, "the first attempt")
            own.start()
            assert began.wait(60)
            data.flush()
            assert data.events.count(user_id=user_id) == 2
            assert data.breaker.current_state == "closed"

    def test_what_is_mended_meanwhile_is_found(
        self, own: ModernServer, driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(startup, "_BACKGROUND_PAUSE", 0.2)
        own.start()
        with self.data(own, driver, tmp_path) as data:
            began = data.initialize(wait=False, migrate=False)
            wait_for(lambda: "not at the newest revision" in began.status, "a look at the schema")
            with self.data(own, driver, tmp_path / "other") as other:
                other.initialize()
            assert began.wait(60)
            assert data.events.count(user_id=EVERYONE) == 0

    def test_switched_off_in_between(self, own: ModernServer, driver: str, tmp_path: Path) -> None:
        with self.data(own, driver, tmp_path) as data:
            began = data.initialize(wait=False)
            data.degrade("maintenance")
            own.start()
            wait_for(lambda: "maintenance" in began.status, "the start to be refused")
            with pytest.raises(errors.BreakerOpen, match="maintenance"):
                data.events.count(user_id=EVERYONE)
            data.restore()
            assert began.wait(60)
            assert data.events.count(user_id=EVERYONE) == 0

    def test_close_ends_it(self, driver: str, tmp_path: Path) -> None:
        config = Config(url=f"clickhouse+{driver}://u:p@127.0.0.1:1/", spool_dir=tmp_path / "spool")
        with DataAccess(config) as data:
            began = data.initialize(wait=False)
        assert not began.wait(10)
        assert began.phase == "stopped"
        wait_for(lambda: not [t for t in threading.enumerate() if "startup" in t.name], "its threads to end")


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = Config(path=tmp_path / "file" / "below", spool_dir=tmp_path / "spool")
    with DataAccess(config) as data, pytest.raises(errors.NotReady, match=r"file/below.*correct CLICKHOUSE_PATH"):
        data.initialize()


def time_of_day() -> Any:
    from netra_chdb.models.base import now

    return now()


@pytest.mark.slow
def test_a_server_that_dies_on_the_way(own: ModernServer, driver: str) -> None:
    """Killed in the middle of the migration and started again: the start goes on where it was."""
    own.start()
    outcome: list[Any] = []
    with DataAccess(Config(url=own.url(driver))) as data:
        thread = threading.Thread(target=lambda: outcome.append(data.initialize(deadline=120)))
        thread.start()
        tables = "SELECT count() FROM system.tables WHERE database = 'netra_traces' AND name LIKE '%metrics'"
        wait_for(lambda: own.query(tables) == "1", "the migration to be half-way", 60)
        own.restart()
        thread.join(150)
        assert [one.ready for one in outcome] == [True]
        assert data.consistency().ok


@pytest.mark.parametrize("driver", ["chhttp", pytest.param("chnative", marks=pytest.mark.slow)])
class TestAsync:
    def test_waits_without_holding_the_loop(self, own: ModernServer, driver: str) -> None:
        async def work() -> None:
            async with AsyncDataAccess(Config(url=own.url(driver))) as data:
                task = asyncio.create_task(data.initialize())
                ticks = 0
                while ticks < 20:
                    await asyncio.sleep(0.01)
                    ticks += 1
                await asyncio.to_thread(own.start)
                assert (await task).ready
                assert await data.events.count(user_id=EVERYONE) == 0
                assert (await data.validate()).ok
                assert (await data.consistency()).ok

        asyncio.run(work())

    def test_behind_and_cancelled(self, driver: str) -> None:
        async def work() -> None:
            async with AsyncDataAccess(Config(url=f"clickhouse+{driver}://u:p@127.0.0.1:1/")) as data:
                task = asyncio.create_task(data.initialize())
                await asyncio.sleep(0.3)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert data.startup is not None
                assert not await asyncio.to_thread(data.startup.wait, 10)
                began = await data.initialize(wait=False)
                with pytest.raises(errors.StartingUp):
                    await data.events.count(user_id=EVERYONE)
                assert began.phase == "starting"

        asyncio.run(work())
