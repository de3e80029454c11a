"""What SQLAlchemy's own types become: ``sqlalchemy.Time``, ``Interval``, ``JSON``, ``Numeric`` and ``Float``.

ClickHouse's types, named as ClickHouse names them, are in :mod:`~netra_chdb.dialect.types`. These here keep what
SQLAlchemy promises for its generic types, where that differs: a ``Numeric`` takes a float, a ``Float`` a Decimal.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import sqltypes

from netra_chdb.dialect import types

__all__ = ["JSON", "Float", "Interval", "JSONIndex", "JSONPath", "Numeric", "Time"]


def _converts(kept: type, other: type, convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a processor that converts ``other``; a column without one costs a glance at its values' types."""

    def process(value: Any) -> Any:
        return convert(value) if isinstance(value, other) else value

    def column(values: Sequence[Any]) -> Sequence[Any]:
        return values if set(map(type, values)) <= {kept, type(None)} else [process(value) for value in values]

    process.column = column  # type: ignore[attr-defined]
    return process


class Float(types.Float64):
    """``Float64`` that also takes a ``Decimal``."""

    def bind_processor(self, dialect: Dialect) -> Any:
        return _converts(float, decimal.Decimal, float)


class Numeric(sa.Numeric[Any]):
    """``Decimal`` that also takes a float, as the number that its shortest text says."""

    def bind_processor(self, dialect: Dialect) -> Any:
        return _converts(decimal.Decimal, float, lambda value: decimal.Decimal(repr(value)))

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        # An average of Decimals is a Float64 on the server, and a Numeric here.
        return self.bind_processor(dialect) if self.asdecimal else super().result_processor(dialect, coltype)


class Time(sa.Time):
    """``Time64(6)``: a time of day; ClickHouse's own type also holds spans of up to 999 hours."""

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        def process(value: Any) -> Any:
            # Between 00:00 and 24:00 a span is a time of day.
            return (dt.datetime.min + value).time() if isinstance(value, dt.timedelta) else value

        return process


class Interval(sa.Interval):
    """A span of time, kept as the moment that far from 1970: no column of ClickHouse's holds an INTERVAL."""

    cache_ok = True
    # What comes back is aware.
    epoch = dt.datetime.fromtimestamp(0, dt.UTC)


class JSON(sa.JSON):
    """A JSON document in a ``String``; an element of it is extracted on the server."""

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        read = super().result_processor(dialect, coltype)

        def process(value: Any) -> Any:
            # The empty String is what ClickHouse fills a column in with that an insert leaves out.
            return {} if value == "" else read(value)

        return process


def _position(value: Any) -> Any:
    """Return the position of an array's element as ClickHouse counts: from 1, and from -1 backwards."""
    return value + 1 if isinstance(value, int) and value >= 0 else value


class JSONIndex(sqltypes.JSON.JSONIndexType):
    """The key or position of one element."""

    def bind_processor(self, dialect: Dialect) -> Any:
        return _position


class JSONPath(sqltypes.JSON.JSONPathType):
    """Keys and positions that lead to an element."""

    def bind_processor(self, dialect: Dialect) -> Any:
        return lambda path: tuple(map(_position, path))
