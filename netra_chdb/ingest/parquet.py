"""Parquet files to import from; imported only when there is one, for pyarrow's weight."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from netra_chdb.errors import ConfigError
from netra_chdb.ingest.rules import shown
from netra_chdb.ingest.source import BadLine, Item, Line, Source, checked_columns

__all__ = ["ParquetSource"]

#: Rows in memory at once.
_ROWS: Final = 10_000


class ParquetSource(Source):
    """Parquet, one row group after the other."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with pq.ParquetFile(path) as file:
                self.columns = checked_columns(path, file.schema_arrow.names)
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(f"{path}: is not Parquet: {shown(str(error), 120)}") from error

    def __iter__(self) -> Iterator[Item]:
        with pq.ParquetFile(self.path) as file:
            total = file.metadata.num_rows
            begin = 0
            for group in range(file.num_row_groups):
                end = begin + file.metadata.row_group(group).num_rows
                done = begin
                try:
                    for batch in file.iter_batches(_ROWS, row_groups=[group]):
                        for row in self._rows(batch):
                            done += 1
                            yield self._item(done, row)
                        self.position = self.size * done // total
                except (pa.ArrowException, OSError) as error:
                    reason = f"rows {done + 1} to {end} cannot be read: {shown(str(error), 120)}"
                    yield BadLine(done + 1, "", reason)
                begin = end
        self.position = self.size

    def _item(self, number: int, row: tuple[Any, ...]) -> Item:
        values = dict(zip(self.columns, row, strict=True))
        for name, value in values.items():
            if isinstance(value, _Unreadable):
                return BadLine(number, "", f"{name} cannot be read: {value.reason}")
        return Line(number, values)

    @staticmethod
    def _rows(batch: Any) -> Iterable[tuple[Any, ...]]:
        columns = []
        for column in batch.columns:
            if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
                # Python's times have microseconds; no column here keeps more.
                column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
            try:
                columns.append(column.to_pylist())
            except (ValueError, OverflowError):
                columns.append([_scalar(scalar) for scalar in column])
        return zip(*columns, strict=True)


class _Unreadable(NamedTuple):
    """A value of Parquet that is none in Python: a time after the year 9999, text that is not UTF-8."""

    reason: str


def _scalar(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError) as error:
        return _Unreadable(shown(str(error)))
