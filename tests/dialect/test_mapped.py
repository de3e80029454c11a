"""Mapped classes: kinds of columns by name, with codecs and TTLs, created and reflected."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

import pytest
import sqlalchemy as sa
from sqlalchemy import func, orm
from sqlalchemy.orm import Mapped

from netra_chdb.dialect import (
    AggregateFunction,
    DateTime64,
    DateTime64Milli,
    Float64,
    JSONDict,
    JSONTextDict,
    LowCardinalityStr,
    MergeTree,
    OptionalLowCardinalityStr,
    String,
    UInt8Int,
    UInt64Int,
    clickhouse_column,
    parametric,
)

Payload = Annotated[str, clickhouse_column(String, codec="ZSTD(3)")]
Moment = Annotated[dt.datetime, clickhouse_column(DateTime64(3), codec=("Delta(8)", "ZSTD(1)"), info={"shown": True})]


def model(database: str) -> Any:
    class Base(orm.DeclarativeBase):
        metadata = sa.MetaData(schema=database)

    class Row(Base):
        __tablename__ = "rows"
        __table_args__ = (MergeTree(order_by=("id",)),)
        id: Mapped[UInt64Int] = orm.mapped_column(primary_key=True)
        kind: Mapped[LowCardinalityStr]
        other: Mapped[OptionalLowCardinalityStr]
        small: Mapped[UInt8Int]
        at: Mapped[DateTime64Milli]
        seen: Mapped[Moment]
        payload: Mapped[Payload]
        own: Mapped[Payload] = clickhouse_column(codec="NONE", ttl=sa.text("toDateTime(at) + toIntervalDay(7)"))
        paths: Mapped[JSONDict]
        text: Mapped[JSONTextDict]
        twice: Mapped[int] = clickhouse_column(sa.Computed("small * 2"), codec="T64")

    return Row


def test_a_column_of_one_line_has_its_codec_and_its_ttl(engine: sa.Engine, database: str) -> None:
    row = model(database)
    row.metadata.create_all(engine)
    described = {
        column["name"]: column
        for column in engine.connect().exec_driver_sql(f"DESCRIBE TABLE {database}.rows").mappings()
    }
    assert {name: column["codec_expression"] for name, column in described.items() if column["codec_expression"]} == {
        "seen": "Delta(8), ZSTD(1)",
        "payload": "ZSTD(3)",
        "own": "NONE",
        "twice": "T64",
    }
    assert described["own"]["ttl_expression"] == "toDateTime(at) + toIntervalDay(7)"
    assert described["twice"]["default_type"] == "MATERIALIZED"
    assert {name: column["type"] for name, column in described.items()} == {
        "id": "UInt64",
        "kind": "LowCardinality(String)",
        "other": "LowCardinality(Nullable(String))",
        "small": "UInt8",
        "at": "DateTime64(3, 'UTC')",
        "seen": "DateTime64(3, 'UTC')",
        "payload": "String",
        "own": "String",
        "paths": "JSON",
        "text": "String",
        "twice": "Int64",
    }
    assert row.__table__.c.seen.info["shown"] is True


def test_rows_of_such_a_class_come_back(engine: sa.Engine, database: str) -> None:
    row = model(database)
    row.metadata.create_all(engine)
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    values = {"id": 1, "kind": "a", "other": None, "small": 3, "at": now, "seen": now, "payload": "p", "own": "o"}
    values |= {"paths": {"a": {"b": "2020-01-01"}}, "text": {"a.b": None}}
    with orm.Session(engine) as session:
        session.add(row(**values))
        session.commit()
        found = session.scalars(sa.select(row)).one()
        assert {name: getattr(found, name) for name in values} == values
        assert found.twice == 6
        assert session.scalars(sa.select(row.paths["a", "b"])).all() == ["2020-01-01"]
        assert session.scalars(sa.select(row.id).where(row.paths["a", "b"] == "2020-01-01")).all() == [1]


@pytest.mark.parametrize(
    ("function", "types", "name"),
    [
        (func.quantiles(0.5, 0.9), [Float64], "AggregateFunction(quantiles(0.5, 0.9), Float64)"),
        (parametric("quantileExact", 0.5), [Float64], "AggregateFunction(quantileExact(0.5), Float64)"),
        ("quantile(0.5)", [Float64], "AggregateFunction(quantile(0.5), Float64)"),
        (func.uniqExact(), [String], "AggregateFunction(uniqExact, String)"),
        (func.count(), [], "AggregateFunction(count)"),
    ],
)
def test_a_state_is_named_by_its_function(
    engine: sa.Engine, database: str, function: Any, types: list[Any], name: str
) -> None:
    type_ = AggregateFunction(function, *types)
    columns = [sa.Column("id", sa.Integer), sa.Column("state", type_, nullable=False)]
    table = sa.Table("t", sa.MetaData(), *columns, MergeTree(order_by="id"), schema=database)
    table.create(engine)
    reflected = sa.Table("t", sa.MetaData(), schema=database, autoload_with=engine).c.state.type
    render = engine.dialect.type_compiler_instance.process
    assert render(type_) == render(reflected) == name
    assert type_._static_cache_key == reflected._static_cache_key


def test_a_state_is_no_call() -> None:
    with pytest.raises(sa.exc.ArgumentError, match="parameters alone"):
        AggregateFunction(func.sum(sa.column("x")), Float64)
