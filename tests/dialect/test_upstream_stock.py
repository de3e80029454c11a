"""What the stock dialect makes of its traps on a real server: each of these is right in ours, in test_upstream*.py.

The day one of these tests fails, upstream has changed, and the work-around can go.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import clickhouse_sqlalchemy
import pytest
import sqlalchemy as sa
from clickhouse_sqlalchemy import engines, types
from clickhouse_sqlalchemy.exceptions import DatabaseException
from clickhouse_sqlalchemy.sql import functions
from sqlalchemy import exc as sa_exc
from sqlalchemy import orm

from tests.proxy import Proxy
from tests.servers import PASSWORD, ModernServer

pytestmark = pytest.mark.filterwarnings("ignore")  # the stock dialect's own


class Base(orm.DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "stock_things"
    __table_args__ = (engines.MergeTree(order_by="id"),)

    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str] = orm.mapped_column(types.String)


def url(driver: str, server: ModernServer, port: int | None = None) -> sa.URL:
    own = server.tcp_port if driver == "native" else server.http_port
    return sa.URL.create(f"clickhouse+{driver}", "netra", PASSWORD, "127.0.0.1", port or own, "default")


@pytest.fixture
def native(modern_server: ModernServer) -> Iterator[sa.Engine]:
    engine = sa.create_engine(url("native", modern_server))
    yield engine
    engine.dispose()


@pytest.fixture
def http(modern_server: ModernServer) -> Iterator[sa.Engine]:
    engine = sa.create_engine(url("http", modern_server))
    yield engine
    engine.dispose()


@pytest.fixture
def things(modern_server: ModernServer) -> Iterator[None]:
    modern_server.query("CREATE OR REPLACE TABLE stock_things (id Int32, name String) ENGINE = MergeTree ORDER BY id")
    modern_server.query("INSERT INTO stock_things VALUES (1, 'a'), (2, 'b')")
    yield
    modern_server.query("DROP TABLE stock_things")


def test_each_query_opens_a_connection(modern_server: ModernServer) -> None:
    with Proxy(modern_server.tcp_port) as proxy:
        engine = sa.create_engine(url("native", modern_server, proxy.port), pool_size=1)
        with engine.connect() as connection:
            for _ in range(20):
                connection.execute(sa.text("SELECT 1")).all()
        engine.dispose()
        assert proxy.accepted >= 20


def test_an_error_of_the_server_is_no_dbapi_error(native: sa.Engine) -> None:
    with native.connect() as connection, pytest.raises(DatabaseException) as caught:
        connection.execute(sa.text("SELECT * FROM nothing_here"))
    assert not isinstance(caught.value, sa_exc.DBAPIError)


def test_over_http_the_code_is_the_status(http: sa.Engine) -> None:
    with http.connect() as connection, pytest.raises(DatabaseException) as caught:
        connection.execute(sa.text("SELECT * FROM nothing_here"))
    assert getattr(caught.value.orig, "code", None) == 404


def test_autocommit_raises(modern_server: ModernServer) -> None:
    engine = sa.create_engine(url("native", modern_server), isolation_level="AUTOCOMMIT")
    with pytest.raises((NotImplementedError, sa_exc.ArgumentError)):
        engine.connect()
    engine.dispose()


def test_a_savepoint_reaches_the_server(native: sa.Engine) -> None:
    with native.connect() as connection, pytest.raises(DatabaseException, match="SAVEPOINT"):
        connection.begin_nested()


def test_one_level_of_a_quantile_answers_for_all(native: sa.Engine) -> None:
    column: Any = sa.column("number")
    found = []
    with native.connect() as connection:
        for level in (0.5, 0.9, 0.99):
            statement = sa.select(functions.quantile(level, column)).select_from(sa.func.numbers(101).alias("n"))
            found.append(connection.scalar(statement))
    assert found == [50.0, 50.0, 50.0]


def test_containers_come_back_as_text(http: sa.Engine) -> None:
    with http.connect() as connection:
        found = connection.execute(sa.text("SELECT [1, 2] AS a, map('k', 1) AS m, true AS b")).one()
    assert all(isinstance(value, str) for value in found)


def test_a_time_is_bound_to_the_second(native: sa.Engine) -> None:
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, 678_000)
    with native.connect() as connection:
        text = "SELECT toDateTime64('2026-01-02 03:04:05.678', 3, 'UTC') = :moment"
        assert connection.scalar(sa.text(text), {"moment": moment}) == 0


def test_an_orm_update_runs_and_then_raises(native: sa.Engine, modern_server: ModernServer, things: None) -> None:
    with orm.Session(native) as session, pytest.raises(sa_exc.InvalidRequestError, match="not an insert"):
        session.execute(sa.update(Thing).where(Thing.id == 1).values(name="z"))


def test_values_of_many_rows_fail(native: sa.Engine, things: None) -> None:
    with native.connect() as connection, pytest.raises(KeyError):
        connection.execute(sa.insert(Thing).values([{"id": 3, "name": "c"}, {"id": 4, "name": "d"}]))


def test_a_select_has_no_cache_key() -> None:
    assert clickhouse_sqlalchemy.select(Thing)._generate_cache_key() is None


def test_the_primary_key_is_that_of_any_database(modern_server: ModernServer) -> None:
    other = f"stock_{uuid.uuid4().hex[:8]}"
    modern_server.query(f"CREATE DATABASE {other}")
    try:
        modern_server.query("CREATE OR REPLACE TABLE stock_pk (a Int8, b Int8) ENGINE = MergeTree ORDER BY a")
        modern_server.query(f"CREATE TABLE {other}.stock_pk (a Int8, b Int8) ENGINE = MergeTree ORDER BY b")
        engine = sa.create_engine(url("native", modern_server).set(database=other))
        found: Any = sa.inspect(engine).get_pk_constraint("stock_pk")["constrained_columns"]
        assert list(found) == ["a"]
        engine.dispose()
    finally:
        modern_server.query(f"DROP DATABASE {other}")
        modern_server.query("DROP TABLE stock_pk")


def test_types_are_reflected_wrongly(native: sa.Engine, modern_server: ModernServer) -> None:
    modern_server.query(
        "CREATE OR REPLACE TABLE stock_types (t DateTime64(3, 'UTC'), p Tuple(a Int8, b String), "
        "c Int64 CODEC(ZSTD), m Int64 MATERIALIZED 1) ENGINE = MergeTree ORDER BY t"
    )
    with native.connect() as connection:
        table = sa.Table("stock_types", sa.MetaData(), autoload_with=connection)
    assert table.c.t.type.compile(dialect=native.dialect) == "DateTime64(3, ''UTC'')"
    assert "Null" in repr(table.c.p.type)  # nothing is known of its elements
    with pytest.raises(sa_exc.CompileError):  # and so it cannot be made again
        sa.schema.CreateTable(table).compile(dialect=native.dialect)
    modern_server.query("DROP TABLE stock_types")
