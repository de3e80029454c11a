"""What an aggregate function answers, with and without combinators such as ``-If`` and ``-Merge``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from sqlalchemy.sql import sqltypes

from netra_chdb.dialect import types

__all__ = ["COMBINATORS", "Rule", "arity", "array_of", "like", "result_type", "sum_type"]

#: From the types of the arguments to the type of the result.
Rule: TypeAlias = Callable[[list[Any]], Any]

#: Each ending that is offered for every aggregate, as its combinators from the inside out.
COMBINATORS: Final[dict[str, tuple[str, ...]]] = {
    "": (),
    "If": ("If",),
    "State": ("State",),
    "StateIf": ("State", "If"),
    "IfState": ("If", "State"),
    "Merge": ("Merge",),
    "MergeIf": ("Merge", "If"),
    "IfMerge": ("If", "Merge"),
    "MergeState": ("Merge", "State"),
    "Array": ("Array",),
    "ArrayIf": ("Array", "If"),
    "ForEach": ("ForEach",),
    "Distinct": ("Distinct",),
    "DistinctIf": ("Distinct", "If"),
    "OrNull": ("OrNull",),
    "OrNullIf": ("OrNull", "If"),
    "IfOrNull": ("If", "OrNull"),
    "OrDefault": ("OrDefault",),
    "OrDefaultIf": ("OrDefault", "If"),
}


def arity(arguments: int | None, combinators: tuple[str, ...]) -> int | None:
    """Return how many arguments a function of ``arguments`` takes with its combinators; None: any number."""
    for combinator in combinators:
        if combinator == "Merge":
            arguments = 1
        elif combinator == "If" and arguments is not None:
            arguments += 1
    return arguments


def result_type(rule: Rule, combinators: tuple[str, ...], given: list[Any]) -> Any:
    """Return the type of a call; ``NullType`` where it cannot be told.

    Args:
        rule: what the function itself returns.
        combinators: from the inside out.
        given: the types of the arguments.
    """
    if not combinators:
        try:
            return rule(given)
        except IndexError:  # too few arguments: the server says so
            return sqltypes.NULLTYPE
    *inner, last = combinators
    within = tuple(inner)
    if last == "State":
        return sqltypes.NULLTYPE
    if last == "If":
        return result_type(rule, within, given[:-1])
    if last == "Merge":
        state = types.unwrap(given[0]) if given else None
        stored = list(getattr(state, "nested_types", ()))
        return result_type(rule, within, [sqltypes.to_instance(type_) for type_ in stored])
    if last in ("Array", "ForEach"):
        items = [getattr(types.unwrap(type_), "item_type_impl", sqltypes.NULLTYPE) for type_ in given]
        found = result_type(rule, within, items)
        return array_of(found) if last == "ForEach" else found
    found = result_type(rule, within, given)
    if last == "OrNull" and not isinstance(found, sqltypes.NullType | types.Array):
        return found if types.is_nullable(found) else types.Nullable(found)
    return found


def like(given: list[Any], type_: Any) -> Any:
    """Return ``type_``, NULL where the first argument may be."""
    return types.Nullable(type_) if types.is_nullable(given[0]) else type_


def array_of(item: Any) -> Any:
    """Return an array of ``item``; ``NullType`` of what is not known."""
    return item if isinstance(item, sqltypes.NullType) else types.Array(item)


def sum_type(summed: Any) -> Any:
    """Return the type of a sum: the widest of its family."""
    inner = types.unwrap(summed)
    if isinstance(inner, types.upstream.Decimal):
        return like([summed], types.Decimal(76 if (inner.precision or 0) > 38 else 38, inner.scale))
    for wide in (types.UInt256, types.Int256, types.UInt128, types.Int128):
        if isinstance(inner, wide):
            return like([summed], wide())
    for narrow, sum_ in _SUMS:
        if isinstance(inner, narrow):
            return like([summed], sum_())
    return sqltypes.NULLTYPE


_SUMS: Final[tuple[tuple[Any, Any], ...]] = (
    ((types.UInt8, types.UInt16, types.UInt32, types.UInt64, types.Boolean), types.UInt64),
    ((types.Int8, types.Int16, types.Int32, types.Int64), types.Int64),
    (sqltypes.Float, types.Float64),
    (sqltypes.Integer, types.Int64),
)
