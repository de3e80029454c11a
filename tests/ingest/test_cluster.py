"""The whole data layer on two shards: it says nothing of them but the cluster's name."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.util import CommandError

from netra_chdb import Config, DataAccess, create_engine
from netra_chdb.migrations.cluster import Cluster
from netra_chdb.migrations.options import Options
from netra_chdb.migrations.runner import configuration
from netra_chdb.models.analytics import PerformanceMetric
from netra_chdb.repositories import EVERYONE
from tests.cluster import CLUSTER, ModernCluster
from tests.conftest import started
from tests.servers import wait_for

METRICS = "netra_analytics.performance_metrics"
SUMMARY = "netra_analytics.user_metrics_summary"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModernCluster]:
    yield from started(ModernCluster(tmp_path_factory.mktemp("shards")))


@pytest.fixture(scope="module")
def data(cluster: ModernCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataAccess]:
    first = cluster.nodes[0]
    config = Config(
        url=first.url("chhttp"),
        cluster=CLUSTER,
        spool_dir=tmp_path_factory.mktemp("spool") / "netra.spool",
        retry_max_attempts=1,
        breaker_fail_max=100,
    )
    printed = io.StringIO()
    engine = create_engine(config)
    made = configuration(engine, None, Options())
    made.output_buffer = printed
    with contextlib.redirect_stdout(printed):
        command.upgrade(made, "head", sql=True)
    engine.dispose()
    for statement in printed.getvalue().split(";\n"):
        if statement.strip():
            cluster.execute(statement)
    with DataAccess(config) as access:
        access.initialize(migrate=False)
        yield access


def metrics(user: str, count: int) -> list[dict[str, Any]]:
    at = dt.datetime.now(dt.UTC)
    return [
        {
            "user_id": f"{user}-{n % 20}",
            "trace_id": f"trace-{n}",
            "timestamp": at,
            "metric_type": "latency",
            "metric_name": "answer",
            "value": float(n),
            "total_tokens": n,
        }
        for n in range(count)
    ]


def counted(cluster: ModernCluster, user: str, node: int = 0) -> tuple[str, str, list[int]]:
    """The rows, their summary, and how many of the rows each shard has."""
    of_them = f"WHERE startsWith(user_id, '{user}-')"
    rows = cluster.nodes[node].query(f"SELECT count(), sum(total_tokens) FROM {METRICS} {of_them}")
    summary = cluster.nodes[node].query(f"SELECT sum(metric_count), sum(total_tokens) FROM {SUMMARY} {of_them}")
    return rows, summary, [int(one.query(f"SELECT count() FROM {METRICS}_local {of_them}")) for one in cluster.nodes]


def test_repositories_need_no_change(data: DataAccess, cluster: ModernCluster) -> None:
    for n in range(40):
        data.events.record(user_id=f"recorded-{n}", event_type="ui", event_name="click", data={"n": n})
    data.flush()
    events = [int(node.query("SELECT count() FROM netra_analytics.events_local")) for node in cluster.nodes]
    assert sum(events) == 40
    assert all(events)

    receipt = data.performance_metrics.insert(metrics("both", 1000))
    assert receipt.state == "stored"
    for node in (0, 1):
        rows, summary, shards = counted(cluster, "both", node)
        assert rows == summary == "1000\t499500"
        assert sum(shards) == 1000
        assert all(shards)
    reading = data.performance_metrics.percentiles("latency", levels=(0.5,), user_id="both-3")
    assert [row.value for row in reading.rows] == [493.0]  # of 3, 23, ..., 983: between 483 and 503
    with data.session(user_id="both-3") as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(PerformanceMetric)) == 50
        # A subquery over a table on several shards.
        largest = sa.select(sa.func.max(PerformanceMetric.value)).scalar_subquery()
        some = sa.select(PerformanceMetric.trace_id).where(PerformanceMetric.value > largest - 50)
        found = session.scalars(sa.select(PerformanceMetric.value).where(PerformanceMetric.trace_id.in_(some)))
        assert sorted(found) == [943.0, 963.0, 983.0]


def test_the_schema_is_the_models(data: DataAccess) -> None:
    """Local and distributed tables are compared as what they are together."""
    command.check(configuration(data.engine, None, Options(database="netra_analytics")))


@pytest.mark.slow
def test_what_is_not_in_the_models_is_told(data: DataAccess) -> None:
    report = data.consistency()
    assert [(result.name, result.evidence) for result in report.results if result.state == "failed"] == []
    local = "ALTER TABLE netra_analytics.events_local {} COLUMN surplus"
    with data.engine.connect() as connection:
        # A look at what is there leaves no row behind.
        assert connection.exec_driver_sql("SELECT count() FROM netra_traces.agent_events").scalar() == 0
        try:
            connection.exec_driver_sql(f"{local.format('ADD')} Int8")
            with pytest.raises(CommandError, match="New upgrade operations detected"):
                command.check(configuration(data.engine, None, Options()))
        finally:
            connection.exec_driver_sql(local.format("DROP"))


CHANGES = {
    # a change of columns, and what takes it back
    "ADD COLUMN extra String DEFAULT 'x' CODEC(ZSTD(1)) COMMENT 'more' AFTER user_id": "DROP COLUMN extra",
    "ADD COLUMN gone_soon UInt8 TTL toDate(created_at) + toIntervalDay(1)": "DROP COLUMN gone_soon",
    "RENAME COLUMN event_category TO category": "RENAME COLUMN category TO event_category",
    "MODIFY COLUMN event_name String": "MODIFY COLUMN event_name LowCardinality(String)",
    "COMMENT COLUMN session_id 'of a visit'": "COMMENT COLUMN session_id ''",
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_change_of_columns_is_made_in_both_tables(data: DataAccess, cluster: ModernCluster, change: str) -> None:
    def columns(table: str) -> set[str]:
        asked = "SELECT name, type, default_expression, comment FROM system.columns WHERE database = 'netra_analytics'"
        return {node.query(f"{asked} AND table = '{table}' ORDER BY position") for node in cluster.nodes}

    before = columns("events")
    for one in (change, CHANGES[change]):
        for form in Cluster(CLUSTER).forms(f"ALTER TABLE netra_analytics.events {one}"):
            cluster.execute(form)
        assert len(columns("events")) == 1
        assert columns("events") == columns("events_local")
        assert (columns("events") == before) == (one != change)


def test_a_shard_that_dies_in_the_middle(data: DataAccess, cluster: ModernCluster) -> None:
    """A batch is on one shard and not on the other: the same batch is sent again, and each row is there once."""
    first, second = cluster.nodes
    own = "SELECT count() FROM netra_analytics.performance_metrics_local WHERE startsWith(user_id, 'torn-')"
    # One shard takes its time, the other one is done before it.
    second.query(f"ALTER TABLE {METRICS}_local ADD CONSTRAINT slow CHECK sleep(3) = 0")
    receipts: list[Any] = []
    inserting = threading.Thread(target=lambda: receipts.append(data.performance_metrics.insert(metrics("torn", 1000))))
    inserting.start()
    wait_for(lambda: int(first.query(own)) > 0, "the rows of the first shard")
    second.kill()
    inserting.join()
    try:
        assert [receipt.state for receipt in receipts] == ["spooled"]
        # A read says that it cannot see everything, and is never silently partial.
        with pytest.raises(sa.exc.DBAPIError), data.session(user_id=EVERYONE) as session:
            session.scalar(sa.select(sa.func.count()).select_from(PerformanceMetric))
        assert 0 < int(first.query(own)) < 1000
    finally:
        second.start()
        assert second.query(own) == "0"
        second.query(f"ALTER TABLE {METRICS}_local DROP CONSTRAINT slow")
    data.flush(timeout=60)
    rows, summary, shards = counted(cluster, "torn")
    assert rows == summary == "1000\t499500"
    assert all(shards)
