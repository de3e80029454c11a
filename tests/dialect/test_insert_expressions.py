"""Inserts with expressions beside values: the server reads SQL, and what a column cannot hold is refused before."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb.dialect import Date, FixedString, Int8, Int64, Memory, MergeTree, UInt8, UInt64


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (Int8, 127, 128),
        (UInt64, 2**64 - 1, -1),
        (Date, dt.date(2149, 6, 6), dt.date(2149, 6, 7)),
        (FixedString(2), b"ab", b"abc"),
    ],
    ids=["Int8", "UInt64", "Date", "FixedString"],
)
def test_a_value_beside_an_expression_is_checked(
    embedded: sa.Engine, make_database: Any, kind: Any, good: Any, bad: Any
) -> None:
    # The server reads such values as SQL, where 300 for an Int8 is 44 and a late date an early one.
    database = make_database(embedded)
    columns = [sa.Column("a", Int64), sa.Column("v", kind)]
    table = sa.Table("t", sa.MetaData(), *columns, Memory(), schema=database)
    with embedded.connect() as connection:
        table.create(connection)
        statement = table.insert().values(a=sa.func.abs(-1), v=sa.bindparam("value"))
        connection.execute(statement, [{"value": good}, {"value": good}])
        with pytest.raises(sa_exc.DataError, match="'v'"):
            connection.execute(statement, [{"value": good}, {"value": bad}])
        with pytest.raises(sa_exc.DataError, match="'v'"):
            connection.execute(table.insert().values(a=sa.func.abs(-1), v=bad))
        assert connection.scalars(sa.select(table.c.v)).all() == [good, good]


def test_a_null_beside_an_expression(engine: sa.Engine, database: str) -> None:
    columns = sa.Column("a", Int64), sa.Column("v", Int8), sa.Column("never", Int8, nullable=False)
    table = sa.Table("t", sa.MetaData(), *columns, Memory(), schema=database)
    with engine.connect() as connection:
        table.create(connection)
        connection.execute(table.insert().values(a=sa.func.abs(-1), v=None, never=2))
        # The server would store a 0.
        with pytest.raises(sa_exc.DataError, match="'never'"):
            connection.execute(table.insert().values(a=sa.func.abs(-1), v=1, never=None))
        assert [tuple(row) for row in connection.execute(sa.select(table))] == [(1, None, 2)]


def test_a_value_in_the_text_is_checked(engine: sa.Engine, database: str) -> None:
    table = sa.Table("small", sa.MetaData(), sa.Column("n", UInt8), MergeTree(order_by="n"), schema=database)
    with engine.connect() as connection:
        table.create(connection)
        for number in (1, 2, 256):  # compiled once: the value is each time the statement's own
            statement = table.insert().values(n=sa.literal(number, table.c.n.type, literal_execute=True))
            if number > 255:
                with pytest.raises(sa_exc.DataError, match="256"):
                    connection.execute(statement)
            else:
                connection.execute(statement)
        assert connection.scalars(sa.select(table.c.n).order_by(table.c.n)).all() == [1, 2]


def test_what_a_select_compares_is_no_value_of_a_column(engine: sa.Engine, database: str) -> None:
    n = sa.Column("n", UInt8)
    table = sa.Table("small", sa.MetaData(), n, MergeTree(order_by="n"), schema=database)
    with engine.connect() as connection:
        table.create(connection)
        connection.execute(table.insert(), {"n": 7})
        for where in (n < 1000, n.in_([7, 1000])):
            connection.execute(table.insert().from_select(["n"], sa.select(n + 1).where(where)))
        assert sorted(connection.scalars(sa.select(n))) == [7, 8, 8]
