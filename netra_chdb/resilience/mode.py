"""ClickHouse switched off and on again by an operator."""

from __future__ import annotations

import logging
import threading
import time
from typing import Literal

from netra_chdb.errors import ConfigError
from netra_chdb.resilience.breaker import CircuitBreaker

__all__ = ["Mode"]

_log = logging.getLogger(__name__)


class Mode:
    """Holds a breaker open on purpose.

    Args:
        breaker: stands between the application and ClickHouse.
    """

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._lock = threading.Lock()
        self._hold: str | None = None
        self._before: str | None = None
        self._since = 0.0

    @property
    def name(self) -> Literal["normal", "degraded"]:
        """The mode at present."""
        return "normal" if self._hold is None else "degraded"

    def degrade(self, reason: str) -> None:
        """Hold the breaker open; a second call changes the reason.

        Raises:
            ConfigError: ``reason`` is empty.
        """
        if not isinstance(reason, str) or not reason:
            raise ConfigError(f"degrade() needs a reason, which errors and logs will show, not {reason!r}")
        with self._lock:
            starts = self._hold is None
            if starts:
                self._before, self._since = self._breaker.snapshot().forced, time.monotonic()
            self._hold = f"switched off: {reason}"
            self._breaker.force_open(self._hold)
        if starts:
            _log.warning("ClickHouse is switched off: %s", reason)

    def restore(self) -> None:
        """Let go of the breaker: it is closed, unless somebody else holds it open; does nothing in normal mode."""
        with self._lock:
            hold, self._hold = self._hold, None
            if hold is None:
                return
            if self._breaker.snapshot().forced == hold:
                if self._before is None:
                    self._breaker.reset()
                else:
                    self._breaker.force_open(self._before)
        _log.warning("ClickHouse is switched on again, after %.0f s", time.monotonic() - self._since)
