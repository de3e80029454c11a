"""One write to the disk for all threads that wait for one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["GroupCommit"]

T = TypeVar("T")


class _Turn(Generic[T]):
    """One thread's item, while it waits."""

    __slots__ = ("done", "error", "item", "leads", "wake")

    def __init__(self, item: T) -> None:
        self.item = item
        self.done = self.leads = False
        self.error: BaseException | None = None
        self.wake = threading.Lock()
        self.wake.acquire()


class GroupCommit(Generic[T]):
    """Collects the items of several threads while a write is under way, and writes them together.

    A thread that finds nobody writing writes for all who wait, then wakes them and hands over to one who came since.
    A lock around the write would not do: who releases it takes it again before those who wait have woken, and
    writes alone.

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
            try:
                turn.wake.acquire()
            except BaseException:  # Ctrl-C: the item may be written yet, but is not acknowledged
                with self._mutex:
                    if turn in self._waiting:
                        self._waiting.remove(turn)
                    if turn.leads:
                        self._hand_over()
                raise
        if not turn.done:
            self._lead()
        if turn.error is not None:
            raise turn.error

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
            with self._mutex:
                for turn in group:
                    turn.done, turn.error = True, error
                    if not turn.leads:
                        turn.wake.release()
                self._hand_over()

    def _hand_over(self) -> None:
        if self._waiting:
            self._waiting[0].leads = True
            self._waiting[0].wake.release()
        else:
            self._writing = False
