"""Aggregate functions with parameters: ``func.quantile(0.95, column)`` renders ``quantile(0.95)(column)``.

Parameters and arguments stand in one list of clauses, so that the levels are bound values like any other and
part of what tells two statements apart: upstream kept the level out of its cache key, and asking for 0.5 and
then for 0.9 returned the 0.5 quantile twice.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import clickhouse_sqlalchemy.sql.functions  # noqa: F401  # registers its own "quantile" first, replaced below
from sqlalchemy import exc as sa_exc
from sqlalchemy.sql import sqltypes
from sqlalchemy.sql.functions import GenericFunction

from netra_chdb.dialect import types

__all__ = ["ParametricFunction"]


class ParametricFunction(GenericFunction[Any]):
    """An aggregate function ``name(parameters)(arguments)``.

    Called as ``func.name(*parameters, *arguments)``; ``argument_count`` of the last clauses are arguments.
    """

    inherit_cache = True
    argument_count: ClassVar[int] = 1

    def __init__(self, *clauses: Any, **kwargs: Any) -> None:
        if len(clauses) <= self.argument_count:
            wanted = "a level" if self.argument_count == 1 else "levels"
            raise sa_exc.ArgumentError(
                f"{self.name}() takes {wanted} and {self.argument_count} argument(s): "
                f"func.{self.name}(0.95, column); it was given {len(clauses)} in all"
            )
        super().__init__(*clauses, **kwargs)


def _family(name: str, type_: Any, *, many: bool) -> None:
    result: Any = types.Array(type_) if many else type_
    for suffix, arguments, returns in (
        ("", 1, result),
        ("If", 2, result),
        ("State", 1, sqltypes.NullType()),
        ("StateIf", 2, sqltypes.NullType()),
        ("Merge", 1, result),
        ("MergeIf", 2, result),
    ):
        # SQLAlchemy warns that upstream's "quantile" and "quantileIf" are replaced, which is the purpose.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", sa_exc.SAWarning)
            type(
                name + suffix,
                (ParametricFunction,),
                {
                    "inherit_cache": True,
                    "type": returns,
                    "argument_count": arguments,
                    "__module__": __name__,
                    "__doc__": f"ClickHouse's ``{name + suffix}``.",
                },
            )


for _kind in ("", "Exact", "ExactLow", "ExactHigh", "ExactInclusive", "ExactExclusive", "TDigest", "Timing"):
    _family(f"quantile{_kind}", types.Float64(), many=False)
    _family(f"quantiles{_kind}", types.Float64(), many=True)
