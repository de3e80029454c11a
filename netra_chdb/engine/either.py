"""What takes an engine takes a synchronous or an asynchronous one: events are on the former."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.ext import asyncio as sa_asyncio

__all__ = ["sync_engine"]


def sync_engine(engine: sa.Engine | sa_asyncio.AsyncEngine) -> sa.Engine:
    """Return ``engine`` itself, or the synchronous one below it."""
    return engine.sync_engine if isinstance(engine, sa_asyncio.AsyncEngine) else engine
