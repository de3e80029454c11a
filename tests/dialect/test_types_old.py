"""The contract of the types on ClickHouse 18.16: the tests are those of test_types.py, on the types that it knows."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import uuid
from collections.abc import Iterator
from typing import Final

import pytest
import sqlalchemy as sa
from hypothesis import strategies as st

from tests.dialect import test_types as contract
from tests.dialect.type_table import CASES, Case
from tests.servers import OldServer

_KNOWN: Final = {
    *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)),
    *("Float32", "Float64", "String", "FixedString", "Date", "DateTime", "UUID", "Enum8", "Enum16"),
    *("Array", "Nullable", "LowCardinality"),
}
# What its SQL does not know: days after 2105, which it takes for days of 1970, and fractions of a second (an error).
_VALUES: Final = {
    "Date": st.dates(dt.date(1970, 1, 1), dt.date(2105, 12, 31)),
    "DateTime": st.datetimes(dt.datetime(1970, 1, 2), dt.datetime(2105, 12, 30), timezones=st.just(dt.UTC)).map(
        lambda moment: moment.replace(microsecond=0)
    ),
}
OLD: Final = [
    dataclasses.replace(case, values=_VALUES.get(case.type_name, case.values))
    for case in CASES
    if set(re.findall(r"[A-Z]\w+(?![^']*'\s*=)", case.type_name)) <= _KNOWN
    # Its answer to an empty one is no answer of the protocol: the line is lost, with an error.
    and case.type_name != "Array(LowCardinality(String))"
]
BOUND: Final = [case for case in OLD if case.comparable or case.bound]


@pytest.fixture(scope="module")
def engine(old_server: OldServer) -> Iterator[sa.Engine]:
    engine = sa.create_engine(old_server.url("chnative"))
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def types_database(engine: sa.Engine) -> Iterator[str]:
    name = f"types_{uuid.uuid4().hex[:8]}"
    with engine.connect() as connection:
        connection.execute(sa.schema.CreateSchema(name))
        yield name
        connection.execute(sa.schema.DropSchema(name))


@pytest.mark.parametrize("case", OLD, ids=lambda case: case.type_name)
def test_what_goes_in_comes_back(engine: sa.Engine, types_database: str, case: Case) -> None:
    contract.test_what_goes_in_comes_back(engine, types_database, case)


@pytest.mark.parametrize("case", BOUND, ids=lambda case: case.type_name)
def test_a_bound_value_comes_back(engine: sa.Engine, case: Case) -> None:
    contract.test_a_bound_value_comes_back(engine, case)
