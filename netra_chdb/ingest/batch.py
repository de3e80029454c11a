"""A batch: rows of one table, checked and frozen once, sent as one block.

What is frozen is what a retry sends again: rows in their order, one ``created_at``, one ``batch_id``.
``created_at`` is set here and never by the server, so that a batch lies in one partition and is one part.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from netra_chdb.errors import InvalidRow, RowProblem
from netra_chdb.ingest.rules import Rule, rule_for, shown
from netra_chdb.models.base import now

__all__ = ["BATCH_ROWS", "Batch", "RowChecker", "to_rows"]

#: Rows of one batch at most: below ``max_insert_block_size``, so that the server keeps it one block.
BATCH_ROWS: Final = 100_000

_SET_HERE: Final = ("created_at", "batch_id")
_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one table, as columns.

    Attributes:
        table: the table.
        columns: names of the columns, in order.
        data: for each column, its values in order of rows.
        batch_id: the batch's identity, its deduplication token and a column of each row.
        created_at: aware UTC, to the millisecond; a column of each row.
    """

    table: sa.Table
    columns: tuple[str, ...]
    data: tuple[tuple[Any, ...], ...]
    batch_id: uuid.UUID
    created_at: dt.datetime

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.data[0])

    @property
    def token(self) -> str:
        """The deduplication token."""
        return str(self.batch_id)


class RowChecker:
    """Checks rows against a table and freezes those that it accepts.

    Args:
        table: the table; columns with a Python-side default may be left out of a row.
    """

    def __init__(self, table: sa.Table) -> None:
        self.table = table
        self._columns = [column for column in table.columns if column.computed is None]
        self._names = [column.name for column in self._columns]
        self._rules: dict[str, Rule] = {
            column.name: rule_for(column.type, nullable=bool(column.nullable)) for column in self._columns
        }
        # What a row gets where it says nothing: most columns of most rows, so constants are checked once.
        self._constants: dict[str, Any] = {}
        self._defaults: dict[str, Callable[[], Any]] = {}
        for column in self._columns:
            if column.name in _SET_HERE:
                continue
            default: Any = column.default
            if default is not None and default.is_callable:
                # SQLAlchemy wraps a default's function into one that takes an execution context.
                self._defaults[column.name] = functools.partial(default.arg, None)
            elif default is not None and default.is_scalar:
                self._constants[column.name] = self._rules[column.name](default.arg)
            elif column.nullable:
                self._constants[column.name] = None

    def check(self, index: int, row: Mapping[str, Any]) -> tuple[list[Any], list[RowProblem]]:
        """Return the values of ``row`` in order of columns, and what is wrong with it.

        Args:
            index: the row's place in the caller's input, for the problems.
            row: values by column name.
        """
        values: list[Any] = []
        problems: list[RowProblem] = []
        for name in self._names:
            if name in _SET_HERE:
                continue
            value = row.get(name, _MISSING)
            if value is _MISSING:
                if name in self._constants:
                    values.append(self._constants[name])
                    continue
                default = self._defaults.get(name)
                if default is None:
                    problems.append(RowProblem(index, name, "nothing", "is required"))
                    values.append(None)
                    continue
                value = default()
            try:
                if name == "user_id" and value == "":
                    raise ValueError("must not be empty: no user could read it")
                values.append(self._rules[name](value))
            except ValueError as error:
                problems.append(RowProblem(index, name, shown(value), str(error)))
                values.append(None)
        for name in row:
            if name not in self._rules:
                rule = f"is not a column of {self.table.fullname}"
                problems.append(RowProblem(index, str(name), shown(row[name]), rule))
            elif name in _SET_HERE:
                problems.append(RowProblem(index, name, shown(row[name]), "is set when a batch is frozen"))
        return values, problems

    def freeze(self, rows: Sequence[Sequence[Any]]) -> Batch:
        """Freeze rows that :meth:`check` has accepted into one batch.

        Raises:
            ValueError: there are no rows, or more than ``BATCH_ROWS``.
        """
        if not 0 < len(rows) <= BATCH_ROWS:
            raise ValueError(f"a batch has 1 to {BATCH_ROWS} rows, not {len(rows)}")
        batch_id, created_at = uuid.uuid4(), now()
        names = [name for name in self._names if name not in _SET_HERE]
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        columns["created_at"] = (created_at,) * len(rows)
        columns["batch_id"] = (batch_id,) * len(rows)
        ordered = [name for name in self._names if name in columns]
        return Batch(self.table, tuple(ordered), tuple(columns[name] for name in ordered), batch_id, created_at)

    def batches(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Batch]:
        """Check all ``rows``, then freeze them into batches.

        Raises:
            InvalidRow: some rows cannot be stored; every problem of every row, and no batch at all.
        """
        accepted: list[list[Any]] = []
        problems: list[RowProblem] = []
        for index, row in enumerate(rows):
            values, found = self.check(index, row)
            problems += found
            accepted.append(values)
        if problems:
            raise InvalidRow(self.table.fullname, problems)
        for start in range(0, len(accepted), BATCH_ROWS):
            yield self.freeze(accepted[start : start + BATCH_ROWS])


def to_rows(data: Any) -> Iterable[Mapping[str, Any]]:
    """Return ``data`` as mappings by column name.

    Args:
        data: a list of dicts, dataclasses or model instances; an Arrow table or record batch; a pandas or polars
            data frame.

    Raises:
        TypeError: it is none of these.
    """
    if hasattr(data, "to_pylist"):  # pyarrow.Table, pyarrow.RecordBatch
        return _listed(data)
    if hasattr(data, "__arrow_c_stream__"):  # pandas and polars frames speak Arrow
        import pyarrow as pa

        return _listed(pa.table(data))
    if isinstance(data, Mapping | str | bytes) or not isinstance(data, Iterable):
        raise TypeError(f"rows are a list of dicts, an Arrow table or a data frame, not {type(data).__name__}")
    return map(_mapping, data)


def _listed(table: Any) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = table.to_pylist()
    return rows


def _mapping(row: Any) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return row
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    state = sa.inspect(row, raiseerr=False)
    if state is not None and hasattr(state, "mapper"):
        # By the column's name: an attribute may have another one (metadata_ for metadata).
        return {
            attribute.columns[0].name: state.dict[attribute.key]
            for attribute in state.mapper.column_attrs
            if attribute.key in state.dict and attribute.key not in _SET_HERE
        }
    raise TypeError(f"a row is a dict, a dataclass or a model instance, not {type(row).__name__}")
