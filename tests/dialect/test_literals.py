"""Literals: what a value becomes in SQL reads back as the value, and no value becomes SQL."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import ipaddress
import math
import re
import uuid
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netra_chdb.dialect.literals import literal, quote
from netra_chdb.dialect.sql_text import has_second_statement
from tests.dialect.type_table import ADDRESSES, BYTES, FIRST, FLOATS, LAST, STRINGS, expected, same

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**255), 2**256 - 1),
    FLOATS,
    STRINGS,
    BYTES,
    st.uuids(),
    st.dates(FIRST.date(), LAST.date()),
    st.datetimes(FIRST, LAST, timezones=st.just(dt.UTC)),
    st.decimals(allow_nan=False, allow_infinity=False, places=5, min_value=-(10**20), max_value=10**20),
    st.ip_addresses(v=4),
    ADDRESSES,
)
CONTAINERS = st.one_of(
    st.lists(STRINGS, max_size=4),
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=4),
    st.lists(st.lists(FLOATS, max_size=3), max_size=3),
    st.lists(st.datetimes(FIRST, LAST, timezones=st.just(dt.UTC)), max_size=3),
    st.dictionaries(STRINGS, st.integers(0, 2**63), min_size=1, max_size=3),
    st.tuples(STRINGS, st.integers(-5, 5), FLOATS),
)
EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Color(enum.Enum):
    RED = "r"


class Level(enum.IntEnum):
    HIGH = 7


class Word(enum.StrEnum):
    OK = "fine"


@EXAMPLES
@given(SCALARS | CONTAINERS)
def test_a_bound_value_is_that_value(engine: sa.Engine, value: Any) -> None:
    with engine.connect() as connection:
        found = connection.execute(sa.text("SELECT :value"), {"value": value}).scalar_one()
    if isinstance(value, bool | int):
        assert found == value
    elif isinstance(value, decimal.Decimal):
        assert (type(found), found) == (decimal.Decimal, value)
    else:
        assert same(found, expected(value)), (found, value)


@EXAMPLES
@given(st.lists(STRINGS | BYTES, min_size=1, max_size=4))
def test_values_stay_apart(embedded: sa.Engine, values: list[Any]) -> None:
    names = [f"v{n}" for n in range(len(values))]
    with embedded.connect() as connection:
        statement = sa.text("SELECT " + ", ".join(f":{name} AS {name}" for name in names))
        row = connection.execute(statement, dict(zip(names, values, strict=True))).one()
    assert list(row) == [expected(value) for value in values]


@pytest.mark.parametrize(
    "attempt",
    [
        "'; DROP TABLE {t}; --",
        "\\'; DROP TABLE {t}; --",
        "\\\\'; DROP TABLE {t}; --",
        "' OR 1 = 1 --",
        "%' OR '1' = '1",
        "%(other)s",
        "%s%s%s",
        ":other",
        "{{other:String}}",
        "\n\nDROP TABLE {t}",
        "\0'; DROP TABLE {t}; --",
        "x' UNION ALL SELECT secret FROM {t} --",
        "*/ DROP TABLE {t} /*",
        "$$; DROP TABLE {t}; $$",
        "\u02bc; DROP TABLE {t}; --",
        "') SETTINGS readonly = 0 --",
    ],
)
def test_text_never_becomes_sql(engine: sa.Engine, database: str, attempt: str) -> None:
    table = f"{database}.t"
    value = attempt.format(t=table)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {table} (a String, secret String) ENGINE = Memory")
        connection.exec_driver_sql(f"INSERT INTO {table} SELECT 'a', 'hidden'")
        found = connection.execute(
            sa.text(f"SELECT :value, :other, count() FROM {table} WHERE a = :value"),
            {"value": value, "other": "o"},
        ).all()
        assert list(map(tuple, found)) == [(value, "o", 0)]
        connection.execute(sa.text(f"INSERT INTO {table} (a, secret) VALUES (:a, :b)"), [{"a": value, "b": value}])
        insert = sa.text(f"INSERT INTO {table} (a, secret) SELECT :a, :b")
        connection.execute(insert, {"a": value, "b": value})
        again = sa.text(f"SELECT a, secret FROM {table} WHERE a = :value")
        assert list(map(tuple, connection.execute(again, {"value": value}))) == [(value, value)] * 2
        assert connection.exec_driver_sql(f"SELECT count() FROM {table}").scalar_one() == 3


def test_literal_binds_are_the_same_values(engine: sa.Engine) -> None:
    for value in ("100%", "%(x)s", "'\\\n", 5, 1.5, dt.datetime(2024, 1, 1, 0, 0, 0, 5, dt.UTC), uuid.UUID(int=1)):
        statement = sa.select(sa.literal(value, literal_execute=True))
        with engine.connect() as connection:
            assert connection.execute(statement).scalar_one() == value


@given(st.text() | st.binary())
def test_a_literal_holds_no_line_break_and_no_open_quote(value: str | bytes) -> None:
    try:
        text = literal(value)
    except UnicodeEncodeError:
        assert any(0xD800 <= ord(char) < 0xE000 for char in str(value))
        return
    assert not {"\n", "\r", "\0"} & set(text)
    assert re.fullmatch(r"(?:unhex\()?'(?:[^'\\]|\\.)*'\)?", text)
    assert not has_second_statement(f"SELECT {text}")


def test_enumerations() -> None:
    assert literal(Color.RED) == "'RED'"
    assert literal(Level.HIGH) == "7"
    assert literal(Word.OK) == "'fine'"


def test_numpy_scalars_are_their_values() -> None:
    numpy = pytest.importorskip("numpy")
    assert literal(numpy.int32(5)) == "5"
    assert literal(numpy.float64(0.5)) == "0.5"
    assert literal(numpy.bool_(True)) == "true"


@pytest.mark.parametrize(
    "value",
    [
        object(),
        dt.timedelta(hours=1000),
        dt.time(1, tzinfo=dt.UTC),
        2**256,
        -(2**255) - 1,
        decimal.Decimal("NaN"),
        decimal.Decimal("1E+80"),
        decimal.Decimal(1).scaleb(-80),
        dt.datetime(1899, 12, 31, 23, 59, 59, tzinfo=dt.UTC),
        dt.datetime(2300, 1, 1, tzinfo=dt.UTC),
        dt.date(1899, 12, 31),
        dt.date(2300, 1, 1),
        ipaddress.IPv6Address("fe80::1%eth0"),
        "\ud800",
        "x\udcff",
        [1, object()],
        {"a": object()},
    ],
    # Without the address that an object's repr carries: every worker has to know a test by one name.
    ids=lambda value: re.sub(r" at 0x\w+", "", repr(value)),
)
def test_what_no_literal_stands_for_is_refused(engine: sa.Engine, value: Any) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        literal(value)
    with engine.connect() as connection, pytest.raises(sa.exc.DataError):
        connection.execute(sa.text("SELECT :value"), {"value": value})


def test_the_sign_of_zero_and_the_kinds_of_nothing() -> None:
    assert literal(-0.0) == " -0.0"
    assert literal(math.inf) == "inf"
    assert literal(None) == "NULL"
    assert literal("") == "''"
    assert quote("NULL") == "'NULL'"
