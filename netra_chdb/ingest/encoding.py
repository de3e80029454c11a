"""Rows as text for the spool: JSON, where what JSON has no word for is an object of one key. Nothing is unpickled."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from netra_chdb.dialect.arrow_columns import arrow
from netra_chdb.dialect.rows import collector_paused
from netra_chdb.ingest.columns import Column

__all__ = ["Unkept", "decode", "decode_columns", "encode"]

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)


@dataclasses.dataclass(frozen=True, slots=True)
class Unkept:
    """What stands for a value that no spool can keep: of a class of its own, which no column accepts.

    Attributes:
        text: the value's ``repr()``.
    """

    text: str

    def __str__(self) -> str:
        return self.text


def _tagged(value: Any) -> dict[str, Any]:
    if isinstance(value, dt.datetime):
        # Whole microseconds: a float is too coarse, and text takes longer to read.
        return {"t": (value - _EPOCH) // _MICROSECOND}
    if isinstance(value, uuid.UUID):
        return {"u": value.hex}
    if isinstance(value, dt.date):
        return {"d": value.isoformat()}
    if isinstance(value, decimal.Decimal):
        return {"n": str(value)}
    if isinstance(value, bytes):
        return {"b": base64.b64encode(value).decode()}
    if isinstance(value, Unkept):
        return {"x": value.text}
    raise TypeError(f"{value!r} ({type(value).__name__}) cannot be spooled")


_READ: Final[dict[str, Callable[[Any], Any]]] = {
    "t": lambda value: _EPOCH + dt.timedelta(microseconds=value),
    "u": lambda value: uuid.UUID(hex=value),
    "d": dt.date.fromisoformat,
    "n": decimal.Decimal,
    "b": base64.b64decode,
    "x": Unkept,
    # A mapping of the caller's own.
    "o": lambda value: {_hashable(key): item for key, item in value},
}


def _hashable(key: Any) -> Any:
    return tuple(key) if isinstance(key, list) else key


def _untagged(value: dict[str, Any]) -> Any:
    ((tag, content),) = value.items()
    return _READ[tag](content)


def _plain(value: Any) -> Any:
    """``value`` with its mappings as tagged pairs: JSON's own keys are text alone."""
    if isinstance(value, dict):
        return {"o": [[_plain(key), _plain(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


_encoder: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_tagged)
_decoder: Final = json.JSONDecoder(object_hook=_untagged)
_SCALARS: Final = frozenset({type(None), bool, int, float, str, dt.datetime, uuid.UUID})
_plain_decoder: Final = json.JSONDecoder()


def encode(rows: Sequence[Sequence[Any]]) -> str:
    """Return rows of values as text.

    Raises:
        TypeError: a value is of a class that cannot be read back.
    """
    # Classes of values, not values: a row of a record has one class for many of them.
    if any(issubclass(kind, dict | list | tuple) for row in rows for kind in set(map(type, row)) - _SCALARS):
        rows = [_plain(row) for row in rows]
    return _encoder.encode(rows)


def decode_columns(payloads: Iterable[str]) -> list[Column]:
    """Return the columns of what :func:`encode` made: times as an Arrow array, other values as :func:`decode` does."""
    with collector_paused():  # a list and a dict for each row, and all of them live
        rows: list[list[Any]] = _plain_decoder.decode("[" + ",".join([payload[1:-1] for payload in payloads]) + "]")
        return [_column(values) for values in zip(*rows, strict=True)]


def _column(values: tuple[Any, ...]) -> Column:
    kinds = set(map(type, values))
    if dict not in kinds and list not in kinds:
        return values
    try:
        ticks = [value["t"] if value is not None else None for value in values]
    except (KeyError, TypeError):  # tagged otherwise, or not at all
        return [_read(value) for value in values]
    pa = arrow()

    return pa.array(ticks, pa.int64()).cast(pa.timestamp("us", "UTC"))


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [_read(item) for item in value]
    if isinstance(value, dict):
        return _untagged({tag: _read(content) for tag, content in value.items()})
    return value


def decode(payloads: Iterable[str]) -> list[list[Any]]:
    """Return the rows of what :func:`encode` made, in order; values are equal, tuples come back as lists."""
    # One text: the decoder is C, a call for each row is not.
    rows: list[list[Any]] = _decoder.decode("[" + ",".join([payload[1:-1] for payload in payloads]) + "]")
    return rows
