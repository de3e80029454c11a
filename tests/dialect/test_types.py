"""The contract: what a column takes comes back equal on every driver, and what it cannot take is refused."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netra_chdb.dialect import Memory, Nullable
from netra_chdb.dialect.type_parser import parse_type
from tests.dialect.type_refusals import REFUSED
from tests.dialect.type_table import CASES, CREATION, CREATION_OLD, Case, expected, same
from tests.dialect.type_values import sorted_keys

LISTS = settings(
    max_examples=int(os.environ.get("NETRA_TYPE_EXAMPLES", "4")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
_batches = itertools.count()


@pytest.fixture(scope="module")
def types_database(engine: sa.Engine) -> Iterator[str]:
    name = f"types_{uuid.uuid4().hex[:8]}"
    with engine.connect() as connection:
        connection.execute(sa.schema.CreateSchema(name))
        yield name
        connection.execute(sa.schema.DropSchema(name))


def make_table(engine: sa.Engine, database: str, type_name: str) -> sa.Table:
    table = sa.Table(
        f"t{next(_batches)}",
        sa.MetaData(),
        sa.Column("batch", parse_type("UInt64"), nullable=False),
        sa.Column("n", parse_type("UInt32"), nullable=False),
        sa.Column("x", parse_type(type_name), nullable=False),
        Memory(),
        schema=database,
    )
    with engine.connect() as connection:
        old = engine.dialect.server_version_info is not None and engine.dialect.server_version_info < (20,)
        connection.execution_options(settings=CREATION_OLD if old else CREATION).execute(sa.schema.CreateTable(table))
    return table


def stored(connection: sa.Connection, table: sa.Table, values: list[Any]) -> list[Any]:
    batch = next(_batches)
    connection.execute(table.insert(), [{"batch": batch, "n": n, "x": value} for n, value in enumerate(values)])
    found = connection.execute(sa.select(table.c.x).where(table.c.batch == batch).order_by(table.c.n))
    return list(found.scalars())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.type_name)
def test_what_goes_in_comes_back(engine: sa.Engine, types_database: str, case: Case) -> None:
    table = make_table(engine, types_database, case.type_name)
    connection = engine.connect()

    @LISTS
    @given(st.lists(case.values, min_size=1, max_size=25))
    def check(values: list[Any]) -> None:
        wanted = values if "FixedString" in case.type_name else [expected(value) for value in values]
        found = stored(connection, table, values)
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            if not case.ordered:
                one, other = sorted_keys(one), sorted_keys(other)
            assert same(one, other), (one, other)
        if case.comparable and wanted[0] is not None:
            # As a bound value in SQL it is the very value that the column holds.
            matches = sa.select(sa.func.count()).select_from(table).where(table.c.x == values[0])
            assert connection.execute(matches).scalar_one() >= 1, values[0]

    with connection:
        check()


BOUND = [case for case in CASES if case.comparable or case.bound]


@pytest.mark.parametrize("case", BOUND, ids=lambda case: case.type_name)
def test_a_bound_value_comes_back(engine: sa.Engine, case: Case) -> None:
    with engine.connect() as connection:

        @LISTS
        @given(case.values)
        def check(value: Any) -> None:
            found = connection.execute(sa.select(sa.literal(value, parse_type(case.type_name)))).scalar_one()
            assert found == expected(value) or same(found, expected(value))

        check()


@pytest.mark.parametrize(("type_name", "value"), REFUSED, ids=lambda value: repr(value)[:40])
def test_what_does_not_fit_is_refused(engine: sa.Engine, types_database: str, type_name: str, value: Any) -> None:
    table = make_table(engine, types_database, type_name)
    with engine.connect() as connection:
        for values in ([value], [value, value]):
            # What SQLAlchemy's own Enum and Boolean refuse never reaches the driver.
            with pytest.raises(sa.exc.StatementError) as caught:
                stored(connection, table, values)
            if not isinstance(table.c.x.type, sa.Enum | sa.Boolean | Nullable):
                assert isinstance(caught.value, sa.exc.DBAPIError)
        assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 0


def test_a_refusal_names_value_and_type(engine: sa.Engine, types_database: str) -> None:
    table = make_table(engine, types_database, "UInt8")
    with engine.connect() as connection, pytest.raises(sa.exc.DataError, match=r"\b300\b.*UInt8"):
        connection.execute(table.insert(), [{"batch": 0, "n": 0, "x": 300}])


def test_a_value_of_another_row_is_refused_too(engine: sa.Engine, types_database: str) -> None:
    # The codec judges a column by its first value.
    table = make_table(engine, types_database, "Int64")
    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError):
        stored(connection, table, [1, 2, 2.5])


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_a_time_is_cut_to_the_precision_of_its_column(engine: sa.Engine, types_database: str, zone: str) -> None:
    moment = dt.datetime(1931, 5, 6, 7, 8, 9, 987_654, tzinfo=dt.UTC)
    with engine.connect() as connection:
        for precision, kept in ((0, 0), (1, 900_000), (3, 987_000), (6, 987_654), (9, 987_654)):
            table = make_table(engine, types_database, f"DateTime64({precision}, '{zone}')")
            assert stored(connection, table, [moment]) == [moment.replace(microsecond=kept)]


def test_the_last_microsecond_is_not_the_next_second(engine: sa.Engine, types_database: str) -> None:
    # A float of seconds is too coarse after 2242: clickhouse-connect made this one second late.
    last = dt.datetime(2299, 12, 31, 23, 59, 58, 999_999, tzinfo=dt.UTC)
    table = make_table(engine, types_database, "DateTime64(6, 'UTC')")
    with engine.connect() as connection:
        assert stored(connection, table, [last]) == [last]


def test_text_that_looks_like_hexadecimal_stays_text(engine: sa.Engine, types_database: str) -> None:
    # clickhouse-connect reads bytes that are not UTF-8 as their hexadecimal digits, which nothing tells from these.
    table = make_table(engine, types_database, "String")
    with engine.connect() as connection:
        assert stored(connection, table, ["ff", b"\xff", "é"]) == ["ff", b"\xff", "é"]


_NAIVE = """
import datetime as dt, sys, time
import sqlalchemy as sa
import netra_chdb.dialect as d
from netra_chdb.dialect import DateTime, DateTime64, Memory
time.tzset()
engine = sa.create_engine(sys.argv[1])
naive = dt.datetime(2024, 7, 1, 12, 0, 0)
aware = naive.replace(tzinfo=dt.UTC)
columns = [sa.Column("a", DateTime), sa.Column("b", DateTime64(3, None)), sa.Column("c", DateTime64(6, "Asia/Tokyo"))]
table = sa.Table(sys.argv[2], sa.MetaData(), *columns, Memory())
with engine.connect() as connection:
    table.create(connection)
    for rows in ([dict(a=naive, b=naive, c=naive)], [dict(a=naive, b=naive, c=naive), dict(a=aware, b=aware, c=aware)]):
        connection.execute(table.insert(), rows)
    for row in connection.execute(sa.select(table)):
        assert tuple(row) == (aware, aware, aware), row
        assert all(value.utcoffset() == dt.timedelta(0) for value in row), row
    for column in table.c:
        for value in (naive, aware):
            found = connection.execute(sa.select(sa.func.count()).select_from(table).where(column == value)).scalar()
            assert found == 3, (column, value, found)
    assert connection.execute(sa.text("SELECT :x"), {"x": naive}).scalar() == aware
    table.drop(connection)
engine.dispose()
"""


def test_a_naive_time_is_utc_whatever_the_zone_of_this_machine(url: str, tmp_path: Path) -> None:
    target = f"clickhouse+chdb:///{tmp_path}/zone.chdb" if "+chdb" in url else url
    environment = {**os.environ, "TZ": "America/New_York"}
    subprocess.run(
        [sys.executable, "-W", "error", "-c", _NAIVE, target, f"zone_{uuid.uuid4().hex}"], check=True, env=environment
    )


def test_decimals_are_read_whole_whatever_the_context(engine: sa.Engine, types_database: str) -> None:
    import decimal

    table = make_table(engine, types_database, "Decimal(18, 6)")
    value = decimal.Decimal("123456789012.345678")
    with engine.connect() as connection, decimal.localcontext(prec=4):
        assert stored(connection, table, [value]) == [value]
