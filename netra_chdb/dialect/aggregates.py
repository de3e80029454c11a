"""Aggregate and window functions without parameters, typed: ``func.sumIf(x, condition)``, ``func.argMax(x, y)``.

Names that other databases have too (``sum``, ``avg``, ``min``, ``max``, ``count``) stay as SQLAlchemy has them; with a
combinator they are ClickHouse's.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from sqlalchemy.sql import coercions, roles
from sqlalchemy.sql.functions import GenericFunction

from netra_chdb.dialect import types
from netra_chdb.dialect.combinators import COMBINATORS, Rule, array_of, like, result_type, sum_type

__all__ = ["TypedAggregate"]


class TypedAggregate(GenericFunction[Any]):
    """A function whose type follows from its arguments'."""

    _register = False
    inherit_cache = True
    rule: ClassVar[Rule]
    combinators: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *clauses: Any, **kwargs: Any) -> None:
        parsed: list[Any] = [
            coercions.expect(roles.ExpressionElementRole, clause, name=self.name, apply_propagate_attrs=self)
            for clause in clauses
        ]
        given = [clause.type for clause in parsed]
        kwargs.setdefault("type_", result_type(type(self).rule, self.combinators, given))
        super().__init__(_parsed_args=parsed, **kwargs)


def _first(given: list[Any]) -> Any:
    return given[0]


def _count(given: list[Any]) -> Any:
    return types.UInt64()


def _float(given: list[Any]) -> Any:
    return like(given, types.Float64()) if given else types.Float64()


def _group(given: list[Any]) -> Any:
    inner = given[0]
    return array_of(inner.nested_type if isinstance(inner, types.Nullable) else inner)


_SHARED: Final[dict[str, Rule]] = {
    "sum": lambda given: sum_type(given[0]),
    "avg": _float,
    "min": _first,
    "max": _first,
    "count": _count,
}
_OWN: Final[dict[str, Rule]] = {
    **dict.fromkeys(
        ("any", "anyLast", "anyHeavy", "argMin", "argMax", "groupBitAnd", "groupBitOr", "groupBitXor"), _first
    ),
    **dict.fromkeys(("uniq", "uniqExact", "uniqCombined64", "uniqHLL12", "uniqTheta"), _count),
    **dict.fromkeys(("avgWeighted", "stddevPop", "stddevSamp", "varPop", "varSamp", "median", "entropy"), _float),
    "sumKahan": _float,
    "deltaSum": _first,
    "deltaSumTimestamp": _first,
    "retention": lambda given: types.Array(types.UInt8()),
}
#: Of these only the name itself: they are window functions, or take no combinators.
_WINDOW: Final[dict[str, Rule]] = dict.fromkeys(
    ("lagInFrame", "leadInFrame", "first_value", "last_value", "nth_value"), _first
)


def _register(name: str, rule: Rule, endings: dict[str, tuple[str, ...]]) -> None:
    for ending, combinators in endings.items():
        type(
            name + ending,
            (TypedAggregate,),
            {
                "inherit_cache": True,
                "rule": staticmethod(rule),
                "combinators": combinators,
                "__module__": __name__,
                "__doc__": f"ClickHouse's ``{name + ending}``.",
            },
        )


_ENDINGS: Final = {ending: combinators for ending, combinators in COMBINATORS.items() if ending}

for _name, _rule in _SHARED.items():
    _register(_name, _rule, _ENDINGS)
for _name, _rule in _OWN.items():
    _register(_name, _rule, COMBINATORS)
for _name, _rule in _WINDOW.items():
    _register(_name, _rule, {"": ()})
