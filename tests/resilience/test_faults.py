"""Every fault of the table, on both network drivers and through every way to read, against a real server."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.ext.asyncio import AsyncEngine

from netra_chdb import (
    CircuitBreaker,
    Config,
    DataAccess,
    PerformanceMetricsRepository,
    SessionFactory,
    create_async_engine,
    create_engine,
    models,
)
from netra_chdb.engine import guard, pool_counters
from netra_chdb.errors import Outcome, classify, code_of
from netra_chdb.repositories import EVERYONE
from netra_chdb.resilience.retry import RetryPolicy
from tests.conftest import started
from tests.proxy import Proxy
from tests.repositories.test_repositories import metric
from tests.resilience.faults import ACCESSES, DRIVERS, FAULTS, MANUAL, Ends, render
from tests.servers import ModernServer, free_port, wait_for

USER = "a-user-whose-rows-are-read"
VALUES = [float(number) for number in random.Random(1).sample(range(10**15), 3000)]
METRIC = models.analytics.PerformanceMetric


class Repair(random.Random):
    """Drawn from before each retry: the moment between the failed attempt and the next one."""

    def __init__(self, repair: Callable[[], object]) -> None:
        super().__init__(0)
        self.repair = repair

    def uniform(self, a: float, b: float) -> float:
        self.repair()
        return 0.001


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModernServer]:
    for server in started(ModernServer(tmp_path_factory.mktemp("faults"))):
        with DataAccess(Config(url=server.url("chnative"))) as data:
            data.initialize()
            data.performance_metrics.insert([metric(USER, value) for value in VALUES])
        yield server


@pytest.fixture
def server(own_server: ModernServer) -> Iterator[ModernServer]:
    """A server that the test may kill; the next test finds it running."""
    yield own_server
    try:
        own_server.query("SELECT 1")
    except OSError:
        own_server.start()


class Cell:
    """One cell of the table: an engine, a way to read over it, and a fault."""

    def __init__(self, server: ModernServer, driver: str, access: str, *, lasting: bool) -> None:
        self.server = server
        self.driver = driver
        self.access = access
        self.lasting = lasting
        self.settings: dict[str, Any] = {}
        self.patience = 0.5 if lasting else 1.0
        self.proxy = Proxy(server.port(driver))
        # What happens between an attempt and the next one: when the fault passes, and when it lasts.
        self.undo: Callable[[], object] = lambda: None
        self.redo: Callable[[], object] = lambda: None
        self.engine: sa.Engine | AsyncEngine | None = None
        self.loop = asyncio.Runner()

    def close(self) -> None:
        if isinstance(self.engine, AsyncEngine):
            self.loop.run(self.engine.dispose())
        elif self.engine is not None:
            self.engine.dispose()
        self.loop.close()
        self.proxy.close()

    # -- reading -------------------------------------------------------------

    def open(self, **url: Any) -> None:
        """Make the guarded engine; it does not connect yet."""
        options = {"connect_timeout": 5, "port": self.proxy.port, **url}
        host = options.pop("host", "127.0.0.1")
        address = sa.make_url(self.server.url(self.driver, **options)).set(host=host)
        make: Any = create_async_engine if self.access == "async" else create_engine
        self.engine = made = make(address, pool_size=1, max_overflow=0, execution_options={"settings": self.settings})
        repair = Repair(lambda: self.redo() if self.lasting else self.undo())
        self.breaker = CircuitBreaker(fail_max=1000)
        guard(made, self.breaker, RetryPolicy(max_attempts=3, initial_delay=0.01, max_delay=0.01, rng=repair))

    def read(self) -> list[float]:
        """Read the values in no order."""
        statement = sa.select(METRIC).where(METRIC.user_id == USER)
        if isinstance(self.engine, AsyncEngine):
            return self.loop.run(self._read_async(self.engine, statement.with_only_columns(METRIC.value)))
        assert self.engine is not None
        if self.access == "Core":
            with self.engine.connect() as connection:
                return list(connection.scalars(statement.with_only_columns(METRIC.value)).all())
        sessions = SessionFactory(self.engine, breaker=self.breaker)
        if self.access == "ORM":
            with sessions() as session:
                return [row.value for row in session.scalars(statement).all()]
        return [row.value for row in PerformanceMetricsRepository(sessions).recent(5000, user_id=EVERYONE).rows]

    @staticmethod
    async def _read_async(engine: AsyncEngine, statement: Any) -> list[float]:
        async with engine.connect() as connection:
            return list((await connection.scalars(statement)).all())

    def ends(self) -> Ends:
        """Read, and say how it ended."""
        assert self.engine is not None
        before = pool_counters(self.engine).retry_attempts
        how: str | int
        try:
            found = self.read()
        except sa_exc.DBAPIError as error:
            code = code_of(error)
            words = {Outcome.REJECTED: "refused", Outcome.AMBIGUOUS: "lost"}
            how = code if code is not None else words[classify(error)]
        else:
            assert sorted(found) == sorted(VALUES)
            how = "answer"
        return Ends(how, pool_counters(self.engine).retry_attempts - before)

    # -- faults --------------------------------------------------------------

    def refused(self) -> Ends:
        if self.lasting:
            self.open(port=free_port())
            return self.ends()
        self.server.kill()
        self.undo = self.server.start
        self.open(port=None)
        return self.ends()

    def dns(self) -> Ends:
        self.open(host="no-such-host.invalid")
        return self.ends()

    def hung_connect(self) -> Ends:
        self.proxy.hang()
        self.undo = self.proxy.flow
        self.open(connect_timeout=self.patience)
        return self.ends()

    def ready(self, **url: Any) -> None:
        self.open(**url)
        assert self.ends() == Ends("answer", 0)

    def hung_query(self) -> Ends:
        self.ready(connect_timeout=self.patience, send_receive_timeout=self.patience)
        self.proxy.hang()
        self.undo = self.proxy.flow
        return self.ends()

    def killed_idle(self) -> Ends:
        self.ready(port=None)
        self.server.kill()
        self.undo = self.server.start
        return self.ends()

    def killed_query(self) -> Ends:
        """Kill it when it has been sent the query; it is stopped, so that it has not answered yet."""
        self.ready()
        sent = len(self.proxy.from_client)

        def kill() -> None:
            wait_for(lambda: len(self.proxy.from_client) > sent, "the query to be sent")
            self.server.kill()

        self.server.pause()
        killer = threading.Thread(target=kill)
        killer.start()

        def start() -> None:
            killer.join()
            self.server.start()

        self.undo = start
        ends = self.ends()
        killer.join()
        return ends

    def cut_result(self) -> Ends:
        self.ready()
        self.undo = lambda: self.proxy.cut_answer_after(None)
        self.proxy.cut_answer_after(2000)
        return self.ends()

    def restarted(self) -> Ends:
        self.ready(port=None)
        self.server.restart()
        return self.ends()

    def dropped(self) -> Ends:
        def drop() -> None:
            self.proxy.drop_answer(b"performance_metrics", lambda: True)

        self.ready()
        drop()
        self.redo = drop
        return self.ends()

    def _code(self, settings: dict[str, Any]) -> Ends:
        self.ready()
        self.settings.update(settings)
        self.undo = self.settings.clear
        return self.ends()

    def _thrown(self, code: int) -> Ends:
        thrown = f"throwIf(1, 'thrown by a test', toInt16({code})) = 0"
        return self._code(
            {
                "additional_table_filters": {"netra_analytics.performance_metrics": thrown},
                "allow_custom_error_code_in_throwif": 1,
            }
        )

    def password(self) -> Ends:
        self.open(password="wrong")
        return self.ends()

    def table(self) -> Ends:
        self.ready()
        self.server.query("RENAME TABLE netra_analytics.performance_metrics TO netra_analytics.away")
        try:
            return self.ends()
        finally:
            self.server.query("RENAME TABLE netra_analytics.away TO netra_analytics.performance_metrics")

    def run(self, fault: str) -> Ends:
        if fault in ("202", "241", "252"):
            return self._thrown(int(fault))
        if fault == "159":
            slow = {"netra_analytics.performance_metrics": "sleepEachRow(0.001) = 0"}
            return self._code({"additional_table_filters": slow, "max_execution_time": 0.1})
        ends: Ends = getattr(self, fault)()
        return ends


def cells() -> Iterator[Any]:
    """All cells; the normal run takes each fault on each driver, through one way to read in turn."""
    turn = 0
    for fault in FAULTS:
        for driver in DRIVERS:
            turn += 1
            for lasting in (True, False):
                if FAULTS[fault].expected(driver, lasting=lasting) is None:
                    continue
                for number, access in enumerate(ACCESSES):
                    marks = () if number == (turn + lasting) % len(ACCESSES) else (pytest.mark.slow,)
                    name = f"{fault}-{'lasts' if lasting else 'passes'}-{driver}-{access}"
                    yield pytest.param(fault, driver, access, lasting, marks=marks, id=name)


@pytest.mark.parametrize(("fault", "driver", "access", "lasting"), list(cells()))
def test_fault(server: ModernServer, fault: str, driver: str, access: str, lasting: bool) -> None:
    with contextlib.closing(Cell(server, driver, access, lasting=lasting)) as cell:
        assert cell.run(fault) == FAULTS[fault].expected(driver, lasting=lasting)


def test_the_manual_is_the_table() -> None:
    assert MANUAL.read_text(encoding="utf-8") == render(), "python -m tests.resilience.faults writes it"
