"""Which rows make a batch: a table's own instances, columns named once, members of an enumeration, text with bytes."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from netra_chdb import DataAccess, models
from netra_chdb.dialect import UUID, DateTime64, Enum8, JSONText, MergeTree, Nullable, String
from netra_chdb.errors import InvalidRow
from netra_chdb.ingest.batch import RowChecker
from netra_chdb.ingest.writer import Writer
from netra_chdb.models.analytics import Event, PerformanceMetric
from tests.ingest.chaos import metric, writer_on

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
TABLE = sa.Table(
    "states",
    sa.MetaData(schema="d"),
    sa.Column("state", Enum8("new", "Done", "done", numbers={"new": 1, "Done": 2, "done": 3})),
    sa.Column("maybe", Nullable(Enum8("new", "old", numbers={"new": 1, "old": 2})), nullable=True),
    sa.Column("document", JSONText, default=dict),
    sa.Column("text", String, default=""),
    sa.Column("created_at", DateTime64(3, "UTC")),
    sa.Column("batch_id", UUID),
    MergeTree(order_by="state"),
)


@pytest.fixture
def writer(data: DataAccess, tmp_path: Path) -> Iterator[Writer]:
    writer = writer_on(data.engine, tmp_path / "spool")
    yield writer
    writer.close()
    writer.spool.close()


def event(user_id: str, **more: Any) -> dict[str, Any]:
    return {"user_id": user_id, "timestamp": NOW, "event_type": "ui", "event_name": "click", **more}


def count(data: DataAccess, model: Any, user_id: str) -> int:
    with data.engine.connect() as connection:
        query = sa.select(sa.func.count()).select_from(model).where(model.user_id == user_id)
        return int(connection.execute(query).scalar_one())


def test_an_instance_of_another_model_is_refused(writer: Writer, data: DataAccess, user_id: str) -> None:
    """The two databases have a table of the same name, and of columns that fit."""
    other = models.traces.PerformanceMetric(**metric(user_id, 1))
    own = PerformanceMetric(**metric(user_id, 2))
    said = r"netra_analytics\.performance_metrics .* netra_traces\.performance_metrics"
    with pytest.raises(TypeError, match=said):
        writer.insert(PerformanceMetric, [own, other])
    with pytest.raises(TypeError, match=said):
        writer.insert(PerformanceMetric, [other], on_invalid="quarantine")
    with pytest.raises(TypeError, match=said):
        writer.record(PerformanceMetric, other)
    assert count(data, PerformanceMetric, user_id) == 0
    writer.insert(PerformanceMetric, [own])
    traces = {"trace_id": "t", "execution_id": "e"}
    writer.insert(models.traces.PerformanceMetric, [models.traces.PerformanceMetric(**metric(user_id, 1, **traces))])
    assert count(data, PerformanceMetric, user_id) == count(data, models.traces.PerformanceMetric, user_id) == 1


HALF = "\ud800"
_CIRCLE: dict[str, Any] = {}
_CIRCLE["itself"] = _CIRCLE


@pytest.mark.parametrize(
    "bad",
    [
        *({"data": {"a": HALF}}, {"data": {HALF: [1]}}, {"data": _CIRCLE}, {HALF: 1}),
        *({"event_name": HALF}, {"event_name": object()}),
    ],
    ids=["value", "key", "circle", "column", "text", "object"],
)
def test_what_no_spool_can_keep_is_named_and_put_aside(
    writer: Writer, data: DataAccess, user_id: str, bad: dict[Any, Any]
) -> None:
    """Half a surrogate pair, for one, is in no UTF-8: neither ClickHouse nor the spool's file can hold it."""
    row = event(user_id, **bad)
    (column,) = bad
    with pytest.raises(InvalidRow) as caught:
        writer.record(Event, row)
    assert [problem.column for problem in caught.value.problems] == [column]
    with pytest.raises(InvalidRow) as caught:
        writer.insert(Event, [event(user_id), row])
    assert [(problem.row, problem.column) for problem in caught.value.problems] == [(1, column)]
    receipt = writer.insert(Event, [row, event(user_id), row], on_invalid="quarantine")
    assert (receipt.state, receipt.rows, len(receipt.quarantined)) == ("stored", 1, 2)
    assert count(data, Event, user_id) == 1
    aside = list(writer.quarantine.rows())
    assert [kept.row and kept.row["user_id"] for kept in aside] == [user_id] * 2
    assert writer.requeue() == 0, "what is kept in the place of a value is no value"


def test_a_word_for_bad_rows_that_nobody_knows_is_refused(writer: Writer, data: DataAccess, user_id: str) -> None:
    with pytest.raises(ValueError, match="'raise' or 'quarantine', not 'quarantaine'"):
        writer.insert(Event, [event(user_id), {}], on_invalid="quarantaine")  # type: ignore[arg-type]
    assert len(writer.quarantine) == count(data, Event, user_id) == 0


def test_a_column_that_comes_twice_is_refused() -> None:
    table = pa.table([pa.array([text]) for text in ("new", "one", "two")], names=["state", "text", "text"])
    for data in (table, table.to_batches()[0], table.to_reader()):
        with pytest.raises(ValueError, match="has the column 'text' more than once"):
            RowChecker(TABLE).sort(data)


class State(str, enum.Enum):  # noqa: UP042 - what most write, and what StrEnum is not
    NEW = "new"
    Done = "done"


class Plain(enum.Enum):
    new = 1
    old = "new"


class Other(enum.Enum):
    old = "antique"
    gone = "went"


@pytest.mark.parametrize(
    ("member", "stored"),
    [(State.NEW, "new"), (State.Done, "done"), (Plain.new, "new")],
    ids=["value", "value before name", "name"],
)
def test_a_member_of_an_enumeration_is_its_value_or_its_name(member: enum.Enum, stored: str) -> None:
    checker = RowChecker(TABLE)
    values, problems = checker.check(0, {"state": member})
    assert (values[0], problems) == (stored, [])
    assert type(values[0]) is str
    (batch,), _, invalid = checker.sort([{"state": member}, {"state": member}])
    assert (batch.data[0], invalid.problems) == ((stored, stored), ())


def test_a_member_whose_value_the_column_has_not_goes_by_its_name() -> None:
    checker = RowChecker(TABLE)
    assert checker.check(0, {"state": "new", "maybe": Plain.old})[0][1] == "new", "its value, which is a name"
    assert checker.check(0, {"state": "new", "maybe": Other.old})[0][1] == "old"
    (problem,) = checker.check(0, {"state": "new", "maybe": Other.gone})[1]
    assert (problem.column, problem.rule) == ("maybe", "must be one of new, old")
