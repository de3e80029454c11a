"""Columns of a result put into the Python values that this package promises.

clickhouse-connect gives a String that is not UTF-8 back as its hexadecimal digits, which nothing tells from text; so
Strings are asked for as bytes and decoded here, in one pass in C for a column of text. Times come in UTC, whatever
the zone of their column, and a named Tuple is a tuple like any other.
"""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from itertools import chain
from typing import Any, Final, TypeAlias

from netra_chdb.dialect.type_parser import split_arguments, split_named

__all__ = ["FORMATS", "column_reader", "exact_decimals", "readable"]

Column: TypeAlias = Sequence[Any]
Reader: TypeAlias = Callable[[Column], Column]

#: How clickhouse-connect is asked for what it would change otherwise.
FORMATS: Final = {"String": "bytes", "Tuple": "tuple"}
_UTC: Final = ("'UTC'", "'Etc/UTC'")


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _strings(column: Column) -> Column:
    try:
        return list(map(bytes.decode, column))
    except UnicodeDecodeError:
        return [_text(value) for value in column]


def _utc(column: Column) -> Column:
    return [value.astimezone(dt.UTC) for value in column]


def _anything(column: Column) -> Column:
    """Decode what a column of no fixed type holds."""

    def one(value: Any) -> Any:
        if isinstance(value, bytes):
            return _text(value)
        if isinstance(value, list | tuple):
            return type(value)(map(one, value))
        if isinstance(value, dict):
            return {one(key): one(item) for key, item in value.items()}
        return value

    return [one(value) for value in column]


def _nullable(inner: Reader) -> Reader:
    def read(column: Column) -> Column:
        if None not in column:
            return inner(column)
        values = iter(inner([value for value in column if value is not None]))
        return [None if value is None else next(values) for value in column]

    return read


def _dictionary(inner: Reader) -> Reader:
    def read(column: Column) -> Column:
        distinct = list(set(column))
        values = dict(zip(distinct, inner(distinct), strict=True))
        return list(map(values.__getitem__, column))

    return read


def _array(inner: Reader) -> Reader:
    def read(column: Column) -> Column:
        values = iter(inner(list(chain.from_iterable(column))))
        return [[next(values) for _ in value] for value in column]

    return read


def _map(keys: Reader | None, items: Reader | None) -> Reader:
    def read(column: Column) -> Column:
        all_keys: Column = [key for value in column for key in value]
        all_items: Column = [item for value in column for item in value.values()]
        found_keys = iter(keys(all_keys) if keys else all_keys)
        found_items = iter(items(all_items) if items else all_items)
        return [{next(found_keys): next(found_items) for _ in value} for value in column]

    return read


def _tuple(inner: Sequence[Reader | None]) -> Reader:
    def read(column: Column) -> Column:
        if not column:
            return column
        parts = zip(inner, zip(*column, strict=True), strict=True)
        return list(zip(*[reader(part) if reader else part for reader, part in parts], strict=True))

    return read


@lru_cache(maxsize=1024)
def column_reader(type_name: str) -> Reader | None:
    """Return what turns a column of ``type_name`` into the values promised; None where they are so already."""
    name, _, rest = type_name.partition("(")
    arguments = split_arguments(rest[:-1]) if rest else []
    if name == "String":
        return _strings
    if name == "DateTime" or name == "DateTime64":
        zone = arguments[-1] if arguments and arguments[-1].startswith("'") else _UTC[0]
        return None if zone in _UTC else _utc
    if name == "SimpleAggregateFunction":
        return column_reader(arguments[1])
    if name in ("Nullable", "LowCardinality", "Array"):
        inner = column_reader(arguments[0])
        if inner is None:
            return None
        return {"Nullable": _nullable, "LowCardinality": _dictionary, "Array": _array}[name](inner)
    if name == "Map":
        keys, items = map(column_reader, arguments)
        return _map(keys, items) if keys or items else None
    if name == "Tuple":
        elements = [column_reader(split_named(argument)[1]) for argument in arguments]
        return _tuple(elements) if any(elements) else None
    if name in ("JSON", "Object", "Variant", "Dynamic", "Nested"):
        return _anything
    return None


def readable(columns: Sequence[Column], type_names: Sequence[str]) -> Sequence[Column]:
    """Return ``columns`` with each one as promised."""
    readers = map(column_reader, type_names)
    return [reader(column) if reader else column for column, reader in zip(columns, readers, strict=True)]


def exact_decimals() -> AbstractContextManager[Any]:
    """Read Decimals with all their digits, whatever the caller's context rounds to."""
    return decimal.localcontext(prec=76)
