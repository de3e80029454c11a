"""Arithmetic with numbers, times and spans of time, and the fields of a time."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import exc as sa_exc
from sqlalchemy.sql import compiler, sqltypes
from sqlalchemy.sql import elements as sa_elements

from netra_chdb.dialect import types

__all__ = ["ArithmeticCompiler"]

_HAS_DATETIME64: Final = (20, 5)
_HAS_EXACT_CASTS: Final = (21, 1)

#: ``sqlalchemy.extract()``, by PostgreSQL's names of the fields: weeks are ISO 8601's, seconds are whole.
_FIELDS: Final = {
    "year": "toYear({0})",
    "isoyear": "toISOYear({0})",
    "quarter": "toQuarter({0})",
    "month": "toMonth({0})",
    "week": "toISOWeek({0})",
    "day": "toDayOfMonth({0})",
    "doy": "toDayOfYear({0})",
    # Sunday is 0, and 7 to the standard.
    "dow": "(toDayOfWeek({0}) %% 7)",
    "isodow": "toDayOfWeek({0})",
    "hour": "toHour({0})",
    "minute": "toMinute({0})",
    "second": "toSecond({0})",
    # The seconds are in these.
    "millisecond": "(toSecond({0}) * 1000 + toMillisecond({0}))",
    "microsecond": "(toSecond({0}) * 1000000 + toMicrosecond({0}))",
}


class ArithmeticCompiler(compiler.SQLCompiler):
    """Keeps integers integers, and knows a span from a time."""

    dialect: Any

    def visit_neg_unary_operator(self, unary: Any, operator: Any, **kw: Any) -> str:
        # Two minuses begin a comment.
        return f"- {self.process(unary.element, **kw)}"

    def visit_floordiv_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        if all(side.type._type_affinity is sqltypes.Integer for side in (binary.left, binary.right)):
            # A quotient made by "/" is a Float64, of 53 bits.
            sides = (binary.left, binary.right)
            signed = not all(_integer(side)[0] for side in sides)
            return f"intDiv({', '.join(self._wide(side, signed, **kw) for side in sides)})"
        return str(super().visit_floordiv_binary(binary, operator, **kw))

    def _wide(self, side: Any, signed: bool, **kw: Any) -> str:
        """Return one side of a division with room for its sign.

        intDiv() takes an unsigned number beside a signed one for a signed one of as many bits: intDiv(128, -2) is 64.
        """
        text = self.process(side, **kw)
        sign, bits = _integer(side)
        if isinstance(side, sa_elements.BindParameter):
            # In SQL it is of as few bits as its value has.
            wide = f"{sign}Int{max(bits, 64)}"
            plain = self.dialect.server_before(*_HAS_EXACT_CASTS)
            return f"to{wide}({text})" if plain else f"accurateCast({text}, '{wide}')"
        return f"toInt{bits * 2}({text})" if sign and signed and bits < 256 else text

    # -- times: a span is stored, and bound, as the moment that far from 1970 ------------------

    def visit_add_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        left, right = binary.left, binary.right
        if _is_span(left) and _is_span(right):
            return self._span(f"{self._microseconds(left, **kw)} + {self._microseconds(right, **kw)}")
        if _is_span(right) and _is_time(left):
            return f"addMicroseconds({self._time(left, **kw)}, {self._microseconds(right, **kw)})"
        if _is_span(left) and _is_time(right):
            return f"addMicroseconds({self._time(right, **kw)}, {self._microseconds(left, **kw)})"
        return str(self._generate_generic_binary(binary, " + ", **kw))

    def visit_sub_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        left, right = binary.left, binary.right
        if _is_span(right) and _is_time(left):
            return f"subtractMicroseconds({self._time(left, **kw)}, {self._microseconds(right, **kw)})"
        if _is_date(left) and _is_date(right):
            return f"dateDiff('day', {self.process(right, **kw)}, {self.process(left, **kw)})"
        if (_is_span(left) and _is_span(right)) or (_is_time(left) and _is_time(right)):
            if not _is_span(binary):
                raise sa_exc.CompileError(f"{binary}: SQLAlchemy has no type for it; cast the date to a DateTime")
            return self._span(f"{self._microseconds(left, **kw)} - {self._microseconds(right, **kw)}")
        return str(self._generate_generic_binary(binary, " - ", **kw))

    def _time(self, time: Any, **kw: Any) -> str:
        text = self.process(time, **kw)
        return f"toDateTime64({text}, 6, 'UTC')" if _is_date(time) else text

    def _microseconds(self, time: Any, **kw: Any) -> str:
        return f"toUnixTimestamp64Micro(toDateTime64({self.process(time, **kw)}, 6, 'UTC'))"

    @staticmethod
    def _span(microseconds: str) -> str:
        return f"fromUnixTimestamp64Micro({microseconds}, 'UTC')"

    def visit_extract(self, extract: Any, **kw: Any) -> str:
        text = self.process(extract.expr, **kw)
        field = str(self.extract_map.get(extract.field, extract.field)).lower()
        if field == "epoch":
            if self.dialect.server_before(*_HAS_DATETIME64):
                return f"toUnixTimestamp({text})"
            # Of a Date too, and before 1970.
            return f"intDiv(toUnixTimestamp64Micro(toDateTime64({text}, 6, 'UTC')), 1000000)"
        template = _FIELDS.get(field) or _FIELDS.get(field.removesuffix("s"))
        if template is None:
            raise sa_exc.CompileError(
                f"extract() knows no field {extract.field!r} of a time; it knows epoch, {', '.join(_FIELDS)}"
            )
        return template.format(text)


def _integer(expression: Any) -> tuple[str, int]:
    """Return ``"U"`` where an integer has no sign, and how many bits it has."""
    match = types.INTEGER.match(types.unwrap(expression.type).__visit_name__)
    return (match[1].upper(), int(match[2])) if match else ("", 64)


def _affinity(expression: Any) -> Any:
    return expression.type._type_affinity


def _is_span(expression: Any) -> bool:
    return _affinity(expression) is sqltypes.Interval


def _is_date(expression: Any) -> bool:
    return _affinity(expression) is sqltypes.Date


def _is_time(expression: Any) -> bool:
    return _affinity(expression) in (sqltypes.DateTime, sqltypes.Date)
