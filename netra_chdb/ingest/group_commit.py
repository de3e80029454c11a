"""One write to the disk for all threads that wait for one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Final, Generic, TypeVar

__all__ = ["GroupCommit"]

T = TypeVar("T")
#: Seconds after which a thread looks by itself whether its item is written.
_LOOK_EACH: Final = 0.5


class _Turn(Generic[T]):
    """One thread's item, while it waits."""

    __slots__ = ("done", "error", "item", "leads", "next", "wake")

    def __init__(self, item: T) -> None:
        self.item = item
        self.done = self.leads = False
        self.error: BaseException | None = None
        self.next: _Turn[T] | None = None  # whom to wake after this one
        self.wake = threading.Lock()
        self.wake.acquire()


class GroupCommit(Generic[T]):
    """Collects the items of several threads while a write is under way, and writes them together.

    A thread that finds nobody writing writes for all who wait, then hands over to one who came since, and wakes the
    first of the others, who wakes the next. (A lock around the write would not do: who releases it takes it again
    before those who wait have woken, and writes alone. Nor would waking all at once: each would fall asleep again
    over the interpreter's own lock, which the one who wakes them holds.)

    Args:
        write: writes items, all or none of them.
    """

    def __init__(self, write: Callable[[list[T]], None]) -> None:
        self._write = write
        self._mutex = threading.Lock()
        self._waiting: list[_Turn[T]] = []
        self._writing = False

    def submit(self, item: T) -> None:
        """Return when ``item`` is written.

        Raises:
            Exception: what the write that it was part of raised.
        """
        turn = _Turn(item)
        with self._mutex:
            self._waiting.append(turn)
            leads = turn.leads = not self._writing
            self._writing = True
        if not leads:
            self._wait(turn)
        if not turn.done:
            self._lead()
        if turn.error is not None:
            raise turn.error

    def _wait(self, turn: _Turn[T]) -> None:
        try:
            # Again and again: a thread that Ctrl-C ended on its way here woke nobody.
            while not turn.wake.acquire(timeout=_LOOK_EACH) and not turn.done and not turn.leads:
                pass
        except BaseException:  # Ctrl-C: the item may be written yet, but is not acknowledged
            with self._mutex:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                if turn.leads:
                    self._hand_over()
            raise
        finally:
            if turn.next is not None:
                turn.next.wake.release()

    def _lead(self) -> None:
        with self._mutex:
            group, self._waiting = self._waiting, []
        error: BaseException | None = None
        try:
            self._write([turn.item for turn in group])
        except Exception as raised:
            error = raised
        except BaseException:
            error = RuntimeError("the thread that wrote for this one was interrupted: nothing was kept")
            raise
        finally:
            for turn in group:
                turn.error, turn.done = error, True  # in this order: who looks by itself goes by the second
            with self._mutex:
                self._hand_over()
            asleep = [turn for turn in group if not turn.leads]
            for turn, following in pairwise(asleep):
                turn.next = following
            if asleep:
                asleep[0].wake.release()

    def _hand_over(self) -> None:
        if self._waiting:
            self._waiting[0].leads = True
            self._waiting[0].wake.release()
        else:
            self._writing = False
