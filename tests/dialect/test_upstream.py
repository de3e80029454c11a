"""clickhouse-sqlalchemy 0.3.2, trap by trap: what the stock dialect says, and what ours does on every driver.

Where the trap shows without a server, the test says first what stock makes of it: the day upstream changes, that part
fails and the work-around can go.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import itertools
import uuid
from typing import Any

import clickhouse_sqlalchemy
import pytest
import sqlalchemy as sa
from clickhouse_sqlalchemy import types as stock_types
from clickhouse_sqlalchemy.drivers.base import ClickHouseDialect as StockDialect
from clickhouse_sqlalchemy.drivers.native.base import ClickHouseDialect_native as StockNative
from clickhouse_sqlalchemy.exceptions import DatabaseException
from clickhouse_sqlalchemy.sql import functions as stock_functions
from sqlalchemy import orm

from netra_chdb.dialect import (
    DateTime64,
    Float64,
    Int64,
    MaterializedView,
    MergeTree,
    ReplacingMergeTree,
    UInt64,
    select,
)
from netra_chdb.dialect.ddl import render_type

STOCK = StockNative()
_names = itertools.count()


def stock_sql(statement: Any) -> str:
    return " ".join(str(statement.compile(dialect=STOCK)).split())


class Status(enum.Enum):
    RUNNING = "running"
    DONE = "done"


def declare(database: str) -> Any:
    """A model over every Python type that ``Mapped`` is written with."""

    class Base(orm.DeclarativeBase):
        metadata = sa.MetaData(schema=database)

    class Thing(Base):
        __tablename__ = "thing"
        __table_args__ = (ReplacingMergeTree(version="version", order_by="id", sample_by=None),)
        id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
        version: orm.Mapped[int] = orm.mapped_column(UInt64)
        name: orm.Mapped[str] = orm.mapped_column(sa.String(32))
        ratio: orm.Mapped[float]
        flag: orm.Mapped[bool]
        key: orm.Mapped[uuid.UUID]
        price: orm.Mapped[decimal.Decimal]
        day: orm.Mapped[dt.date]
        at: orm.Mapped[dt.datetime]
        status: orm.Mapped[Status]
        note: orm.Mapped[str | None]
        score: orm.Mapped[float | None]
        other: orm.Mapped[Status | None]

    return Thing


def thing(**changes: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "version": 1,
        "name": "n" * 40,
        "ratio": 0.1,
        "flag": True,
        "key": uuid.UUID(int=7),
        "price": decimal.Decimal("12.3456789012"),
        "day": dt.date(1950, 2, 3),
        "at": dt.datetime(2024, 5, 6, 7, 8, 9, 123_456, tzinfo=dt.UTC),
        "status": Status.DONE,
        "note": None,
        "score": None,
        "other": None,
        **changes,
    }


@pytest.fixture
def model(engine: sa.Engine, database: str) -> Any:
    found = declare(database)
    found.metadata.create_all(engine)
    return found


def numbers(database: str, name: str = "numbers") -> sa.Table:
    return sa.Table(
        name,
        sa.MetaData(),
        sa.Column("n", Int64, nullable=False),
        sa.Column("at", DateTime64(6, "UTC"), nullable=False),
        MergeTree(order_by="n", sample_by=None),
        schema=database,
    )


# -- connections and errors -------------------------------------------------------


def test_a_database_error_is_wrapped_with_the_servers_code(engine: sa.Engine) -> None:
    assert not issubclass(DatabaseException, getattr(StockNative.import_dbapi(), "Error", ()) or ())
    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError) as caught:
        connection.exec_driver_sql("SELECT * FROM nowhere_at_all")
    assert caught.value.orig.code == 60  # type: ignore[union-attr]
    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError) as caught:
        connection.exec_driver_sql("SELEC 1")
    assert caught.value.orig.code == 62  # type: ignore[union-attr]


def test_autocommit_is_accepted(engine: sa.Engine) -> None:
    with pytest.raises(NotImplementedError):
        STOCK.get_isolation_level_values(None)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert connection.get_isolation_level() == "AUTOCOMMIT"
        assert connection.scalar(sa.text("SELECT 1")) == 1
    with engine.connect() as connection, pytest.raises(sa.exc.ArgumentError, match="AUTOCOMMIT"):
        connection.execution_options(isolation_level="SERIALIZABLE")


def test_savepoints_are_refused_before_they_reach_the_server(engine: sa.Engine) -> None:
    assert StockDialect.do_savepoint is sa.engine.default.DefaultDialect.do_savepoint
    with engine.connect() as connection, pytest.raises(sa.exc.NotSupportedError, match="no savepoints"):
        connection.begin_nested()


def test_rollback_takes_nothing_back(engine: sa.Engine, model: Any) -> None:
    # ClickHouse has no transactions; this is documented, not corrected.
    with orm.Session(engine) as session:
        session.add(model(**thing()))
        session.flush()
        session.rollback()
        assert session.scalar(sa.select(sa.func.count()).select_from(model)) == 1


def test_row_iteration_is_linear(engine: sa.Engine) -> None:
    # Stock pops from the front of a list: the cost of a row grows with the rows that are left. Counted, not timed.
    with engine.connect() as connection:
        result = connection.exec_driver_sql("SELECT number FROM numbers(100000)")
        cursor: Any = result.cursor
        cursor.fetchone()
        held = getattr(cursor, "_rows", None)
        for _ in range(10):
            cursor.fetchone()
        assert getattr(cursor, "_rows", None) is held  # a position moves; the list stays as it is
        assert sum(1 for _ in result) == 100_000 - 11


# -- silently wrong results --------------------------------------------------------


def test_quantile_level_is_part_of_the_cache_key(engine: sa.Engine) -> None:
    stock = [stock_functions.quantile(level, sa.column("x")) for level in (0.5, 0.9)]
    assert stock[0]._generate_cache_key() == stock[1]._generate_cache_key()
    number = sa.column("number", UInt64)
    rows = sa.text("numbers(101)")
    with engine.connect() as connection:
        for name in ("quantile", "quantileExact"):
            found = [
                connection.execute(sa.select(getattr(sa.func, name)(level, number)).select_from(rows)).scalar_one()
                for level in (0.5, 0.9, 0.99)
            ]
            assert found == [50, 90, 99]


def test_final_is_not_lost_on_orm_entities(engine: sa.Engine, model: Any) -> None:
    assert "FINAL" not in stock_sql(clickhouse_sqlalchemy.select(model).final())
    with orm.Session(engine) as session:
        for version in (1, 2):
            session.execute(sa.insert(model), [thing(version=version)])
        assert len(session.execute(select(model.id)).all()) == 2
        assert session.execute(select(model.version).final()).scalars().all() == [2]
        assert [one.version for one in session.scalars(select(model).final())] == [2]
        alias = orm.aliased(model)
        assert session.scalars(select(alias.version).final()).all() == [2]
        joined = select(model.version, alias.version).join(alias, alias.id == model.id).final()
        assert [tuple(row) for row in session.execute(joined)] == [
            (2, 2)
        ]  # stock puts FINAL behind the JOIN: a syntax error


def test_limit_by_is_not_lost_on_orm_entities(engine: sa.Engine, model: Any) -> None:
    assert "LIMIT" not in stock_sql(clickhouse_sqlalchemy.select(model).limit_by([model.name], 1))
    with orm.Session(engine) as session:
        session.execute(sa.insert(model), [thing(id=n, name="ab"[n % 2]) for n in range(6)])
        statement = select(model).order_by(model.id)
        assert [one.id for one in session.scalars(statement.limit_by(1, model.name))] == [0, 1]
        assert [one.id for one in session.scalars(statement.limit_by(1, model.name, offset=1))] == [2, 3]


def test_sample_is_not_lost_on_orm_entities(engine: sa.Engine, database: str) -> None:
    class Base(orm.DeclarativeBase):
        metadata = sa.MetaData(schema=database)

    class Hit(Base):
        __tablename__ = "hit"
        __table_args__ = (MergeTree(order_by=sa.text("intHash32(id)"), sample_by=sa.text("intHash32(id)")),)
        id: orm.Mapped[int] = orm.mapped_column(UInt64, primary_key=True)

    assert "SAMPLE" not in stock_sql(clickhouse_sqlalchemy.select(Hit).sample(0.1))
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.execute(sa.insert(Hit), [{"id": n} for n in range(20_000)])
        assert 1_000 < len(session.scalars(select(Hit).sample(0.1)).all()) < 3_000


@pytest.mark.parametrize("microsecond", [1, 500_000, 999_999])
def test_sub_second_times_are_bound_whole(engine: sa.Engine, database: str, microsecond: int) -> None:
    table = numbers(database)
    at = dt.datetime(2024, 5, 6, 7, 8, 9, microsecond, tzinfo=dt.UTC)
    with engine.connect() as connection:
        table.create(connection)
        connection.execute(table.insert().values(n=1, at=at))
        connection.execute(table.insert().values(n=2, at=at.replace(microsecond=0)))
        connection.execute(sa.text(f"INSERT INTO {database}.numbers SELECT 3, :at"), {"at": at})
        found = connection.execute(sa.select(table.c.n).where(table.c.at == at).order_by(table.c.n)).scalars().all()
        assert found == [1, 3]
        later = sa.select(table.c.n).where(table.c.at > at.replace(microsecond=0)).order_by(table.c.n)
        assert connection.execute(later).scalars().all() == [1, 3]


def test_mapped_types_lose_nothing(engine: sa.Engine, model: Any) -> None:
    compiler = StockDialect().type_compiler_instance
    assert compiler.process(sa.Float()) in ("FLOAT", "Float32", "Float")
    assert stock_types.DateTime().compile() == "DateTime"
    assert compiler.process(sa.String(32)) == "FixedString(32)"
    rendered = {column.name: render_type(column, engine.dialect) for column in model.__table__.c}
    assert rendered == {
        "id": "Int64",
        "version": "UInt64",
        "name": "String",
        "ratio": "Float64",
        "flag": "Bool",
        "key": "UUID",
        "price": "Decimal(38, 10)",
        "day": "Date32",
        "at": "DateTime64(6, 'UTC')",
        "status": "Enum8('RUNNING' = 1, 'DONE' = 2)",
        "note": "Nullable(String)",
        "score": "Nullable(Float64)",
        "other": "Nullable(Enum8('RUNNING' = 1, 'DONE' = 2))",
    }
    with orm.Session(engine) as session:
        session.add(model(**thing()))
        session.add(model(**thing(id=2, note="x", score=1.5, other=Status.RUNNING, status=Status.RUNNING)))
        session.commit()
        first, second = session.scalars(sa.select(model).order_by(model.id)).all()
        for name, value in thing().items():
            assert getattr(first, name) == value
            assert type(getattr(first, name)) is type(value)
        assert (second.note, second.score, second.other) == ("x", 1.5, Status.RUNNING)
        assert session.scalars(sa.select(model.id).where(model.status == Status.RUNNING)).all() == [2]
        assert session.scalars(sa.select(model.id).where(model.key == uuid.UUID(int=7), model.flag)).all() == [1, 2]


def test_containers_are_not_text(engine: sa.Engine) -> None:
    sql = (
        "SELECT [1, 2], map('a', 1), (1, 'x'), true, toDate32('1925-01-01'), toDateTime(0, 'UTC'), toLowCardinality(5)"
    )
    with engine.connect() as connection:
        row = connection.exec_driver_sql(sql).one()
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    assert tuple(row) == ([1, 2], {"a": 1}, (1, "x"), True, dt.date(1925, 1, 1), epoch, 5)


def test_returning_is_refused(engine: sa.Engine, database: str) -> None:
    table = numbers(database)
    with engine.connect() as connection:
        table.create(connection)
        for statement in (
            table.insert().values(n=1).returning(table.c.n),
            table.update().values(n=1).returning(table.c.n),
            table.delete().returning(table.c.n),
        ):
            with pytest.raises(sa.exc.CompileError, match="no RETURNING"):
                connection.execute(statement)


def test_a_materialized_view_writes_to_its_database(engine: sa.Engine, make_database: Any) -> None:
    source_schema, target_schema = make_database(engine), make_database(engine)
    metadata = sa.MetaData()
    source, target = (numbers(schema).to_metadata(metadata) for schema in (source_schema, target_schema))
    for table in (source, target):
        MergeTree(order_by="n")._set_parent(table)
    MaterializedView("mv", target, sa.select(source.c.n, source.c.at).where(source.c.n > 1))
    metadata.create_all(engine)  # stock skips views
    with engine.connect() as connection:
        at = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
        connection.execute(source.insert(), [{"n": n, "at": at} for n in range(4)])
        assert connection.execute(sa.select(target.c.n).order_by(target.c.n)).scalars().all() == [2, 3]
    inspector = sa.inspect(engine)
    assert inspector.get_materialized_view_names(target_schema) == ["mv"]
    metadata.drop_all(engine)
    assert sa.inspect(engine).get_materialized_view_names(target_schema) == []


# -- errors and gaps ---------------------------------------------------------------


def test_orm_update_and_delete_return(engine: sa.Engine, model: Any) -> None:
    compiled = sa.update(declare("x")).where(sa.true()).values(name="b").compile(dialect=STOCK)
    assert not compiled.isupdate  # what the ORM asks next, after the rows have changed
    with orm.Session(engine) as session:
        session.execute(sa.insert(model), [thing(id=n) for n in range(4)])
        session.execute(sa.update(model).where(model.id >= 2).values(name="changed"))
        names = session.scalars(sa.select(model.name).order_by(model.id)).all()
        assert names == ["n" * 40, "n" * 40, "changed", "changed"]
        session.execute(sa.delete(model).where(model.id == 0))
        session.commit()
        assert session.scalars(sa.select(model.id).order_by(model.id)).all() == [1, 2, 3]
        loaded = session.get(model, 1)
        assert loaded is not None
        loaded.name = "by attribute"
        session.commit()
        assert session.scalars(sa.select(model.name).where(model.id == 1)).all() == ["by attribute"]


def test_values_with_many_rows(engine: sa.Engine, model: Any) -> None:
    with orm.Session(engine) as session:
        session.execute(sa.insert(model).values([thing(id=n) for n in range(5)]))
        assert session.scalars(sa.select(model.id).order_by(model.id)).all() == [0, 1, 2, 3, 4]


def test_is_distinct_from_tells_nulls(engine: sa.Engine) -> None:
    # Stock asks hasAny([a], [b]); NOT without brackets binds to less than it.
    a: Any = sa.literal(None, Float64)
    b: Any = sa.literal(1.0)
    with engine.connect() as connection:
        for left, right, distinct in ((a, b, True), (a, a, False), (b, b, False)):
            row = connection.execute(sa.select(left.is_distinct_from(right), left.is_not_distinct_from(right))).one()
            assert [bool(value) for value in row] == [distinct, not distinct]
