"""Writing: inserts against the engine's own and the peers', the spool against the disk, the drain in rows a second."""

from __future__ import annotations

import datetime as dt
import os
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clickhouse_driver
import pyarrow as pa
import sqlalchemy as sa

from netra_chdb import create_engine
from netra_chdb.dialect import UUID, DateTime64, Float64, Int64, MergeTree, String
from netra_chdb.ingest.backlog import Backlog
from netra_chdb.ingest.drain import Drainer
from netra_chdb.ingest.spool import Spool
from netra_chdb.ingest.writer import Writer
from tests.bench.measure import compare, least, limit
from tests.servers import PASSWORD, ModernServer

ROWS = 1_000_000
FEWER = 100_000
EVENTS = 5_000

TABLE = sa.Table(
    "bench",
    sa.MetaData(),
    sa.Column("id", Int64, primary_key=True),
    sa.Column("user_id", Int64),
    sa.Column("a", Float64),
    sa.Column("b", Float64),
    sa.Column("c", Int64),
    sa.Column("d", Int64),
    sa.Column("name", String),
    sa.Column("kind", String),
    sa.Column("note", String),
    sa.Column("at", DateTime64(3, "UTC")),
    sa.Column("created_at", DateTime64(3, "UTC")),
    sa.Column("batch_id", UUID),
    MergeTree(order_by="id", non_replicated_deduplication_window=10_000),
)
# What a peer inserts: the same, without the two columns that a batch sets.
BARE = sa.Table(
    "bare", sa.MetaData(), *(column.copy() for column in list(TABLE.columns)[:10]), MergeTree(order_by="id")
)


def rows(count: int) -> list[dict[str, Any]]:
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return [
        {
            "id": n,
            "user_id": n % 1000,
            "a": n / 7,
            "b": n / 3,
            "c": n * 3,
            "d": n % 17,
            "name": f"name {n % 5000}",
            "kind": "kind",
            "note": str(n),
            "at": start + dt.timedelta(milliseconds=n),
        }
        for n in range(count)
    ]


def rate(name: str, count: int, run: Callable[[], object], wanted: str, *, base: float | None = None) -> float:
    """Print how many a second, of the clock and of CPU, and how many times ``base`` that is; return it."""
    start, used = time.perf_counter(), time.process_time()
    run()
    found, busy = count / (time.perf_counter() - start), count / (time.process_time() - used)
    ratio = "" if base is None else f"   ratio {found / base:6.3f}"
    print(f"{name:<58} {found:12.0f} a second ({busy:.0f} of CPU){ratio}   wanted {wanted}", flush=True)
    return found


def writer_on(engine: sa.Engine, folder: Path) -> Writer:
    spool = Spool(folder)
    drainer = Drainer(engine, Backlog(spool), batch_rows=100_000)
    return Writer(engine, spool, drainer=drainer, flush_interval=3600)


def run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        _spool(base)
        _embedded(base)
        server = ModernServer(base / "server").start()
        try:
            _native(server, base)
            _http(server, base)
        finally:
            server.stop()


def _spool(base: Path) -> None:
    fd = os.open(base / "probe", os.O_CREAT | os.O_RDWR, 0o600)
    engine = sa.create_engine("sqlite://")  # never asked: the writer is switched off
    spool = Spool(base / "records")
    writer = Writer(engine, spool, degraded=True)
    row = rows(1)[0]

    def fsyncs(count: int) -> None:
        for _ in range(count):
            os.write(fd, b"\0" * 4096)
            os.fsync(fd)

    def record(count: int) -> None:
        for _ in range(count):
            writer.record(TABLE, row)

    def threads(count: int) -> None:
        running = [threading.Thread(target=record, args=(count // 16,)) for _ in range(16)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    def measure(where: str) -> None:
        # In turns, and not long: what else there is to write on the disk changes by the second.
        took = [[_seconds_each(run, count) for run, count in ((fsyncs, 250), (record, 250), (threads, 1600))]
                for _ in range(25)]  # fmt: skip
        disk, one, many = (statistics.median(column) for column in zip(*took, strict=True))
        print(f"{where}, a second: {1 / disk:.0f} times 4 KiB and fsync; record() {1 / one:.0f}, "
              f"from 16 threads {1 / many:.0f}")  # fmt: skip
        # 5,000 where the disk allows 8,000: what it may take beside the disk.
        over = statistics.median(one - disk for disk, one, _ in took)
        limit(f"record() beside the disk's fsync, {where}", over * 1e6, (1 / 5000 - 1 / 8000) * 1e6, "us")
        least(f"record(), 16 threads / one thread, {where}", statistics.median(one / many for _, one, many in took), 5)

    record(1000)
    measure("all cores")
    # What waking a thread on another core costs, is not the library's.
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    measure("one core")
    os.sched_setaffinity(0, cores)
    writer.close()
    spool.close()
    os.close(fd)


def _seconds_each(run: Callable[[int], object], count: int) -> float:
    start = time.perf_counter()
    run(count)
    return (time.perf_counter() - start) / count


def _embedded(base: Path) -> None:
    engine = create_engine(f"clickhouse+chdb:///{base}/netra.chdb")
    for table in (TABLE, BARE):
        table.create(engine)
    writer = writer_on(engine, base / "embedded")
    arrow = pa.Table.from_pylist(rows(ROWS))

    def own() -> None:
        with engine.connect() as connection:
            client: Any = connection.connection.dbapi_connection.client  # type: ignore[union-attr]
            client._backend._handle.conn.query("INSERT INTO bare SELECT * FROM Python(arrow)")

    globals()["arrow"] = arrow  # where the engine looks for it
    compare(
        "insert(arrow) 1M x 10, embedded / INSERT SELECT FROM Python(arrow)",
        lambda: writer.insert(TABLE, arrow),
        own,
        wanted="<= 1.3",
        pairs=3,
    )
    for _ in range(3):
        writer.spool.append(TABLE, list(BARE.columns.keys()), [list(row.values()) for row in rows(FEWER)])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def drain() -> None:
        writer.start()
        writer.flush(600)

    rate("drain of spooled inserts, embedded", 3 * FEWER, drain, ">= 300,000")
    print(f"    memory grew by {(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024:.0f} MiB")
    for row in [list(row.values()) for row in rows(EVENTS)]:
        writer.spool.append(TABLE, list(BARE.columns.keys()), [row])
    rate("drain of rows recorded one by one, embedded", EVENTS, drain, "-")
    writer.close()
    engine.dispose()


def _native(server: ModernServer, base: Path) -> None:
    engine = create_engine(server.url("chnative"))
    for table in (TABLE, BARE):
        table.create(engine)
    writer = writer_on(engine, base / "native")
    driver = clickhouse_driver.Client("127.0.0.1", server.tcp_port, user="netra", password=PASSWORD)
    some = rows(FEWER)
    columns = [list(column) for column in zip(*(row.values() for row in some), strict=True)]
    compare(
        "insert(list of dicts) 100k, native / clickhouse-driver, columns",
        lambda: writer.insert(TABLE, some),
        lambda: driver.execute("INSERT INTO bare VALUES", columns, columnar=True),
        wanted="<= 1.2",
        pairs=3,
    )
    driver.disconnect()
    writer.close()
    engine.dispose()


def _http(server: ModernServer, base: Path) -> None:
    engine = create_engine(server.url("chhttp"))
    peer = sa.create_engine(server.url("chhttp").replace("clickhouse+chhttp", "clickhousedb"))
    writer = writer_on(engine, base / "http")
    some = rows(FEWER)
    bare = sa.Table("bare", sa.MetaData(), *(sa.Column(name) for name in some[0]))

    def theirs() -> None:
        with peer.connect() as connection:
            connection.execute(sa.insert(bare), some)

    compare(
        "insert(list of dicts) 100k, HTTP / clickhouse-connect's dialect",
        lambda: writer.insert(TABLE, some),
        theirs,
        wanted="<= 0.25",
        pairs=3,
    )
    writer.close()
    engine.dispose()
    peer.dispose()
