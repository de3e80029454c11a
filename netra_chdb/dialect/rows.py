"""Rows of a result, made and handed over without the garbage collector walking over them again and again."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, Final

__all__ = ["Rows", "collector_paused"]

#: Rows between two looks of the collector at what is new; below this many its passes do not matter.
_AT_ONCE: Final = 50_000


class _Pause:
    """Threads that hold the collector back, and whether it ran before the first of them."""

    lock = threading.Lock()
    holders = 0
    was_enabled = False


@contextmanager
def collector_paused() -> Iterator[Callable[[], object]]:
    """Keep the garbage collector from looking through rows while they are made.

    They are millions of objects without cycles, all alive: going through them again and again was three quarters of
    the time that reading took. Enter when the first rows have come: while a query runs, the other threads need the
    collector. Call what this yields after each block: rows of plain values seen once are never looked at again, and
    a first look at a million of them would stop every thread for a tenth of a second.
    """
    with _Pause.lock:
        _Pause.holders += 1
        if _Pause.holders == 1:
            _Pause.was_enabled = gc.isenabled()
            gc.disable()
    try:
        yield partial(gc.collect, 0) if _Pause.was_enabled else lambda: None
    finally:
        with _Pause.lock:
            _Pause.holders -= 1
            if _Pause.holders == 0 and _Pause.was_enabled:
                gc.enable()


class Rows(list[Any]):
    """A list of rows; who goes through it (SQLAlchemy, making an object for each row) is spared the collector too."""

    def __iter__(self) -> Iterator[Any]:
        return super().__iter__() if len(self) <= _AT_ONCE else chain.from_iterable(self._parts())

    def _parts(self) -> Iterator[list[Any]]:
        with collector_paused() as look_at_new:
            for start in range(0, len(self), _AT_ONCE):
                yield self[start : start + _AT_ONCE]
                look_at_new()
