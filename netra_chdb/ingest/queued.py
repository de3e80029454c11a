"""A batch as the spool knows it: what is frozen, and what was sent of it."""

from __future__ import annotations

import datetime as dt
import functools
import json
import uuid
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import sqlalchemy as sa

__all__ = ["Attempt", "Queued", "State", "bare_table", "from_ticks", "to_ticks"]

State: TypeAlias = Literal["frozen", "sent", "stored"]
"""``frozen``: surely not in ClickHouse; ``sent``: nobody knows; ``stored``: it is, its summaries are to be compared."""

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MILLISECOND: Final = dt.timedelta(milliseconds=1)


def to_ticks(moment: dt.datetime) -> int:
    """Return a ``created_at`` in milliseconds."""
    return (moment - _EPOCH) // _MILLISECOND


def from_ticks(ticks: int) -> dt.datetime:
    """Return the ``created_at`` of :func:`to_ticks`."""
    return _EPOCH + ticks * _MILLISECOND


@functools.lru_cache(maxsize=256)
def bare_table(schema: str, name: str, columns: tuple[str, ...]) -> sa.TableClause:
    """Return a table by its names, as an INSERT needs it: values are frozen as the driver wants them."""
    own: list[Any] = [sa.column(column) for column in columns]
    return sa.table(name, *own, schema=schema or None)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sending of a batch, known before it is made.

    Attributes:
        token: the deduplication token.
        query_id: the id that the query runs under.
    """

    token: str
    query_id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True, slots=True)
class Queued:
    """A batch in the spool.

    Attributes:
        seq: its number there.
        batch: its identity, as frozen; the rows are read by :meth:`Spool.load`.
        created_at: as frozen.
        schema: the table's database.
        name: the table's name.
        columns: the columns of its rows.
        rows: how many rows.
        state: what is known.
        suspect: whether a sending of it ever ended without an answer.
        attempt: the last sending, or the next one's token.
        attempts: how many sendings.
        reason: why the last one failed.
        owner: the process that is sending it, for an insert on its way.
    """

    seq: int
    batch_id: uuid.UUID
    created_at: dt.datetime
    schema: str
    name: str
    columns: tuple[str, ...]
    rows: int
    state: State
    suspect: bool
    attempt: Attempt
    attempts: int
    reason: str | None
    owner: str | None
    shape: int
    first: int | None
    last: int | None
    skip: int

    @property
    def table(self) -> sa.TableClause:
        """The table, by its names."""
        return bare_table(self.schema, self.name, self.columns)

    @classmethod
    def of(cls, row: Any) -> Queued:
        """Make one of a row of ``batches`` joined with its shape."""
        return cls(
            row.seq,
            uuid.UUID(row.batch_id),
            from_ticks(row.created_at),
            row.schema,
            row.name,
            tuple(json.loads(row.columns)),
            row.rows,
            row.state,
            bool(row.suspect),
            Attempt(row.token, row.query_id or ""),
            row.attempts,
            row.reason,
            row.owner,
            row.shape,
            row.first,
            row.last,
            row.skip,
        )
