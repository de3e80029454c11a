"""The two directions of a native connection: clickhouse-driver's streams of blocks, with our codecs and fewer calls."""

from __future__ import annotations

from typing import Any, Final

from clickhouse_driver.block import BlockInfo, ColumnOrientedBlock
from clickhouse_driver.bufferedwriter import BufferedSocketWriter
from clickhouse_driver.defines import (
    BUFFER_SIZE,
    DBMS_MIN_REVISION_WITH_BLOCK_INFO,
    DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION,
)
from clickhouse_driver.reader import read_binary_str, read_binary_uint8
from clickhouse_driver.streams.native import BlockInputStream
from clickhouse_driver.varint import read_varint

from netra_chdb.dialect.native_columns import read_column

__all__ = ["AsideStream", "Collected", "PlainStream", "Reading", "Writer"]

#: Bytes of a value of what a server's counters are made of.
_SIZES: Final = {"DateTime": 4, "UInt64": 8, "Int64": 8, "Enum8('increment' = 1, 'gauge' = 2)": 1}


class Reading:
    """A block's columns through our codecs."""

    fin: Any
    context: Any

    def read(self, use_numpy: Any = None) -> ColumnOrientedBlock:
        """Return the next block."""
        info = BlockInfo()
        revision = self.context.server_info.used_revision
        if revision >= DBMS_MIN_REVISION_WITH_BLOCK_INFO:
            info.read(self.fin)
        columns, rows = read_varint(self.fin), read_varint(self.fin)
        described, data = [], []
        for _ in range(columns):
            name, spec = read_binary_str(self.fin), read_binary_str(self.fin)
            described.append((name, spec))
            with_custom = revision >= DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION
            custom = bool(read_binary_uint8(self.fin)) if with_custom else False
            if rows:
                data.append(self.column(described, rows, custom=custom))
        return ColumnOrientedBlock(columns_with_types=described, data=data, info=info)

    def column(self, described: list[tuple[str, str]], rows: int, *, custom: bool) -> Any:
        """Return the values of the last column that is described."""
        return read_column(self.context, described[-1][1], rows, self.fin, custom=custom)


class PlainStream(Reading, BlockInputStream):
    """Blocks as they are."""


class AsideStream(Reading, BlockInputStream):
    """What comes beside an answer: lines of the server's log, and with each query its counters.

    Nobody reads the counters, and a short query's are many times its answer: they are passed over, not decoded.
    """

    def column(self, described: list[tuple[str, str]], rows: int, *, custom: bool) -> Any:
        """Return the values of a column of the log; what is as many for one of counters."""
        spec = described[-1][1]
        if described[0][0] == "host_name" and not custom:  # the log's first is event_time
            if spec == "String":
                return self.fin.read_strings(rows)
            if spec in _SIZES:
                self.fin.read(rows * _SIZES[spec])
                return range(rows)
        return super().column(described, rows, custom=custom)


class Writer(BufferedSocketWriter):
    """What is on its way to the server; while ``more`` follows, nothing is sent.

    Upstream sends a query, and then the empty block behind it: each costs a system call and a switch of threads.
    """

    more = False

    def flush(self) -> None:
        """Send what is there."""
        if not self.more:
            super().flush()


class Collected:
    """Stands in for a socket while a block is encoded, so that nothing is sent before all of it is."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def sendall(self, part: bytes) -> None:
        """Keep a part."""
        self.parts.append(part)

    def writer(self) -> BufferedSocketWriter:
        """Return what writes here."""
        return BufferedSocketWriter(self, BUFFER_SIZE)
