"""The spool as its drainer sees it: what is next for each table, and what became of it.

Only the holder of the drainer's lock may call this. For each table the order of the entries is kept: the next thing
to do is the batch, or what can be frozen into one, whose first entry is the table's first.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from netra_chdb.ingest.batch import Batch
from netra_chdb.ingest.columns import Column
from netra_chdb.ingest.encoding import encode
from netra_chdb.ingest.packed_rows import checksum as checksum_of
from netra_chdb.ingest.packed_rows import columns_of
from netra_chdb.ingest.queued import Attempt, Queued, bare_table
from netra_chdb.ingest.spool import Spool

__all__ = ["Backlog", "Damaged"]

_BATCHES: Final = 'SELECT b.*, s."schema", s.name, s.columns FROM batches b JOIN shapes s ON s.id = b.shape '
_FIRST: Final = "SELECT min(id) FROM entries WHERE shape = ?"


class Damaged(Exception):
    """Entries whose text is not what was written.

    Attributes:
        entries: their numbers.
    """

    def __init__(self, entries: Sequence[int]) -> None:
        self.entries = tuple(entries)
        super().__init__(f"entries {', '.join(map(str, entries))} of the spool are damaged")


@dataclass(frozen=True, slots=True)
class _Head:
    """The front of one table's queue: its first entries, of one shape, up to where something else begins."""

    shape: int
    columns: tuple[str, ...]
    first: int
    before: int | None


class Backlog:
    """What a spool holds for ClickHouse.

    Args:
        spool: the spool.
    """

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self._file = spool.file

    def claim(self) -> None:
        """Make sure that what is in here may be sent.

        Raises:
            ConfigError: it is for another ClickHouse.
        """
        self._file.write(self.spool.claim)

    def tables(self) -> list[tuple[str, str]]:
        """The tables, by database and name, that have rows waiting, the longest waiting first."""

        def run(connection: sa.Connection) -> list[tuple[str, str]]:
            shapes = connection.exec_driver_sql('SELECT id, "schema", name FROM shapes').all()
            firsts: dict[tuple[str, str], int] = {}
            for shape in shapes:
                first = connection.exec_driver_sql(_FIRST, (shape.id,)).scalar()
                if first is not None:
                    key = (shape.schema, shape.name)
                    firsts[key] = min(first, firsts.get(key, first))
            return sorted(firsts, key=firsts.__getitem__)

        return self._file.read(run)

    def next_batch(self, schema: str, name: str) -> Queued | None:
        """The batch at the front of a table's queue; None where rows wait there that are in none."""
        head, queued = self._front(schema, name)
        return queued if queued is not None and (head is None or queued.first == head.first) else None

    def _front(self, schema: str, name: str) -> tuple[_Head | None, Queued | None]:
        def run(connection: sa.Connection) -> tuple[_Head | None, Queued | None]:
            row = connection.exec_driver_sql(
                _BATCHES + 'WHERE s."schema" = ? AND s.name = ? AND b."first" IS NOT NULL '
                'ORDER BY b."first", b.skip LIMIT 1',
                (schema, name),
            ).one_or_none()
            queued = Queued.of(row) if row is not None else None
            starts = sorted(
                (first, shape.id, shape.columns)
                for shape in connection.exec_driver_sql(
                    'SELECT id, columns FROM shapes WHERE "schema" = ? AND name = ?', (schema, name)
                ).all()
                if (first := connection.exec_driver_sql(_FIRST, (shape.id,)).scalar()) is not None
            )
            if not starts:
                return None, queued
            first, shape_id, columns = starts[0]
            ends = [start for start, _, _ in starts[1:]]
            if queued is not None and queued.first is not None:
                ends.append(queued.first)
            return _Head(shape_id, tuple(json.loads(columns)), first, min(ends, default=None)), queued

        return self._file.read(run)

    def freeze(self, schema: str, name: str, limit: int) -> tuple[Queued, Batch] | None:
        """Freeze the rows at the front of a table's queue into a batch that is about to be sent.

        Args:
            schema: the table's database.
            name: the table.
            limit: how many rows at most.

        Raises:
            Damaged: some entries cannot be read.
            ConfigError: they are for another ClickHouse.
        """
        head, _ = self._front(schema, name)
        if head is None:
            return None

        def run(connection: sa.Connection) -> list[Any]:
            before = head.before if head.before is not None else 2**63 - 1
            taken: list[Any] = []
            rows = 0
            # The driver's own cursor: SQLAlchemy's takes as long as all the rest.
            with contextlib.closing(connection.connection.cursor()) as cursor:
                cursor.execute(
                    "SELECT id, checksum, payload, rows FROM entries WHERE shape = ? AND id >= ? AND id < ? "
                    "ORDER BY id LIMIT ?",
                    (head.shape, head.first, before, limit),
                )
                while rows < limit and (entry := cursor.fetchone()) is not None:
                    rows += entry[3]
                    if rows > limit and taken:
                        break
                    taken.append(entry[:3])
            return taken

        found = self._file.read(run)
        batch = Batch.of_columns(bare_table(schema, name, head.columns), head.columns, _columns(found))
        attempt = Attempt(batch.token)
        place = (found[0][0], found[-1][0], 0)

        def note(connection: sa.Connection) -> int:
            self.spool.claim(connection)  # it may have been empty, and another's, since this pass began
            return Spool.insert_batch(connection, batch, head.shape, place, "sent", attempt)

        return self._get(self._file.write(note)), batch

    def _get(self, seq: int) -> Queued:
        return self._file.read(
            lambda connection: Queued.of(connection.exec_driver_sql(_BATCHES + "WHERE seq = ?", (seq,)).one())
        )

    def load(self, queued: Queued) -> Batch:
        """Read a batch's rows.

        Raises:
            Damaged: some entries cannot be read.
        """

        def run(connection: sa.Connection) -> Sequence[Any]:
            return _entries(connection.connection.cursor(), queued.shape, queued.first, queued.last)

        part = slice(queued.skip, queued.skip + queued.rows)
        columns = [column[part] for column in _columns(self._file.read(run))]
        return Batch.of_columns(
            queued.table, queued.columns, columns, batch_id=queued.batch_id, created_at=queued.created_at
        )

    def mark(self) -> tuple[int, int]:
        """The last entry and the last batch so far."""

        def run(connection: sa.Connection) -> tuple[int, int]:
            row = connection.exec_driver_sql(
                "SELECT (SELECT max(id) FROM entries), (SELECT max(seq) FROM batches)"
            ).one()
            return row[0] or 0, row[1] or 0

        return self._file.read(run)

    def left(self, mark: tuple[int, int]) -> int:
        """How many rows and unfinished batches there are up to a mark."""

        def run(connection: sa.Connection) -> int:
            row = connection.exec_driver_sql(
                "SELECT (SELECT coalesce(sum(rows), 0) FROM entries WHERE id <= ?), "
                "(SELECT count(*) FROM batches WHERE seq <= ? AND (owner IS NULL OR state = 'stored'))",
                mark,
            ).one()
            return int(row[0] + row[1])

        return self._file.read(run)

    def span(self) -> int:
        """How many entries there are at most, told by their numbers alone."""
        text = "SELECT coalesce((SELECT max(id) FROM entries) - (SELECT min(id) FROM entries) + 1, 0)"
        return int(self._file.read(lambda connection: connection.exec_driver_sql(text).scalar_one()))

    def batches(self, rows: int) -> int:
        """How many batches all that waits here makes, at so many rows for each that is not frozen yet."""
        text = (
            "SELECT (SELECT coalesce(sum(rows), 0) FROM entries), coalesce(sum(rows), 0), count(*) FROM batches "
            'WHERE "first" IS NOT NULL'
        )
        waiting, frozen, batches = self._file.read(lambda connection: connection.exec_driver_sql(text).one())
        return int(batches + math.ceil(max(0, waiting - frozen) / rows))

    # -- what became of a batch ----------------------------------------------

    def sending(self, queued: Queued, attempt: Attempt) -> None:
        """Note an attempt before it is made."""
        self._set(
            queued,
            "token = ?, query_id = ?, sent_at = ?, state = CASE state WHEN 'stored' THEN state ELSE "
            "'sent' END, attempts = attempts + 1",
            attempt.token,
            attempt.query_id,
            time.time(),
        )

    def unsent(self, queued: Queued, token: str, reason: str) -> None:
        """Note that a batch is surely not in ClickHouse; it is sent next under ``token``."""
        self._set(queued, "state = 'frozen', token = ?, reason = ?", token, reason)

    def unknown(self, queued: Queued, reason: str) -> None:
        """Note that an attempt ended without an answer."""
        self._set(queued, "suspect = 1, reason = ?", reason)

    def _set(self, queued: Queued, changes: str, *values: Any) -> None:
        def run(connection: sa.Connection) -> None:
            connection.exec_driver_sql(
                f"UPDATE batches SET {changes} WHERE seq = ? AND batch_id = ?",  # noqa: S608
                (*values, queued.seq, str(queued.batch_id)),
            )

        self._file.write(run)

    def stored(self, queued: Queued) -> None:
        """Note that all rows are in the table, and drop them here; the summaries are to be compared yet."""

        def run(connection: sa.Connection) -> None:
            connection.exec_driver_sql(
                'UPDATE batches SET state = \'stored\', "first" = NULL, "last" = NULL, owner = NULL '
                "WHERE seq = ? AND batch_id = ?",
                (queued.seq, str(queued.batch_id)),
            )
            _drop_entries(connection, queued)

        self._file.write(run)

    def done(self, queued: Queued) -> None:
        """Drop a batch and its rows: nothing is left to do about it."""

        def run(connection: sa.Connection) -> None:
            _drop_batch(connection, queued)
            _drop_entries(connection, queued)

        self._file.write(run)

    def split(self, queued: Queued, batch: Batch) -> None:
        """Make two batches of one that is surely not in ClickHouse; each is a new one, the order stays."""
        middle = batch.rows // 2

        def run(connection: sa.Connection) -> None:
            _drop_batch(connection, queued)
            for skip, part in ((0, slice(middle)), (middle, slice(middle, None))):
                columns = [column[part] for column in batch.own_block]
                half = Batch.of_columns(queued.table, queued.columns, columns)
                place = (queued.first, queued.last, queued.skip + skip)
                Spool.insert_batch(connection, half, queued.shape, place, "frozen", Attempt(half.token, ""))

        self._file.write(run)

    def put_aside(self, queued: Queued, batch: Batch, reason: str) -> None:
        """Move a batch's rows to quarantine."""

        def run(connection: sa.Connection) -> None:
            for row in batch.own_rows():
                _quarantine(connection, queued.shape, encode([row]), str(queued.batch_id), reason)
            _drop_batch(connection, queued)
            _drop_entries(connection, queued)

        self._file.write(run)

    def put_damaged_aside(self, damaged: Damaged, queued: Queued | None = None) -> None:
        """Move entries that cannot be read to quarantine, as they are.

        Args:
            damaged: the entries.
            queued: the batch over them, surely not in ClickHouse: it goes with all its entries, since halves of it
                may be stored already.
        """
        reason = "its text in the spool is not what was written there"

        def run(connection: sa.Connection) -> None:
            where, values = f"id IN ({', '.join('?' * len(damaged.entries))})", damaged.entries
            if queued is not None and queued.first is not None and queued.last is not None:
                where, values = "shape = ? AND id BETWEEN ? AND ?", (queued.shape, queued.first, queued.last)
                connection.exec_driver_sql(
                    'DELETE FROM batches WHERE shape = ? AND "first" = ?', (queued.shape, queued.first)
                )
            for row in connection.exec_driver_sql(f"SELECT * FROM entries WHERE {where}", values).all():  # noqa: S608
                batch_id = str(queued.batch_id) if queued else None
                _quarantine(connection, row.shape, row.payload, batch_id, reason, checksum=row.checksum)
            connection.exec_driver_sql(f"DELETE FROM entries WHERE {where}", values)  # noqa: S608

        self._file.write(run)

    def settling(self, schema: str, name: str) -> list[str]:
        """The query_ids of batches of a table, with rows in here, of which nobody knows yet what became of them."""

        def run(connection: sa.Connection) -> list[str]:
            found = connection.exec_driver_sql(
                'SELECT b.query_id FROM batches b JOIN shapes s ON s.id = b.shape WHERE s."schema" = ? AND s.name = ? '
                "AND b.\"first\" IS NOT NULL AND b.state = 'sent'",
                (schema, name),
            )
            return [str(query_id or "") for query_id in found.scalars()]

        return self._file.read(run)

    # -- batches without rows in here ----------------------------------------

    def loose(self) -> list[Queued]:
        """Inserts whose process is gone, and batches whose summaries are to be compared."""

        def run(connection: sa.Connection) -> list[Queued]:
            rows = connection.exec_driver_sql(_BATCHES + 'WHERE b."first" IS NULL ORDER BY b.seq').all()
            return [Queued.of(row) for row in rows]

        found = self._file.read(run)
        self.spool.tidy({queued.owner for queued in found})
        return [queued for queued in found if queued.state == "stored" or self.spool.is_orphan(queued.owner)]


def _entries(cursor: Any, shape: int, first: int | None, last: int | None) -> list[Any]:
    found: list[Any] = cursor.execute(
        "SELECT id, checksum, payload FROM entries WHERE shape = ? AND id BETWEEN ? AND ? ORDER BY id",
        (shape, first, last),
    ).fetchall()
    return found


def _columns(entries: Sequence[Any]) -> list[Column]:
    bad = [number for number, checksum, payload in entries if checksum_of(payload) != checksum]
    if bad:
        raise Damaged(bad)
    return columns_of([payload for _, _, payload in entries])


def _quarantine(
    connection: sa.Connection,
    shape: int,
    payload: str,
    batch_id: str | None,
    reason: str,
    *,
    checksum: int | None = None,
) -> None:
    if checksum is None:
        checksum = checksum_of(payload)
    connection.exec_driver_sql(
        "INSERT INTO quarantine (shape, checksum, payload, batch_id, reason, at) VALUES (?, ?, ?, ?, ?, ?)",
        (shape, checksum, payload, batch_id, reason, time.time()),
    )


def _drop_batch(connection: sa.Connection, queued: Queued) -> None:
    connection.exec_driver_sql("DELETE FROM batches WHERE seq = ? AND batch_id = ?", (queued.seq, str(queued.batch_id)))


def _drop_entries(connection: sa.Connection, queued: Queued) -> None:
    """Delete a batch's entries unless another half of them is left."""
    if queued.first is None:
        return
    others = connection.exec_driver_sql(
        'SELECT count(*) FROM batches WHERE shape = ? AND "first" = ? AND seq != ?',
        (queued.shape, queued.first, queued.seq),
    ).scalar_one()
    if not others:
        connection.exec_driver_sql(
            "DELETE FROM entries WHERE shape = ? AND id BETWEEN ? AND ?", (queued.shape, queued.first, queued.last)
        )
