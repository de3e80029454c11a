"""A change of type that loses values is refused like a column that is dropped; one that loses none is not."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from netra_chdb import create_engine
from netra_chdb.errors import SchemaMismatch
from netra_chdb.migrations.losses import Losses
from netra_chdb.migrations.narrowing import lost
from tests.migrations.conftest import DATABASE, Site

LOSES = [
    ("Enum8('a' = 1, 'b' = 2)", "Enum8('a' = 1)", "rows that hold 'b'"),
    ("UInt64", "UInt8", "out of UInt8's range"),
    ("Int8", "UInt64", "range"),
    ("UInt32", "Int32", "range"),
    ("UInt32", "Float32", "digits"),
    ("Int64", "Float64", "digits"),
    ("UInt64", "Decimal(18, 2)", "digits"),
    ("Float64", "Float32", "digits"),
    ("Float64", "Int64", "digits"),
    ("Float64", "Decimal(18, 4)", "digits"),
    ("Decimal(10, 4)", "Decimal(10, 2)", "digits"),
    ("Decimal(10, 4)", "Decimal(10, 5)", "digits"),
    ("Decimal(10, 4)", "Float64", "digits"),
    ("Decimal(10, 4)", "Int64", "digits"),
    ("FixedString(4)", "FixedString(3)", "longer than 3 bytes"),
    ("String", "FixedString(3)", "no FixedString"),
    ("String", "UInt8", "no UInt8"),
    ("String", "Enum8('a' = 1)", "no Enum8"),
    ("DateTime64(6)", "DateTime64(3)", "behind the first 3"),
    ("DateTime64(3, 'UTC')", "DateTime('UTC')", "behind the first 0"),
    ("DateTime", "Date", "time of day"),
    ("Date", "DateTime", "days"),
    ("Date32", "Date", "days"),
    ("Nullable(UInt8)", "UInt8", "NULLs"),
    ("Nullable(UInt16)", "Nullable(UInt8)", "range"),
    ("LowCardinality(String)", "UInt8", "no UInt8"),
    ("Array(UInt16)", "Array(UInt8)", "range"),
    ("Map(String, UInt16)", "Map(String, UInt8)", "range"),
    ("Tuple(a UInt16, b UInt8)", "Tuple(a UInt8, b UInt8)", "range"),
    ("Tuple(a UInt16, b UInt8)", "Tuple(a UInt16)", "elements"),
    ("UInt8", "Bool", "other than 0 and 1"),
    ("UUID", "UInt64", "does not take"),
]
KEEPS = [
    ("Enum8('a' = 1)", "Enum8('a' = 1, 'b' = 2)"),
    ("Enum8('a' = 1)", "Enum16('a' = 1)"),
    ("Enum8('a' = 1)", "String"),
    ("Enum8('a' = 1)", "Int8"),
    ("UInt8", "UInt16"),
    ("UInt8", "Int16"),
    ("UInt16", "Float32"),
    ("UInt8", "Decimal(5, 2)"),
    ("Float32", "Float64"),
    ("Decimal(10, 4)", "Decimal(18, 4)"),
    ("Decimal(9, 0)", "Int64"),
    ("UInt64", "String"),
    ("FixedString(3)", "FixedString(4)"),
    ("FixedString(3)", "String"),
    ("String", "LowCardinality(String)"),
    ("LowCardinality(Nullable(String))", "Nullable(String)"),
    ("UInt8", "Nullable(UInt8)"),
    ("DateTime", "DateTime64(3)"),
    ("DateTime64(3)", "DateTime64(6)"),
    ("DateTime('UTC')", "DateTime('Europe/Berlin')"),
    ("Date", "Date32"),
    ("Array(UInt8)", "Array(UInt16)"),
    ("Tuple(a UInt8)", "Tuple(a UInt16)"),
    ("UInt8", "Variant(String, UInt8)"),
    ("Bool", "UInt8"),
    ("SimpleAggregateFunction(sum, UInt32)", "SimpleAggregateFunction(sum, UInt64)"),
]


@pytest.mark.parametrize(("old", "new", "what"), LOSES)
def test_what_another_type_does_not_take_is_named(old: str, new: str, what: str) -> None:
    assert what in (lost(old, new) or "nothing")


@pytest.mark.parametrize(("old", "new"), KEEPS)
def test_a_type_that_takes_every_value_is_let_through(old: str, new: str) -> None:
    assert lost(old, new) is None


EDGES = {
    "Bool": "false, true",
    "Date": "'1970-01-01', '2149-06-06'",
    "DateTime": "'1970-01-01 00:00:00', '2106-02-07 06:28:15'",
    "DateTime64(3)": "'1900-01-01 00:00:00.000', '2262-04-11 23:47:16.854'",
    "String": "'', 'abc'",
    "Float32": "0.1, 16777215",
    "Decimal(10, 4)": "-999999.9999, 999999.9999",
    "Decimal(9, 0)": "-999999999, 999999999",
    "Enum8('a' = 1)": "'a'",
    "UInt8": "0, 255",
    "UInt16": "0, 65535",
}


@pytest.mark.parametrize(("old", "new"), [pair for pair in KEEPS if pair[0] in EDGES])
def test_the_server_keeps_the_outermost_values(site: Site, old: str, new: str) -> None:
    """There and back, each of them is what it was: the server says so, not this table of types."""
    values = [f"CAST({value} AS {old})" for value in EDGES[old].split(", ")]
    same = ", ".join(f"CAST(CAST({value} AS {new}) AS {old}) = {value}" for value in values)
    found = site.server.query(f"SELECT arrayMin([{same}])")
    assert found == "1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "MODIFY COLUMN e Enum('a')",
            r"t\.e becomes Enum8\('a' = 1\) from .*rows that hold 'b', which can be read no more",
        ),
        ("modify column if exists `n` UInt8 DEFAULT 1", r"t\.n becomes UInt8 from UInt64"),
        ("ADD COLUMN x String, ALTER COLUMN n TYPE UInt8", r"t\.n becomes UInt8 from UInt64"),
        ("MODIFY COLUMN e String, MODIFY COLUMN n UInt16 NULL FIRST", r"t\.n becomes Nullable\(UInt16\) from UInt64"),
    ],
)
def test_a_narrower_type_is_refused_before_anything_runs(site: Site, change: str, said: str) -> None:
    columns = "k UInt8, n UInt64, e Enum8('a', 'b')"
    site.history.add(
        "a", f'op.run_sql("CREATE TABLE {DATABASE}.t ({columns}) ENGINE = MergeTree ORDER BY k")\n' + INSERT
    )
    site.history.add("b", f'op.run_sql("CREATE TABLE {DATABASE}.u (n Int8) ENGINE = Memory")\n{alter(change)}')
    site.upgrade("a")
    with pytest.raises(SchemaMismatch, match=rf"would lose data for good: {said}.*-x allow-destructive"):
        site.upgrade()
    assert "u" not in site.tables()
    assert site.server.query(f"SELECT n, e FROM {DATABASE}.t") == "300\tb"


INSERT = f"op.run_sql(\"INSERT INTO {DATABASE}.t VALUES (1, 300, 'b')\")"


def alter(change: str) -> str:
    return f'op.alter_table("t", "{change}", schema=database)'


def test_types_are_followed_through_the_statements_of_a_run(site: Site) -> None:
    site.history.add("a", f'op.run_sql("CREATE TABLE {DATABASE}.t (k UInt8) ENGINE = MergeTree ORDER BY k")')
    site.upgrade()
    with site.engine.connect() as connection:
        losses = Losses(connection, DATABASE)
        statements = [
            "ADD COLUMN c UInt8",
            "MODIFY COLUMN c UInt32",
            "MODIFY COLUMN c COMMENT 'x'",
            "MODIFY COLUMN c UInt16",
        ]
        found = [list(losses.find(f"ALTER TABLE {DATABASE}.t {change}")) for change in statements]
    assert found[:3] == [[], [], []]
    assert "t.c becomes UInt16 from UInt32" in found[3][0]


def test_a_number_that_has_lost_its_name_is_an_error_of_the_driver(site: Site) -> None:
    """Allowed for once, or done by somebody else: who reads it is told what happened."""
    columns = "k UInt8, e Enum8('a', 'b'), f Nullable(Enum8('a', 'b'))"
    site.server.query(f"CREATE DATABASE {DATABASE}")
    site.server.query(f"CREATE TABLE {DATABASE}.t ({columns}) ENGINE = MergeTree ORDER BY k")
    site.server.query(f"INSERT INTO {DATABASE}.t VALUES (1, 'a', NULL), (2, 'b', 'b')")
    for column in ("e Enum8('a')", "f Nullable(Enum8('a'))"):
        site.server.query(f"ALTER TABLE {DATABASE}.t MODIFY COLUMN {column}")
    engine = create_engine(sa.make_url(site.server.url("chnative")))
    for column in ("e", "f"):
        with engine.connect() as connection:
            first = connection.exec_driver_sql(f"SELECT {column} FROM {DATABASE}.t WHERE k = 1").scalar()
            assert first == {"e": "a", "f": None}[column]
            with pytest.raises(sa.exc.InterfaceError, match=r"2 is the number of no name in Enum8\('a' = 1\)"):
                connection.exec_driver_sql(f"SELECT {column} FROM {DATABASE}.t").all()
    engine.dispose()
