"""JSON, Variant, Dynamic, Nested and spans in statements, and where a driver cannot follow."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pytest
import sqlalchemy as sa
from clickhouse_connect.datatypes.dynamic import typed_variant

from netra_chdb.dialect import (
    JSON,
    Array,
    Dynamic,
    Int8,
    Int64,
    Memory,
    MergeTree,
    Nested,
    String,
    Time,
    Time64,
    UInt8,
    UInt32,
    Variant,
)

DOCUMENT = {"a": {"b": "2020-01-01"}, "c": [1, "x", None, True], "d": 1.0, "e": [False, ""]}


def make(engine: sa.Engine, database: str, type_: Any, kind: Any = None, **settings: Any) -> sa.Table:
    columns = [sa.Column("n", UInt32, nullable=False), sa.Column("x", type_, nullable=False)]
    table = sa.Table("t", sa.MetaData(), *columns, kind or Memory(), schema=database)
    with engine.connect() as connection:
        connection.execution_options(settings=settings).execute(sa.schema.CreateTable(table))
    return table


@pytest.mark.parametrize(
    ("type_", "values"),
    [
        (JSON({"a.b": String}, max_dynamic_paths=1), [DOCUMENT, {"a": {"b": ""}, "z": 2}]),
        (Variant(Int64, String), [1, "1", None]),
        (Dynamic(max_types=1), [1, "1", None, 2.5, dt.date(2020, 1, 1)]),
    ],
    ids=["JSON", "Variant", "Dynamic"],
)
def test_an_insert_is_one_block_that_a_token_tells_again(
    engine: sa.Engine, database: str, type_: Any, values: list[Any]
) -> None:
    table = make(engine, database, type_, MergeTree(order_by="n", non_replicated_deduplication_window=10))
    rows = [{"n": n, "x": value} for n, value in enumerate(values)] * 1000
    with engine.connect() as connection:
        options = connection.execution_options(settings={"insert_deduplication_token": "once"})
        for _ in range(2):
            options.execute(table.insert(), rows)
        assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == len(rows)
        parts = sa.text("SELECT count() FROM system.parts WHERE database = :d AND table = 't' AND active")
        assert connection.scalar(parts, {"d": database}) == 1


def test_a_document_in_a_statement_is_the_one_that_a_block_holds(engine: sa.Engine, database: str) -> None:
    table = make(engine, database, JSON, MergeTree(order_by="n"))
    with engine.connect() as connection:
        connection.execute(table.insert(), [{"n": 1, "x": DOCUMENT}, {"n": 2, "x": {}}])
        connection.execute(table.insert().values(n=sa.func.toUInt32(3), x=DOCUMENT))
        assert connection.scalars(sa.select(table.c.x).order_by(table.c.n)).all() == [DOCUMENT, {}, DOCUMENT]
        connection.execute(table.update().where(table.c.n == 2).values(x=DOCUMENT))
        assert connection.scalars(sa.select(table.c.x)).all() == [DOCUMENT] * 3
        connection.execute(table.insert(), {"n": 4, "x": {"a": [1], "b": "2020-01-01"}})
        alike = sa.select(table.c.n).where(table.c.x == {"b": "2020-01-01", "a": [1]})
        assert connection.scalars(alike).all() == [4]
        path = table.c.x["a", "b"]
        assert connection.scalars(sa.select(path).where(path == "2020-01-01")).all() == ["2020-01-01"] * 3


def test_a_null_of_an_array_stays_one_beside_rows_with_objects(engine: sa.Engine, database: str) -> None:
    table = make(engine, database, JSON(), MergeTree(order_by="n"))
    documents = [{"a": [{"b": 1}]}, {"a": [None]}, {"a": [[1]]}, {"a": [None, 2]}, {"a": [None, {"b": 1}]}]
    with engine.connect() as connection:
        connection.execute(table.insert(), [{"n": n, "x": value} for n, value in enumerate(documents)])
        assert connection.scalars(sa.select(table.c.x).order_by(table.c.n)).all() == documents


def test_a_typed_path_has_its_type(engine: sa.Engine, database: str) -> None:
    table = make(engine, database, JSON({"n.v": UInt8}, skip=["s"], skip_regexp=["^r"]))
    assert isinstance(table.c.x["n", "v"].type, UInt8)
    assert isinstance(table.c.x["other"].type, Dynamic)
    with engine.connect() as connection:
        connection.execute(table.insert(), {"n": 1, "x": {"n": {"v": 7}, "s": {"t": 1}, "ran": 1, "k": 2}})
        assert connection.scalar(sa.select(table.c.x)) == {"n": {"v": 7}, "k": 2}
        assert connection.scalar(sa.select(table.c.x["n", "v"])) == 7


def test_json_that_nobody_named_is_read_or_refused(engine: sa.Engine, database: str) -> None:
    # clickhouse-connect takes names of paths for bytes when it is asked for texts as bytes.
    # Not in memory: embedded, what fails while it is read closes the engine, which forgets such a table.
    table = make(engine, database, JSON(max_dynamic_paths=0), MergeTree(order_by="n"))
    raw = sa.text(f"SELECT x FROM {database}.t")
    with engine.connect() as connection:
        connection.execute(table.insert(), {"n": 1, "x": DOCUMENT})
        assert connection.scalar(raw.columns(x=JSON)) == DOCUMENT
        if engine.dialect.driver == "chnative":
            assert connection.scalar(raw) == DOCUMENT
        else:
            with pytest.raises(sa.exc.NotSupportedError, match=r"columns\(name=JSON\)"):
                connection.execute(raw).all()
        assert connection.scalar(raw.columns(x=JSON)) == DOCUMENT
        streamed = connection.execution_options(stream_results=True).execute(sa.select(table.c.x))
        assert streamed.scalars().all() == [DOCUMENT]


def test_a_value_of_unreadable_type_is_refused(engine: sa.Engine, database: str) -> None:
    make(engine, database, Dynamic(max_types=0))
    with engine.connect() as connection:
        connection.execute(sa.text(f"INSERT INTO {database}.t SELECT 1, toDecimal32('1.50', 2)"))
        asked = sa.text(f"SELECT x FROM {database}.t")
        if engine.dialect.driver == "chnative":
            assert connection.scalar(asked) == decimal.Decimal("1.50")
        else:
            with pytest.raises(sa.exc.NotSupportedError, match="CAST"):
                connection.execute(asked).all()


def test_a_member_may_be_named(engine: sa.Engine, database: str) -> None:
    table = make(engine, database, Variant(Int8, Int64), allow_suspicious_variant_types=1)
    values = [typed_variant(1, "Int8"), typed_variant(1, "Int64")]
    with engine.connect() as connection:
        connection.execute(table.insert(), [{"n": n, "x": value} for n, value in enumerate(values)])
        named = sa.select(sa.func.variantType(table.c.x)).order_by(table.c.n)
        assert list(map(str, connection.scalars(named))) == ["Int8", "Int64"]
        with pytest.raises(sa.exc.DBAPIError, match="UInt8 is none of Int64, Int8"):
            connection.execute(table.insert(), {"n": 1, "x": typed_variant(1, "UInt8")})


@pytest.mark.parametrize("kind", [Memory(), MergeTree(order_by="n")], ids=["Memory", "MergeTree"])
def test_a_nested_that_is_flattened_is_its_arrays(engine: sa.Engine, database: str, kind: Any) -> None:
    make(engine, database, Nested(("a", Int8), ("b", String)), kind, flatten_nested=1)
    reflected = sa.Table("t", sa.MetaData(), schema=database, autoload_with=engine)
    assert [(column.name, type(column.type)) for column in reflected.c] == [
        ("n", UInt32),
        ("x.a", Array),
        ("x.b", Array),
    ]
    rows = [{"n": 1, "x.a": [1, 2], "x.b": ["p", "q"]}, {"n": 2, "x.a": [], "x.b": []}]
    with engine.connect() as connection:
        connection.execute(reflected.insert(), rows)
        assert [dict(row) for row in connection.execute(sa.select(reflected)).mappings()] == rows
        reflected.name = "again"
        reflected.create(connection)
        assert [column["name"] for column in sa.inspect(connection).get_columns("again", database)] == [
            "n",
            "x.a",
            "x.b",
        ]


def test_a_nested_that_is_one_column_takes_dicts(engine: sa.Engine, database: str) -> None:
    table = make(engine, database, Nested(("a", Int8), ("b", String)), flatten_nested=0)
    with engine.connect() as connection:
        connection.execute(table.insert(), {"n": 1, "x": [{"a": 1, "b": "p"}, {"b": "q", "a": 2}]})
        assert connection.scalar(sa.select(table.c.x)) == [(1, "p"), (2, "q")]


def test_spans_are_compared_and_cut_towards_zero(engine: sa.Engine, database: str) -> None:
    span = dt.timedelta(seconds=1, microseconds=999_999)
    for type_ in (Time(), Time64(3)):
        table = make(engine, database, type_)
        kept = dt.timedelta(seconds=1, milliseconds=999 if isinstance(type_, Time64) else 0)
        with engine.connect() as connection:
            connection.execute(
                table.insert(), [{"n": 1, "x": span}, {"n": 2, "x": -span}, {"n": 3, "x": dt.time(0, 0, 5)}]
            )
            found = connection.scalars(sa.select(table.c.x).order_by(table.c.n)).all()
            assert found == [kept, -kept, dt.timedelta(seconds=5)]
            later = sa.select(table.c.n).where(table.c.x > dt.timedelta(seconds=1.5)).order_by(table.c.n)
            assert connection.scalars(later).all() == ([1, 3] if isinstance(type_, Time64) else [3])
        table.drop(engine)
