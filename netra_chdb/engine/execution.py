"""The guard of an engine: breaker and retry, in the events that execute statements and open connections.

They stand there and not in the session, where a retry loses pending objects and flushes pass unseen. A connection
that died under a statement is replaced in place, so that Core, ORM and async go on with it as if nothing had been.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
from pybreaker import STATE_OPEN
from sqlalchemy import event
from sqlalchemy.ext import asyncio as sa_asyncio
from sqlalchemy.util import await_only
from sqlalchemy.util.concurrency import in_greenlet

from netra_chdb.dialect.sql_text import changes_nothing
from netra_chdb.engine.either import sync_engine
from netra_chdb.engine.pool import PoolEvents, pool_events
from netra_chdb.errors import Statement, classify
from netra_chdb.resilience.breaker import CircuitBreaker
from netra_chdb.resilience.deadline import checked_timeout, left
from netra_chdb.resilience.permit import Permit
from netra_chdb.resilience.retry import RetryPolicy

__all__ = ["guard"]

_RENEWING: Final = "netra_renewing"
# The server's own limit comes first: its answer leaves the connection as it was, giving up here does not.
_GRACE: Final = 0.25
_SHORTEST: Final = 0.001


def guard(
    engine: sa.Engine | sa_asyncio.AsyncEngine, breaker: CircuitBreaker, retry: RetryPolicy | None = None
) -> None:
    """Let every statement on ``engine`` pass ``breaker``, and try again what failed where that is safe.

    Only what says something about the server counts: a syntax error, an unknown table or a refused value is the
    caller's, and neither opens the breaker nor closes it. A statement with all its retries counts as one.

    A read is repeated, also on a new connection, as long as none of its rows has been handed out; anything else only
    when it was surely not executed. ``execution_options(timeout=seconds)`` bounds all attempts together and is sent
    to the server as ``max_execution_time`` as well; a user with ``readonly=1`` may not set that, and gets error 164.
    A server that does not even answer is given up a quarter of a second after that, and killing the query there takes
    three seconds at most. A session opens the statement's connection within the same seconds; with
    ``engine.connect()`` that is a step of the caller's own. ``execution_options(netra_statement="batch")`` marks a
    statement whose sender finds out its fate itself: it is sent once. ``"other"`` marks a read that must not be
    repeated.

    Args:
        engine: the engine; a second call with the same breaker changes nothing.
        breaker: stands before the first attempt; when it opens, retries stop.
        retry: how to try again; None: not at all.

    Raises:
        ValueError: another breaker guards this engine already.
    """
    sync = sync_engine(engine)
    events = pool_events(sync)
    if events.breaker is breaker:
        return
    if events.breaker is not None:
        raise ValueError(f"this engine is guarded by another breaker: {events.breaker.name}")
    events.breaker = breaker
    made = _Guard(events, breaker, retry)
    for name in ("do_execute", "do_execute_no_params", "do_executemany"):
        event.listen(sync, name, made.listener(getattr(sync.dialect, name)))
    events.connect_through = made.connect
    events.ping_through = made.ping


class _Guard:
    """What stands around the statements and the connecting of one engine."""

    def __init__(self, events: PoolEvents, breaker: CircuitBreaker, retry: RetryPolicy | None) -> None:
        self.events = events
        self.breaker = breaker
        self.retry = retry
        self.clock = retry.clock if retry is not None else time.monotonic

    def listener(self, execute: Callable[..., Any]) -> Callable[..., Any]:
        """Return what SQLAlchemy calls in the place of the dialect's ``execute``."""

        def guarded(cursor: Any, *arguments: Any) -> bool:
            if getattr(cursor, "is_guarded", False):
                return False  # it asks over a connection of this engine itself, and that is where the guard stands
            permit = self.breaker.admit()
            try:
                _Execution(self, execute, cursor, arguments).run()
            except Exception as error:
                _failed(permit, error)
                raise
            except BaseException:
                permit.release()
                raise
            permit.succeed()
            return True  # for: done, do not do it again

        return guarded

    def connect(self, dialect: Any, record: Any, cargs: Any, cparams: Any) -> Any:
        """Open a connection: with retries of its own, or as a part of a statement's attempt."""
        execution: _Execution | None = record.record_info.get(_RENEWING)
        if execution is not None:
            # The statement has its permit, and it is the statement that is tried again.
            return self.events.attempt(dialect, record, cargs, self._in_time(cparams, execution.deadline))
        permit = self.breaker.admit()
        try:
            if self.retry is None:
                return self.events.attempt(dialect, record, cargs, self._in_time(cparams, self.by(left())))
            deadline = self.by(self.retry.connect_within, left())
            return self.retry.run(
                lambda: self.events.attempt(dialect, record, cargs, self._in_time(cparams, deadline)),
                statement=Statement.READ,
                deadline=deadline,
                sleep=sleep,
                before_retry=self.count_retry,
                stopped=self.is_open,
            )
        except Exception as error:
            _failed(permit, error)
            raise
        finally:
            permit.release()  # a connection that opens does not prove that statements run

    def _in_time(self, cparams: dict[str, Any], deadline: float | None) -> dict[str, Any]:
        limits = [self.retry.attempt_timeout] if self.retry is not None else []
        if deadline is not None:
            limits.append(max(_SHORTEST, deadline - self.clock()))
        return {**cparams, "open_within": min(limits)} if limits and "hosts" in cparams else cparams

    def by(self, *seconds: float | None) -> float | None:
        """Return when the shortest of these will be over, by the clock of the retries; None for no limit at all."""
        limits = [limit for limit in seconds if limit is not None]
        return self.clock() + min(limits) if limits else None

    def ping(self, connection: Any) -> None:
        """Ask an idle connection for a sign of life, unless the breaker is open."""
        permit = self.breaker.admit()
        dialect = self.events.dialect
        limits = (self.retry.attempt_timeout if self.retry is not None else None, left())
        try:
            if known := [max(_SHORTEST, limit) for limit in limits if limit is not None]:
                dialect.limit_wait(connection, min(known))
            # No answer is no failure: after a restart every idle connection is dead, and the server is well.
            connection.ping()
            dialect.limit_wait(connection, None)
        finally:
            permit.release()

    def is_open(self) -> bool:
        """Whether the breaker has opened since."""
        return self.breaker.current_state == STATE_OPEN

    def count_retry(self, error: BaseException, delay: float) -> None:
        """Count an attempt after the first one."""
        self.events.count("retry_attempts")


def _failed(permit: Permit, error: Exception) -> None:
    if classify(error).is_systemic:
        permit.fail(error)
    else:
        permit.release()


class _Execution:
    """One statement with all its attempts."""

    __slots__ = ("arguments", "broken", "context", "cursor", "deadline", "error", "execute", "final", "guard", "kind")

    def __init__(self, guard: _Guard, execute: Callable[..., Any], cursor: Any, arguments: tuple[Any, ...]) -> None:
        self.guard = guard
        self.execute = execute
        self.cursor = cursor
        self.arguments = arguments
        self.context = arguments[-1]
        self.kind = self._kind()
        timeout = checked_timeout(self.context.execution_options.get("timeout"))
        # What a flush on the way sends was given no limit; what a new connection is asked has the one of its statement.
        limited = timeout is not None or self.kind is Statement.READ
        self.deadline = guard.by(timeout, left() if limited else None)
        self.error: Exception | None = None
        self.broken = self.final = False

    def run(self) -> None:
        """Make the first attempt, and others where the policy says so."""
        retry = self.guard.retry
        if retry is None or self.kind is Statement.BATCH:
            self.attempt()
            return
        try:
            retry.run(
                self.attempt,
                statement=self.kind,
                deadline=self.deadline,
                sleep=sleep,
                before_retry=self.guard.count_retry,
                stopped=self.stopped,
            )
        finally:
            if self.broken:
                # Nothing has taken the dead connection's place; SQLAlchemy is to know that before it goes on.
                self.context.root_connection.invalidate(self.error)
            self.error = None  # its traceback leads back here

    def _kind(self) -> Statement:
        context = self.context
        named = context.execution_options.get("netra_statement")
        if named is not None:
            return Statement(named)
        if context.executemany and context.insert_block is None:
            # Sent row by row: what is refused now may stand behind rows that are stored.
            return Statement.BATCH
        return Statement.READ if changes_nothing(self.arguments[0]) else Statement.OTHER

    def stopped(self) -> bool:
        """Whether there is no sense in another attempt."""
        return self.final or self.guard.is_open()

    def attempt(self) -> None:
        """Make one attempt, on a new connection if the last one broke."""
        try:
            if self.error is not None:
                self._prepare_again(self.error)
            if self.deadline is None:
                self.execute(self.cursor, *self.arguments)
            else:
                self._execute_in_time(self.deadline - self.guard.clock())
        except Exception as error:
            self.error = error
            raise

    def _execute_in_time(self, seconds: float) -> None:
        context = self.context
        seconds = context.time_limit = max(_SHORTEST, seconds)
        connection = context.root_connection.connection.dbapi_connection
        context.dialect.limit_wait(connection, seconds + _GRACE, in_all=True)
        try:
            self.execute(self.cursor, *self.arguments)
        finally:
            context.dialect.limit_wait(connection, None)

    def _prepare_again(self, error: Exception) -> None:
        context = self.context
        proxy = context.root_connection.connection
        if self.broken or context.dialect.is_disconnect(error, proxy, self.cursor):
            record = getattr(proxy, "_connection_record", None)
            if record is None or not record.in_use:
                # Detached from its pool, or still being opened by it: no other connection can take its place.
                self.final = True
                raise error
            self._renew(proxy, record, error)

    def _renew(self, proxy: Any, record: Any, error: Exception) -> None:
        """Replace the dead connection in place, as SQLAlchemy's pool does at checkout: nobody waits for the pool."""
        if not self.broken:
            self.guard.events.lost(proxy.dbapi_connection)
            self.broken = True
        record.invalidate(error)
        record.record_info[_RENEWING] = self
        try:
            proxy.dbapi_connection = record.get_connection()
        finally:
            del record.record_info[_RENEWING]
        self.broken = False
        self.guard.events.renewed(record)
        # SQLAlchemy's own frame keeps the old cursor for its events; rows it takes from the context's.
        self.context.cursor = self.cursor = self.context.create_cursor()


def sleep(seconds: float) -> None:
    """Wait; in a greenlet of SQLAlchemy's, without holding up the event loop."""
    if in_greenlet():
        await_only(asyncio.sleep(seconds))
    else:
        time.sleep(seconds)
