"""Rows and Arrow columns are the same to a table: what one way stores the other stores too, and refuses it as well."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import uuid
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from netra_chdb.dialect import (
    UUID,
    Array,
    Boolean,
    Date,
    Date32,
    DateTime,
    DateTime64,
    Enum8,
    Float64,
    Int8,
    Int64,
    JSONText,
    LowCardinality,
    MergeTree,
    Nullable,
    String,
    UInt16,
    UInt64,
)
from netra_chdb.dialect.arrow_columns import encoded
from netra_chdb.dialect.types import is_nullable
from netra_chdb.errors import InvalidRow
from netra_chdb.ingest.batch import Batch, RowChecker
from netra_chdb.ingest.columns import values_of
from netra_chdb.ingest.encoding import encode
from netra_chdb.ingest.packed_rows import MANY, columns_of, pack, rows_in
from netra_chdb.ingest.queued import Attempt
from netra_chdb.ingest.send import send

COLUMNS: dict[str, Any] = {
    "tiny": Int8,
    "number": Int64,
    "small": Nullable(UInt16),
    "count": UInt64,
    "amount": Float64,
    "maybe": Nullable(Float64),
    "flag": Boolean,
    "text": String,
    "note": Nullable(String),
    "kind": LowCardinality(String),
    "kin": LowCardinality(Nullable(String)),
    "state": Enum8("new", "done", "gone", numbers={"new": -1, "done": 7, "gone": 8}),
    "at": DateTime64(3, "UTC"),
    "fine": DateTime64(6, "UTC"),
    "finest": Nullable(DateTime64(9, "UTC")),
    "second": DateTime("UTC"),
    "day": Date,
    "far_day": Nullable(Date32),
    "own": UUID,
    "document": JSONText,
    "tags": Array(LowCardinality(String)),
}


def make_table(database: str) -> sa.Table:
    return sa.Table(
        "rows",
        sa.MetaData(schema=database),
        sa.Column("place", Int64, primary_key=True),
        *(sa.Column(name, type_, nullable=is_nullable(type_)) for name, type_ in COLUMNS.items()),
        sa.Column("created_at", DateTime64(3, "UTC")),
        sa.Column("batch_id", UUID),
        MergeTree(order_by="place", non_replicated_deduplication_window=100),
    )


ZONES: Any = st.sampled_from(
    [dt.UTC, ZoneInfo("Europe/Berlin"), dt.timezone(dt.timedelta(hours=-7, minutes=-30)), None]
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=300) | st.sampled_from(["", "a" * 127, "b" * 128, "ü" * 70])
TIMES = st.datetimes(dt.datetime(1970, 1, 2), dt.datetime(2106, 2, 5), timezones=ZONES)
FLOATS = st.floats(width=64)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "tiny": st.integers(-128, 127),
    "number": st.integers(-(2**63), 2**63 - 1),
    "small": st.none() | st.integers(0, 2**16 - 1),
    "count": st.integers(0, 2**48 - 1),
    "amount": FLOATS,
    "maybe": st.none() | FLOATS | st.integers(-(2**53), 2**53),
    "flag": st.booleans(),
    "text": TEXTS,
    "note": st.none() | TEXTS,
    "kind": st.sampled_from(["", "x", "y"]) | TEXTS,
    "kin": st.none() | st.sampled_from(["", "x", "y"]),
    "state": st.sampled_from(["new", "done", "gone"]),
    "at": TIMES,
    "fine": TIMES,
    "finest": st.none() | TIMES,
    "second": TIMES,
    "day": st.dates(dt.date(1970, 1, 1), dt.date(2149, 6, 6)),
    "far_day": st.none() | st.dates(dt.date(1900, 1, 1), dt.date(2299, 12, 31)),
    "own": st.uuids(),
    "document": st.dictionaries(TEXTS, st.integers(-9, 9), max_size=2),
    "tags": st.lists(st.sampled_from(["", "p", "q"]), max_size=2),
}
ROWS = st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=5)


def comparable(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    # The zeros of a sparse column come as integers over the native protocol.
    return (math.copysign(1, value), value) if isinstance(value, int | float) else value


def one_by_one(checker: RowChecker, rows: list[dict[str, Any]]) -> Batch:
    """The rows by the rules of single values, sent by the codecs of single values."""
    values = []
    for place, row in enumerate(rows):
        found, problems = checker.check(place, row)
        assert not problems
        values.append(found)
    batch = Batch.of(checker.table, checker.columns, values)
    return Batch(batch.table, batch.columns, batch.data, batch.batch_id, batch.created_at)


def as_arrow(rows: list[dict[str, Any]]) -> pa.Table:
    # What Arrow has no exact type for is left to be found out, as a caller's library would do.
    named: dict[str, Any] = {
        "maybe": pa.float64(),
        "kin": pa.dictionary(pa.int8(), pa.string()),
        "text": pa.large_string(),
        "fine": pa.timestamp("us", "Europe/Berlin"),
        "finest": pa.timestamp("us", "UTC"),
        "at": pa.timestamp("us"),
        "note": pa.string(),
        "small": pa.int64(),
        "tags": pa.list_(pa.string()),
        "far_day": pa.date32(),
    }
    columns = {name: [row[name] for row in rows] for name in rows[0] if name not in ("document", "own")}
    return pa.table({name: pa.array(values, named.get(name)) for name, values in columns.items()})


@pytest.fixture
def table(engine: sa.Engine, database: str) -> sa.Table:
    table = make_table(database)
    table.create(engine)
    return table


def test_both_ways_store_the_same(engine: sa.Engine, table: sa.Table) -> None:
    checker = RowChecker(table)
    short = RowChecker(table.to_metadata(sa.MetaData()))
    for column in ("document", "own"):  # an Arrow table leaves them to their defaults
        short._constants[column] = "{}" if column == "document" else uuid.UUID(int=7)
    compared = [column for column in table.columns if column.name not in ("created_at", "batch_id")]

    @settings(max_examples=15, deadline=None)
    @given(ROWS)
    def check(rows: list[dict[str, Any]]) -> None:
        for place, row in enumerate(rows):
            row["place"] = place
        plain = one_by_one(checker, rows)
        batches, _, invalid = checker.sort(rows)
        frames, _, refused = short.sort(as_arrow(rows))
        assert not invalid.problems
        assert not refused.problems
        found = []
        with engine.connect() as connection:
            for batch in (plain, *batches, *frames):
                send(connection, Batch(table, *(getattr(batch, name) for name in FIELDS)), Attempt(batch.token))
                query = sa.select(*compared).where(table.c.batch_id == batch.batch_id).order_by(table.c.place)
                found.append([{k: comparable(v) for k, v in row._mapping.items()} for row in connection.execute(query)])
        left_out = {"document": {}, "own": uuid.UUID(int=7)}
        for mine, other in ((found[1], found[0]), (found[2], [{**row, **left_out} for row in found[0]])):
            assert len(mine) == len(other) == len(rows)
            for left, right in zip(mine, other, strict=True):
                assert {k: (v, right[k]) for k, v in left.items() if v != right[k]} == {}

    check()


FIELDS = ("columns", "block", "batch_id", "created_at")


def test_a_batch_sent_again_by_either_way_is_there_once(engine: sa.Engine, table: sa.Table) -> None:
    checker = RowChecker(table)
    row = {
        **dict.fromkeys(("tiny", "number", "count", "place"), 1),
        **{"amount": 1.0, "flag": True, "text": "", "kind": "k", "state": "new", "day": dt.date(2026, 1, 1)},
        **dict.fromkeys(("at", "fine", "second"), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
        **{"own": uuid.uuid4(), "document": {}, "tags": []},
    }
    plain = one_by_one(checker, [row] * 10)
    (packed,), _, _ = checker.sort([row] * 10)
    again = Batch(plain.table, plain.columns, (*packed.block[:-2], *plain.block[-2:]), plain.batch_id, plain.created_at)
    with engine.connect() as connection:
        for batch in (again, plain, again):
            send(connection, batch, Attempt(plain.token))
        count = sa.select(sa.func.count()).select_from(table)
        assert connection.execute(count).scalar_one() == 10


BAD: dict[str, list[Any]] = {
    "tiny": [128, -129, True, 1.0, "1", None],
    "count": [-1, 2**48],
    "amount": ["1", True, None],
    "flag": [1, None],
    "text": [1, None],
    "state": ["old", "", None],
    "at": [dt.datetime(1969, 12, 31, 23, 59, 59, 999_999), dt.datetime(2106, 2, 7, 6, 28, 16), dt.date(2026, 1, 1)],
    "day": [dt.date(1969, 12, 31), dt.datetime(2026, 1, 1)],
    "far_day": [dt.date(1899, 12, 31), dt.date(2300, 1, 1)],
}


@pytest.mark.parametrize("name", BAD)
def test_both_ways_refuse_the_same_with_the_same_words(name: str) -> None:
    table = sa.Table("rows", sa.MetaData(), sa.Column(name, COLUMNS[name], nullable=is_nullable(COLUMNS[name])))
    checker = RowChecker(table)
    good = {"tiny": 1, "count": 1, "amount": 1.0, "flag": True, "text": "a", "state": "new"}.get(name)
    if good is None:
        good = dt.date(2026, 1, 1) if "day" in name else dt.datetime(2026, 1, 1)
    assert len(list(checker.batches(pa.table({name: [good]})))) == 1
    for value in BAD[name]:
        with pytest.raises(InvalidRow) as by_row:
            list(checker.batches([{name: value}]))
        kinds = {type(good), type(value)}
        values = [good, value] if len(kinds) == 1 or value is None else [value, value]
        with pytest.raises(InvalidRow) as by_column:
            list(checker.batches(pa.table({name: values})))
        assert by_column.value.problems[-1].rule == by_row.value.problems[0].rule
        assert by_column.value.problems[-1].row == 1


def test_what_arrow_holds_otherwise_is_taken_as_its_values(engine: sa.Engine) -> None:
    table = sa.Table(
        "rows", sa.MetaData(), sa.Column("text", String), sa.Column("at", DateTime64(3)), sa.Column("n", Int64)
    )
    columns: dict[str, Any] = {
        "text": pa.array([b"x", b"\xff"], pa.binary()),
        "at": pa.chunked_array([[1_700_000_000_123_456_789], [0]], pa.timestamp("ns")),
        "n": pa.array([decimal.Decimal(1)] * 2, pa.decimal128(3, 0)),
    }
    frame = pa.table(columns)
    with pytest.raises(InvalidRow) as caught:
        list(RowChecker(table).batches(frame.select(["n", "text", "at"])))
    assert {problem.column for problem in caught.value.problems} == {"n"}
    (batch,) = RowChecker(table).batches(frame.set_column(2, "n", pa.array([1, 2], pa.uint8())))
    assert batch.own_rows() == [
        (b"x", dt.datetime(2023, 11, 14, 22, 13, 20, 123_456, tzinfo=dt.UTC), 1),
        (b"\xff", dt.datetime(1970, 1, 1, tzinfo=dt.UTC), 2),
    ]


def test_text_of_another_library_that_is_no_utf8_is_refused() -> None:
    table = sa.Table("rows", sa.MetaData(), sa.Column("text", String))
    buffers: Any = [None, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff")]
    frame = pa.table({"text": pa.Array.from_buffers(pa.string(), 1, buffers)})
    with pytest.raises((InvalidRow, UnicodeDecodeError)):
        list(RowChecker(table).batches(frame))


def test_a_time_before_1970_is_left_to_the_codec_of_values() -> None:
    early = pa.array([dt.datetime(1960, 1, 1, 0, 0, 0, 999)], pa.timestamp("us", "UTC"))
    assert encoded("DateTime64(3, 'UTC')", early) is None
    assert encoded("DateTime64(3, 'UTC')", pa.array([dt.datetime(2020, 1, 1)], pa.timestamp("us", "UTC"))) is not None


def test_a_large_arrow_table_is_one_batch_and_one_part(engine: sa.Engine, database: str) -> None:
    table = sa.Table(
        "large",
        sa.MetaData(schema=database),
        sa.Column("n", Int64, primary_key=True),
        sa.Column("created_at", DateTime64(3, "UTC")),
        sa.Column("batch_id", UUID),
        MergeTree(order_by="n", non_replicated_deduplication_window=100),
    )
    table.create(engine)
    (batch,), _, _ = RowChecker(table).sort(pa.table({"n": pa.array(range(300_000), pa.int32())}))
    with engine.connect() as connection:
        for _ in range(2):
            send(connection, batch, Attempt(batch.token))
        parts = sa.text("SELECT rows FROM system.parts WHERE database = :database AND table = 'large'")
        assert connection.execute(parts, {"database": database}).scalars().all() == [300_000]


def test_the_spool_keeps_columns_as_they_were() -> None:
    moment = dt.datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=dt.UTC)
    rows = [
        (n, None if n % 3 else 1.5, "ü", [n, {"k": (1,)}], uuid.UUID(int=n), moment, n % 2 == 0, b"\xff", 2**63 + n)
        for n in range(MANY)
    ]
    back = rows_in(pack(list(zip(*rows, strict=True))))
    assert back == [[*row[:3], [row[3][0], {"k": [1]}], *row[4:]] for row in rows]
    columns = columns_of([encode(rows[:1]), encode(rows[1:3]), pack(list(zip(*rows[3:], strict=True)))])
    assert [list(row) for row in zip(*map(values_of, columns), strict=True)] == back
