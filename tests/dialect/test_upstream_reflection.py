"""clickhouse-sqlalchemy 0.3.2, trap by trap: what it reflects, and what ours does on every driver."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from clickhouse_sqlalchemy.drivers.base import ClickHouseDialect as StockDialect

from netra_chdb.dialect import String, Tuple
from netra_chdb.dialect import types as ours


def test_the_primary_key_is_that_of_the_database_asked_for(engine: sa.Engine, make_database: Any) -> None:
    schemas = [make_database(engine) for _ in range(2)]
    with engine.connect() as connection:
        for schema, key in zip(schemas, ("a", "b"), strict=True):
            connection.exec_driver_sql(f"CREATE TABLE {schema}.same (a Int8, b Int8) ENGINE = MergeTree ORDER BY {key}")
    inspector = sa.inspect(engine)
    keys = [inspector.get_pk_constraint("same", schema=schema)["constrained_columns"] for schema in schemas]
    assert keys == [["a"], ["b"]]


def test_a_time_zone_is_reflected_without_its_quotes(engine: sa.Engine, database: str) -> None:
    assert StockDialect()._get_column_type("x", "DateTime64(3, 'UTC')").timezone == "'UTC'"
    with engine.connect() as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE {database}.t (a DateTime64(3, 'UTC'), b DateTime('Asia/Tokyo')) ENGINE = Memory"
        )
    types: list[Any] = [column["type"] for column in sa.inspect(engine).get_columns("t", schema=database)]
    assert [type_.timezone for type_ in types] == ["UTC", "Asia/Tokyo"]
    assert [type_.compile(dialect=engine.dialect) for type_ in types] == [
        "DateTime64(3, 'UTC')",
        "DateTime('Asia/Tokyo')",
    ]


def test_a_named_tuple_is_reflected_with_its_names(engine: sa.Engine, database: str) -> None:
    with pytest.warns(sa.exc.SAWarning, match="Did not recognize"):
        assert sa.types.NullType in StockDialect()._get_column_type("x", "Tuple(a Int8, b String)").nested_types
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {database}.t (x Tuple(a Int8, `b c` String)) ENGINE = Memory")
    found = sa.inspect(engine).get_columns("t", schema=database)[0]["type"]
    assert isinstance(found, Tuple)
    assert found.names == ("a", "b c")
    assert [type(inner) for inner in found.nested_types] == [ours.Int8, String]


def test_ttl_settings_codecs_indexes_and_computed_columns_are_reflected(engine: sa.Engine, database: str) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(
            f"CREATE TABLE {database}.t (a UInt64 CODEC(Delta, ZSTD(1)), b UInt64 MATERIALIZED a + 1, c String ALIAS "
            "toString(a), d DateTime, e String TTL d + INTERVAL 1 DAY, INDEX i a TYPE minmax GRANULARITY 3) "
            "ENGINE = MergeTree ORDER BY a TTL d + INTERVAL 2 DAY SETTINGS index_granularity = 100"
        )
        table = sa.Table("t", sa.MetaData(), schema=database, autoload_with=connection)
    options = {column.name: column.dialect_options["clickhouse"] for column in table.c}
    assert options["a"]["codec"].startswith("Delta")
    assert str(options["b"]["materialized"]) == "a + 1"
    assert str(options["c"]["alias"]) == "toString(a)"
    assert str(options["e"]["ttl"]) == "d + toIntervalDay(1)"
    (index,) = table.indexes
    assert dict(index.dialect_options["clickhouse"]) == {"type": "minmax", "granularity": 3}
    merge_tree: Any = table.engine  # type: ignore[attr-defined]
    assert merge_tree.settings["index_granularity"] == 100
    assert [str(part) for part in merge_tree.ttl.get_expressions_or_columns()] == ["d + toIntervalDay(2)"]


def test_a_table_with_a_schema_stays_that_table(engine: sa.Engine, make_database: Any) -> None:
    # Stock registers it again without its schema and then describes the table of that name in another database.
    schemas = [make_database(engine) for _ in range(2)]
    metadata = sa.MetaData()
    with engine.connect() as connection:
        for schema, column in zip(schemas, ("a", "b"), strict=True):
            connection.exec_driver_sql(
                f"CREATE TABLE {schema}.same ({column} Int8) ENGINE = MergeTree ORDER BY {column}"
            )
        tables = [sa.Table("same", metadata, schema=schema, autoload_with=connection) for schema in schemas]
    assert [table.schema for table in tables] == schemas
    assert [list(table.c.keys()) for table in tables] == [["a"], ["b"]]
    assert set(metadata.tables) == {f"{schema}.same" for schema in schemas}
    assert all(metadata.tables[f"{schema}.same"] is table for schema, table in zip(schemas, tables, strict=True))


def test_views_are_told_from_tables_and_have_definitions(engine: sa.Engine, database: str) -> None:
    with engine.connect() as connection:
        for sql in (
            "CREATE TABLE {0}.t (a Int8) ENGINE = MergeTree ORDER BY a",
            "CREATE TABLE {0}.target (a Int8) ENGINE = MergeTree ORDER BY a",
            "CREATE VIEW {0}.v AS SELECT a FROM {0}.t WHERE a > 1",
            "CREATE MATERIALIZED VIEW {0}.mv TO {0}.target AS SELECT a FROM {0}.t",
        ):
            connection.exec_driver_sql(sql.format(database))
    inspector = sa.inspect(engine)
    assert inspector.get_table_names(database) == ["t", "target"]
    assert inspector.get_view_names(database) == ["v"]
    assert inspector.get_materialized_view_names(database) == ["mv"]
    assert inspector.get_view_definition("v", database) == f"SELECT a FROM {database}.t WHERE a > 1"
    view = sa.Table("v", sa.MetaData(), schema=database, autoload_with=engine)
    assert list(view.c.keys()) == ["a"]
