"""PEP 249's cursor over a clickhouse-connect client: values rendered by us, rows and blocks by its codecs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clickhouse_connect.driver.exceptions import (
    DataError,
    Error,
    InterfaceError,
    NotSupportedError,
    ProgrammingError,
)

from netra_chdb.dialect.blocks import write_columns
from netra_chdb.dialect.columns import READ, check_text, exact_decimals, readable
from netra_chdb.dialect.insert_types import prepare
from netra_chdb.dialect.literals import literal
from netra_chdb.dialect.rows import Rows
from netra_chdb.dialect.sql_text import (
    first_keyword,
    has_inline_data,
    has_second_statement,
    returns_rows,
    without_end,
)

if TYPE_CHECKING:
    from netra_chdb.dialect.connect_dbapi import Connection

__all__ = ["Cursor", "render"]


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
        self._blocks: Iterator[Rows] = iter(())
        self._rows = Rows()
        self._position = 0
        self._given_up: str | None = None

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

        Raises:
            Error: it failed, or a stream stands in its way; the stream then goes on.
        """
        self._reset()
        sql = render(operation, parameters)
        if has_second_statement(sql):
            raise ProgrammingError("one statement at a time: something follows a ';'")
        if self.connection.fragile and has_inline_data(sql):
            # It would run what follows an empty line as a second statement.
            raise NotSupportedError(
                "the embedded engine takes no rows behind a FORMAT: INSERT INTO t SELECT * FROM format(CSV, '...')"
            )
        self.connection.ready()
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
        client = self.connection.ready()
        try:
            context = client.create_insert_context(
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
            summary = client.insert(context=context, data=block)
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
        finally:
            # The context refers to a method of its own and keeps its columns: a whole batch until a collection.
            block.clear()
        self.summary = summary.summary
        self.rowcount = len(data[0]) if data else 0

    def _command(self, sql: str, settings: dict[str, Any]) -> None:
        result = self.connection.client.command(sql, settings=settings)
        self.summary = getattr(result, "summary", {})
        written = self.summary.get("written_rows")
        if first_keyword(sql) == "INSERT" and written is not None:
            self.rowcount = int(written)

    def _query(self, sql: str, settings: dict[str, Any]) -> None:
        rows = Rows()
        with exact_decimals():
            result = self.connection.client.query(sql, settings=settings, **READ, **self.read_options)
            if result.column_names:
                names = [type_.name for type_ in result.column_types]
                self._describe(result.column_names, names)
                with result.column_block_stream as blocks:
                    rows.take(zip(*readable(block, names), strict=True) for block in blocks)
        self.summary = result.summary
        if not result.column_names:
            self._describe_empty(sql, settings)
            return
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
        names = [type_.name for type_ in source.column_types]
        self._describe(source.column_names, names)

        def rows() -> Iterator[Rows]:
            for block in blocks:
                yield Rows(zip(*readable(block, names), strict=True))

        self._rows = Rows(zip(*readable(first, names), strict=True))
        self._blocks = rows()

    def _describe(self, names: Sequence[str], type_names: Sequence[str]) -> None:
        check_text(names, type_names, self.read_options)
        self.description = [(name, type_, *[None] * 5) for name, type_ in zip(names, type_names, strict=True)]

    def _describe_empty(self, sql: str, settings: dict[str, Any]) -> None:
        # Embedded, a result without rows has no header either (chDB emits no bytes at all). DESCRIBE tells the
        # columns without running the query again; SHOW and its kin are cheap to ask twice.
        sql = without_end(sql)
        if first_keyword(sql) in ("SELECT", "WITH", "FROM"):
            # The line break ends a comment.
            described = self.connection.client.query(f"DESCRIBE TABLE ({sql}\n)", settings=settings)
            pairs = [(row[0], row[1]) for row in described.result_rows]
        else:
            ask = self.connection.client.raw_query
            raw = ask(f"{sql}\n", settings=settings, fmt="TabSeparatedWithNamesAndTypes")
            lines = raw.decode().split("\n")
            pairs = list(zip(lines[0].split("\t"), lines[1].split("\t"), strict=True)) if raw else []
        self.description = [(name, type_, None, None, None, None, None) for name, type_ in pairs]
        self.rowcount = 0

    # -- rows ----------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether a stream is open."""
        return self._stream is not None

    def _more(self) -> bool:
        if self._given_up is not None:
            raise InterfaceError(f"the rows that are left cannot be read: {self._given_up}")
        try:
            with exact_decimals():
                block = next(self._blocks, None)
        except BaseException as error:
            self._given_up = f"reading failed before ({type(error).__name__})"
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
        found, self._rows = self._rows, Rows()  # ours alone from here on
        del found[: self._position]
        self._position = 0
        while self._more():
            found += self._rows
            self._rows = Rows()
        return found

    def close(self) -> None:
        """Give up what was not fetched."""
        self.give_up("the cursor was closed")

    def give_up(self, why: str) -> None:
        """Close; who still wants rows that were not fetched is told ``why`` there are none."""
        # Without this, who reads on would take the rows so far for all of them.
        if self._given_up is None and (self._stream is not None or self._position < len(self._rows)):
            self._given_up = why
        self._rows, self._position = Rows(), 0
        self._close_stream()

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
        self._rows, self._position = Rows(), 0
        self._given_up = None

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
