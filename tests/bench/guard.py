"""What the guard costs: a statement, a refusal, and the throughput of many threads."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import clickhouse_connect
import clickhouse_driver
import sqlalchemy as sa
from sqlalchemy import orm

from netra_chdb import CircuitBreaker, create_engine
from netra_chdb.engine import guard
from netra_chdb.errors import BreakerOpen
from netra_chdb.resilience.retry import RetryPolicy
from tests.bench.measure import compare
from tests.servers import PASSWORD, ModernServer

PAIRS = 400
THREADS = 100
CONNECTIONS = 15
EACH = 10
ONE = sa.text("SELECT 1")
# A query that takes its time on the server; of SELECT 1 nearly all is the client's own work.
WORK = "SELECT sleep(0.02)"


def run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = ModernServer(Path(folder)).start()
        try:
            for driver in ("chhttp", "chnative"):
                _overhead(server, driver)
            for sql in ("SELECT 1", WORK):
                _threads(server, sql)
        finally:
            server.kill()


def _guarded(url: str, **options: Any) -> tuple[sa.Engine, CircuitBreaker]:
    engine, breaker = create_engine(url, **options), CircuitBreaker()
    guard(engine, breaker, RetryPolicy())
    return engine, breaker


def _timed(run: Callable[[], object]) -> float:
    start = time.thread_time()
    run()
    return time.thread_time() - start


def _overhead(server: ModernServer, driver: str) -> None:
    plain = sa.create_engine(server.url(driver))
    guarded, breaker = _guarded(server.url(driver))
    with orm.Session(plain) as theirs, orm.Session(guarded) as ours:

        def ask(session: orm.Session) -> Callable[[], object]:
            return lambda: session.execute(ONE).scalar()

        for session in (theirs, ours):
            for _ in range(50):
                ask(session)()
        # Processor time of this thread: what others do on the machine is many times what is looked for. In turns, since
        # who comes second finds the processor's caches warm.
        over = []
        for turn in range(PAIRS):
            first, second = (ours, theirs) if turn % 2 else (theirs, ours)
            took = {session: _timed(ask(session)) for session in (first, second)}
            over.append(took[ours] - took[theirs])
        print(
            f"{driver}: a guarded SELECT 1 over the plain session, median of {PAIRS} pairs "
            f"{statistics.median(over) * 1e6:.1f} us   wanted <= 60",
            flush=True,
        )
    breaker.force_open("a benchmark")
    with guarded.connect() as connection:

        def refused() -> None:
            try:
                connection.execute(ONE)
            except BreakerOpen:
                return
            raise AssertionError

        refusal = statistics.median(_timed(refused) for _ in range(PAIRS))
        print(f"{driver}: a refusal while open, median of {PAIRS}: {refusal * 1e6:.1f} us   wanted <= 50", flush=True)
    for engine in (plain, guarded):
        engine.dispose()


def _threads(server: ModernServer, sql: str) -> None:
    http, _ = _guarded(server.url("chhttp"), pool_size=CONNECTIONS, max_overflow=0)
    native, _ = _guarded(server.url("chnative"), pool_size=CONNECTIONS, max_overflow=0)
    clients: SimpleQueue[Any] = SimpleQueue()
    drivers: SimpleQueue[Any] = SimpleQueue()
    for _ in range(CONNECTIONS):
        clients.put(
            clickhouse_connect.get_client(
                host="127.0.0.1", port=server.http_port, username="netra", password=PASSWORD, tz_mode="aware"
            )
        )
        drivers.put(clickhouse_driver.Client("127.0.0.1", port=server.tcp_port, user="netra", password=PASSWORD))

    def through(engine: sa.Engine) -> Callable[[], object]:
        def ask() -> None:
            with engine.connect() as connection:
                connection.scalar(sa.text(sql))

        return ask

    def bare(pool: SimpleQueue[Any], ask: Callable[[Any], object]) -> Callable[[], object]:
        def borrowed() -> None:
            client = pool.get()
            try:
                ask(client)
            finally:
                pool.put(client)

        return borrowed

    asked = f"{THREADS} threads x {EACH}, {CONNECTIONS} connections, {sql[:24]}"
    compare(
        f"HTTP: {asked}",
        lambda: _crowd(through(http)),
        lambda: _crowd(bare(clients, lambda client: client.query(sql).result_rows)),
        wanted="<= 1.11",
    )
    compare(
        f"native: {asked}",
        lambda: _crowd(through(native)),
        lambda: _crowd(bare(drivers, lambda client: client.execute(sql))),
        wanted="<= 1.11",
    )
    for engine in (http, native):
        engine.dispose()
    while not clients.empty():
        clients.get().close()
    while not drivers.empty():
        drivers.get().disconnect()


def _crowd(ask: Callable[[], object]) -> None:
    def run() -> None:
        for _ in range(EACH):
            ask()

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
