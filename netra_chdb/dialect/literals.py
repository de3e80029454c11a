"""Python values as ClickHouse literals: the one place where a bound value becomes SQL text.

Client-side rendering is what every server version and driver accepts (18.16 knows no ``{name:Type}``), and what
clickhouse-driver does as well. Each literal carries its own type, so that comparing it with a column neither
truncates microseconds nor reinterprets a zone, and no literal holds a line break or a bare quote.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import ipaddress
import math
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["Typed", "literal", "quote"]

_ESCAPES: Final = str.maketrans(
    {
        "\\": "\\\\",
        "'": "\\'",
        "\0": "\\0",
        "\b": "\\b",
        "\f": "\\f",
        "\n": "\\n",
        "\r": "\\r",
        "\t": "\\t",
    }
)


def quote(text: str) -> str:
    """Return ``text`` as a ClickHouse string literal.

    Raises:
        UnicodeEncodeError: ``text`` holds lone surrogates; bytes that are not UTF-8 are bound as ``bytes``.
    """
    text.encode()
    return f"'{text.translate(_ESCAPES)}'"


class Typed:
    """A value bound to a type of which its Python class says too little: ``JSON``, ``Variant``, ``Dynamic``.

    Args:
        value: the value, as a block of such a column takes it.
        render: makes its literal.
    """

    __slots__ = ("render", "value")

    def __init__(self, value: Any, render: Callable[[Any], str]) -> None:
        self.value = value
        self.render = render

    def __repr__(self) -> str:
        return repr(self.value)


def _bytes(value: bytes | bytearray | memoryview) -> str:
    return f"unhex('{bytes(value).hex()}')"


def _apart(number: str) -> str:
    # Behind another minus the sign would begin a comment. The server reads long lists fast only without brackets.
    return f" {number}" if number.startswith("-") else number


def _int(value: int) -> str:
    # A bare literal beyond 64 bits is read as Float64 by the server.
    if -(2**63) <= value < 2**64:
        return _apart(str(int(value)))
    if -(2**255) <= value < 2**255:
        return f"toInt256('{int(value)}')"
    if 0 <= value < 2**256:
        return f"toUInt256('{int(value)}')"
    raise OverflowError(f"ClickHouse's integers have at most 256 bits, this one has {value.bit_length()}")


def _float(value: float) -> str:
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else _apart("-inf")
    # The shortest text that reads back as the same number; the sign of -0.0 included.
    return _apart(repr(float(value)))


def _decimal(value: decimal.Decimal) -> str:
    if not value.is_finite():
        raise ValueError(f"ClickHouse's Decimal holds no {value}")
    _, digits, exponent = value.as_tuple()
    scale = max(0, -int(exponent))
    width = max(len(digits) + max(0, int(exponent)), scale)
    if width > 76:
        raise OverflowError(f"ClickHouse's Decimal has at most 76 digits, this one has {width}")
    function = "toDecimal128" if width <= 38 else "toDecimal256"
    return f"{function}('{value:f}', {scale})"


def _datetime(value: dt.datetime) -> str:
    value = value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
    # Outside, the server takes the nearest time it knows and says nothing.
    if not 1900 <= value.year <= 2299:
        raise ValueError(f"ClickHouse's times go from 1900 to 2299: {value.isoformat()}")
    if value.microsecond == 0 and 1970 <= value.year <= 2105:
        return f"toDateTime('{value:%Y-%m-%d %H:%M:%S}', 'UTC')"
    return f"toDateTime64('{value:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')"


def _date(value: dt.date) -> str:
    if not 1900 <= value.year <= 2299:
        raise ValueError(f"ClickHouse's dates go from 1900 to 2299: {value.isoformat()}")
    return f"to{'Date' if 1970 <= value.year < 2149 else 'Date32'}('{value.isoformat()}')"


def _time(value: dt.time) -> str:
    if value.tzinfo is not None:
        raise ValueError(f"ClickHouse's Time keeps no zone: {value.isoformat()}")
    return f"toTime64('{value:%H:%M:%S.%f}', 6)"


def _span(value: dt.timedelta) -> str:
    if abs(value) >= dt.timedelta(hours=1000):
        raise ValueError(f"ClickHouse's Time holds less than 1000 hours: {value}")
    microseconds = abs(value) // dt.timedelta(microseconds=1)
    minutes, seconds = divmod(microseconds // 1_000_000, 60)
    text = f"{'-' if value < dt.timedelta(0) else ''}{minutes // 60:03}:{minutes % 60:02}:{seconds:02}"
    return f"toTime64('{text}.{microseconds % 1_000_000:06}', 6)"


def _ipv6(value: ipaddress.IPv6Address) -> str:
    if value.scope_id:
        raise ValueError(f"ClickHouse's IPv6 keeps no zone: {value}")
    return f"toIPv6('{value}')"


def _enum(member: enum.Enum) -> str:
    # An IntEnum or StrEnum is its value wherever it is used; any other member is known by its name.
    return literal(member.value) if isinstance(member, str | int | float) else quote(member.name)


def _sequence(value: list[Any]) -> str:
    return "[" + ", ".join(map(literal, value)) + "]"


def _tuple(value: tuple[Any, ...]) -> str:
    return "tuple(" + ", ".join(map(literal, value)) + ")"


def _map(value: Mapping[Any, Any]) -> str:
    return "map(" + ", ".join(literal(part) for item in value.items() for part in item) + ")"


# In order: bool before int, datetime before date, enumerations before what they also are.
_RENDERERS: Final[tuple[tuple[type | tuple[type, ...], Callable[[Any], str]], ...]] = (
    (type(None), lambda _: "NULL"),
    (Typed, lambda value: value.render(value.value)),
    (enum.Enum, _enum),
    (bool, lambda value: "true" if value else "false"),
    (str, quote),
    (int, _int),
    (float, _float),
    (dt.datetime, _datetime),
    (dt.date, _date),
    (dt.time, _time),
    (dt.timedelta, _span),
    (decimal.Decimal, _decimal),
    (uuid.UUID, lambda value: f"toUUID('{value}')"),
    ((bytes, bytearray, memoryview), _bytes),
    (ipaddress.IPv4Address, lambda value: f"toIPv4('{value}')"),
    (ipaddress.IPv6Address, _ipv6),
    (list, _sequence),
    (tuple, _tuple),
    ((set, frozenset), lambda value: _sequence(sorted(value, key=repr))),
    (Mapping, _map),
)


def _scalar(value: Any) -> Any:
    """Return a NumPy scalar as Python's: its nanoseconds too, which NumPy itself gives back as a number."""
    cls = type(value).__name__
    if cls in ("datetime64", "timedelta64") and isinstance(value.item(), int):
        whole = value.astype(f"{cls}[us]")
        if whole != value or isinstance(whole.item(), int):
            raise ValueError(f"Python's times have microseconds, from year 1 to 9999: {value}")
        value = whole
    return value.item()


_BY_TYPE: dict[type, Callable[[Any], str]] = {}


def literal(value: Any) -> str:
    """Return ``value`` as a ClickHouse literal.

    Raises:
        TypeError: no ClickHouse literal stands for a value of this class.
        ValueError, OverflowError: the value lies outside what ClickHouse can hold.
    """
    cls = type(value)
    render = _BY_TYPE.get(cls)
    if render is None:
        for classes, candidate in _RENDERERS:
            if isinstance(value, classes):
                render = _BY_TYPE[cls] = candidate
                break
        else:
            if hasattr(value, "item"):  # a NumPy scalar; NumPy itself is not imported for the question
                return literal(_scalar(value))
            raise TypeError(f"no ClickHouse literal for a {cls.__module__}.{cls.__qualname__}")
    return render(value)
