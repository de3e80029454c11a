"""One repository for each table that applications use."""

from __future__ import annotations

from netra_chdb.repositories.base import EVERYONE, Reading, Receipt
from netra_chdb.repositories.events import EventsRepository
from netra_chdb.repositories.performance_metrics import PerformanceMetricsRepository

__all__ = ["EVERYONE", "EventsRepository", "PerformanceMetricsRepository", "Reading", "Receipt"]
