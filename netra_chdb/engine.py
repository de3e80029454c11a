"""The only place where connections are made: URL to engine, sync or async, its pool's events, its guard.

Counters carry the names that operators know. An idle connection is asked for a sign of life before it is handed
out; the breaker stands in the execution events, so that Core, ORM, flush and Alembic all pass it.
"""

from __future__ import annotations

import datetime as dt
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

import netra_chdb.dialect  # noqa: F401  # registers the dialect's names
from netra_chdb.config import Config
from netra_chdb.errors import BreakerOpen, classify
from netra_chdb.resilience.breaker import CircuitBreaker

__all__ = ["PoolCounters", "create_async_engine", "create_engine", "guard", "pool_counters"]

_COUNTERS: Final[weakref.WeakKeyDictionary[sa.Engine, _Counting]] = weakref.WeakKeyDictionary()
_GUARDS: Final[weakref.WeakKeyDictionary[sa.Engine, CircuitBreaker]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class PoolCounters:
    """What the pool has done so far, and how it stands.

    Attributes:
        connection_attempts: attempts to open a connection.
        successful_connections: those that succeeded.
        failed_connections: those that failed.
        pool_hits: checkouts served by a connection that was already open.
        pool_misses: checkouts that had to open one.
        checkouts: connections handed out.
        checkins: connections given back.
        invalidations: connections thrown away.
        consecutive_failures: failed attempts since the last success.
        last_successful_connection: when an attempt last succeeded, aware UTC; None before the first.
        connection_state: ``"never"``, ``"connected"`` or ``"failing"``, by the last attempt.
    """

    connection_attempts: int = 0
    successful_connections: int = 0
    failed_connections: int = 0
    pool_hits: int = 0
    pool_misses: int = 0
    checkouts: int = 0
    checkins: int = 0
    invalidations: int = 0
    consecutive_failures: int = 0
    last_successful_connection: dt.datetime | None = None
    connection_state: str = "never"


class _Counting:
    """Counts the events of one engine's pool."""

    def __init__(self, check_idle_after: float, clock: Callable[[], float]) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = dict.fromkeys(
            (
                *("connection_attempts", "successful_connections", "failed_connections", "pool_hits", "pool_misses"),
                *("checkouts", "checkins", "invalidations", "consecutive_failures"),
            ),
            0,
        )
        self._last_success: dt.datetime | None = None
        self._check_idle_after = check_idle_after
        self._clock = clock
        # SQLAlchemy asks listeners of do_connect in the order of listening, and the first one that connects is the
        # last one asked: what a guard adds stands around this one's way to connect, not before it.
        self.connect_through: Callable[..., Any] = self.attempt
        self.ping_through: Callable[..., Any] = _ping

    def snapshot(self) -> PoolCounters:
        with self._lock:
            counts = dict(self._counts)
            last = self._last_success
        failing = counts["consecutive_failures"] > 0
        state = "failing" if failing else "connected" if counts["successful_connections"] else "never"
        return PoolCounters(**counts, last_successful_connection=last, connection_state=state)

    def _add(self, *names: str) -> None:
        with self._lock:
            for name in names:
                self._counts[name] += 1

    # -- events, in the order in which a connection meets them -----------------

    def do_connect(self, dialect: Any, record: Any, cargs: Any, cparams: Any) -> Any:
        return self.connect_through(dialect, record, cargs, cparams)

    def attempt(self, dialect: Any, record: Any, cargs: Any, cparams: Any) -> Any:
        self._add("connection_attempts")
        try:
            connection = _connect(dialect, record, cargs, cparams)
        except Exception:  # a cancelled task is neither a success nor a failure
            self._add("failed_connections", "consecutive_failures")
            raise
        with self._lock:
            self._counts["successful_connections"] += 1
            self._counts["consecutive_failures"] = 0
            self._last_success = dt.datetime.now(dt.UTC)
        return connection

    def connect(self, connection: Any, record: Any) -> None:
        record.info["netra_new"] = True
        record.info["netra_idle_since"] = self._clock()

    def checkout(self, connection: Any, record: Any, proxy: Any) -> None:
        new = record.info.pop("netra_new", False)
        idle = self._clock() - record.info.get("netra_idle_since", self._clock())
        if not new and idle > self._check_idle_after:
            try:
                self.ping_through(connection)
            except BreakerOpen:
                # The statement will be refused as well; the connection is asked at its next checkout.
                record.info["netra_unasked"] = True
            except Exception as error:
                # Tells the pool to replace this connection and hand out the new one.
                raise sa_exc.DisconnectionError(f"no answer after {idle:.0f} s of idling") from error
        self._add("checkouts", "pool_misses" if new else "pool_hits")

    def checkin(self, connection: Any, record: Any) -> None:
        if not record.info.pop("netra_unasked", False):
            record.info["netra_idle_since"] = self._clock()
        self._add("checkins")

    def invalidate(self, connection: Any, record: Any, error: Any) -> None:
        self._add("invalidations")


def create_engine(config_or_url: Config | sa.URL | str | None = None, **options: Any) -> sa.Engine:
    """Create a plain SQLAlchemy engine with its pool's events; nothing connects yet.

    Args:
        config_or_url: a :class:`~netra_chdb.config.Config`, a URL, or None for ``Config()``.
        options: passed to :func:`sqlalchemy.create_engine`; they win over the configuration's.

    Returns:
        The engine; :func:`pool_counters` reads what its pool does.

    Raises:
        ConfigError: the configuration is wrong.
    """
    url, options, check_idle_after = _prepared(config_or_url, options)
    engine = sa.create_engine(url, **options)
    _count(engine, check_idle_after)
    return engine


def create_async_engine(config_or_url: Config | sa.URL | str | None = None, **options: Any) -> sa_asyncio.AsyncEngine:
    """Create a plain async engine of SQLAlchemy's, on the same URLs as :func:`create_engine` and with the same events.

    A task that is cancelled while it waits for an answer has its query killed on the server. Read large results with
    ``stream()``: the rows of a plain ``execute()`` are made into a list while nothing else runs on the loop.

    Args:
        config_or_url: a :class:`~netra_chdb.config.Config`, a URL, or None for ``Config()``.
        options: passed to :func:`sqlalchemy.ext.asyncio.create_async_engine`; they win over the configuration's.

    Returns:
        The engine; :func:`pool_counters` reads what its pool does.

    Raises:
        ConfigError: the configuration is wrong.
    """
    url, options, check_idle_after = _prepared(config_or_url, options)
    engine = sa_asyncio.create_async_engine(url, **options)
    _count(engine.sync_engine, check_idle_after)
    return engine


def _prepared(
    config_or_url: Config | sa.URL | str | None, options: dict[str, Any]
) -> tuple[sa.URL | str, dict[str, Any], float]:
    """Return the URL, SQLAlchemy's options, and the seconds after which an idle connection is asked for life."""
    if config_or_url is None:
        config_or_url = Config()
    check_idle_after = options.pop("check_idle_after", None)
    if isinstance(config_or_url, Config):
        config = config_or_url
        url: sa.URL | str = config.sqlalchemy_url
        check_idle_after = config.health_check_interval if check_idle_after is None else check_idle_after
        if "poolclass" not in options:
            options = {
                "pool_size": config.pool_size,
                "max_overflow": config.max_overflow,
                "pool_timeout": config.pool_timeout,
                "pool_recycle": config.pool_recycle,
                **options,
            }
    else:
        url = config_or_url
    return url, options, 60.0 if check_idle_after is None else check_idle_after


def _count(engine: sa.Engine, check_idle_after: float) -> None:
    counting = _Counting(check_idle_after, time.monotonic)
    for name in ("do_connect", "connect", "checkout", "checkin", "invalidate"):
        event.listen(engine, name, getattr(counting, name))
    _COUNTERS[engine] = counting


def _sync(engine: sa.Engine | sa_asyncio.AsyncEngine) -> sa.Engine:
    return engine.sync_engine if isinstance(engine, sa_asyncio.AsyncEngine) else engine


def pool_counters(engine: sa.Engine | sa_asyncio.AsyncEngine) -> PoolCounters:
    """Return the counters of an engine that :func:`create_engine` or :func:`create_async_engine` made.

    Raises:
        KeyError: the engine was made elsewhere.
    """
    return _COUNTERS[_sync(engine)].snapshot()


def _connect(dialect: Any, record: Any, cargs: Any, cparams: Any) -> Any:
    return dialect.connect(*cargs, **cparams)


def _ping(connection: Any) -> None:
    connection.ping()


def guard(engine: sa.Engine | sa_asyncio.AsyncEngine, breaker: CircuitBreaker) -> None:
    """Let every statement on ``engine`` pass ``breaker``; a second call with the same breaker does nothing.

    Only what says something about the server counts: a syntax error, an unknown table or a refused value is the
    caller's, and neither opens the breaker nor closes it.

    Raises:
        ValueError: another breaker guards this engine already.
    """
    engine = _sync(engine)
    present = _GUARDS.get(engine)
    if present is breaker:
        return
    if present is not None:
        raise ValueError(f"this engine is guarded by another breaker: {present.name}")
    _GUARDS[engine] = breaker
    dialect = engine.dialect

    def through(run: Callable[..., Any], *, proves_health: bool) -> Callable[..., Any]:
        def guarded(*args: Any) -> Any:
            permit = breaker.admit()
            try:
                result = run(*args)
            except Exception as error:
                if classify(error).is_systemic:
                    permit.fail(error)
                raise
            else:
                if proves_health:
                    permit.succeed()
            finally:
                permit.release()  # does nothing where the outcome is told already
            # SQLAlchemy takes a true value (or the connection) for: done, do not do it again.
            return result if result is not None else True

        return guarded

    for name in ("do_execute", "do_execute_no_params", "do_executemany"):
        event.listen(engine, name, through(getattr(dialect, name), proves_health=True))
    # A connection that opens does not prove that statements run; one that does not open counts as a failure.
    if counting := _COUNTERS.get(engine):
        counting.connect_through = through(counting.attempt, proves_health=False)
        counting.ping_through = through(_ping, proves_health=False)
    else:
        event.listen(engine, "do_connect", through(_connect, proves_health=False))
