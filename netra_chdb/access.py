"""The composition root: the only place that wires parts together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext import asyncio as sa_asyncio
from sqlalchemy.util import greenlet_spawn

from netra_chdb.config import Config
from netra_chdb.engine import PoolCounters, comment_queries, create_async_engine, create_engine, guard, pool_counters
from netra_chdb.errors import StartingUp
from netra_chdb.health import HealthMonitor, HealthReport
from netra_chdb.ingest.lazy_writer import LazyWriter
from netra_chdb.ingest.spool import Spool
from netra_chdb.ingest.writer import AsyncWriter, Writer
from netra_chdb.repositories.tables import AsyncTables, Tables
from netra_chdb.resilience.breaker import CircuitBreaker
from netra_chdb.resilience.mode import Mode
from netra_chdb.resilience.retry import RetryPolicy, process_budget
from netra_chdb.resilience.store import AnswerStore
from netra_chdb.scope import EVERYONE, UserScope
from netra_chdb.session import AsyncSessionFactory, SessionFactory
from netra_chdb.validation.check import validate
from netra_chdb.validation.consistency import consistency
from netra_chdb.validation.result import Report
from netra_chdb.validation.starts import Starts, Wanted
from netra_chdb.validation.startup import Startup

__all__ = ["AsyncDataAccess", "DataAccess"]

_DEADLINE: Final = 60.0
_FIRST_REPORT: Final = 6.0
_STARTING: Final = "the start is not through yet (DataAccess.startup.status says what it waits for)"


class _Access:
    """What both have: the configuration, and what stands between the application and ClickHouse."""

    def __init__(self, config: Config | None) -> None:
        self.config = config if config is not None else Config()
        self.breaker = CircuitBreaker(
            fail_max=self.config.breaker_fail_max,
            reset_timeout=self.config.breaker_reset_timeout,
            half_open_calls=self.config.breaker_half_open_calls,
            success_threshold=self.config.breaker_half_open_calls,
            name="clickhouse",
        )
        self.retry = RetryPolicy(
            max_attempts=self.config.retry_max_attempts,
            initial_delay=self.config.retry_initial_delay,
            max_delay=self.config.retry_max_delay,
            exponential_base=self.config.retry_exponential_base,
            jitter=self.config.retry_jitter,
            attempt_timeout=self.config.attempt_timeout,
            budget=process_budget(self.config.retry_budget_tokens),
        )
        redis_url = self.config.redis_url
        self.answers = AnswerStore(redis_url.get_secret_value() if redis_url is not None else None)
        self._mode = Mode(self.breaker)
        self._starts = Starts(self.config, self._admit, self._let_through)
        self.monitor: HealthMonitor
        self._writer = LazyWriter(self.config, self._writing_engine, self.retry, lambda: self.mode == "degraded")
        if self.config.mode == "degraded":
            self.degrade("CLICKHOUSE_MODE=degraded")

    @property
    def mode(self) -> str:
        """``"normal"``, or ``"degraded"``: ClickHouse is switched off."""
        return self._mode.name

    def degrade(self, reason: str) -> None:
        """Switch ClickHouse off: it is not even connected to; reads come from the stored answers or fail at once.

        Args:
            reason: what errors and logs say about it.

        Raises:
            ConfigError: ``reason`` is empty.
        """
        self._mode.degrade(reason)
        self._writer.mode_changed()

    def restore(self) -> None:
        """End what :meth:`degrade` began; a breaker that somebody else holds open stays so."""
        self._mode.restore()
        self._writer.mode_changed()
        if self.startup is not None and self.startup.ready:
            self._let_through()  # it got ready in between, and the breaker was held for it before

    @property
    def startup(self) -> Startup | None:
        """The last start; None before ``initialize``."""
        return self._starts.last

    def _admit(self) -> None:
        if self.mode == "degraded":
            self.breaker.admit()  # raises, with the reason

    def _begin_behind(self, startup: Startup) -> None:
        if self.mode == "normal":
            self.breaker.force_open(_STARTING, StartingUp)
        startup.run_behind()

    def _let_through(self) -> None:
        if self.breaker.snapshot().forced == _STARTING:
            self.breaker.reset()
        self._writer.resume()

    @property
    def spool(self) -> Spool:
        """What is on its way to ClickHouse on this machine's disk; its directory is made at the first use."""
        return self._writer().spool

    def _writing_engine(self) -> sa.Engine:
        raise NotImplementedError

    def _new_monitor(self, engine: sa.Engine | sa_asyncio.AsyncEngine) -> HealthMonitor:
        def starting() -> str | None:
            return None if self.startup is None or self.startup.ready else self.startup.status

        def spool() -> Spool | None:
            # What an earlier process left waits as well; only to look, no directory is made.
            writer = self._writer.if_any()
            return None if writer is None else writer.spool

        parts = (self.config, engine, self.breaker, self.retry, self.answers, lambda: self.mode)
        return HealthMonitor(*parts, spool=spool, starting=starting)

    def _stop(self) -> None:
        self.monitor.close()
        self._starts.stop("close() was called")
        self.answers.close()


class DataAccess(_Access, Tables):
    """Everything that an application needs of ClickHouse, from one configuration.

    Args:
        config: the configuration; by default what the environment says.

    Attributes:
        config: the configuration.
        engine: the SQLAlchemy engine; every statement on it passes the breaker.
        breaker: the circuit breaker.
        retry: how what failed is tried again; its budget is the whole process's.
        answers: the last good answers, for when ClickHouse cannot answer.
        sessions: makes ORM sessions.
        startup: the last start; None before :meth:`initialize`.
        monitor: what :meth:`health` reports.
        events, performance_metrics, ...: a repository for each table; see :class:`~netra_chdb.repositories.Tables`.
    """

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(config)
        self.engine: sa.Engine = create_engine(self.config)
        guard(self.engine, self.breaker, self.retry)
        comment_queries(self.engine, self.config.service)
        self.sessions = SessionFactory(self.engine, breaker=self.breaker, store=self.answers)
        self._open_tables(self.sessions, self._writer, self.config.stale_if_error)
        self.monitor = self._new_monitor(self.engine)

    def initialize(
        self,
        *,
        deadline: float | None = None,
        migrate: bool = True,
        wait: bool = True,
        on_wait: Callable[[str], None] | None = None,
    ) -> Startup:
        """Wait for the server, create the databases, migrate them to the newest revision, and check what is there.

        Any number of processes may do so at once: one migrates, the others wait for it. Threads that call it with the
        same arguments share one start; with others it takes the place of the one that is running. A wrong password, an
        unknown host or a port of something else ends the wait at once (a name after ten seconds: containers get theirs
        late).

        Args:
            deadline: seconds to wait at most; by default 60, and with ``wait=False`` for ever.
            migrate: False only looks whether both databases are at the newest revision.
            wait: False returns at once and goes on in a thread, whatever happens. Until it is ready, statements are
                refused with ``StartingUp``, reads fall back on stored answers, and what ``writer`` is given is spooled.
            on_wait: called each second, from another thread, with what is being waited for; it is logged as well.

        Returns:
            The start: ``ready``, ``status``, ``wait(timeout)``.

        Raises:
            NotReady: the server did not answer in time, or refused, or the start was stopped by :meth:`close` or by
                another one; the message says which, and what to do.
            SchemaMismatch: a table or view of the models is missing afterwards, or a migration stopped half-way.
            MigrationLocked: another process migrated for all of the deadline.
            BreakerOpen: ClickHouse is switched off.
        """
        wanted = Wanted(_DEADLINE if wait and deadline is None else deadline, migrate, wait)
        if not wait:
            return self._starts.join(wanted, self.engine, on_wait, self._begin_behind)
        own: list[Startup] = []
        startup = self._starts.join(wanted, self.engine, on_wait, own.append)
        try:
            if own:
                startup.attempt()  # in this thread: a key that is pressed ends it in order
            startup.outcome.result()
        finally:
            self._starts.leave(startup)
        return startup

    def validate(self) -> Report:
        """Look at everything around: the way to ClickHouse, rights, disks, Redis, the spool; never raises."""
        return validate(self.config, self.engine if self.config.is_embedded else None)

    def consistency(self) -> Report:
        """Compare both databases with the models, try to read and write, and sample the summaries; never raises.

        It needs the right to create and drop databases: what a model is, the server says. Nothing is left behind.
        """
        return consistency(self.config, self.engine if self.config.is_embedded else None)

    def _writing_engine(self) -> sa.Engine:
        return self.engine

    @property
    def writer(self) -> Writer:
        """Writes through the spool: durable when it returns, also while ClickHouse is away."""
        return self._writer()

    def health(self) -> HealthReport:
        """Return how everything stands, as it was found in the background; never raises.

        The first call waits some seconds for the first answer of ClickHouse, no other call waits for anything.
        """
        return self.monitor.report(wait=_FIRST_REPORT)

    def flush(self, timeout: float = 60.0) -> None:
        """Wait until everything that ``writer`` has accepted is in ClickHouse, or in quarantine.

        Raises:
            NotReady: it is not, with the reason; nothing is lost.
        """
        self.writer.flush(timeout)

    def session(self, *, user_id: UserScope = EVERYONE, **options: Any) -> orm.Session:
        """Return a guarded session.

        Args:
            user_id: whose rows it sees; an empty or missing id is an error.
            options: of :class:`sqlalchemy.orm.Session`.

        Raises:
            NetraError: ``user_id`` is neither a user's id nor EVERYONE.
        """
        return self.sessions(**options) if user_id is EVERYONE else self.sessions.for_user(user_id, **options)

    def pool(self) -> PoolCounters:
        """Return what the pool of connections has done so far."""
        return pool_counters(self.engine)

    def close(self) -> None:
        """Send what can be sent within some seconds, and close all connections; a second call does nothing."""
        self._stop()
        self._writer.close()
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncDataAccess(_Access, AsyncTables):
    """:class:`DataAccess` for asyncio: the same parts, on an async engine; what waits is awaited.

    Args:
        config: the configuration; by default what the environment says.

    Attributes:
        config, breaker, retry, answers: as those of :class:`DataAccess`.
        engine: the async engine; every statement on it passes the breaker.
        sessions: makes async ORM sessions.
        events, performance_metrics, ...: the repositories; their methods are coroutines.
    """

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(config)
        self.engine: sa_asyncio.AsyncEngine = create_async_engine(self.config)
        guard(self.engine, self.breaker, self.retry)
        comment_queries(self.engine, self.config.service)
        self.sessions = AsyncSessionFactory(self.engine, breaker=self.breaker, store=self.answers)
        self._open_tables(self.sessions.sync, self._writer, self.config.stale_if_error)
        self._beside: sa.Engine | None = None
        self._embedded_start: asyncio.Task[None] | None = None
        self.monitor = self._new_monitor(self.engine)

    async def initialize(
        self,
        *,
        deadline: float | None = None,
        migrate: bool = True,
        wait: bool = True,
        on_wait: Callable[[str], None] | None = None,
    ) -> Startup:
        """Wait for the server, create the databases, migrate and check them; see :meth:`DataAccess.initialize`."""
        wait = wait or self.config.is_embedded  # there is nothing to wait for
        wanted = Wanted(_DEADLINE if wait and deadline is None else deadline, migrate, wait)
        begin = self._begin if wait else self._begin_behind
        startup = self._starts.join(wanted, self.engine.sync_engine, on_wait, begin)
        if wait:
            try:
                await asyncio.wrap_future(startup.outcome)
            finally:
                if self._starts.leave(startup) and self._embedded_start is not None:
                    self._embedded_start.cancel()
        return startup

    def _begin(self, startup: Startup) -> None:
        if self.config.is_embedded:
            self._embedded_start = asyncio.create_task(greenlet_spawn(startup.attempt))
            self._embedded_start.add_done_callback(lambda task: startup.abandon())
        else:
            asyncio.get_running_loop().run_in_executor(None, startup.attempt)

    async def validate(self) -> Report:
        """Look at everything around; see :meth:`DataAccess.validate`."""
        if self.config.is_embedded:
            return await greenlet_spawn(validate, self.config, self.engine.sync_engine)
        return await asyncio.to_thread(validate, self.config)

    async def consistency(self) -> Report:
        """Compare both databases with the models; see :meth:`DataAccess.consistency`."""
        if self.config.is_embedded:
            return await greenlet_spawn(consistency, self.config, self.engine.sync_engine)
        return await asyncio.to_thread(consistency, self.config)

    def _writing_engine(self) -> sa.Engine:
        # The writer's thread is on no event loop. The embedded engine is one for the process, in memory as well.
        if self._beside is None:
            self._beside = create_engine(self.config)
            guard(self._beside, self.breaker, self.retry)
        return self._beside

    @property
    def writer(self) -> AsyncWriter:
        """Writes through the spool; see :attr:`DataAccess.writer`."""
        return AsyncWriter(self._writer())

    async def flush(self, timeout: float = 60.0) -> None:
        """Wait until everything accepted is in ClickHouse; see :meth:`DataAccess.flush`."""
        await asyncio.to_thread(lambda: self._writer().flush(timeout))

    async def health(self) -> HealthReport:
        """Return how everything stands; see :meth:`DataAccess.health`."""
        return await asyncio.to_thread(self.monitor.report, _FIRST_REPORT)

    def session(self, *, user_id: UserScope = EVERYONE, **options: Any) -> sa_asyncio.AsyncSession:
        """Return a guarded session; see :meth:`DataAccess.session`."""
        return self.sessions(**options) if user_id is EVERYONE else self.sessions.for_user(user_id, **options)

    def pool(self) -> PoolCounters:
        """Return what the pool of connections has done so far."""
        return pool_counters(self.engine)

    async def close(self) -> None:
        """Send what can be sent within some seconds, and close all connections; a second call does nothing."""
        self._stop()
        if self._embedded_start is not None and self.startup is not None:
            await asyncio.to_thread(self.startup.wait, _FIRST_REPORT)  # it is on this engine
        await asyncio.to_thread(self._writer.close)
        if self._beside is not None:
            self._beside.dispose()
        await self.engine.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
