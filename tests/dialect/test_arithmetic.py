"""Arithmetic with numbers and times, the fields of a time: what Python makes of the same values."""

from __future__ import annotations

import datetime as dt
import decimal
import operator
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from netra_chdb.dialect import Date, Date32, DateTime, DateTime64, Float64, Int64, Nullable, interval, types

EXAMPLES = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SMALL = st.integers(-(10**6), 10**6)
TIMES = st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2200, 1, 1), timezones=st.just(dt.UTC))
SPANS = st.timedeltas(dt.timedelta(days=-9000), dt.timedelta(days=9000))
A_TIME = dt.datetime(2024, 2, 29, 23, 59, 58, 123456, tzinfo=dt.UTC)


def column(value: Any, type_: Any) -> Any:
    """What a column of the type that holds ``value`` is."""
    return sa.cast(sa.literal(value, type_), type_)


# -- numbers -----------------------------------------------------------------------------------------------------------

ARITHMETIC: list[Callable[[Any, Any], Any]] = [
    lambda a, b: -a,
    lambda a, b: -(0 - a),
    lambda a, b: operator.neg(operator.neg(a)),
    lambda a, b: a - b,
    lambda a, b: a - -b,
    lambda a, b: -a - (-b - a),
    lambda a, b: a * -b + b,
    lambda a, b: a + b - (a - b),
]


@EXAMPLES
@given(a=SMALL, b=SMALL)
def test_negative_values_compute_as_in_python(connection: sa.Connection, a: int, b: int) -> None:
    left, right = sa.bindparam("a", type_=Int64()), sa.bindparam("b", type_=Int64())
    statement = sa.select(*(make(left, right).label(f"n{place}") for place, make in enumerate(ARITHMETIC)))
    expected = [make(a, b) for make in ARITHMETIC]
    assert list(connection.execute(statement, {"a": a, "b": b}).one()) == expected
    written = sa.select(sa.text("-:a AS m, :a-:b AS d, :a - -:b AS s"))
    assert list(connection.execute(written, {"a": a, "b": b}).one()) == [-a, a - b, a + b]


@EXAMPLES
@given(a=st.floats(-1e9, 1e9), b=st.decimals(-(10**6), 10**6, places=3))
def test_negative_fractions_compute_as_in_python(connection: sa.Connection, a: float, b: decimal.Decimal) -> None:
    number: Any = sa.bindparam("a", type_=Float64())
    exact: Any = sa.bindparam("b", type_=sa.Numeric(12, 3))
    statement = sa.select((-number).label("a"), (number - -number).label("b"), (-exact).label("c"))
    assert list(connection.execute(statement, {"a": a, "b": b}).one()) == [-a, a + a, -b]


def test_what_stands_behind_a_negative_value_is_still_there(connection: sa.Connection) -> None:
    numbers = sa.select(sa.literal_column("1", Int64()).label("id")).subquery()
    statement = sa.select(numbers.c.id, (-sa.bindparam("v", type_=Int64())).label("n")).where(numbers.c.id == 2)
    assert connection.execute(statement, {"v": -3}).all() == []
    assert connection.scalar(sa.select(sa.literal_column("-3") - -sa.literal_column("-4"))) == -7


def quotient(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)  # towards zero, as SQL divides


@EXAMPLES
@given(a=st.integers(-(2**63) + 1, 2**63 - 1), b=st.integers(-(2**31), 2**31))
@example(a=128, b=-2)
@example(a=-100, b=200)
def test_integers_divide_as_integers(connection: sa.Connection, a: int, b: int) -> None:
    assume(b)
    assert connection.scalar(sa.select(sa.literal(a, Int64) // sa.literal(b, Int64))) == quotient(a, b)


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_numbers_without_a_sign_divide_beside_those_with_one(connection: sa.Connection, bits: int) -> None:
    """ClickHouse itself takes the first bit of one for the sign that the other has."""
    unsigned, signed = (getattr(types, f"{sign}Int{bits}")() for sign in ("U", ""))
    large, small = 2**bits - 3, -(2 ** (bits - 1)) + 5
    a, b = column(large, Nullable(unsigned)), column(small, signed)
    pairs: list[tuple[Any, Any]] = [(a, b), (b, a), (a, sa.literal(-7, Int64)), (a, 7), (7, a), (b, 2**31 - 1)]
    found = connection.execute(sa.select(*(left // right for left, right in pairs))).one()
    numbers = [(large, small), (small, large), (large, -7), (large, 7), (7, large), (small, 2**31 - 1)]
    assert list(found) == [quotient(left, right) for left, right in numbers]


def test_a_divisor_that_its_type_does_not_hold_is_refused(connection: sa.Connection) -> None:
    with pytest.raises(sa.exc.DBAPIError, match="cannot be safely converted"):
        connection.scalar(sa.select(column(128, types.UInt8()) // -2))


def test_other_numbers_divide_with_the_floor(connection: sa.Connection) -> None:
    assert connection.scalar(sa.select(sa.literal(-7.5, Float64) // 2)) == -7.5 // 2
    assert connection.scalar(sa.select(sa.literal(-7, Int64) // sa.literal(2.0, Float64))) == -7 // 2.0
    quotient = sa.literal(decimal.Decimal("7.50"), sa.Numeric(10, 2)) // 2
    assert connection.scalar(sa.select(quotient)) == 3


# -- times -------------------------------------------------------------------------------------------------------------


@EXAMPLES
@given(time=TIMES, other=TIMES, span=SPANS, second=SPANS)
def test_times_and_spans_compute_as_in_python(
    connection: sa.Connection, time: dt.datetime, other: dt.datetime, span: dt.timedelta, second: dt.timedelta
) -> None:
    assume(abs(time - other) < dt.timedelta(days=365 * 60))
    at, then = column(time, DateTime64(6)), column(other, DateTime64(6))
    kept = sa.literal(second, sa.Interval)
    statement = sa.select(at - span, at + span, span + at, at - then, at - other, kept + span, kept - span, at - kept)
    expected = [time - span, time + span, time + span, time - other, time - other]
    expected += [second + span, second - span, time - second]
    assert list(connection.execute(statement).one()) == expected


@pytest.mark.parametrize(
    "type_", [DateTime(), DateTime("Europe/Berlin"), DateTime64(3, "Asia/Tokyo"), Nullable(DateTime64(6))], ids=repr
)
def test_each_kind_of_time_minus_a_span(connection: sa.Connection, type_: Any) -> None:
    time, span = A_TIME.replace(microsecond=0), dt.timedelta(days=1, hours=2, milliseconds=5)
    at = column(time, type_)
    found = connection.execute(sa.select(at - span, at + span, at - time, at - interval(2, "hour"))).one()
    assert list(found) == [time - span, time + span, dt.timedelta(0), time - dt.timedelta(hours=2)]
    assert connection.scalar(sa.select(sa.func.count()).where(at - span < time, at > time - span)) == 1


@pytest.mark.parametrize("type_", [Date(), Date32()], ids=repr)
def test_a_date_and_a_span(connection: sa.Connection, type_: Any) -> None:
    day, span = column(A_TIME.date(), type_), dt.timedelta(days=1, hours=6)
    midnight = dt.datetime(2024, 2, 29, tzinfo=dt.UTC)
    other = column(dt.date(2023, 3, 1), Date32())
    found = connection.execute(sa.select(day - span, day + span, day - A_TIME, day - other, day - 1)).one()
    assert list(found) == [midnight - span, midnight + span, midnight - A_TIME, 365, dt.date(2024, 2, 28)]


def test_a_time_minus_a_date_is_refused(connection: sa.Connection) -> None:
    with pytest.raises(sa.exc.CompileError, match="cast the date"):
        connection.execute(sa.select(column(A_TIME, DateTime64(6)) - column(A_TIME.date(), Date())))


# -- fields ------------------------------------------------------------------------------------------------------------


def _fields(time: dt.datetime) -> dict[str, int]:
    iso = time.isocalendar()
    micro = time.second * 1_000_000 + time.microsecond
    since = time - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    return {
        "year": time.year,
        "quarter": (time.month + 2) // 3,
        "month": time.month,
        "day": time.day,
        "hour": time.hour,
        "minute": time.minute,
        "second": time.second,
        "millisecond": micro // 1000,
        "milliseconds": micro // 1000,
        "microsecond": micro,
        "microseconds": micro,
        "doy": time.timetuple().tm_yday,
        "dow": time.isoweekday() % 7,
        "isodow": iso.weekday,
        "week": iso.week,
        "isoyear": iso.year,
        "epoch": int(since / dt.timedelta(seconds=1)),
    }


@EXAMPLES
@given(time=TIMES)
def test_each_field_of_a_time(connection: sa.Connection, time: dt.datetime) -> None:
    at, expected = column(time, Nullable(DateTime64(6))), _fields(time)
    found = connection.execute(sa.select(*(sa.extract(field, at).label(field) for field in expected))).one()
    assert dict(found._mapping) == expected


def test_fields_of_seconds_and_dates(connection: sa.Connection) -> None:
    whole = A_TIME.replace(microsecond=0)
    at, day = column(whole, DateTime("UTC")), column(A_TIME.date(), Date())
    fields = _fields(whole)
    found = connection.execute(sa.select(*(sa.extract(field, at).label(field) for field in fields))).one()
    assert dict(found._mapping) == fields
    of_day = {
        field: number
        for field, number in _fields(dt.datetime(2024, 2, 29, tzinfo=dt.UTC)).items()
        if field in ("year", "quarter", "month", "day", "doy", "dow", "isodow", "week", "isoyear", "epoch")
    }
    found = connection.execute(sa.select(*(sa.extract(field, day).label(field) for field in of_day))).one()
    assert dict(found._mapping) == of_day


@pytest.mark.parametrize("field", ["century", "timezone_hour", "seconds since", "s"])
def test_a_field_that_is_none_is_refused(embedded: sa.Engine, field: str) -> None:
    statement = sa.select(sa.extract(field, sa.column("at", DateTime64(6))))
    with pytest.raises(sa.exc.CompileError, match=f"no field '{field}'"):
        statement.compile(dialect=embedded.dialect)
