"""Migrations of one process take turns: Alembic's context is the module's own."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Final

from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from netra_chdb.errors import MigrationLocked

__all__ = ["Turns"]

#: Seconds after which a task asks again whether it is its turn.
_PAUSE: Final = 0.02


class Turns:
    """A lock for threads and for SQLAlchemy's greenlets, which share a thread: none of these holds up its loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder: int | None = None

    def __enter__(self) -> None:
        if in_greenlet():
            while not self._lock.acquire(blocking=False):
                await_only(asyncio.sleep(_PAUSE))
        elif not self._lock.acquire(blocking=False):
            # Only this thread could let go, and it would wait here.
            if self._holder == threading.get_ident():
                raise MigrationLocked("a migration runs in this thread already: await it, or let it end first")
            self._lock.acquire()
        self._holder = threading.get_ident()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._holder = None
        self._lock.release()
