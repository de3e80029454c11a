"""An engine of a test's own whose questions are counted, and whose clock may be put forward."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import event

from netra_chdb import CircuitBreaker, SessionFactory, create_engine, models
from netra_chdb.resilience.store import AnswerStore

__all__ = ["EVENTS", "STALE", "Reads"]

EVENTS: Any = models.analytics.Event.__table__
STALE: Any = {"stale_if_error": 60}


class Clock:
    """The wall clock, which a test may put forward."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Reads:
    """One engine with a breaker of its own, and what it was asked."""

    def __init__(self, url: str, redis_url: str | None = None) -> None:
        self.clock = Clock()
        self.engine = create_engine(url)
        self.breaker = CircuitBreaker(fail_max=1000)
        self.store = AnswerStore(redis_url, clock=self.clock, redis_timeout=10)
        self.sessions = SessionFactory(self.engine, breaker=self.breaker, store=self.store)
        self.asked = 0
        event.listen(self.engine, "after_cursor_execute", self._note)

    def close(self) -> None:
        self.engine.dispose()
        self.store.close()

    def _note(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        # A read that may be answered from the store has a cursor of its own above the driver's.
        self.asked += "SELECT" in statement and not getattr(cursor, "is_guarded", False)
