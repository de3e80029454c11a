"""Imports files into a table: good rows in batches, bad ones to a report.

A row goes in whole or not at all, and so does a batch. What a file's columns mean is settled before: ``mapping``.
"""

from __future__ import annotations

import csv
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TextIO

from sqlalchemy import exc as sa_exc

from netra_chdb.errors import BreakerOpen, ConfigError, NetraError, Outcome, classify
from netra_chdb.ingest.batch import Batch
from netra_chdb.ingest.mapping import Fault, RowMaker
from netra_chdb.ingest.source import BadLine, Line, Source

__all__ = ["BATCH_OF_IMPORT", "FileResult", "Importer", "Rejects", "Unsettled"]

#: Rows of one batch.
BATCH_OF_IMPORT: Final = 10_000
_PROGRESS_ROWS: Final = 500


# -- what could not be stored ----------------------------------------------------------------------------------------


class Rejects:
    """The report of rows that were not stored: CSV, one line for each fault, readable by its owner only.

    Args:
        path: of the report, which is created with the first fault; there must be no file yet.

    Attributes:
        path: of the report.
        created: whether it exists.

    Raises:
        ConfigError: something is at ``path`` already, or it cannot be created.
    """

    def __init__(self, path: Path) -> None:
        if path.exists() or path.is_symlink():
            raise ConfigError(f"{path}: exists already; remove it, or name another file for the rejected lines")
        if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
            raise ConfigError(f"{path}: there can be no file for the rejected lines, {path.parent} is not writable")
        self.path = path
        self.created = False
        self._file: TextIO | None = None

    def add(self, file: Path, line: int, fault: Fault) -> None:
        """Note that ``line`` of ``file`` was not stored."""
        if self._file is None:
            # Rejected lines hold what the files hold, which may be private.
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self.created = True
            self._file = open(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="")  # noqa: PTH123, SIM115
            csv.writer(self._file).writerow(("file", "line", "column", "value", "reason"))
        csv.writer(self._file).writerow((file, line, fault.column, fault.value, fault.reason))

    def close(self) -> None:
        """Finish the report; a second call does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


# -- the import ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A batch of which ClickHouse did not say whether it is stored: all of its rows are, or none."""

    batch_id: uuid.UUID
    rows: int
    first_line: int
    last_line: int


@dataclass(slots=True)
class FileResult:
    """What became of one file.

    Attributes:
        path: the file.
        read: rows read, those that are none included.
        stored: rows in ClickHouse.
        rejected: rows in the report.
        cut: rows stored with a time that is cut to the column's precision.
        stored_to: number of the last line that is stored; 0 for none.
        failure: what ended the import; None when the file was read to its end.
        unsettled: the batch whose fate the failure left open.
    """

    path: Path
    read: int = 0
    stored: int = 0
    rejected: int = 0
    cut: int = 0
    stored_to: int = 0
    failure: BaseException | None = None
    unsettled: Unsettled | None = None


@dataclass(slots=True)
class _Pending:
    """Rows on their way into a batch."""

    rows: list[list[Any]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    cut: int = 0


class Importer:
    """Sends the rows of files.

    Args:
        send: stores a batch; returns when it is stored.
        rejects: takes the rows that cannot be stored.
        batch_rows: rows of one batch at most.
        progress: called now and then with the source, and the rows of it read so far.
    """

    def __init__(
        self,
        send: Callable[[Batch], object],
        rejects: Rejects,
        *,
        batch_rows: int = BATCH_OF_IMPORT,
        progress: Callable[[Source, int], None] | None = None,
    ) -> None:
        self._send = send
        self._rejects = rejects
        self._batch_rows = batch_rows
        self._progress = progress

    def run(self, files: Sequence[tuple[Source, RowMaker]]) -> list[FileResult]:
        """Import the files, one after the other.

        Returns:
            A result for each file that was begun; only the last one can have a failure, which ended the import.
        """
        results: list[FileResult] = []
        for source, maker in files:
            result = FileResult(source.path)
            results.append(result)
            try:
                self._import(source, maker, result)
            except (sa_exc.SQLAlchemyError, NetraError, OSError, KeyboardInterrupt) as error:
                result.failure = error
                break
        return results

    def _import(self, source: Source, maker: RowMaker, result: FileResult) -> None:
        pending = _Pending()
        for item in source:
            result.read += 1
            if isinstance(item, BadLine):
                result.rejected += 1
                self._rejects.add(source.path, item.number, Fault("", item.text, item.reason))
            else:
                self._take(source, maker, item, pending, result)
            if len(pending.rows) >= self._batch_rows:
                pending = self._store(maker, pending, result)
            if self._progress and result.read % _PROGRESS_ROWS == 0:
                self._progress(source, result.read)
        if pending.rows:
            self._store(maker, pending, result)
        if self._progress:
            self._progress(source, result.read)

    def _take(self, source: Source, maker: RowMaker, line: Line, pending: _Pending, result: FileResult) -> None:
        cut_before = maker.plan.cut
        row, faults = maker.row(line)
        if faults:
            result.rejected += 1
            for fault in faults:
                self._rejects.add(source.path, line.number, fault)
            return
        pending.rows.append(row)
        pending.lines.append(line.number)
        pending.cut += maker.plan.cut > cut_before

    def _store(self, maker: RowMaker, pending: _Pending, result: FileResult) -> _Pending:
        batch = maker.plan.checker.freeze(pending.rows)
        try:
            self._send(batch)
        except BaseException as error:
            if not (isinstance(error, BreakerOpen) or (isinstance(error, Exception) and _never_ran(error))):
                result.unsettled = Unsettled(batch.batch_id, batch.rows, pending.lines[0], pending.lines[-1])
            raise
        result.stored += batch.rows
        result.stored_to = pending.lines[-1]
        result.cut += pending.cut
        return _Pending()


def _never_ran(error: Exception) -> bool:
    return classify(error) is Outcome.REJECTED
