"""Lambdas, and the functions over arrays and maps that take them.

A lambda is evaluated once, when the statement is built: what it closes over becomes bound values, so that two closures
with different values share one compilation and never one answer. Upstream's has no cache key.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Final

from sqlalchemy import exc as sa_exc
from sqlalchemy.sql import coercions, roles, sqltypes, visitors
from sqlalchemy.sql.elements import ColumnClause, ColumnElement, NamedColumn
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.sql.visitors import InternalTraversal

from netra_chdb.dialect import types
from netra_chdb.dialect.combinators import sum_type

__all__ = ["HigherOrderFunction", "Lambda", "lambda_"]

_Parameter = inspect.Parameter


class Lambda(ColumnElement[Any]):
    """``(x, y) -> body``."""

    __visit_name__ = "clickhouse_lambda"
    stringify_dialect = "clickhouse+chdb"
    inherit_cache = True
    _traverse_internals = [  # noqa: RUF012  # as SQLAlchemy declares it
        ("parameters", InternalTraversal.dp_clauseelement_tuple),
        ("body", InternalTraversal.dp_clauseelement),
    ]

    def __init__(self, function: Callable[..., Any], types_: tuple[Any, ...]) -> None:
        names = _names(function)
        if len(types_) > len(names):
            raise sa_exc.ArgumentError(f"the lambda takes {len(names)} argument(s), not {len(types_)}")
        padded = (*types_, *[None] * (len(names) - len(types_)))
        self.parameters = tuple(ColumnClause(name, type_) for name, type_ in zip(names, padded, strict=True))
        self.body: Any = coercions.expect(roles.ExpressionElementRole, function(*self.parameters))
        self.type = sqltypes.NULLTYPE
        for element in visitors.iterate(self.body):
            own = any(element is parameter for parameter in self.parameters)
            if isinstance(element, NamedColumn) and element.name in names and not own:
                raise sa_exc.ArgumentError(
                    f"the lambda's argument {element.name!r} hides a column of that name (or the argument of "
                    "another lambda): rename it"
                )

    @property
    def _from_objects(self) -> Any:
        return self.body._from_objects


def _names(function: Callable[..., Any]) -> list[str]:
    found = list(inspect.signature(function).parameters.values())
    kinds = (_Parameter.POSITIONAL_ONLY, _Parameter.POSITIONAL_OR_KEYWORD)
    if not found or any(one.kind not in kinds or one.default is not _Parameter.empty for one in found):
        raise sa_exc.ArgumentError("a lambda takes one or more positional arguments, without defaults")
    return [one.name for one in found]


def lambda_(function: Callable[..., Any], *types_: Any) -> Lambda:
    """Make a ClickHouse lambda of a Python one: ``lambda_(lambda x: x * 2)`` renders ``x -> x * 2``.

    Functions such as ``func.arrayMap`` take the Python lambda itself, and give its arguments their types.

    Args:
        function: called once, with a column for each of its arguments.
        types_: the arguments' types.
    """
    return Lambda(function, types_)


class HigherOrderFunction(GenericFunction[Any]):
    """A function whose first argument may be a lambda: ``func.arrayMap(lambda x: x + 1, column)``."""

    _register = False
    inherit_cache = True
    returns: ClassVar[Callable[[Any, list[Any]], Any]]
    #: The lambda's first argument is the value so far, of the type of the function's last argument.
    folds: ClassVar[bool] = False

    def __init__(self, *clauses: Any, **kwargs: Any) -> None:
        first, rest = (clauses[0], clauses[1:]) if clauses and _is_lambda(clauses[0]) else (None, clauses)
        parsed: list[Any] = [
            coercions.expect(roles.ExpressionElementRole, clause, name=self.name, apply_propagate_attrs=self)
            for clause in rest
        ]
        if first is not None and not isinstance(first, Lambda):
            first = Lambda(first, self._argument_types(parsed))
        kwargs.setdefault("type_", type(self).returns(first, [clause.type for clause in parsed]))
        super().__init__(_parsed_args=parsed if first is None else [first, *parsed], **kwargs)

    def _argument_types(self, parsed: list[Any]) -> tuple[Any, ...]:
        arrays = parsed[:-1] if self.folds else parsed
        given = [one for array in arrays for one in _items(array.type)]
        return (parsed[-1].type, *given) if self.folds else tuple(given)


def _is_lambda(clause: Any) -> bool:
    return isinstance(clause, Lambda) or inspect.isfunction(clause) or inspect.ismethod(clause)


def _items(type_: Any) -> tuple[Any, ...]:
    type_ = types.unwrap(type_)
    if isinstance(type_, types.Map):
        return (type_.key_type, type_.value_type)
    return (_item(type_),)


def _item(type_: Any) -> Any:
    return getattr(types.unwrap(type_), "item_type_impl", sqltypes.NULLTYPE)


def _mapped(first: Any, given: list[Any]) -> Any:
    return first.body.type if first is not None else _item(given[0])


def _pairs(type_: Any) -> Any:
    nested = getattr(type_, "nested_types", ())
    return types.Map(*nested) if len(nested) == 2 else sqltypes.NULLTYPE


_RETURNS: Final[dict[str, Callable[[Any, list[Any]], Any]]] = {
    **dict.fromkeys(("arrayMap",), lambda first, given: types.Array(_mapped(first, given))),
    **dict.fromkeys(
        (
            *("arrayFilter", "arraySort", "arrayReverseSort", "arrayPartialSort", "arrayFill", "arrayReverseFill"),
            *("mapFilter", "mapSort", "mapReverseSort"),
        ),
        lambda first, given: given[0],
    ),
    **dict.fromkeys(("arraySplit", "arrayReverseSplit"), lambda first, given: types.Array(given[0])),
    **dict.fromkeys(("arrayExists", "arrayAll", "mapExists", "mapAll"), lambda first, given: types.UInt8()),
    **dict.fromkeys(("arrayCount", "arrayFirstIndex", "arrayLastIndex"), lambda first, given: types.UInt32()),
    **dict.fromkeys(("arrayFirst", "arrayLast"), lambda first, given: _item(given[0])),
    **dict.fromkeys(("arrayFirstOrNull", "arrayLastOrNull"), lambda first, given: types.Nullable(_item(given[0]))),
    **dict.fromkeys(("arrayMin", "arrayMax"), _mapped),
    **dict.fromkeys(("arraySum",), lambda first, given: sum_type(_mapped(first, given))),
    **dict.fromkeys(("arrayCumSum",), lambda first, given: types.Array(sum_type(_mapped(first, given)))),
    **dict.fromkeys(("arrayAvg",), lambda first, given: types.Float64()),
    **dict.fromkeys(("arrayFold",), lambda first, given: given[-1]),
    **dict.fromkeys(("mapApply",), lambda first, given: _pairs(first.body.type) if first is not None else given[0]),
}

for _name, _returns in _RETURNS.items():
    type(
        _name,
        (HigherOrderFunction,),
        {
            "inherit_cache": True,
            "returns": staticmethod(_returns),
            "folds": _name == "arrayFold",
            "__module__": __name__,
            "__doc__": f"ClickHouse's ``{_name}``.",
        },
    )
