"""A batch: rows of one table, checked and frozen once, sent as one block.

What is frozen is what a retry sends again: rows in their order, one ``created_at``, one ``batch_id``.
``created_at`` is set here and never by the server, so that a batch lies in one partition and is one part.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import operator
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import sqlalchemy as sa

from netra_chdb.dialect.arrow_columns import arrow, is_arrow
from netra_chdb.errors import InvalidRow, RowProblem
from netra_chdb.ingest.columns import Column, ColumnRule, column_rule, constant, packed, values_of
from netra_chdb.ingest.rules import Rule, rule_for, shown
from netra_chdb.models.base import now

__all__ = ["ARROW_ROWS", "BATCH_ROWS", "Batch", "RowChecker", "to_rows"]

#: Rows of one batch at most: below ``max_insert_block_size``, so that the server keeps it one block.
BATCH_ROWS: Final = 100_000
#: The same for columns that came as Arrow, which take a fraction of the room, and their bytes at most.
ARROW_ROWS: Final = 1_000_000
_ARROW_BYTES: Final = 256 * 1024**2

_SET_HERE: Final = ("created_at", "batch_id")
_MISSING: Final = object()
_ROWS: Final = "rows are a list of dicts, an Arrow table or a data frame"


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one table, as columns.

    Attributes:
        table: the table.
        columns: names of the columns, in order.
        block: for each column, its values in order of rows, Python's or in an Arrow array.
        batch_id: the batch's identity, its deduplication token and a column of each row.
        created_at: aware UTC, to the millisecond; a column of each row.
    """

    table: sa.TableClause
    columns: tuple[str, ...]
    block: tuple[Column, ...]
    batch_id: uuid.UUID
    created_at: dt.datetime

    @classmethod
    def of(
        cls,
        table: sa.TableClause,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        batch_id: uuid.UUID | None = None,
        created_at: dt.datetime | None = None,
    ) -> Batch:
        """Freeze rows; see :meth:`of_columns`."""
        if not 0 < len(rows) <= BATCH_ROWS:
            raise ValueError(f"a batch has 1 to {BATCH_ROWS} rows, not {len(rows)}")
        return cls.of_columns(table, columns, list(zip(*rows, strict=True)), batch_id=batch_id, created_at=created_at)

    @classmethod
    def of_columns(
        cls,
        table: sa.TableClause,
        columns: Sequence[str],
        data: Sequence[Column],
        *,
        batch_id: uuid.UUID | None = None,
        created_at: dt.datetime | None = None,
    ) -> Batch:
        """Freeze columns of values.

        Args:
            table: the table.
            columns: the columns' names, without the two that a batch sets itself.
            data: for each column, values that the table accepts.
            batch_id: the batch's identity; by default a new one.
            created_at: when it was frozen; by default now.

        Raises:
            ValueError: there are no rows, or more than ``ARROW_ROWS``.
        """
        rows = len(data[0]) if data else 0
        if not 0 < rows <= ARROW_ROWS:
            raise ValueError(f"a batch has 1 to {ARROW_ROWS} rows, not {rows}")
        batch_id, created_at = batch_id or uuid.uuid4(), created_at or now()
        own = (constant(created_at, rows), constant(batch_id, rows))
        return cls(table, (*columns, *_SET_HERE), (*map(packed, data), *own), batch_id, created_at)

    @property
    def own_columns(self) -> tuple[str, ...]:
        """The columns without those that the batch sets."""
        return self.columns[: -len(_SET_HERE)]

    @property
    def own_block(self) -> tuple[Column, ...]:
        """The block without the columns that the batch sets."""
        return self.block[: -len(_SET_HERE)]

    def own_rows(self) -> list[tuple[Any, ...]]:
        """The rows as they were given to :meth:`of`."""
        return list(zip(*map(values_of, self.own_block), strict=True))

    @property
    def data(self) -> tuple[tuple[Any, ...], ...]:
        """For each column, its values as Python's."""
        return tuple(map(values_of, self.block))

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.block[0])

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
        self._own = tuple(name for name in self._names if name not in _SET_HERE)
        self._rules: dict[str, Rule] = {
            column.name: rule_for(column.type, nullable=bool(column.nullable)) for column in self._columns
        }
        if "user_id" in self._rules:
            self._rules["user_id"] = _not_empty(self._rules["user_id"])
        self._own_rules = [(name, self._rules[name]) for name in self._own]
        self._own_names = frozenset(self._own)
        self._column_rules: dict[str, ColumnRule] = {
            column.name: column_rule(column.type, nullable=bool(column.nullable)) for column in self._columns
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
        get = row.get
        for name, rule in self._own_rules:
            value = get(name, _MISSING)
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
                values.append(rule(value))
            except ValueError as error:
                problems.append(RowProblem(index, name, shown(value), str(error)))
                values.append(None)
        if row.keys() <= self._own_names:
            return values, problems
        for name in row:
            if name not in self._rules:
                unknown = f"is not a column of {self.table.fullname}"
                problems.append(RowProblem(index, str(name), shown(row[name]), unknown))
            elif name in _SET_HERE:
                problems.append(RowProblem(index, name, shown(row[name]), "is set when a batch is frozen"))
        return values, problems

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the values that :meth:`check` returns."""
        return self._own

    def freeze(self, rows: Sequence[Sequence[Any]]) -> Batch:
        """Freeze rows that :meth:`check` has accepted into one batch.

        Raises:
            ValueError: there are no rows, or more than ``BATCH_ROWS``.
        """
        return Batch.of(self.table, self._own, rows)

    def sort(self, data: Any) -> tuple[list[Batch], list[Mapping[str, Any]], InvalidRow]:
        """Check all rows of ``data``, in any of the forms that :func:`to_rows` takes.

        Returns:
            Batches of the good rows, the bad rows as they came, and what is wrong with these (perhaps nothing).
        """
        columns = self._of_arrow(table) if (table := _arrow_table(data)) is not None else None
        bad: list[Mapping[str, Any]] = []
        problems: list[RowProblem] = []
        if columns is None:
            found = to_rows(data if table is None else table, self.table)  # a reader gives its rows once
            rows = found if isinstance(found, list) else list(found)
            columns = self._of_rows(rows) if rows else []
        if columns is None:
            good = []
            for index, row in enumerate(rows):
                values, wrong = self.check(index, row)
                if wrong:
                    problems += wrong
                    bad.append(row)
                else:
                    good.append(values)
            columns = list(zip(*good, strict=True))
        batches = [
            Batch.of_columns(self.table, self._own, part) for part in _parts(columns, is_table=table is not None)
        ]
        return batches, bad, InvalidRow(self.table.fullname, problems)

    def _of_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[Column] | None:
        """Check rows column by column, which takes a fraction of the time; None when any of them is bad."""
        given = set(chain.from_iterable(rows))
        whole = len(given) * len(rows) == sum(map(len, rows))

        def take(name: str) -> Sequence[Any]:
            if whole:
                return list(map(operator.itemgetter(name), rows))
            default = self._defaults.get(name)
            return [self._value(row, name, default) for row in rows]

        return self._checked_columns(given, len(rows), take)

    def _of_arrow(self, table: Any) -> list[Column] | None:
        """Check the columns of an Arrow table; None when a row is bad, or has to say so itself."""
        return self._checked_columns(set(table.column_names), table.num_rows, table.column)

    def _checked_columns(self, given: set[Any], rows: int, take: Callable[[str], Any]) -> list[Column] | None:
        if not given <= self._own_names or not rows:
            return None
        columns: list[Column] = []
        for name in self._own:
            if name not in given and name in self._constants:
                columns.append(constant(self._constants[name], rows, self._column_rules[name]))
                continue
            default = self._defaults.get(name)
            if name not in given and default is None:
                return None
            try:
                column = [default() for _ in range(rows)] if name not in given and default is not None else take(name)
                checked = self._column_rules[name](column)
                if checked is None:
                    values = column.to_pylist() if hasattr(column, "to_pylist") else column
                    checked = list(map(self._rules[name], values))
            except ValueError:
                return None
            if name == "user_id" and _has_empty(checked):
                return None
            columns.append(checked)
        return columns

    def _value(self, row: Mapping[str, Any], name: str, default: Callable[[], Any] | None) -> Any:
        value = row.get(name, _MISSING)
        if value is _MISSING:
            if name in self._constants:
                return self._constants[name]
            if default is None:
                raise ValueError("is required")
            value = default()
        return value

    def batches(self, rows: Any) -> Iterator[Batch]:
        """Check all ``rows``, then freeze them into batches.

        Raises:
            InvalidRow: some rows cannot be stored; every problem of every row, and no batch at all.
        """
        batches, _, invalid = self.sort(rows)
        if invalid.problems:
            raise invalid
        yield from batches


def to_rows(data: Any, own: sa.Table) -> Iterable[Mapping[str, Any]]:
    """Return ``data`` as mappings by column name.

    Args:
        data: a list of dicts, dataclasses or model instances; an Arrow table, record batch or reader; a pandas or
            polars data frame, or what else gives its columns through Arrow's PyCapsule interface.
        own: the table whose model the instances are of.

    Raises:
        TypeError: it is none of these, or an instance is of another table.
        ValueError: Arrow columns have a name more than once.
    """
    if (table := _arrow_table(data)) is not None:
        rows: list[Mapping[str, Any]] = table.to_pylist()
        return rows
    if isinstance(data, Mapping | str | bytes) or not isinstance(data, Iterable):
        raise TypeError(f"{_ROWS}, not {type(data).__name__}")
    if isinstance(data, list) and set(map(type, data)) == {dict}:
        return data  # most are, and to ask each one takes as long as to check it
    return (_mapping(row, own) for row in data)


def _arrow_table(data: Any) -> Any:
    """``data`` as an Arrow table; None where it is none."""
    if not hasattr(data, "__arrow_c_stream__") and not hasattr(data, "__arrow_c_array__"):
        return None
    pa = arrow()

    try:  # whatever speaks Arrow's PyCapsule interface: frames of pandas and polars, readers, record batches
        if not hasattr(data, "__arrow_c_stream__"):
            data = pa.Table.from_batches([pa.record_batch(data)])
        stream = None if isinstance(data, pa.Table) else pa.RecordBatchReader.from_stream(data)
    except pa.ArrowInvalid as error:
        raise TypeError(f"{_ROWS}, not {type(data).__name__}: {error}") from error
    table = data if stream is None else stream.read_all()
    for name in (names := table.column_names):
        if names.count(name) > 1:  # as dicts, its rows would have the last one alone
            raise ValueError(f"{type(data).__name__} has the column {name!r} more than once")
    return table


def _parts(columns: Sequence[Column], *, is_table: bool) -> Iterator[list[Column]]:
    """Cut columns into as many pieces as there are to be batches."""
    rows = len(columns[0]) if columns else 0
    if not rows:
        return
    limit = BATCH_ROWS
    if is_table:
        # What is no Arrow is small change, or as large as rows are.
        size = sum(column.nbytes if is_arrow(column) else 100 * rows for column in columns)
        limit = max(1, min(ARROW_ROWS, _ARROW_BYTES * rows // max(1, size)))
    for start in range(0, rows, limit):
        yield [column[start : start + limit] for column in columns]


def _not_empty(rule: Rule) -> Rule:
    def check(value: Any) -> Any:
        if value == "":
            raise ValueError("must not be empty: no user could read it")
        return rule(value)

    return check


def _has_empty(column: Column) -> bool:
    if not is_arrow(column):
        return "" in column
    pa = arrow()

    array: Any = column
    return bool(pa.types.is_string(array.type)) and pa.compute.index(array, "").as_py() >= 0


def _mapping(row: Any, own: sa.Table) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return row
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    state = sa.inspect(row, raiseerr=False)
    if state is not None and hasattr(state, "mapper"):
        # A table of another database may have the same name and columns.
        if str(table := state.mapper.local_table) != own.fullname:
            raise TypeError(f"a row of {own.fullname} is an instance of its model, not of {table}'s")
        # By the column's name: an attribute may have another one (metadata_ for metadata).
        return {
            attribute.columns[0].name: state.dict[attribute.key]
            for attribute in state.mapper.column_attrs
            if attribute.key in state.dict and attribute.key not in _SET_HERE
        }
    raise TypeError(f"a row is a dict, a dataclass or a model instance, not {type(row).__name__}")
