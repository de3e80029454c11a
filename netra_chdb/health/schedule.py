"""Doing something again and again, in a thread of its own."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import Final

__all__ = ["Schedule"]

_LOG: Final = logging.getLogger(__name__)


class Schedule:
    """Calls a function again and again; one call at a time, however long one takes.

    Args:
        name: of the thread.
        function: returns the seconds to wait before its next call.
    """

    def __init__(self, name: str, function: Callable[[], float]) -> None:
        self._name = name
        self._function = function
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._wake = threading.Event()
        self._closed = False

    def start(self) -> None:
        """Begin; a second call does nothing, in a forked child it begins there."""
        if self._lives() or self._closed:
            return
        if self._pid not in (0, os.getpid()):
            self._lock, self._wake = threading.Lock(), threading.Event()  # another thread may have held them
        with self._lock:
            if not self._lives():
                self._pid = os.getpid()
                # A daemon: a server that hangs must not hold up the interpreter's exit.
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def _lives(self) -> bool:
        return self._pid == os.getpid() and self._thread is not None and self._thread.is_alive()

    def wake(self) -> None:
        """Call the function soon; calls that come while it runs are one."""
        self._wake.set()

    def _run(self) -> None:
        while not self._closed:
            self._wake.clear()
            try:
                wait = self._function()
            except Exception as error:
                # The class alone: the text of an error may quote what was sent.
                _LOG.warning("%s: %s; it is tried again in 5 s", self._name, type(error).__name__)
                wait = 5.0
            if not self._closed:
                self._wake.wait(wait)

    def close(self, wait: float = 2.0) -> None:
        """End it.

        Args:
            wait: seconds to give a call that runs; after that it is left to itself.
        """
        self._closed = True
        self._wake.set()
        thread = self._thread
        if thread is not None and self._lives() and thread is not threading.current_thread():
            thread.join(wait)
