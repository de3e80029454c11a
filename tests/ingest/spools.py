"""Rows of one column into a spool, and out of it again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from netra_chdb.ingest.backlog import Backlog
from netra_chdb.ingest.spool import Spool

__all__ = ["OTHER", "TABLE", "drained", "put", "writer"]

TABLE = sa.table("t", sa.column("n"), schema="d")
OTHER = sa.table("other", sa.column("n"), schema="d")


def drained(spool: Spool, table: sa.TableClause = TABLE, limit: int = 7) -> list[Any]:
    """Take everything of a table out, batch by batch."""
    backlog, found = Backlog(spool), list[Any]()
    while True:
        queued = backlog.next_batch("d", table.name)
        if queued is None:
            frozen = backlog.freeze("d", table.name, limit)
            if frozen is None:
                return found
            queued, batch = frozen
            assert batch.own_rows() == backlog.load(queued).own_rows()
        found += [row[0] for row in backlog.load(queued).own_rows()]
        backlog.done(queued)


def put(spool: Spool, *numbers: Any, table: sa.TableClause = TABLE) -> None:
    spool.append(table, ["n"], [[number] for number in numbers])


_WRITER = """
import sys
from pathlib import Path
import sqlalchemy as sa
from netra_chdb.ingest.spool import Spool
spool = Spool(Path(sys.argv[1]))
table = sa.table("t", schema="d")
for n in range(int(sys.argv[2]), int(sys.argv[2]) + int(sys.argv[3])):
    spool.append(table, ["n"], [[n]])
    print(n, flush=True)
"""


def writer(directory: Path, start: int, count: int) -> subprocess.Popen[str]:
    """Start a process that puts numbers into a spool, and prints each when it is safe."""
    return subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(directory), str(start), str(count)], stdout=subprocess.PIPE, text=True
    )
