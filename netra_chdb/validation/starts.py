"""The starts of one data access: callers that want the same join the one that is running."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

import sqlalchemy as sa

from netra_chdb.config import Config
from netra_chdb.validation.startup import Startup

__all__ = ["Starts", "Wanted"]


class Wanted(NamedTuple):
    """What a caller asks of a start.

    Attributes:
        deadline: seconds to wait at most; None for ever.
        migrate: whether to create the databases and migrate them.
        wait: whether the caller waits for its end.
    """

    deadline: float | None
    migrate: bool
    wait: bool


class Starts:
    """Keeps the last start.

    Args:
        config: the configuration.
        admit: called before each attempt; raises while ClickHouse must not be asked.
        when_ready: called when the last start is ready; not for one that another took the place of.
    """

    def __init__(self, config: Config, admit: Callable[[], None], when_ready: Callable[[], None]) -> None:
        self._config, self._admit, self._when_ready = config, admit, when_ready
        self._lock = threading.Lock()
        self._wanted: Wanted | None = None
        self._waiting = 0
        self.last: Startup | None = None

    def join(
        self, wanted: Wanted, engine: sa.Engine, on_wait: Callable[[str], None] | None, begin: Callable[[Startup], None]
    ) -> Startup:
        """Return the start that is running, or a new one that takes the place of one that wants something else.

        Who waits for its end calls :meth:`leave` afterwards.

        Args:
            wanted: what is asked of it.
            engine: the application's.
            on_wait: called each second with what is being waited for.
            begin: called with a new one: it must see to it that it runs, and return at once.
        """
        with self._lock:
            if self.last is not None and self.last.is_running:
                if wanted == self._wanted:
                    self.last.listen(on_wait)
                    self._waiting += 1
                    return self.last
                self.last.stop("another initialize() with other arguments took its place")
            made = Startup(
                self._config,
                deadline=wanted.deadline,
                migrate=wanted.migrate,
                # Of a database in memory there is one for each engine.
                engine=engine if self._config.is_embedded else None,
                on_wait=on_wait,
                admit=self._admit,
                when_ready=lambda: self._ready(made),
            )
            self.last, self._wanted, self._waiting = made, wanted, 1
            begin(made)
            return made

    def _ready(self, startup: Startup) -> None:
        with self._lock:
            if startup is self.last:
                self._when_ready()

    def leave(self, startup: Startup) -> bool:
        """Say that a caller waits no more, and stop the last start if nobody does; return whether it was stopped."""
        with self._lock:
            if startup is not self.last:
                return False
            self._waiting -= 1
            if not self._waiting:
                startup.stop("nobody waits for it any more")
            return not self._waiting

    def stop(self, why: str) -> None:
        """Stop the last start, if there is one."""
        if self.last is not None:
            self.last.stop(why)
