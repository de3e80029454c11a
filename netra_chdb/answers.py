"""Reads that may be answered from the store: each on a line of its own, which fails without hurting its session.

To SQLAlchemy the line is a DBAPI connection whose cursor asks ClickHouse over the engine's pool and keeps the rows,
or takes them from the store where ClickHouse cannot answer. Types, entities, loading are SQLAlchemy's own either way.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime as dt
import platform
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import pybreaker
import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy import pool
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from netra_chdb.dialect.connect_dbapi import render
from netra_chdb.dialect.rows import Rows
from netra_chdb.dialect.sql_text import first_keyword
from netra_chdb.errors import NetraError, classify
from netra_chdb.resilience.deadline import left
from netra_chdb.resilience.store import Answer, AnswerStore, key_of

__all__ = ["Answers", "Freshness"]

T = TypeVar("T")
OPTION: Final = "stale_if_error"
_READS: Final = frozenset({"SELECT", "WITH", "FROM"})
# They change how long a read may take or what it is called, never its rows.
_NEUTRAL: Final = frozenset({"max_execution_time", "timeout_overflow_mode", "log_comment", "query_id", "priority"})


@dataclass(frozen=True, slots=True)
class Freshness:
    """Of when an answer is.

    Attributes:
        as_of: when ClickHouse was asked, aware UTC; rows stored later may be missing.
        stale: whether it is an earlier answer, given because ClickHouse cannot answer now.
    """

    as_of: dt.datetime
    stale: bool = False


class Answers:
    """Answers the reads of one engine, from ClickHouse or from the store.

    Args:
        engine: where ClickHouse is asked; what guards it, guards these reads.
        store: keeps the answers.
        user_of: says which user's rows an engine is for; None stands for everyone's.
    """

    def __init__(self, engine: sa.Engine, store: AnswerStore, user_of: Callable[[sa.Engine], str | None]) -> None:
        self.store = store
        self._user_of = user_of
        self._engine = engine
        self._origin = _origin(engine.url)
        self._lines = pool.NullPool(_Line, dialect=engine.dialect)  # type: ignore[arg-type]
        self._lock = threading.Lock()
        self._running: dict[str, concurrent.futures.Future[bytes | None]] = {}

    def connect(self, bind: sa.Engine, max_age: float, **options: Any) -> sa.Connection:
        """Return a connection of ``bind`` for one read; ClickHouse is not asked before the read itself.

        Args:
            bind: the session's engine; whose rows it is for, decides whose answers these are.
            max_age: how many seconds old an answer may be that stands in.
            options: execution options for asking ClickHouse.
        """
        line = self._lines.connect()
        connected: Any = line.dbapi_connection
        connected.ask = _Question(self, self._user_of(bind), max_age, options)
        return sa.Connection(bind, connection=line)

    def answer(
        self, question: _Question, sql: str, parameters: Any, settings: Mapping[str, Any]
    ) -> tuple[Answer, bool]:
        """Return the answer to a read, and whether it comes from the store.

        Raises:
            NetraError: the statement is no SELECT.
            Exception: ClickHouse cannot answer, and the store has no answer that is young enough; or it refused.
        """
        if first_keyword(sql) not in _READS:
            raise NetraError(f"stale_if_error is for SELECT, not {first_keyword(sql)}")
        key = key_of(
            origin=self._origin,
            scope=["everyone"] if question.user_id is None else ["user", question.user_id],
            # Literals carry their types: 1, 1.0, '1' and true are different questions.
            sql=render(sql, parameters),
            settings={name: value for name, value in settings.items() if name not in _NEUTRAL},
        )

        def ask() -> Answer:
            as_of = self.store.now()
            options = {**question.options, "settings": dict(settings)}
            with self._engine.connect() as connection:
                cursor: Any = connection.exec_driver_sql(sql, parameters or None, execution_options=options).cursor
                return Answer(as_of, list(cursor.description), cursor.fetchall())

        try:
            return self._shared(key, sql, ask), False
        except Exception as error:
            stale = self._stale(key, question.max_age, error)
            if stale is None:
                raise
            return stale, True

    def _stale(self, key: str, max_age: float, error: Exception) -> Answer | None:
        cannot_answer = isinstance(error, pybreaker.CircuitBreakerError | sa_exc.TimeoutError)
        if not cannot_answer and not classify(error).is_systemic:
            return None
        return self._off_loop(lambda: self.store.get(key, max_age))

    def _shared(self, key: str, sql: str, ask: Callable[[], Answer]) -> Answer:
        """Ask once for all who ask the same at the same time; each gets rows of its own."""
        with self._lock:
            running = self._running.get(key)
            if running is None:
                mine = self._running[key] = concurrent.futures.Future[bytes | None]()
                mine.set_running_or_notify_cancel()  # a waiter that is cancelled does not cancel it
        if running is not None:
            try:
                payload = _wait(running)
            except TimeoutError as error:
                dbapi: Any = self._engine.dialect.loaded_dbapi
                late = dbapi.OperationalError(
                    "the timeout is over; another read, which asks the same, has no answer yet"
                )
                late.__cause__ = error
                raise sa_exc.OperationalError(sql, None, late) from late
            # Without one, the other had an error or no form in bytes.
            return ask() if payload is None else self.store.read(payload, key)
        payload = None
        try:
            answer = ask()
            payload = self._off_loop(lambda: self.store.put(key, answer))
            return answer
        finally:
            with self._lock:
                del self._running[key]
            mine.set_result(payload)

    def _off_loop(self, function: Callable[[], T]) -> T:
        # An event loop must not wait for Redis.
        if self.store.remote and in_greenlet():
            return await_only(asyncio.to_thread(function))
        return function()


def _wait(running: concurrent.futures.Future[bytes | None]) -> bytes | None:
    if in_greenlet():
        return await_only(asyncio.wait_for(asyncio.wrap_future(running), left()))
    return running.result(left())


def _origin(url: sa.URL) -> list[str]:
    """Return what tells one server's answers from another's, without a password."""
    if url.drivername != "clickhouse+chdb":
        return [url.set(password=None).render_as_string()]
    # Embedded engines of several machines or processes may share a Redis.
    where = str(Path(url.database).absolute()) if url.database else uuid.uuid4().hex
    return [url.drivername, platform.node(), where]


@dataclass(frozen=True, slots=True)
class _Question:
    """What a read wants besides its rows."""

    answers: Answers
    user_id: str | None
    max_age: float
    options: dict[str, Any]


class _Line:
    """A DBAPI connection to nothing, for one read."""

    lost = False
    ask: _Question
    freshness: Freshness | None = None

    @property
    def driver_connection(self) -> Any:
        return self

    def cursor(self, *, streaming: bool = False) -> _Cursor:
        return _Cursor(self)

    def commit(self) -> None:
        """Nothing is pending."""

    rollback = close = terminate = commit


class _Cursor:
    """The rows of one answer."""

    arraysize = 1
    #: The guard of the engine leaves it to the connection that ClickHouse is asked over.
    is_guarded = True

    def __init__(self, line: _Line) -> None:
        self._line = line
        self.description: list[tuple[Any, ...]] | None = None
        self.rowcount = -1
        self._rows: list[Any] = []
        self._position = 0

    def execute(self, operation: str, parameters: Any = None, *, settings: Mapping[str, Any] | None = None) -> None:
        ask = self._line.ask
        answer, stale = ask.answers.answer(ask, operation, parameters, settings or {})
        self._line.freshness = Freshness(answer.as_of, stale)
        self.description = list(answer.columns)
        self._rows = list(answer.rows)
        self.rowcount = len(self._rows)

    def fetchone(self) -> Any:
        return next(iter(self.fetchmany(1)), None)

    def fetchmany(self, size: int | None = None) -> list[Any]:
        start = self._position
        self._position = min(len(self._rows), start + (self.arraysize if size is None else size))
        return self._rows[start : self._position]

    def fetchall(self) -> list[Any]:
        return Rows(self.fetchmany(len(self._rows)))

    def close(self) -> None:
        self._rows, self._position = [], 0

    async def _async_soft_close(self) -> None:
        """SQLAlchemy's asyncio calls this before it hands out a result; there is nothing to wait for."""
