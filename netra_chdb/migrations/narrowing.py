"""Whether another type takes every value of a column's type: what it does not take, ClickHouse changes or cannot read.

A change of type is carried out over the values that are there. 300 becomes 44 in a UInt8, without a word; the number of
an enum's value that is gone is an error when it is read. Types are the server's own words for them.
"""

from __future__ import annotations

import re
from typing import Final

from netra_chdb.dialect.type_parser import enum_numbers, split_arguments, split_named

__all__ = ["lost"]

_INTEGER: Final = re.compile(r"(U?)Int(\d+)")
#: The widest integer that each holds exactly, in bits.
_MANTISSAS: Final = {"BFloat16": 8, "Float32": 24, "Float64": 53}
_STRINGS: Final = frozenset({"String", "FixedString"})
#: What each holds besides itself.
_WIDER: Final = {
    "Bool": {"UInt8"},
    "Date": {"Date32", "DateTime64"},
    "Date32": {"DateTime64"},
    "DateTime": {"DateTime64"},
    "BFloat16": {"Float32", "Float64"},
    "Float32": {"Float64"},
    "IPv4": {"IPv6"},
}
_DAYS: Final = frozenset({"Date", "Date32"})


def _split(text: str) -> tuple[str, list[str]]:
    name, _, rest = text.strip().partition("(")
    return name, split_arguments(rest[:-1]) if rest else []


def lost(old: str, new: str) -> str | None:
    """Return what a column loses that becomes ``new`` from ``old``, as a noun; None where nothing is lost."""
    if old == new:
        return None
    (was, before), (becomes, after) = _split(old), _split(new)
    for wrapper in ("LowCardinality", "SimpleAggregateFunction"):
        if was == wrapper:
            return lost(before[-1], new)
        if becomes == wrapper:
            return lost(old, after[-1])
    if becomes == "Nullable":
        return lost(before[0] if was == "Nullable" else old, after[0])
    if was == "Nullable":
        inner = lost(before[0], new)
        return f"NULLs, which become the default{f', and {inner}' if inner else ''}"
    if was == becomes and was in ("Array", "Map", "Tuple", "Variant"):
        return _lost_inside(was, before, after)
    if becomes == "String" or becomes in _WIDER.get(was, ()) or becomes in ("Dynamic", "Variant"):
        return None if becomes != "Variant" or old in after else _unlike(old, new)
    if was.startswith("Enum"):
        return _lost_of_enum(before, becomes, after)
    if was == "Bool" or becomes == "Bool":
        return "numbers other than 0 and 1, which become 1" if becomes == "Bool" else None
    if was == becomes == "FixedString":
        return f"text longer than {after[0]} bytes" if int(after[0]) < int(before[0]) else None
    if was in _STRINGS:
        return f"text that is no {new}, at which the change fails half-way"
    return _lost_of_times(was, before, becomes, after) if _is_time(was) else _lost_of_numbers(old, new)


def _unlike(old: str, new: str) -> str:
    return f"values of {old} that {new} does not take"


def _lost_inside(kind: str, before: list[str], after: list[str]) -> str | None:
    if kind == "Variant":
        gone = [one for one in before if one not in after]
        return f"values of {', '.join(gone)}" if gone else None
    if kind == "Tuple":
        elements, others = (dict(split_named(one) for one in arguments) for arguments in (before, after))
        if None in elements or None in others or elements.keys() != others.keys():
            return None if before == after else f"elements of Tuple({', '.join(before)})"
        before, after = list(elements.values()), [others[name] for name in elements]
    return next((found for one, other in zip(before, after, strict=True) if (found := lost(one, other))), None)


def _lost_of_enum(before: list[str], becomes: str, after: list[str]) -> str | None:
    names = enum_numbers(before)
    if becomes.startswith("Enum"):
        others = enum_numbers(after)
        gone = [name for name, number in names.items() if others.get(name) != number]
        return f"rows that hold {', '.join(map(repr, gone))}, which can be read no more" if gone else None
    return _lost_of_numbers("Int8" if max(map(abs, names.values())) < 128 else "Int16", becomes)


def _is_time(name: str) -> bool:
    return name in _DAYS or name.startswith("DateTime")


def _lost_of_times(was: str, before: list[str], becomes: str, after: list[str]) -> str | None:
    if not _is_time(becomes):
        return f"what {becomes} does not tell of a {was}"
    if becomes in _DAYS:
        return "days out of its range" if was in _DAYS else "the time of day"
    if was in _DAYS:
        return "days out of its range"  # DateTime, which ends in 2106
    digits, kept = (int(one[0]) if name == "DateTime64" else 0 for name, one in ((was, before), (becomes, after)))
    return f"digits of a second behind the first {kept}" if kept < digits else None


def _digits(name: str) -> tuple[int, int] | None:
    """Return a Decimal's digits before and behind the point."""
    kind, arguments = _split(name)
    if kind != "Decimal":
        return None
    precision, scale = map(int, arguments)
    return precision - scale, scale


def _lost_of_numbers(old: str, new: str) -> str | None:
    was, becomes = _INTEGER.fullmatch(old), _INTEGER.fullmatch(new)
    digits, others = _digits(old), _digits(new)
    if was:
        bits = int(was[2]) - (not was[1])
        if becomes:
            signed_to_unsigned = not was[1] and bool(becomes[1])
            return (
                f"numbers out of {new}'s range"
                if signed_to_unsigned or int(becomes[2]) - (not becomes[1]) < bits
                else None
            )
        if new in _MANTISSAS:
            return "digits of large numbers" if _MANTISSAS[new] < bits else None
        if others:
            return None if 10 ** others[0] >= 2**bits else "numbers with more digits"
    if digits and others:
        return "digits of numbers" if others[0] < digits[0] or others[1] < digits[1] else None
    if old in _MANTISSAS and new in _MANTISSAS:
        return "digits behind the first ones"
    if old in _MANTISSAS or digits:
        if becomes and digits and digits[1] == 0:
            bits = int(becomes[2]) - 1
            return None if not becomes[1] and 2**bits >= 10 ** digits[0] else f"numbers out of {new}'s range"
        if becomes or others or new in _MANTISSAS:
            return "digits of numbers"
    return _unlike(old, new)
