"""Parametric aggregates beside the quantiles, and :func:`parametric` for those that have no class here."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import exc as sa_exc
from sqlalchemy.sql import coercions, roles
from sqlalchemy.sql import functions as sa_functions
from sqlalchemy.sql.functions import GenericFunction

from netra_chdb.dialect import types
from netra_chdb.dialect.combinators import Rule, array_of, result_type, sum_type
from netra_chdb.dialect.functions import MANY, ParametricFunction, register
from netra_chdb.dialect.words import name_of

__all__ = ["parametric"]

_FUNNEL_MODES: Final = ("strict_deduplication", "strict_order", "strict_increase", "strict_once", "allow_reentry")


def _items(given: list[Any]) -> Any:
    inner = given[0]
    return array_of(inner.nested_type if isinstance(inner, types.Nullable) else inner)


def _float(given: list[Any]) -> Any:
    return types.Float64()


def _uint8(given: list[Any]) -> Any:
    return types.UInt8()


def _uint64(given: list[Any]) -> Any:
    return types.UInt64()


def _bars(given: list[Any]) -> Any:
    return types.Array(types.Tuple(types.Float64(), types.Float64(), types.Float64()))


#: name: what it returns, how many arguments (None: any number), the fewest and the most parameters.
_FUNCTIONS: Final[dict[str, tuple[Rule, int | None, tuple[int, int]]]] = {
    "topK": (_items, 1, (1, 3)),
    "topKWeighted": (_items, 2, (1, 3)),
    "groupArray": (_items, 1, (0, 1)),
    "groupArrayLast": (_items, 1, (1, 1)),
    "groupArraySample": (_items, 1, (1, 2)),
    "groupArraySorted": (_items, 1, (1, 1)),
    "groupUniqArray": (_items, 1, (0, 1)),
    "groupArrayMovingSum": (lambda given: array_of(sum_type(given[0])), 1, (0, 1)),
    "groupArrayMovingAvg": (lambda given: types.Array(types.Float64()), 1, (0, 1)),
    "histogram": (_bars, 1, (1, 1)),
    "exponentialMovingAverage": (_float, 2, (1, 1)),
    "exponentialTimeDecayedAvg": (_float, 2, (1, 1)),
    "sequenceMatch": (_uint8, None, (1, 1)),
    "sequenceCount": (_uint64, None, (1, 1)),
    "windowFunnel": (_uint8, None, (1, MANY)),
    "uniqUpTo": (_uint64, None, (1, 1)),
    "uniqCombined": (_uint64, None, (0, 1)),
    "quantileExactWeighted": (lambda given: given[0], 2, (1, 1)),
    "quantileTDigestWeighted": (_float, 2, (1, 1)),
    "quantilesExactWeighted": (_items, 2, (1, MANY)),
    "quantilesTDigestWeighted": (lambda given: types.Array(types.Float64()), 2, (1, MANY)),
}

for _name, (_rule, _arguments, _parameters) in _FUNCTIONS.items():
    register(
        _name,
        _rule,
        arguments=_arguments,
        parameters=_parameters,
        words=_FUNNEL_MODES if _name == "windowFunnel" else (),
        module=__name__,
    )


class parametric:  # noqa: N801  # it is called as a function is
    """A parametric function as ClickHouse writes it: ``parametric("topK", 10)(column)``.

    For functions that ``func`` does not know, and where the parameters are expressions themselves. Not called, it
    names a state's function: ``AggregateFunction(parametric("quantile", 0.5), Float64)``.

    Args:
        name: the function's name.
        parameters: what stands in the first parentheses.
        type_: what it returns; by default as ``func.name`` does.

    Raises:
        ArgumentError: ``name`` is not the name of a function.
    """

    def __init__(self, name: str, *parameters: Any, type_: Any = None) -> None:
        self.name = name_of("function", name)
        self.parameters = parameters
        self._type = type_

    def __call__(self, *arguments: Any) -> Any:
        return _Parametric(self.name, self.parameters, arguments, self._type)


class _Parametric(ParametricFunction):
    """A function whose two lists of clauses were given apart."""

    _register = False
    inherit_cache = True

    def __init__(self, name: str, parameters: tuple[Any, ...], arguments: tuple[Any, ...], type_: Any) -> None:
        if not parameters or not arguments:
            raise sa_exc.ArgumentError(f"{name}() takes parameters and arguments")
        self.name = name
        self.parameter_count = len(parameters)
        parsed: list[Any] = [
            coercions.expect(roles.ExpressionElementRole, clause, apply_propagate_attrs=self)
            for clause in (*parameters, *arguments)
        ]
        known = sa_functions._registry["_default"].get(name.lower())
        if type_ is None and isinstance(known, type) and issubclass(known, ParametricFunction):
            type_ = result_type(known.rule, known.combinators, [clause.type for clause in parsed[len(parameters) :]])
        GenericFunction.__init__(self, _parsed_args=parsed, type_=type_)
