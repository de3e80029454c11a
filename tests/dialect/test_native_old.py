"""The native driver against ClickHouse 18.16: what an old server can do, it does."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb.dialect import MergeTree, types
from tests.servers import OldServer


@pytest.fixture
def engine(old_server: OldServer) -> Iterator[sa.Engine]:
    engine = sa.create_engine(old_server.url("chnative"))
    yield engine
    engine.dispose()


@pytest.fixture
def table(engine: sa.Engine) -> Iterator[sa.Table]:
    table = sa.Table(
        "people",
        sa.MetaData(),
        sa.Column("id", types.UInt64, primary_key=True),
        sa.Column("name", types.String, nullable=False),
        sa.Column("born", types.Date, nullable=False),
        sa.Column("seen", types.DateTime, nullable=False),
        sa.Column("score", types.Nullable(types.Float64)),
        sa.Column("tags", types.Array(types.String), nullable=False),
        MergeTree(order_by="id", partition_by=sa.text("toYYYYMM(born)")),
    )
    with engine.connect() as connection:
        table.create(connection)
        yield table
        table.drop(connection)


ROW = {
    "id": 1,
    "name": "Zoë",
    "born": dt.date(1990, 2, 3),
    "seen": dt.datetime(2020, 5, 6, 7, 8, 9, tzinfo=dt.UTC),
    "score": 0.5,
    "tags": ["a", "b"],
}


def test_version(engine: sa.Engine) -> None:
    with engine.connect():
        assert engine.dialect.server_version_info is not None
        assert engine.dialect.server_version_info[:2] == (18, 16)


def test_rows_go_in_and_come_out(engine: sa.Engine, table: sa.Table) -> None:
    with engine.connect() as connection:
        connection.execute(table.insert(), [ROW, {**ROW, "id": 2, "score": None}])
        connection.execute(table.insert().values({**ROW, "id": 3}))
        rows = [dict(row) for row in connection.execute(sa.select(table).order_by(table.c.id)).mappings()]
        assert rows == [ROW, {**ROW, "id": 2, "score": None}, {**ROW, "id": 3}]
        assert (
            connection.scalar(sa.select(sa.func.count()).where(table.c.seen == ROW["seen"], table.c.name == "Zoë")) == 3
        )


def test_literals_of_an_old_server(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        values = {"yes": True, "no": False, "text": "a'b\\"}
        assert connection.execute(sa.text("SELECT :yes, :no, :text"), values).tuples().one() == (1, 0, "a'b\\")


def test_a_stream(engine: sa.Engine) -> None:
    with engine.connect().execution_options(stream_results=True) as connection:
        result = connection.execute(sa.text("SELECT number FROM system.numbers LIMIT 10000000"))
        assert [row[0] for row in result.fetchmany(3)] == [0, 1, 2]
        result.close()
        assert connection.scalar(sa.text("SELECT 42")) == 42


def test_reflection(engine: sa.Engine, table: sa.Table) -> None:
    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        assert "people" in inspector.get_table_names()
        assert inspector.has_table("people")
        assert not inspector.has_table("animals")
        found = sa.Table("people", sa.MetaData(), autoload_with=connection)
    assert [column.name for column in found.columns] == [column.name for column in table.columns]
    assert [column.name for column in found.primary_key] == ["id"]
    assert isinstance(found.c.score.type, types.Nullable)
    assert found.indexes == set()


def test_errors_carry_the_code(engine: sa.Engine) -> None:
    with engine.connect() as connection, pytest.raises(sa_exc.DatabaseError) as caught:
        connection.execute(sa.text("SELECT * FROM nothing_here"))
    assert getattr(caught.value.orig, "code", None) == 60
    assert not caught.value.connection_invalidated


def test_an_insert_of_expressions_is_refused_clearly(engine: sa.Engine, table: sa.Table) -> None:
    with engine.connect() as connection:
        statement = sa.text("INSERT INTO people (id, name, born, seen, tags) VALUES (1, 'x', today(), now(), [])")
        with pytest.raises(sa_exc.NotSupportedError, match="only as data"):
            connection.execute(statement)
        assert connection.scalar(sa.select(sa.func.count()).select_from(table)) == 0


def test_the_log_of_the_server_beside_an_answer(engine: sa.Engine, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "clickhouse_driver.log")
    asked = {"settings": {"send_logs_level": "trace"}}
    with engine.connect() as connection:
        found = connection.execute(sa.text("SELECT sum(number) FROM numbers(1000)"), execution_options=asked)
        assert found.scalar() == 999 * 500
    lines = [record.getMessage() for record in caplog.records if record.name == "clickhouse_driver.log"]
    assert any("executeQuery: Read 1000 rows" in line for line in lines), lines
