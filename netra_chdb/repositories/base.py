"""What every repository does: record and insert rows, read rows of one user, count by columns.

A read says whose rows it wants. ``user_id`` is required and never empty: :data:`EVERYONE` is asked for by name, so
that a forgotten argument is an error and not everybody's data.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

import sqlalchemy as sa

from netra_chdb.dialect import select
from netra_chdb.engine import name_calls
from netra_chdb.errors import NetraError
from netra_chdb.ingest.batch import Batch
from netra_chdb.ingest.queued import Attempt
from netra_chdb.ingest.receipt import Receipt
from netra_chdb.ingest.send import send
from netra_chdb.ingest.writer import Writer
from netra_chdb.models import analytics, traces
from netra_chdb.models.base import now
from netra_chdb.scope import EVERYONE, USER_ID, UserScope
from netra_chdb.session import SessionFactory, freshness

__all__ = ["EVERYONE", "Reading", "Receipt", "Repository", "UserScope", "of_user"]


Model = TypeVar("Model")


@dataclass(frozen=True, slots=True)
class Reading:
    """The answer to a read.

    Attributes:
        rows: the rows; what a row is, the method says.
        as_of: when ClickHouse was asked, aware UTC.
        stale: whether it is an earlier answer, given because ClickHouse cannot be asked now.
    """

    rows: Sequence[Any]
    as_of: dt.datetime
    stale: bool = False


class Repository(Generic[Model]):
    """Inserts and reads of one table.

    Args:
        sessions: makes guarded sessions.
        writer: gives the writer, which is asked for at the first write; without it there are reads alone.
        stale_if_error: seconds: how old an answer may be that stands in where ClickHouse cannot answer; 0 for none.
    """

    model: ClassVar[Any]
    #: The column by which rows are recent, and that a recorded row without one gets now.
    time_column: ClassVar[str] = "timestamp"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        name_calls(cls)

    def __init__(
        self, sessions: SessionFactory, writer: Callable[[], Writer] | None = None, *, stale_if_error: float = 0.0
    ) -> None:
        self._sessions = sessions
        self._find_writer = writer
        self._options = {"stale_if_error": stale_if_error} if stale_if_error else {}
        self._table: sa.Table = self.model.__table__

    # -- writing -------------------------------------------------------------

    def record(self, row: Any = None, /, **columns: Any) -> None:
        """Keep one row on this machine's disk, to be sent with others; it is durable when this returns.

        Args:
            row: a dict, a dataclass or a model instance; or
            columns: the row's values by column name. Where a dict or they say no time, it is now.

        Raises:
            InvalidRow: the table can never accept it.
            SpoolFull: there is no room on disk.
            TypeError: it has both, or ``row`` is no row.
        """
        if row is None:
            row = columns
        elif columns:
            raise TypeError("record() takes a row or its columns, not both")
        if isinstance(row, Mapping):
            row = {self.time_column: now(), **row}
        self._writer().record(self.model, row)

    def insert(
        self, rows: Any, *, on_invalid: Literal["raise", "quarantine"] = "raise", timeout: float | None = None
    ) -> Receipt:
        """Insert rows at once; none of them when one is wrong.

        Each batch (up to 100,000 rows) is stored whole or not at all, and its summaries with it. What ClickHouse
        cannot take now is kept on this machine's disk, and gets there once.

        Args:
            rows: a list of dicts, dataclasses or model instances, an Arrow table, or a data frame.
            on_invalid: with ``"quarantine"``, bad rows are put aside and the others go in.
            timeout: seconds to wait for ClickHouse with each batch before it is kept on disk.

        Returns:
            The receipt: whether they are stored, or spooled.

        Raises:
            InvalidRow: rows that the table can never accept; nothing was sent.
            SpoolFull: ClickHouse is away, and there is no room on disk.
            sqlalchemy.exc.DBAPIError: ClickHouse refused a batch; the error's notes say which ones are in.
        """
        return self._writer().insert(self.model, rows, on_invalid=on_invalid, timeout=timeout)

    def insert_batch(self, batch: Batch) -> Receipt:
        """Insert a batch that its caller has frozen and keeps: past the spool, as one block, all of its rows or none.

        Raises:
            BreakerOpen: ClickHouse is not asked at present; nothing was sent.
            sqlalchemy.exc.DBAPIError: ClickHouse did not take it, or did not say.
        """
        with self._sessions() as session:
            send(session.connection(), batch, Attempt(batch.token))
        return Receipt(batch.rows, (batch.token,))

    def _writer(self) -> Writer:
        if self._find_writer is None:
            raise NetraError(f"this {type(self).__name__} was given no writer: write through DataAccess")
        return self._find_writer()

    # -- reading -------------------------------------------------------------

    def recent(self, limit: int = 100, *, user_id: UserScope) -> Reading:
        """Return the newest rows.

        Args:
            limit: how many at most.
            user_id: whose rows.

        Returns:
            A reading whose rows are instances of the model, newest first.
        """
        if limit < 1:
            raise NetraError(f"limit must be 1 at least, not {limit}")
        time = self._time_column
        statement = self._scoped(select(self.model), user_id).order_by(time.desc()).limit(limit)
        return self._read(statement, user_id, entities=True)

    def count(self, *, user_id: UserScope) -> int:
        """Return how many rows there are."""
        statement = self._scoped(select(sa.func.count()).select_from(self.model), user_id)
        ((count,),) = self._read(statement, user_id).rows
        return int(count)

    def count_by(
        self,
        *columns: str,
        user_id: UserScope,
        since: dt.datetime | None = None,
        until: dt.datetime | None = None,
        limit: int = 1000,
    ) -> Reading:
        """Count rows for each combination of values of ``columns``.

        Args:
            columns: names of columns, one at least.
            user_id: whose rows.
            since: from this time on, inclusive.
            until: up to this time, exclusive.
            limit: how many combinations at most.

        Returns:
            A reading whose rows carry ``columns`` and ``count``, largest count first.

        Raises:
            NetraError: the table has no such column.
        """
        keys = [self._column(name) for name in columns]
        if not keys:
            raise NetraError("count_by() needs the name of one column at least")
        statement = (
            self._scoped(select(*keys, sa.func.count().label("count")), user_id, since, until)
            .group_by(*keys)
            .order_by(sa.desc("count"), *keys)
            .limit(limit)
        )
        return self._read(statement, user_id)

    def _read(self, statement: Any, user_id: UserScope, *, entities: bool = False) -> Reading:
        asked_at = dt.datetime.now(dt.UTC)
        # The statement says whose rows; the session of that user says it once more, and the server holds to it.
        with self._sessions() if user_id is EVERYONE else self._sessions.for_user(user_id) as session:
            execute = session.scalars if entities else session.execute
            result = execute(statement, execution_options=self._options)
            fresh = freshness(result)
            rows: Sequence[Any] = result.all()
        return Reading(rows, asked_at) if fresh is None else Reading(rows, fresh.as_of, fresh.stale)

    def _daily(
        self, target: Any, user_id: UserScope, since: dt.date | None = None, until: dt.date | None = None
    ) -> Reading:
        """Read the summary that ``target`` keeps of this table: keys and finished measures, in order of its keys."""
        (declared,) = (found for found in (*analytics.SUMMARIES, *traces.SUMMARIES) if found.target is target)
        statement = of_user(declared.query, target, user_id)
        if isinstance(since, dt.datetime) or isinstance(until, dt.datetime):
            raise NetraError("since and until of a daily summary are days (datetime.date), not times")
        if since is not None:
            statement = statement.where(target.day >= since)
        if until is not None:
            statement = statement.where(target.day < until)
        return self._read(statement.order_by(*(getattr(target, key) for key in declared.keys)), user_id)

    @property
    def _time_column(self) -> Any:
        return getattr(self.model, self.time_column)

    def _column(self, name: str) -> Any:
        if name not in self._table.columns:
            raise NetraError(f"{self._table.fullname} has no column {name!r}; it has {', '.join(self._table.c.keys())}")
        # By the column: its attribute may have another name (metadata_ for metadata).
        return sa.inspect(self.model).get_property_by_column(self._table.columns[name]).class_attribute

    def _scoped(
        self, statement: Any, user_id: UserScope, since: dt.datetime | None = None, until: dt.datetime | None = None
    ) -> Any:
        statement = of_user(statement, self.model, user_id)
        if since is not None:
            statement = statement.where(self._time_column >= since)
        if until is not None:
            statement = statement.where(self._time_column < until)
        return statement


def of_user(statement: Any, model: Any, user_id: UserScope) -> Any:
    """Restrict ``statement`` to one user's rows of ``model``.

    Raises:
        NetraError: ``user_id`` is neither a user's id nor EVERYONE, or the rows belong to nobody.
    """
    if user_id is EVERYONE:
        return statement
    if USER_ID not in model.__table__.columns:
        raise NetraError(f"{model.__table__.fullname} has no {USER_ID}: its rows are no user's, so pass EVERYONE")
    if not isinstance(user_id, str) or not user_id:
        raise NetraError(f"user_id must be a user's id, not {user_id!r}; for all users' rows pass EVERYONE")
    return statement.where(model.user_id == user_id)
