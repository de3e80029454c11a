"""What every repository does: insert batches, read rows of one user, count by columns.

A read says whose rows it wants. ``user_id`` is required and never empty: :data:`EVERYONE` is asked for by name, so
that a forgotten argument is an error and not everybody's data.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy import orm

from netra_chdb.dialect import select
from netra_chdb.errors import NetraError
from netra_chdb.ingest.batch import Batch, RowChecker, to_rows
from netra_chdb.ingest.receipt import Receipt
from netra_chdb.scope import EVERYONE, UserScope
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
        stale_if_error: seconds: how old an answer may be that stands in where ClickHouse cannot answer; 0 for none.
    """

    model: ClassVar[Any]

    def __init__(self, sessions: SessionFactory, *, stale_if_error: float = 0.0) -> None:
        self._sessions = sessions
        self._options = {"stale_if_error": stale_if_error} if stale_if_error else {}
        self._table: sa.Table = self.model.__table__
        self._checker = RowChecker(self._table)

    # -- writing -------------------------------------------------------------

    def insert(self, rows: Any) -> Receipt:
        """Insert rows; none of them when one is wrong.

        Each batch (up to 100,000 rows) is stored whole or not at all. When one of several fails, those before it are
        stored: the error's notes name them, and the batch whose fate its caller has to find out.

        Args:
            rows: a list of dicts, dataclasses or model instances, an Arrow table, or a data frame.

        Returns:
            The receipt; each batch is a block of its own with its own deduplication token.

        Raises:
            InvalidRow: rows that the table can never accept; nothing was sent.
            BreakerOpen: ClickHouse is not asked at present.
            sqlalchemy.exc.DBAPIError: ClickHouse did not take them.
        """
        # Every row of the input is checked before the first batch is sent.
        batches = list(self._checker.batches(to_rows(rows)))
        stored: list[str] = []
        with self._sessions() as session:
            for batch in batches:
                try:
                    self._send(session, batch)
                except Exception as error:
                    error.add_note(
                        f"{self._table.fullname}: stored before are {len(stored)} of {len(batches)} batches "
                        f"({', '.join(stored) or 'none'}); this one is batch_id {batch.batch_id}, "
                        f"{batch.rows} rows, created_at {batch.created_at.isoformat()}"
                    )
                    raise
                stored.append(str(batch.batch_id))
        return Receipt(sum(batch.rows for batch in batches), tuple(str(batch.batch_id) for batch in batches))

    def insert_batch(self, batch: Batch) -> Receipt:
        """Insert a batch that is frozen already, as one block: all of its rows, or none.

        Raises:
            BreakerOpen: ClickHouse is not asked at present.
            sqlalchemy.exc.DBAPIError: ClickHouse did not take it, or did not say.
        """
        with self._sessions() as session:
            self._send(session, batch)
        return Receipt(batch.rows, (str(batch.batch_id),))

    def _send(self, session: orm.Session, batch: Batch) -> None:
        settings = {"async_insert": 0, "insert_deduplication_token": batch.token}
        rows = [dict(zip(batch.columns, values, strict=True)) for values in zip(*batch.data, strict=True)]
        session.execute(_bare_insert(batch), rows, execution_options={"settings": settings})

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

    @property
    def _time_column(self) -> Any:
        return self.model.timestamp

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
        NetraError: ``user_id`` is neither a user's id nor EVERYONE.
    """
    if user_id is EVERYONE:
        return statement
    if not isinstance(user_id, str) or not user_id:
        raise NetraError(f"user_id must be a user's id, not {user_id!r}; for all users' rows pass EVERYONE")
    return statement.where(model.user_id == user_id)


def _bare_insert(batch: Batch) -> Any:
    # Values are frozen as the driver wants them: the model's types must not convert them a second time.
    columns: list[Any] = [sa.column(name) for name in batch.columns]
    return sa.insert(sa.table(batch.table.name, *columns, schema=batch.table.schema))
