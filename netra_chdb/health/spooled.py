"""Looking at the spool: how much waits, and for how long."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa

from netra_chdb.health.report import SpoolStatus
from netra_chdb.ingest.queued import from_ticks
from netra_chdb.ingest.spool import Spool

__all__ = ["SpoolWatch"]

_SQL: Final = (
    "SELECT (SELECT coalesce(sum(rows), 0) FROM entries) AS waiting, (SELECT min(id) FROM entries) AS oldest, "
    "(SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'entries') AS newest, "
    '(SELECT min(created_at) FROM batches WHERE "first" IS NOT NULL) AS frozen, '
    "(SELECT count(*) FROM quarantine) AS quarantined"
)
_MARKS: Final = 4096


class SpoolWatch:
    """Looks at a spool from time to time.

    Entries carry no time. What this saw at its first look after an entry came is the least that the entry has waited;
    of what an earlier process left here, a batch tells since when it is one.

    Args:
        spool: the spool.
        clock: monotonic seconds.
    """

    def __init__(self, spool: Spool, clock: Callable[[], float] = time.monotonic) -> None:
        self.spool = spool
        self._clock = clock
        #: When this looked, and the number of the newest entry then.
        self._marks: list[tuple[float, int]] = []

    def look(self) -> SpoolStatus:
        """Return what waits; never raises."""
        try:
            row, size = self.spool.file.read(_read)
        except Exception as error:  # whatever is wrong with the disk, the report says so
            return SpoolStatus(max_bytes=self.spool.max_bytes, error=type(error).__name__)
        return SpoolStatus(int(row.waiting), size, self.spool.max_bytes, self._age(row), int(row.quarantined))

    def _age(self, row: Any) -> float | None:
        now = self._clock()
        if not self._marks or self._marks[-1][1] != row.newest:
            self._marks.append((now, row.newest))
        if row.oldest is None:
            del self._marks[:-1]
            return None
        while len(self._marks) > 1 and self._marks[0][1] < row.oldest:
            del self._marks[0]
        if len(self._marks) > _MARKS:
            del self._marks[1::2]
        age = now - self._marks[0][0]
        if row.frozen is not None:
            age = max(age, (dt.datetime.now(dt.UTC) - from_ticks(row.frozen)).total_seconds())
        return age


def _read(connection: sa.Connection) -> tuple[Any, int]:
    pages, free, page = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
        for name in ("page_count", "freelist_count", "page_size")
    )
    return connection.exec_driver_sql(_SQL).one(), (pages - free) * page
