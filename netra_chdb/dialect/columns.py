"""Columns of a result put into the Python values that this package promises.

clickhouse-connect gives a String that is not UTF-8 back as its hexadecimal digits, which nothing tells from text; so
Strings are asked for as bytes and decoded here. Where a statement says beforehand that a column is text, it is asked
for in Latin-1, which gives every byte a character: ASCII is then right as it comes, and the rest is decoded again.
Times come in UTC, whatever the zone of their column, and a named Tuple is a tuple like any other.
"""

from __future__ import annotations

import datetime as dt
import decimal
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from typing import Any, Final, TypeAlias

from clickhouse_connect.driver.exceptions import NotSupportedError

from netra_chdb.dialect.type_parser import split_arguments, split_named
from netra_chdb.dialect.variants import OPAQUE

__all__ = ["READ", "check_text", "column_reader", "exact_decimals", "readable"]

Column: TypeAlias = Sequence[Any]
Reader: TypeAlias = Callable[[Column], Column]

#: How clickhouse-connect is asked for what it would change otherwise.
_FORMATS: Final = {"String": "bytes", "Tuple": "tuple", "Variant": "typed"}
READ: Final[dict[str, Any]] = {"tz_mode": "aware", "query_tz": dt.UTC, "query_formats": _FORMATS}
_DOCUMENT: Final = re.compile(r"\b(?:JSON|Object|Dynamic|Variant)\b")
_UTC: Final = ("'UTC'", "'Etc/UTC'")


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _strings(column: Column) -> Column:
    if column and isinstance(column[0], str):
        if "".join(column).isascii():
            return column
        return [value if value.isascii() else _text(value.encode("latin-1")) for value in column]
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
        if isinstance(value, dt.datetime):
            return value.astimezone(dt.UTC)
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


def _dynamic(column: Column) -> Column:
    for value in column:
        if isinstance(value, bytes) and value[:1] in OPAQUE:
            raise NotSupportedError(f"{value!r} in a Dynamic column: CAST it, its type cannot be read without")
    return _anything(column)


def _variant(column: Column) -> Column:
    def one(value: Any) -> Any:
        reader = None if value is None else column_reader(value.type_name)
        return reader([value.value])[0] if reader else value and value.value

    return [one(value) for value in column]


def _nested(names: Sequence[str], inner: Reader | None) -> Reader:
    def read(column: Column) -> Column:
        rows = [[tuple(item[name] for name in names) for item in value] for value in column]
        return _array(inner)(rows) if inner else rows

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
    if name == "Nested":
        named = [split_named(argument) for argument in arguments]
        parts = [column_reader(text) for _, text in named]
        return _nested([str(label) for label, _ in named], _tuple(parts) if any(parts) else None)
    if name == "Variant":
        return _variant
    if name in ("JSON", "Object"):
        return _anything
    if name == "Dynamic":
        return _dynamic
    return None


def check_text(names: Sequence[str], type_names: Sequence[str], options: Mapping[str, Any]) -> None:
    """Refuse columns that were taken for text beforehand, and are documents: their parts would be decoded wrongly.

    Raises:
        NotSupportedError: names the column and its type.
    """
    if "encoding" in options:
        for name, type_name in zip(names, type_names, strict=True):
            if name in options["column_formats"] and _DOCUMENT.search(type_name):
                raise NotSupportedError(f"column {name!r} is selected as a String and is {type_name}: say so")


def readable(columns: Sequence[Column], type_names: Sequence[str]) -> Sequence[Column]:
    """Return ``columns`` with each one as promised."""
    readers = map(column_reader, type_names)
    return [reader(column) if reader else column for column, reader in zip(columns, readers, strict=True)]


@contextmanager
def exact_decimals() -> Iterator[None]:
    """Read Decimals with all their digits, whatever the caller's context rounds to.

    Raises:
        NotSupportedError: a JSON column of which nobody said beforehand that it is one holds more paths than fit in
            columns of their own; clickhouse-connect then takes the bytes of their names for text.
    """
    try:
        with decimal.localcontext(prec=76):
            yield
    except TypeError as error:
        if "bytes-like" not in str(error):
            raise
        raise NotSupportedError("select JSON through a column of type JSON: text(...).columns(name=JSON)") from error
