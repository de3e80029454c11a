"""Values in IN: only those that the other side can be equal to."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any, Final

from sqlalchemy.sql import compiler, operators, sqltypes
from sqlalchemy.types import TypeDecorator

from netra_chdb.dialect import types

__all__ = ["InListCompiler"]

_NEVER: Final = object()
_SECOND: Final = dt.timedelta(seconds=1)


class InListCompiler(compiler.SQLCompiler):
    """Makes ``in_()`` agree with ``==``.

    The server converts the values to the type on the left, where a time loses its microseconds and a date its time:
    values that were not equal to it become so, and others are an error.
    """

    _in_lists: dict[str, Any] | None = None

    def visit_in_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        self._note_list(binary)
        return str(self._generate_generic_binary(binary, " IN ", **kw))

    def visit_not_in_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        self._note_list(binary)
        return str(super().visit_not_in_op_binary(binary, operator, **kw))

    def visit_global_in_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        self._note_list(binary)
        return str(super().visit_global_in_op_binary(binary, operator, **kw))  # type: ignore[misc]

    def visit_global_not_in_op_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        self._note_list(binary)
        return str(super().visit_global_not_in_op_binary(binary, operator, **kw))  # type: ignore[misc]

    def _note_list(self, binary: Any) -> None:
        if getattr(binary.right, "expanding", False) and (fit := _fit(binary.left.type)) is not None:
            self._in_lists = {**(self._in_lists or {}), binary.right.key: fit}

    def _fitting(self, parameter: Any, values: Any) -> Any:
        fit = (self._in_lists or {}).get(parameter.key)
        if fit is None or parameter.expand_op not in (operators.in_op, operators.not_in_op):
            return values
        fitting = [one for value in values if (one := fit(value)) is not _NEVER]
        # Of an empty list NULL is not in it, of a list that holds no equal nobody knows: the server passes over NULLs.
        return fitting or [(None,) * len(value) if isinstance(value, tuple) else None for value in values[:1]]

    def _literal_execute_expanding_parameter(self, name: Any, parameter: Any, values: Any, **kw: Any) -> Any:
        return super()._literal_execute_expanding_parameter(name, parameter, self._fitting(parameter, values), **kw)

    def _literal_execute_expanding_parameter_literal_binds(
        self, parameter: Any, values: Any, *args: Any, **kw: Any
    ) -> Any:
        fitting = self._fitting(parameter, values)
        return super()._literal_execute_expanding_parameter_literal_binds(parameter, fitting, *args, **kw)


def _fit(type_: Any) -> Callable[[Any], Any] | None:
    """Return what makes a value one of ``type_``, or ``_NEVER``; None where the server's own conversion is exact."""
    if isinstance(type_, sqltypes.TupleType):
        return _fit_tuple(type_.types)
    if isinstance(type_, TypeDecorator):
        # It makes other values of them first.
        return None
    type_ = types.unwrap(type_)
    if isinstance(type_, types.DateTime64 | types.Time64):
        step = dt.timedelta(microseconds=10 ** max(0, 6 - type_.precision))
        return lambda value: _whole(value, step)
    if isinstance(type_, types.DateTime):
        return _fit_seconds
    if isinstance(type_, types.Time):
        return lambda value: _whole(value, _SECOND)
    if isinstance(type_, sqltypes.Date):
        return lambda value: _fit_date(value, is_short=isinstance(type_, types.Date))
    return None


def _fit_tuple(members: Iterable[Any]) -> Callable[[Any], Any] | None:
    fits = [_fit(member) for member in members]
    if not any(fits):
        return None

    def fit_all(values: Any) -> Any:
        fitting = tuple(fit(value) if fit else value for fit, value in zip(fits, values, strict=True))
        return _NEVER if any(value is _NEVER for value in fitting) else fitting

    return fit_all


def _whole(value: Any, step: dt.timedelta) -> Any:
    if isinstance(value, dt.datetime | dt.time):
        return value if value.microsecond % (step // dt.timedelta(microseconds=1)) == 0 else _NEVER
    if isinstance(value, dt.timedelta):
        return value if value % step == dt.timedelta(0) else _NEVER
    return value


def _fit_seconds(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        # Up to 2106-02-07, 2**32 seconds after 1970.
        since = _utc(value) - dt.datetime.fromtimestamp(0, dt.UTC)
        return _whole(value, _SECOND) if dt.timedelta(0) <= since < 2**32 * _SECOND else _NEVER
    return value


def _fit_date(value: Any, *, is_short: bool) -> Any:
    if isinstance(value, dt.datetime):
        value = _utc(value)
        if value.time() != dt.time.min:
            return _NEVER
        value = value.date()
    # Up to 2149-06-06, 2**16 days after 1970.
    if is_short and isinstance(value, dt.date) and not 0 <= (value - dt.date(1970, 1, 1)).days < 2**16:
        return _NEVER
    return value


def _utc(value: dt.datetime) -> dt.datetime:
    return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
