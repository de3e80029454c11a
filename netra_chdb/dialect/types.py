"""ClickHouse's column types: clickhouse-sqlalchemy's, corrected, and re-exported from one place.

Corrected here: wrappers (``Nullable``, ``LowCardinality``, ``Array``) that forgot what they wrap, times
that lost their zone or their microseconds, types whose cache key left out what they contain,
enumerations of plain strings, JSON payloads.

Python values, everywhere: ``int``, ``float``, ``str`` (or ``bytes`` for a ``String`` that is not UTF-8),
``bool``, ``decimal.Decimal``, ``uuid.UUID``, ``datetime.date``, aware ``datetime.datetime`` in UTC (a naive
one that is bound means UTC), ``list``, ``tuple``, ``dict``, ``ipaddress`` addresses, ``None`` for NULL.
"""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from clickhouse_sqlalchemy import types as upstream
from clickhouse_sqlalchemy.types import (
    UUID,
    Boolean,
    Date,
    Date32,
    Decimal,
    Int8,
    Int16,
    Int32,
    Int64,
    Int128,
    Int256,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    UInt128,
    UInt256,
)
from sqlalchemy.engine import Dialect

from netra_chdb.dialect.type_containers import (
    AggregateFunction,
    Array,
    LowCardinality,
    Map,
    Nullable,
    Processor,
    SimpleAggregateFunction,
    Tuple,
    for_literals_only,
    unwrap,
)
from netra_chdb.dialect.type_containers import is_nullable as is_nullable
from netra_chdb.dialect.type_dynamic import JSON, Dynamic, Nested, Variant
from netra_chdb.dialect.type_shapes import LineString, MultiLineString, MultiPolygon, Point, Polygon, Ring
from netra_chdb.dialect.type_spans import Time, Time64

__all__ = [
    "JSON",
    "UUID",
    "AggregateFunction",
    "Array",
    "BFloat16",
    "Boolean",
    "Bytes",
    "Date",
    "Date32",
    "DateTime",
    "DateTime64",
    "Decimal",
    "Dynamic",
    "Enum8",
    "Enum16",
    "FixedString",
    "Float32",
    "Float64",
    "IPv4",
    "IPv6",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "Int128",
    "Int256",
    "JSONText",
    "LineString",
    "LowCardinality",
    "Map",
    "MultiLineString",
    "MultiPolygon",
    "Nested",
    "Nullable",
    "Point",
    "Polygon",
    "Ring",
    "SimpleAggregateFunction",
    "String",
    "Time",
    "Time64",
    "Tuple",
    "UInt8",
    "UInt16",
    "UInt32",
    "UInt64",
    "UInt128",
    "UInt256",
    "Variant",
    "unwrap",
    "upstream",
]

#: What the visit name of an integer type says: no sign, and how many bits.
INTEGER: Final = re.compile(r"^(u?)int(\d+)$")


class _Text(upstream.String):
    # Bytes are as good as text: SQLAlchemy would compare them as a LargeBinary.
    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        return self if isinstance(value, bytes) else super().coerce_compared_value(op, value)


class String(_Text):
    """``String``, of any length: a length that is given is not rendered (upstream made it a padded FixedString)."""


class FixedString(_Text):
    """``FixedString(length)``: exactly ``length`` bytes, shorter values padded with zero bytes."""

    __visit_name__ = "fixedstring"

    def __init__(self, length: int) -> None:
        super().__init__(length)


class Bytes(sa.LargeBinary):
    """A ``String`` that is always ``bytes`` in Python: what ``sqlalchemy.LargeBinary`` becomes."""

    def bind_processor(self, dialect: Dialect) -> None:
        return None

    def result_processor(self, dialect: Dialect, coltype: object) -> Processor:
        return lambda value: value.encode() if isinstance(value, str) else value


class _Float(upstream.Float):
    # sqlalchemy.Float converts each value of a result with float() for dialects with native decimals.
    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        return super().result_processor(dialect, coltype) if self.asdecimal else None


class BFloat16(_Float):
    """``BFloat16``: cut to 8 bits of precision."""

    __visit_name__ = "clickhouse_bfloat16"


class Float32(_Float):
    """``Float32``."""

    __visit_name__ = "float32"


class Float64(_Float):
    """``Float64``."""

    __visit_name__ = "float64"


@for_literals_only
def _utc(value: Any) -> Any:
    if not isinstance(value, dt.datetime):
        return value  # NULL, a date to compare with; a block refuses what is no time
    if value.tzinfo is None:
        return value.replace(tzinfo=dt.UTC)
    return value.astimezone(dt.UTC)


class DateTime(upstream.DateTime):
    """``DateTime``, to the second; a naive value means UTC."""

    def bind_processor(self, dialect: Dialect) -> Processor:
        return _utc


class DateTime64(upstream.DateTime64):
    """``DateTime64(precision, timezone)``; a naive value means UTC.

    Args:
        precision: digits after the second, 0 to 9; Python keeps six.
        timezone: the zone that the server displays and truncates in.
    """

    def __init__(self, precision: int = 6, timezone: str | None = "UTC") -> None:
        super().__init__(precision, timezone)

    def bind_processor(self, dialect: Dialect) -> Processor:
        return _utc


class _Address:
    # Upstream binds str(value): NULL became the text 'None', and rendering changed the bound value itself.
    def bind_processor(self, dialect: Dialect) -> None:
        return None

    def literal_processor(self, dialect: Dialect) -> None:
        return None

    def bind_expression(self, bindvalue: Any) -> Any:
        return bindvalue


class IPv4(_Address, upstream.IPv4):
    """``IPv4``: an ``ipaddress.IPv4Address``; ``in_`` takes networks too."""

    cache_ok = True

    @property
    def python_type(self) -> type[Any]:
        return ipaddress.IPv4Address


class IPv6(_Address, upstream.IPv6):
    """``IPv6``: an ``ipaddress.IPv6Address``; ``in_`` takes networks too."""

    cache_ok = True

    @property
    def python_type(self) -> type[Any]:
        return ipaddress.IPv6Address


class _Enum(upstream.Enum):
    """An enumeration of names; ``numbers`` are what ClickHouse stores for them.

    Args:
        enums: the names in order, or one ``enum.Enum`` class.
        numbers: the number of each name; by default a class's own integer values, else 1, 2, 3, ...
            Give them once names exist in a table: a name inserted in the middle would shift the rest.
    """

    def __init__(self, *enums: Any, numbers: Mapping[str, int] | None = None, **kw: Any) -> None:
        kw.setdefault("validate_strings", True)
        super().__init__(*enums, **kw)
        self.numbers: dict[str, int] = dict(numbers) if numbers else self._numbers_by_default()

    def _numbers_by_default(self) -> dict[str, int]:
        cls = self.enum_class
        if cls is not None and all(isinstance(member.value, int) for member in cls):
            return {name: member.value for name, member in cls.__members__.items()}
        return {name: number for number, name in enumerate(self.enums, start=1)}

    def adapt(self, cls: type[Any], **kw: Any) -> Any:
        adapted = super().adapt(cls, **kw)
        if isinstance(adapted, _Enum):
            adapted.numbers = self.numbers
        return adapted

    @property
    def _static_cache_key(self) -> Any:
        return (type(self), self.enum_class, tuple(self.numbers.items()))


class Enum8(_Enum):
    """``Enum8``: up to 256 names, numbers from -128 to 127."""

    __visit_name__ = "enum8"


class Enum16(_Enum):
    """``Enum16``: numbers from -32768 to 32767."""

    __visit_name__ = "enum16"


class JSONText(sa.types.TypeDecorator[Any]):
    """A JSON document in a ``String`` column: what comes back is what went in, nulls and key order included.

    ClickHouse's own ``JSON`` type drops nulls and splits keys at dots, so a payload of an application's own
    does not survive it. Query inside it with ``JSONExtract...`` functions.
    """

    impl = String
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        if value is None:
            return None
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        if value is None or value == "":
            return {} if value == "" else None
        return json.loads(value)

    @property
    def python_type(self) -> type[Any]:
        return dict


def enum_of(cls: type[enum.Enum]) -> _Enum:
    """The smallest ClickHouse enumeration that holds ``cls``."""
    candidate = Enum8(cls)
    numbers = candidate.numbers.values()
    return candidate if all(-128 <= number <= 127 for number in numbers) else Enum16(cls)
