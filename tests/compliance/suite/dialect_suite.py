"""SQLAlchemy's suite for dialects from other packages, with the tests whose very statements are no ClickHouse.

A class here replaces SQLAlchemy's of the same name.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa
from sqlalchemy import event, orm, testing
from sqlalchemy.testing import config
from sqlalchemy.testing import suite as sqlalchemy_suite
from sqlalchemy.testing.assertions import eq_, expect_raises_message
from sqlalchemy.testing.suite import *  # noqa: F403

from netra_chdb.dialect import unwrap


class _LeavesOut:
    """Skips single tests: a part of their name, and why."""

    LEFT_OUT: ClassVar[dict[str, str]]

    @pytest.fixture(autouse=True)
    def _left_out(self, request: pytest.FixtureRequest) -> None:
        for part, reason in self.LEFT_OUT.items():
            if part in request.node.name:
                pytest.skip(reason)


# What comes back is aware: a naive time means UTC.


class _Aware:
    compare: Any

    def test_select_direct(self, connection: Any) -> None:
        eq_(connection.scalar(sa.select(sa.literal(self.data))), self.compare)


class DateTimeTest(_Aware, sqlalchemy_suite.DateTimeTest):
    compare = sqlalchemy_suite.DateTimeTest.data.replace(tzinfo=dt.UTC)


class DateTimeMicrosecondsTest(_Aware, sqlalchemy_suite.DateTimeMicrosecondsTest):
    compare = sqlalchemy_suite.DateTimeMicrosecondsTest.data.replace(tzinfo=dt.UTC)


class RowFetchTest(sqlalchemy_suite.RowFetchTest):
    def test_row_w_scalar_select(self, connection: Any) -> None:
        dates = self.tables.has_dates
        scalar = sa.select(dates.alias("x").c.today).scalar_subquery()
        row = connection.execute(sa.select(dates.c.id, scalar.label("somelabel"))).first()
        eq_(row.somelabel, dt.datetime(2006, 5, 12, 12, tzinfo=dt.UTC))


class AutocommitIsolationTest(sqlalchemy_suite.AutocommitIsolationTest):
    # There is one level; SQLAlchemy's class goes back to another in between.
    def _test_conn_autocommits(self, conn: Any, autocommit: bool, ensure_table: bool = False) -> None:
        super()._test_conn_autocommits(conn, True, ensure_table)


class IsolationLevelTest(_LeavesOut, sqlalchemy_suite.IsolationLevelTest):
    LEFT_OUT = {"user_setting_is_restored": "takes a second level, and AUTOCOMMIT is the only one"}


class ArgSignatureTest(sqlalchemy_suite.ArgSignatureTest):
    def test_all_visit_methods_accept_kw(self, all_subclasses: Any) -> None:
        # The classes of clickhouse-sqlalchemy are there to be inherited from, and some of their methods do not.
        if not all_subclasses.__module__.startswith("clickhouse_sqlalchemy."):
            super().test_all_visit_methods_accept_kw(all_subclasses)


class ArrayTest(_LeavesOut, sqlalchemy_suite.ArrayTest):
    LEFT_OUT = {
        "test_literal_simple": "looks for NULL; see test_literal",
        "test_literal_complex": "looks for NULL; see test_literal",
    }

    # An Array cannot be NULL: what is stored for one is empty, where SQLAlchemy's tests look for it.
    @testing.combinations(
        (sa.ARRAY(sa.Integer), [1, 2, 3]),
        (sa.ARRAY(sa.String, dimensions=2), [["one", "two"], ["thr'ee", "réve🐍 illé"]]),
        argnames="type_, value",
    )
    def test_literal(self, connection: Any, metadata: Any, type_: Any, value: Any) -> None:
        table = sa.Table("t", metadata, sa.Column("x", type_))
        table.create(connection)
        connection.execute(table.insert().values(x=sa.literal(value, type_, literal_execute=True)))
        eq_(connection.scalars(sa.select(table.c.x)).all(), [value])


class ComputedColumnTest(sqlalchemy_suite.ComputedColumnTest):
    def test_select_all(self) -> None:
        # An asterisk leaves computed columns out until it is told to take them in.
        settings = {"asterisk_include_materialized_columns": 1, "asterisk_include_alias_columns": 1}
        with config.db.connect().execution_options(settings=settings) as connection:
            square = self.tables.square
            found = connection.execute(sa.select(sa.text("*")).select_from(square).order_by(square.c.id)).fetchall()
            eq_(found, [(1, 10, 100, 40), (10, 42, 1764, 168)])


class JSONLegacyStringCastIndexTest(sqlalchemy_suite.JSONLegacyStringCastIndexTest):
    def _test_index_criteria(self, crit: Any, expected: Any, test_literal: bool = True) -> None:
        # SQLAlchemy's own also runs the text alone, without the SETTINGS under which a CAST keeps a NULL.
        super()._test_index_criteria(crit, expected, test_literal=False)


class JSONTest(_LeavesOut, sqlalchemy_suite.JSONTest):
    LEFT_OUT = {"_decimal1": "a number in a JSON document is a Float64 to ClickHouse"}

    def test_eval_none_flag_orm(self, connection: Any) -> None:
        # As SQLAlchemy's, with the ids that no ClickHouse would make.
        table = self.tables.data_table

        class Data(orm.declarative_base()):
            __table__ = table

        with orm.Session(connection) as session:
            session.add(Data(id=1, name="d1", data=None, nulldata=None))
            session.commit()
            session.bulk_insert_mappings(Data, [{"id": 2, "name": "d2", "data": None, "nulldata": None}])
            texts = session.query(sa.cast(table.c.data, sa.String), sa.cast(table.c.nulldata, sa.String))
            for name in ("d1", "d2"):
                eq_(texts.filter(table.c.name == name).first(), ("null", None))


class TrueDivTest(_LeavesOut, sqlalchemy_suite.TrueDivTest):
    LEFT_OUT = {
        "numeric_many_decimals": "a number in SQL text is a Float64 before it is cast to a Decimal",
        "numeric_tiny_divisor": "ClickHouse divides a Decimal128 in 128 bits, and says so when they do not suffice",
    }


class ReturningGuardsTest(sqlalchemy_suite.ReturningGuardsTest):
    @testing.fixture
    def run_stmt(self, connection: Any) -> Any:
        # Refused when it is compiled; SQLAlchemy's own would let the server do it.
        def go(stmt: Any, executemany: bool, id_param_name: str, expect_success: bool) -> None:
            row = {id_param_name: 1, "data": "d1"}
            with expect_raises_message(sa.exc.CompileError, "ClickHouse has no RETURNING"):
                connection.execute(stmt.returning(self.tables.t.c.id), [row, row] if executemany else row)

        return go


class ServerSideCursorsTest(_LeavesOut, sqlalchemy_suite.ServerSideCursorsTest):
    LEFT_OUT = {"for_update": "ClickHouse has no SELECT ... FOR UPDATE"}

    def _is_server_side(self, cursor: Any) -> bool:
        return bool(cursor.server_side)

    # As SQLAlchemy's, with the ids that no ClickHouse would make.

    def test_roundtrip_fetchall(self, metadata: Any) -> None:
        with self._filled(metadata, 2) as (connection, table):
            rows = sa.select(table).order_by(table.c.id)
            eq_(connection.execute(rows).fetchall(), [(1, "data1"), (2, "data2")])
            connection.execute(table.update().where(table.c.id == 2).values(data=table.c.data + " updated"))
            eq_(connection.execute(rows).fetchall(), [(1, "data1"), (2, "data2 updated")])
            connection.execute(table.delete())
            eq_(connection.scalar(sa.select(sa.func.count("*")).select_from(table)), 0)

    def test_roundtrip_fetchmany(self, metadata: Any) -> None:
        with self._filled(metadata, 19) as (connection, table):
            result = connection.execute(sa.select(table).order_by(table.c.id))
            eq_(result.fetchmany(5), [(number, f"data{number}") for number in range(1, 6)])
            eq_(result.fetchmany(10), [(number, f"data{number}") for number in range(6, 16)])
            eq_(result.fetchall(), [(number, f"data{number}") for number in range(16, 20)])

    @contextlib.contextmanager
    def _filled(self, metadata: Any, count: int) -> Iterator[Any]:
        engine = self._fixture(True)
        columns = sa.Column("id", sa.Integer, primary_key=True), sa.Column("data", sa.String(50))
        table = sa.Table("test_table", metadata, *columns)
        with engine.begin() as connection:
            table.create(connection, checkfirst=True)
            connection.execute(table.insert(), [{"id": n, "data": f"data{n}"} for n in range(1, count + 1)])
            yield connection, table


class ComponentReflectionTest(sqlalchemy_suite.ComponentReflectionTest):
    @classmethod
    def define_views(cls, metadata: Any, schema: str | None) -> None:
        # SQLAlchemy's own, but that a materialized view says where it keeps its rows, and is dropped like any view.
        prefix = f"{schema}." if schema else ""
        for name in ("users", "email_addresses", "dingalings"):
            kind, engine = "VIEW", ""
            if name == "dingalings":
                kind, engine = "MATERIALIZED VIEW", " ENGINE = MergeTree ORDER BY dingaling_id"
            create = f"CREATE {kind} {prefix}{name}_v{engine} AS SELECT * FROM {prefix}{name}"
            event.listen(metadata, "after_create", sa.DDL(create))
            event.listen(metadata, "before_drop", sa.DDL(f"DROP VIEW {prefix}{name}_v SYNC"))

    def exp_indexes(self, *args: Any, **kw: Any) -> Any:
        expected = super().exp_indexes(*args, **kw)
        for (_, name), indexes in expected.items():
            # An index of a materialized view is its inner table's.
            if name == "dingalings_v":
                indexes.clear()
            for index in indexes:
                index["unique"] = False
        return expected

    @testing.combinations(True, False, argnames="use_views")
    @testing.combinations(True, False, argnames="use_schema")
    def test_get_columns(self, connection: Any, use_views: bool, use_schema: bool) -> None:
        # SQLAlchemy's own asks for the class of each type; here NULL is a type around it.
        inspector = sa.inspect(connection)
        for table in (self.tables.users, self.tables.email_addresses):
            name = f"{table.name}_v" if use_views else table.name
            found = inspector.get_columns(name, schema=config.test_schema if use_schema else None)
            eq_([column["name"] for column in found], [column.name for column in table.columns])
            for column, declared in zip(found, table.columns, strict=True):
                eq_(column["type"]._type_affinity, declared.type._type_affinity)
                eq_(column["default"], None)
                if not use_views:
                    eq_(column["nullable"], declared.nullable)

    @testing.requires.temp_table_reflection
    def test_reflect_table_temp_table(self, connection: Any) -> None:
        # SQLAlchemy's own compares the lengths of strings, too.
        name = self.temp_table_name()
        declared, found = self.tables[name], sa.Table(name, sa.MetaData(), autoload_with=connection)
        eq_(
            [(column.name, column.type._type_affinity, column.primary_key) for column in found.columns],
            [(column.name, column.type._type_affinity, column.primary_key) for column in declared.columns],
        )

    def test_schema_cache(self, connection: Any) -> None:
        # SQLAlchemy's own says CREATE SCHEMA, which is CREATE DATABASE here.
        inspector = sa.inspect(connection)
        eq_((inspector.has_schema("foo_bar"), "foo_bar" in inspector.get_schema_names()), (False, False))
        connection.execute(sa.schema.CreateSchema("foo_bar"))
        try:
            eq_((inspector.has_schema("foo_bar"), "foo_bar" in inspector.get_schema_names()), (False, False))
            inspector.clear_cache()
            eq_((inspector.has_schema("foo_bar"), "foo_bar" in inspector.get_schema_names()), (True, True))
        finally:
            connection.execute(sa.schema.DropSchema("foo_bar"))


class ComponentReflectionTestExtra(_LeavesOut, sqlalchemy_suite.ComponentReflectionTestExtra):
    LEFT_OUT = {"test_string_length_reflection": "a String of ClickHouse's has no length"}

    def _type_round_trip(self, *args: Any) -> Any:
        return [unwrap(type_) for type_ in super()._type_round_trip(*args)]

    def test_reflect_expression_based_indexes(self, metadata: Any, connection: Any) -> None:
        # As SQLAlchemy's own, but that an index has options here: its type and its granularity.
        table = sa.Table("t", metadata, *[sa.Column(name, sa.String(30)) for name in "xyz"])
        text = "long string " * 100
        sa.Index("t_idx", sa.func.lower(table.c.x), table.c.z, sa.func.lower(table.c.y))
        sa.Index("t_idx_long", sa.func.coalesce(table.c.x, text))
        sa.Index("t_idx_2", table.c.x)
        metadata.create_all(connection)
        found = {
            index["name"]: (index["column_names"], index.get("expressions"), index["dialect_options"])
            for index in sa.inspect(connection).get_indexes("t")
        }
        options = {"clickhouse_type": "minmax", "clickhouse_granularity": 1}
        expected = {
            "t_idx": ([None, "z", None], ["lower(x)", "z", "lower(y)"], options),
            "t_idx_long": ([None], [f"coalesce(x, '{text}')"], options),
            "t_idx_2": (["x"], None, options),
        }
        eq_(found, expected)
        reflected = sa.Table("t", sa.MetaData(), autoload_with=connection)
        eq_({index.name for index in reflected.indexes}, set(expected))
