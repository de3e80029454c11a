"""The last hour, in bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Final

__all__ = ["History", "Sample"]

KEPT_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at this process.

    Attributes:
        number: counts the samples from 1.
        at: seconds since 1970.
        queries, errors, refused: statements since the sample before: answered, failed, refused by the breaker.
        p50, p95: seconds that the answers took; None without any.
        probe: seconds that ClickHouse took for the last question about its health; None when it did not answer.
        pool_in_use, pool_limit: connections handed out, and how many may be.
        spool_rows, spool_age: rows that wait, and seconds that the oldest of them has waited.
        breaker: its state.
        state: that of the report.
    """

    number: int
    at: float
    queries: int
    errors: int
    refused: int
    p50: float | None
    p95: float | None
    probe: float | None
    pool_in_use: int
    pool_limit: int | None
    spool_rows: int
    spool_age: float
    breaker: str
    state: str


class History:
    """Samples of the last hour.

    Args:
        every: seconds between two samples.
    """

    def __init__(self, every: float) -> None:
        self._samples: deque[Sample] = deque(maxlen=max(2, int(KEPT_SECONDS / every)))
        self._lock = threading.Lock()

    @property
    def capacity(self) -> int:
        """How many samples are kept at most."""
        return self._samples.maxlen or 0

    def add(self, sample: Sample) -> None:
        """Add one; the oldest goes."""
        with self._lock:
            self._samples.append(sample)

    def since(self, number: int = 0) -> list[Sample]:
        """Return the samples after that of ``number``, oldest first."""
        with self._lock:
            return [sample for sample in self._samples if sample.number > number]
