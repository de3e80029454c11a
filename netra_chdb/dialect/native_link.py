"""One native TCP connection: clickhouse-driver's protocol, without its ping, its reconnects and its endless hello.

Its ``Client`` pings and reconnects before each query, so that a pool never learns that a server died, and drops a
healthy socket after any server error. This drives its ``Connection`` instead, and gives each wait a bound.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from clickhouse_driver import Client, connection, errors
from clickhouse_driver.block import BlockInfo, ColumnOrientedBlock, RowOrientedBlock
from clickhouse_driver.defines import (
    BUFFER_SIZE,
    DBMS_MIN_REVISION_WITH_BLOCK_INFO,
    DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION,
    DBMS_MIN_REVISION_WITH_TEMPORARY_TABLES,
)
from clickhouse_driver.protocol import ClientPacketTypes, ServerPacketTypes
from clickhouse_driver.varint import read_varint, write_varint
from clickhouse_driver.writer import write_binary_str, write_binary_uint8

from netra_chdb.dialect.literals import literal, quote
from netra_chdb.dialect.native_columns import encode
from netra_chdb.dialect.native_streams import AsideStream, Collected, PlainStream, Reading, Writer

__all__ = ["Link"]

_LOG: Final = logging.getLogger(__name__)
_KILL_WITHIN: Final = 3.0


class Link(connection.Connection):
    """A connection to one server, in use from :meth:`connect` to :meth:`disconnect`.

    Args:
        open_within: seconds in which it has to open, if that is less than ``connect_timeout``.
        settings: ClickHouse SETTINGS of every statement.
        options: those of ``clickhouse_driver.connection.Connection``; ``send_receive_timeout`` bounds the wait for
            the next block of an answer, however many signs of progress come in between.
    """

    connect_timeout: float
    send_receive_timeout: float

    def __init__(self, *, settings: Mapping[str, Any], open_within: float | None = None, **options: Any) -> None:
        # An unknown setting is an error, as it is over HTTP.
        super().__init__(settings_is_important=True, **options)
        self._options = options
        self._settings = dict(settings)
        self._open_within = open_within
        self._longest_wait = self.send_receive_timeout
        self._until = math.inf
        self.context.client_settings = Client(self.hosts[0][0]).client_settings
        self.context.settings = {}
        self.in_query = False
        #: Whether the server may be about to close the connection.
        self.doubtful = False
        self.query_id = ""
        self.written_rows = 0

    # -- opening -------------------------------------------------------------

    def connect(self) -> None:
        """Open the connection; it has one host, several of them are the dialect's affair."""
        own = self.connect_timeout
        if self._open_within is not None:
            self.connect_timeout = min(own, self._open_within)
        try:
            self._init_connection(*self.hosts[0])
            self.block_in_raw = AsideStream(self.fin, self.context)
        except BaseException:
            self.disconnect()
            raise
        finally:
            self.connect_timeout = own

    def send_hello(self) -> None:
        # Upstream waits send_receive_timeout (300 s) for the hello of a server that hangs.
        self.socket.settimeout(self.connect_timeout)
        self.fout = Writer(self.socket, BUFFER_SIZE)
        super().send_hello()

    def receive_hello(self) -> None:
        super().receive_hello()
        self.socket.settimeout(self.send_receive_timeout)

    def renew(self) -> None:
        """Open the connection again if the server has closed it."""
        self.doubtful = False
        try:
            self.check()
        except (OSError, EOFError):
            self.disconnect()
            self.connect()

    def disconnect(self) -> None:
        self.in_query = self.doubtful = False
        super().disconnect()

    def get_block_in_stream(self) -> Any:
        if not self.compression:
            return PlainStream(self.fin, self.context)
        from clickhouse_driver.streams.compressed import CompressedBlockInputStream

        class Compressed(Reading, CompressedBlockInputStream):
            """Blocks in compressed frames."""

        return Compressed(self.fin, self.context)

    def limit_wait(self, seconds: float | None, *, in_all: bool = False) -> None:
        """Wait at most so long for each next block, or for all of them; None for what the link was opened with."""
        self.send_receive_timeout = self._longest_wait if seconds is None else min(self._longest_wait, seconds)
        self._until = time.monotonic() + seconds if seconds is not None and in_all else math.inf

    # -- statements ----------------------------------------------------------

    def begin(self, sql: str, query_id: str, settings: Mapping[str, Any]) -> None:
        """Send one statement."""
        self.context.settings = {
            name: _setting(value) for name, value in {**self._settings, **settings}.items() if value is not None
        }
        self.in_query = True
        self.query_id = query_id
        self.written_rows = 0
        self._wait_at_most(self.send_receive_timeout)
        self.fout.more = True
        try:
            self.send_query(sql, query_id=query_id)
        finally:
            self.fout.more = False
        self.send_data(RowOrientedBlock())

    def blocks(self) -> Iterator[ColumnOrientedBlock]:
        """Yield the blocks of the answer, the header without rows among them.

        Raises:
            clickhouse_driver.errors.ServerException: the statement failed; the connection is as good as before.
            OSError, EOFError: the connection is lost.
        """
        answered = False
        while True:
            deadline = min(time.monotonic() + self.send_receive_timeout, self._until)
            while (packet := self._packet(deadline)).type != ServerPacketTypes.DATA:
                if packet.type == ServerPacketTypes.EXCEPTION:
                    self.in_query = False
                    # After an error in what precedes the statement (a setting, say) the server sends this and hangs up.
                    self.doubtful = not answered
                    raise packet.exception
                answered = True
                if packet.type == ServerPacketTypes.END_OF_STREAM:
                    self.in_query = False
                    return
                if packet.type == ServerPacketTypes.PROGRESS:
                    self.written_rows += packet.progress.written_rows
            answered = True
            yield packet.block

    def _packet(self, deadline: float) -> Any:
        left = deadline - time.monotonic()
        if left <= 0:
            what = "block" if self._until == math.inf else "end"
            raise TimeoutError(f"no {what} of the answer within {self.send_receive_timeout:g} s")
        if self.fin.position >= self.fin.current_buffer_size:  # else it has come already
            self._wait_at_most(left)
        return self.receive_packet()

    def _wait_at_most(self, seconds: float) -> None:
        # A system call, and other threads run meanwhile: not for what is the same, or, without a deadline, nearly.
        nearly = 1.1 if self._until == math.inf else 1.0
        if not seconds <= (self.socket.gettimeout() or 0) <= nearly * seconds:
            self.socket.settimeout(seconds)

    def send_block(self, columns_with_types: Sequence[tuple[str, str]], data: Sequence[Sequence[Any]]) -> None:
        """Send the rows of an INSERT as one block and its end; nothing at all if a value cannot be encoded."""
        encoded = self._encoded(columns_with_types, data)
        for part in encoded:
            self.fout.write(part)
        self.fout.flush()
        self.send_end()

    def send_end(self) -> None:
        """Tell the server that an INSERT has no more rows."""
        self.send_data(RowOrientedBlock())

    def _encoded(self, columns_with_types: Sequence[tuple[str, str]], data: Sequence[Sequence[Any]]) -> list[bytes]:
        collected = Collected()
        raw = collected.writer()
        revision = self.server_info.used_revision
        write_varint(ClientPacketTypes.DATA, raw)
        if revision >= DBMS_MIN_REVISION_WITH_TEMPORARY_TABLES:
            write_binary_str("", raw)
        stream = self.get_block_out_stream()
        if self.compression:
            stream = type(stream)(self.compressor_cls, self.compress_block_size, raw, self.context)
        else:
            stream.fout = raw
        target = stream.fout
        if revision >= DBMS_MIN_REVISION_WITH_BLOCK_INFO:
            BlockInfo().write(target)
        write_varint(len(data), target)
        write_varint(len(data[0]), target)
        for (name, spec), values in zip(columns_with_types, data, strict=True):
            write_binary_str(name, target)
            write_binary_str(spec, target)
            if revision >= DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION:
                write_binary_uint8(0, target)
            encode(self.context, spec, values, target)
        stream.finalize()
        return collected.parts

    # -- giving up -----------------------------------------------------------

    def cancel(self) -> None:
        """End the running query and read what is still on the way, so that the connection can go on."""
        self.send_cancel()
        deadline = time.monotonic() + _KILL_WITHIN
        while self._packet(deadline).type not in (ServerPacketTypes.END_OF_STREAM, ServerPacketTypes.EXCEPTION):
            pass
        self.in_query = False

    def abandon(self, query_id: str) -> None:
        """Close the connection, and kill the query that may still run behind it."""
        host, port = self.host, self.port
        self.disconnect()
        self.kill(query_id, host, port)

    def kill(self, query_id: str, host: str | None, port: int | None) -> None:
        """End a query on a server, over a connection of its own; any thread may call this."""
        options = {**self._options, "host": host, "port": port}
        options["connect_timeout"] = min(self.connect_timeout, _KILL_WITHIN)
        options["send_receive_timeout"] = min(self.send_receive_timeout, _KILL_WITHIN)
        killer = Link(settings={}, **options)
        try:
            killer.connect()
            killer.begin(f"KILL QUERY WHERE query_id = {quote(query_id)} ASYNC", "", {})
            for _ in killer.blocks():
                pass
        except (OSError, EOFError, errors.Error) as error:
            _LOG.warning("query %s was given up and could not be killed on %s:%s: %s", query_id, host, port, error)
        finally:
            killer.disconnect()

    def check(self) -> None:
        """Exchange a ping; raises as :meth:`blocks` does."""
        self.socket.settimeout(min(self.sync_request_timeout, self.send_receive_timeout))
        write_varint(ClientPacketTypes.PING, self.fout)
        self.fout.flush()
        while (answer := read_varint(self.fin)) == ServerPacketTypes.PROGRESS:
            self.receive_progress()
        if answer != ServerPacketTypes.PONG:
            raise EOFError(self.unexpected_packet_message("Pong", answer))


def _setting(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(name)}: {literal(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return literal(list(value))
    return value
