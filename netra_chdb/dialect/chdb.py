"""``clickhouse+chdb``: ClickHouse's engine inside this process, through clickhouse-connect's chDB backend.

URLs: ``clickhouse+chdb:///relative/dir``, ``clickhouse+chdb:////abs/dir``, ``clickhouse+chdb://`` (memory).
Query arguments: ``database`` is the default database, every other one a ClickHouse setting.

Limits of the engine, measured with chDB 26.9: one directory a process at a time; it does not survive a fork
(a child that touches it hangs); a handle whose query failed gives the failed query's rows to the next one.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import threading
import time
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any, ClassVar, Final

from sqlalchemy import pool
from sqlalchemy.engine import URL

from netra_chdb.dialect.arrow_columns import arrow_select
from netra_chdb.dialect.base import Dialect
from netra_chdb.dialect.literals import literal, quote
from netra_chdb.errors import EngineMissing, ForkedProcess, NotReady

__all__ = ["ChdbDialect"]

MEMORY = ":memory:"
# chDB gives each query an id of its own choosing. What runs on a handle is known by this setting, which names an
# application to remote servers.
_MARK: Final = "chdb_client_name"
#: Seconds to wait at exit for queries that were told to stop.
_PATIENCE: Final = 2.0
_SIGNALS: Final = tuple(
    int(getattr(signal, f"SIG{name}"))
    for name in ("SEGV", "FPE", "ABRT", "ILL", "BUS", "TRAP", "SYS", "TSTP")
    if hasattr(signal, f"SIG{name}")
)


class _Process:
    """What this process knows about its one embedded engine."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        # Opening is work of this process: many threads at it at once only keep each other, and an event loop, waiting.
        # And a second thread would take the engine's signal handlers for the process's own.
        self.opening = threading.RLock()
        self.opened_in: int | None = None
        self.leaving = False
        # The engine in memory is gone when its last handle closes: this one stays open.
        self.keeper: Any = None
        self.clients: weakref.WeakSet[Any] = weakref.WeakSet()

    def check(self) -> None:
        """Refuse to touch an engine that a parent process opened."""
        if self.opened_in is not None and self.opened_in != os.getpid():
            raise ForkedProcess(
                f"the embedded engine was opened in process {self.opened_in}, before this process ({os.getpid()}) was "
                "forked from it, and chDB hangs when a child touches it. Start workers with the 'spawn' method, or "
                "open the engine only after the fork"
            )
        if self.leaving:
            raise NotReady("the interpreter is on its way out: the embedded engine is closed")

    def opened(self, client: Any) -> None:
        with self.lock:
            self.clients.add(client)
            if self.opened_in is None:
                self.opened_in = os.getpid()
                os.register_at_fork(after_in_child=self.abandon)
                atexit.register(self.leave)

    def abandon(self) -> None:
        """In a forked child: see to it that nothing reaches for the parent's engine, also at exit."""
        # Closing a handle of the parent's would wait as well: closed, collected or at exit, nothing is left to close.
        for client in self.clients:
            handle = client._backend._handle
            # One reference that nobody gives back: the interpreter's own end would collect a mere list.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle.conn))
            handle.conn = None
        _skip_destructors()

    def leave(self) -> None:
        """At exit: end what daemon threads still run. Under a running query the engine's destructors crash."""
        if self.opened_in != os.getpid():
            return
        self.leaving = True
        handles = [client._backend._handle for client in self.clients]
        for client in list(self.clients):
            if client._backend._handle.lock.locked():
                with suppress(Exception):
                    _kill(client)
        deadline = time.monotonic() + _PATIENCE
        for handle in handles:
            if not handle.lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                _skip_destructors()
                continue
            if handle.conn is not None:
                handle.conn.close()
                handle.conn = None  # what its thread does next finds it closed
            handle.lock.release()


def _skip_destructors() -> None:
    """Let the process end before the engine's destructors, which would wait for threads or take them their data.

    Exit handlers run last in, first out, so ``_exit(status)`` ends the process before it comes to them.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):
        libc.on_exit(libc._exit, None)


def _kill(client: Any) -> None:
    """Stop what runs on a client's handle, from another handle."""
    import chdb

    handle = chdb.connect(client._backend.connection_string)
    try:
        mark = quote(client.get_client_setting(_MARK))
        handle.query(f"KILL QUERY WHERE Settings['{_MARK}'] = {mark} ASYNC")
    finally:
        handle.close()


_process = _Process()


class ChdbDialect(Dialect):
    """The dialect over the embedded engine."""

    driver = "chdb"
    supports_statement_cache = True

    # An embedded database is as durable as its files: nobody else chose these for it.
    table_settings: ClassVar[dict[str, Any]] = {"fsync_after_insert": 1, "fsync_part_directory": 1}

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        from netra_chdb.dialect import connect_dbapi

        return connect_dbapi

    @classmethod
    def get_pool_class(cls, url: URL) -> type[pool.Pool]:
        return pool.QueuePool

    def create_connect_args(self, url: URL) -> tuple[list[Any], dict[str, Any]]:
        query = dict(url.query)
        database = query.pop("database", None)
        return [], {
            "path": os.path.realpath(url.database) if url.database else MEMORY,
            "database": database,
            "settings": query,
        }

    def connect(self, *cargs: Any, **cparams: Any) -> Any:
        _process.check()
        dbapi: Any = self.loaded_dbapi
        path, database = cparams["path"], cparams["database"]
        settings = {**cparams["settings"], _MARK: f"netra-chdb {uuid.uuid4().hex}"}

        def open_client() -> Any:
            _process.check()
            with _process.opening:
                client = _open(path, database, settings)
            _process.opened(client)
            return client

        with _process.opening:
            if path == MEMORY and _process.keeper is None:
                _process.keeper = open_client()
        return dbapi.connect(open_client, fragile=True, check=_process.check)

    def do_executemany(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        block = context.insert_block if context is not None else None
        found = arrow_select(block.columns, context.columns) if block is not None and context.columns else None
        if block is None or found is None:
            super().do_executemany(cursor, statement, parameters, context)
            return
        # The engine looks for the table by this name among the variables of who calls it.
        names, expressions, netra_chdb_columns = found
        settings = ", ".join(f"{_setting_name(name)} = {literal(value)}" for name, value in context.settings.items())
        # One thread: the rows stay in their order, and in one block.
        select = f"SETTINGS {settings}, max_threads = 1 SELECT {expressions} FROM Python(netra_chdb_columns)"  # noqa: S608
        cursor.execute(f"INSERT INTO {block.table} ({names}) {select}")
        cursor.rowcount = netra_chdb_columns.num_rows

    def do_cancel(self, dbapi_connection: Any) -> None:
        client = dbapi_connection._client
        if client is not None:
            _kill(client)

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        # There is no line that could be cut; a handle that failed replaces itself.
        return False


def _setting_name(name: str) -> str:
    if not name.isidentifier():
        raise ValueError(f"{name!r} is no name of a setting")
    return name


def _open(path: str, database: str | None, settings: dict[str, Any]) -> Any:
    with _signals_kept():
        try:
            import chdb  # noqa: F401
        except ImportError as error:
            raise EngineMissing(
                "the embedded engine is not installed: pip install 'netra-chdb[embedded]', "
                "or set CLICKHOUSE_URL or CLICKHOUSE_HOST to use a server"
            ) from error
        from clickhouse_connect.driver.exceptions import OperationalError, ProgrammingError

        from netra_chdb.dialect.chdb_client import EmbeddedClient

        if path != MEMORY:
            os.makedirs(path, mode=0o700, exist_ok=True)  # noqa: PTH103
        try:
            return EmbeddedClient(path=path, database=database, settings=settings, tz_mode="aware")
        except ProgrammingError as error:
            # The engine prints the reason to stderr and leaves it out of its error.
            if "Error initializing EmbeddedServer" not in str(error):
                raise
            raise OperationalError(
                f"the embedded engine cannot open {path!r}; is another process using it? One process at a time can "
                f"({error})"
            ) from error


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Put back the handlers of signals that the engine replaces when it is imported and when it starts.

    With its own in place, a crash anywhere in the process hangs, and faulthandler prints no stack of Python's.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "sigaction"):
        yield
        return
    # struct sigaction, opaque: it is smaller than this on every system.
    kept = {number: ctypes.create_string_buffer(512) for number in _SIGNALS}
    for number, action in kept.items():
        libc.sigaction(number, None, action)
    try:
        yield
    finally:
        for number, action in kept.items():
            libc.sigaction(number, action, None)
