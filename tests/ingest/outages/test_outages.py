"""The writer when ClickHouse dies under it, hangs or is cut off: nothing lost, nothing twice, sums exact."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from netra_chdb import DataAccess
from netra_chdb.ingest import settle
from netra_chdb.ingest.backlog import Backlog
from netra_chdb.ingest.batch import Batch, RowChecker
from netra_chdb.ingest.queued import Attempt
from netra_chdb.ingest.send import send
from netra_chdb.ingest.writer import Writer
from netra_chdb.models.analytics import PerformanceMetric, UserMetricsSummary
from tests.ingest.chaos import assert_exact, ids, metric
from tests.proxy import Proxy
from tests.servers import ModernServer

TABLE: sa.Table = PerformanceMetric.__table__
TARGET: sa.Table = UserMetricsSummary.__table__


def rows(user_id: str, *numbers: int) -> list[dict[str, Any]]:
    return [metric(user_id, number) for number in numbers]


def frozen(user_id: str, *numbers: int) -> Batch:
    checker = RowChecker(TABLE)
    return checker.freeze([checker.check(0, row)[0] for row in rows(user_id, *numbers)])


def test_an_outage_is_waited_for_on_disk(server: ModernServer, writer: Writer, data: DataAccess, user_id: str) -> None:
    writer.insert(PerformanceMetric, rows(user_id, 0, 1))
    server.kill()
    try:
        receipt = writer.insert(PerformanceMetric, rows(user_id, 2, 3, 4))
        assert receipt.state == "spooled"
        for number in range(5, 30):
            writer.record(PerformanceMetric, metric(user_id, number))
    finally:
        server.start()
    writer.flush()
    assert_exact(data, user_id, range(30))
    with data.engine.connect() as connection:
        found = connection.execute(
            sa.select(sa.distinct(PerformanceMetric.batch_id)).where(
                PerformanceMetric.user_id == user_id, PerformanceMetric.metric_id == "3"
            )
        ).scalar_one()
    assert str(found) == receipt.batch_id, "the batch of the receipt"


def test_an_answer_that_is_lost_is_found_out(
    server: ModernServer, proxy: Proxy, writer: Writer, data: DataAccess, user_id: str
) -> None:
    for number in range(2):
        proxy.drop_answer(
            b"INSERT INTO",
            lambda n=number: (
                server.query(  # type: ignore[misc]
                    f"SELECT count() FROM netra_analytics.performance_metrics WHERE user_id = '{user_id}' "
                    f"AND metric_id = '{n}'"
                )
                == "1"
            ),
        )
        assert writer.insert(PerformanceMetric, rows(user_id, number)).state == "spooled"
        writer.flush()  # else the next answer that is dropped may be that to the settling of this batch
    assert_exact(data, user_id, range(2))


def test_a_server_that_hangs_takes_a_batch_once(
    server: ModernServer, writer: Writer, data: DataAccess, user_id: str
) -> None:
    writer.insert(PerformanceMetric, rows(user_id, 0))
    server.pause()
    try:
        assert writer.insert(PerformanceMetric, rows(user_id, 1, 2)).state == "spooled"
        writer.record(PerformanceMetric, metric(user_id, 3))
    finally:
        server.resume()
    writer.flush()
    assert_exact(data, user_id, range(4))


# -- what a crash of the server leaves behind: told by queries, the same on each driver ----


def lose_rows(data: DataAccess, table: sa.Table, user_id: str) -> None:
    """Leave the token's entry without its rows, as a server that dies between the two does."""
    with data.engine.connect() as connection:
        connection.execute(
            sa.text(f"ALTER TABLE {table.fullname} DELETE WHERE user_id = :user_id SETTINGS mutations_sync = 2"),
            {"user_id": user_id},
        )


@pytest.mark.parametrize("driver", ["chhttp"])
def test_a_token_without_its_part_does_not_swallow_the_batch(writer: Writer, data: DataAccess, user_id: str) -> None:
    batch = frozen(user_id, *range(10))
    attempt = Attempt(batch.token)
    with data.engine.connect() as connection:
        send(connection, batch, attempt)
        lose_rows(data, TABLE, user_id)
        lose_rows(data, TARGET, user_id)
        send(connection, batch, Attempt(batch.token))
        assert not ids(data.engine, user_id), "the plain resend is acknowledged and dropped"
        lose_rows(data, TARGET, user_id)
    writer.spool.keep(batch, "sent", attempt, reason="the server died")
    writer.start()
    writer.flush()
    assert_exact(data, user_id, range(10))


@pytest.mark.parametrize("driver", ["chhttp"])
@pytest.mark.parametrize("payload", [True, False], ids=["spooled", "in flight"])
@pytest.mark.parametrize("phantom", [True, False], ids=["entry without part", "nothing"])
def test_a_summary_that_lacks_the_batch_gets_it(
    writer: Writer, data: DataAccess, user_id: str, payload: bool, phantom: bool
) -> None:
    writer.insert(PerformanceMetric, rows(user_id, 100, 101))
    batch = frozen(user_id, *range(10))
    attempt = Attempt(batch.token)
    with data.engine.connect() as connection:
        if phantom:
            send(connection, batch, attempt)
            lose_rows(data, TARGET, user_id)
            connection.execute(  # what was there before
                sa.text(
                    f"INSERT INTO {TARGET.fullname} SELECT user_id, toDate(timestamp), metric_type, count(), "
                    "avgState(value), max(value), min(value), sum(total_tokens), toDate(created_at) "
                    f"FROM {TABLE.fullname} WHERE user_id = :user_id AND batch_id != :batch_id "
                    "GROUP BY user_id, toDate(timestamp), metric_type, toDate(created_at)"
                ),
                {"user_id": user_id, "batch_id": str(batch.batch_id)},
            )
        else:
            connection.execute(sa.text("DETACH TABLE netra_analytics.mv_user_metrics_summary"))
            try:
                send(connection, batch, attempt)
            finally:
                connection.execute(sa.text("ATTACH TABLE netra_analytics.mv_user_metrics_summary"))
    if payload:
        writer.spool.keep(batch, "sent", attempt, reason="the server died")
    else:
        writer.spool.intend(batch, attempt)
        writer.spool.abandon(batch)
    writer.start()
    writer.flush()
    assert_exact(data, user_id, [100, 101, *range(10)])


VIEW = "netra_analytics.mv_user_metrics_summary"


def send_past_the_view(connection: sa.Connection, batch: Batch) -> None:
    connection.execute(sa.text(f"DETACH TABLE {VIEW}"))
    try:
        send(connection, batch, Attempt(batch.token))
    finally:
        connection.execute(sa.text(f"ATTACH TABLE {VIEW}"))


@pytest.mark.parametrize("driver", ["chhttp"])
def test_of_many_batches_those_that_lack_are_found(writer: Writer, data: DataAccess, user_id: str) -> None:
    """All touch the same days and types, so that each one's shortfall is seen in what another one touches."""
    batches = [frozen(user_id, *range(start, start + 9)) for start in range(0, 20 * 9, 9)]
    with data.engine.connect() as connection:
        for place, batch in enumerate(batches):
            if place in (1, 3, 17):
                send_past_the_view(connection, batch)
            else:
                send(connection, batch, Attempt(batch.token))
            writer.spool.intend(batch, Attempt(batch.token))
            writer.spool.abandon(batch)
    writer.start()
    writer.flush()
    assert_exact(data, user_id, range(20 * 9))


@pytest.mark.parametrize("driver", ["chhttp"])
def test_batches_are_compared_when_those_before_them_are_settled(
    writer: Writer, data: DataAccess, user_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the table and waits to be settled explains a summary's shortfall, and is none of the batches asked."""
    loose, queued = frozen(user_id, *range(9)), [frozen(user_id, *range(n, n + 9)) for n in (9, 18)]
    with data.engine.connect() as connection:
        for batch in (loose, *queued):
            send_past_the_view(connection, batch)
    writer.spool.intend(loose, Attempt(loose.token))
    writer.spool.abandon(loose)
    for batch in queued:
        writer.spool.keep(batch, "sent", Attempt(batch.token), reason="the server died")
    answers = []
    missing = settle.missing

    def noted(*arguments: Any) -> Any:
        answers.append(missing(*arguments))
        return answers[-1]

    monkeypatch.setattr(settle, "missing", noted)
    writer.start()
    writer.flush()
    assert_exact(data, user_id, range(27))
    assert None not in answers, "asked in vain"


@pytest.mark.parametrize("driver", ["chhttp"])
def test_an_insert_in_flight_that_never_arrived_is_forgotten(writer: Writer, data: DataAccess, user_id: str) -> None:
    batch = frozen(user_id, 1)
    writer.spool.intend(batch, Attempt(batch.token))
    writer.spool.abandon(batch)
    writer.start()
    writer.flush()
    assert_exact(data, user_id, [])
    assert Backlog(writer.spool).loose() == []


@pytest.fixture
def small_window(server: ModernServer) -> Iterator[None]:
    tables = (TABLE.fullname, TARGET.fullname)
    for table in tables:
        server.query(f"ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = 3")
    yield
    for table in tables:
        server.query(f"ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = 10000")


@pytest.mark.parametrize("driver", ["chhttp"])
def test_a_backlog_beyond_the_window_is_exact(
    server: ModernServer,
    proxy: Proxy,
    make_writer: Callable[..., Writer],
    data: DataAccess,
    user_id: str,
    small_window: None,
) -> None:
    writer = make_writer(flush_rows=5)
    server.kill()
    try:
        for number in range(250):
            writer.record(PerformanceMetric, metric(user_id, number))
    finally:
        server.start()
    stop = threading.Event()

    def cut() -> None:
        while not stop.wait(0.05):
            proxy.cut()

    cutter = threading.Thread(target=cut)
    cutter.start()
    time.sleep(1)
    stop.set()
    cutter.join()
    writer.flush()
    assert_exact(data, user_id, range(250))


@pytest.mark.parametrize("driver", ["chhttp"])
def test_a_backlog_beyond_the_window_is_exact_when_its_flusher_is_killed(
    make_writer: Callable[..., Writer], data: DataAccess, url: str, tmp_path: Path, user_id: str, small_window: None
) -> None:
    """Fifty batches: a process dies over some of them, another one drains the rest."""
    writer = make_writer(flush_rows=5, degraded=True)
    for number in range(250):
        writer.record(PerformanceMetric, metric(user_id, number))
    command = [sys.executable, "-m", "tests.ingest.chaos", "drain", url, str(tmp_path / "spool"), user_id]
    with subprocess.Popen([*command, "25"], stdout=subprocess.PIPE, text=True) as flusher:
        try:
            assert flusher.stdout is not None
            assert flusher.stdout.readline() == "half\n"
        finally:
            flusher.kill()
    assert ids(data.engine, user_id).total() == 125
    assert writer.spool.counts() == (130, 1), "the last one is stored, and nobody has noted it"
    subprocess.run([*command, "0"], check=True, timeout=60)
    assert writer.spool.counts() == (0, 0)
    assert_exact(data, user_id, range(250))
