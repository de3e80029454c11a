"""``INTERVAL n unit``, and the functions that round times to one."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.sql import coercions, roles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.sql.visitors import InternalTraversal

from netra_chdb.dialect import types
from netra_chdb.dialect.words import one_of

__all__ = ["Interval", "IntervalType", "interval"]

_SUB_SECOND: Final = {"NANOSECOND": 9, "MICROSECOND": 6, "MILLISECOND": 3}
_TIMES: Final = ("SECOND", "MINUTE", "HOUR", "DAY")
_DATES: Final = ("WEEK", "MONTH", "QUARTER", "YEAR")
_UNITS: Final = (*_SUB_SECOND, *_TIMES, *_DATES)


class IntervalType(sa.types.TypeEngine[Any]):
    """The type of an interval. It has no columns; a time plus an interval keeps the time's type."""

    __visit_name__ = "null"
    cache_ok = True


class Interval(ColumnElement[Any]):
    """``INTERVAL value unit``."""

    __visit_name__ = "clickhouse_interval"
    stringify_dialect = "clickhouse+chdb"
    inherit_cache = True
    _traverse_internals = [  # noqa: RUF012  # as SQLAlchemy declares it
        ("value", InternalTraversal.dp_clauseelement),
        ("unit", InternalTraversal.dp_string),
    ]

    def __init__(self, value: Any, unit: str) -> None:
        self.value: Any = coercions.expect(roles.ExpressionElementRole, value, type_=types.Int64())
        self.unit = one_of("unit of an interval", unit.removesuffix("s") if isinstance(unit, str) else unit, _UNITS)
        self.type = IntervalType()

    @property
    def _from_objects(self) -> Any:
        return self.value._from_objects


def interval(value: int | ColumnElement[Any], unit: str) -> Interval:
    """``INTERVAL value unit``: add it to a time, round with it, step by it.

    Args:
        value: how many; a whole number or an expression.
        unit: ``"minute"`` or another, in singular or plural.

    Raises:
        ArgumentError: ClickHouse has no such unit.
    """
    return Interval(value, unit)


class toStartOfInterval(GenericFunction[Any]):  # noqa: N801  # named as in SQL
    """``toStartOfInterval(time, interval(5, "minute"), ...)``: the time rounded down."""

    inherit_cache = True

    def __init__(self, *clauses: Any, **kwargs: Any) -> None:
        parsed = [
            coercions.expect(roles.ExpressionElementRole, clause, apply_propagate_attrs=self) for clause in clauses
        ]
        step = parsed[1] if len(parsed) > 1 else None
        if len(parsed) == 2 and isinstance(step, Interval):
            kwargs.setdefault("type_", _rounded(parsed[0].type, step.unit))
        super().__init__(_parsed_args=parsed, **kwargs)


def _rounded(time: Any, unit: str) -> Any:
    time = types.unwrap(time)
    if unit in _DATES:
        return types.Date()
    zone = getattr(time, "timezone", None)
    if unit in _SUB_SECOND:
        return types.DateTime64(_SUB_SECOND[unit], zone)
    return types.DateTime(zone) if zone else types.DateTime()
