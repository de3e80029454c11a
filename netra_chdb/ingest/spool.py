"""The spool: a durable queue of rows on this machine's disk, on their way to ClickHouse.

What is in it: **entries**, rows of one table in the order in which they came; **batches**, frozen out of a range of
entries (or, for an insert on its way, without any), with what was sent of them, under which token and when;
**quarantine**, rows that ClickHouse will never accept. It is safe for several threads and processes; one of them at
a time may drain it. Nothing in here connects to ClickHouse.
"""

from __future__ import annotations

import functools
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb.errors import NetraError, SpoolFull
from netra_chdb.ingest.batch import BATCH_ROWS, Batch
from netra_chdb.ingest.encoding import encode
from netra_chdb.ingest.group_commit import GroupCommit
from netra_chdb.ingest.locks import FileLock, renew_in_child
from netra_chdb.ingest.packed_rows import MANY, checksum, pack
from netra_chdb.ingest.queued import Attempt, State, to_ticks
from netra_chdb.ingest.room import Room, used_bytes
from netra_chdb.ingest.spool_file import SpoolFile
from netra_chdb.ingest.target import claim

__all__ = ["Spool"]


#: Entries that go into one statement.
_AT_ONCE: Final = 32


@functools.cache
def _insert_of(entries: int) -> str:
    rows = ", ".join(["(?, ?, ?, ?)"] * entries)
    claimed = "? IS NULL OR EXISTS (SELECT 1 FROM meta WHERE name = 'target' AND value = ?)"
    return f"INSERT INTO entries (shape, rows, checksum, payload) SELECT * FROM (VALUES {rows}) WHERE {claimed}"  # noqa: S608


class _Ticket:
    """One caller's entry, while it waits for the commit that several share."""

    __slots__ = ("entry", "error", "shape", "size")

    def __init__(self, shape: tuple[str, str, tuple[str, ...]], rows: int, payload: str | bytes) -> None:
        self.shape = shape
        content = payload if isinstance(payload, bytes) else payload.encode()
        self.size = len(content)
        self.entry = (rows, checksum(content), payload)
        self.error: SpoolFull | None = None


class Spool:
    """The spool of one directory.

    Args:
        directory: where it is; made when it is missing.
        max_bytes: how large it may get on disk; the log that SQLite keeps beside (some megabytes) comes on top.
        target: which ClickHouse its rows are for (see :func:`~netra_chdb.ingest.target.target_of`); without it nobody
            looks after that.

    Raises:
        ConfigError: nothing can be kept in the directory.
        NetraError: its format is newer than this version of netra_chdb.
    """

    def __init__(self, directory: Path, *, max_bytes: int = 10 * 1024**3, target: str | None = None) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self.target = target
        self.file = SpoolFile(directory)
        self.drainer = FileLock(self.file.directory / "drain.lock")
        self._owner: tuple[int, str, FileLock] | None = None
        self.room = Room(directory, max_bytes)
        self._shapes: dict[tuple[str, str, tuple[str, ...]], int] = {}
        self._shapes_of = 0
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Begin with locks that nobody holds."""
        self._owner_lock = threading.Lock()
        self._group = GroupCommit[_Ticket](self._write_group, (NetraError, sa_exc.SQLAlchemyError, OSError))

    # -- rows come in --------------------------------------------------------

    def append(self, table: sa.TableClause, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Keep rows; they are on disk when this returns. Callers in several threads share one write to the disk.

        Args:
            table: their table.
            columns: the columns of ``rows``.
            rows: values that the table accepts, up to ``BATCH_ROWS``.

        Raises:
            SpoolFull: there is no room; nothing was kept.
            ConfigError: what is in here is for another ClickHouse; nothing was kept.
            sqlalchemy.exc.DBAPIError: the disk failed; nothing was kept.
            RuntimeError: a signal's handler got in between; see :meth:`GroupCommit.submit`.
        """
        if not 0 < len(rows) <= BATCH_ROWS:
            raise ValueError(f"an entry has 1 to {BATCH_ROWS} rows, not {len(rows)}")
        payload = encode(rows) if len(rows) < MANY else pack(list(zip(*rows, strict=True)))
        ticket = _Ticket((str(table.schema or ""), table.name, tuple(columns)), len(rows), payload)
        self._group.submit(ticket)
        if ticket.error is not None:
            raise ticket.error

    def write(self, run: Callable[[sa.Connection], Any]) -> None:
        """Write what means the same on an empty file, for this target; see :meth:`SpoolFile.write`."""

        def claimed(connection: sa.Connection) -> None:
            self.claim(connection)
            run(connection)

        try:
            self.file.write(claimed, again=True)
        except BaseException:
            self._shapes.clear()  # what the failed transaction had made is not there
            raise

    def _write_group(self, group: list[_Ticket]) -> None:
        def run(connection: sa.Connection) -> bool:
            return self._insert_at_once(connection, group)

        if not self.file.write(run, again=True, begin=False):
            self.write(lambda connection: self._insert(connection, group))

    def _insert_at_once(self, connection: sa.Connection, group: list[_Ticket]) -> bool:
        """Insert in a single statement, where there is nothing to find out before; says whether it did.

        Each call of SQLite lets go of the interpreter, and a dozen threads wait for that: one call takes their
        rows to the disk in half the time of BEGIN, a look at the target, an INSERT for each and COMMIT.
        """
        known = self._shapes if self._shapes_of == self.file.generation else {}
        values: list[Any] = []
        for ticket in group:
            if (shape := known.get(ticket.shape)) is None:
                return False
            values += (shape, *ticket.entry)
        size = sum(ticket.size for ticket in group)
        if len(group) > _AT_ONCE or not self.room.is_ample(size):
            return False
        cursor = connection.connection.cursor().execute(_insert_of(len(group)), (*values, self.target, self.target))
        if cursor.rowcount != len(group):
            return False  # claimed for another ClickHouse since, or not yet for this one
        self.room.taken(size)
        return True

    def _insert(self, connection: sa.Connection, group: list[_Ticket]) -> None:
        self.room.look(connection)
        fitting = []
        for ticket in group:
            ticket.error = None
            try:
                self.room.take(connection, ticket.size)
            except SpoolFull as error:
                ticket.error = error
                continue
            fitting.append((self.shape(connection, *ticket.shape), *ticket.entry))
        if fitting:
            # The driver's own cursor: SQLAlchemy's costs as much as the write to the disk.
            connection.connection.cursor().executemany(
                "INSERT INTO entries (shape, rows, checksum, payload) VALUES (?, ?, ?, ?)", fitting
            )

    def used_bytes(self) -> int:
        """Bytes that are in use, as ``max_bytes`` counts them."""
        return self.file.read(lambda connection: used_bytes(connection.connection.cursor()))

    def counts(self) -> tuple[int, int]:
        """How many rows wait, and how many batches are unfinished."""

        def run(connection: sa.Connection) -> tuple[int, int]:
            row = connection.exec_driver_sql(
                "SELECT (SELECT coalesce(sum(rows), 0) FROM entries), (SELECT count(*) FROM batches)"
            ).one()
            return int(row[0]), int(row[1])

        return self.file.read(run)

    def shape(self, connection: sa.Connection, schema: str, name: str, columns: tuple[str, ...]) -> int:
        """Return the number of a table's name and columns, inside a :meth:`write`."""
        if self._shapes_of != self.file.generation:
            self._shapes, self._shapes_of = {}, self.file.generation
        key = (schema, name, columns)
        if (known := self._shapes.get(key)) is not None:
            return known
        values = (schema, name, json.dumps(columns))
        found = connection.exec_driver_sql(
            'SELECT id FROM shapes WHERE "schema" = ? AND name = ? AND columns = ?', values
        ).scalar()
        if found is not None:
            self._shapes[key] = int(found)
            return int(found)
        made = connection.exec_driver_sql('INSERT INTO shapes ("schema", name, columns) VALUES (?, ?, ?)', values)
        return int(made.lastrowid)

    def keep(self, batch: Batch, state: State, attempt: Attempt, *, reason: str) -> None:
        """Keep a batch that is frozen already, rows and all; its intent goes.

        Raises:
            SpoolFull: there is no room; nothing was kept.
        """
        payload = encode(batch.own_rows()) if batch.rows < MANY else pack(batch.own_block)
        shape = (str(batch.table.schema or ""), batch.table.name, batch.own_columns)
        ticket = _Ticket(shape, batch.rows, payload)

        def run(connection: sa.Connection) -> None:
            self._insert(connection, [ticket])
            if ticket.error is not None:
                raise ticket.error
            entry = connection.exec_driver_sql("SELECT max(id) FROM entries").scalar_one()
            connection.exec_driver_sql("DELETE FROM batches WHERE batch_id = ?", (str(batch.batch_id),))
            number = self.shape(connection, *shape)
            place, suspect = (entry, entry, 0), state == "sent"
            self.insert_batch(connection, batch, number, place, state, attempt, suspect=suspect, reason=reason)

        self.write(run)

    @staticmethod
    def insert_batch(
        connection: sa.Connection,
        batch: Batch,
        shape: int,
        place: tuple[int | None, int | None, int],
        state: State,
        attempt: Attempt,
        *,
        suspect: bool = False,
        reason: str | None = None,
        owner: str | None = None,
    ) -> int:
        created_at = to_ticks(batch.created_at)
        made = connection.exec_driver_sql(
            'INSERT INTO batches (batch_id, shape, created_at, rows, "first", "last", skip, state, suspect, token, '
            "query_id, sent_at, attempts, reason, owner) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(str(batch.batch_id), shape, created_at, batch.rows, *place, state, suspect, attempt.token),
                *(attempt.query_id, time.time(), int(state == "sent"), reason, owner),
            ),
        )
        return int(made.lastrowid)

    # -- inserts on their way ------------------------------------------------

    def intend(self, batch: Batch, attempt: Attempt) -> None:
        """Note that a batch is about to be sent whose rows are not in here.

        Should this process die over it, whoever drains next finds out what became of it, and mends the summaries.
        """
        owner = self._owned()

        def run(connection: sa.Connection) -> None:
            shape = self.shape(connection, str(batch.table.schema or ""), batch.table.name, batch.own_columns)
            self.insert_batch(connection, batch, shape, (None, None, 0), "sent", attempt, owner=owner)

        self.write(run)

    def forget(self, batch: Batch) -> None:
        """Strike out the intent of a batch whose fate is known."""
        self.write(
            lambda connection: connection.exec_driver_sql(
                "DELETE FROM batches WHERE batch_id = ?", (str(batch.batch_id),)
            )
        )

    def abandon(self, batch: Batch) -> None:
        """Leave it to who drains next to find out what became of an insert."""
        self.write(
            lambda connection: connection.exec_driver_sql(
                "UPDATE batches SET owner = NULL WHERE batch_id = ?", (str(batch.batch_id),)
            )
        )

    def _owned(self) -> str:
        """Return this process's name, and hold the lock that says that it lives."""
        with self._owner_lock:
            if self._owner is None or self._owner[0] != os.getpid():
                name, lock = self._new_owner()
                self._owner = (os.getpid(), name, lock)
            return self._owner[1]

    def _new_owner(self) -> tuple[str, FileLock]:
        while True:
            name = uuid.uuid4().hex
            lock = FileLock(self._owner_file(name))
            lock.acquire()
            # Somebody who tidied up may have been between this file's making and its locking.
            if lock.path.exists():
                return name, lock
            lock.close()

    def _owner_file(self, name: str) -> Path:
        return self.file.directory / f"owner-{name}.lock"

    def tidy(self, owners: Collection[str | None]) -> None:
        """Remove the locks of processes that are gone, except of those in ``owners``."""
        for path in self.file.directory.glob("owner-*.lock"):
            name = path.stem.removeprefix("owner-")
            if name not in owners and (self._owner is None or name != self._owner[1]):
                lock = FileLock(path)
                if lock.acquire(wait=False):
                    path.unlink(missing_ok=True)
                lock.close()

    def is_orphan(self, owner: str | None) -> bool:
        """Whether the process that was sending an insert is gone."""
        if owner is None:
            return True
        if self._owner is not None and owner == self._owner[1]:
            return False
        path = self._owner_file(owner)
        if not path.exists():
            return True
        lock = FileLock(path)
        try:
            return lock.acquire(wait=False)
        finally:
            lock.close()

    # -- whose it is ---------------------------------------------------------

    def claim(self, connection: sa.Connection) -> None:
        """Make sure, inside a write, that what is in here is for this target.

        Raises:
            ConfigError: it is for another ClickHouse.
        """
        if self.target is not None:
            claim(connection, self.directory, self.target)

    def take_over(self) -> None:
        """Send what is in here to this target, whichever it was for."""
        target = self.target
        if target is not None:
            self.file.write(lambda connection: claim(connection, self.directory, target, take_over=True))

    # -- close ---------------------------------------------------------------

    def close(self) -> None:
        """Close the files; the rows stay. A second call does nothing."""
        self.file.close()
        self.drainer.close()
        own, self._owner = self._owner, None
        if own is not None:
            own[2].path.unlink(missing_ok=True)
            own[2].close()
