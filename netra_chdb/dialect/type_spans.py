"""``Time`` and ``Time64``: spans of time, below 1000 hours in either direction."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy.sql.type_api import TypeEngine

__all__ = ["Time", "Time64"]


class Time(TypeEngine[Any]):
    """``Time``, to the second: a ``datetime.timedelta``, from which a time of day is told by no server."""

    __visit_name__ = "clickhouse_time"

    def coerce_compared_value(self, op: Any, value: Any) -> Any:
        # SQLAlchemy's Interval, which it would be otherwise, is a moment far from 1970.
        return self if isinstance(value, dt.timedelta | dt.time) else super().coerce_compared_value(op, value)

    @property
    def python_type(self) -> type[Any]:
        return dt.timedelta


class Time64(Time):
    """``Time64(precision)``: a ``datetime.timedelta``.

    Args:
        precision: digits after the second, 0 to 9; Python keeps six.
    """

    __visit_name__ = "clickhouse_time64"

    def __init__(self, precision: int = 6) -> None:
        self.precision = precision
        super().__init__()
