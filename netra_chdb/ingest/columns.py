"""What a column accepts, asked of the column as a whole: Arrow's comparisons stand for one of Python's for each value.

A rule here takes what the rule of the same type in ``rules`` takes, and gives equal values; where it is not sure it
says so, and the values are asked one by one.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

from netra_chdb.dialect import types
from netra_chdb.dialect.arrow_columns import arrow, is_arrow
from netra_chdb.ingest.rules import COUNT, DATES_16, DATES_32, TIMES

__all__ = ["Column", "ColumnRule", "column_rule", "constant", "packed", "values_of"]

Column: TypeAlias = Any
"""A sequence of Python values, or an Arrow array."""

Classes: TypeAlias = frozenset[type]

ColumnRule: TypeAlias = Callable[[Column], Any]
"""Takes a column, returns it as the driver wants it; None where each value has to be asked."""


#: Exactly these classes are in Arrow what they are in Python.
_EXACT: Final[dict[type, str]] = {
    bool: "bool",
    int: "int64",
    float: "float64",
    str: "string",
    dt.date: "date32",
    dt.datetime: "timestamp[us]",
}


def packed(values: Column) -> Column:
    """Return ``values`` as an Arrow array where they are of one class that Arrow holds exactly, None aside."""
    if is_arrow(values):
        return values
    pa = arrow()

    found = set(map(type, values)) - {type(None)}
    if len(found) != 1 or not found <= _EXACT.keys():
        return values
    (kind,) = found
    try:
        return pa.array(values, pa.timestamp("us", "UTC") if kind is dt.datetime else pa.type_for_alias(_EXACT[kind]))
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return values


def values_of(column: Column) -> tuple[Any, ...]:
    """Return a column's values as Python's."""
    if not is_arrow(column):
        return tuple(column)
    pa = arrow()

    array: Any = column
    if array.type == pa.timestamp("us", "UTC"):
        return tuple([None if value is None else value.replace(tzinfo=dt.UTC) for value in array.to_pylist()])
    if array.type == pa.binary(16):
        return tuple([uuid.UUID(bytes=value) for value in array.to_pylist()])
    return tuple(array.to_pylist())


def constant(value: Any, rows: int, rule: ColumnRule | None = None) -> Column:
    """Return a column of one value, which ``rule`` accepts."""
    if isinstance(value, uuid.UUID):
        pa = arrow()

        buffer: Any = pa.py_buffer(value.bytes * rows)
        return pa.Array.from_buffers(pa.binary(16), rows, [None, buffer])
    found = rule([value]) if rule is not None else None
    if found is None:
        found = packed([value])
    if not is_arrow(found):
        return (value,) * rows
    pa = arrow()

    array: Any = found
    return pa.repeat(array[0], rows)


def _array(column: Column, classes: Classes, target: Any) -> Any:
    """``column`` as an Arrow array; None where its values are of other classes."""
    pa = arrow()

    if isinstance(column, pa.ChunkedArray):
        # One chunk is not copied.
        column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if is_arrow(column):
        return column if isinstance(column, pa.Array) else None
    return pa.array(column, target) if set(map(type, column)) <= classes else None


def _within(array: Any, low: Any, high: Any) -> bool:
    ends = arrow().compute.min_max(array).as_py()
    return ends["min"] is None or bool(low <= ends["min"] and ends["max"] <= high)


_INTS: Final[Classes] = frozenset({int, type(None)})


def _integer(name: str) -> ColumnRule:
    def check(column: Column) -> Any:
        pa = arrow()

        target = pa.type_for_alias(name)
        array = _array(column, _INTS, target)
        if array is None or not pa.types.is_integer(array.type):
            return None
        array = array.cast(target)
        return None if name == "uint64" and not _within(array, 0, COUNT) else array

    return check


_FLOATS: Final[Classes] = frozenset({int, float, type(None)})


def _float(column: Column) -> Any:
    pa = arrow()

    array = _array(column, _FLOATS, pa.float64())
    if array is None or not (pa.types.is_floating(array.type) or pa.types.is_integer(array.type)):
        return None
    return array.cast(pa.float64())


_BOOLS: Final[Classes] = frozenset({bool, type(None)})


def _boolean(column: Column) -> Any:
    pa = arrow()

    array = _array(column, _BOOLS, pa.bool_())
    return array if array is not None and array.type == pa.bool_() else None


_STRINGS: Final[Classes] = frozenset({str, type(None)})


def _string(column: Column) -> Any:
    pa = arrow()

    array = _array(column, _STRINGS, pa.string())
    if array is None:
        return None
    kind = array.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or str(kind) == "string_view"):
        return None
    array = array.cast(pa.string())
    if is_arrow(column):
        array.validate(full=True)  # another library's text may be no UTF-8
    return array


def _names(names: Sequence[str]) -> ColumnRule:
    def check(column: Column) -> Any:
        pa = arrow()

        array = _string(column)
        if array is None:
            return None
        known = pa.compute.is_in(array, value_set=pa.array([*names, None], pa.string()))
        return array if pa.compute.all(known).as_py() else None

    return check


_TIMES: Final[Classes] = frozenset({dt.datetime, type(None)})
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LAST: Final = (TIMES[1] - _EPOCH) // dt.timedelta(microseconds=1)


def _time(column: Column) -> Any:
    pa = arrow()

    target = pa.timestamp("us", "UTC")
    array = _array(column, _TIMES, target)
    if array is None or not pa.types.is_timestamp(array.type):
        return None
    # A naive time is UTC, and what has a zone is held as UTC.
    ticks = array.cast(pa.timestamp(array.type.unit, "UTC"))
    if not _within(ticks.cast(pa.int64()), 0, 2**63 - 1):
        return None  # below zero, cutting would round up
    array = ticks.cast(target, safe=ticks.type.unit != "ns")
    return array if _within(array.cast(pa.int64()), 0, _LAST) else None


_DAYS: Final[Classes] = frozenset({dt.date, type(None)})


def _date(low: dt.date, high: dt.date) -> ColumnRule:
    def check(column: Column) -> Any:
        pa = arrow()

        array = _array(column, _DAYS, pa.date32())
        if array is None or array.type != pa.date32():
            return None
        return array if _within(array, low, high) else None

    return check


def _rule(type_: Any) -> ColumnRule | None:
    match = types.INTEGER.match(type_.__visit_name__)
    if match:
        return _integer(match[0]) if int(match[2]) <= 64 else None
    if isinstance(type_, types.JSONText | types.Array | types.Decimal | types.Float32):
        return None
    if isinstance(type_, sa.DateTime):
        return _time
    if isinstance(type_, types.Date):
        return _date(*DATES_16)
    numbers = getattr(type_, "numbers", None)
    if isinstance(numbers, dict):
        return _names(list(numbers))
    for cls, rule in (
        (sa.Boolean, _boolean),
        (sa.Float, _float),
        (sa.Integer, _integer("int64")),
        (sa.Date, _date(*DATES_32)),
    ):
        if isinstance(type_, cls):
            return rule
    return _string if isinstance(type_, sa.String) and not isinstance(type_, types.UUID) else None


def column_rule(type_: Any, *, nullable: bool) -> ColumnRule:
    """Return the rule of a whole column of ``type_``; see :func:`netra_chdb.ingest.rules.rule_for`."""
    rule = _rule(types.unwrap(type_))
    nullable = nullable or types.is_nullable(type_)

    def check(column: Column) -> Any:
        pa = arrow()

        if rule is None:
            return None
        try:
            array = rule(column)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            return None
        return None if array is None or (array.null_count and not nullable) else array

    return check
