"""Every INSERT through an engine has a token of its own: rows inserted twice on purpose are there twice."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event, orm

from netra_chdb.dialect import Int64, MergeTree
from netra_chdb.dialect.context import ExecutionContext


@pytest.fixture
def table(engine: sa.Engine, database: str) -> sa.Table:
    table = sa.Table(
        "rows",
        sa.MetaData(schema=database),
        sa.Column("n", Int64, primary_key=True),
        MergeTree(order_by="n", non_replicated_deduplication_window=100),
    )
    table.create(engine)
    return table


def count(connection: sa.Connection, table: sa.Table) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def test_equal_inserts_are_all_stored(engine: sa.Engine, table: sa.Table) -> None:
    with engine.connect() as connection:
        for statement, parameters in (
            (sa.insert(table), {"n": 1}),
            (sa.insert(table), [{"n": 1}, {"n": 2}]),
            (sa.insert(table).values(n=1), None),
            (sa.insert(table).from_select(["n"], sa.select(sa.literal(1, Int64))), None),
            (sa.text(f"INSERT INTO {table.fullname} VALUES (1)"), None),
        ):
            before = count(connection, table)
            for times in (1, 2):
                connection.execute(statement, parameters)
                rows = len(parameters) if isinstance(parameters, list) else 1
                assert count(connection, table) == before + times * rows, str(statement)
        before = count(connection, table)
        for times in (1, 2):
            connection.exec_driver_sql(f"INSERT INTO {table.fullname} SELECT 1")
            assert count(connection, table) == before + times


def test_equal_rows_that_are_sent_one_by_one_are_all_stored(engine: sa.Engine, table: sa.Table) -> None:
    with engine.connect() as connection:
        insert = sa.insert(table).values(n=sa.bindparam("n", type_=Int64) + 1)
        connection.execute(insert, [{"n": 1}, {"n": 1}, {"n": 1}])
        assert count(connection, table) == 3


def test_each_insert_of_a_flush_has_its_own(engine: sa.Engine, table: sa.Table) -> None:
    class Base(orm.DeclarativeBase):
        pass

    class Row(Base):
        __table__ = table

    for _ in range(2):
        with orm.Session(engine) as session:
            session.add_all([Row(n=1), Row(n=2)])
            session.commit()
    with engine.connect() as connection:
        assert count(connection, table) == 4


def test_a_callers_token_is_the_callers(engine: sa.Engine, table: sa.Table) -> None:
    with engine.connect() as connection:
        for _ in range(2):
            connection.execute(
                sa.insert(table),
                [{"n": 1}, {"n": 2}],
                execution_options={"settings": {"insert_deduplication_token": "mine"}},
            )
        assert count(connection, table) == 2


def test_it_stays_the_same_for_one_statement(engine: sa.Engine, table: sa.Table) -> None:
    seen: list[Any] = []

    @event.listens_for(engine, "before_cursor_execute")
    def look(_c: Any, _cursor: Any, _s: Any, _p: Any, context: ExecutionContext, _many: Any) -> None:
        seen.extend(context.settings.get("insert_deduplication_token") for _ in range(2))

    try:
        with engine.connect() as connection:
            connection.execute(sa.insert(table), {"n": 1})
            connection.execute(sa.insert(table), {"n": 1})
            connection.execute(sa.select(sa.literal(1)))
    finally:
        event.remove(engine, "before_cursor_execute", look)
    assert seen[0] == seen[1] != seen[2] == seen[3]
    assert seen[4:] == [None, None]
