"""Every operation does what it says, and its reverse takes it back; told by the server's own words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import MigrateOperation, Operations
from alembic.runtime.migration import MigrationContext

from netra_chdb import dialect as ch
from netra_chdb.dialect.description import describe


class Recorder(Operations):
    """Alembic's operations, which remember what was invoked."""

    def invoke(self, operation: MigrateOperation) -> Any:
        result = super().invoke(operation)
        self.last = operation  # behind what its own implementation invoked
        return result


@pytest.fixture
def op(embedded: sa.Engine, make_database: Callable[[sa.Engine], str]) -> Iterator[Any]:
    database = make_database(embedded)
    with embedded.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table_schema": database})
        recorder: Any = Recorder(context)
        recorder.database, recorder.connection = database, connection
        for statement in (
            "CREATE TABLE {}.t (id UInt64, at DateTime, n UInt32 DEFAULT 1, INDEX ix n TYPE minmax) "
            "ENGINE = MergeTree PARTITION BY toYYYYMM(at) ORDER BY id TTL at + INTERVAL 300 MONTH",
            "CREATE TABLE {}.u (id UInt64) ENGINE = MergeTree ORDER BY id",
            "CREATE MATERIALIZED VIEW {0}.mv TO {0}.u AS SELECT id FROM {0}.t",
            "INSERT INTO {}.t (id, at) SELECT number, '2026-01-15' FROM numbers(5)",
            "INSERT INTO {}.t (id, at) SELECT number, '2026-02-15' FROM numbers(5)",
        ):
            connection.exec_driver_sql(statement.format(database).replace("%", "%%"))
        yield recorder


def state(op: Any) -> Any:
    """Definitions, and the number of rows of ``t``."""
    described = {
        name: (one.kind, one.columns, dict(one.parts)) for name, one in describe(op.connection, op.database).items()
    }
    rows = ask(op, "SELECT count(), sum(n) FROM {}.t") if "t" in described and described["t"][0] == "table" else None
    return described, rows


def ask(op: Any, sql: str) -> Any:
    return tuple(op.connection.exec_driver_sql(sql.format(op.database)).one())


SUM = "SELECT id, sum(n) GROUP BY id"
REVERSIBLE: dict[str, tuple[Callable[[Any, str], Any], Callable[[Any], bool]]] = {
    "define_table": (
        lambda op, db: op.define_table("d", ["a UInt8"], engine="MergeTree ORDER BY a", comment="100%", schema=db),
        lambda op: ask(op, "SELECT comment FROM system.tables WHERE database = '{}' AND name = 'd'") == ("100%",),
    ),
    "alter_table": (
        lambda op, db: op.alter_table("t", "ADD COLUMN s String DEFAULT '50%:x'", reverse="DROP COLUMN s", schema=db),
        lambda op: ask(op, "SELECT any(s) FROM {}.t") == ("50%:x",),
    ),
    "mutate": (
        lambda op, db: op.mutate("t", "UPDATE n = n + 1 WHERE 1", reverse="UPDATE n = n - 1 WHERE 1", schema=db),
        lambda op: ask(op, "SELECT sum(n) FROM {}.t") == (20,),
    ),
    "partitions": (
        lambda op, db: op.alter_table("t", "DETACH PARTITION 202601", reverse="ATTACH PARTITION 202601", schema=db),
        lambda op: ask(op, "SELECT count() FROM {}.t") == (5,),
    ),
    "exchange_tables": (
        lambda op, db: op.exchange_tables("t", "u", schema=db),
        lambda op: ask(op, "SELECT sum(n) FROM {}.u") == (10,),
    ),
    "add_projection": (
        lambda op, db: op.add_projection("t", "p", SUM, schema=db),
        lambda op: "PROJECTION p" in ask(op, "SHOW CREATE TABLE {}.t")[0],
    ),
    "drop_materialized_view": (
        lambda op, db: op.drop_materialized_view("mv", to="u", select=f"SELECT id FROM {db}.t", schema=db),
        lambda op: ask(op, "EXISTS TABLE {}.mv") == (0,),
    ),
    "create_view": (
        lambda op, db: op.create_view("v", select=f"SELECT id, toString(at) AS a FROM {db}.t WHERE n < 50", schema=db),
        lambda op: ask(op, "SELECT count() FROM {}.v") == (10,),
    ),
    "replace_view": (
        lambda op, db: op.replace_view(
            "mv", select=f"SELECT id + 1 AS id FROM {db}.t", old_select=f"SELECT id FROM {db}.t", schema=db
        ),
        lambda op: "id + 1" in ask(op, "SHOW CREATE TABLE {}.mv")[0],
    ),
    "modify_ttl": (
        lambda op, db: op.modify_ttl("t", None, old="at + toIntervalMonth(300)", schema=db),
        lambda op: "TTL" not in ask(op, "SHOW CREATE TABLE {}.t")[0],
    ),
    "modify_settings": (
        lambda op, db: op.modify_settings("t", {"merge_with_ttl_timeout": 60}, schema=db),
        lambda op: "merge_with_ttl_timeout = 60" in ask(op, "SHOW CREATE TABLE {}.t")[0],
    ),
    "run_sql": (
        lambda op, db: op.run_sql(
            f"CREATE TABLE {db}.r (a String DEFAULT '5%:x') ENGINE = Memory", reverse=f"DROP TABLE {db}.r SYNC"
        ),
        lambda op: "5%:x" in ask(op, "SHOW CREATE TABLE {}.r")[0],
    ),
    "create_table": (
        lambda op, db: op.create_table("c", sa.Column("a", ch.UInt8(), nullable=False), ch.MergeTree(), schema=db),
        lambda op: ask(op, "EXISTS TABLE {}.c") == (1,),
    ),
    "add_column": (
        lambda op, db: op.add_column(
            "t", sa.Column("s", ch.String(), nullable=False, clickhouse_codec="ZSTD(3)"), schema=db
        ),
        lambda op: "CODEC(ZSTD(3))" in ask(op, "SHOW CREATE TABLE {}.t")[0],
    ),
    "create_index": (
        lambda op, db: op.create_index("iy", "t", ["at"], schema=db, clickhouse_type="minmax"),
        lambda op: "INDEX iy" in ask(op, "SHOW CREATE TABLE {}.t")[0],
    ),
    "alter_column": (
        lambda op, db: op.alter_column(
            "t",
            "n",
            schema=db,
            type_=ch.UInt64(),
            existing_type=ch.UInt32(),
            existing_nullable=False,
            existing_server_default=sa.text("1"),
        ),
        lambda op: "`n` UInt64" in ask(op, "SHOW CREATE TABLE {}.t")[0],
    ),
}


@pytest.mark.parametrize("name", REVERSIBLE)
def test_an_operation_and_its_reverse(op: Any, name: str) -> None:
    perform, is_done = REVERSIBLE[name]
    before = state(op)
    perform(op, op.database)
    assert is_done(op)
    op.invoke(op.last.reverse())
    assert state(op) == before


def test_a_table_is_detached_and_attached(op: Any) -> None:
    op.detach_table("u", schema=op.database)
    assert ask(op, "EXISTS TABLE {}.u") == (0,)
    op.invoke(op.last.reverse())
    assert ask(op, "SELECT count() FROM {}.u") == (10,)


def test_tables_and_columns_get_other_names(op: Any) -> None:
    op.rename_table("u", "w", schema=op.database)
    assert ask(op, "SELECT count() FROM {}.w") == (10,)
    op.alter_column("t", "n", new_column_name="m", schema=op.database)
    assert ask(op, "SELECT sum(m) FROM {}.t") == (10,)


def test_parts_of_a_column_come_and_go(op: Any) -> None:
    known = {"existing_type": ch.UInt32(), "existing_nullable": False, "schema": op.database}
    text = "SELECT create_table_query FROM system.tables WHERE database = '{}' AND name = 't'"
    op.alter_column("t", "n", comment="50%", clickhouse_codec="T64, ZSTD(1)", server_default=sa.text("2"), **known)
    assert "`n` UInt32 DEFAULT 2 COMMENT '50%' CODEC(T64, ZSTD(1))" in ask(op, text)[0]
    op.alter_column("t", "n", clickhouse_ttl=sa.text("at + toIntervalDay(9000)"), **known)
    assert "TTL at + toIntervalDay(9000)" in ask(op, text)[0]
    op.alter_column("t", "n", comment=None, clickhouse_codec=None, clickhouse_ttl=None, server_default=None, **known)
    assert "`n` UInt32, " in ask(op, text)[0]
    op.alter_column("t", "n", server_default=sa.Computed("id * 2"), **known)
    assert "MATERIALIZED id * 2" in ask(op, text)[0]


def test_the_sort_key_grows_with_a_column(op: Any) -> None:
    op.alter_table("t", "ADD COLUMN k UInt8", "MODIFY ORDER BY (id, k)", schema=op.database)
    assert ask(op, "SELECT sorting_key FROM system.tables WHERE database = '{}' AND name = 't'") == ("id, k",)
    op.modify_order_by("t", ["id"], schema=op.database)
    assert ask(op, "SELECT sorting_key FROM system.tables WHERE database = '{}' AND name = 't'") == ("id",)


def test_indexes_and_projections_are_built_for_old_rows(op: Any) -> None:
    op.add_projection("t", "p", SUM, schema=op.database)
    op.materialize_projection("t", "p", schema=op.database)
    op.materialize_index("t", "ix", schema=op.database)
    done = "SELECT count(), min(is_done) FROM system.mutations WHERE database = '{}' AND table = 't'"
    assert ask(op, done)[0] == 2
    op.drop_projection("t", "p", schema=op.database)
    assert "PROJECTION" not in ask(op, "SHOW CREATE TABLE {}.t")[0]


def test_databases_come_and_go(op: Any) -> None:
    name = f"{op.database}_more"
    op.create_database(name)
    assert ask(op, f"SELECT count() FROM system.databases WHERE name = '{name}'") == (1,)
    op.invoke(op.last.reverse())
    assert ask(op, f"SELECT count() FROM system.databases WHERE name = '{name}'") == (0,)


def test_what_has_no_reverse_says_so(op: Any) -> None:
    op.alter_table("t", "ADD COLUMN s String", schema=op.database)
    with pytest.raises(NotImplementedError, match="nothing was given that takes this AlterTable back"):
        op.last.reverse()


def test_no_row_is_lost_while_a_view_gets_another_query(op: Any, embedded: sa.Engine) -> None:
    """Rows that arrive meanwhile are in the target once each, by the old query or by the new one."""
    import threading

    stop = threading.Event()
    sent: list[int] = []

    def insert() -> None:
        with embedded.connect() as connection:
            while not stop.is_set():
                number = 1000 + len(sent)
                connection.exec_driver_sql(f"INSERT INTO {op.database}.t (id, at) SELECT {number}, '2026-03-01'")
                sent.append(number)

    thread = threading.Thread(target=insert)
    thread.start()
    try:
        for offset in (1_000_000, 0, 1_000_000, 0):
            op.replace_view("mv", select=f"SELECT id + {offset} AS id FROM {op.database}.t", schema=op.database)
    finally:
        stop.set()
        thread.join()
    counted = ask(op, "SELECT count(), uniqExact(id % 1000000) FROM {}.u WHERE id % 1000000 >= 1000")
    assert counted == (len(sent), len(sent))
