"""Descriptions: the server's statement taken apart, compared, and put together again; odd names and texts included."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import netra_chdb.dialect as ch
from netra_chdb.dialect.chdb import ChdbDialect
from netra_chdb.dialect.create_query import read_create_query, split_clauses
from netra_chdb.dialect.description import Description, Difference, compare, describe, differences
from netra_chdb.dialect.sql_fragments import fragment
from netra_chdb.dialect.table_engines import read_clauses

#: Characters that quoting, splitting, parameters and formatting could stumble over.
ODD = st.text(alphabet="aZ1_ '\"`\\:%,;()[]\n\té漢", min_size=1, max_size=10)
#: A database's or table's name is also a file's; brackets are SQLAlchemy's own in a schema that is translated.
NAMES = st.text(alphabet="aZ1_ '\"`:%,;()é", min_size=1, max_size=10)
WORDS = st.sampled_from(["INDEX", "CONSTRAINT", "PROJECTION", "AS", "ENGINE", "TO", "COMMENT", "select", "a.b", "t"])


@given(ODD)
def test_what_the_server_wrote_is_rendered_as_it_was(text: str) -> None:
    assert str(fragment(text).compile(dialect=ChdbDialect())) == text.replace("%", "%%")


def test_keywords_in_quotes_and_brackets_are_no_clauses() -> None:
    head, clauses = read_clauses(
        "MergeTree PARTITION BY (a, ' ORDER BY x') ORDER BY (`SAMPLE BY b`, c) TTL d + toIntervalDay(1) "
        "DELETE WHERE e = ' SETTINGS f' SETTINGS storage_policy = ' TTL g'"
    )
    assert head == "MergeTree"
    assert clauses == {
        "PARTITION BY": "(a, ' ORDER BY x')",
        "ORDER BY": "(`SAMPLE BY b`, c)",
        "TTL": "d + toIntervalDay(1) DELETE WHERE e = ' SETTINGS f'",
        "SETTINGS": "storage_policy = ' TTL g'",
    }


def test_a_create_statement_is_taken_apart() -> None:
    query = read_create_query(
        "CREATE TABLE `a (b`.`t TO x` (`a` Int8 COMMENT ') INDEX', `INDEX` Array(Int8) DEFAULT [1, 2], "
        "INDEX `i, j` (a, b) TYPE set(10) GRANULARITY 1, CONSTRAINT c CHECK (a > 0) AND (a != ')'), "
        "PROJECTION p (SELECT a AS x ORDER BY a)) ENGINE = MergeTree ORDER BY a COMMENT 'x (y) AS z'"
    )
    assert query.columns == {"a": "Int8 COMMENT ') INDEX'", "INDEX": "Array(Int8) DEFAULT [1, 2]"}
    assert query.indexes == {"i, j": "(a, b) TYPE set(10) GRANULARITY 1"}
    assert query.constraints == {"c": "CHECK (a > 0) AND (a != ')')"}
    assert query.projections == {"p": "(SELECT a AS x ORDER BY a)"}
    assert query.clauses == "ENGINE = MergeTree ORDER BY a COMMENT 'x (y) AS z'"
    assert query.target == ""
    view = read_create_query(
        "CREATE MATERIALIZED VIEW d.v REFRESH EVERY 1 HOUR TO d.`t (`(`a` Int8) AS SELECT (1) AS a"
    )
    assert (view.target, view.is_refreshed) == ("d.`t (`", True)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_odd_names_and_texts_survive(embedded: sa.Engine, data: st.DataObject) -> None:
    database = f"test_{uuid.uuid4().hex[:12]} {data.draw(NAMES, 'database')}"
    names = data.draw(st.lists(ODD | WORDS, min_size=6, max_size=6, unique_by=str.lower), "names")
    text, name = data.draw(ODD, "text"), data.draw(NAMES | WORDS, "table")
    metadata = sa.MetaData(schema=database)
    a, b, index, check, assumed, projection = names
    table = sa.Table(
        name,
        metadata,
        sa.Column(a, ch.String, primary_key=True, comment=text, server_default=text),
        sa.Column(b, ch.Enum8(text, "other"), nullable=False, clickhouse_ttl=sa.text("day + 1")),
        sa.Column("day", ch.Date, nullable=False),
        sa.Column("plain", ch.String, nullable=False, clickhouse_materialized=sa.func.concat(sa.literal(text), "x")),
        sa.CheckConstraint(sa.column("plain") != text, name=check),
        sa.CheckConstraint(sa.func.lower(sa.column(a)) != text, name=assumed, clickhouse_assume=True),
        ch.Projection(projection, sa.select(sa.column(a), sa.literal(text).label(f"{a}+")).order_by(sa.column(a))),
        ch.MergeTree(order_by=[a, sa.func.concat(sa.column("plain"), text)], primary_key=a),
        comment=text,
    )
    sa.Index(index, table.c[a], sa.func.concat(table.c[b], text), clickhouse_type="minmax")
    ch.View(f"v {name}", metadata, sa.select(table.c[a].label(text)).where(table.c[a] != text), comment=text)
    with embedded.connect() as connection:
        connection.execute(sa.schema.CreateSchema(database))
        try:
            metadata.create_all(connection)
            made = describe(connection, database)
            assert compare(connection, metadata) == []
            reflected = sa.MetaData()
            reflected.reflect(connection, schema=database)
            ch.reflect_views(reflected, connection, database)
            found = reflected.tables[f"{database}.{name}"]
            assert found.comment == found.c[a].comment == text
            metadata.drop_all(connection)
            reflected.create_all(connection)
            assert describe(connection, database) == made
        finally:
            connection.execute(sa.schema.DropSchema(database))


def one(**options: Any) -> Description:
    columns = options.pop("columns", ("a", "b"))
    parts = {("column", column): "Int8" for column in columns}
    return Description("d.t", options.pop("kind", "table"), columns, parts | options.pop("parts", {}))


def test_each_difference_is_named_alone() -> None:
    wanted = one()
    assert list(differences(wanted, wanted)) == []
    assert list(differences(wanted, one(columns=("b", "a")))) == [
        Difference("d.t", "order of columns", "", "a, b", "b, a")
    ]
    # A column more or less moves others: that is not said twice.
    assert list(differences(wanted, one(columns=("x", "a", "b")))) == [Difference("d.t", "column", "x", None, "Int8")]
    assert list(differences(wanted, one(kind="view"))) == [Difference("d.t", "kind", "", "table", "view")]
    (changed,) = differences(wanted, one(parts={("column", "a"): "Int16"}))
    assert str(changed) == "d.t: column a is Int16, the model has Int8"
    (missing,) = differences(one(parts={("comment", ""): "'c'"}), wanted)
    assert str(missing) == "d.t: comment is missing: 'c'"


def test_whole_tables_and_views(engine: sa.Engine, database: str) -> None:
    metadata = sa.MetaData(schema=database)
    table = sa.Table("t", metadata, sa.Column("a", ch.Int8, primary_key=True))
    ch.View("v", metadata, sa.select(table.c.a))
    with engine.connect() as connection:
        databases = set(sa.inspect(connection).get_schema_names())
        metadata.create_all(connection)
        connection.exec_driver_sql(f"CREATE TABLE {database}.other (a Int8) ENGINE = Log")
        connection.exec_driver_sql(f"DROP TABLE {database}.v")
        found = compare(connection, metadata)
        assert [(one.table, one.what, one.wanted is None) for one in found] == [
            (f"{database}.v", "view", False),
            (f"{database}.other", "table", True),
        ]
        assert compare(connection, metadata, ignore=[f"{database}.other", f"{database}.v"]) == found[:1]
        # A view that is missing is made, though its tables are there.
        metadata.create_all(connection)
        assert compare(connection, metadata, ignore=[f"{database}.other"]) == []
        # A model that cannot be made leaves nothing behind.
        sa.Table("wrong", metadata, sa.Column("a", ch.Int8), ch.MergeTree(order_by=sa.text("nothing")))
        with pytest.raises(sa.exc.DBAPIError, match="nothing"):
            compare(connection, metadata)
        after = {name for name in sa.inspect(connection).get_schema_names() if name.startswith("compare_")}
        assert after <= databases


def test_a_replicated_table_is_described_as_a_replica_of_its_own() -> None:
    from netra_chdb.dialect.description import _statements

    table = sa.Table(
        "t",
        sa.MetaData(schema="d"),
        sa.Column("a", ch.Int8, primary_key=True),
        ch.ReplicatedMergeTree("/clickhouse/tables/{shard}/t", "{replica}", order_by="a"),
    )
    create, *_ = _statements(table, "compare_1")
    assert "('/clickhouse/tables/{shard}/t/compare_1', '{replica}')" in str(create.compile(dialect=ChdbDialect()))
    create, *_ = [sa.schema.CreateTable(table)]
    assert "('/clickhouse/tables/{shard}/t', '{replica}')" in str(create.compile(dialect=ChdbDialect()))


def test_a_view_without_a_table_is_not_reflected(engine: sa.Engine, database: str) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE TABLE {database}.t (a Int8) ENGINE = MergeTree ORDER BY a")
        connection.exec_driver_sql(
            f"CREATE MATERIALIZED VIEW {database}.mv ENGINE = MergeTree ORDER BY a AS SELECT a FROM {database}.t"
        )
        with pytest.raises(sa.exc.UnreflectableTableError, match=database):
            ch.reflect_views(sa.MetaData(), connection, database)


def test_split_clauses_without_clauses() -> None:
    assert split_clauses("nothing here", re.compile(r"\s(TTL)\b")) == ("nothing here", {})
