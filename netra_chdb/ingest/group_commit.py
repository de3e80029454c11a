"""One write to the disk for all threads that wait for one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Final, Generic, TypeVar

__all__ = ["GroupCommit"]

T = TypeVar("T")
#: Seconds after which a thread looks by itself whether its item is written.
_LOOK_EACH: Final = 0.5
#: Seconds that a write waits at most for those who wrote last.
_PATIENCE: Final = 0.001

_INTERRUPTED: Final = "the thread that wrote this was interrupted: it may be kept, or not"


class _Turn(Generic[T]):
    """One thread's item, while it waits."""

    __slots__ = ("done", "error", "item", "next", "thread", "wake")

    def __init__(self, item: T, thread: int) -> None:
        self.item = item
        self.thread = thread
        self.done = False
        self.error: Exception | None = None
        self.next: _Turn[T] | None = None  # whom to wake after this one
        self.wake = threading.Lock()
        self.wake.acquire()


class GroupCommit(Generic[T]):
    """Collects the items of several threads while a write is under way, and writes them together.

    A thread that finds nobody writing leads: it writes for all who wait, then hands over to one who came since, and
    wakes the first of the others, who wakes the next. (A lock around the write would not do: who releases it takes it
    again before those who wait have woken, and writes alone. Nor would waking all at once: each would fall asleep
    again over the interpreter's own lock, which the one who wakes them holds.) Threads that write all the time would
    fall into two halves, one of which writes while the other gets ready. So who leads waits a little for those whose
    write has just ended: they come again, and one write does for all.

    A signal's handler may raise anywhere in the main thread. So what ends a wait is written down, and waking is only
    to be sooner: each thread looks by itself from time to time, also after the one who leads.

    Args:
        write: writes items, all or none of them.
        errors: what ``write`` raises when it has kept nothing. Anything else came from outside, at any moment.
    """

    def __init__(self, write: Callable[[list[T]], None], errors: tuple[type[Exception], ...]) -> None:
        self._write, self._errors = write, errors
        self._mutex = threading.Lock()
        self._waiting: list[_Turn[T]] = []
        self._group: list[_Turn[T]] = []
        self._leader: _Turn[T] | None = None
        self._expected = 0
        self._full: threading.Lock | None = None  # released when all that are expected are here
        self._took = 0.0
        self._inside: set[int] = set()

    def submit(self, item: T) -> None:
        """Return when ``item`` is written.

        Raises:
            Exception: what the write that it was part of raised.
            RuntimeError: a signal's handler interrupted a submit() of its own thread, which cannot go on before it
                returns: nothing was kept. Or the thread that wrote was interrupted: it may be kept, or not.
        """
        me = threading.get_ident()
        if me in self._inside:
            raise RuntimeError(
                "nothing was kept: a signal's handler that interrupted a write cannot write in the same thread; "
                "let another thread do it"
            )
        if self._leader is not None:
            self._look_after_leader(me)
        turn = _Turn(item, me)
        try:
            self._inside.add(me)
            with self._mutex:
                self._waiting.append(turn)
                if self._leader is None:
                    self._leader = turn
                elif self._full is not None and len(self._waiting) >= self._expected:
                    full, self._full = self._full, None
                    full.release()
            if self._leader is not turn:
                self._wait(turn)
            if not turn.done:
                self._lead(turn)
        except BaseException:
            with self._mutex:
                if turn in self._waiting:
                    self._waiting.remove(turn)
            self._end(turn, RuntimeError(_INTERRUPTED))
            raise
        finally:
            self._inside.discard(me)
        if turn.error is not None:
            raise turn.error

    def _wait(self, turn: _Turn[T]) -> None:
        try:
            while not turn.wake.acquire(timeout=_LOOK_EACH) and not turn.done and self._leader is not turn:
                self._look_after_leader()
        finally:
            if turn.next is not None:
                turn.next.wake.release()

    def _look_after_leader(self, me: int | None = None) -> None:
        """Go on without a leader that was interrupted twice, and left without handing over."""
        leader = self._leader
        if leader is not None and (leader.thread == me or leader.thread not in self._inside):
            self._end(leader, RuntimeError(_INTERRUPTED))

    def _lead(self, turn: _Turn[T]) -> None:
        self._gather()
        with self._mutex:
            self._full = None
            self._group, self._waiting = self._waiting, []
        error: Exception | None = None
        began = time.monotonic()
        try:
            self._write([turn.item for turn in self._group])
        except self._errors as raised:
            error = raised
        self._took = time.monotonic() - began
        self._end(turn, error)

    def _gather(self) -> None:
        with self._mutex:
            if len(self._waiting) >= self._expected:
                return
            full = threading.Lock()
            full.acquire()
            self._full = full
        full.acquire(timeout=min(self._took / 2, _PATIENCE))

    def _end(self, leader: _Turn[T], error: Exception | None) -> None:
        with self._mutex:
            if self._leader is not leader:
                return
            group = self._group
            for turn in group:
                turn.error, turn.done = error, True  # in this order: who looks by itself goes by the second
            self._group, self._full = [], None
            self._expected = len(group) + len(self._waiting)
            self._leader = follower = self._waiting[0] if self._waiting else None
        if follower is not None:
            follower.wake.release()
        asleep = [turn for turn in group if turn is not leader]
        for turn, following in pairwise(asleep):
            turn.next = following
        if asleep:
            asleep[0].wake.release()
