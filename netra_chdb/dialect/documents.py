"""Python dicts as text for a ``JSON`` column: exact, or refused.

ClickHouse's ``JSON`` is not a document but a set of typed paths, so it changes some documents without a word: it drops
nulls and empty objects, and cuts keys at dots. These are refused here, with what to do instead. By itself it would also
make dates of texts that look like them, and objects of nulls; :data:`AS_WRITTEN` keeps it from that.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from netra_chdb.dialect.literals import Typed
from netra_chdb.dialect.type_parser import argument_of_json

__all__ = ["AS_WRITTEN", "document_writer"]

Column: TypeAlias = Sequence[Any]
Writer: TypeAlias = Callable[[Column], Column]
Convert: TypeAlias = Callable[[Any], Any]
Path: TypeAlias = tuple[str, ...]

#: SETTINGS under which a server keeps a text that looks like a date as the text it is, a truth beside texts, and a null
#: of an array: it makes an empty object of that where the array of a row before has objects.
AS_WRITTEN: Final = {
    "input_format_null_as_default": 0,
    "input_format_try_infer_dates": 0,
    "input_format_try_infer_datetimes": 0,
    "input_format_json_read_bools_as_numbers": 0,
    "input_format_json_read_bools_as_strings": 0,
    "input_format_json_read_numbers_as_strings": 0,
}
#: What a server, and clickhouse-connect, take for another character of a key.
_ESCAPE: Final = re.compile("%[0-9A-Fa-f]{2}")
_EXACT: Final = 1 << 53
_NOTHING: Final[dict[Path, Convert]] = {}
_TIME: Final = re.compile(r"DateTime(?:64)?\((?:(\d), )?'UTC'\)")


def _refuse(path: str, why: str) -> ValueError:
    return ValueError(f"JSON cannot keep what stands at {path or 'its top'!r}: {why}")


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _scalar(value: Any, path: str) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        value.encode()
        return str(value)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise _refuse(path, f"{value} has more than 64 bits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _refuse(path, f"{value} is no number of JSON")
        return float(value)
    raise _refuse(path, f"a {type(value).__name__} is no value of JSON; a typed path may hold one")


def _array(value: Sequence[Any], path: str) -> list[Any]:
    leaves = list(_leaves(value))
    numbers = [leaf for leaf in leaves if isinstance(leaf, int | float) and not isinstance(leaf, bool)]
    # Among floats an integer is a float.
    if any(isinstance(number, float) for number in numbers) and any(
        isinstance(number, int) and abs(number) > _EXACT for number in numbers
    ):
        raise _refuse(path, "an integer of more than 53 bits beside floats in an array would be rounded")
    return [_object(item, (f"{path}[]",)) if isinstance(item, Mapping) else _value(item, path) for item in value]


def _value(value: Any, path: str) -> Any:
    return _array(value, path) if isinstance(value, list | tuple) else _scalar(value, path)


def _object(value: Mapping[Any, Any], path: Path = (), typed: Mapping[Path, Convert] = _NOTHING) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        here = (*path, key)
        name = ".".join(map(str, here))
        if not isinstance(key, str):
            raise _refuse(name, "a key is a str")
        if "." in key or _ESCAPE.search(key):
            raise _refuse(name, "a dot in a key makes two of it, and %2E stands for a dot; use JSONText")
        if here in typed:
            try:
                found[key] = typed[here](item)
            except (TypeError, ValueError, OverflowError) as error:
                raise _refuse(name, str(error)) from error
        elif item is None:
            raise _refuse(name, "a null is dropped; leave its key out, or use JSONText")
        elif isinstance(item, Mapping):
            if not item:
                raise _refuse(name, "an empty object is dropped; leave its key out, or use JSONText")
            found[key] = _object(item, here, typed)
        else:
            found[key] = _value(item, name)
    return found


def _is_there(value: Any, path: Path) -> bool:
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return False
        value = value[key]
    return True


def _converter(type_name: str, column_writer: Callable[[str], Writer]) -> Convert:
    """Return what makes a value of a typed path one that ``json`` can write and the server reads back exactly."""
    name, _, rest = type_name.partition("(")
    if name == "Nullable":
        inner = _converter(rest[:-1], column_writer)
        return lambda value: None if value is None else inner(value)
    if name == "Array":
        item = _converter(rest[:-1], column_writer)
        check = column_writer(type_name)

        def array(value: Any) -> Any:
            check([value])
            return [item(one) for one in value]

        return array
    write = column_writer(type_name)
    if name in ("DateTime", "DateTime64"):
        utc = _TIME.fullmatch(type_name)
        digits = int(utc[1] or 0) if utc else 0

        def time(value: Any) -> str:
            write([value])
            if utc is None:
                raise ValueError(
                    f"the text of a time means its zone: give the path DateTime64(6, 'UTC'), not {type_name}"
                )
            utc_value = value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
            # To its precision: more digits than that would be rounded.
            return f"{utc_value:%Y-%m-%d %H:%M:%S.%f}"[: 20 + digits if digits else 19]

        return time
    if name in ("Enum8", "Enum16"):

        def member(value: Any) -> Any:
            write([value])
            return value

        return member
    if name in ("JSON", "Map", "Tuple", "Variant", "Dynamic", "Nested", "Time", "Time64"):

        def unknown(value: Any) -> Any:
            raise ValueError(f"a path of type {type_name} is written by SQL alone")

        return unknown
    return lambda value: _plain(write([value])[0])


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode().rstrip("\0")
    return value if isinstance(value, bool | int | float | str) else str(value)


def document_writer(text: str, arguments: list[str], column_writer: Callable[[str], Writer]) -> Writer:
    """Return what makes texts of dicts for a column of type ``text``.

    A path with a type is checked as a column of that type, and has to be there: left out, it would come back as 0 or
    an empty string.
    """
    typed: dict[Path, Convert] = {}
    for argument in arguments:
        path, inner = argument_of_json(argument)
        if path:
            typed[tuple(path.split("."))] = _converter(inner, column_writer)

    def one(value: Any) -> str:
        if isinstance(value, Typed):
            value = value.value
        if not isinstance(value, Mapping):
            raise ValueError(f"{value!r} ({type(value).__name__}) is no {text}: it takes a dict")
        document = _object(value, typed=typed)
        for path in typed:
            if not _is_there(document, path):
                raise _refuse(".".join(path), "a path with a type has to be there: it would come back empty")
        return json.dumps(document, ensure_ascii=False, allow_nan=False)

    return lambda column: [one(value) for value in column]
