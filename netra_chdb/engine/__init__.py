"""Engines: the only place where connections are made, with their pool's events and their guard.

Counters carry the names that operators know. An idle connection is asked for a sign of life before it is handed
out; breaker and retry stand in the execution events, so that Core, ORM, flush and Alembic all pass them.
"""

from __future__ import annotations

from netra_chdb.engine.comment import comment_queries, name_calls, trace_id
from netra_chdb.engine.create import create_async_engine, create_engine, sqlite_engine
from netra_chdb.engine.either import sync_engine
from netra_chdb.engine.execution import guard
from netra_chdb.engine.pool import PoolCounters, pool_counters

__all__ = [
    "PoolCounters",
    "comment_queries",
    "create_async_engine",
    "create_engine",
    "guard",
    "name_calls",
    "pool_counters",
    "sqlite_engine",
    "sync_engine",
    "trace_id",
]
