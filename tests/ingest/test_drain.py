"""What a drain takes: memory for a batch, however long the backlog; columns however their rows came."""

from __future__ import annotations

import datetime as dt
import gc
import re
import socket
import tracemalloc
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from netra_chdb import DataAccess
from netra_chdb.ingest import drain
from netra_chdb.ingest.backlog import Backlog
from netra_chdb.ingest.batch import RowChecker
from netra_chdb.ingest.columns import values_of
from netra_chdb.ingest.drain import Drainer
from netra_chdb.ingest.encoding import encode
from netra_chdb.ingest.packed_rows import columns_of, pack
from netra_chdb.ingest.queued import Attempt
from netra_chdb.ingest.spool import Spool
from netra_chdb.models.analytics import PerformanceMetric
from tests.ingest.chaos import access, ids, metric
from tests.servers import ModernServer

TABLE: sa.Table = PerformanceMetric.__table__
ROWS = 100


@pytest.fixture
def data(server: ModernServer) -> Iterator[DataAccess]:
    with access(server.url("chhttp")) as data:
        yield data


def peak_of_drain(data: DataAccess, directory: Path, user_id: str, batches: int) -> int:
    """Bytes that Python and Arrow hold at most while so many batches are drained."""
    spool = Spool(directory)
    checker = RowChecker(TABLE)
    for start in range(0, batches * ROWS, ROWS // 2):  # two entries a batch, one of them text
        rows = [
            checker.check(0, metric(user_id, start + n, metadata={"text": "x" * 5000}))[0] for n in range(ROWS // 2)
        ]
        spool.append(TABLE, checker.columns, rows)
    held = 0

    def look(*_: Any) -> None:
        nonlocal held
        held = max(held, pa.total_allocated_bytes())

    sa.event.listen(data.engine, "before_cursor_execute", look)
    drainer = Drainer(data.engine, Backlog(spool), batch_rows=ROWS)
    before = pa.total_allocated_bytes()
    gc.collect()
    gc.disable()  # a batch goes when it is done with, and not at some collection later
    tracemalloc.start()
    try:
        drainer.run()
        return tracemalloc.get_traced_memory()[1] + held - before
    finally:
        tracemalloc.stop()
        gc.enable()
        sa.event.remove(data.engine, "before_cursor_execute", look)
        assert spool.counts() == (0, 0)
        spool.close()


def test_memory_is_bounded_by_the_batch_and_not_by_the_backlog(data: DataAccess, tmp_path: Path, user_id: str) -> None:
    peak_of_drain(data, tmp_path / "warm", user_id, 2)  # what is compiled and imported once
    few = peak_of_drain(data, tmp_path / "few", user_id, 4)
    many = peak_of_drain(data, tmp_path / "many", user_id, 40)
    assert many < 1.5 * few, f"{few} bytes for 4 batches, {many} for 40"
    assert ids(data.engine, user_id).total() == 46 * ROWS


_UUID = uuid.UUID(int=7)
_AT = dt.datetime(2026, 11, 1, 12, 0, 0, 125_000, tzinfo=dt.UTC)


def test_batches_of_unknown_fate_wait_at_the_same_time(data: DataAccess, tmp_path: Path, user_id: str) -> None:
    """Each has to wait until what lies in the server's sockets begins to run; one such while is enough for all."""
    spool, now = Spool(tmp_path), [1000.0]
    checker = RowChecker(TABLE)
    for number in range(5):
        batch = checker.freeze([checker.check(0, metric(user_id, number))[0]])
        spool.keep(batch, "sent", Attempt(batch.token), reason="the answer was lost")
    drainer = Drainer(data.engine, Backlog(spool), grace=60, clock=lambda: now[0])
    assert drainer.run() == pytest.approx(60)
    now[0] += 59
    assert drainer.run() == pytest.approx(1)
    assert not ids(data.engine, user_id)
    now[0] += 1
    drainer.run()
    assert sorted(ids(data.engine, user_id).elements()) == list(range(5))
    spool.close()


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "deduplication window" in record.getMessage()]


@pytest.mark.parametrize("as_batches", [True, False], ids=["batches", "rows"])
def test_a_backlog_beyond_the_window_is_said_once_while_clickhouse_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, as_batches: bool
) -> None:
    monkeypatch.setattr(drain, "DEDUPLICATION_WINDOW", 8)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        engine = sa.create_engine(f"clickhouse+chhttp://127.0.0.1:{free.getsockname()[1]}/")
    spool, checker = Spool(tmp_path), RowChecker(TABLE)
    drainer = Drainer(engine, Backlog(spool), batch_rows=10)
    drainer.run()
    for number in range(12):
        drainer.run()
        # Two rows that an insert() could not send are a batch, of rows recorded one by one it takes ten.
        assert not warnings_of(caplog) or number > 8
        rows = [checker.check(0, metric("u", row))[0] for row in range(2 if as_batches else 10)]
        if as_batches:
            batch = checker.freeze(rows)
            spool.keep(batch, "frozen", Attempt(batch.token), reason="ClickHouse is away")
        else:
            for row in rows:
                spool.append(TABLE, checker.columns, [row])
        drainer.hurry()
    (said,) = warnings_of(caplog)
    assert re.match(r"the spool holds (9|10|11) batches, more than the 8 that", said), said
    spool.close()
    engine.dispose()


@pytest.mark.parametrize(
    "values",
    [
        [1, None, 3],
        [None, None, None],
        [2**63, 1, -1],
        [1, 2.5, True],
        [0.1, None, float("inf")],
        [True, False, None],
        ["", None, "ü"],
        ["a", b"\xff", None],
        [_AT, None, _AT + dt.timedelta(microseconds=1)],
        [_AT.date(), None, dt.date(1950, 1, 1)],
        [_UUID, None, _UUID],
        [["a"], [], ["b", None]],
    ],
    ids=str,
)
def test_entries_of_all_kinds_are_one_column(values: list[Any]) -> None:
    """Thousands of rows, so that pieces of them differ in what they hold; each value comes back as it was."""
    column = [value for value in values for _ in range(1100)]
    texts = [encode([[value]]) for value in column]
    (text,) = columns_of(texts)
    (mixed,) = columns_of([*texts[:100], pack([column[100:3000]]), *texts[3000:]])
    for found in (text, mixed):
        assert list(map(same, values_of(found))) == list(map(same, column))


def same(value: Any) -> tuple[type, Any]:
    return type(value), value
