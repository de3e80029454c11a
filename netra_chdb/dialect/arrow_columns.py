"""Arrow columns as columns of a Native block: buffers are taken as they are, without a Python object for each value.

Only what is the same in both goes this way. What a type does not hold, and types that are built differently, are
left to the codecs of Python values, which know how to write them and how to refuse them.
"""

from __future__ import annotations

import array
import struct
import sys
import uuid
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

from netra_chdb.dialect.type_parser import enum_numbers, split_arguments

__all__ = ["Encoded", "arrow", "arrow_select", "encoded", "is_arrow", "made_ready"]

Parts: TypeAlias = list[Any]
#: Returns the bytes of a column without nulls; None where it is not for this type.
Encode: TypeAlias = Callable[[Any], Parts | None]

_LARGE: Final = 2**30
_IDENTIFIER: Final = str.maketrans({"\\": "\\\\", "`": "\\`"})
_UNITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_LAST_SECOND: Final = 9_223_372_036 - 1  # of 64 bits of nanoseconds: within the range of every DateTime64
_DATES_32: Final = (-25_567, 120_529)
# One dictionary for the block, with all of its keys in it.
_KEYS_FOLLOW: Final = (1 << 9) | (1 << 10)


class Encoded:
    """A column whose bytes are ready.

    Attributes:
        parts: the bytes, in pieces.
    """

    __slots__ = ("_rows", "parts")

    def __init__(self, rows: int, parts: Parts) -> None:
        self._rows = rows
        self.parts = parts

    def __len__(self) -> int:
        return self._rows


def arrow() -> Any:
    """Return pyarrow, imported when it is first needed."""
    import pyarrow as pa
    import pyarrow.compute

    return pa


def is_arrow(column: Any) -> bool:
    """Whether a column is an Arrow array."""
    return type(column).__module__ == "pyarrow.lib"


def encoded(type_name: str, column: Any) -> Encoded | None:
    """Return a column as a Native block of ``type_name`` holds it; None where Python values have to do."""
    write = _encoder(type_name.strip()) if sys.byteorder == "little" else None
    if write is None or not len(column):
        return None
    pa = arrow()

    try:
        parts = write(column)
    except pa.ArrowInvalid:
        return None  # a value that does not fit: who writes Python values says which
    return None if parts is None else Encoded(len(column), parts)


def arrow_select(names: Sequence[str], columns: Sequence[Any]) -> tuple[str, str, Any] | None:
    """Return what a SELECT from an Arrow table needs to insert ``columns``; None where some are no Arrow.

    Returns:
        The columns' names as SQL, the expressions for them, and the table, whose columns are named by number.
    """
    if not all(map(is_arrow, columns)) or not columns or not len(columns[0]):
        return None
    pa = arrow()

    expressions, held = [], {}
    for number, column in enumerate(columns):
        if column.type == pa.binary(16):
            found = column.unique()
            if len(found) > 1:
                return None  # the engine takes them for text; the one of a batch is a constant
            expressions.append(f"toUUID('{uuid.UUID(bytes=found[0].as_py())}')")
        else:
            held[f"c{number}"] = column
            expressions.append(f"c{number}")
    if not held:
        return None
    quoted = [f"`{name.translate(_IDENTIFIER)}`" for name in names]
    return ", ".join(quoted), ", ".join(expressions), pa.table(held)


def made_ready(type_name: str, column: Any, writer: Callable[[str], Callable[[Any], Any]]) -> Any:
    """Return a column made ready for its type: by ``writer``, unless Arrow holds it as the block does.

    Args:
        type_name: ClickHouse's.
        column: Python values, or an Arrow array.
        writer: for a type's name, what makes Python values ready.
    """
    if is_arrow(column):
        if (ready := encoded(type_name, column)) is not None:
            return ready
        column = column.to_pylist()
    return writer(type_name)(column)


def _fixed(column: Any, width: int) -> Any:
    buffer = column.buffers()[1]
    return memoryview(buffer)[column.offset * width : (column.offset + len(column)) * width]


def _integer(name: str) -> Encode:
    def write(column: Any) -> Parts | None:
        pa = arrow()

        if not pa.types.is_integer(column.type):
            return None
        target = pa.type_for_alias(name.lower())
        return [_fixed(column.cast(target), target.bit_width // 8)]

    return write


def _float64(column: Any) -> Parts | None:
    pa = arrow()

    return [_fixed(column, 8)] if column.type == pa.float64() else None


def _bool(column: Any) -> Parts | None:
    pa = arrow()

    return [_fixed(column.cast(pa.uint8()), 1)] if column.type == pa.bool_() else None


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def _string(column: Any) -> Parts | None:
    pa = arrow()

    kinds = pa.types
    if not (kinds.is_string(column.type) or kinds.is_large_string(column.type) or kinds.is_binary(column.type)):
        return None
    binary = pa.large_binary() if column.nbytes > _LARGE else pa.binary()
    lengths = pa.compute.binary_length(column).dictionary_encode()
    prefixes = pa.array([_varint(length) for length in lengths.dictionary.to_pylist()], binary)
    joined = pa.compute.binary_join_element_wise(
        prefixes.take(lengths.indices), column.cast(binary), pa.scalar(b"", binary)
    )
    _, offsets, data = joined.buffers()
    places = memoryview(offsets).cast("q" if binary == pa.large_binary() else "i")
    return [memoryview(data)[places[joined.offset] : places[joined.offset + len(joined)]]]


def _low_cardinality(inner: str) -> Encode | None:
    nullable = inner == "Nullable(String)"
    if not nullable and inner != "String":
        return None

    def write(column: Any) -> Parts | None:
        pa = arrow()

        if not pa.types.is_string(column.type) or (column.null_count and not nullable):
            return None
        found = column.dictionary_encode()
        keys, places = found.dictionary, found.indices
        if nullable:
            # The first key stands for NULL.
            keys = pa.concat_arrays([pa.array([""], keys.type), keys])
            places = pa.compute.fill_null(pa.compute.add(places, 1), 0)
        kind, width, target = next(
            each
            for each in ((0, 1, pa.uint8()), (1, 2, pa.uint16()), (2, 4, pa.uint32()))
            if len(keys) <= 1 << 8 * each[1]
        )
        texts = _string(keys) or []
        head = struct.pack("<qqQ", 1, kind | _KEYS_FOLLOW, len(keys))
        return [head, *texts, struct.pack("<Q", len(places)), _fixed(places.cast(target), width)]

    return write


def _datetime(precision: int, target: str = "int64", width: int = 8) -> Encode:
    def write(column: Any) -> Parts | None:
        pa = arrow()

        if not pa.types.is_timestamp(column.type):
            return None
        unit = _UNITS[column.type.unit]
        ticks = column.cast(pa.int64())
        ends = pa.compute.min_max(ticks)
        # Before 1970 a division would round towards 1970, where the column is cut towards the past.
        if ends["min"].as_py() < 0 or ends["max"].as_py() // 10**unit > _LAST_SECOND:
            return None
        if unit > precision:
            ticks = pa.compute.divide(ticks, 10 ** (unit - precision))
        elif unit < precision:
            ticks = pa.compute.multiply_checked(ticks, 10 ** (precision - unit))
        return [_fixed(ticks.cast(pa.type_for_alias(target)), width)]

    return write


def _date(target: str, width: int) -> Encode:
    def write(column: Any) -> Parts | None:
        pa = arrow()

        if not pa.types.is_date32(column.type):
            return None
        days = column.cast(pa.int32())
        ends = pa.compute.min_max(days)
        if ends["min"].as_py() < _DATES_32[0] or ends["max"].as_py() > _DATES_32[1]:
            return None
        return [_fixed(days.cast(pa.type_for_alias(target)), width)]

    return write


def _uuid(column: Any) -> Parts | None:
    pa = arrow()

    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if column.type != pa.binary(16):
        return None
    # Two halves, each with its last byte first.
    halves = array.array("Q", bytes(_fixed(column, 16)))
    halves.byteswap()
    return [halves.tobytes()]


def _enum(arguments: list[str], target: str, width: int) -> Encode:
    numbers = enum_numbers(arguments)

    def write(column: Any) -> Parts | None:
        pa = arrow()

        if not pa.types.is_string(column.type):
            return None
        places = pa.compute.index_in(column, value_set=pa.array(list(numbers), pa.string()))
        if places.null_count:
            return None
        return [_fixed(pa.array(list(numbers.values()), pa.type_for_alias(target)).take(places), width)]

    return write


def _nullable(inner: Encode) -> Encode:
    def write(column: Any) -> Parts | None:
        pa = arrow()

        nulls = pa.compute.is_null(column).cast(pa.uint8())
        if column.null_count == len(column):
            return None
        if column.null_count:
            # Under a NULL stands a value that the type holds: the first one will do.
            column = pa.compute.coalesce(column, pa.compute.drop_null(column)[0])
        parts = inner(column)
        return None if parts is None else [_fixed(nulls, 1), *parts]

    return write


def _without_nulls(inner: Encode) -> Encode:
    return lambda column: None if column.null_count else inner(column)


_PLAIN: Final[dict[str, Encode]] = {
    **{f"{sign}Int{bits}": _integer(f"{sign}Int{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "Float64": _float64,
    "Bool": _bool,
    "String": _string,
    "UUID": _uuid,
    "Date": _date("uint16", 2),
    "Date32": _date("int32", 4),
    "DateTime": _datetime(0, "uint32", 4),
}


def _plain(text: str) -> Encode | None:
    name, _, rest = text.partition("(")
    arguments = split_arguments(rest[:-1])
    if not rest:
        return _PLAIN.get(text)
    if name == "DateTime":
        return _PLAIN[name]
    if name == "DateTime64":
        return _datetime(int(arguments[0]))
    if name in ("Enum8", "Enum16"):
        return _enum(arguments, *(("int8", 1) if name == "Enum8" else ("int16", 2)))
    return None


@lru_cache(maxsize=256)
def _encoder(text: str) -> Encode | None:
    if text.startswith("LowCardinality("):
        return _low_cardinality(text.removeprefix("LowCardinality(")[:-1])
    if text.startswith("Nullable("):
        inner = _plain(text.removeprefix("Nullable(")[:-1])
        return None if inner is None else _nullable(inner)
    found = _plain(text)
    return None if found is None else _without_nulls(found)
