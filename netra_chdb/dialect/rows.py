"""Rows of a result, made and handed over without the garbage collector walking over them again and again."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, ClassVar, Final

__all__ = ["Rows", "collector_paused"]

#: Rows between two looks of the collector at what is new; below this many its passes do not matter.
_AT_ONCE: Final = 50_000
#: New objects after which the collector runs all the same: what is made of so many rows has fewer.
_OVERDUE: Final = 1_000_000


class _Pause:
    """Holds the collector back for as long as somebody makes rows.

    It is never switched off: who makes the rows may be stopped by an error that somebody keeps, and its frames with
    it. Instead its threshold is raised beyond what comes between two looks. Where it runs by itself all the same,
    nobody looks any more, and who held it back is forgotten.
    """

    lock = threading.Lock()
    holders: ClassVar[set[object]] = set()
    usual = gc.get_threshold()
    looking = False

    @classmethod
    def begin(cls, holder: object) -> None:
        cls.holders.add(holder)
        now = gc.get_threshold()
        if gc.isenabled() and 0 < now[0] < _OVERDUE:
            cls.usual = now
            gc.set_threshold(_OVERDUE, *now[1:])

    @classmethod
    def end(cls) -> None:
        # The threshold itself says whether there is a pause: the collector may call this at any moment.
        if gc.get_threshold()[0] == _OVERDUE:
            gc.set_threshold(*cls.usual)

    @classmethod
    def ran(cls, phase: str, _: object) -> None:
        if phase == "start" and not cls.looking:
            cls.holders.clear()
            cls.end()

    @classmethod
    def look(cls, holder: object) -> None:
        cls.looking = True
        try:
            gc.collect(0)
        finally:
            cls.looking = False
        cls.begin(holder)


gc.callbacks.append(_Pause.ran)


@contextmanager
def collector_paused() -> Iterator[Callable[[], object]]:
    """Keep the garbage collector from looking through rows while they are made.

    They are millions of objects without cycles, all alive: going through them again and again was three quarters of
    the time that reading took. Enter when the first rows have come: while a query runs, the other threads need the
    collector. Call what this yields after each block: rows of plain values seen once are never looked at again, and
    a first look at a million of them would stop every thread for a tenth of a second.
    """
    holder = object()
    with _Pause.lock:
        _Pause.begin(holder)
    try:
        yield partial(_Pause.look, holder) if gc.isenabled() else lambda: None
    finally:
        with _Pause.lock:
            _Pause.holders.discard(holder)
            if not _Pause.holders:
                _Pause.end()


class Rows(list[Any]):
    """A list of rows; who goes through it (SQLAlchemy, making an object for each row) is spared the collector too."""

    def __iter__(self) -> Iterator[Any]:
        return super().__iter__() if len(self) <= _AT_ONCE else chain.from_iterable(self._parts())

    def _parts(self) -> Iterator[list[Any]]:
        with collector_paused() as look_at_new:
            for start in range(0, len(self), _AT_ONCE):
                yield self[start : start + _AT_ONCE]
                look_at_new()
