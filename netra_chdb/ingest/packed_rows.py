"""Many rows as bytes for the spool: their columns as an Arrow stream, where they are read without a value in Python."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from itertools import groupby, islice
from typing import Any, Final

from netra_chdb.dialect.arrow_columns import arrow, is_arrow
from netra_chdb.ingest.columns import Column, packed, values_of
from netra_chdb.ingest.encoding import decode, decode_columns, encode

__all__ = ["MANY", "checksum", "columns_of", "pack", "rows_in"]

#: From so many rows on, columns are shorter than text, and faster.
MANY: Final = 64
#: Text is read in pieces of so many rows: all of a batch as Python's values at once would be slower, and many times
#: as large as the columns that come of it.
_PIECE: Final = 1000
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
        array = packed(column)
        metadata = None if is_arrow(array) else _AS_TEXT
        if metadata is not None:
            array = pa.array([encode([[value]]) for value in column], pa.large_string())
        arrays.append(array)
        fields.append(pa.field(str(number), array.type, metadata=metadata))
    sink = pa.BufferOutputStream()
    batch: Any = pa.record_batch(arrays, schema=pa.schema(fields))
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return bytes(sink.getvalue())


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


def columns_of(payloads: Iterable[Any]) -> list[Column]:
    """Return the columns of entries, text (str) or packed (bytes), in order."""
    pieces: list[list[Column]] = []
    for kind, entries in groupby(payloads, type):
        if kind is str:
            while texts := list(islice(entries, _PIECE)):
                pieces.append([packed(column) for column in decode_columns(texts)])
        else:
            pieces += map(_unpack, entries)
    if len(pieces) == 1:
        return pieces[0]
    return [_joined(parts) for parts in zip(*pieces, strict=True)]


def _joined(parts: Sequence[Column]) -> Column:
    pa = arrow()

    types = {array.type for array in parts if is_arrow(array)}
    # A piece of nothing but None has no type of its own.
    if len(types) == 1 and all(is_arrow(part) or set(part) == {None} for part in parts):
        (type_,) = types
        return pa.concat_arrays([part if is_arrow(part) else pa.nulls(len(part), type_) for part in parts])
    return [value for part in parts for value in values_of(part)]


def rows_in(payload: str | bytes) -> list[list[Any]]:
    """Return the rows of one entry."""
    if isinstance(payload, str):
        return decode([payload])
    return [list(row) for row in zip(*map(values_of, _unpack(payload)), strict=True)]
