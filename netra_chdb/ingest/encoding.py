"""Rows as text for the spool: JSON, where what JSON has no word for is an object of one key. Nothing is unpickled."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

__all__ = ["decode", "encode"]

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)


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
    raise TypeError(f"{value!r} ({type(value).__name__}) cannot be spooled")


_READ: Final[dict[str, Callable[[Any], Any]]] = {
    "t": lambda value: _EPOCH + dt.timedelta(microseconds=value),
    "u": lambda value: uuid.UUID(hex=value),
    "d": dt.date.fromisoformat,
    "n": decimal.Decimal,
    "b": base64.b64decode,
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


def encode(rows: Sequence[Sequence[Any]]) -> str:
    """Return rows of values as text.

    Raises:
        TypeError: a value is of a class that cannot be read back.
    """
    if any(isinstance(value, dict | list | tuple) for row in rows for value in row):
        rows = [_plain(row) for row in rows]
    return _encoder.encode(rows)


def decode(payloads: Iterable[str]) -> list[list[Any]]:
    """Return the rows of what :func:`encode` made, in order; values are equal, tuples come back as lists."""
    # One text: the decoder is C, a call for each row is not.
    rows: list[list[Any]] = _decoder.decode("[" + ",".join([payload[1:-1] for payload in payloads]) + "]")
    return rows
