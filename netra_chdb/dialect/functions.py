"""Aggregate functions with parameters: ``func.quantile(0.95, column)`` renders ``quantile(0.95)(column)``.

Parameters and arguments stand in one list of clauses, so that the levels are bound values like any other and
part of what tells two statements apart: upstream kept the level out of its cache key, and asking for 0.5 and
then for 0.9 returned the 0.5 quantile twice.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar, Final

import clickhouse_sqlalchemy.sql.functions  # noqa: F401  # registers its own "quantile" first, replaced below
from sqlalchemy import exc as sa_exc
from sqlalchemy.sql import coercions, roles, sqltypes
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.sql.visitors import InternalTraversal

from netra_chdb.dialect import types
from netra_chdb.dialect.combinators import COMBINATORS, Rule, arity, array_of, result_type

__all__ = ["MANY", "ParametricFunction", "register"]

#: No bound on the number of parameters.
MANY: Final = 10_000


class ParametricFunction(GenericFunction[Any]):
    """An aggregate function ``name(parameters)(arguments)``.

    Called as ``func.name(*parameters, *arguments)``. Where a function takes any number of arguments, its
    parameters are the values that stand before the first SQL expression.
    """

    _register = False
    inherit_cache = True
    #: How many of the last clauses are arguments; None where a function takes any number.
    argument_count: ClassVar[int | None] = 1
    #: The fewest and the most parameters.
    parameter_counts: ClassVar[tuple[int, int]] = (1, 1)
    #: Words that a parameter after the first may be.
    words: ClassVar[tuple[str, ...]] = ()
    rule: ClassVar[Rule] = staticmethod(lambda given: sqltypes.NULLTYPE)
    combinators: ClassVar[tuple[str, ...]] = ()

    parameter_count: int
    _traverse_internals = [  # noqa: RUF012  # as SQLAlchemy declares it
        *GenericFunction._traverse_internals,
        ("parameter_count", InternalTraversal.dp_plain_obj),
    ]

    def __init__(self, *clauses: Any, **kwargs: Any) -> None:
        self.parameter_count = count = self._parameters(clauses)
        for clause in clauses[1:count]:
            if self.words and clause not in self.words:
                raise sa_exc.ArgumentError(f"{self.name}() has no mode {clause!r}; allowed: {', '.join(self.words)}")
        parsed: list[Any] = [
            coercions.expect(roles.ExpressionElementRole, clause, name=self.name, apply_propagate_attrs=self)
            for clause in clauses
        ]
        given = [clause.type for clause in parsed[count:]]
        kwargs.setdefault("type_", result_type(type(self).rule, self.combinators, given))
        super().__init__(_parsed_args=parsed, **kwargs)

    def _parameters(self, clauses: tuple[Any, ...]) -> int:
        fewest, most = self.parameter_counts
        if self.argument_count is not None:
            count = len(clauses) - self.argument_count
        elif fewest == most:
            count = fewest
        else:
            plain = [not hasattr(clause, "__clause_element__") and not _is_sql(clause) for clause in clauses]
            count = min([*(at for at, is_plain in enumerate(plain) if not is_plain), len(clauses)])
        if not fewest <= count <= most or count >= len(clauses):
            wanted = str(fewest) if fewest == most else f"{fewest} or more" if most == MANY else f"{fewest} to {most}"
            raise sa_exc.ArgumentError(
                f"{self.name}() takes {wanted} parameter(s), then {self.argument_count or 'its'} argument(s), as in "
                f"func.{self.name}({'parameter, ' if most else ''}column); it was given {len(clauses)} in all"
            )
        return count


def _is_sql(clause: Any) -> bool:
    return hasattr(clause, "_compiler_dispatch")


def register(
    name: str,
    rule: Rule,
    *,
    arguments: int | None,
    parameters: tuple[int, int],
    words: tuple[str, ...] = (),
    module: str,
    endings: Any = None,
) -> None:
    """Make ``func.name`` a parametric function, with each combinator in ``endings`` (all by default)."""
    for ending, combinators in (COMBINATORS if endings is None else endings).items():
        # SQLAlchemy warns that upstream's "quantile" and "quantileIf" are replaced, which is the purpose.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", sa_exc.SAWarning)
            type(
                name + ending,
                (ParametricFunction,),
                {
                    "inherit_cache": True,
                    "argument_count": arity(arguments, combinators),
                    "parameter_counts": parameters,
                    "words": words,
                    "rule": staticmethod(rule),
                    "combinators": combinators,
                    "__module__": module,
                    "__doc__": f"ClickHouse's ``{name + ending}``.",
                },
            )


def _quantile(given: list[Any]) -> Any:
    # What lies between two times is a time; between two numbers, a Float64.
    inner = types.unwrap(given[0]) if given else None
    return inner if isinstance(inner, sqltypes.DateTime | sqltypes.Date) else types.Float64()


def _exact(given: list[Any]) -> Any:
    # These choose one of the values.
    inner = types.unwrap(given[0]) if given else None
    return types.Float64() if inner is None or isinstance(inner, sqltypes.NullType) else inner


def _several(rule: Rule) -> Rule:
    return lambda given: array_of(rule(given))


_ENDINGS: Final = {name: COMBINATORS[name] for name in ("", "If", "State", "StateIf", "Merge", "MergeIf")}
_MORE: Final = {name: inner for name, inner in COMBINATORS.items() if name not in _ENDINGS}

for _kind in ("", "Exact", "ExactLow", "ExactHigh", "ExactInclusive", "ExactExclusive", "TDigest", "Timing"):
    _rule = _exact if _kind in ("Exact", "ExactLow", "ExactHigh") else _quantile
    for _module, _chosen in ((__name__, _ENDINGS), (f"{__name__}.more", _MORE)):
        register(f"quantile{_kind}", _rule, arguments=1, parameters=(1, 1), module=_module, endings=_chosen)
        register(
            f"quantiles{_kind}", _several(_rule), arguments=1, parameters=(1, MANY), module=_module, endings=_chosen
        )
