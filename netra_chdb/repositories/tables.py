"""The repositories of all tables, each by its table's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from netra_chdb.ingest.writer import Writer
from netra_chdb.repositories.aio import AsyncRepository
from netra_chdb.repositories.base import Repository
from netra_chdb.repositories.events import EventsRepository
from netra_chdb.repositories.executions import (
    AgentEventsRepository,
    AgentExecutionsRepository,
    ErrorLogsRepository,
    TraceCorrelationsRepository,
)
from netra_chdb.repositories.operations import ErrorAnalyticsRepository, SystemHealthMetricsRepository
from netra_chdb.repositories.performance_metrics import PerformanceMetricsRepository, TracePerformanceMetricsRepository
from netra_chdb.session import SessionFactory

__all__ = ["REPOSITORIES", "AsyncTables", "Tables"]

#: Two tables have one name: that of netra_traces has another one here.
REPOSITORIES: Final[dict[str, type[Repository[Any]]]] = {
    "events": EventsRepository,
    "performance_metrics": PerformanceMetricsRepository,
    "system_health_metrics": SystemHealthMetricsRepository,
    "error_analytics": ErrorAnalyticsRepository,
    "agent_executions": AgentExecutionsRepository,
    "agent_events": AgentEventsRepository,
    "trace_performance_metrics": TracePerformanceMetricsRepository,
    "trace_correlations": TraceCorrelationsRepository,
    "error_logs": ErrorLogsRepository,
}


class Tables:
    """One repository for each table.

    Attributes:
        events, performance_metrics, system_health_metrics, error_analytics: of ``netra_analytics``.
        agent_executions, agent_events, trace_performance_metrics, trace_correlations, error_logs: of ``netra_traces``.
    """

    events: EventsRepository
    performance_metrics: PerformanceMetricsRepository
    system_health_metrics: SystemHealthMetricsRepository
    error_analytics: ErrorAnalyticsRepository
    agent_executions: AgentExecutionsRepository
    agent_events: AgentEventsRepository
    trace_performance_metrics: TracePerformanceMetricsRepository
    trace_correlations: TraceCorrelationsRepository
    error_logs: ErrorLogsRepository

    def _open_tables(self, sessions: SessionFactory, writer: Callable[[], Writer], stale_if_error: float) -> None:
        for name, repository in REPOSITORIES.items():
            setattr(self, name, repository(sessions, writer, stale_if_error=stale_if_error))


class AsyncTables:
    """One repository for each table, for asyncio.

    Attributes:
        events, performance_metrics, ...: as those of :class:`Tables`; their methods are coroutines.
    """

    events: AsyncRepository
    performance_metrics: AsyncRepository
    system_health_metrics: AsyncRepository
    error_analytics: AsyncRepository
    agent_executions: AsyncRepository
    agent_events: AsyncRepository
    trace_performance_metrics: AsyncRepository
    trace_correlations: AsyncRepository
    error_logs: AsyncRepository

    def _open_tables(self, sessions: SessionFactory, writer: Callable[[], Writer], stale_if_error: float) -> None:
        for name, repository in REPOSITORIES.items():
            setattr(self, name, AsyncRepository(repository(sessions, writer, stale_if_error=stale_if_error)))
