"""Rows that ClickHouse will not accept: what they are, why, and the way back."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

from netra_chdb.errors import InvalidRow
from netra_chdb.ingest.encoding import Unkept, encode
from netra_chdb.ingest.packed_rows import checksum, rows_in
from netra_chdb.ingest.spool import Spool

__all__ = ["Quarantine", "Quarantined"]

Check: TypeAlias = Callable[[str, Mapping[str, Any]], tuple[tuple[str, ...], list[Any]] | None]

_ALL: Final = (
    'SELECT q.*, s."schema", s.name, s.columns FROM quarantine q JOIN shapes s ON s.id = q.shape '
    "WHERE q.id > ? ORDER BY q.id LIMIT 1000"
)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A row that was put aside (or several, where their text can no longer be read).

    Attributes:
        id: its number.
        table: the table's full name.
        at: when, aware UTC.
        reason: what ClickHouse, or the model, said.
        row: its values by column; None where they cannot be read.
        text: the values as kept.
        accepted: whether the model accepts it, and the values are as it gave them.
    """

    id: int
    table: str
    at: dt.datetime
    reason: str
    row: dict[str, Any] | None
    text: str
    accepted: bool


class Quarantine:
    """The rows put aside in a spool.

    Args:
        spool: the spool.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def __len__(self) -> int:
        return int(
            self._spool.file.read(
                lambda connection: connection.exec_driver_sql("SELECT count(*) FROM quarantine").scalar_one()
            )
        )

    def rows(self) -> Iterable[Quarantined]:
        """Yield them, the oldest first."""
        last = 0
        while True:
            after = last
            found = self._spool.file.read(lambda connection: connection.exec_driver_sql(_ALL, (after,)).all())  # noqa: B023
            if not found:
                return
            yield from map(_quarantined, found)
            last = found[-1].id

    def add(self, table: sa.Table, rows: Sequence[Any], invalid: InvalidRow) -> None:
        """Put rows aside that the model refuses.

        Args:
            table: their table.
            rows: those refused, as they came and in order.
            invalid: what is wrong with them.

        Raises:
            SpoolFull: there is no room for all of them; none was kept.
        """
        reasons: dict[int, list[str]] = {}
        for problem in invalid.problems:
            # A column's name may be what has no bytes.
            said = str(problem).encode(errors="backslashreplace").decode()
            reasons.setdefault(problem.row, []).append(said)
        kept = [
            (tuple(map(str, row)), encode([[_kept(value) for value in row.values()]]), "; ".join(reason))
            for row, reason in zip(rows, reasons.values(), strict=True)
        ]
        size = sum(len(text.encode()) + len(reason.encode()) for _, text, reason in kept)

        def run(connection: sa.Connection) -> None:
            self._spool.room.look(connection)
            self._spool.room.take(connection, size)
            for names, text, reason in kept:
                shape = self._spool.shape(connection, str(table.schema or ""), table.name, names)
                connection.exec_driver_sql(
                    "INSERT INTO quarantine (shape, checksum, payload, reason, at) VALUES (?, ?, ?, ?, ?)",
                    (shape, checksum(text), text, reason, time.time()),
                )

        self._spool.write(run)

    def requeue(self, ids: Iterable[int] | None = None, *, check: Check | None = None) -> int:
        """Put rows back at the end of their tables' queues: all, or those of ``ids``.

        Args:
            ids: numbers of rows.
            check: takes a table's name and a row that the model refused; returns its columns and values, or None
                when the model still refuses it. Without it such rows stay.

        Returns:
            How many; a row that cannot be read stays.
        """
        wanted = None if ids is None else set(ids)
        moved = 0
        for row in list(self.rows()):
            if row.row is None or (wanted is not None and row.id not in wanted):
                continue
            if row.accepted:
                columns, values = tuple(row.row), list(row.row.values())
            elif check is None or (checked := check(row.table, row.row)) is None:
                continue
            else:
                columns, values = checked
            moved += self._move(row, columns, encode([values]))
        return moved

    def _move(self, row: Quarantined, columns: tuple[str, ...], text: str) -> bool:
        schema, _, name = row.table.rpartition(".")

        def run(connection: sa.Connection) -> int:
            # In one transaction: the row is here or there.
            gone = connection.exec_driver_sql("DELETE FROM quarantine WHERE id = ?", (row.id,)).rowcount
            if gone:
                shape = self._spool.shape(connection, schema, name, columns)
                connection.exec_driver_sql(
                    "INSERT INTO entries (shape, rows, checksum, payload) VALUES (?, 1, ?, ?)",
                    (shape, checksum(text), text),
                )
            return gone

        return self._spool.file.write(run) == 1

    def drop(self, ids: Iterable[int]) -> int:
        """Delete rows for good.

        Returns:
            How many.
        """

        def run(connection: sa.Connection) -> int:
            return sum(
                connection.exec_driver_sql("DELETE FROM quarantine WHERE id = ?", (id_,)).rowcount for id_ in ids
            )

        return self._spool.file.write(run)


def _kept(value: Any) -> Any:
    try:
        encode([[value]]).encode()
    except (TypeError, ValueError, RecursionError):
        return Unkept(repr(value))
    return value


def _quarantined(row: Any) -> Quarantined:
    values = None
    if checksum(row.payload) == row.checksum:
        rows = rows_in(row.payload)
        values = dict(zip(json.loads(row.columns), rows[0], strict=True)) if len(rows) == 1 else None
    table = f"{row.schema}.{row.name}" if row.schema else row.name
    return Quarantined(
        row.id,
        table,
        dt.datetime.fromtimestamp(row.at, dt.UTC),
        row.reason,
        values,
        str(row.payload),
        bool(row.batch_id),
    )
