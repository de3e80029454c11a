"""Which type a Python value has in a ``Variant`` or ``Dynamic`` column, chosen so that it comes back as it was."""

from __future__ import annotations

import datetime as dt
import decimal
import ipaddress
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from clickhouse_connect.datatypes.dynamic import TypedVariant
from clickhouse_connect.datatypes.registry import get_from_name

from netra_chdb.dialect.literals import Typed

__all__ = ["OPAQUE", "Chosen", "dynamic_type", "dynamic_writer", "member_of", "variant_writer"]

Column: TypeAlias = Sequence[Any]
Writer: TypeAlias = Callable[[Column], Column]

# The first that matches: bool is an int to Python, a datetime a date.
_FAMILIES: Final[tuple[tuple[Any, tuple[str, ...]], ...]] = (
    (bool, ("Bool",)),
    (int, ("Int", "UInt")),
    (float, ("Float",)),
    (str, ("String", "LowCardinality(String", "Enum")),
    (bytes, ("String", "FixedString", "LowCardinality(")),
    (decimal.Decimal, ("Decimal",)),
    (uuid.UUID, ("UUID",)),
    (dt.datetime, ("DateTime",)),
    (dt.date, ("Date", "Date32")),
    (dt.timedelta, ("Time",)),
    (ipaddress.IPv4Address, ("IPv4",)),
    (ipaddress.IPv6Address, ("IPv6",)),
    (list, ("Array", "Nested")),
    (tuple, ("Tuple",)),
    (Mapping, ("Map", "JSON")),
)


class Chosen(list[Any]):
    """Values of a ``Dynamic`` column, sent as a ``Variant`` of the types that they have: the server converts it.

    Attributes:
        type_name: the block's type of this column.
    """

    type_name: str


def _is_of(name: str, families: tuple[str, ...]) -> bool:
    if "DateTime" in families:
        return name.startswith("DateTime")
    if "Date" in families:
        return name in families
    if "Time" in families:
        return name == "Time" or name.startswith("Time64")
    return name.startswith(families)


def _preference(name: str) -> tuple[int, str]:
    # The most exact first: a value goes into the first that takes it.
    exact = name.startswith(("DateTime64", "Time64"))
    return (-int(name.partition("(")[2][0]) - 1 if exact else 0), "" if name in ("Float64", "Date32") else name


def member_of(value: Any, members: Sequence[str], column_writer: Callable[[str], Writer]) -> str:
    """Return the type among ``members`` that holds ``value`` and gives it back as it is.

    Raises:
        ValueError: there is none.
    """
    if isinstance(value, TypedVariant):
        if value.type_name not in members:
            raise ValueError(f"{value.type_name} is none of {', '.join(members)}")
        return str(value.type_name)
    families = next((names for cls, names in _FAMILIES if isinstance(value, cls)), ())
    for name in sorted((name for name in members if _is_of(name, families)), key=_preference):
        try:
            column_writer(name)([value])
        except (TypeError, ValueError, OverflowError):
            continue
        return name
    raise ValueError(f"{value!r} ({type(value).__name__}) is none of {', '.join(members)}")


def _typed(values: Column, names: Sequence[str | None], column_writer: Callable[[str], Writer]) -> list[Any]:
    """Return each value with its type, made ready for it a column at a time: a codec looks at the first one only."""
    written = {}
    for name in {name for name in names if name is not None}:
        plain = [_plain(value) for value, own in zip(values, names, strict=True) if own == name]
        typed = get_from_name(name).name
        written[name] = iter([TypedVariant(value, typed) for value in column_writer(name)(plain)])
    return [None if name is None else next(written[name]) for name in names]


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, TypedVariant) else value


def _bare(column: Column) -> list[Any]:
    return [value.value if isinstance(value, Typed) else value for value in column]


def variant_writer(members: Sequence[str], column_writer: Callable[[str], Writer]) -> Writer:
    """Return what tells the member of each value of a ``Variant`` column; None is NULL."""

    def write(column: Column) -> Column:
        values = _bare(column)
        names = [None if value is None else member_of(value, members, column_writer) for value in values]
        return _typed(values, names, column_writer)

    return write


def dynamic_type(value: Any) -> str:
    """Return the type that ``value`` gets in a ``Dynamic`` column.

    Raises:
        ValueError: there is none that gives it back as it is.
    """
    if isinstance(value, str | bytes) and (value.encode() if isinstance(value, str) else value)[:1] in OPAQUE:
        raise ValueError(f"{value!r} begins as values do that clickhouse-connect cannot read in a Dynamic column")
    return _type_of(value)


def _type_of(value: Any) -> str:
    for cls, name in _SCALARS:
        if isinstance(value, cls):
            return str(name(value) if callable(name) else name)
    if isinstance(value, list):
        return f"Array({_common(value, value)})"
    if isinstance(value, tuple) and value:
        return f"Tuple({', '.join(map(_type_of, value))})"
    if isinstance(value, Mapping):
        return f"Map({_common(list(value), value)}, {_common(list(value.values()), value)})"
    raise ValueError(f"{value!r} ({type(value).__name__}) has no type in a Dynamic column")


def _common(items: list[Any], whole: Any) -> str:
    """Return the one type of ``items``; an empty list among others is one of their kind."""
    present = [item for item in items if item is not None]
    told = [item for item in present if item != []] or present
    if told and all(type(item) is int for item in told):
        found = {_widest(told)}
    else:
        found = {_type_of(item) for item in told}
    if len(found) > 1:
        raise ValueError(f"{whole!r} holds values of more than one type: {', '.join(sorted(found))}")
    name = found.pop() if found else "String"
    if len(present) == len(items):
        return name
    if name.startswith(("Array", "Map", "Tuple")):
        raise ValueError(f"{whole!r}: a {name} cannot be NULL")
    return f"Nullable({name})"


def _widest(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    for bits in (64, 128, 256):
        if -(1 << (bits - 1)) <= low and high < 1 << (bits - 1):
            return f"Int{bits}"
        if low >= 0 and high < 1 << bits:
            return f"UInt{bits}"
    raise ValueError("ClickHouse's integers have at most 256 bits")


def _decimal(value: decimal.Decimal) -> str:
    raise ValueError(f"{value!r}: clickhouse-connect cannot read each Decimal in a Dynamic column; Variant holds them")


#: How values beyond ``max_types`` begin that clickhouse-connect does not decode: of FixedString, Enum and Decimal.
OPAQUE: Final = {bytes([code]) for code in range(0x16, 0x1D)}

_SCALARS: Final[tuple[tuple[Any, Any], ...]] = (
    (bool, "Bool"),
    (int, lambda value: _widest([value])),
    (float, "Float64"),
    ((str, bytes), "String"),
    (decimal.Decimal, _decimal),
    (uuid.UUID, "UUID"),
    (dt.datetime, "DateTime64(6, 'UTC')"),
    (dt.date, "Date32"),
    (dt.timedelta, "Time64(6)"),
    (ipaddress.IPv4Address, "IPv4"),
    (ipaddress.IPv6Address, "IPv6"),
)


def dynamic_writer(column_writer: Callable[[str], Writer]) -> Writer:
    """Return what gives each value of a ``Dynamic`` column its type; None is NULL."""

    def write(column: Column) -> Column:
        values = _bare(column)
        names = [None if value is None else dynamic_type(value) for value in values]
        distinct = sorted({name for name in names if name is not None}) or ["String"]
        if len(distinct) > 254:
            raise ValueError(f"these values have {len(distinct)} types; a block of a Dynamic column holds 254")
        block = Chosen(_typed(values, names, column_writer))
        block.type_name = f"Variant({', '.join(distinct)})"
        return block

    return write
