"""Columns of mapped classes in one line: ``name: Mapped[LowCardinalityStr]``.

A kind of column is declared once and used by its name, with its codec and its TTL::

    Payload = Annotated[str, clickhouse_column(String, codec="ZSTD(3)")]

    class Event(Base):
        kind: Mapped[LowCardinalityStr]
        payload: Mapped[Payload]
        trace: Mapped[Payload | None] = clickhouse_column(ttl=sa.text("created_at + INTERVAL 7 DAY"))
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import MappedColumn, mapped_column

from netra_chdb.dialect import types

__all__ = [
    "DateTime64Micro",
    "DateTime64Milli",
    "Float32Float",
    "Int8Int",
    "Int16Int",
    "Int32Int",
    "JSONDict",
    "JSONTextDict",
    "LowCardinalityStr",
    "OptionalLowCardinalityStr",
    "UInt8Int",
    "UInt16Int",
    "UInt32Int",
    "UInt64Int",
    "clickhouse_column",
]


def clickhouse_column(
    *args: Any,
    codec: str | tuple[str, ...] | None = None,
    ttl: Any = None,
    **options: Any,
) -> MappedColumn[Any]:
    """``mapped_column()`` with what ClickHouse adds to a column, good inside of ``Annotated`` too.

    A ``sqlalchemy.Computed`` among ``args`` is MATERIALIZED, or an ALIAS with ``persisted=False``.

    Args:
        args: those of ``mapped_column()``.
        codec: as the server prints it, so that a reflected table compares equal: ``"Delta(8), ZSTD(1)"``.
        ttl: an expression; when it has passed, the value becomes the column's default.
        options: those of ``mapped_column()``.
    """
    given = (("clickhouse_codec", codec), ("clickhouse_ttl", ttl))
    arguments: dict[str, Any] = {name: value for name, value in given if value is not None}
    if arguments:
        # SQLAlchemy takes over a column's info from Annotated, but not a dialect's arguments; of both, what the
        # column itself says counts.
        options["info"] = {**options.get("info", {}), **arguments}
    return mapped_column(*args, **options, **arguments)


@event.listens_for(sa.Column, "after_parent_attach")
def _take_over(column: sa.Column[Any], parent: Any) -> None:
    for name in ("clickhouse_codec", "clickhouse_ttl"):
        if name in column.info and column.dialect_kwargs[name] is None:
            column.dialect_kwargs[name] = column.info[name]


LowCardinalityStr: TypeAlias = Annotated[str, mapped_column(types.LowCardinality(types.String))]
OptionalLowCardinalityStr: TypeAlias = Annotated[
    str | None, mapped_column(types.LowCardinality(types.Nullable(types.String)), nullable=True)
]
Int8Int: TypeAlias = Annotated[int, mapped_column(types.Int8)]
Int16Int: TypeAlias = Annotated[int, mapped_column(types.Int16)]
Int32Int: TypeAlias = Annotated[int, mapped_column(types.Int32)]
UInt8Int: TypeAlias = Annotated[int, mapped_column(types.UInt8)]
UInt16Int: TypeAlias = Annotated[int, mapped_column(types.UInt16)]
UInt32Int: TypeAlias = Annotated[int, mapped_column(types.UInt32)]
UInt64Int: TypeAlias = Annotated[int, mapped_column(types.UInt64)]
Float32Float: TypeAlias = Annotated[float, mapped_column(types.Float32)]
#: To the millisecond, or the microsecond.
DateTime64Milli: TypeAlias = Annotated[dt.datetime, mapped_column(types.DateTime64(3))]
DateTime64Micro: TypeAlias = Annotated[dt.datetime, mapped_column(types.DateTime64(6))]
#: ClickHouse's own JSON, whose paths are columns.
JSONDict: TypeAlias = Annotated[dict[str, Any], mapped_column(types.JSON)]
#: A document that comes back as it was, in a String.
JSONTextDict: TypeAlias = Annotated[dict[str, Any], mapped_column(types.JSONText)]
