"""What happens to the connections of a pool: counted, asked when idle, dropped after a restart, left to the parent."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy import exc as sa_exc
from sqlalchemy.ext import asyncio as sa_asyncio

from netra_chdb.engine.either import sync_engine
from netra_chdb.errors import BreakerOpen
from netra_chdb.resilience.breaker import CircuitBreaker
from netra_chdb.resilience.deadline import left

__all__ = ["PoolCounters", "PoolEvents", "pool_counters", "pool_events"]

_EVENTS: Final[weakref.WeakKeyDictionary[sa.Engine, PoolEvents]] = weakref.WeakKeyDictionary()
_COUNTED: Final = (
    *("connection_attempts", "successful_connections", "failed_connections", "retry_attempts", "pool_hits"),
    *("pool_misses", "checkouts", "checkins", "invalidations", "consecutive_failures"),
)
_NEW: Final = "netra_new"
_OPENED: Final = "netra_opened"
_IDLE_SINCE: Final = "netra_idle_since"
_UNASKED: Final = "netra_unasked"
_OUT: Final = "netra_out"
# A new connection is asked once how long its server has been up.
_UPTIME_WITHIN: Final = 5.0


@dataclass(frozen=True, slots=True)
class PoolCounters:
    """What an engine's connections have done so far, and how they stand.

    Attributes:
        connection_attempts: attempts to open a connection.
        successful_connections: those that succeeded.
        failed_connections: those that failed.
        retry_attempts: attempts after the first one, of statements and of connecting.
        pool_hits: checkouts served by a connection that was already open.
        pool_misses: checkouts that had to open one.
        checkouts: connections handed out.
        checkins: connections given back.
        invalidations: connections thrown away.
        consecutive_failures: failed attempts to connect since the last success.
        last_successful_connection: when an attempt last succeeded, aware UTC; None before the first.
        connection_state: ``"never"``, ``"connected"`` or ``"failing"``, by the last attempt.
        circuit_breaker_opens: how often the breaker that guards the engine has opened; 0 without one.
        circuit_breaker_state: its state; None without one.
    """

    connection_attempts: int = 0
    successful_connections: int = 0
    failed_connections: int = 0
    retry_attempts: int = 0
    pool_hits: int = 0
    pool_misses: int = 0
    checkouts: int = 0
    checkins: int = 0
    invalidations: int = 0
    consecutive_failures: int = 0
    last_successful_connection: dt.datetime | None = None
    connection_state: str = "never"
    circuit_breaker_opens: int = 0
    circuit_breaker_state: str | None = None


class PoolEvents:
    """Listens to one engine's pool.

    Args:
        engine: the engine.
        check_idle_after: seconds after which an idle connection is asked for a sign of life at checkout.
        clock: monotonic seconds.

    Attributes:
        dialect: the engine's.
        breaker: what guards the engine; None before it is guarded.
        connect_through: how a connection is opened; what guards the engine stands around :meth:`attempt`. SQLAlchemy
            asks listeners of ``do_connect`` in the order of listening, and the first one that connects is the last one
            asked: a second listener would stand behind this one, not around it.
        ping_through: how an idle connection is asked, likewise.
    """

    def __init__(self, engine: sa.Engine, check_idle_after: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.dialect: Any = engine.dialect
        self._check_idle_after = check_idle_after
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[str, int] = dict.fromkeys(_COUNTED, 0)
        self._last_success: dt.datetime | None = None
        # By host: connections that were opened before this have lost their server, which was started since.
        self._stale_before: dict[Any, float] = {}
        self._suspicious = False
        self.breaker: CircuitBreaker | None = None
        self.connect_through: Callable[..., Any] = self.attempt
        self.ping_through: Callable[[Any], Any] = _ping
        for name in ("do_connect", "connect", "checkout", "checkin", "invalidate", "handle_error"):
            event.listen(engine, name, getattr(self, name))

    def snapshot(self) -> PoolCounters:
        """Return the counters, all of one moment."""
        breaker = self.breaker.snapshot() if self.breaker is not None else None
        with self._lock:
            counts = dict(self._counts)
            last = self._last_success
        failing = counts["consecutive_failures"] > 0
        state = "failing" if failing else "connected" if counts["successful_connections"] else "never"
        return PoolCounters(
            **counts,
            last_successful_connection=last,
            connection_state=state,
            circuit_breaker_opens=breaker.times_opened if breaker is not None else 0,
            circuit_breaker_state=breaker.state if breaker is not None else None,
        )

    def count(self, *names: str) -> None:
        """Add one to each of these counters."""
        with self._lock:
            for name in names:
                self._counts[name] += 1

    # -- events, in the order in which a connection meets them -----------------

    def do_connect(self, dialect: Any, record: Any, cargs: Any, cparams: Any) -> Any:
        return self.connect_through(dialect, record, cargs, cparams)

    def attempt(self, dialect: Any, record: Any, cargs: Any, cparams: Any) -> Any:
        """Make one attempt to connect."""
        self.count("connection_attempts")
        try:
            connection = dialect.connect(*cargs, **cparams)
        except Exception:  # a cancelled task is neither a success nor a failure
            self.count("failed_connections", "consecutive_failures")
            raise
        with self._lock:
            self._counts["successful_connections"] += 1
            self._counts["consecutive_failures"] = 0
            self._last_success = dt.datetime.now(dt.UTC)
        return connection

    def connect(self, connection: Any, record: Any) -> None:
        if self._suspicious:
            self._look_for_restart(connection)
        now = self._clock()
        record.info.update({_NEW: True, _OPENED: now, _IDLE_SINCE: now})

    def checkout(self, connection: Any, record: Any, proxy: Any) -> None:
        new = record.info.pop(_NEW, False)
        now = self._clock()
        if not new:
            if record.info.get(_OPENED, now) < self._stale_before.get(self._address(connection), float("-inf")):
                # Tells the pool to replace this connection and hand out the new one.
                raise sa_exc.DisconnectionError("the server was restarted after this connection was opened")
            idle = now - record.info.get(_IDLE_SINCE, now)
            if idle > self._check_idle_after:
                self._ask(connection, record, idle)
        record.record_info[_OUT] = True
        self.count("checkouts", "pool_misses" if new else "pool_hits")

    def _ask(self, connection: Any, record: Any, idle: float) -> None:
        try:
            self.ping_through(connection)
        except BreakerOpen:
            # The statement will be refused as well; the connection is asked at its next checkout.
            record.info[_UNASKED] = True
        except Exception as error:
            self.lost(connection)
            raise sa_exc.DisconnectionError(f"no answer after {idle:.0f} s of idling") from error

    def checkin(self, connection: Any, record: Any) -> None:
        if not record.info.pop(_UNASKED, False):
            record.info[_IDLE_SINCE] = self._clock()
        # SQLAlchemy tells of a checkin, too, where no connection could be opened to be checked out.
        if record.record_info.pop(_OUT, False):
            self.count("checkins")

    def invalidate(self, connection: Any, record: Any, error: Any) -> None:
        self.count("invalidations")

    def handle_error(self, context: Any) -> None:
        if not context.is_disconnect:
            return
        # SQLAlchemy would replace every connection of the pool: right after a restart, a stampede after a cut line.
        context.invalidate_pool_on_disconnect = False
        connection = context.connection
        if connection is not None and not connection.invalidated:
            self.lost(connection.connection.dbapi_connection)

    # -- connections that are lost ---------------------------------------------

    def lost(self, connection: Any) -> None:
        """Hear of a connection that was lost: the next one that opens is asked whether the server was restarted."""
        self._suspicious = True
        self.dialect.connection_lost(connection)

    def renewed(self, record: Any) -> None:
        """Hear of a connection that was replaced while it was handed out: its checkout is counted already."""
        record.info.pop(_NEW, None)

    def _look_for_restart(self, connection: Any) -> None:
        cursor = connection.cursor()
        try:
            limit = left()
            self.dialect.limit_wait(connection, _UPTIME_WITHIN if limit is None else min(_UPTIME_WITHIN, limit))
            cursor.execute("SELECT uptime()")
            uptime = float(cursor.fetchone()[0])
        except self.dialect.loaded_dbapi.Error:
            return  # it is lost as well, as the statement that it was opened for will find out
        finally:
            with contextlib.suppress(self.dialect.loaded_dbapi.Error):
                cursor.close()
                self.dialect.limit_wait(connection, None)
        self._suspicious = False
        self._stale_before[self._address(connection)] = self._clock() - uptime

    def _address(self, connection: Any) -> Any:
        return getattr(self.dialect.get_driver_connection(connection), "address", None)

    def forked(self, engine: sa.Engine) -> None:
        """In a forked child: leave the parent's sockets to the parent, and begin with a pool of its own."""
        self._lock = threading.Lock()  # another thread of the parent's may have held it
        engine.dispose(close=False)


def _ping(connection: Any) -> None:
    connection.ping()


def _after_fork() -> None:
    for engine, events in list(_EVENTS.items()):
        events.forked(engine)


os.register_at_fork(after_in_child=_after_fork)


def pool_events(engine: sa.Engine | sa_asyncio.AsyncEngine, check_idle_after: float = 60.0) -> PoolEvents:
    """Return what listens to the pool of ``engine``; made at the first call."""
    sync = sync_engine(engine)
    if sync not in _EVENTS:
        _EVENTS[sync] = PoolEvents(sync, check_idle_after)
    return _EVENTS[sync]


def pool_counters(engine: sa.Engine | sa_asyncio.AsyncEngine) -> PoolCounters:
    """Return the counters of an engine that is guarded, or that ``create_engine`` or ``create_async_engine`` made.

    Raises:
        KeyError: the engine was made elsewhere, and is not guarded.
    """
    return _EVENTS[sync_engine(engine)].snapshot()
