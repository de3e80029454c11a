"""Rows of a result, made and handed over without the garbage collector walking over them again and again."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from typing import Any, ClassVar, Final

__all__ = ["Rows", "collector_paused"]

#: Rows made between two times that they are put aside; below this many the collector's passes do not matter.
_AT_ONCE: Final = 50_000
#: Rows up to which a result is made as any other list.
_FEW: Final = 1000
#: New objects after which the collector runs all the same: what is made of so many rows has fewer.
_OVERDUE: Final = 1_000_000
#: Times of putting aside after which a full collection is due.
_DUE: Final = 500


class _Pause:
    """Holds the collector back for as long as somebody makes rows.

    It is never switched off: who makes the rows may be stopped by an error that somebody keeps, and its frames with
    it. Instead its threshold is raised beyond what comes between two blocks. Where it runs by itself all the same,
    nobody puts rows aside any more, and who held it back is forgotten.
    """

    lock = threading.Lock()
    holders: ClassVar[set[object]] = set()
    usual = gc.get_threshold()
    looking = False
    put_aside = 0
    #: Whether the application has frozen objects. To count them is to go through them all: done until there are some.
    frozen = False

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
    def ran(cls, phase: str, info: dict[str, int]) -> None:
        if info["generation"] == 2:
            cls.put_aside = 0
        if phase == "start" and not cls.looking:
            cls.holders.clear()
            cls.end()

    @classmethod
    def age(cls, holder: object) -> None:
        """Make everything new old, without looking at it."""
        with cls.lock:  # nobody counts what is frozen in between
            gc.freeze()
            gc.unfreeze()
        cls.put_aside += 1
        cls.begin(holder)

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
    collector. Call what this yields after each block: its rows then belong to the oldest generation, which the
    collector goes through least. What other threads make meanwhile goes there too, garbage that only a full
    collection finds, so one is run from time to time, before the next rows are made.
    """
    holder = object()
    if _Pause.put_aside >= _DUE and gc.isenabled():
        gc.collect()
    with _Pause.lock:
        _Pause.frozen = _Pause.frozen or gc.get_freeze_count() > 0
        _Pause.begin(holder)
    # What an application has frozen has to stay so: then its rows are looked at, once.
    put_aside = _Pause.look if _Pause.frozen else _Pause.age
    try:
        yield partial(put_aside, holder) if gc.isenabled() else lambda: None
    finally:
        with _Pause.lock:
            _Pause.holders.discard(holder)
            if not _Pause.holders:
                _Pause.end()


class Rows(list[Any]):
    """A list of rows; who goes through it (SQLAlchemy, making an object for each row) is spared the collector too."""

    def take(self, blocks: Iterable[Iterable[Any]]) -> None:
        """Add the rows of each block; the collector is held back when there are many."""
        coming = iter(blocks)
        for block in coming:
            self.extend(block)
            if len(self) > _FEW:
                break
        else:
            return
        with collector_paused() as put_aside:
            for block in coming:
                self.extend(block)
                put_aside()

    def __iter__(self) -> Iterator[Any]:
        return super().__iter__() if len(self) <= _AT_ONCE else chain.from_iterable(self._parts())

    def _parts(self) -> Iterator[Iterator[Any]]:
        rows = super().__iter__()
        with collector_paused() as put_aside:
            for _ in range(0, len(self), _AT_ONCE):
                yield islice(rows, _AT_ONCE)
                put_aside()
