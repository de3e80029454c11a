"""The composition root: the only place that wires parts together."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import orm

from netra_chdb import migrations
from netra_chdb.config import Config
from netra_chdb.dialect.view import views
from netra_chdb.engine import PoolCounters, create_engine, pool_counters
from netra_chdb.errors import SchemaMismatch
from netra_chdb.repositories import EventsRepository, PerformanceMetricsRepository
from netra_chdb.resilience.breaker import CircuitBreaker
from netra_chdb.session import SessionFactory

__all__ = ["DataAccess"]


class DataAccess:
    """Everything that an application needs of ClickHouse, from one configuration.

    Args:
        config: the configuration; by default what the environment says.

    Attributes:
        config: the configuration.
        engine: the SQLAlchemy engine; every statement on it passes the breaker.
        breaker: the circuit breaker.
        sessions: makes ORM sessions.
        events: ``netra_analytics.events``.
        performance_metrics: ``netra_analytics.performance_metrics``.
    """

    def __init__(self, config: Config | None = None) -> None:
        self.config = config if config is not None else Config()
        self.engine: sa.Engine = create_engine(self.config)
        self.breaker = CircuitBreaker(
            fail_max=self.config.breaker_fail_max,
            reset_timeout=self.config.breaker_reset_timeout,
            half_open_calls=self.config.breaker_half_open_calls,
            success_threshold=self.config.breaker_half_open_calls,
            name="clickhouse",
        )
        self.sessions = SessionFactory(self.engine, breaker=self.breaker)
        self.events = EventsRepository(self.sessions)
        self.performance_metrics = PerformanceMetricsRepository(self.sessions)

    def initialize(self) -> None:
        """Create the databases, migrate them to the newest revision, and check that they are there.

        Raises:
            SchemaMismatch: a table or view of the models is missing afterwards, or a migration stopped half-way.
            sqlalchemy.exc.DBAPIError: ClickHouse did not answer, or refused.
        """
        migrations.upgrade(self.engine)
        with self.engine.connect() as connection:
            inspector = sa.inspect(connection)
            for database, metadata in migrations.DATABASES.items():
                wanted = {table.name for table in metadata.tables.values()} | {view.name for view in views(metadata)}
                there = {
                    *inspector.get_table_names(schema=database),
                    *self.engine.dialect.get_materialized_view_names(connection, schema=database),
                }
                if missing := sorted(wanted - there):
                    raise SchemaMismatch(
                        f"{database} is at the newest revision, but has no {', '.join(missing)}: somebody removed it. "
                        "Put it back as `alembic upgrade head --sql` prints it"
                    )

    def session(self, **options: Any) -> orm.Session:
        """Return a guarded session; ``options`` are those of :class:`sqlalchemy.orm.Session`."""
        return self.sessions(**options)

    def pool(self) -> PoolCounters:
        """Return what the pool of connections has done so far."""
        return pool_counters(self.engine)

    def close(self) -> None:
        """Close all connections; a second call does nothing."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
