"""Rows to query, and a contract: a construct answers what plain SQL answers, for each value, from one compilation."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.engine.interfaces import CacheStats

from netra_chdb.dialect import (
    Array,
    DateTime64,
    Float64,
    Int32,
    LowCardinality,
    Map,
    Nullable,
    ReplacingMergeTree,
    String,
    UInt8,
    UInt64,
)

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def samples(engine: sa.Engine, database: str) -> SimpleNamespace:
    """Create and fill two tables; return their models and their tables."""

    class Base(orm.DeclarativeBase):
        metadata = sa.MetaData(schema=database)

    class Event(Base):
        __tablename__ = "events"
        __table_args__ = (
            ReplacingMergeTree(
                version="version", order_by=(sa.text("intHash32(id)"), "id"), sample_by=sa.text("intHash32(id)")
            ),
        )
        id: orm.Mapped[int] = orm.mapped_column(UInt64, primary_key=True)
        version: orm.Mapped[int] = orm.mapped_column(UInt8)
        at: orm.Mapped[dt.datetime] = orm.mapped_column(DateTime64(3))
        user: orm.Mapped[str] = orm.mapped_column(LowCardinality(String))
        kind: orm.Mapped[str] = orm.mapped_column(String)
        value: orm.Mapped[float] = orm.mapped_column(Float64)
        amount: orm.Mapped[int] = orm.mapped_column(Int32)
        maybe: orm.Mapped[int | None] = orm.mapped_column(Nullable(Int32))
        tags: orm.Mapped[list[str]] = orm.mapped_column(Array(String))
        counts: orm.Mapped[list[int]] = orm.mapped_column(Array(Int32))
        attributes: orm.Mapped[dict[str, int]] = orm.mapped_column(Map(String, Int32))

    class Price(Base):
        __tablename__ = "prices"
        __table_args__ = (ReplacingMergeTree(version="version", order_by=("user", "at")),)
        user: orm.Mapped[str] = orm.mapped_column(LowCardinality(String), primary_key=True)
        at: orm.Mapped[dt.datetime] = orm.mapped_column(DateTime64(3), primary_key=True)
        version: orm.Mapped[int] = orm.mapped_column(UInt8)
        price: orm.Mapped[float] = orm.mapped_column(Float64)

    Base.metadata.create_all(engine)
    with engine.connect() as connection:
        for version in (1, 2):  # two parts, to be merged by FINAL
            connection.execute(sa.insert(Event), [_event(n, version) for n in range(0, 60, version)])
            connection.execute(sa.insert(Price), [_price(n, version) for n in range(0, 20, version)])
    return SimpleNamespace(orm=(Event, Price), core=(Event.__table__, Price.__table__), database=database)


def _event(n: int, version: int) -> dict[str, Any]:
    return {
        "id": n,
        "version": version,
        "at": START + dt.timedelta(minutes=n, milliseconds=n),
        "user": f"user-{n % 4}",
        "kind": ("view", "click", "buy")[n % 3],
        "value": n * 1.5,
        "amount": n - 5,
        "maybe": None if n % 5 == 0 else n,
        "tags": [f"tag-{tag}" for tag in range(n % 4)],
        "counts": list(range(n % 5)),
        "attributes": {f"key-{n % 3}": n},
    }


def _price(n: int, version: int) -> dict[str, Any]:
    at = START + dt.timedelta(minutes=4 * n)
    return {"user": f"user-{n % 5}", "at": at, "version": version, "price": n + version / 10}


@dataclass(frozen=True)
class Case:
    """One construct: how it is built, the same in plain SQL, and two values that give two answers.

    Attributes:
        name: names the test.
        build: from the models (or tables' columns), their FROM objects and a value to the statement.
        plain: the same in SQL, with ``{v}`` for the value as SQL text and ``{db}`` for the database.
        values: each a value and how SQL spells it.
        contains: what the compiled text has to hold, with ``{v}`` for the value, and columns by their names.
        same: whether the answers may be equal for both values.
        in_key: whether SQLAlchemy itself makes the value part of the key: right each time, compiled for each value.
    """

    name: str
    build: Callable[[Any, Any], Any]
    plain: str
    values: tuple[tuple[Any, str], tuple[Any, str]]
    contains: str
    same: bool = False
    in_key: bool = False


class Columns:
    """A table's columns as attributes, as a model has them; ``table`` is what stands in FROM."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def __getattr__(self, name: str) -> Any:
        return self.table.c[name] if isinstance(self.table, sa.FromClause) else getattr(self.table, name)


def check(engine: sa.Engine, made: SimpleNamespace, case: Case) -> None:
    """Run ``case`` over tables and over entities, for its values A, B and A again."""
    _check(engine, made, "core", case)
    if engine.dialect.driver == "chdb":  # what entities become is the same text on each driver
        _check(engine, made, "orm", case)


def _bare(sql: str, database: str) -> str:
    """``sql`` in one line, with columns by their names alone."""
    for table in (f"{database}.events.", f"{database}.prices."):
        sql = sql.replace(table, "")
    return " ".join(sql.replace("`", "").replace("%%", "%").split())


def _check(engine: sa.Engine, made: SimpleNamespace, kind: str, case: Case) -> None:
    event, price = (Columns(table) for table in getattr(made, kind))
    source = SimpleNamespace(e=event, p=price)
    engine.clear_compiled_cache()
    hits: list[CacheStats] = []
    answers: list[list[Any]] = []
    with orm.Session(engine) as session:
        sa.event.listen(
            session.connection(), "after_cursor_execute", lambda *args: hits.append(args[4].cache_hit), named=False
        )
        for value, spelt in (*case.values, case.values[0]):
            statement = case.build(source, value)
            compiled: Any = statement.compile(dialect=engine.dialect, compile_kwargs={"literal_binds": True})
            assert case.contains.format(v=spelt) in _bare(str(compiled), made.database)
            result = session.execute(statement)
            found = [tuple(row) for row in result]
            if engine.dialect.driver == "chdb" and not answers:  # the text alone asks for the same
                options = {"settings": dict(compiled.standard_settings)}
                alone = session.connection().exec_driver_sql(str(compiled), execution_options=options)
                assert found == [tuple(row) for row in alone], str(compiled)
            plain = session.connection().exec_driver_sql(case.plain.format(v=spelt, db=made.database))
            assert found == [tuple(row) for row in plain], f"{case.name} with {value!r}"
            answers.append(found)
    statements = [hit for hit in hits if hit is not CacheStats.NO_CACHE_KEY]
    second = CacheStats.CACHE_MISS if case.in_key else CacheStats.CACHE_HIT
    assert statements == [CacheStats.CACHE_MISS, second, CacheStats.CACHE_HIT]
    assert answers[0] == answers[2]
    assert answers[0], "a test of no rows is no test"
    assert case.same or answers[0] != answers[1]
