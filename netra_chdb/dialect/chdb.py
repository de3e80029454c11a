"""``clickhouse+chdb``: ClickHouse's engine inside this process, through clickhouse-connect's chDB backend.

URLs: ``clickhouse+chdb:///relative/dir``, ``clickhouse+chdb:////abs/dir``, ``clickhouse+chdb://`` (memory).
Query arguments: ``database`` is the default database, every other one a ClickHouse setting.

Limits of the engine, measured with chDB 26.9: one directory a process at a time; it does not survive a fork
(a child that touches it hangs); a handle whose query failed gives the failed query's rows to the next one.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar

from sqlalchemy import pool
from sqlalchemy.engine import URL

from netra_chdb.dialect.base import Dialect
from netra_chdb.errors import EngineMissing, ForkedProcess

__all__ = ["ChdbDialect"]

MEMORY = ":memory:"
_FATAL = (signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGILL)


class _Process:
    """What this process knows about its one embedded engine."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.opened_in: int | None = None
        # The engine in memory is gone when its last handle closes: this one stays open.
        self.keeper: Any = None
        self.clients: weakref.WeakSet[Any] = weakref.WeakSet()
        # Handles that a forked child must not even let go of.
        self.untouchable: list[Any] = []

    def check(self) -> None:
        """Refuse to touch an engine that a parent process opened."""
        if self.opened_in is not None and self.opened_in != os.getpid():
            raise ForkedProcess(
                f"the embedded engine was opened in process {self.opened_in}, before this process ({os.getpid()}) was "
                "forked from it, and chDB hangs when a child touches it. Start workers with the 'spawn' method, or "
                "open the engine only after the fork"
            )

    def opened(self, client: Any) -> None:
        with self.lock:
            self.clients.add(client)
            if self.opened_in is None:
                self.opened_in = os.getpid()
                os.register_at_fork(after_in_child=self.abandon)

    def abandon(self) -> None:
        """In a forked child: see to it that nothing reaches for the parent's engine, also at exit."""
        # Closing a handle of the parent's would wait as well: closed, collected or at exit, nothing is left to close.
        for client in self.clients:
            handle = client._backend._handle
            self.untouchable.append(handle.conn)
            handle.conn = None
        # At exit the engine's destructors would wait for threads that the fork did not copy. Exit handlers run
        # last in, first out, so _exit(status) ends the process before it comes to them.
        libc = ctypes.CDLL(None)
        if hasattr(libc, "on_exit"):
            libc.on_exit(libc._exit, None)


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
        path, database, settings = cparams["path"], cparams["database"], cparams["settings"]

        def open_client() -> Any:
            _process.check()
            client = _open(path, database, settings)
            _process.opened(client)
            return client

        if path == MEMORY and _process.keeper is None:
            _process.keeper = open_client()
        return dbapi.connect(open_client, fragile=True, check=_process.check)

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        # There is no line that could be cut; a handle that failed replaces itself.
        return False


def _open(path: str, database: str | None, settings: dict[str, Any]) -> Any:
    try:
        import chdb  # noqa: F401
    except ImportError as error:
        raise EngineMissing(
            "the embedded engine is not installed: pip install 'netra-chdb[embedded]', "
            "or set CLICKHOUSE_URL or CLICKHOUSE_HOST to use a server"
        ) from error
    import clickhouse_connect

    if path != MEMORY:
        os.makedirs(path, mode=0o700, exist_ok=True)  # noqa: PTH103
    with _faulthandler_kept():
        return clickhouse_connect.get_client(
            interface="chdb", path=path, database=database, settings=settings or None, tz_mode="aware"
        )


@contextmanager
def _faulthandler_kept() -> Iterator[None]:
    """Put back the handlers of fatal signals that the engine replaces when it starts.

    With its own in place, a crash anywhere in the process hangs instead of printing Python's stack.
    """
    libc = ctypes.CDLL(None)
    if not faulthandler.is_enabled() or not hasattr(libc, "sigaction"):
        yield
        return
    # struct sigaction, opaque: it is smaller than this on every system.
    kept = {number: ctypes.create_string_buffer(512) for number in _FATAL}
    for number, action in kept.items():
        libc.sigaction(int(number), None, action)
    try:
        yield
    finally:
        for number, action in kept.items():
            libc.sigaction(int(number), action, None)
