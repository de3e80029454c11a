"""The composition root: the only place that wires parts together."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext import asyncio as sa_asyncio
from sqlalchemy.util import greenlet_spawn

from netra_chdb import migrations
from netra_chdb.config import Config
from netra_chdb.dialect.view import views
from netra_chdb.engine import PoolCounters, create_async_engine, create_engine, guard, pool_counters
from netra_chdb.errors import SchemaMismatch
from netra_chdb.repositories import EventsRepository, PerformanceMetricsRepository
from netra_chdb.repositories.aio import AsyncRepository
from netra_chdb.resilience.breaker import CircuitBreaker
from netra_chdb.resilience.mode import Mode
from netra_chdb.resilience.retry import RetryPolicy, process_budget
from netra_chdb.resilience.store import AnswerStore
from netra_chdb.scope import EVERYONE, UserScope
from netra_chdb.session import AsyncSessionFactory, SessionFactory

__all__ = ["AsyncDataAccess", "DataAccess"]


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

    def restore(self) -> None:
        """End what :meth:`degrade` began; a breaker that somebody else holds open stays so."""
        self._mode.restore()


class DataAccess(_Access):
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
        events: ``netra_analytics.events``.
        performance_metrics: ``netra_analytics.performance_metrics``.
    """

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(config)
        self.engine: sa.Engine = create_engine(self.config)
        guard(self.engine, self.breaker, self.retry)
        self.sessions = SessionFactory(self.engine, breaker=self.breaker, store=self.answers)
        stale = self.config.stale_if_error
        self.events = EventsRepository(self.sessions, stale_if_error=stale)
        self.performance_metrics = PerformanceMetricsRepository(self.sessions, stale_if_error=stale)

    def initialize(self) -> None:
        """Create the databases, migrate them to the newest revision, and check that they are there.

        Raises:
            SchemaMismatch: a table or view of the models is missing afterwards, or a migration stopped half-way.
            sqlalchemy.exc.DBAPIError: ClickHouse did not answer, or refused.
        """
        _initialize(self.engine)

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
        """Close all connections; a second call does nothing."""
        self.engine.dispose()
        self.answers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncDataAccess(_Access):
    """:class:`DataAccess` for asyncio: the same parts, on an async engine; what waits is awaited.

    Args:
        config: the configuration; by default what the environment says.

    Attributes:
        config, breaker, retry, answers: as those of :class:`DataAccess`.
        engine: the async engine; every statement on it passes the breaker.
        sessions: makes async ORM sessions.
        events, performance_metrics: the repositories; their methods are coroutines.
    """

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(config)
        self.engine: sa_asyncio.AsyncEngine = create_async_engine(self.config)
        guard(self.engine, self.breaker, self.retry)
        self.sessions = AsyncSessionFactory(self.engine, breaker=self.breaker, store=self.answers)
        inside, stale = self.sessions.sync, self.config.stale_if_error
        self.events = AsyncRepository(EventsRepository(inside, stale_if_error=stale))
        self.performance_metrics = AsyncRepository(PerformanceMetricsRepository(inside, stale_if_error=stale))

    async def initialize(self) -> None:
        """Create the databases, migrate and check them; see :meth:`DataAccess.initialize`."""
        await greenlet_spawn(_initialize, self.engine.sync_engine)

    def session(self, *, user_id: UserScope = EVERYONE, **options: Any) -> sa_asyncio.AsyncSession:
        """Return a guarded session; see :meth:`DataAccess.session`."""
        return self.sessions(**options) if user_id is EVERYONE else self.sessions.for_user(user_id, **options)

    def pool(self) -> PoolCounters:
        """Return what the pool of connections has done so far."""
        return pool_counters(self.engine)

    async def close(self) -> None:
        """Close all connections; a second call does nothing."""
        await self.engine.dispose()
        self.answers.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _initialize(engine: sa.Engine) -> None:
    migrations.upgrade(engine)
    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        for database, metadata in migrations.DATABASES.items():
            wanted = {table.name for table in metadata.tables.values()} | {view.name for view in views(metadata)}
            there = {
                *inspector.get_table_names(schema=database),
                *engine.dialect.get_materialized_view_names(connection, schema=database),
            }
            if missing := sorted(wanted - there):
                raise SchemaMismatch(
                    f"{database} is at the newest revision, but has no {', '.join(missing)}: somebody removed it. "
                    "Put it back as `alembic upgrade head --sql` prints it"
                )
