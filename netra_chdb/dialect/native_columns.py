"""clickhouse-driver's column codecs, corrected where they change a value without a word.

Answered here: times that came back naive, in the server's zone, rounded through a float or (before 1970) a second off,
and a Map in a Map that was cut in the wrong place. What is written is checked beforehand (``blocks``): upstream's
``types_check=True`` would chop integers that do not fit.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any, Final

from clickhouse_driver.columns import datetimecolumn, intcolumn, service
from clickhouse_driver.columns.arraycolumn import create_array_column
from clickhouse_driver.columns.decimalcolumn import create_decimal_column
from clickhouse_driver.columns.lowcardinalitycolumn import create_low_cardinality_column
from clickhouse_driver.columns.mapcolumn import MapColumn
from clickhouse_driver.columns.stringcolumn import ByteFixedString
from clickhouse_driver.columns.tuplecolumn import create_tuple_column

from netra_chdb.dialect.blocks import column_writer
from netra_chdb.dialect.type_parser import split_arguments

__all__ = ["column_for", "encode", "read_column"]

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

NullsMap = Sequence[bool] | None


def _masked(values: Iterable[Any], nulls: NullsMap) -> tuple[Any, ...]:
    """``values`` with None where ``nulls`` says so; what stands there instead was a zero."""
    if nulls is None:
        return tuple(values)
    return tuple([None if null else value for value, null in zip(values, nulls, strict=True)])


class _DateTime(datetimecolumn.DateTimeColumn):
    """``DateTime``: aware, in UTC, whatever zone the column displays."""

    # Written as numbers already.
    before_write_items = None

    def after_read_items(self, items: Any, nulls_map: NullsMap = None) -> tuple[Any, ...]:
        return _masked(map(dt.datetime.fromtimestamp, items, repeat(dt.UTC)), nulls_map)


class _DateTime64(datetimecolumn.DateTime64Column):
    """``DateTime64``: in whole microseconds, never through a float."""

    before_write_items = None

    def after_read_items(self, items: Any, nulls_map: NullsMap = None) -> tuple[Any, ...]:
        ticks = items
        if self.scale < 6:
            factor = 10 ** (6 - self.scale)
            ticks = [item * factor for item in items]
        elif self.scale > 6:
            divisor = 10 ** (self.scale - 6)
            ticks = [item // divisor for item in items]
        # A chain of maps stays in C.
        return _masked(map(_EPOCH.__add__, map(dt.timedelta, repeat(0), repeat(0), ticks)), nulls_map)


_LONGEST: Final = dt.timedelta(hours=999, minutes=59, seconds=59, microseconds=999_999)


def _span(value: Any) -> dt.timedelta:
    if isinstance(value, dt.time) and value.tzinfo is None:
        return dt.timedelta(0, value.hour * 3600 + value.minute * 60 + value.second, value.microsecond)
    if isinstance(value, dt.timedelta) and abs(value) <= _LONGEST:
        return value
    raise ValueError(f"{value!r} is no Time: a time of day without a zone, or a span of less than 1000 hours")


class _Time64(intcolumn.Int64Column):
    """``Time64``, which clickhouse-driver does not know: spans, in whole microseconds."""

    def __init__(self, scale: int, **options: Any) -> None:
        super().__init__(**options)
        self.multiply, self.divide = 10 ** max(0, scale - 6), 10 ** max(0, 6 - scale)

    def before_write_items(self, items: Any, nulls_map: NullsMap = None) -> None:
        for place, value in enumerate(items):
            if nulls_map is None or not nulls_map[place]:
                items[place] = _span(value) // dt.timedelta(microseconds=1) * self.multiply // self.divide

    def after_read_items(self, items: Any, nulls_map: NullsMap = None) -> tuple[Any, ...]:
        spans = (dt.timedelta(microseconds=item * self.divide // self.multiply) for item in items)
        return _masked(spans, nulls_map)


def _decimal(spec: str, options: dict[str, Any]) -> Any:
    """``Decimal``, with the digits of its column: upstream drops zeros at the end."""
    column: Any = create_decimal_column(spec, options)
    scale = -column.scale

    def read(items: Any, nulls_map: NullsMap = None) -> tuple[Any, ...]:
        return _masked([decimal.Decimal(item).scaleb(scale) for item in items], nulls_map)

    column.after_read_items = read
    return column


def column_for(spec: str, options: dict[str, Any]) -> Any:
    """Return the codec of a type name.

    Raises:
        clickhouse_driver.errors.UnknownTypeError: clickhouse-driver cannot carry the type.
    """

    def inner(inner_spec: str) -> Any:
        return column_for(inner_spec, options)

    name, _, rest = spec.partition("(")
    if name == "DateTime":
        return _DateTime(offset_naive=False, **options)
    if name == "DateTime64":
        return _DateTime64(scale=int(split_arguments(rest[:-1])[0]), offset_naive=False, **options)
    if name == "Time64":
        return _Time64(int(rest[:-1]), **options)
    if name == "Decimal":
        return _decimal(spec, options)
    if name == "Nullable":
        column = inner(rest[:-1])
        column.nullable = True
        return column
    if name == "Array":
        return create_array_column(spec, inner, options)
    if name == "Tuple":
        return create_tuple_column(spec, inner, options)
    if name == "Map":
        key, value = split_arguments(rest[:-1])  # upstream cuts a nested Map in the wrong place
        return MapColumn(inner(key), inner(value), **options)
    if name == "LowCardinality":
        return create_low_cardinality_column(spec, inner, options)
    if name == "FixedString":
        return ByteFixedString(int(rest[:-1]), **options)  # upstream's other one cuts zero bytes off the end
    if name == "SimpleAggregateFunction":
        return inner(split_arguments(rest[:-1])[-1])
    return service.get_column_by_spec(spec, options)


def read_column(context: Any, spec: str, rows: int, source: Any, *, custom: bool) -> Any:
    """Read one column of a block."""
    column = column_for(spec, {"context": context, "has_custom_serialization": custom})
    column.read_state_prefix(source)
    return column.read_data(rows, source)


def encode(context: Any, spec: str, values: Sequence[Any], target: Any) -> None:
    """Write one column of a block; ``values`` stay as they are.

    Raises:
        ValueError: a value does not fit the column.
    """
    column = column_for(spec, {"context": context})
    items = list(column_writer(spec)(values))
    column.write_state_prefix(target, items)
    column.write_data(items, target)
