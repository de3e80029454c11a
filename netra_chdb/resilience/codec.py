"""Rows of a driver as bytes and back, each value with its type; JSON, since nothing may ever be unpickled.

Column by column, so that a column of plain values costs nothing but JSON itself.
"""

from __future__ import annotations

import datetime as dt
import decimal
import ipaddress
import json
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final

__all__ = ["Unstorable", "pack", "unpack"]

_PLAIN: Final = frozenset({str, int, bool, float, type(None)})
_MICROSECOND: Final = dt.timedelta(microseconds=1)


class Unstorable(ValueError):
    """A value of a class that has no form in bytes here, or bytes that are no rows."""


def _time(value: dt.datetime) -> str:
    if value.tzinfo not in (None, dt.UTC):
        raise Unstorable(f"a time in the zone {value.tzinfo}")
    return value.isoformat()


def _from_time(text: str) -> dt.datetime:
    value = dt.datetime.fromisoformat(text)
    return value if value.tzinfo is None else value.replace(tzinfo=dt.UTC)


_KINDS: Final[dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]]] = {
    # kind: the class, to JSON, and back
    "t": (dt.datetime, _time, _from_time),
    "d": (dt.date, dt.date.isoformat, dt.date.fromisoformat),
    "c": (dt.time, dt.time.isoformat, dt.time.fromisoformat),
    "s": (dt.timedelta, lambda value: value // _MICROSECOND, lambda item: dt.timedelta(microseconds=item)),
    "n": (decimal.Decimal, str, decimal.Decimal),
    "u": (uuid.UUID, str, uuid.UUID),
    "4": (ipaddress.IPv4Address, str, ipaddress.IPv4Address),
    "6": (ipaddress.IPv6Address, str, ipaddress.IPv6Address),
    "b": (bytes, bytes.hex, bytes.fromhex),
    "l": (list, lambda value: _column(value), lambda item: list(_values(item))),
    "o": (tuple, lambda value: _column(value), lambda item: tuple(_values(item))),
    "m": (
        dict,
        lambda value: [_column(list(value)), _column(list(value.values()))],
        lambda item: dict(zip(_values(item[0]), _values(item[1]), strict=True)),
    ),
}
_KIND_OF: Final = {kind[0]: name for name, kind in _KINDS.items()}


def _column(values: Sequence[Any]) -> Any:
    """Return ``[kind, items]``: an empty kind for plain values, ``*`` where each item names its own."""
    classes = set(map(type, values))
    if classes <= _PLAIN:
        return ["", list(values)]
    unknown = classes - _PLAIN - _KIND_OF.keys()
    if unknown:
        raise Unstorable(f"a value of {', '.join(sorted(cls.__qualname__ for cls in unknown))}")
    if len(classes - {type(None)}) == 1:
        kind = _KIND_OF[(classes - {type(None)}).pop()]
        pack_one = _KINDS[kind][1]
        return [kind, [None if value is None else pack_one(value) for value in values]]
    return ["*", [_column([value]) for value in values]]


def _values(column: Any) -> list[Any]:
    kind, items = column
    if kind == "":
        return list(items)
    if kind == "*":
        return [_values(item)[0] for item in items]
    unpack_one = _KINDS[kind][2]
    return [None if item is None else unpack_one(item) for item in items]


def pack(header: dict[str, Any], columns: Sequence[Sequence[str | None]], rows: Sequence[Sequence[Any]]) -> bytes:
    """Return an answer as bytes.

    Args:
        header: anything that is JSON.
        columns: name and type of each column.
        rows: the rows; ``columns`` says how long each is.

    Raises:
        Unstorable: a value is of a class without a form in bytes.
    """
    body = [_column(values) for values in zip(*rows, strict=True)] if rows else []
    return json.dumps([header, [list(column) for column in columns], body], separators=(",", ":")).encode()


def unpack(payload: bytes) -> tuple[dict[str, Any], list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """Return header, columns and rows of what :func:`pack` made.

    Raises:
        Unstorable: it made something else.
    """
    try:
        header, columns, body = json.loads(payload)
        rows = list(zip(*map(_values, body), strict=True))
        return dict(header), [tuple(column) for column in columns], rows
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise Unstorable(f"these {len(payload)} bytes are no answer") from error
