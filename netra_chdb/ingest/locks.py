"""Locks between processes: on files, let go by the kernel when their process ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

__all__ = ["FileLock", "Forked", "renew_in_child"]


class Forked(Protocol):
    """What holds locks that a forked child must not inherit: whoever held them is not there to let them go."""

    def after_fork(self) -> None:
        """Begin anew, in the child."""


_renewed: Final[weakref.WeakSet[Forked]] = weakref.WeakSet()


def renew_in_child(one: Forked) -> None:
    """Have ``one.after_fork()`` called in each forked child.

    Where it has them, ``before_fork()`` is called before, and ``after_fork_in_parent()`` in the parent.
    """
    _renewed.add(one)


def _tell_all(what: str) -> None:
    for one in list(_renewed):
        getattr(one, what, lambda: None)()


os.register_at_fork(
    before=lambda: _tell_all("before_fork"),
    after_in_parent=lambda: _tell_all("after_fork_in_parent"),
    after_in_child=lambda: _tell_all("after_fork"),
)


class FileLock:
    """A lock on a file, which is made where it is missing (mode 0600) and never removed while it is in use.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        # The kernel's lock is the process's: it says nothing between threads that share this object.
        self._inside = threading.Lock()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Close the file: a child that shared its parent's lock would keep it when the parent is gone."""
        self.close()

    def acquire(self, *, shared: bool = False, wait: bool = True) -> bool:
        """Take the lock.

        Args:
            shared: whether others may share it.
            wait: whether to wait for it.

        Returns:
            Whether it was taken.
        """
        if not self._inside.acquire(blocking=wait):
            return False
        try:
            taken = self._acquire(shared=shared, wait=wait)
        except BaseException:
            self._inside.release()
            raise
        if not taken:
            self._inside.release()
        return taken

    def _acquire(self, *, shared: bool, wait: bool) -> bool:
        if self._fd is None:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    @property
    def is_held(self) -> bool:
        """Whether somebody in this process holds it, or is about to."""
        return self._inside.locked()

    def release(self) -> None:
        """Let the lock go."""
        if self._fd is not None:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        if self._inside.locked():
            self._inside.release()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        fd, self._fd = self._fd, None
        self._inside = threading.Lock()
        if fd is not None:
            os.close(fd)

    @contextlib.contextmanager
    def held(self, *, shared: bool = False) -> Iterator[None]:
        """Hold the lock, waiting for it."""
        self.acquire(shared=shared)
        try:
            yield
        finally:
            self.release()
