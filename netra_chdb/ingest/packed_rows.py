"""Many rows as bytes for the spool: their columns as an Arrow stream, where they are read without a value in Python."""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

from netra_chdb.dialect.arrow_columns import arrow, is_arrow
from netra_chdb.ingest.columns import Column, values_of
from netra_chdb.ingest.encoding import decode, decode_columns, encode

__all__ = ["MANY", "checksum", "columns_of", "pack", "rows_in"]

#: From so many rows on, columns are shorter than text, and faster.
MANY: Final = 64
#: Exactly these classes are in Arrow what they are in Python; a column of others is text, value by value.
_EXACT: Final[dict[type, str]] = {
    bool: "bool",
    int: "int64",
    float: "float64",
    str: "string",
    dt.date: "date32",
}
_AS_TEXT: Final = {b"netra": b"text"}


def checksum(payload: str | bytes) -> int:
    """Return what tells whether an entry's payload is what was written."""
    return zlib.crc32(payload if isinstance(payload, bytes) else payload.encode())


def pack(columns: Sequence[Column]) -> bytes:
    """Return columns of values as bytes.

    Raises:
        TypeError: a value is of a class that cannot be read back.
    """
    pa = arrow()

    arrays, fields = [], []
    for number, column in enumerate(columns):
        array = column if is_arrow(column) else _exact(column)
        metadata = None if array is not None else _AS_TEXT
        if array is None:
            array = pa.array([encode([[value]]) for value in column], pa.large_string())
        arrays.append(array)
        fields.append(pa.field(str(number), array.type, metadata=metadata))
    sink = pa.BufferOutputStream()
    batch: Any = pa.record_batch(arrays, schema=pa.schema(fields))
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue())


def _exact(values: Sequence[Any]) -> Any:
    pa = arrow()

    found = set(map(type, values)) - {type(None)}
    if len(found) != 1:
        return None
    (kind,) = found
    try:
        if kind is dt.datetime:
            return pa.array(values, pa.timestamp("us", "UTC"))
        return pa.array(values, pa.type_for_alias(_EXACT[kind])) if kind in _EXACT else None
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return None


def _unpack(payload: bytes) -> list[Column]:
    pa = arrow()

    with pa.ipc.open_stream(payload) as stream:
        table = stream.read_all()
    columns: list[Column] = []
    for field, chunked in zip(table.schema, table.columns, strict=True):
        array = chunked.chunk(0) if chunked.num_chunks == 1 else chunked.combine_chunks()
        if field.metadata == _AS_TEXT:
            columns.append([row[0] for row in decode(array.to_pylist())])
        else:
            columns.append(array)
    return columns


def columns_of(payloads: Iterable[str | bytes]) -> list[Column]:
    """Return the columns of entries, text or packed, in order."""
    pieces: list[list[Column]] = []
    texts: list[str] = []

    def read_texts() -> None:
        if texts:
            pieces.append(decode_columns(texts))
            texts.clear()

    for payload in payloads:
        if isinstance(payload, str):
            texts.append(payload)
        else:
            read_texts()
            pieces.append(_unpack(payload))
    read_texts()
    if len(pieces) == 1:
        return pieces[0]
    return [_joined(parts) for parts in zip(*pieces, strict=True)]


def _joined(parts: Sequence[Column]) -> Column:
    pa = arrow()

    arrays: Any = parts
    if all(map(is_arrow, parts)) and len({str(array.type) for array in arrays}) == 1:
        return pa.concat_arrays(arrays)
    return [value for part in parts for value in values_of(part)]


def rows_in(payload: str | bytes) -> list[list[Any]]:
    """Return the rows of one entry."""
    if isinstance(payload, str):
        return decode([payload])
    return [list(row) for row in zip(*map(values_of, _unpack(payload)), strict=True)]
