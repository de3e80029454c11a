"""Measuring the statements of an engine: how many, how long, how many failed and of what."""

from __future__ import annotations

import bisect
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, Final

import pybreaker
import sqlalchemy as sa
from sqlalchemy import event

from netra_chdb.errors import classify
from netra_chdb.health.report import Queries

__all__ = ["BUCKETS", "QueryMeter", "quantile"]

#: Seconds.
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_STARTED: Final = "_netra_started"
# The latencies that a sample's percentiles are made of: the newest, when there are more.
_KEPT: Final = 2048


class QueryMeter:
    """Listens to one engine's statements.

    Args:
        engine: the engine; that of an async one.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._lock = threading.Lock()
        self._counts = [0] * (len(BUCKETS) + 1)
        self._seconds = 0.0
        self._errors: Counter[str] = Counter()
        self._recent: deque[float] = deque(maxlen=_KEPT)
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "after_cursor_execute", self._after)
        event.listen(engine, "handle_error", self._failed)

    @staticmethod
    def _before(connection: Any, cursor: Any, statement: Any, parameters: Any, context: Any, many: Any) -> None:
        if context is not None:
            context._netra_started = time.perf_counter()

    def _after(self, connection: Any, cursor: Any, statement: Any, parameters: Any, context: Any, many: Any) -> None:
        started = getattr(context, _STARTED, None)
        # A read that may be answered from the store asks ClickHouse in a statement of its own, which is counted.
        if started is None or getattr(cursor, "is_guarded", False):
            return
        took = time.perf_counter() - started
        with self._lock:
            self._counts[bisect.bisect_left(BUCKETS, took)] += 1
            self._seconds += took
            self._recent.append(took)

    def _failed(self, context: Any) -> None:
        cursor = getattr(context.execution_context, "cursor", None)
        if getattr(cursor, "is_guarded", False):
            return
        error = context.original_exception
        if isinstance(error, pybreaker.CircuitBreakerError):
            return  # the breaker counts these itself
        with self._lock:
            self._errors[classify(error).value] += 1

    def read(self) -> Queries:
        """Return the counts so far."""
        with self._lock:
            counts, seconds, errors = list(self._counts), self._seconds, dict(self._errors)
        totals = list(itertools.accumulate(counts))
        return Queries(totals[-1], errors, seconds, tuple(zip((*BUCKETS, None), totals, strict=True)))

    def take_recent(self) -> list[float]:
        """Return the latencies since the last call, in order of size."""
        with self._lock:
            found = sorted(self._recent)
            self._recent.clear()
        return found


def quantile(ordered: Sequence[float], level: float) -> float | None:
    """Return the quantile of values in order of size; None of no values."""
    return ordered[min(len(ordered) - 1, int(level * len(ordered)))] if ordered else None
