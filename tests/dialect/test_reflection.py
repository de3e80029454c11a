"""Reflection: what the database has comes back as objects that make the same again."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa

from netra_chdb.dialect import Memory, MergeTree
from netra_chdb.dialect.table_engines import Verbatim
from netra_chdb.dialect.type_parser import parse_type
from tests.dialect.type_table import CASES, CREATION


def definition(connection: sa.Connection, database: str, name: str) -> tuple[str, set[str]]:
    """The server's own CREATE statement without its name, and its skip indexes, which have no order."""
    text = sa.text("SELECT create_table_query FROM system.tables WHERE database = :database AND name = :name")
    query = str(connection.execute(text, {"database": database, "name": name}).scalar_one())
    query = query.removeprefix(f"CREATE TABLE {database}.{name} ")
    indexes = set(re.findall(r", (INDEX \S+ .*? GRANULARITY \d+)(?=[,)])", query))
    for index in indexes:
        query = query.replace(f", {index}", "")
    return query, indexes


TABLE = """
CREATE TABLE {database}.t (
    id UInt64,
    `odd, (name` String DEFAULT 'a:b' COMMENT 'it''s 100%',
    ts DateTime64(6, 'Europe/Berlin') CODEC(DoubleDelta, ZSTD(1)),
    ver UInt32,
    s LowCardinality(Nullable(String)),
    tup Tuple(a Int8, `b c` Map(String, Array(Nullable(Decimal(9, 2))))),
    m UInt8 MATERIALIZED id % 2,
    al String ALIAS concat(`odd, (name`, ':x'),
    old String TTL toDateTime(ts) + INTERVAL 1 DAY,
    INDEX i1 ts TYPE minmax GRANULARITY 2,
    INDEX i2 (id, ver) TYPE set(100) GRANULARITY 1,
    INDEX i3 lower(`odd, (name`) TYPE bloom_filter(0.01) GRANULARITY 3
) ENGINE = ReplacingMergeTree(ver)
PARTITION BY (toYYYYMM(ts), id % 3) PRIMARY KEY id ORDER BY (id, ts, cityHash64(id))
TTL toDateTime(ts) + INTERVAL 30 DAY DELETE WHERE s = ' ORDER BY x', toDateTime(ts) + INTERVAL 10 DAY RECOMPRESS
    CODEC(ZSTD(3))
SETTINGS index_granularity = 4096, non_replicated_deduplication_window = 100,
    ratio_of_defaults_for_sparse_serialization = 0.5, storage_policy = 'default'
COMMENT 'table: :x 100%'
"""

OTHERS = (
    "MergeTree ORDER BY tuple()",
    "MergeTree PARTITION BY s ORDER BY (id, s)",
    "MergeTree ORDER BY (intHash32(id), id) SAMPLE BY intHash32(id)",
    "MergeTree ORDER BY (id, s) PRIMARY KEY id TTL t + toIntervalDay(1)",
    "AggregatingMergeTree ORDER BY id",
    "SummingMergeTree(v) ORDER BY id",
    "SummingMergeTree((v, w)) ORDER BY id",
    "ReplacingMergeTree ORDER BY id",
    "CollapsingMergeTree(sign) ORDER BY id SETTINGS index_granularity = 100",
    "Memory",
    "Memory SETTINGS max_rows_to_keep = 10, min_rows_to_keep = 1",
    "Null",
    "Log",
    "Buffer('default', 'b', 1, 1, 1, 1, 1, 1, 1)",
)


def again(connection: sa.Connection, database: str, name: str) -> tuple[sa.Table, str]:
    """Reflect a table and create it once more beside itself."""
    table = sa.Table(name, sa.MetaData(), schema=database, autoload_with=connection)
    copy = f"{name}_again"
    table.name = copy
    table.create(connection)
    return table, copy


def test_a_table_is_made_again_as_it_was(engine: sa.Engine, database: str) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(TABLE.format(database=database))
        _, copy = again(connection, database, "t")
        assert definition(connection, database, copy) == definition(connection, database, "t")


def test_every_table_engine_is_made_again(engine: sa.Engine, database: str) -> None:
    with engine.connect() as connection:
        for number, text in enumerate(OTHERS):
            connection.exec_driver_sql(
                f"CREATE TABLE {database}.t{number} (id UInt64, s String, t DateTime, v Int64, w Int64, sign Int8) "
                f"ENGINE = {text}"
            )
            table, copy = again(connection, database, f"t{number}")
            assert definition(connection, database, copy) == definition(connection, database, f"t{number}"), text
            assert table.engine is not None  # type: ignore[attr-defined]


def test_a_known_engine_is_an_object_and_any_other_stands_as_text(engine: sa.Engine, database: str) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {database}.a (x Int8) ENGINE = MergeTree ORDER BY x")
        connection.exec_driver_sql(f"CREATE TABLE {database}.b (x Int8) ENGINE = Log")
        found = [sa.Table(name, sa.MetaData(), schema=database, autoload_with=connection) for name in "ab"]
    merge_tree, log = (table.engine for table in found)  # type: ignore[attr-defined]
    assert isinstance(merge_tree, MergeTree)
    assert merge_tree.order_by.get_expressions_or_columns() == [found[0].c.x]
    assert isinstance(log, Verbatim)


def test_every_type_is_reflected_and_made_again(engine: sa.Engine, database: str) -> None:
    names = [case.type_name for case in CASES] + ["AggregateFunction(quantilesExact(0.5, 0.95), Float64)"]
    columns = [sa.Column(f"c{number}", parse_type(name), nullable=False) for number, name in enumerate(names)]
    table = sa.Table("t", sa.MetaData(), *columns, Memory(), schema=database)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
        allowed = connection.execution_options(settings=CREATION)
        allowed.execute(sa.schema.CreateTable(table))
        stored = sa.text("SELECT type FROM system.columns WHERE database = :d AND table = 't' ORDER BY position")
        for wanted, found in zip(names, connection.execute(stored, {"d": database}).scalars(), strict=True):
            assert found.replace("`", "") == wanted.replace("`", "")
        reflected = sa.Table("t", sa.MetaData(), schema=database, autoload_with=connection)
        for column, reflected_column in zip(columns, reflected.c, strict=True):
            assert reflected_column.type._static_cache_key == column.type._static_cache_key
            assert not isinstance(reflected_column.type, sa.types.NullType)
        reflected.name = "again"
        allowed.execute(sa.schema.CreateTable(reflected))
        assert definition(connection, database, "again") == definition(connection, database, "t")


def test_what_is_not_there_is_said_so(engine: sa.Engine, database: str) -> None:
    inspector = sa.inspect(engine)
    assert not inspector.has_table("nothing", schema=database)
    for ask in (inspector.get_columns, inspector.get_pk_constraint, inspector.get_table_comment):
        with pytest.raises(sa.exc.NoSuchTableError, match="nothing"):
            ask("nothing", schema=database)


def test_odd_names_are_reflected(engine: sa.Engine, database: str) -> None:
    odd = 'it\'s `odd` \\ 100% "ü" :x (a, b)'
    table = sa.Table(odd, sa.MetaData(), sa.Column(odd, sa.Integer), MergeTree(order_by=odd), schema=database)
    with engine.connect() as connection:
        table.create(connection)
        assert sa.inspect(connection).get_table_names(database) == [odd]
        reflected = sa.Table(odd, sa.MetaData(), schema=database, autoload_with=connection)
        assert [column.name for column in reflected.primary_key] == [odd]
        connection.execute(reflected.insert(), [{odd: 1}, {odd: 2}])
        connection.execute(reflected.insert().values({odd: 3}))
        found = connection.execute(sa.select(reflected.c[odd]).order_by(reflected.c[odd])).scalars().all()
        assert found == [1, 2, 3]
        reflected.drop(connection)
        assert not sa.inspect(connection).has_table(odd, schema=database)


def test_the_servers_own_tables(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        one = sa.Table("one", sa.MetaData(), schema="system", autoload_with=connection)
        assert [(column.name, str(column.type)) for column in one.c] == [("dummy", "UInt8")]
        assert [tuple(row) for row in connection.execute(sa.select(one))] == [(0,)]
        listed = sa.Table("columns", sa.MetaData(), schema="system", autoload_with=connection)
        described = connection.exec_driver_sql("DESCRIBE TABLE system.columns").all()
        assert [column.name for column in listed.c] == [row[0] for row in described]
        with pytest.raises(sa.exc.CompileError, match=r"system\.one .* server's own"):
            one.create(connection)


def test_a_table_of_a_table_function_cannot_be_made_again(engine: sa.Engine, database: str) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {database}.ten AS numbers(10)")
        connection.exec_driver_sql(f"CREATE TABLE {database}.plain (n Int8) ENGINE = Memory")
        with pytest.raises(sa.exc.UnreflectableTableError, match=r"ten was made AS a table function"):
            sa.Table("ten", sa.MetaData(schema=database), autoload_with=connection)
        metadata = sa.MetaData(schema=database)
        with pytest.warns(sa.exc.SAWarning, match="Skipping table ten"):
            metadata.reflect(connection)
        assert list(metadata.tables) == [f"{database}.plain"]
        assert [column["name"] for column in sa.inspect(connection).get_columns("ten", database)] == ["number"]
