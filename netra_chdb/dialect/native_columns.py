"""clickhouse-driver's column codecs, corrected where they change a value without a word.

Answered here: times that come back naive, in the server's zone, rounded through a float or (before 1970) a second
off; dates out of range stored as 1970-01-01; wide integers and decimals chopped to size; truth taken for any object.
Its ``types_check=True`` chops integers as well, so values are checked by what packs them, and here.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable, Sequence
from typing import Any, Final

from clickhouse_driver.block import ColumnOrientedBlock
from clickhouse_driver.columns import boolcolumn, datecolumn, datetimecolumn, decimalcolumn, intcolumn, service
from clickhouse_driver.columns.arraycolumn import create_array_column
from clickhouse_driver.columns.lowcardinalitycolumn import create_low_cardinality_column
from clickhouse_driver.columns.mapcolumn import MapColumn
from clickhouse_driver.columns.tuplecolumn import create_tuple_column

from netra_chdb.dialect.type_parser import split_arguments

__all__ = ["column_for", "encode", "read_column"]

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)
_FIRST: Final = dt.datetime(1900, 1, 1, tzinfo=dt.UTC)
_END: Final = dt.datetime(2300, 1, 1, tzinfo=dt.UTC)

NullsMap = Sequence[bool] | None


def _present(items: Any, nulls: NullsMap, read: Callable[[Any], Any]) -> tuple[Any, ...]:
    if nulls is None:
        return tuple(map(read, items))
    return tuple(None if null else read(item) for item, null in zip(items, nulls, strict=True))


def _replace(items: list[Any], nulls: NullsMap, write: Callable[[Any], Any], null_value: Any) -> None:
    for index, item in enumerate(items):
        items[index] = null_value if nulls and nulls[index] else write(item)


def _aware(value: Any) -> dt.datetime:
    if not isinstance(value, dt.datetime):
        raise TypeError(f"a datetime is needed, not {type(value).__name__}")
    return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value


class _DateTime(datetimecolumn.DateTimeColumn):  # type: ignore[misc]
    """``DateTime``: aware, in UTC, whatever zone the column displays."""

    def after_read_items(self, items: Any, nulls_map: NullsMap = None) -> tuple[Any, ...]:
        return _present(items, nulls_map, lambda item: dt.datetime.fromtimestamp(item, dt.UTC))

    def before_write_items(self, items: list[Any], nulls_map: NullsMap = None) -> None:
        _replace(items, nulls_map, lambda value: (_aware(value) - _EPOCH) // dt.timedelta(seconds=1), self.null_value)


class _DateTime64(datetimecolumn.DateTime64Column):  # type: ignore[misc]
    """``DateTime64``: in whole microseconds, never through a float."""

    def after_read_items(self, items: Any, nulls_map: NullsMap = None) -> tuple[Any, ...]:
        if self.scale <= 6:
            factor = 10 ** (6 - self.scale)
            return _present(items, nulls_map, lambda item: _EPOCH + dt.timedelta(0, 0, item * factor))
        divisor = 10 ** (self.scale - 6)
        return _present(items, nulls_map, lambda item: _EPOCH + dt.timedelta(0, 0, item // divisor))

    def before_write_items(self, items: list[Any], nulls_map: NullsMap = None) -> None:
        scale = 10**self.scale

        def write(value: Any) -> int:
            moment = _aware(value)
            if not _FIRST <= moment < _END:
                raise ValueError(f"{value} is outside the years 1900 to 2299 of DateTime64")
            return (moment - _EPOCH) // _MICROSECOND * scale // 1_000_000

        _replace(items, nulls_map, write, self.null_value)


class _StrictDate:
    """Upstream stores a date that does not fit as 1970-01-01."""

    null_value: Any
    date_lut_reverse: dict[dt.date, int]
    min_value: dt.date
    max_value: dt.date

    def before_write_items(self, items: list[Any], nulls_map: NullsMap = None) -> None:
        def write(value: Any) -> int:
            if not isinstance(value, dt.date):
                raise TypeError(f"a date is needed, not {type(value).__name__}")
            day = value.date() if isinstance(value, dt.datetime) else value
            if not self.min_value <= day <= self.max_value:
                raise ValueError(f"{value} is outside {self.min_value} to {self.max_value}")
            return self.date_lut_reverse[day]

        _replace(items, nulls_map, write, self.null_value)


class _Date(_StrictDate, datecolumn.DateColumn):  # type: ignore[misc]
    """``Date``."""


class _Date32(_StrictDate, datecolumn.Date32Column):  # type: ignore[misc]
    """``Date32``."""


class _Bool(boolcolumn.BoolColumn):  # type: ignore[misc]
    """``Bool``: upstream packs the truth of any object."""

    def before_write_items(self, items: list[Any], nulls_map: NullsMap = None) -> None:
        def write(value: Any) -> bool:
            if value is None or value not in (False, True):
                raise TypeError(f"a bool is needed, not {value!r}")
            return bool(value)

        _replace(items, nulls_map, write, False)


def _wide(column: Any) -> Any:
    bits = 8 * column.int_size
    signed = not column.ch_type.startswith("U")
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)

    def write(value: Any) -> int:
        number = value.__index__()  # refuses a float, takes NumPy's integers
        if not low <= number < high:
            raise OverflowError(f"{value} does not fit {column.ch_type}")
        return int(number)

    column.before_write_items = lambda items, nulls_map=None: _replace(items, nulls_map, write, 0)
    return column


def _decimal(spec: str, options: dict[str, Any]) -> Any:
    column = decimalcolumn.create_decimal_column(spec, options)
    limit, scale = 10**column.precision, column.scale

    def write(value: Any) -> int:
        exact = value if isinstance(value, decimal.Decimal) else decimal.Decimal(str(value))
        number = int(exact.scaleb(scale))
        if abs(number) >= limit:
            raise OverflowError(f"{value} does not fit {spec}")
        return number

    column.before_write_items = lambda items, nulls_map=None: _replace(items, nulls_map, write, 0)
    return column


_LEAVES: Final[dict[str, Callable[..., Any]]] = {
    "Date": _Date,
    "Date32": _Date32,
    "Bool": _Bool,
    "Int128": lambda **options: _wide(intcolumn.Int128Column(**options)),
    "Int256": lambda **options: _wide(intcolumn.Int256Column(**options)),
    "UInt128": lambda **options: _wide(intcolumn.UInt128Column(**options)),
    "UInt256": lambda **options: _wide(intcolumn.UInt256Column(**options)),
    "DateTime": lambda **options: _DateTime(offset_naive=False, **options),
}


def column_for(spec: str, options: dict[str, Any]) -> Any:
    """Return the codec of a type name.

    Raises:
        clickhouse_driver.errors.UnknownTypeError: clickhouse-driver cannot carry the type.
    """

    def inner(inner_spec: str) -> Any:
        return column_for(inner_spec, options)

    leaf = _LEAVES.get(spec)
    if leaf is not None:
        return leaf(**options)
    name, _, rest = spec.partition("(")
    if name == "DateTime":
        return _DateTime(offset_naive=False, **options)
    if name == "DateTime64":
        return _DateTime64(scale=int(split_arguments(rest[:-1])[0]), offset_naive=False, **options)
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
    if name == "SimpleAggregateFunction":
        return inner(split_arguments(rest[:-1])[-1])
    return service.get_column_by_spec(spec, options)


def read_column(context: Any, spec: str, rows: int, source: Any, *, custom: bool) -> Any:
    """Read one column of a block."""
    column = column_for(spec, {"context": context, "has_custom_serialization": custom})
    column.read_state_prefix(source)
    return column.read_data(rows, source)


def encode(context: Any, name: str, spec: str, values: Sequence[Any], target: Any) -> None:
    """Write one column of a block; ``values`` stay as they are."""
    column = column_for(spec, {"context": context})
    items = list(values)
    column.write_state_prefix(target, items)
    column.write_data(items, target)


def block_of(columns_with_types: list[tuple[str, str]], data: list[Any], info: Any) -> ColumnOrientedBlock:
    """Return what was read as clickhouse-driver's block."""
    return ColumnOrientedBlock(columns_with_types=columns_with_types, data=data, info=info)
