"""``in_()`` and ``not_in()`` say of each value what ``==`` says."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from netra_chdb.dialect import (
    Date,
    Date32,
    DateTime,
    DateTime64,
    Decimal,
    Int32,
    Nullable,
    Time64,
    global_in,
    global_not_in,
)

DAY = dt.date(2024, 2, 29)
MIDNIGHT = dt.datetime(2024, 2, 29, tzinfo=dt.UTC)
TIMES = [
    MIDNIGHT,
    MIDNIGHT.replace(tzinfo=None),
    MIDNIGHT.replace(hour=7),
    MIDNIGHT.replace(microsecond=123_000),
    MIDNIGHT.replace(microsecond=123_456),
    MIDNIGHT.astimezone(dt.timezone(dt.timedelta(hours=3))),
    dt.datetime(1950, 1, 1, tzinfo=dt.UTC),
    dt.datetime(2200, 1, 1, tzinfo=dt.UTC),
    DAY,
]
DATES = [DAY, dt.date(1950, 1, 1), dt.date(2200, 1, 1), *TIMES]
CASES: list[tuple[Any, list[Any], list[Any]]] = [
    # a type, what is in the column, what it is compared with
    (DateTime64(3), [MIDNIGHT, MIDNIGHT.replace(microsecond=123_000)], TIMES),
    (Nullable(DateTime64(6)), [MIDNIGHT, MIDNIGHT.replace(microsecond=123_456), None], TIMES),
    (DateTime("UTC"), [MIDNIGHT, MIDNIGHT.replace(hour=7)], TIMES),
    (Nullable(DateTime("UTC")), [MIDNIGHT, None], TIMES[:-1]),
    (Date(), [DAY], DATES),
    (Nullable(Date32()), [DAY, dt.date(1950, 1, 1), None], DATES),
    (Time64(3), [dt.timedelta(seconds=-1.5)], [dt.timedelta(seconds=-1.5), dt.timedelta(seconds=-1.500_4)]),
    (Int32(), [1], [1, -1, 1.5, 2**40]),
    (Decimal(9, 2), [decimal.Decimal("1.23")], [decimal.Decimal("1.23"), decimal.Decimal("1.234")]),
]


@pytest.fixture(params=CASES, ids=lambda case: repr(case[0]))
def case(request: pytest.FixtureRequest, engine: sa.Engine, database: str) -> tuple[sa.Table, list[Any]]:
    type_, stored, values = request.param
    table = sa.Table("t", sa.MetaData(schema=database), sa.Column("n", Int32, primary_key=True), sa.Column("v", type_))
    with engine.connect() as connection:
        table.create(connection)
        connection.execute(sa.insert(table), [{"n": n, "v": value} for n, value in enumerate(stored)])
    return table, values


def test_a_list_holds_what_is_equal(engine: sa.Engine, case: tuple[sa.Table, list[Any]]) -> None:
    table, values = case
    column, numbers = table.c.v, sa.select(table.c.n).order_by(table.c.n)
    pair = sa.tuple_(table.c.n, column)
    with engine.connect() as connection:

        def found(condition: Any) -> list[int]:
            return list(connection.scalars(numbers.where(condition)))

        for value in values:
            equal, other = found(column == value), found(column != value)
            asked: list[Callable[[Any], Any]] = [column.in_, lambda values: global_in(column, values)]
            for member in asked:
                assert found(member([value])) == found(member([value, value])) == equal, value
            for missing in (column.not_in, lambda values: global_not_in(column, values)):
                assert found(missing([value])) == other, value
            if engine.dialect.driver != "chdb":  # the rest is the same text on each driver
                continue
            assert found(pair.in_([(n, value) for n in range(3)])) == equal, value
            written = numbers.where(column.in_([value])).compile(
                dialect=engine.dialect, compile_kwargs={"literal_binds": True}
            )
            assert list(connection.exec_driver_sql(str(written)).scalars()) == equal, value
        every = sa.or_(*(column == value for value in values))
        assert found(column.in_(values[::-1])) == found(every)
        # One statement, compiled once, for lists of other values.
        listed: Any = sa.bindparam("values", expanding=True)
        for value in values:
            statement = numbers.where(column.in_(listed))
            assert list(connection.scalars(statement, {"values": [value]})) == found(column == value)


def test_a_type_of_ones_own_makes_the_values_itself(embedded: sa.Engine) -> None:
    class Floored(sa.TypeDecorator[Any]):
        impl = DateTime64(3)
        cache_ok = True

        def process_bind_param(self, value: Any, dialect: Any) -> Any:
            return value.replace(microsecond=value.microsecond // 1000 * 1000)

    stored, asked = MIDNIGHT.replace(microsecond=123_000), MIDNIGHT.replace(microsecond=123_456)
    column = sa.select(sa.cast(sa.literal(stored), DateTime64(3)).label("v")).subquery().c.v
    with embedded.connect() as connection:
        statement = sa.select(sa.func.count()).where(sa.type_coerce(column, Floored).in_([asked]))
        assert connection.scalar(statement) == 1
