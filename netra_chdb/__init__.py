"""netra_chdb: a data access layer for ClickHouse, built on SQLAlchemy.

The application keeps writing and keeps answering while ClickHouse does not, and every number is right.
"""

from __future__ import annotations

from netra_chdb import errors, models
from netra_chdb.access import AsyncDataAccess, DataAccess
from netra_chdb.config import Config
from netra_chdb.engine import create_async_engine, create_engine
from netra_chdb.repositories import EventsRepository, PerformanceMetricsRepository
from netra_chdb.resilience.breaker import CircuitBreaker
from netra_chdb.session import SessionFactory

__version__ = "0.1.0"

__all__ = [
    "AsyncDataAccess",
    "CircuitBreaker",
    "Config",
    "DataAccess",
    "EventsRepository",
    "PerformanceMetricsRepository",
    "SessionFactory",
    "create_async_engine",
    "create_engine",
    "errors",
    "models",
]
