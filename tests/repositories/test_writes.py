"""Every table can be written to: a row at once, rows in a batch; what ClickHouse cannot take now is on disk."""

from __future__ import annotations

import asyncio
import datetime as dt
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import sqlalchemy as sa

from netra_chdb import AsyncDataAccess, Config, DataAccess, EventsRepository, errors, models
from netra_chdb.ingest.spool_file import NAME
from netra_chdb.models import analytics, traces
from netra_chdb.repositories import EVERYONE, AsyncTables, Tables
from netra_chdb.repositories.tables import REPOSITORIES

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)

#: For each repository a row without its time; ``{}`` stands for a name that no other test uses.
ROWS: dict[str, dict[str, Any]] = {
    "events": {"user_id": "{}", "event_type": "ui", "event_name": "click", "data": {"x": 1}},
    "performance_metrics": {"user_id": "{}", "metric_type": "latency", "metric_name": "m", "value": 2.5},
    "system_health_metrics": {"service_name": "{}", "status": "healthy", "metadata": {"a": [1]}},
    "error_analytics": {"user_id": "{}", "error_type": "timeout", "error_message": "too late"},
    "agent_executions": {
        "trace_id": "t",
        "execution_id": "e",
        "user_id": "{}",
        "agent_type": "planner",
        "agent_name": "p",
        "status": "completed",
        "duration_ms": 4.0,
    },
    "agent_events": {
        "trace_id": "t",
        "execution_id": "e",
        "user_id": "{}",
        "event_type": "custom",
        "event_name": "n",
        "sequence_number": 1,
    },
    "trace_performance_metrics": {
        "trace_id": "t",
        "user_id": "{}",
        "metric_type": "latency",
        "metric_name": "m",
        "value": 2.5,
        "component_name": "{}",
    },
    "trace_correlations": {
        "parent_trace_id": "{}",
        "child_trace_id": "c",
        "relationship_type": "related",
        "parent_start_time": NOW,
        "child_start_time": NOW,
        "parent_agent_type": "{}",
    },
    "error_logs": {
        "trace_id": "t",
        "user_id": "{}",
        "error_type": "llm",
        "severity": "error",
        "error_message": "no answer",
        "error_code": "{}",
    },
}
#: The column that holds the name.
NAMED = {"system_health_metrics": "service_name", "trace_correlations": "parent_trace_id"}


def row_of(table: str, name: str) -> dict[str, Any]:
    return {column: name if value == "{}" else value for column, value in ROWS[table].items()}


def stored(data: DataAccess, table: str, name: str) -> list[Any]:
    # Not as entities: two rows of one execution are one object.
    own: sa.Table = REPOSITORIES[table].model.__table__
    with data.session() as session:
        return list(session.execute(sa.select(own).where(own.c[NAMED.get(table, "user_id")] == name)))


@pytest.fixture
def access(url: str, data: DataAccess) -> Iterator[DataAccess]:
    """A data access with a spool that no other test writes to."""
    with DataAccess(Config(url=url, flush_interval=0.05)) as access:
        yield access


def test_there_is_a_repository_for_each_table() -> None:
    summaries = {summary.target for summary in (*analytics.SUMMARIES, *traces.SUMMARIES)}
    tables = {
        mapper.class_
        for base in (analytics.Base, traces.Base)
        for mapper in base.registry.mappers
        if mapper.class_ not in summaries
    }
    assert {repository.model for repository in REPOSITORIES.values()} == tables
    assert len(REPOSITORIES) == 9
    for declared in (Tables, AsyncTables):
        assert list(declared.__annotations__) == list(REPOSITORIES)
    assert get_type_hints(Tables) == REPOSITORIES


@pytest.mark.parametrize("table", ROWS)
def test_a_row_and_rows_arrive(access: DataAccess, user_id: str, table: str) -> None:
    repository = getattr(access, table)
    before = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    repository.record(**row_of(table, user_id))
    repository.record({**row_of(table, user_id), repository.time_column: NOW - dt.timedelta(hours=1)})
    receipt = repository.insert([{**row_of(table, user_id), repository.time_column: NOW}])
    assert (receipt.rows, receipt.state) == (1, "stored")
    access.flush()
    found = stored(access, table, user_id)
    times = sorted(getattr(row, repository.time_column) for row in found)
    assert times[:1] == [NOW - dt.timedelta(hours=1)]
    assert len(times) == 3
    assert NOW in times
    assert before <= times[-1] <= dt.datetime.now(dt.UTC), "where nothing is said, it is now"
    for column, value in row_of(table, user_id).items():
        assert {str(getattr(row, column)) for row in found} == {str(value)}


@pytest.mark.parametrize("table", ["system_health_metrics", "trace_correlations"])
def test_rows_of_nobody_are_read_as_everybodys(data: DataAccess, user_id: str, table: str) -> None:
    repository = getattr(data, table)
    repository.insert([{**row_of(table, user_id), "timestamp": NOW}])
    with pytest.raises(errors.NetraError, match="pass EVERYONE"):
        repository.count(user_id=user_id)
    assert repository.count(user_id=EVERYONE) >= 1
    assert repository.recent(1, user_id=EVERYONE).rows


def test_the_daily_summaries_count_what_came_in(data: DataAccess, user_id: str) -> None:
    for table in ("agent_executions", "trace_performance_metrics", "trace_correlations", "error_logs"):
        repository = getattr(data, table)
        repository.insert([{**row_of(table, user_id), repository.time_column: NOW}] * 3)
    day = {"since": NOW.date(), "until": NOW.date() + dt.timedelta(days=1)}
    (execution,) = data.agent_executions.user_summary(user_id=user_id, **day).rows
    assert (execution.agent_type, execution.execution_count) == ("planner", 3)
    for read, key, count in (
        (data.trace_performance_metrics.trends, "component_name", "metric_count"),
        (data.trace_correlations.interactions, "parent_agent_type", "interaction_count"),
        (data.error_logs.patterns, "error_code", "error_count"),
    ):
        rows: Any = [row for row in read(user_id=EVERYONE, **day).rows if getattr(row, key) == user_id]
        assert [getattr(row, count) for row in rows] == [3]
        with pytest.raises(errors.NetraError, match="pass EVERYONE"):
            read(user_id=user_id)


def test_all_of_it_together(access: DataAccess, user_id: str) -> None:
    access.events.record(user_id=user_id, event_type="ui", event_name="click", data={"x": 1})
    rows = [{**row_of("performance_metrics", user_id), "timestamp": NOW, "value": float(n)} for n in range(101)]
    receipt = access.performance_metrics.insert(rows)
    assert (receipt.rows, receipt.state, receipt.batch_ids) == (101, "stored", (receipt.batch_id,))
    access.flush()
    with access.session(user_id=user_id) as session:
        (event,) = session.scalars(sa.select(models.analytics.Event).limit(10)).all()
    assert event.data == {"x": 1}
    reading = access.performance_metrics.percentiles("latency", levels=(0.5, 0.95, 0.99), user_id=user_id)
    assert [tuple(row) for row in reading.rows] == [(0.5, 50.0), (0.95, 95.0), (0.99, 99.0)]
    assert not reading.stale
    spooled = access.health().spool
    assert spooled is not None
    assert (spooled.rows, spooled.quarantined) == (0, 0)


def test_who_only_reads_makes_no_directory(data: DataAccess, url: str, tmp_path: Path, user_id: str) -> None:
    spool = tmp_path / "none" / "spool"
    with DataAccess(Config(url=url, spool_dir=spool)) as access:
        access.initialize()
        assert access.events.count(user_id=user_id) == 0
        access.degrade("maintenance")
        access.restore()
    assert not spool.parent.exists()
    with pytest.raises(errors.NotReady, match="closed"):
        access.events.record(**row_of("events", user_id))
    assert not spool.parent.exists()


def test_what_was_left_is_sent_by_the_next_one_that_starts(data: DataAccess, url: str, user_id: str) -> None:
    with DataAccess(Config(url=url, mode="degraded")) as first:
        first.events.record(**row_of("events", user_id))
        assert first.events.insert([{**row_of("events", user_id), "timestamp": NOW}]).state == "spooled"
        assert (first.spool.directory / NAME).exists()
    assert data.events.count(user_id=user_id) == 0
    with DataAccess(Config(url=url, flush_interval=0.05)) as second:
        second.initialize()
        second.flush()
    assert data.events.count(user_id=user_id) == 2


def test_bad_rows_may_be_put_aside(access: DataAccess, user_id: str) -> None:
    good, bad = {**row_of("events", user_id), "timestamp": NOW}, row_of("events", user_id)
    receipt = access.events.insert([good, bad], on_invalid="quarantine")
    assert (receipt.rows, receipt.state, len(receipt.quarantined)) == (1, "stored", 1)
    receipt = access.events.insert([bad], on_invalid="quarantine")
    assert (receipt.rows, receipt.state, len(receipt.quarantined)) == (0, "quarantined", 1)
    assert len(access.writer.quarantine) == 2


def test_a_row_that_makes_no_sense(access: DataAccess, user_id: str) -> None:
    with pytest.raises(errors.InvalidRow, match="event_type"):
        access.events.record(user_id=user_id, event_name="click")
    with pytest.raises(TypeError, match="not both"):
        access.events.record(row_of("events", user_id), user_id=user_id)
    with pytest.raises(errors.NetraError, match="was given no writer"):
        EventsRepository(access.sessions).record(**row_of("events", user_id))
    assert access.events.count(user_id=user_id) == 0


def test_dataclasses_and_models_are_recorded_as_they_are(access: DataAccess, user_id: str) -> None:
    row = row_of("events", user_id)
    access.events.record(models.analytics.Event(**row, timestamp=NOW))
    with pytest.raises(errors.InvalidRow, match="timestamp"):
        access.events.record(models.analytics.Event(**row))
    access.flush()
    assert [found.timestamp for found in stored(access, "events", user_id)] == [NOW]


def test_asyncio_writes_as_well(data: DataAccess, url: str, user_id: str) -> None:
    async def work() -> None:
        async with AsyncDataAccess(Config(url=url, flush_interval=0.05)) as access:
            await asyncio.gather(*(access.events.record(**row_of("events", user_id)) for _ in range(20)))
            receipt = await access.events.insert([{**row_of("events", user_id), "timestamp": NOW}])
            assert receipt.state == "stored"
            await access.flush()
            assert await access.events.count(user_id=user_id) == 21
            access.degrade("maintenance")
            assert (await access.events.insert([{**row_of("events", user_id), "timestamp": NOW}])).state == "spooled"
            with pytest.raises(errors.NotReady, match="switched off"):
                await access.flush()
            access.restore()
            await access.writer.record(models.analytics.Event, {**row_of("events", user_id), "timestamp": NOW})
            await access.flush()
            assert await access.events.count(user_id=user_id) == 23
            assert access.spool.directory.is_dir()

    asyncio.run(work())


def test_in_memory_asyncio_reads_what_it_wrote(tmp_path: Path) -> None:
    pytest.importorskip("chdb")
    code = (
        "import asyncio\nfrom netra_chdb import AsyncDataAccess, Config\n"
        "async def main():\n"
        "    async with AsyncDataAccess(Config(url='clickhouse+chdb://')) as data:\n"
        "        await data.initialize()\n"
        "        await data.events.record(user_id='u1', event_type='ui', event_name='click')\n"
        "        await data.flush()\n"
        "        print(await data.events.count(user_id='u1'))\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "1"
