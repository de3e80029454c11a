"""One repository for each table that applications use."""

from __future__ import annotations

from netra_chdb.repositories.base import EVERYONE, Reading, Receipt
from netra_chdb.repositories.events import EventsRepository
from netra_chdb.repositories.executions import (
    AgentEventsRepository,
    AgentExecutionsRepository,
    ErrorLogsRepository,
    TraceCorrelationsRepository,
)
from netra_chdb.repositories.operations import ErrorAnalyticsRepository, SystemHealthMetricsRepository
from netra_chdb.repositories.performance_metrics import PerformanceMetricsRepository, TracePerformanceMetricsRepository
from netra_chdb.repositories.tables import AsyncTables, Tables

__all__ = [
    "EVERYONE",
    "AgentEventsRepository",
    "AgentExecutionsRepository",
    "AsyncTables",
    "ErrorAnalyticsRepository",
    "ErrorLogsRepository",
    "EventsRepository",
    "PerformanceMetricsRepository",
    "Reading",
    "Receipt",
    "SystemHealthMetricsRepository",
    "Tables",
    "TraceCorrelationsRepository",
    "TracePerformanceMetricsRepository",
]
