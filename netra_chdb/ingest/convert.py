"""What a file says, as a column's value: text to numbers, times and documents, by the column's type.

Nothing is guessed and nothing is rounded in silence: what could mean two things, or would not be kept as it stands,
is refused with the reason. The one exception is counted: times finer than the column's precision are cut to it.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import re
import sys
import uuid
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

from netra_chdb.dialect import types
from netra_chdb.errors import ConfigError
from netra_chdb.ingest.source import strict_json

__all__ = ["EPOCHS", "Convert", "TimeReader", "converter_for", "is_blank", "joined", "to_json"]

Convert: TypeAlias = Callable[[Any], Any]
"""Takes what the file holds, returns the column's value; raises ValueError saying what is wrong."""

#: Time formats for numbers since 1970 UTC, and how many of them make a second.
EPOCHS: Final = {"epoch-s": 1, "epoch-ms": 10**3, "epoch-us": 10**6, "epoch-ns": 10**9}

_INTEGER: Final = re.compile(r"([+-]?[0-9]{1,80})(?:\.0*)?")
_REAL: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,80}")
_SINCE: Final = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?")
_ISO: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,]([0-9]+))?)?) ?([Zz]|UTC|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CTIME: Final = re.compile(
    rf"({'|'.join(_DAYS)}) ({'|'.join(_MONTHS)}) +([0-9]{{1,2}}) ([0-9]{{2}}):([0-9]{{2}}):([0-9]{{2}}) ([0-9]{{4}})"
)
_1970: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_FLOAT32_MAX: Final = 3.4028234663852886e38


def is_blank(value: Any) -> bool:
    """Whether the file says nothing: null, or text of nothing but blanks."""
    return value is None or (isinstance(value, str) and not value.strip())


def joined(values: list[Any]) -> str:
    """Join the parts of one value by a blank each.

    Raises:
        ValueError: a part is missing, or has no one way to be written.
    """
    parts = []
    for value in values:
        if is_blank(value):
            raise ValueError("a part of it is empty")
        if isinstance(value, dt.date | dt.time):
            parts.append(value.isoformat())
        elif isinstance(value, str | int) and not isinstance(value, bool):
            parts.append(str(value).strip())
        else:
            raise ValueError("its parts must be text")
    return " ".join(parts)


# -- numbers ---------------------------------------------------------------------------------------------------------


def _integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and (match := _INTEGER.fullmatch(value.strip())):
        return int(match[1])
    # Beyond 2**53 a double stands for several integers.
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        return int(value)
    if isinstance(value, decimal.Decimal) and value.is_finite() and value == value.to_integral_value():
        return int(value)
    raise ValueError("must be an integer")


def _real(largest: float) -> Convert:
    def convert(value: Any) -> float:
        if isinstance(value, str):
            text = value.strip()
            if not _REAL.fullmatch(text):
                raise ValueError("must be a number such as -1.5 or 2e6")
            number = float(text)
            if number == 0 and text.lower().partition("e")[0].strip("+-0."):
                raise ValueError("is too close to zero for the column")
            whole: int | None = int(text) if _WHOLE.fullmatch(text) else None
        elif isinstance(value, int | float | decimal.Decimal) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            whole = value if isinstance(value, int) else None
        else:
            raise ValueError("must be a number")
        if not abs(number) <= largest:
            raise ValueError("must be a finite number within the column's range")
        if whole is not None and int(number) != whole:
            raise ValueError("has more digits than the column can hold")
        return number

    return convert


def _boolean(value: Any) -> Any:
    if isinstance(value, str):
        known = {"true": True, "1": True, "false": False, "0": False}
        if value.strip().lower() not in known:
            raise ValueError("must be true or false")
        return known[value.strip().lower()]
    return value


def _decimal(value: Any) -> Any:
    if isinstance(value, str):
        if not _REAL.fullmatch(value.strip()):
            raise ValueError("must be a number such as -1.5")
        return decimal.Decimal(value.strip())
    return value


# -- times -----------------------------------------------------------------------------------------------------------


class TimeReader:
    """Reads times; those without a zone are UTC.

    Args:
        format: a pattern of ``strptime``, or one of ``EPOCHS``; by default ISO 8601 and the form of ``ctime``.
        digits: after the second, that the column keeps; finer times are cut.

    Attributes:
        cut: how many times have been cut.

    Raises:
        ConfigError: the format is no pattern, or leaves out what a time needs.
    """

    def __init__(self, format: str | None = None, digits: int = 6) -> None:  # noqa: A002 - strptime's name for it
        self.cut = 0
        self._format = format
        self._unit = 10 ** (6 - min(digits, 6))
        if format is not None and format not in EPOCHS:
            _check_format(format)

    def __call__(self, value: Any) -> dt.datetime:
        """Return the time, aware, in UTC where the file says no zone."""
        exact = True
        if isinstance(value, dt.datetime):
            time = value
        elif isinstance(value, dt.date):
            time = dt.datetime.combine(value, dt.time())
        elif self._format in EPOCHS:
            time, exact = _since_1970(value, EPOCHS[self._format])
        elif isinstance(value, str):
            time, exact = self._read(value.strip())
        else:
            raise ValueError(_BARE)
        if time.tzinfo is None:
            time = time.replace(tzinfo=dt.UTC)
        rounded = time.replace(microsecond=time.microsecond // self._unit * self._unit)
        self.cut += rounded != time or not exact
        return rounded

    def _read(self, text: str) -> tuple[dt.datetime, bool]:
        if self._format is not None:
            try:
                return dt.datetime.strptime(text, self._format), True
            except ValueError:
                raise ValueError(f"must be a time of the form {self._format!r}") from None
        match, ctime = _ISO.fullmatch(text), _CTIME.fullmatch(text)
        try:
            if match:
                return _iso(*match.groups())
            if ctime:
                return _ctime(*ctime.groups()), True
        except ValueError as error:
            raise ValueError(f"must be a time that exists: {error}") from None
        if re.fullmatch(r"[+-]?[0-9.]+", text):
            raise ValueError(_BARE)
        raise ValueError(
            "must be a time such as 2014-02-14 14:30:00.123 or Fri Feb 14 14:30:00 2014; for others give a time format"
        )


_BARE: Final = f"is a bare number, which may mean several times; give a time format: {', '.join(EPOCHS)} or a pattern"


def _check_format(format: str) -> None:  # noqa: A002
    directives = set(re.findall(r"%(.)", format.replace("%%", "")))
    if not directives & set("YyGcx") or not directives & set("djVcx"):
        raise ConfigError(
            f"the time format {format!r} must name a year and a day (as %Y-%m-%d does), else they are lost"
        )
    if "Z" in directives:
        raise ConfigError(
            f"the time format {format!r} has %Z, which drops the zone that it reads; use %z for an offset"
        )
    try:
        dt.datetime.strptime("", format)
    except ValueError as error:
        if "does not match" not in str(error):
            raise ConfigError(
                f"the time format {format!r} is no pattern: {error}; other formats: {', '.join(EPOCHS)}"
            ) from None


def _since_1970(value: Any, a_second: int) -> tuple[dt.datetime, bool]:
    text = repr(value) if isinstance(value, float) else str(value).strip()
    if isinstance(value, bool) or not _SINCE.fullmatch(text):
        raise ValueError("must be a number of units since 1970")
    microseconds = decimal.Decimal(text) * 1_000_000 / a_second
    whole = math.floor(microseconds)
    try:
        return _1970 + dt.timedelta(microseconds=whole), whole == microseconds
    except OverflowError:
        raise ValueError("is out of range") from None


def _iso(date: str, time: str | None, fraction: str | None, zone: str | None) -> tuple[dt.datetime, bool]:
    offset = "+00:00" if zone in ("Z", "z", "UTC") else zone or ""
    found = dt.datetime.fromisoformat(f"{date}T{time or '00:00'}{offset}")
    return found, not (fraction or "")[6:].strip("0")


def _ctime(day: str, month: str, *numbers: str) -> dt.datetime:
    date, hour, minute, second, year = map(int, numbers)
    found = dt.datetime(year, _MONTHS.index(month) + 1, date, hour, minute, second, tzinfo=dt.UTC)
    if found.weekday() != _DAYS.index(day):
        raise ValueError(f"{found:%Y-%m-%d} is a {_DAYS[found.weekday()]}")
    return found


# -- the rest --------------------------------------------------------------------------------------------------------


def _date(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return dt.datetime.strptime(value.strip(), "%Y-%m-%d").date()
        except ValueError:
            raise ValueError("must be a date such as 2014-02-14") from None
    return value


def _document(value: Any) -> Any:
    return strict_json(value) if isinstance(value, str) else value


def _string(value: Any) -> Any:
    # An integer has one way to be written; what else is no text, the column's rule refuses.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def to_json(value: Any) -> Any:
    """Return ``value`` with times, decimals and UUIDs written as text, for a JSON document.

    Raises:
        ValueError: JSON has no place for it.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("must be a finite number")
        return value
    if isinstance(value, dict):
        return {str(name): to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | uuid.UUID):
        return str(value)
    raise ValueError(f"cannot be written as JSON, being {type(value).__name__}")


def converter_for(type_: Any, time_format: str | None) -> Convert:
    """Return what reads values for a column of ``type_``; for times a :class:`TimeReader`."""
    type_ = types.unwrap(type_)
    if isinstance(type_, sa.DateTime):
        digits = getattr(type_, "precision", None)
        return TimeReader(time_format, 0 if digits is None else digits)
    if isinstance(type_, types.Float32):
        return _real(_FLOAT32_MAX)
    for cls, convert in (
        (sa.Boolean, _boolean),
        (types.Decimal, _decimal),
        (sa.Float, _real(sys.float_info.max)),
        (sa.Integer, _integer),
        (sa.Date, _date),
        (types.JSONText, _document),
        (types.Array, _document),
    ):
        if isinstance(type_, cls):
            return convert
    return _string
