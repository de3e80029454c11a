"""What a column accepts: one rule for each type, from the model, before anything is sent."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import math
import operator
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

from netra_chdb.dialect import types

__all__ = ["COUNT", "DATES_16", "DATES_32", "TIMES", "Rule", "rule_for", "shown"]

Rule: TypeAlias = Callable[[Any], Any]
"""Takes a value, returns it as the driver wants it; raises ValueError saying what the column accepts."""

# A DateTime64 column holds more, but a summary's day (Date) and a bucket of time (Unix seconds) do not: there a time
# outside would silently become another one.
TIMES: Final = (dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.datetime(2106, 2, 7, 6, 28, 15, tzinfo=dt.UTC))
# Counts are summed into 64 bits, where ClickHouse wraps without a word: this leaves room for 65,536 of the largest.
COUNT: Final = 2**48 - 1
_FLOAT32_MAX: Final = 3.4028234663852886e38
DATES_32: Final = (dt.date(1900, 1, 1), dt.date(2299, 12, 31))
DATES_16: Final = (dt.date(1970, 1, 1), dt.date(2149, 6, 6))


def shown(value: Any, limit: int = 60) -> str:
    """Return ``repr(value)``, shortened."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _integer(low: int, high: int) -> Rule:
    def check(value: Any) -> int:
        if type(value) is int and low <= value <= high:
            return value
        try:
            if isinstance(value, bool):
                raise TypeError
            number = operator.index(value)
        except TypeError:
            raise ValueError("must be an integer") from None
        if not low <= number <= high:
            raise ValueError(f"must be from {low} to {high}")
        return number

    return check


def _float(value: Any) -> float:
    if type(value) is float:
        return value
    if isinstance(value, bool | str | bytes):
        raise ValueError("must be a number")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("must be a number") from None
    if isinstance(value, int) and int(number) != value:
        raise ValueError("must be a whole number that a Float64 holds exactly, or a float")
    return number


def _float32(value: Any) -> float:
    number = _float(value)
    if math.isfinite(number) and abs(number) > _FLOAT32_MAX:
        raise ValueError("must be a number that a Float32 holds")
    return number


def _boolean(value: Any) -> bool:
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return bool(value)
    raise ValueError("must be True or False")


def _string(value: Any) -> Any:
    if type(value) is str and value.isascii():
        return value
    if isinstance(value, enum.Enum) and isinstance(value.value, str):
        value = value.value
    if not isinstance(value, str | bytes):
        raise ValueError("must be a string")
    if isinstance(value, str) and not _has_bytes(value):
        raise ValueError("must be text that UTF-8 can encode (or bytes)")
    return value


def _has_bytes(text: str) -> bool:
    """Whether UTF-8 can encode ``text``: half a surrogate pair it cannot."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _names(numbers: Mapping[str, int]) -> Rule:
    def check(value: Any) -> str:
        name = value
        if isinstance(value, enum.Enum):
            # class Status(str, Enum): RUNNING = "running", as often as a member named as the column's.
            name = value.value if isinstance(value.value, str) and value.value in numbers else value.name
        if not isinstance(name, str) or name not in numbers:
            raise ValueError(f"must be one of {', '.join(numbers)}")
        return name

    return check


def _time(low: dt.datetime, high: dt.datetime) -> Rule:
    def check(value: Any) -> dt.datetime:
        if not isinstance(value, dt.datetime) or value != value:  # NaT is not equal to itself
            raise ValueError("must be a datetime")
        if hasattr(value, "to_pydatetime"):  # pandas.Timestamp; its nanoseconds are beyond any column here
            value = value.to_pydatetime(warn=False)
        aware: dt.datetime = value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
        if not low <= aware <= high:
            raise ValueError(f"must be from {low:%Y-%m-%d} to {high:%Y-%m-%d}")
        return aware

    return check


def _date(low: dt.date, high: dt.date) -> Rule:
    def check(value: Any) -> dt.date:
        if isinstance(value, dt.datetime) or not isinstance(value, dt.date):
            raise ValueError("must be a date")
        if not low <= value <= high:
            raise ValueError(f"must be from {low} to {high}")
        return value

    return check


def _uuid(value: Any) -> uuid.UUID:
    if isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise ValueError("must be a UUID") from None


def _decimal(precision: int, scale: int) -> Rule:
    bound = decimal.Decimal(10) ** (precision - scale)

    def check(value: Any) -> decimal.Decimal:
        if isinstance(value, bool | float) or not isinstance(value, int | decimal.Decimal):
            raise ValueError("must be a Decimal or an integer")
        number = decimal.Decimal(value)
        if not number.is_finite() or abs(number) >= bound:
            raise ValueError(f"must have at most {precision - scale} digits before the point")
        if -int(number.as_tuple().exponent) > scale:
            raise ValueError(f"must have at most {scale} digits after the point")
        return number

    return check


def _document(value: Any) -> str:
    if not isinstance(value, dict | list):
        raise ValueError("must be a dict or a list")
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"must be JSON: {error}") from None
    if not _has_bytes(text):
        raise ValueError("must be JSON whose text UTF-8 can encode")
    return text


def _array(item: Rule) -> Rule:
    def check(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise ValueError("must be a list")
        try:
            return [item(element) for element in value]
        except ValueError as error:
            raise ValueError(f"each element {error}") from None

    return check


def _nullable(rule: Rule) -> Rule:
    # A float NaN is a value of its own; only None is NULL.
    return lambda value: None if value is None else rule(value)


def _never_null(rule: Rule) -> Rule:
    def check(value: Any) -> Any:
        if value is None:
            raise ValueError("must not be None")
        return rule(value)

    return check


def _base_rule(type_: Any) -> Rule:
    match = types.INTEGER.match(type_.__visit_name__)
    if match:
        bits = int(match[2])
        if match[0] == "uint64":
            return _integer(0, COUNT)
        return _integer(0, 2**bits - 1) if match[1] else _integer(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if isinstance(type_, types.JSONText):
        return _document
    if isinstance(type_, types.Array):
        return _array(rule_for(type_.item_type_impl, nullable=types.is_nullable(type_.item_type_impl)))
    if isinstance(type_, sa.DateTime):
        return _time(*TIMES)
    if isinstance(type_, types.Date):
        return _date(*DATES_16)
    numbers = getattr(type_, "numbers", None)
    if isinstance(numbers, dict):
        return _names(numbers)
    if isinstance(type_, types.Decimal):
        return _decimal(type_.precision or 38, type_.scale or 0)
    for cls, rule in (
        (sa.Boolean, _boolean),
        (types.Float32, _float32),
        (sa.Float, _float),
        (sa.Integer, _integer(-(2**63), 2**63 - 1)),
        (sa.Date, _date(*DATES_32)),
        (types.UUID, _uuid),
        (sa.Uuid, _uuid),
        (sa.String, _string),
    ):
        if isinstance(type_, cls):
            return rule
    return lambda value: value


def rule_for(type_: Any, *, nullable: bool) -> Rule:
    """Return the rule of a column of ``type_``.

    Args:
        type_: the column's type, its ``Nullable`` and ``LowCardinality`` layers included.
        nullable: whether None is accepted.
    """
    rule = _base_rule(types.unwrap(type_))
    return _nullable(rule) if nullable or types.is_nullable(type_) else _never_null(rule)
