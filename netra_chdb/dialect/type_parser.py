"""ClickHouse's type names, as the server prints them, read back into type objects."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy.sql import sqltypes

from netra_chdb.dialect import types
from netra_chdb.dialect.type_shapes import SHAPES

__all__ = ["argument_of_json", "enum_numbers", "parse_type", "split_arguments", "split_named", "unquote"]

_NAMED: Final = re.compile(r"^(?:`((?:[^`\\]|\\.|``)*)`|(\w+))\s+(\S.*)$", re.DOTALL)
_ENUM_ITEM: Final = re.compile(r"^'((?:[^'\\]|\\.|'')*)'\s*=\s*(-?\d+)$", re.DOTALL)
_LIMIT: Final = re.compile(r"(max_dynamic_\w+)\s*=\s*(\d+)")
_PATH: Final = re.compile(r"(`(?:[^`\\]|\\.|``)*`|[^\s`]+)\s+(\S.*)", re.DOTALL)
_UNESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_SPECIAL: Final = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "f": "\f"}

_PLAIN: Final[dict[str, Any]] = {
    name: getattr(types, name)
    for name in (
        *("Int8", "Int16", "Int32", "Int64", "Int128", "Int256"),
        *("UInt8", "UInt16", "UInt32", "UInt64", "UInt128", "UInt256"),
        *("Float32", "Float64", "String", "UUID", "Date", "Date32", "IPv4", "IPv6"),
        *("DateTime", "Time", "JSON", "Dynamic", "BFloat16", *SHAPES),
    )
} | {"Bool": types.Boolean, "Boolean": types.Boolean}


def split_arguments(text: str, separator: str = ",") -> list[str]:
    """Split ``text`` at ``separator`` outside quotes and brackets; the parts come stripped.

    >>> split_arguments("String, Map(String, UInt8), 'a,b'")
    ['String', 'Map(String, UInt8)', "'a,b'"]
    """
    parts, depth, start, position = [], 0, 0, 0
    while position < len(text):
        char = text[position]
        if char in "'`\"":
            position += 1
            while position < len(text) and text[position] != char:
                position += 2 if text[position] == "\\" else 1
        elif char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
        elif depth == 0 and text.startswith(separator, position):
            parts.append(text[start:position].strip())
            start = position + len(separator)
        position += 1
    parts.append(text[start:].strip())
    return [part for part in parts if part]


def unquote(text: str) -> str:
    """Return the text of a quoted ClickHouse literal or identifier."""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'`\"":
        quote = text[0]
        body = text[1:-1].replace(quote * 2, quote)
        return _UNESCAPE.sub(lambda match: _SPECIAL.get(match[1], match[1]), body)
    return text


def enum_numbers(arguments: list[str]) -> dict[str, int]:
    """Return the number of each name from an Enum's arguments, ``'name' = 1``."""
    numbers = {}
    for argument in arguments:
        match = _ENUM_ITEM.match(argument)
        if match is None:
            raise ValueError(f"not an item of an Enum: {argument}")
        numbers[unquote(f"'{match[1]}'")] = int(match[2])
    return numbers


def split_named(argument: str) -> tuple[str | None, str]:
    """Return name and type of a Tuple's element; None for the name of an unnamed one.

    >>> split_named("`a b` Array(String)"), split_named("Decimal(9, 2)")
    (('a b', 'Array(String)'), (None, 'Decimal(9, 2)'))
    """
    match = _NAMED.match(argument)
    if match is None:
        return None, argument
    return match[2] or unquote(f"`{match[1]}`"), match[3]


def _enum(cls: Any, arguments: list[str]) -> Any:
    numbers = enum_numbers(arguments)
    return cls(*numbers, numbers=numbers)


def _tuple(arguments: list[str]) -> Any:
    elements = [split_named(argument) for argument in arguments]
    return types.Tuple(
        *[(name, parse_type(inner)) if name is not None else parse_type(inner) for name, inner in elements]
    )


def _aggregate(cls: Any, arguments: list[str]) -> Any:
    if arguments[0].isdigit():  # the version of a state
        arguments = [", ".join(arguments[:2]), *arguments[2:]]
    return cls(arguments[0], *[parse_type(argument) for argument in arguments[1:]])


def _nested(arguments: list[str]) -> Any:
    elements = [split_named(argument) for argument in arguments]
    return types.Nested(*[(name, parse_type(inner)) for name, inner in elements])


def _json(arguments: list[str]) -> Any:
    paths, skipped, patterns, limits = {}, [], [], {}
    for argument in arguments:
        limit = _LIMIT.fullmatch(argument)
        if limit is not None:
            limits[limit[1]] = int(limit[2])
        elif argument.startswith("SKIP REGEXP "):
            patterns.append(unquote(argument.removeprefix("SKIP REGEXP ").strip()))
        elif argument.startswith("SKIP "):
            skipped.append(unquote(argument.removeprefix("SKIP ").strip()))
        else:
            path, inner = argument_of_json(argument)
            paths[path] = parse_type(inner)
    return types.JSON(paths, skip=skipped, skip_regexp=patterns, **limits)


def argument_of_json(argument: str) -> tuple[str, str]:
    """Return path and type of a typed path; the path of anything else is empty.

    >>> argument_of_json("`a.b` UInt8"), argument_of_json("a.b UInt8"), argument_of_json("SKIP `a`")
    (('a.b', 'UInt8'), ('a.b', 'UInt8'), ('', ''))
    """
    if argument.startswith("SKIP ") or _LIMIT.fullmatch(argument):
        return "", ""
    path, inner = _PATH.fullmatch(argument).groups()  # type: ignore[union-attr]
    return unquote(path), inner


_WITH_ARGUMENTS: Final[dict[str, Callable[[list[str]], Any]]] = {
    "Nullable": lambda args: types.Nullable(parse_type(args[0])),
    "LowCardinality": lambda args: types.LowCardinality(parse_type(args[0])),
    "Array": lambda args: types.Array(parse_type(args[0])),
    "Map": lambda args: types.Map(parse_type(args[0]), parse_type(args[1])),
    "Tuple": _tuple,
    "FixedString": lambda args: types.FixedString(int(args[0])),
    "Decimal": lambda args: types.Decimal(*map(int, args)),
    "DateTime": lambda args: types.DateTime(*map(unquote, args)),
    "DateTime64": lambda args: types.DateTime64(int(args[0]), unquote(args[1]) if len(args) > 1 else None),
    "Enum8": lambda args: _enum(types.Enum8, args),
    "Enum16": lambda args: _enum(types.Enum16, args),
    "AggregateFunction": lambda args: _aggregate(types.AggregateFunction, args),
    "Time64": lambda args: types.Time64(int(args[0])),
    "Nested": _nested,
    "Variant": lambda args: types.Variant(*map(parse_type, args)),
    "Dynamic": lambda args: types.Dynamic(int(args[0].partition("=")[2])),
    "JSON": _json,
    "SimpleAggregateFunction": lambda args: _aggregate(types.SimpleAggregateFunction, args),
}


def parse_type(text: str) -> Any:
    """Return the type object of a type name such as ``LowCardinality(Nullable(String))``.

    A type that this package does not know comes back as SQLAlchemy's ``NullType``.
    """
    text = text.strip()
    name, bracket, rest = text.partition("(")
    if not bracket:
        plain = _PLAIN.get(text)
        return sqltypes.NullType() if plain is None else plain()
    build = _WITH_ARGUMENTS.get(name)
    if build is None or not rest.endswith(")"):
        return sqltypes.NullType()
    return build(split_arguments(rest[:-1]))
