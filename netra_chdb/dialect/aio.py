"""The dialects for asyncio: each driver's own, with its calls made off the event loop.

There is no second set of drivers. A DBAPI connection lives on a thread of its own (:mod:`~netra_chdb.dialect.lane`),
which also turns the answer into rows; the loop gets them ready. A task that is cancelled while it waits has its query
killed on the server, over another connection, and its own connection is closed: none that an answer may still come
on is handed out again.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import exc as sa_exc
from sqlalchemy import pool
from sqlalchemy.engine import URL, AdaptedConnection
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from netra_chdb.dialect.connect_dbapi import InterfaceError
from netra_chdb.dialect.lane import Lane

__all__ = ["LoopConnection", "LoopCursor", "async_dialect"]

_WAIT_FOR_KILL: Final = 0.5


class LoopConnection(AdaptedConnection):
    """A DBAPI connection for SQLAlchemy's greenlets: its calls suspend the task until the thread has made them.

    Args:
        lane: the connection's thread; this waits until the connection is open.
    """

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._streams: set[LoopCursor] = set()
        # A connection that is lost instead of closed takes its thread with it; the exit handler sees to its own.
        weakref.finalize(self, lane.end).atexit = False
        try:
            self._connection = self._wait(lane.opened)
        except BaseException:
            lane.end()
            raise

    @property
    def lost(self) -> bool:
        """Whether the line to the server is known to be gone."""
        return bool(getattr(self._connection, "lost", False))

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return what ``function`` returns on the connection's thread.

        Raises:
            InterfaceError: the connection is closed.
            sqlalchemy.exc.MissingGreenlet: called outside of what SQLAlchemy's async classes run.
        """
        if not in_greenlet():
            raise sa_exc.MissingGreenlet("this connection is of an async engine: use it through AsyncConnection")
        if self._lane.ended:
            raise InterfaceError("the connection is closed")
        return self._wait(self._lane.call(function, *arguments))

    def _wait(self, call: Any) -> Any:
        try:
            return await_only(asyncio.wrap_future(call))
        except asyncio.CancelledError:
            # The answer may still be on its way, so this connection is of no more use. The query is gone from the
            # server when the task goes on, unless the server does not answer; then it is killed behind its back.
            self._end(_WAIT_FOR_KILL)
            raise
        except BaseException:
            if not call.done():
                self._lane.end()  # the task is thrown away, and cannot wait any more
            raise

    def _end(self, within: float | None = None) -> None:
        await_only(asyncio.wait([asyncio.wrap_future(self._lane.end())], timeout=within))
        self._lane.join()

    # -- PEP 249 ---------------------------------------------------------------

    def cursor(self, *, streaming: bool = False) -> LoopCursor:
        """Return a cursor; a streaming one holds no more than a block of rows."""
        return LoopCursor(self, streaming=streaming)

    def ping(self) -> None:
        """Exchange a sign of life with the server."""
        self.run(self._connection.ping)

    def commit(self) -> None:
        """Nothing is pending: each statement stands when it is done."""

    def rollback(self) -> None:
        """Give up streams that are still open; what statements did stands when they are done."""
        if self._streams:
            self._streams.clear()
            self.run(self._connection.rollback)

    def close(self) -> None:
        """Close the connection and wait until its thread has ended; a second call does nothing."""
        self._end()

    def terminate(self) -> None:
        """Close without a word: also from the garbage collector, where nothing can wait."""
        if in_greenlet():
            self._end(_WAIT_FOR_KILL)
        else:
            self._lane.end()


class LoopCursor:
    """A cursor of a :class:`LoopConnection`.

    Rows of a plain one are all there when its statement is done; a streaming one goes to the thread for each block.
    """

    def __init__(self, connection: LoopConnection, *, streaming: bool) -> None:
        self.connection = connection
        self.server_side = streaming
        self._cursor = connection.driver_connection.cursor(streaming=streaming)

    @property
    def description(self) -> Any:
        """The columns of the result; None for a statement without one."""
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        """The rows of the answer, or those inserted; -1 when unknown."""
        return int(self._cursor.rowcount)

    @property
    def summary(self) -> Mapping[str, Any]:
        """What the server said about the statement."""
        found: Mapping[str, Any] = self._cursor.summary
        return found

    @property
    def arraysize(self) -> int:
        """How many rows ``fetchmany`` returns by default."""
        return int(self._cursor.arraysize)

    @arraysize.setter
    def arraysize(self, size: int) -> None:
        self._cursor.arraysize = size

    @property
    def read_options(self) -> Mapping[str, Any]:
        """How columns of the result are to be read; see :mod:`netra_chdb.dialect.columns`."""
        found: Mapping[str, Any] = self._cursor.read_options
        return found

    @read_options.setter
    def read_options(self, options: Mapping[str, Any]) -> None:
        self._cursor.read_options = options

    # -- statements ------------------------------------------------------------

    def execute(self, operation: str, parameters: Any = None, *, settings: Mapping[str, Any] | None = None) -> None:
        """Run one statement; see :meth:`netra_chdb.dialect.connect_dbapi.Cursor.execute`."""
        if self.server_side:
            self.connection._streams.add(self)
        self.connection.run(functools.partial(self._cursor.execute, operation, parameters, settings=settings))

    def executemany(
        self, operation: str, parameters: Sequence[Any], *, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Run ``operation`` once for each set of values."""
        self.connection.run(functools.partial(self._cursor.executemany, operation, parameters, settings=settings))

    def insert(
        self, table: str, columns: Sequence[str], data: Sequence[Any], *, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Insert columns of values; see :meth:`netra_chdb.dialect.connect_dbapi.Cursor.insert`."""
        self.connection.run(functools.partial(self._cursor.insert, table, columns, data, settings=settings))

    # -- rows ------------------------------------------------------------------

    def _fetch(self, fetch: Callable[..., Any], wanted: int | None, *arguments: Any) -> Any:
        cursor = self._cursor
        if self.server_side and (wanted is None or len(cursor._rows) - cursor._position < wanted):
            return self.connection.run(fetch, *arguments)
        if self.server_side:
            await_only(asyncio.sleep(0))  # else the loop stood still for all the rows of a block
        return fetch(*arguments)

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return self._fetch(self._cursor.fetchone, 1)

    def fetchmany(self, size: int | None = None) -> Any:
        """Return up to ``size`` rows."""
        wanted = self.arraysize if size is None else size
        return self._fetch(self._cursor.fetchmany, wanted, wanted)

    def fetchall(self) -> Any:
        """Return the rows that are left."""
        return self._fetch(self._cursor.fetchall, None)

    def close(self) -> None:
        """Give up what was not fetched."""
        if self not in self.connection._streams:
            self._cursor.close()
        elif in_greenlet():
            self.connection._streams.discard(self)
            if not self.connection._lane.ended:
                self.connection.run(self._cursor.close)
        # Else the connection ends the stream when it goes back to its pool.

    async def _async_soft_close(self) -> None:
        """SQLAlchemy calls this before it hands out a result; there is nothing to wait for."""

    def setinputsizes(self, sizes: Any) -> None:
        """Nothing to prepare."""

    def setoutputsize(self, size: Any, column: Any = None) -> None:
        """Nothing to prepare."""


class _Async:
    """What differs from a driver's own dialect."""

    is_async = True
    has_terminate = True

    @classmethod
    def get_pool_class(cls, url: URL) -> type[pool.Pool]:
        return pool.AsyncAdaptedQueuePool

    def connect(self, *cargs: Any, **cparams: Any) -> LoopConnection:
        dialect: Any = self
        opening: Any = super()
        return LoopConnection(Lane(functools.partial(opening.connect, *cargs, **cparams), dialect.do_cancel))

    def do_terminate(self, dbapi_connection: Any) -> None:
        dbapi_connection.terminate()

    def get_driver_connection(self, connection: Any) -> Any:
        return connection.driver_connection


_made: Final[dict[type[Any], type[Any]]] = {}


def async_dialect(dialect: type[Any]) -> type[Any]:
    """Return the dialect of an async engine for a driver's ``dialect``."""
    if dialect not in _made:
        own = {"supports_statement_cache": True, "__doc__": f"{dialect.__doc__} Its calls are made off the event loop."}
        _made[dialect] = type(f"Async{dialect.__name__}", (_Async, dialect), own)
    return _made[dialect]
