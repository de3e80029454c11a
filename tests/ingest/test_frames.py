"""Rows out of data frames and readers: whatever speaks Arrow's PyCapsule interface, polars being one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from netra_chdb import DataAccess
from netra_chdb.errors import InvalidRow
from netra_chdb.ingest.batch import RowChecker
from netra_chdb.ingest.writer import Writer
from netra_chdb.models.traces import AgentExecution
from tests.ingest.chaos import writer_on

NOW = dt.datetime(2026, 11, 1, 12, 30, 15, 125_000, tzinfo=dt.UTC)
TABLE: sa.Table = AgentExecution.__table__


@pytest.fixture
def writer(data: DataAccess, tmp_path: Path) -> Iterator[Writer]:
    writer = writer_on(data.engine, tmp_path / "spool")
    yield writer
    writer.close()
    writer.spool.close()


def rows(user_id: str, count: int) -> list[dict[str, Any]]:
    return [
        {
            "user_id": user_id,
            "trace_id": "t",
            "execution_id": str(number),
            "agent_name": "n",
            "agent_type": ("triage", "data ü")[number % 2],
            "status": ("running", "completed")[number % 2],
            "start_time": NOW + dt.timedelta(milliseconds=number),
            "end_time": None if number % 3 else NOW + dt.timedelta(hours=1),
            "duration_ms": number,
            "cpu_time_ms": number / 8,
            "metadata": {"n": number, "deep": {"list": [number, None]}},
            "tags": ["a", str(number)][: number % 3],
        }
        for number in range(count)
    ]


class OwnStream:
    """An object that gives its columns to whoever asks, and is nothing else."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._table.__arrow_c_stream__(requested_schema)


class OwnArray:
    """The same, for one record batch."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        return self._batch.__arrow_c_array__(requested_schema)


def forms(given: list[dict[str, Any]]) -> dict[str, Any]:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(given)
    table = pa.Table.from_pylist(given)
    return {
        "polars": frame,
        "reader": pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=3)),
        "record batch": table.to_batches()[0],
        "a stream of its own": OwnStream(table),
        "an array of its own": OwnArray(table.to_batches()[0]),
    }


def rarer_forms(given: list[dict[str, Any]]) -> dict[str, Any]:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(given)
    half = len(given) // 2
    return {
        "polars, in several chunks": polars.concat([frame[:half], frame[half:]], rechunk=False),
        "polars, other types": frame.with_columns(
            polars.col("agent_type").cast(polars.Categorical),
            polars.col("status").cast(polars.Enum(["running", "completed"])),
            polars.col("duration_ms").cast(polars.UInt16),
            polars.col("cpu_time_ms").cast(polars.Float32),  # eighths are exact in it
            polars.col("start_time").dt.convert_time_zone("Asia/Kolkata").cast(polars.Datetime("ms", "Asia/Kolkata")),
            polars.col("end_time").dt.replace_time_zone(None).cast(polars.Datetime("ns")),
        ),
    }


def test_a_frame_is_stored_as_its_rows_are(writer: Writer, data: DataAccess, user_id: str) -> None:
    writer.insert(TABLE, rows(user_id, 10))
    columns = [TABLE.c[name] for name in rows(user_id, 1)[0] if name != "user_id"]

    def stored(owner: str) -> list[Any]:
        statement = sa.select(*columns).where(TABLE.c.user_id == owner).order_by(TABLE.c.start_time)
        with data.engine.connect() as connection:
            return list(connection.execute(statement))

    expected = stored(user_id)
    assert [row.end_time for row in expected[:2]] == [NOW + dt.timedelta(hours=1), None]
    for name in [*forms(rows(user_id, 10)), *rarer_forms(rows(user_id, 10))]:
        owner = f"{user_id} {name}"
        given = rows(owner, 10)
        receipt = writer.insert(TABLE, {**forms(given), **rarer_forms(given)}[name])
        assert (receipt.rows, receipt.state) == (10, "stored"), name
        assert stored(owner) == expected, name


@pytest.mark.parametrize("form", ["polars", "reader", "record batch", "a stream of its own", "an array of its own"])
def test_a_bad_row_of_a_frame_is_named_and_the_others_are_kept(form: str) -> None:
    """A reader gives its rows once: they are not gone when the bad one is looked for."""
    given = rows("u", 10)
    given[3]["status"] = "asleep"
    checker = RowChecker(TABLE)
    batches, bad, invalid = checker.sort(forms(given)[form])
    assert [(problem.row, problem.column) for problem in invalid.problems] == [(3, "status")]
    assert [row["execution_id"] for row in bad] == ["3"]
    place = checker.columns.index("execution_id")
    assert [row[place] for batch in batches for row in batch.own_rows()] == [str(n) for n in range(10) if n != 3]


def test_a_bad_row_in_a_reader_is_refused(writer: Writer, user_id: str) -> None:
    given = rows(user_id, 3)
    given[1]["start_time"] = None
    with pytest.raises(InvalidRow, match="row 1, column 'start_time'"):
        writer.insert(TABLE, forms(given)["reader"])


def test_one_column_is_no_frame() -> None:
    polars = pytest.importorskip("polars")
    for data in (polars.Series([1]), pa.array([1]), pa.chunked_array([[1]])):
        with pytest.raises(TypeError, match=f"rows are a list of dicts, .*, not {type(data).__name__}"):
            RowChecker(TABLE).sort(data)


def test_a_reader_that_breaks_says_so_itself() -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"user_id": ["u"]})
        raise OSError("the disk is gone")

    reader = pa.RecordBatchReader.from_batches(pa.schema({"user_id": pa.string()}), batches())
    with pytest.raises(OSError, match="the disk is gone"):
        RowChecker(TABLE).sort(reader)
