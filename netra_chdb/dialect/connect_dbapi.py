"""PEP 249 over a clickhouse-connect client: values rendered by us, rows and blocks by its codecs.

clickhouse-connect's own ``dbapi`` asks a query a second time when its result is empty, truncates bound times to
seconds, takes no settings for executemany, and lets ``TypeError`` escape; this module answers these.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Final

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

from netra_chdb.dialect.connect_cursor import Cursor
from netra_chdb.dialect.connect_cursor import render as render

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
        self.fragile = fragile
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

    def ready(self) -> Client:
        """Return the client for the next statement.

        Raises:
            Error: the connection is closed, or it carries one statement at a time and a stream is still open.
        """
        client = self.client
        if self.fragile and any(cursor.is_open for cursor in self.streams):
            raise ProgrammingError("a stream is still open on this connection: read it to its end, or close it")
        return client

    def failed(self) -> None:
        """Drop the client if a failure makes it unfit; the next statement opens another one."""
        if self.fragile and self._client is not None:
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
        self._end_streams("its connection was rolled back, or went back to its pool (a commit of a session does that)")

    def close(self) -> None:
        """Close the client; a second call does nothing."""
        self._closed = True
        self._end_streams("its connection was closed")
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _end_streams(self, why: str) -> None:
        for cursor in list(self.streams):
            cursor.give_up(why)


def connect(
    open_client: Callable[[], Client], *, fragile: bool = False, check: Callable[[], None] | None = None
) -> Connection:
    """Open a connection; see :class:`Connection`."""
    return Connection(open_client, fragile=fragile, check=check)
