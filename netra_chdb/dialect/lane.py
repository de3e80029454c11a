"""A DBAPI connection on a thread of its own, which makes its calls one after another.

Threads here are daemons: one that waits for a server must not hold up the interpreter's exit. What is still open then
is ended by an exit handler, within a bounded time.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent import futures
from queue import SimpleQueue
from typing import Any, Final, TypeAlias

__all__ = ["Lane"]

_LOG: Final = logging.getLogger(__name__)
_KILL_WITHIN: Final = 3.0
_EXIT_WITHIN: Final = 2.0
_GONE_WITHIN: Final = 0.1

_Call: TypeAlias = "tuple[futures.Future[Any], Callable[..., Any], tuple[Any, ...]]"


class Lane:
    """One connection and its thread, from the first call to :meth:`end`.

    Args:
        connect: opens the connection; called on the thread.
        cancel: ends on the server what runs on the connection it is given; called on any thread but that one.

    Attributes:
        opened: done when the connection is open, or failed to open.
        connection: the connection; None before it is open.
    """

    def __init__(self, connect: Callable[[], Any], cancel: Callable[[Any], None]) -> None:
        self.connection: Any = None
        self._cancel = cancel
        self._lock = threading.Lock()
        self._ended: futures.Future[None] | None = None
        self._closed: futures.Future[None] | None = None
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread = threading.Thread(target=_serve, args=(self._calls,), name="netra-chdb connection", daemon=True)
        self._thread.start()
        _live.add(self)
        self.opened = self._running = self._put(self._open, connect)

    def call(self, function: Callable[..., Any], *arguments: Any) -> futures.Future[Any]:
        """Let the thread call ``function``; the future carries what comes of it.

        Raises:
            RuntimeError: the lane has ended.
        """
        with self._lock:
            if self._ended is not None:
                raise RuntimeError("the lane has ended")
            self._running = self._put(function, *arguments)
            return self._running

    @property
    def ended(self) -> bool:
        """Whether :meth:`end` was called."""
        return self._ended is not None

    def end(self) -> futures.Future[None]:
        """Close the connection and end the thread; what still runs is killed on the server first.

        Returns:
            At once, a future that is done when all of this is, or when it takes too long: the rest then happens as
            soon as the connection's own time-outs let it. It carries no error.
        """
        with self._lock:
            if self._ended is None:
                self._ended = self._end()
            return self._ended

    def join(self) -> None:
        """Wait for a thread that has closed its connection to be gone: microseconds; for no other one."""
        if self._closed is not None and self._closed.done():
            self._thread.join(_GONE_WITHIN)

    # -- on the thread ---------------------------------------------------------

    def _open(self, connect: Callable[[], Any]) -> Any:
        self.connection = connect()
        return self.connection

    def _close(self) -> None:
        connection, self.connection = self.connection, None
        try:
            if connection is not None:
                connection.close()
        except Exception:
            _LOG.warning("a connection did not close cleanly", exc_info=True)
        finally:
            _live.discard(self)

    # -- ending ----------------------------------------------------------------

    def _put(self, function: Callable[..., Any], *arguments: Any) -> futures.Future[Any]:
        future: futures.Future[Any] = futures.Future()
        self._calls.put((future, function, arguments))
        return future

    def _end(self) -> futures.Future[None]:
        running = self._running
        idle = running.done() or running.cancel()  # a call not begun yet never begins
        self._closed = self._put(self._close)
        self._calls.put(None)
        if idle:
            return self._closed
        done: futures.Future[None] = futures.Future()
        if self.connection is None:
            # Nothing to kill: an attempt to connect ends by its own time-out, and what it opened is closed then.
            done.set_result(None)
            return done

        def kill() -> None:
            try:
                self.kill(running, _KILL_WITHIN)
                if running.done():
                    self._thread.join(_GONE_WITHIN)
            finally:
                done.set_result(None)

        threading.Thread(target=kill, name="netra-chdb kill", daemon=True).start()
        return done

    def kill(self, running: futures.Future[Any], within: float) -> None:
        """Kill the call on the server until it ends: the first attempt may come before the query has arrived there."""
        deadline, pause = time.monotonic() + within, 0.02
        while not running.done() and time.monotonic() < deadline:
            if (connection := self.connection) is not None:
                try:
                    self._cancel(connection)
                except Exception:
                    _LOG.warning("a query was given up and could not be killed", exc_info=True)
            futures.wait([running], timeout=min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(pause * 2, 0.2)

    def end_at_exit(self, deadline: float) -> None:
        """End in the thread that calls: no other can be started while the interpreter exits."""
        with self._lock:
            running = self._running
            if self._ended is None:
                self._ended = self._put(self._close)
                self._calls.put(None)
        self.kill(running, deadline - time.monotonic())
        self._thread.join(max(0.0, deadline - time.monotonic()))


def _serve(calls: SimpleQueue[_Call | None]) -> None:
    while (call := calls.get()) is not None:
        future, function, arguments = call
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function(*arguments))
            except BaseException as error:
                future.set_exception(error)
        # While it waits for the next call, the thread keeps nothing of this one alive.
        del call, future, function, arguments


_live: Final[set[Lane]] = set()
# The threads did not come along into a forked child, and what runs on their connections is its parent's.
os.register_at_fork(after_in_child=_live.clear)


@atexit.register
def _end_all() -> None:
    deadline = time.monotonic() + _EXIT_WITHIN
    for lane in list(_live):
        lane.end_at_exit(deadline)
