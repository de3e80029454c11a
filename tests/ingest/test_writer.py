"""The writer on each driver: what it acknowledged is in ClickHouse once, and summaries say what their source says."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import random
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from netra_chdb import DataAccess
from netra_chdb.errors import InvalidRow, NotReady
from netra_chdb.ingest.backlog import Backlog
from netra_chdb.ingest.drain import SUMMARIES
from netra_chdb.ingest.writer import AsyncWriter, Writer
from netra_chdb.models.analytics import Event, PerformanceMetric, UserMetricsSummary
from tests.ingest.chaos import writer_on

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)


@pytest.fixture
def make_writer(tmp_path: Path) -> Iterator[Callable[..., Writer]]:
    made: list[Writer] = []

    def make(engine: sa.Engine, **options: Any) -> Writer:
        made.append(writer_on(engine, tmp_path / "spool", **options))
        return made[-1]

    yield make
    for writer in made:
        writer.close()
        writer.spool.close()


@pytest.fixture
def writer(data: DataAccess, make_writer: Callable[..., Writer]) -> Writer:
    return make_writer(data.engine)


def event(user_id: str, number: int) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "event_id": f"{number}",
        "timestamp": NOW,
        "event_type": "ui",
        "event_name": "click",
        "data": {"n": number},
    }


def metric(user_id: str, number: int, **more: Any) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "metric_id": f"{number}",
        "timestamp": NOW,
        "metric_type": "latency",
        "metric_name": "m",
        "value": float(number),
        "total_tokens": number,
        **more,
    }


def ids(engine: sa.Engine, model: Any, user_id: str) -> list[int]:
    own = model.event_id if model is Event else model.metric_id
    with engine.connect() as connection:
        return sorted(map(int, connection.execute(sa.select(own).where(model.user_id == user_id)).scalars()))


def summary_of(engine: sa.Engine, user_id: str) -> tuple[Any, Any]:
    """What the summary says of a user, and what the source says."""
    (summary,) = (each for each in SUMMARIES if each.target is UserMetricsSummary)
    with engine.connect() as connection:
        said = connection.execute(summary.query.where(UserMetricsSummary.user_id == user_id)).all()
        true = connection.execute(summary.source_query.where(PerformanceMetric.user_id == user_id)).all()
    return [tuple(row) for row in said], [tuple(row) for row in true]


def test_what_is_recorded_is_in_clickhouse_after_a_flush(writer: Writer, data: DataAccess, user_id: str) -> None:
    for number in range(50):
        writer.record(Event, event(user_id, number))
    writer.flush()
    assert ids(data.engine, Event, user_id) == list(range(50))
    with data.engine.connect() as connection:
        rows = connection.execute(
            sa.select(Event.created_at, Event.batch_id, Event.data).where(Event.user_id == user_id)
        ).all()
    assert len({row.batch_id for row in rows}) < 50, "rows are sent together"
    assert sorted(row.data["n"] for row in rows) == list(range(50))


def test_a_row_waits_no_longer_than_the_interval(writer: Writer, data: DataAccess, user_id: str) -> None:
    writer.record(Event, event(user_id, 1))
    deadline = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=20)
    while not ids(data.engine, Event, user_id):
        assert dt.datetime.now(dt.UTC) < deadline


def test_an_insert_is_stored_when_it_returns(writer: Writer, data: DataAccess, user_id: str) -> None:
    receipt = writer.insert(PerformanceMetric, [metric(user_id, number) for number in range(100)])
    assert (receipt.rows, receipt.state, len(receipt.batch_ids)) == (100, "stored", 1)
    assert ids(data.engine, PerformanceMetric, user_id) == list(range(100))
    said, true = summary_of(data.engine, user_id)
    assert said == true
    assert said[0][3] == 100
    assert Backlog(writer.spool).left(Backlog(writer.spool).mark()) == 0


def test_a_batch_is_one_part_in_its_table_and_in_each_summary(writer: Writer, data: DataAccess, user_id: str) -> None:
    def parts() -> set[tuple[str, str]]:
        with data.engine.connect() as connection:
            return {
                (row.table, row.name)
                for row in connection.execute(
                    sa.text(
                        "SELECT table, name FROM system.parts WHERE min_block_number = max_block_number "
                        "AND database = 'netra_analytics' AND table IN ('performance_metrics', 'user_metrics_summary')"
                    )
                )
            }

    before = parts()
    # More groups than ClickHouse aggregates in one block, and more bytes than clickhouse-connect sends in one.
    writer.insert(
        PerformanceMetric,
        [metric(f"{user_id}-{n}", n, trace_id=uuid.uuid4().hex) for n in range(100_000)],
    )
    new = parts() - before
    assert sorted(table for table, _ in new) == ["performance_metrics", "user_metrics_summary"]


def test_rows_inserted_twice_on_purpose_are_stored_twice(writer: Writer, data: DataAccess, user_id: str) -> None:
    for _ in range(2):
        writer.insert(Event, [event(user_id, 1)])
    assert ids(data.engine, Event, user_id) == [1, 1]


@dataclasses.dataclass
class Click:
    user_id: str
    event_id: str
    timestamp: dt.datetime = NOW
    event_type: str = "ui"
    event_name: str = "click"


def test_rows_may_come_in_any_of_the_forms(writer: Writer, data: DataAccess, user_id: str) -> None:
    pandas = pytest.importorskip("pandas")
    columns: dict[str, Any] = {"user_id": [user_id], "timestamp": [NOW], "event_type": ["ui"], "event_name": ["click"]}
    forms: list[Any] = [
        [event(user_id, 0)],
        [Click(user_id, "1")],
        [Event(user_id=user_id, event_id="2", timestamp=NOW, event_type="ui", event_name="click")],
        pa.table({**columns, "event_id": ["3"]}),
        pa.record_batch({**columns, "event_id": ["4"]}),
        pandas.DataFrame({**columns, "event_id": ["5"]}),
    ]
    for form in forms:
        assert writer.insert(Event, form).rows == 1
    writer.record(Event, Click(user_id, "6"))
    writer.record(Event, Event(user_id=user_id, event_id="7", timestamp=NOW, event_type="ui", event_name="click"))
    writer.flush()
    assert ids(data.engine, Event, user_id) == list(range(8))


def test_every_bad_row_is_named_and_nothing_is_sent(writer: Writer, data: DataAccess, user_id: str) -> None:
    rows = [event(user_id, 0), {**event(user_id, 1), "event_type": None}, {**event(user_id, 2), "colour": "red"}]
    with pytest.raises(InvalidRow) as caught:
        writer.insert(Event, rows)
    assert [(problem.row, problem.column) for problem in caught.value.problems] == [(1, "event_type"), (2, "colour")]
    assert ids(data.engine, Event, user_id) == []
    with pytest.raises(InvalidRow, match="event_type"):
        writer.record(Event, rows[1])


def test_bad_rows_may_be_put_aside_and_come_back_when_they_are_good(
    writer: Writer, data: DataAccess, user_id: str
) -> None:
    rows = [event(user_id, 0), {**event(user_id, 1), "timestamp": None}, event(user_id, 2)]
    receipt = writer.insert(Event, rows, on_invalid="quarantine")
    assert (receipt.rows, [problem.column for problem in receipt.quarantined]) == (2, ["timestamp"])
    assert ids(data.engine, Event, user_id) == [0, 2]
    (row,) = writer.quarantine.rows()
    assert row.row is not None
    assert (row.row["event_id"], row.table) == ("1", "netra_analytics.events")
    assert "must not be None" in row.reason
    assert writer.requeue() == 0, "the model refuses it as before"
    assert len(writer.quarantine) == 1


def test_asyncio_has_the_same_face(writer: Writer, data: DataAccess, user_id: str) -> None:
    async def main() -> None:
        face = AsyncWriter(writer)
        await asyncio.gather(*(face.record(Event, event(user_id, number)) for number in range(20)))
        receipt = await face.insert(Event, [event(user_id, 20)])
        assert receipt.state == "stored"
        await face.flush()
        await face.close()

    asyncio.run(main())
    assert ids(data.engine, Event, user_id) == list(range(21))


def test_a_writer_that_is_closed_says_so(writer: Writer, user_id: str) -> None:
    writer.close()
    with pytest.raises(NotReady, match="closed"):
        writer.record(Event, event(user_id, 1))


def test_switched_off_everything_waits_on_disk(
    data: DataAccess, make_writer: Callable[..., Writer], user_id: str
) -> None:
    off = make_writer(data.engine, degraded=True)
    assert off.insert(Event, [event(user_id, 1)]).state == "spooled"
    off.record(Event, event(user_id, 2))
    with pytest.raises(NotReady, match="switched off"):
        off.flush(timeout=0.1)
    off.close()
    assert ids(data.engine, Event, user_id) == []
    on = make_writer(data.engine)
    on.start()
    on.flush()
    assert ids(data.engine, Event, user_id) == [1, 2]


# -- poison --------------------------------------------------------------------


@pytest.fixture
def poisoned(data: DataAccess) -> Iterator[str]:
    """A value that the table refuses and the model does not know of."""
    name = f"no_{uuid.uuid4().hex}"
    with data.engine.connect() as connection:
        table = "netra_analytics.events"
        connection.execute(sa.text(f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK session_id != '{name}'"))
        yield name
        connection.execute(sa.text(f"ALTER TABLE {table} DROP CONSTRAINT {name}"))


def test_one_poison_row_in_many_goes_to_quarantine_alone(
    writer: Writer, data: DataAccess, user_id: str, poisoned: str
) -> None:
    bad = random.randrange(10_000)
    rows = [{**event(user_id, n), "session_id": poisoned if n == bad else ""} for n in range(10_000)]
    for row in rows[:20]:
        writer.record(Event, row)
    with pytest.raises(sa.exc.DatabaseError, match="Constraint"):
        writer.insert(Event, rows[bad : bad + 1])
    writer.insert(Event, rows[20:], on_invalid="quarantine")
    writer.flush(timeout=120)
    assert ids(data.engine, Event, user_id) == [n for n in range(10_000) if n != bad]
    (aside,) = writer.quarantine.rows()
    assert aside.row is not None
    assert aside.row["event_id"] == str(bad)
    assert poisoned in aside.reason, "the server's own words"


@pytest.mark.slow
def test_ten_poison_rows_in_a_hundred_thousand(
    make_writer: Callable[..., Writer], data: DataAccess, user_id: str, poisoned: str
) -> None:
    writer = make_writer(data.engine, flush_rows=10_000)
    bad = set(random.sample(range(100_000), 10))
    rows = [{**event(user_id, n), "session_id": poisoned if n in bad else ""} for n in range(100_000)]
    receipt = writer.insert(Event, rows, on_invalid="quarantine")
    assert receipt.state == "spooled", "the bad ones are found in the background"
    writer.flush(timeout=280)
    assert ids(data.engine, Event, user_id) == [n for n in range(100_000) if n not in bad]
    aside = list(writer.quarantine.rows())
    assert {int(found.row["event_id"]) for found in aside if found.row is not None} == bad
    assert all(poisoned in found.reason for found in aside)


def test_requeued_rows_go_in_when_the_server_takes_them(
    writer: Writer, data: DataAccess, user_id: str, poisoned: str
) -> None:
    for n in range(4):
        writer.record(Event, {**event(user_id, n), "session_id": poisoned if n == 2 else ""})
    writer.flush()
    assert ids(data.engine, Event, user_id) == [0, 1, 3]
    with data.engine.connect() as connection:
        connection.execute(sa.text(f"ALTER TABLE netra_analytics.events DROP CONSTRAINT {poisoned}"))
        assert writer.requeue() == 1
        writer.flush()
        assert ids(data.engine, Event, user_id) == [0, 1, 2, 3]
        connection.execute(
            sa.text(f"ALTER TABLE netra_analytics.events ADD CONSTRAINT {poisoned} CHECK session_id != '{poisoned}'")
        )


def test_a_table_that_is_not_there_holds_its_rows_and_nobody_elses(
    writer: Writer, data: DataAccess, user_id: str
) -> None:
    table = sa.Table("not_there", sa.MetaData(schema="netra_analytics"), sa.Column("user_id", sa.String))
    writer.record(table, {"user_id": user_id})
    writer.record(Event, event(user_id, 1))
    with pytest.raises(NotReady, match="not_there"):
        writer.flush(timeout=2)
    assert ids(data.engine, Event, user_id) == [1]
    assert len(writer.quarantine) == 0
