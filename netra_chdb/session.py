"""Sessions whose every statement passes the breaker."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from netra_chdb.engine import guard
from netra_chdb.resilience.breaker import CircuitBreaker

__all__ = ["SessionFactory"]


class SessionFactory(orm.sessionmaker[orm.Session]):
    """A ``sessionmaker`` over a guarded engine.

    ClickHouse has no transactions: what a flush sends stands, ``rollback()`` only forgets pending objects.

    Args:
        engine: the engine to guard.
        breaker: stands in the engine's execution events; None leaves the engine as it is.
        options: passed to :class:`sqlalchemy.orm.sessionmaker`.
    """

    def __init__(self, engine: sa.Engine, *, breaker: CircuitBreaker | None = None, **options: Any) -> None:
        options.setdefault("expire_on_commit", False)
        super().__init__(bind=engine, **options)
        self.engine = engine
        self.breaker = breaker
        if breaker is not None:
            guard(engine, breaker)
