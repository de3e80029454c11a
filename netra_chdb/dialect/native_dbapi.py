"""PEP 249 over ClickHouse's native TCP protocol, as clickhouse-driver speaks it.

Its own ``dbapi`` opens a socket for each cursor, and its errors carry no code. Here a connection is one socket, kept
over statements and over server errors; each failure is a PEP 249 error whose ``code`` is ClickHouse's, or None when
the line failed; a query given up is killed on the server.
"""

from __future__ import annotations

import contextlib
import importlib
import uuid
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from clickhouse_driver import errors
from clickhouse_driver.columns.exceptions import ColumnException

from netra_chdb.dialect import connect_dbapi
from netra_chdb.dialect.connect_dbapi import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    Warning,  # noqa: A004
    apilevel,
    paramstyle,
    threadsafety,
)
from netra_chdb.dialect.documents import AS_WRITTEN
from netra_chdb.dialect.native_link import Link
from netra_chdb.dialect.rows import Rows
from netra_chdb.dialect.sql_text import first_keyword

__all__ = [
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
    "Warning",
    "apilevel",
    "connect",
    "paramstyle",
    "threadsafety",
]

_NAMES: Final = {
    code: name for name, code in vars(errors.ErrorCodes).items() if name.isupper() and isinstance(code, int)
}
# What an encoder raises for a value that does not fit its column.
_UNFIT: Final = (TypeError, ValueError, ArithmeticError, AttributeError, LookupError, ColumnException, errors.Error)


def _server_error(error: errors.ServerException) -> DatabaseError:
    text, _, _ = str(error.message).partition(". Stack trace:")
    return DatabaseError(f"Code: {error.code}. {text}", code=error.code, name=_NAMES.get(error.code))


class Connection:
    """One socket.

    Args:
        options: those of :class:`~netra_chdb.dialect.native_link.Link`.

    Attributes:
        lost: the socket is gone; the connection is of no more use.
    """

    #: A failed statement leaves the connection as good as before.
    fragile = False

    def __init__(self, **options: Any) -> None:
        self.streams: weakref.WeakSet[Cursor] = weakref.WeakSet()
        self._closed = False
        try:
            self.link = Link(**options)
            if self.link.compression:
                importlib.import_module("clickhouse_driver.streams.compressed")
        except (RuntimeError, ImportError, errors.UnknownCompressionMethod) as error:
            raise NotSupportedError(
                f"compression={options.get('compression')} needs more than is installed: pip install "
                f"'clickhouse-driver[lz4]' or '[zstd]' ({error})"
            ) from error
        with self.translated():
            self.link.connect()

    @property
    def lost(self) -> bool:
        """Whether the socket is gone."""
        return not self.link.connected

    @contextlib.contextmanager
    def translated(self, query_id: str | None = None) -> Iterator[None]:
        """Turn what fails inside into PEP 249; whatever leaves the protocol half-way ends the socket.

        Args:
            query_id: the statement to kill on the server when the client gives it up.
        """
        link = self.link
        try:
            yield
        except errors.ServerException as error:
            raise _server_error(error) from None
        except (EOFError, OSError) as error:
            where = f"{link.host or link.hosts[0][0]}:{link.port or link.hosts[0][1]}"
            if isinstance(error, TimeoutError) and link.in_query and query_id:
                link.abandon(query_id)
            else:
                link.disconnect()
            raise OperationalError(f"{where}: {type(error).__name__}: {error}") from error
        except errors.UnknownTypeError as error:
            # The rest of the block cannot be told from what follows it.
            self._give_up(query_id)
            raise NotSupportedError(f"clickhouse-driver cannot carry this type: {error.message}") from error
        except errors.Error as error:
            self._give_up(query_id)
            raise InterfaceError(f"{type(error).__name__}: {error.message}") from error
        except Error:
            raise
        except BaseException:
            self._give_up(query_id)
            raise

    def _give_up(self, query_id: str | None) -> None:
        if self.link.in_query and query_id:
            self.link.abandon(query_id)
        else:
            self.link.disconnect()

    def ready(self) -> Link:
        """Return the link for the next statement.

        Raises:
            Error: the connection is closed or lost, or a stream of it is still open.
        """
        if self._closed:
            raise InterfaceError("the connection is closed")
        if self.link.doubtful:
            with self.translated():
                self.link.renew()
        if self.lost:
            raise OperationalError("the connection was lost") from ConnectionError("it has failed before")
        if self.link.in_query:
            raise ProgrammingError("a stream is still open on this connection: read it to its end, or close it")
        return self.link

    def cursor(self, *, streaming: bool = False) -> Cursor:
        """Return a cursor; a streaming one holds no more than a block of rows."""
        if self._closed:
            raise InterfaceError("the connection is closed")
        return Cursor(self, streaming=streaming)

    def ping(self) -> None:
        """Exchange a ping with the server.

        Raises:
            Error: it did not answer.
        """
        link = self.ready()
        with self.translated():
            link.check()

    def commit(self) -> None:
        """Nothing is pending: each statement stands when it is done."""

    def rollback(self) -> None:
        """Give up streams that are still open; what statements did stands when they are done."""
        self._end_streams("its connection was rolled back, or went back to its pool (a commit of a session does that)")

    def close(self) -> None:
        """Close the socket; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        # Nothing to cancel: the server ends what runs when the socket is gone.
        self.link.disconnect()
        self._end_streams("its connection was closed")

    def _end_streams(self, why: str) -> None:
        for cursor in list(self.streams):
            cursor.give_up(why)


class Cursor(connect_dbapi.Cursor):
    """PEP 249's cursor, with SETTINGS and a block insert."""

    connection: Connection  # type: ignore[assignment]

    def __init__(self, connection: Connection, *, streaming: bool = False) -> None:
        super().__init__(connection, streaming=streaming)  # type: ignore[arg-type]
        self._query_id = ""

    def execute(
        self,
        operation: str,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(parameters, Mapping) and self.connection.ready().server_info.version_tuple() < (20,):
            # An old server reads true and false as column names.
            parameters = {key: int(item) if isinstance(item, bool) else item for key, item in parameters.items()}
        super().execute(operation, parameters, settings=settings)

    def insert(
        self, table: str, columns: Sequence[str], data: Sequence[Any], *, settings: Mapping[str, Any] | None = None
    ) -> None:
        self._reset()
        if not data or len(data) != len(columns) or len({len(values) for values in data}) != 1:
            raise DataError(f"the values for {table} are not {len(columns)} columns of one length")
        if not len(data[0]):
            self.rowcount = 0
            return
        if self.connection.ready().server_info.version_tuple() >= (24, 8):
            # Sent before the server says which columns hold JSON.
            settings = {**AS_WRITTEN, **(settings or {})}
        names = ", ".join(f"`{name.translate(_IDENTIFIER)}`" for name in columns)
        link, failure = self._begin(f"INSERT INTO {table} ({names}) VALUES", settings), None
        with self.connection.translated(self._query_id):
            sample = next(link.blocks())
            try:
                link.send_block(sample.columns_with_types, data)
            except OSError:
                raise
            except _UNFIT as error:
                # The server waits for rows: telling it that there are none ends the statement and keeps the line.
                failure = error
                link.send_end()
            for _ in link.blocks():
                pass
        if failure is not None:
            raise DataError(f"a value does not fit its column in {table}: {_message(failure)}") from failure
        self.rowcount = len(data[0])
        self._summarize(link)

    def _begin(self, sql: str, settings: Mapping[str, Any] | None) -> Link:
        own = dict(settings or {})
        self._query_id = str(own.pop("query_id", None) or uuid.uuid4())
        link = self.connection.ready()
        with self.connection.translated(self._query_id):
            link.begin(sql, self._query_id, own)
        return link

    def _summarize(self, link: Link) -> None:
        self.summary = {"query_id": self._query_id, "written_rows": str(link.written_rows)}

    def _command(self, sql: str, settings: dict[str, Any]) -> None:
        insert = first_keyword(sql) == "INSERT"
        link = self._begin(sql, settings)
        with self.connection.translated(self._query_id):
            asked = False
            for block in link.blocks():
                # ON CLUSTER answers with rows to a statement that has none elsewhere: nobody asked for them.
                if insert and block.columns_with_types and not block.num_rows:
                    asked = True
                    link.send_end()
        if asked:
            raise NotSupportedError(
                "this server takes rows over the native protocol only as data: insert plain values or INSERT ... SELECT"
            )
        self._summarize(link)
        if insert:
            self.rowcount = link.written_rows

    def _query(self, sql: str, settings: dict[str, Any]) -> None:
        link = self._begin(sql, settings)
        with self.connection.translated(self._query_id):
            self._rows.take(map(self._read, link.blocks()))
        self._summarize(link)
        self.rowcount = len(self._rows)

    def _open_stream(self, sql: str, settings: dict[str, Any]) -> None:
        link = self._begin(sql, settings)
        self._stream = blocks = link.blocks()
        self.connection.streams.add(self)
        with self.connection.translated(self._query_id):
            for block in blocks:
                self._rows.extend(self._read(block))
                if self._rows:
                    break

        def rows() -> Iterator[Rows]:
            while True:
                with self.connection.translated(self._query_id):
                    block = next(blocks, None)
                if block is None:
                    return
                yield Rows(zip(*block.get_columns(), strict=True))

        self._blocks = rows()

    def _read(self, block: Any) -> Iterable[Any]:
        if self.description is None:
            self.description = [(name, spec, None, None, None, None, None) for name, spec in block.columns_with_types]
        return zip(*block.get_columns(), strict=True) if block.num_rows else ()

    def _close_stream(self) -> None:
        self._blocks = iter(())
        stream, self._stream = self._stream, None
        if stream is None:
            return
        stream.close()
        link = self.connection.link
        if link.in_query:
            try:
                link.cancel()
            except (OSError, EOFError, errors.Error):
                # Not a failure of the caller's: the next use of the connection finds it lost.
                link.abandon(self._query_id)

    def _abandon(self) -> None:
        self._close_stream()


_IDENTIFIER: Final = str.maketrans({"\\": "\\\\", "`": "\\`"})


def _message(error: BaseException) -> str:
    return str(getattr(error, "message", None) or error)


def connect(**options: Any) -> Connection:
    """Open a connection; see :class:`Connection`."""
    return Connection(**options)
