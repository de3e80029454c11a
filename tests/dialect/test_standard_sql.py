"""What SQLAlchemy means by its own constructs, on each driver: NULLs, sets, orders, generic types, constraints.

SQLAlchemy's compliance suite asks for most of it; what follows was wrong without an error, or is not in the suite.
"""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pytest
import sqlalchemy as sa

import netra_chdb.dialect as ch


def rows(connection: sa.Connection, statement: sa.Executable) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in connection.execute(statement)]


def numbers(*values: int) -> sa.Subquery:
    return sa.union_all(*[sa.select(sa.literal(value).label("n")) for value in values]).subquery()


def test_a_row_without_a_match_has_nulls(connection: sa.Connection) -> None:
    # ClickHouse fills in zeros: an ORM entity would be made of them.
    left, right = numbers(1, 2), numbers(2)
    joined = left.outerjoin(right, left.c.n == right.c.n)
    statement = sa.select(left.c.n, right.c.n).select_from(joined).order_by(left.c.n)
    assert rows(connection, statement) == [(1, None), (2, 2)]


def test_what_the_caller_sets_is_stronger(connection: sa.Connection) -> None:
    left, right = numbers(1), numbers(2)
    statement = sa.select(right.c.n).select_from(left.outerjoin(right, left.c.n == right.c.n))
    assert connection.scalar(statement, execution_options={"settings": {"join_use_nulls": 0}}) == 0
    own = ch.select(right.c.n).select_from(left.outerjoin(right, left.c.n == right.c.n)).settings(join_use_nulls=0)
    assert connection.scalar(own) == 0


def test_a_cast_keeps_a_null(connection: sa.Connection) -> None:
    value = sa.func.nullIf(sa.literal("a"), "a")
    assert connection.scalar(sa.select(sa.cast(value, sa.String))) is None


def test_order_and_limit_are_for_all_of_a_union(connection: sa.Connection) -> None:
    # Written behind it, they are for its last SELECT.
    statement = sa.union(sa.select(sa.literal(3).label("n")), sa.select(sa.literal(1).label("n")))
    assert connection.scalars(statement.order_by("n")).all() == [1, 3]
    assert connection.scalars(statement.order_by(sa.desc("n")).limit(1)).all() == [3]


def test_sets_hold_each_row_once(connection: sa.Connection) -> None:
    # A bare INTERSECT or EXCEPT of ClickHouse's keeps duplicates.
    ones, one = sa.select(numbers(1, 1)), sa.select(numbers(1))
    assert connection.scalars(sa.intersect(ones, one)).all() == [1]
    assert connection.scalars(sa.except_(ones, sa.select(numbers(2)))).all() == [1]


@pytest.mark.parametrize(("percent", "count"), [(0, 0), (20, 1), (100, 5)])
def test_a_share_of_the_rows(connection: sa.Connection, percent: int, count: int) -> None:
    source = numbers(1, 2, 3, 4, 5)
    statement = sa.select(source.c.n).order_by(source.c.n).fetch(percent, percent=True)
    assert len(connection.scalars(statement).all()) == count


def test_a_collation_stands_behind_its_direction(connection: sa.Connection) -> None:
    source = sa.union_all(*[sa.select(sa.literal(text).label("t")) for text in ("b", "a", "A", "B")]).subquery()
    column = source.c.t
    for order, expected in (
        (sa.collate(column, "en").asc(), ["a", "A", "b", "B"]),
        (sa.collate(column, "en").desc().nulls_last(), ["B", "b", "A", "a"]),
    ):
        assert connection.scalars(sa.select(column).order_by(order)).all() == expected


def test_generic_types(connection: sa.Connection, database: str) -> None:
    table = sa.Table(
        "t",
        sa.MetaData(schema=database),
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.Time),
        sa.Column("span", sa.Interval),
        sa.Column("price", sa.Numeric(10, 2)),
        sa.Column("ratio", sa.Float),
        sa.Column("tags", sa.ARRAY(sa.String)),
        sa.Column("document", sa.JSON),
    )
    table.create(connection)
    row: Any = (1, dt.time(1, 2, 3, 4), -dt.timedelta(1), 1.25, decimal.Decimal("0.5"), ["a"], {"k": [7]})
    missing: Any = (2, None, None, None, None, [], sa.null())
    connection.execute(table.insert(), [dict(zip(table.c.keys(), values, strict=True)) for values in (row, missing)])
    found = rows(connection, sa.select(table).order_by(table.c.id))
    assert found == [row, (2, None, None, None, None, [], None)]
    assert [type(value) for value in found[0][3:5]] == [decimal.Decimal, float]
    element = table.c.document[("k", 0)]
    assert connection.scalars(sa.select(element.as_integer()).order_by(table.c.id)).all() == [7, None]
    assert connection.scalars(sa.select(table.c.id).where(table.c.at == row[1])).all() == [1]


def test_checks_at_columns_and_without_names(connection: sa.Connection, database: str) -> None:
    # Upstream left out a constraint that is declared at its column.
    table = sa.Table(
        "t",
        sa.MetaData(schema=database),
        sa.Column("a", sa.Integer, sa.CheckConstraint("a > 0")),
        sa.CheckConstraint("a < 9"),
        sa.CheckConstraint("a != 5", name="not five"),
    )
    table.create(connection)
    found = sa.inspect(connection).get_check_constraints("t", schema=database)
    assert {check["name"]: check["sqltext"] for check in found} == {
        "t_chk_1": "a < 9",
        "not five": "a != 5",
        "t_chk_3": "a > 0",
    }
    for value in (0, 5, 9):
        with pytest.raises(sa.exc.DBAPIError):
            connection.execute(table.insert(), {"a": value})


def test_computed_columns(connection: sa.Connection, database: str) -> None:
    table = sa.Table(
        "t",
        sa.MetaData(schema=database),
        sa.Column("a", sa.Integer),
        sa.Column("stored", sa.Integer, sa.Computed("a + 1")),
        sa.Column("derived", sa.Integer, sa.Computed("a + 2", persisted=False)),
    )
    table.create(connection)
    connection.execute(table.insert(), {"a": 1})
    assert rows(connection, sa.select(table)) == [(1, 2, 3)]
    computed = [column.get("computed") for column in sa.inspect(connection).get_columns("t", schema=database)]
    assert computed == [None, {"sqltext": "a + 1", "persisted": True}, {"sqltext": "a + 2", "persisted": False}]


@pytest.mark.parametrize(
    "items",
    [
        lambda: [sa.Column("a", sa.Integer, sa.Identity())],
        lambda: [sa.Column("a", sa.Integer), sa.Index("i", "a", unique=True)],
        lambda: [sa.Column("a", sa.Integer), sa.UniqueConstraint("a")],
    ],
    ids=["identity", "index", "constraint"],
)
def test_what_would_not_be_kept_is_refused(connection: sa.Connection, database: str, items: Any) -> None:
    table = sa.Table("t", sa.MetaData(schema=database), *items())
    with pytest.raises(sa.exc.CompileError, match="ClickHouse has no"):
        table.create(connection)


def test_a_pattern_with_an_escape_in_any_case(connection: sa.Connection) -> None:
    source = sa.union_all(*[sa.select(sa.literal(text).label("t")) for text in ("50%", "50a", "A_50%b")]).subquery()
    column = source.c.t
    for condition, expected in (
        (column.icontains("0%", autoescape=True), ["50%", "A_50%b"]),
        (column.istartswith("a_", autoescape=True), ["A_50%b"]),
        (column.iendswith("50%", autoescape=True), ["50%"]),
        (column.ilike("a#_50#%B", escape="#"), ["A_50%b"]),
        (column.not_ilike("%#%B", escape="#"), ["50%", "50a"]),
        (column.not_ilike("%%B", escape="%"), ["50%", "50a", "A_50%b"]),
        (column.ilike("%A"), ["50a"]),
    ):
        assert connection.scalars(sa.select(column).where(condition).order_by(column)).all() == expected, condition


def test_a_lock_is_refused(connection: sa.Connection) -> None:
    one = sa.select(numbers(1))
    for statement in (one.with_for_update(), ch.select(numbers(1)).with_for_update(), sa.union(one).with_for_update()):
        with pytest.raises(sa.exc.CompileError, match="locks no rows"):
            connection.execute(statement)
