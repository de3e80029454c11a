"""The parts of a SELECT that only ClickHouse has; :mod:`netra_chdb.dialect.select` puts them into statements.

Each is an element with its own cache key: values inside are bound and no part of it, words and names are.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.sql import coercions, roles, sqltypes, visitors
from sqlalchemy.sql.elements import ClauseElement, ColumnClause, ColumnElement, Label, NamedColumn
from sqlalchemy.sql.visitors import InternalTraversal

from netra_chdb.dialect import types
from netra_chdb.dialect.words import name_of

__all__ = ["ArrayElement", "ArrayJoin", "Fill", "Interpolation", "Sample", "Setting", "element_of", "fill"]

_TIMES: Final = (sa.DateTime, sa.Date)
_Internals = list[tuple[str, InternalTraversal]]


def _expression(value: Any) -> Any:
    return coercions.expect(roles.ExpressionElementRole, value)


def _optional(value: Any) -> Any:
    return None if value is None else _expression(value)


class _Clause(ClauseElement):
    stringify_dialect = "clickhouse+chdb"
    inherit_cache = True


class Sample(_Clause):
    """``SAMPLE ratio OFFSET offset`` of one table; of the first where ``table`` is None."""

    __visit_name__ = "clickhouse_sample"
    _traverse_internals: _Internals = [  # noqa: RUF012
        ("ratio", InternalTraversal.dp_clauseelement),
        ("offset", InternalTraversal.dp_clauseelement),
        ("table", InternalTraversal.dp_clauseelement),
    ]

    def __init__(self, ratio: Any, offset: Any, table: Any) -> None:
        self.ratio = _expression(ratio)
        self.offset = _optional(offset)
        self.table = table


class Setting(_Clause):
    """``name = value`` of a SETTINGS clause."""

    __visit_name__ = "clickhouse_setting"
    _traverse_internals: _Internals = [  # noqa: RUF012
        ("name", InternalTraversal.dp_string),
        ("value", InternalTraversal.dp_clauseelement),
    ]

    def __init__(self, name: str, value: bool | int | float | str) -> None:
        if not isinstance(value, bool | int | float | str):
            raise sa_exc.ArgumentError(
                f"the setting {name!r} takes a bool, int, float or str, not {type(value).__name__}"
            )
        self.name = name_of("setting", name)
        self.value = _expression(value)


class ArrayElement(NamedColumn[Any]):
    """One element of an array that an ARRAY JOIN unfolds: ``array AS name`` there, ``name`` elsewhere."""

    __visit_name__ = "clickhouse_array_element"
    stringify_dialect = "clickhouse+chdb"
    inherit_cache = True
    _traverse_internals: _Internals = [  # noqa: RUF012
        ("name", InternalTraversal.dp_string),
        ("type", InternalTraversal.dp_type),
        ("array", InternalTraversal.dp_clauseelement),
    ]

    def __init__(self, array: Any, name: str) -> None:
        self.array: Any = _expression(array)
        self.name = self.key = name
        array_type = types.unwrap(self.array.type)
        if isinstance(array_type, types.Map):
            self.type = types.Tuple(array_type.key_type, array_type.value_type)
        else:
            self.type = getattr(array_type, "item_type_impl", sqltypes.NULLTYPE)

    @property
    def _from_objects(self) -> Any:
        return self.array._from_objects


def element_of(array: Any, name: str) -> ArrayElement:
    """Name the elements of ``array``, to select them from a statement that unfolds it.

    ::

        tag = element_of(Event.tags, "tag")
        select(tag, func.count()).array_join(tag).group_by(tag)

    Args:
        array: an array or map column, or an expression.
        name: what one element is called; it has the type of the array's items (a tuple for a map).
    """
    return ArrayElement(array, name)


class ArrayJoin(_Clause):
    """``[LEFT] ARRAY JOIN arrays``."""

    __visit_name__ = "clickhouse_array_join"
    _traverse_internals: _Internals = [  # noqa: RUF012
        ("arrays", InternalTraversal.dp_clauseelement_tuple),
        ("left", InternalTraversal.dp_boolean),
    ]

    def __init__(self, arrays: tuple[Any, ...], *, left: bool) -> None:
        if not arrays:
            raise sa_exc.ArgumentError("ARRAY JOIN needs an array")
        self.arrays = tuple(_expression(array) for array in arrays)
        self.left = left


class Fill(roles.OrderByRole, _Clause):
    """``element WITH FILL FROM ... TO ... STEP ... STALENESS ...`` in an ORDER BY."""

    __visit_name__ = "clickhouse_fill"
    _traverse_internals: _Internals = [  # noqa: RUF012
        ("element", InternalTraversal.dp_clauseelement),
        ("from_", InternalTraversal.dp_clauseelement),
        ("to", InternalTraversal.dp_clauseelement),
        ("step", InternalTraversal.dp_clauseelement),
        ("staleness", InternalTraversal.dp_clauseelement),
    ]

    def __init__(self, element: Any, from_: Any, to: Any, step: Any, staleness: Any) -> None:
        self.element: Any = coercions.expect(roles.OrderByRole, element)
        # The server wants both ends in the type that is ordered by; a bound time is only as precise as it has to be.
        ordered = getattr(getattr(self.element, "element", self.element), "type", None)
        exact = types.unwrap(ordered) if isinstance(types.unwrap(ordered), _TIMES) else None
        self.from_, self.to = (
            sa.cast(end, exact) if exact is not None and isinstance(end, dt.date) else _optional(end)
            for end in (from_, to)
        )
        self.step, self.staleness = _optional(step), _optional(staleness)
        if from_ is not None and staleness is not None:
            raise sa_exc.ArgumentError("ClickHouse takes STALENESS or FROM, not both")

    @property
    def _order_by_label_element(self) -> None:
        return None

    @property
    def _from_objects(self) -> Any:
        return self.element._from_objects


def fill(element: Any, *, from_: Any = None, to: Any = None, step: Any = None, staleness: Any = None) -> Any:
    """An element of ``order_by()`` whose missing values are filled with rows.

    Args:
        element: a column, a label or the name of one, ``.asc()`` and ``.desc()`` included.
        from_, to: the first value, and the one after the last.
        step: the distance; a number or an :func:`~netra_chdb.dialect.intervals.interval`.
        staleness: how far beyond an existing row to go on.
    """
    return Fill(element, from_, to, step, staleness)


class Interpolation(_Clause):
    """``name AS expression``: how ``WITH FILL`` makes the other columns of its rows."""

    __visit_name__ = "clickhouse_interpolation"
    _traverse_internals: _Internals = [  # noqa: RUF012
        ("column", InternalTraversal.dp_clauseelement),
        ("expression", InternalTraversal.dp_clauseelement),
    ]

    def __init__(self, column: Any, expression: Any) -> None:
        # INTERPOLATE speaks of the columns that come out, by name; a label or a table's column stands for its name.
        self.column = _by_name(ColumnClause(column) if isinstance(column, str) else _expression(column))
        self.expression = None if expression is None else _by_name(_expression(expression))
        if not isinstance(self.column, NamedColumn):
            raise sa_exc.ArgumentError("INTERPOLATE takes columns and labels of the SELECT, or their names")


def _by_name(expression: ColumnElement[Any]) -> Any:
    def replace(element: Any, **_: Any) -> Any:
        if isinstance(element, Label) or (isinstance(element, NamedColumn) and element.table is not None):
            return ColumnClause(element.name, element.type)
        return None

    return visitors.replacement_traverse(expression, {}, replace)
