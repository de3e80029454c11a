"""Columns of Python values made ready for a Native block: exact, or refused.

The codecs underneath change values in silence: clickhouse-connect wrote 1.9 into Int8 as 1, None into Bool, UUID and
IPv6 as zero, an unknown name of an Enum as NULL, ``"1.2.3.256"`` as 1.2.4.0, Decimal 1.005 as 1.00, -0.0 as 0.0 (in a
dictionary), a naive time in the zone of this machine, and, through floats, times after 2242 up to a second late. Here
each column is checked against its type once, as a column: for what is fine already that is one pass in C.
"""

from __future__ import annotations

import datetime as dt
import decimal
import ipaddress
import math
import operator
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final, TypeAlias

from netra_chdb.dialect.arrow_columns import made_ready
from netra_chdb.dialect.documents import document_writer
from netra_chdb.dialect.type_parser import enum_numbers, split_arguments, split_named
from netra_chdb.dialect.type_shapes import SHAPES
from netra_chdb.dialect.variants import dynamic_writer, variant_writer

__all__ = ["column_writer", "write_columns"]

Column: TypeAlias = Sequence[Any]
Writer: TypeAlias = Callable[[Column], Column]

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NAIVE_EPOCH: Final = dt.datetime(1970, 1, 1)
_MICROSECOND: Final = dt.timedelta(microseconds=1)


def _refuse(value: Any, type_name: str, why: str = "") -> ValueError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return ValueError(f"{shown} ({type(value).__name__}) is no {type_name}{f': {why}' if why else ''}")


def _plain(value: Any) -> Any:
    """A NumPy scalar as Python's; everything else as it is."""
    return value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value


def _integer(name: str, bits: int, *, signed: bool) -> Writer:
    low = -(1 << (bits - 1)) if signed else 0
    high = (1 << (bits - 1 if signed else bits)) - 1

    def write(column: Column) -> Column:
        if not column:
            return column
        if set(map(type, column)) != {int}:
            column = [_index(value, name) for value in column]
        for value in (min(column), max(column)):
            if not low <= value <= high:
                raise _refuse(value, name, f"it goes from {low} to {high}")
        return column

    return write


def _index(value: Any, name: str) -> int:
    try:
        return int(operator.index(value))
    except TypeError:
        raise _refuse(value, name) from None


def _float(name: str) -> Writer:
    def one(value: Any) -> float:
        value = _plain(value)
        if isinstance(value, int):
            converted = float(value)
            if converted != value:
                raise _refuse(value, name, "it has too many digits")
            return converted
        if isinstance(value, float):
            return value
        raise _refuse(value, name)

    return lambda column: column if set(map(type, column)) <= {float} else [one(value) for value in column]


def _signed_zeros(inner: Writer, name: str) -> Writer:
    """In a dictionary 0.0 and -0.0 are one key, whichever came first."""

    def write(column: Column) -> Column:
        column = inner(column)
        for value in column:
            if value == 0 and math.copysign(1.0, value) < 0:
                raise _refuse(value, name, "a dictionary does not keep the sign of a zero")
        return column

    return write


def _decimal(name: str, precision: int, scale: int) -> Writer:
    exact = decimal.Context(prec=precision, traps=[decimal.Inexact, decimal.InvalidOperation, decimal.Overflow])
    unit = decimal.Decimal(1).scaleb(-scale)

    def one(value: Any) -> Any:
        value = _plain(value)
        if isinstance(value, int):
            value = decimal.Decimal(value)
        elif not isinstance(value, decimal.Decimal):
            raise _refuse(value, name)
        if not value.is_finite():
            raise _refuse(value, name)
        try:
            return value.quantize(unit, context=exact)
        except decimal.DecimalException:
            raise _refuse(value, name, "it has too many digits") from None

    return lambda column: [one(value) for value in column]


def _bool(name: str) -> Writer:
    def one(value: Any) -> bool:
        value = _plain(value)
        if isinstance(value, int) and value in (0, 1):
            return bool(value)
        raise _refuse(value, name)

    return lambda column: column if set(map(type, column)) <= {bool} else [one(value) for value in column]


def _encoded(value: Any, name: str) -> bytes:
    value = _plain(value)
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise _refuse(value, name)


def _string(name: str) -> Writer:
    # The codec takes the class of the first value for the class of all.
    return lambda column: column if set(map(type, column)) <= {str} else [_encoded(value, name) for value in column]


def _fixed_string(name: str, length: int) -> Writer:
    def one(value: Any) -> bytes:
        encoded = _encoded(value, name)
        if len(encoded) > length:
            raise _refuse(value, name, f"it has {len(encoded)} bytes")
        return encoded.ljust(length, b"\0")

    return lambda column: [one(value) for value in column]


def _uuid(name: str) -> Writer:
    def one(value: Any) -> uuid.UUID:
        if isinstance(value, uuid.UUID):
            return value
        if isinstance(value, str):
            return uuid.UUID(value)
        raise _refuse(value, name)

    return lambda column: column if set(map(type, column)) <= {uuid.UUID} else [one(value) for value in column]


def _date(name: str, first: dt.date, last: dt.date) -> Writer:
    def write(column: Column) -> Column:
        for value in column if set(map(type, column)) - {dt.date} else ():
            # A datetime is a date to Python; its time would be cut off.
            if not isinstance(value, dt.date) or isinstance(value, dt.datetime):
                raise _refuse(value, name)
        if column and not (first <= min(column) and max(column) <= last):
            value = min(column) if min(column) < first else max(column)
            raise _refuse(value, name, f"it goes from {first} to {last}")
        return column

    return write


def _datetime(name: str, first: dt.datetime, last: dt.datetime, precision: int) -> Writer:
    low, high = (moment // _MICROSECOND for moment in (first - _EPOCH, last - _EPOCH))
    multiply, divide = 10 ** max(0, precision - 6), 10 ** max(0, 6 - precision)

    def ticks(value: Any) -> Any:
        if not isinstance(value, dt.datetime):
            raise _refuse(value, name)
        # Naive means UTC. Whole microseconds, never floats: a float is too coarse for them after 2242.
        passed = value - (_EPOCH if value.tzinfo is not None else _NAIVE_EPOCH)
        count = (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds
        if not low <= count <= high:
            raise _refuse(value, name, f"it goes from {first} to {last}")
        return count * multiply // divide

    return lambda column: [ticks(value) for value in column]


def _enum(name: str, numbers: Mapping[str, int]) -> Writer:
    known = set(numbers.values())

    def one(value: Any) -> int:
        number = numbers.get(value) if isinstance(value, str) else _plain(value)
        if type(number) is int and number in known:
            return number
        raise _refuse(value, name)

    return lambda column: [one(value) for value in column]


def _address(name: str, cls: Any) -> Writer:
    def one(value: Any) -> Any:
        address = value if isinstance(value, cls) else cls(value) if isinstance(value, str) else None
        if address is None or getattr(address, "scope_id", None):
            raise _refuse(value, name)
        return address

    return lambda column: [one(value) for value in column]


def _nullable(inner: Writer) -> Writer:
    def write(column: Column) -> Column:
        present = [value for value in column if value is not None]
        if len(present) == len(column):
            return inner(column)
        written = inner(present)
        if written is present:
            return column
        values = iter(written)
        return [None if value is None else next(values) for value in column]

    return write


def _array(name: str, inner: Writer) -> Writer:
    def write(column: Column) -> Column:
        for value in column:
            if not isinstance(value, list | tuple) and type(value).__name__ != "ndarray":
                raise _refuse(value, name)
        flat = list(chain.from_iterable(column))
        written = inner(flat)
        if written is flat:
            return column
        values = iter(written)
        return [[next(values) for _ in value] for value in column]

    return write


def _map(name: str, keys: Writer, values: Writer) -> Writer:
    def write(column: Column) -> Column:
        for value in column:
            if not isinstance(value, Mapping):
                raise _refuse(value, name)
        written_keys = iter(keys([key for value in column for key in value]))
        written_values = iter(values([item for value in column for item in value.values()]))
        return [{next(written_keys): next(written_values) for _ in value} for value in column]

    return write


def _tuple(name: str, names: Sequence[str], inner: Sequence[Writer]) -> Writer:
    def one(value: Any) -> Sequence[Any]:
        if isinstance(value, Mapping) and names and set(value) == set(names):
            return [value[key] for key in names]
        if not isinstance(value, list | tuple) or len(value) != len(inner):
            raise _refuse(value, name)
        return value

    def write(column: Column) -> Column:
        rows = [one(value) for value in column]
        if not rows or not inner:
            return [tuple(row) for row in rows]
        parts = zip(inner, zip(*rows, strict=True), strict=True)
        return list(zip(*[writer(part) for writer, part in parts], strict=True))

    return write


_LONGEST: Final = dt.timedelta(hours=1000)


def _time(name: str, precision: int) -> Writer:
    multiply, divide = 10 ** max(0, precision - 6), 10 ** max(0, 6 - precision)

    def ticks(value: Any) -> int:
        if isinstance(value, dt.time) and value.tzinfo is None:
            value = dt.datetime.combine(_NAIVE_EPOCH, value) - _NAIVE_EPOCH
        if not isinstance(value, dt.timedelta) or abs(value) >= _LONGEST:
            raise _refuse(value, name, "it takes a span of less than 1000 hours, or a time of day without a zone")
        # Cut towards zero, as the server does.
        count: int = abs(value) // _MICROSECOND * multiply // divide
        return count if value >= dt.timedelta(0) else -count

    return lambda column: [ticks(value) for value in column]


_MAX_32: Final = dt.datetime(2106, 2, 7, 6, 28, 15, 999_999, tzinfo=dt.UTC)
_FIRST_64: Final = dt.datetime(1900, 1, 1, tzinfo=dt.UTC)
_LAST_64: Final = dt.datetime(2299, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC)
# 64 bits of nanoseconds end here.
_LAST_NANOSECONDS: Final = dt.datetime(2262, 4, 11, 23, 47, 16, 854_775, tzinfo=dt.UTC)
_DIGITS: Final = {"Decimal32": 9, "Decimal64": 18, "Decimal128": 38, "Decimal256": 76}

_PLAIN: Final[dict[str, Writer]] = {
    **{f"Int{bits}": _integer(f"Int{bits}", bits, signed=True) for bits in (8, 16, 32, 64, 128, 256)},
    **{f"UInt{bits}": _integer(f"UInt{bits}", bits, signed=False) for bits in (8, 16, 32, 64, 128, 256)},
    **{name: _float(name) for name in ("Float32", "Float64", "BFloat16")},
    "Bool": _bool("Bool"),
    "String": _string("String"),
    "UUID": _uuid("UUID"),
    "IPv4": _address("IPv4", ipaddress.IPv4Address),
    "IPv6": _address("IPv6", ipaddress.IPv6Address),
    "Date": _date("Date", dt.date(1970, 1, 1), dt.date(2149, 6, 6)),
    "Date32": _date("Date32", dt.date(1900, 1, 1), dt.date(2299, 12, 31)),
    "DateTime": _datetime("DateTime", _EPOCH, _MAX_32, 0),
    "Time": _time("Time", 0),
}


def _low_cardinality(arguments: list[str]) -> Writer:
    inner = column_writer(arguments[0])
    return _signed_zeros(inner, arguments[0]) if arguments[0].startswith("Float") else inner


def _unwritable(text: str) -> Writer:
    def write(column: Column) -> Column:
        # Its types stand before the block, where a codec does not know the values yet.
        raise ValueError(f"a Dynamic inside {text} is written by SQL alone; a Variant can be inserted")

    return write


def _build(name: str, text: str, arguments: list[str]) -> Writer | None:
    if any(split_named(argument)[1].startswith("Dynamic") for argument in arguments):
        return _unwritable(text)
    if name == "Nullable":
        return _nullable(column_writer(arguments[0]))
    if name == "LowCardinality":
        return _low_cardinality(arguments)
    if name == "SimpleAggregateFunction":
        return column_writer(arguments[1])
    if name == "Array":
        return _array(text, column_writer(arguments[0]))
    if name == "Map":
        return _map(text, column_writer(arguments[0]), column_writer(arguments[1]))
    if name == "Tuple":
        elements = [split_named(argument) for argument in arguments]
        names = [label for label, _ in elements if label is not None]
        return _tuple(text, names, [column_writer(inner) for _, inner in elements])
    if name == "FixedString":
        return _fixed_string(text, int(arguments[0]))
    if name == "Decimal":
        return _decimal(text, int(arguments[0]), int(arguments[1]))
    if name in _DIGITS:
        return _decimal(text, _DIGITS[name], int(arguments[0]))
    if name == "DateTime":
        return _PLAIN["DateTime"]
    if name == "DateTime64":
        precision = int(arguments[0])
        return _datetime(text, _FIRST_64, _LAST_NANOSECONDS if precision == 9 else _LAST_64, precision)
    if name == "Time64":
        return _time(text, int(arguments[0]))
    if name in ("Enum8", "Enum16"):
        return _enum(text, enum_numbers(arguments))
    if name == "Nested":
        return column_writer(f"Array(Tuple({', '.join(arguments)}))")
    if name == "Variant":
        return variant_writer(arguments, column_writer)
    return None


@lru_cache(maxsize=1024)
def column_writer(type_name: str) -> Writer:
    """Return what makes a column of Python values ready for a block of ``type_name``.

    It gives back what both codecs write exactly; ``ValueError``: one does not fit. Unknown types pass as they are.
    """
    text = SHAPES.get(type_name, type_name.strip())
    name, bracket, rest = text.partition("(")
    arguments = split_arguments(rest[:-1])
    if name == "JSON":
        return document_writer(text, arguments, column_writer)
    if name == "Dynamic":
        return dynamic_writer(column_writer)
    found = _build(name, text, arguments) if bracket else _PLAIN.get(text)
    return found or (lambda column: column)


def write_columns(names: Sequence[str], type_names: Sequence[str], data: Sequence[Column]) -> list[Column]:
    """Return each column made ready for its type.

    Raises:
        ValueError: a value does not fit; the message names its column.
    """
    block = []
    for name, type_name, column in zip(names, type_names, data, strict=True):
        try:
            block.append(made_ready(type_name, column, column_writer))
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"column {name!r}: {error}") from error
    return block
