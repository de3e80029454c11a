"""What the report is made of: schedules, the meter, the spool's age, probes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from netra_chdb import Config, DataAccess
from netra_chdb.health.history import History, Sample
from netra_chdb.health.meter import QueryMeter, quantile
from netra_chdb.health.probes import Probes
from netra_chdb.health.schedule import Schedule
from netra_chdb.health.spooled import SpoolWatch
from netra_chdb.ingest.spool import Spool
from netra_chdb.models import analytics
from tests.proxy import Proxy
from tests.servers import ModernServer, wait_for


def test_calls_never_pile_up() -> None:
    running, most, calls = 0, 0, 0
    go = threading.Event()

    def work() -> float:
        nonlocal running, most, calls
        running += 1
        most, calls = max(most, running), calls + 1
        go.wait(5)
        running -= 1
        return 60.0

    schedule = Schedule("test", work)
    for _ in range(50):
        schedule.start()
        schedule.wake()
    wait_for(lambda: calls == 1, "the first call")
    go.set()
    time.sleep(0.2)
    assert most == 1
    assert calls <= 2, "what was asked for while it ran is one call"
    before = calls
    schedule.wake()
    wait_for(lambda: calls == before + 1, "the next call")
    schedule.close()


def test_a_call_that_raises_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    def work() -> float:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("marker")
        return 60.0

    schedule = Schedule("test", work)
    schedule.start()
    wait_for(lambda: "RuntimeError" in caplog.text, "the warning")
    assert "marker" not in caplog.text
    schedule.wake()
    wait_for(lambda: calls == 2, "the next call")
    schedule.close()


def test_a_forked_child_watches_by_itself(make_data: Callable[..., DataAccess]) -> None:
    data = make_data()
    data.initialize()
    assert data.health().state == "good"
    child = os.fork()
    if not child:
        code = 1
        try:
            data.monitor.refresh()
            code = int(data.monitor.report(wait=10).probe("connection").state != "ok")
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_meter_counts(engine: sa.Engine) -> None:
    made = sa.create_engine(engine.url)
    meter = QueryMeter(made)
    with made.connect() as connection:
        before = meter.read().count
        started = time.perf_counter()
        for _ in range(4):
            connection.exec_driver_sql("SELECT sleep(0.03)")
        took = time.perf_counter() - started
    found = meter.read()
    assert found.count - before == 4
    assert 0.12 <= sum(meter.take_recent()[-4:]) <= took
    assert found.buckets[-1] == (None, found.count)
    assert [count for _, count in found.buckets] == sorted(count for _, count in found.buckets)
    for _ in range(3):
        # The error is the server's, as it was raised.
        with pytest.raises(sa.exc.DBAPIError, match="nothing"), made.connect() as connection:
            connection.exec_driver_sql("SELECT nothing")
    assert meter.read().errors == {"permanent": 3}
    made.dispose()


def test_refused_statements_and_failed_connecting_are_counted(
    make_data: Callable[..., DataAccess], line: Proxy
) -> None:
    data = make_data(port=line.port)
    line.close()
    for _ in range(4):
        with pytest.raises(Exception, match=r"breaker|refused"), data.engine.connect():
            pass
    assert data.monitor.report().queries.errors == {"rejected": 2, "refused": 2}


def test_quantiles() -> None:
    values = [float(number) for number in range(100)]
    assert [quantile(values, level) for level in (0.0, 0.5, 0.95, 1.0)] == [0.0, 50.0, 95.0, 99.0]
    assert quantile([], 0.5) is None


def test_history_is_bounded() -> None:
    history = History(5.0)
    for number in range(1, 2001):
        history.add(Sample(number, number * 5.0, 0, 0, 0, None, None, None, 0, None, 0, 0.0, "closed", "good"))
    assert history.capacity == 720
    assert [sample.number for sample in history.since()] == list(range(1281, 2001))
    assert [sample.number for sample in history.since(1998)] == [1999, 2000]


def test_the_spools_depth_and_age(tmp_path: Path) -> None:
    now = 1000.0
    spool = Spool(tmp_path, max_bytes=10**6)
    watch = SpoolWatch(spool, lambda: now)
    table = analytics.Event.__table__
    assert isinstance(table, sa.Table)

    def add(rows: int) -> None:
        spool.append(table, ["user_id"], [["u"]] * rows)

    def take_oldest() -> None:
        spool.write(
            lambda connection: connection.exec_driver_sql(
                "DELETE FROM entries WHERE id = (SELECT min(id) FROM entries)"
            )
        )

    assert (watch.look().rows, watch.look().oldest_seconds) == (0, None)
    now += 100
    add(3)
    assert (watch.look().rows, watch.look().oldest_seconds) == (3, 0.0)
    now += 10
    add(2)
    assert (watch.look().rows, watch.look().oldest_seconds) == (5, 10.0)
    now += 10
    take_oldest()
    assert (watch.look().rows, watch.look().oldest_seconds) == (2, 10.0)
    take_oldest()
    assert (watch.look().rows, watch.look().oldest_seconds) == (0, None)
    now += 10
    add(1)
    assert watch.look().oldest_seconds == 0.0
    spool.file.path.unlink()
    spool.file.path.mkdir()
    assert watch.look().error is not None
    spool.close()


def test_a_probe_has_a_limit_and_tells_while_it_waits(modern_server: ModernServer) -> None:
    with Proxy(modern_server.http_port) as line:
        probes = Probes(Config(url=modern_server.url("chhttp", port=line.port)), 0.3)
        line.hang()
        asking = threading.Thread(target=probes.ask, daemon=True)
        asking.start()
        wait_for(lambda: probes.read()[0].state == "failed", "the probe to fail")
        assert "answer" in str(probes.read()[0].error) or "Timeout" in str(probes.read()[0].error)
        line.flow()
        asking.join(20)
        assert probes.ask() or probes.schema.matches is False
        assert probes.read()[0].state == "ok"
        probes.close()


def test_a_user_who_may_not_set_limits_is_no_failure(modern_server: ModernServer) -> None:
    probes = Probes(Config(url=modern_server.url("chhttp", user="reader")), 2.0)
    probes.ask()
    assert probes.read()[0].state == "ok"
    probes.close()


def test_the_schema_is_looked_at(make_data: Callable[..., DataAccess], modern_server: ModernServer) -> None:
    data = make_data()
    data.initialize()
    assert data.health().schema.matches is True
    definition = modern_server.query("SHOW CREATE TABLE netra_analytics.mv_user_metrics_summary FORMAT TSVRaw")
    modern_server.query("DROP VIEW netra_analytics.mv_user_metrics_summary")
    try:
        wait_for(lambda: data.monitor.report().schema.matches is False, "the probe to see it")
        report = data.monitor.report()
        assert report.schema.missing == ("netra_analytics.mv_user_metrics_summary",)
        (finding,) = [finding for finding in report.findings if finding.about == "schema"]
        assert "alembic upgrade head" in finding.next_step
        assert (report.state, report.ready) == ("degraded", True)
    finally:
        modern_server.query(definition)
    wait_for(lambda: data.monitor.report().state == "good", "the probe to see it back")
