"""PEP 249 over a clickhouse-connect client: values rendered by us, rows and blocks by its codecs.

clickhouse-connect's own ``dbapi`` asks a query a second time when its result is empty, truncates bound times to
seconds, takes no settings for executemany, and lets ``TypeError`` escape; this module answers these.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import (
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
)
from clickhouse_connect.driver.exceptions import StreamFailureError as StreamFailureError

from netra_chdb.dialect.blocks import write_columns
from netra_chdb.dialect.columns import READ, check_text, exact_decimals, readable
from netra_chdb.dialect.insert_types import prepare
from netra_chdb.dialect.literals import literal
from netra_chdb.dialect.rows import Rows, collector_paused
from netra_chdb.dialect.sql_text import first_keyword, has_second_statement, returns_rows

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

apilevel: Final = "2.0"
threadsafety: Final = 1  # threads may share the module, not a connection
paramstyle: Final = "pyformat"


def render(operation: str, parameters: Mapping[str, Any] | Sequence[Any] | None) -> str:
    """Return ``operation`` with each ``%(name)s`` replaced by the literal of its value.

    With None for ``parameters`` the text stays as it is; else ``%%`` stands for one percent sign.
    """
    if parameters is None:
        return operation
    if not parameters:
        return operation.replace("%%", "%")
    try:
        if isinstance(parameters, Mapping):
            return operation % {name: literal(value) for name, value in parameters.items()}
        return operation % tuple(literal(value) for value in parameters)
    except (TypeError, ValueError, OverflowError, KeyError) as error:
        raise DataError(f"a value cannot be bound: {error}") from error


class Connection:
    """One clickhouse-connect client, replaced when a statement on it has failed.

    Args:
        open_client: opens a client; called at once, and again after a failure when ``fragile``.
        fragile: whether a client is unfit for use after any error (embedded chDB hands out the failed query's
            rows to the next one on that handle).
        check: raises when this process must not use the client.
    """

    def __init__(
        self, open_client: Callable[[], Client], *, fragile: bool = False, check: Callable[[], None] | None = None
    ) -> None:
        self._open_client = open_client
        self._check = check
        self._fragile = fragile
        self._client: Client | None = open_client()
        self._closed = False
        self.streams: weakref.WeakSet[Cursor] = weakref.WeakSet()

    @property
    def client(self) -> Client:
        """The client to use now."""
        if self._closed:
            raise InterfaceError("the connection is closed")
        if self._check is not None:
            self._check()
        if self._client is None:
            self._client = self._open_client()
        return self._client

    def failed(self) -> None:
        """Drop the client if a failure makes it unfit; the next statement opens another one."""
        if self._fragile and self._client is not None:
            client, self._client = self._client, None
            client.close()

    def cursor(self, *, streaming: bool = False) -> Cursor:
        """Return a cursor; a streaming one holds no more than a block of rows."""
        if self._closed:
            raise InterfaceError("the connection is closed")
        return Cursor(self, streaming=streaming)

    def ping(self) -> None:
        """Ask the server for one row.

        Raises:
            Error: it did not answer.
        """
        cursor = self.cursor()
        cursor.execute("SELECT 1")
        cursor.close()

    def commit(self) -> None:
        """Nothing is pending: each statement stands when it is done."""

    def rollback(self) -> None:
        """Give up streams that are still open; what statements did stands when they are done."""
        for cursor in list(self.streams):
            cursor.close()

    def close(self) -> None:
        """Close the client; a second call does nothing."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            client.close()


class Cursor:
    """PEP 249's cursor, with SETTINGS and a block insert."""

    arraysize = 1
    #: How clickhouse-connect is asked for single columns of the next result.
    read_options: Mapping[str, Any] = {}

    def __init__(self, connection: Connection, *, streaming: bool = False) -> None:
        self.connection = connection
        self.description: list[tuple[Any, ...]] | None = None
        self.rowcount = -1
        self.summary: Mapping[str, Any] = {}
        self.server_side = streaming
        self._stream: Any = None
        self._blocks: Iterator[list[Any]] = iter(())
        self._rows: list[Any] = []
        self._position = 0

    # -- statements ----------------------------------------------------------

    def execute(
        self,
        operation: str,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Run one statement.

        Args:
            operation: SQL with ``%(name)s`` placeholders.
            parameters: the values; None leaves ``operation`` untouched, percent signs included.
            settings: ClickHouse SETTINGS for this statement.
        """
        self._reset()
        sql = render(operation, parameters)
        if has_second_statement(sql):
            raise ProgrammingError("one statement at a time: something follows a ';'")
        try:
            if not returns_rows(sql):
                self._command(sql, dict(settings or {}))
            elif self.server_side:
                self._open_stream(sql, dict(settings or {}))
            else:
                self._query(sql, dict(settings or {}))
        except BaseException:
            self._abandon()
            raise

    def executemany(
        self, operation: str, parameters: Sequence[Any], *, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Run ``operation`` once for each set of values."""
        for values in parameters:
            self.execute(operation, values, settings=settings)

    def insert(
        self, table: str, columns: Sequence[str], data: Sequence[Any], *, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Insert columns of values as one Native block.

        Args:
            table: the table as SQL text.
            columns: column names.
            data: for each column, its values.
            settings: ClickHouse SETTINGS, the deduplication token among them.

        Raises:
            DataError: a value does not fit its column; nothing was sent.
        """
        self._reset()
        try:
            context = self.connection.client.create_insert_context(
                table, list(columns), column_oriented=True, settings=dict(settings or {})
            )
        except BaseException:
            self._abandon()
            raise
        try:
            block = write_columns(columns, [type_.name for type_ in context.column_types], data)
        except ValueError as error:
            raise DataError(f"a value does not fit its column in {table}: {error}") from error
        prepare(context, block)
        # One wire block: a deduplication token is tied to how an insert is cut, and upstream cuts at 2 MiB.
        context.req_block_size = max(1, len(block[0]) if block else 1)
        try:
            summary = self.connection.client.insert(context=context, data=block)
        except Error:
            self._abandon()
            raise
        except (TypeError, ValueError, OverflowError, AttributeError, KeyError, LookupError) as error:
            # The codec met a value it cannot write; upstream lets the bare error escape.
            self._abandon()
            raise DataError(f"a value does not fit its column in {table}: {error}") from error
        except BaseException:
            self._abandon()
            raise
        self.summary = summary.summary
        self.rowcount = len(data[0]) if data else 0

    def _command(self, sql: str, settings: dict[str, Any]) -> None:
        result = self.connection.client.command(sql, settings=settings)
        self.summary = getattr(result, "summary", {})
        written = self.summary.get("written_rows")
        if first_keyword(sql) == "INSERT" and written is not None:
            self.rowcount = int(written)

    def _query(self, sql: str, settings: dict[str, Any]) -> None:
        with exact_decimals():
            result = self.connection.client.query(sql, settings=settings, **READ, **self.read_options)
        self.summary = result.summary
        if not result.column_names:
            self._describe_empty(sql, settings)
            return
        self._describe(result.column_names, result.column_types)
        rows: list[Any] = []
        names = [type_.name for type_ in result.column_types]
        with exact_decimals(), result.column_block_stream as blocks:
            for block in blocks:
                rows.extend(zip(*readable(block, names), strict=True))
                break
            with collector_paused() as look_at_new:
                for block in blocks:
                    rows.extend(zip(*readable(block, names), strict=True))
                    look_at_new()
        self._rows = rows
        self.rowcount = len(self._rows)

    def _open_stream(self, sql: str, settings: dict[str, Any]) -> None:
        with exact_decimals():
            ask: Any = self.connection.client.query_column_block_stream
            context: Any = ask(sql, settings=settings, **READ, **self.read_options)
        self._stream = context
        self.connection.streams.add(self)
        blocks = context.__enter__()
        source = context.source
        with exact_decimals():
            first = next(iter(blocks), None)
        if first is None or not source.column_names:
            self._close_stream()
            self._describe_empty(sql, settings)
            return
        types = source.column_types
        names = [type_.name for type_ in types]
        self._describe(source.column_names, types)

        def rows() -> Iterator[list[Any]]:
            for block in blocks:
                yield list(zip(*readable(block, names), strict=True))

        self._rows = list(zip(*readable(first, names), strict=True))
        self._blocks = rows()

    def _describe(self, names: Sequence[str], types: Sequence[Any]) -> None:
        type_names = [type_.name for type_ in types]
        check_text(names, type_names, self.read_options)
        self.description = [(name, type_, *[None] * 5) for name, type_ in zip(names, type_names, strict=True)]

    def _describe_empty(self, sql: str, settings: dict[str, Any]) -> None:
        # Embedded, a result without rows has no header either (chDB emits no bytes at all). DESCRIBE tells the
        # columns without running the query again; SHOW and its kin are cheap to ask twice.
        if first_keyword(sql) in ("SELECT", "WITH"):
            described = self.connection.client.query(f"DESCRIBE TABLE ({sql.strip().rstrip(';')})", settings=settings)
            pairs = [(row[0], row[1]) for row in described.result_rows]
        else:
            raw = self.connection.client.raw_query(sql.strip().rstrip(";"), fmt="TabSeparatedWithNamesAndTypes")
            lines = raw.decode().split("\n")
            pairs = list(zip(lines[0].split("\t"), lines[1].split("\t"), strict=True)) if raw else []
        self.description = [(name, type_, None, None, None, None, None) for name, type_ in pairs]
        self.rowcount = 0

    # -- rows ----------------------------------------------------------------

    def _more(self) -> bool:
        try:
            with exact_decimals():
                block = next(self._blocks, None)
        except BaseException:
            self._abandon()
            raise
        if block is None:
            self._close_stream()
            return False
        self._rows, self._position = block, 0
        return True

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        while self._position >= len(self._rows):
            if not self._more():
                return None
        row = self._rows[self._position]
        self._position += 1
        return row

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """Return up to ``size`` rows."""
        wanted = self.arraysize if size is None else size
        found: list[Any] = []
        while len(found) < wanted:
            if self._position >= len(self._rows) and not self._more():
                break
            part = self._rows[self._position : self._position + wanted - len(found)]
            self._position += len(part)
            found += part
        return found

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        found = self._rows[self._position :] if self._position else self._rows  # ours alone from here on
        self._rows, self._position = [], 0
        while self._more():
            found += self._rows
            self._rows, self._position = [], 0
        return Rows(found)

    def close(self) -> None:
        """Give up what was not fetched."""
        self._close_stream()
        self._rows, self._position = [], 0

    def setinputsizes(self, sizes: Any) -> None:
        """Nothing to prepare."""

    def setoutputsize(self, size: Any, column: Any = None) -> None:
        """Nothing to prepare."""

    # -- state ---------------------------------------------------------------

    def _reset(self) -> None:
        self._close_stream()
        self.description = None
        self.rowcount = -1
        self.summary = {}
        self._rows, self._position = [], 0

    def _close_stream(self) -> None:
        self._blocks = iter(())
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.__exit__(None, None, None)

    def _abandon(self) -> None:
        try:
            self._close_stream()
        finally:
            self.connection.failed()


def connect(
    open_client: Callable[[], Client], *, fragile: bool = False, check: Callable[[], None] | None = None
) -> Connection:
    """Open a connection; see :class:`Connection`."""
    return Connection(open_client, fragile=fragile, check=check)
