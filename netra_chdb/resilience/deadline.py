"""Until when a caller wants its answer, for what runs before the statement itself does.

SQLAlchemy hands a statement its connection before the statement's own events begin: whoever opens one for it, or waits
for another's answer, finds the deadline here. It belongs to the thread or the task that asks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from netra_chdb.errors import NetraError

__all__ = ["checked_age", "checked_timeout", "left", "within"]

_ENDS: Final[ContextVar[float | None]] = ContextVar("netra_chdb_deadline", default=None)


def checked_age(seconds: Any) -> float:
    """Return ``stale_if_error`` as seconds; 0 for a read that did not ask for it.

    Raises:
        NetraError: it is no number of seconds.
    """
    if seconds is None:
        return 0.0
    if not _is_number(seconds) or not seconds >= 0:
        raise NetraError(f"stale_if_error must be a number of seconds, 0 at least, not {seconds!r}")
    return float(seconds)


def checked_timeout(seconds: Any) -> float | None:
    """Return ``timeout`` as seconds; None for a statement that did not ask for it.

    Raises:
        NetraError: it is no number of seconds.
    """
    if seconds is None:
        return None
    if not _is_number(seconds) or not 0 < seconds < math.inf:
        raise NetraError(f"timeout must be a number of seconds, more than 0, not {seconds!r}")
    return float(seconds)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Give what happens inside so many seconds, or what an outer deadline leaves of them."""
    ends, outer = time.monotonic() + seconds, _ENDS.get()
    token = _ENDS.set(ends if outer is None else min(ends, outer))
    try:
        yield
    finally:
        _ENDS.reset(token)


def left() -> float | None:
    """Return the seconds that are left, 0 when none are; None without a deadline."""
    ends = _ENDS.get()
    return None if ends is None else max(0.0, ends - time.monotonic())
