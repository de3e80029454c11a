"""How much room there is in a spool's file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from netra_chdb.errors import SpoolFull

__all__ = ["Room", "used_bytes"]

#: Bytes of room with which not each write looks how much there is, but each of so many.
_AMPLE: Final = 64 * 1024**2
_LOOK_EACH: Final = 64


class Room:
    """What a spool's file may still take; asked inside its writes alone.

    Args:
        directory: where the spool is, for the error's text.
        max_bytes: how large the file may get.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._directory, self._max_bytes = directory, max_bytes
        self._writes = 0
        self._left = 0

    def is_ample(self, size: int) -> bool:
        """Whether there is room for ``size`` bytes without a look at the file."""
        return self._left - size >= _AMPLE and bool((self._writes + 1) % _LOOK_EACH)

    def taken(self, size: int) -> None:
        """Count a write that went without a look."""
        self._writes += 1
        self._left -= size

    def look(self, connection: sa.Connection) -> None:
        """Look how much room there is, before what one write takes of it."""
        # Others write here as well, and pages are more than their text: near the limit each write looks.
        self._writes += 1
        if self._left <= _AMPLE or not self._writes % _LOOK_EACH:
            self._left = self._max_bytes - used_bytes(connection.connection.cursor())

    def take(self, connection: sa.Connection, size: int) -> None:
        """Take room for ``size`` bytes.

        Raises:
            SpoolFull: there is not so much.
        """
        if size > self._left:
            raise self._full(connection, size)
        self._left -= size

    def _full(self, connection: sa.Connection, size: int) -> SpoolFull:
        # Whether, and not how much: bytes take long to count, and a full spool says this at each write.
        cursor = connection.connection.cursor()
        waiting, aside = (
            bool(cursor.execute(f"SELECT EXISTS (SELECT 1 FROM {table})").fetchone()[0])  # noqa: S608
            for table in ("entries", "quarantine")
        )
        way = "It empties when ClickHouse answers again (`netra-chdb spool status`)" if waiting or not aside else ""
        if aside:
            way += ", but for rows in quarantine: these" if waiting else "Rows in quarantine fill it: they"
            way += " stay until they are requeued or dropped (`netra-chdb spool quarantine`)"
        return SpoolFull(
            f"the spool in {str(self._directory)!r} holds {self._max_bytes - self._left} bytes of {self._max_bytes} "
            f"(spool_max_bytes), and {size} more do not fit; nothing was accepted. {way}; spool_max_bytes or another "
            "spool_dir gives it room"
        )


def used_bytes(cursor: Any) -> int:
    """Bytes in use of the file that a driver's cursor reads."""
    pages, free, size = (
        cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
