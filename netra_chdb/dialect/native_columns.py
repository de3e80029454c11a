"""clickhouse-driver's column codecs, corrected where they change a value without a word.

Answered here: times that came back naive, in the server's zone, rounded through a float or (before 1970) a second off,
and a Map in a Map that was cut in the wrong place. What is written is checked beforehand (``blocks``): upstream's
``types_check=True`` would chop integers that do not fit.
"""

from __future__ import annotations

import datetime as dt
import decimal
import struct
from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from typing import Any, Final

from clickhouse_driver.columns import datetimecolumn, intcolumn, service
from clickhouse_driver.columns.arraycolumn import create_array_column
from clickhouse_driver.columns.decimalcolumn import create_decimal_column
from clickhouse_driver.columns.lowcardinalitycolumn import create_low_cardinality_column
from clickhouse_driver.columns.mapcolumn import MapColumn
from clickhouse_driver.columns.stringcolumn import ByteFixedString, ByteString
from clickhouse_driver.columns.tuplecolumn import TupleColumn
from clickhouse_driver.errors import LogicalError, UnknownTypeError

from netra_chdb.dialect.arrow_columns import Encoded, made_ready
from netra_chdb.dialect.blocks import column_writer
from netra_chdb.dialect.native_dynamic import DynamicColumn, JSONColumn, VariantColumn
from netra_chdb.dialect.type_parser import split_arguments, split_named
from netra_chdb.dialect.type_shapes import SHAPES

__all__ = ["column_for", "encode", "read_column"]

#: What stands for the values that a sparse column leaves out; upstream has the integer 0 for these as well.
_ZEROS: Final = {"Float32": 0.0, "Float64": 0.0, "Bool": False}
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


def _spans(scale: int) -> Any:
    multiply, divide = 10 ** max(0, 6 - scale), 10 ** max(0, scale - 6)

    def read(items: Any, nulls_map: NullsMap = None) -> tuple[Any, ...]:
        # Towards zero, as it was cut.
        ticks = [item * multiply if divide == 1 else abs(item) // divide * (-1 if item < 0 else 1) for item in items]
        return _masked(map(dt.timedelta, repeat(0), repeat(0), ticks), nulls_map)

    return read


def _time(column: Any, scale: int) -> Any:
    """``Time`` and ``Time64``, which clickhouse-driver does not know: spans, in whole microseconds."""
    column.after_read_items = _spans(scale)
    return column


def _decimal(spec: str, options: dict[str, Any]) -> Any:
    """``Decimal``, with the digits of its column: upstream drops zeros at the end."""
    column: Any = create_decimal_column(spec, options)
    scale = -column.scale

    def read(items: Any, nulls_map: NullsMap = None) -> tuple[Any, ...]:
        return _masked([decimal.Decimal(item).scaleb(scale) for item in items], nulls_map)

    column.after_read_items = read
    return column


def _enum(spec: str, options: dict[str, Any]) -> Any:
    """``Enum8`` and ``Enum16``: upstream answers a number without a name with a bare KeyError."""
    column: Any = service.get_column_by_spec(spec, options)
    names = column.name_by_value

    def read(items: Any, nulls_map: NullsMap = None) -> tuple[Any, ...]:
        try:
            if nulls_map is None:
                return tuple(map(names.__getitem__, items))
            return tuple([None if null else names[item] for item, null in zip(items, nulls_map, strict=True)])
        except KeyError as error:
            raise LogicalError(
                f"{error.args[0]} is the number of no name in {spec}: its name was taken out of the type while rows "
                "held it; put it back"
            ) from None

    column.after_read_items = read
    return column


def _bfloat16(options: dict[str, Any]) -> Any:
    """``BFloat16``, which clickhouse-driver does not know: the upper half of a Float32, cut as the server cuts it."""
    column: Any = intcolumn.UInt16Column(**options)

    def read(items: Any, nulls_map: NullsMap = None) -> tuple[Any, ...]:
        halves = struct.pack(f"<{2 * len(items)}H", *chain.from_iterable(zip(repeat(0), items, strict=False)))
        return _masked(struct.unpack(f"<{len(items)}f", halves), nulls_map)

    def write(items: Any, nulls_map: NullsMap = None) -> None:
        floats = struct.pack(f"<{len(items)}f", *items)
        items[:] = struct.unpack(f"<{2 * len(items)}H", floats)[1::2]

    column.after_read_items, column.before_write_items = read, write
    return column


def _several(name: str, arguments: list[str], options: dict[str, Any]) -> Any:
    """The codec of a type whose values have types of their own."""
    if name == "Nested":
        return column_for(f"Array(Tuple({', '.join(arguments)}))", options)
    plain = {**options, "has_custom_serialization": False}  # it stands for the whole column

    def inner(spec: str) -> Any:
        return column_for(spec, plain)

    if name == "Variant":
        return VariantColumn(arguments, inner, **options)
    return DynamicColumn(inner, **options) if name == "Dynamic" else JSONColumn(arguments, inner, **options)


def column_for(spec: str, options: dict[str, Any]) -> Any:
    """Return the codec of a type name.

    Raises:
        clickhouse_driver.errors.UnknownTypeError: clickhouse-driver cannot carry the type.
    """

    def inner(inner_spec: str) -> Any:
        return column_for(inner_spec, options)

    spec = SHAPES.get(spec, spec)
    name, _, rest = spec.partition("(")
    if name in ("Enum8", "Enum16"):
        return _enum(spec, options)
    if name == "BFloat16":
        return _bfloat16(options)
    if name == "DateTime":
        return _DateTime(offset_naive=False, **options)
    if name == "DateTime64":
        return _DateTime64(scale=int(split_arguments(rest[:-1])[0]), offset_naive=False, **options)
    if name == "Time":
        return _time(intcolumn.Int32Column(**options), 0)
    if name == "Time64":
        return _time(intcolumn.Int64Column(**options), int(rest[:-1]))
    if name in ("Variant", "Dynamic", "JSON", "Nested"):
        return _several(name, split_arguments(rest[:-1]), options)
    if name == "Bytes":  # no type of ClickHouse's: a String that is no text
        return ByteString(**options)
    if name == "Decimal":
        return _decimal(spec, options)
    if name == "Nullable":
        column = inner(rest[:-1])
        column.nullable = True
        return column
    if name == "Array":
        return create_array_column(spec, inner, options)
    if name == "Tuple":
        # Upstream's parser stumbles over a comma in an element's name.
        elements = [split_named(argument) for argument in split_arguments(rest[:-1])]
        if not elements:
            raise UnknownTypeError(spec)
        return TupleColumn([label for label, _ in elements], [inner(text) for _, text in elements], **options)
    if name == "Map":
        key, value = split_arguments(rest[:-1])  # upstream cuts a nested Map in the wrong place
        return MapColumn(inner(key), inner(value), **options)
    if name == "LowCardinality":
        return create_low_cardinality_column(spec, inner, options)
    if name == "FixedString":
        column = ByteFixedString(int(rest[:-1]), **options)  # upstream's other one cuts zero bytes off the end
        column.null_value = bytes(int(rest[:-1]))
        return column
    if name == "SimpleAggregateFunction":
        return inner(split_arguments(rest[:-1])[-1])
    column = service.get_column_by_spec(spec, options)
    column.null_value = _ZEROS.get(spec, column.null_value)
    return column


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
    ready = made_ready(spec, values, column_writer)
    if isinstance(ready, Encoded):
        for part in ready.parts:
            target.write(bytes(part))
        return
    column = column_for(spec, {"context": context})
    items = list(ready)
    column.write_state_prefix(target, items)
    column.write_data(items, target)
