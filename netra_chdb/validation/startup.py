"""Start-up: wait for ClickHouse, create the databases, migrate or only look, verify.

It has connections of its own, one at a time and none kept: while a server is away nothing takes the application's
pool, and nothing is counted against its breaker. A thousand processes may start at once. While a server is away each
makes about ten attempts in the first seconds, and one a second or less after that.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final, Literal, TypeAlias

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb import migrations
from netra_chdb.config import Config
from netra_chdb.dialect.view import views
from netra_chdb.engine import create_engine
from netra_chdb.errors import MigrationLocked, NetraError, NotReady, SchemaMismatch
from netra_chdb.validation.diagnosis import EMBEDDED, Diagnosis, Step, diagnose
from netra_chdb.validation.network import goes_through_proxy, reach
from netra_chdb.validation.rights import hidden
from netra_chdb.validation.schema import detached

__all__ = ["Startup", "verify"]

Phase: TypeAlias = Literal["starting", "ready", "failed", "stopped"]

_LOG: Final = logging.getLogger(__name__)
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0
_FACTOR: Final = 1.5
#: Seconds that one attempt to connect may take.
_ATTEMPT: Final = 5.0
#: Seconds for which an unknown name may become known: containers get theirs when they start.
_NAME_GRACE: Final = 10.0
_TELL_EVERY: Final = 1.0
#: In the background, what does not pass by itself is tried again after so many seconds: somebody may mend it.
_BACKGROUND_PAUSE: Final = 10.0


class Startup:
    """One start of an application.

    Args:
        config: the configuration.
        deadline: seconds after which :meth:`run` gives up; None for never.
        migrate: whether to create the databases and migrate them; else the schema is only looked at.
        engine: the engine to use; by default one of its own, without a pool.
        on_wait: called each second with what is being waited for, from another thread.
        admit: called before each attempt; raises while ClickHouse must not be asked.
        when_ready: called when all is there, before anybody who waits for it goes on.
    """

    def __init__(
        self,
        config: Config,
        *,
        deadline: float | None = 60.0,
        migrate: bool = True,
        engine: sa.Engine | None = None,
        on_wait: Callable[[str], None] | None = None,
        admit: Callable[[], None] = lambda: None,
        when_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._seconds = deadline
        self._migrate = migrate
        self._engine = engine
        self._listeners = [] if on_wait is None else [on_wait]
        self._admit = admit
        self._when_ready = when_ready
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._done = threading.Event()
        self._why_stopped = ""
        #: How it ended: without an exception when everything is there.
        self.outcome: Future[None] = Future()
        self.outcome.set_running_or_notify_cancel()  # one who waits and is cancelled does not end it for the others
        self._random = random.Random()  # noqa: S311 - spreads load, guards nothing
        url = config.sqlalchemy_url
        self._where = f"{url.host}:{url.port}" if url.port else str(url.host or EMBEDDED)
        #: How often it was tried to connect.
        self.attempts = 0
        #: What it is doing, or waiting for.
        self.status = f"connecting to {self._where}"
        #: Why it is not ready yet, or never will be.
        self.error: BaseException | None = None
        self.phase: Phase = "starting"

    # -- from outside ---------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether everything is there."""
        return self.phase == "ready"

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is ready, or has ended otherwise.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether it is ready.
        """
        self._done.wait(timeout)
        return self.ready

    @property
    def is_running(self) -> bool:
        """Whether it has not ended, and nobody has stopped it."""
        return self.phase == "starting" and not self._stop.is_set()

    def listen(self, on_wait: Callable[[str], None] | None) -> None:
        """Call one more listener each second with what is being waited for."""
        if on_wait is not None and on_wait not in self._listeners:
            self._listeners.append(on_wait)

    def stop(self, why: str) -> None:
        """End it, soon; who waits for it is told why. One that has ended stays as it is."""
        if not self._stop.is_set():
            self._why_stopped = why
            self._stop.set()

    def abandon(self) -> None:
        """Say that what ran it is gone: who waits for it would wait for ever."""
        if not self._done.is_set():
            self.stop("its task was cancelled")
            self._finish("stopped", _Stopped())

    # -- the work ---------------------------------------------------------------

    def run(self) -> None:
        """Do it all, waiting up to the deadline.

        Raises:
            NotReady: ClickHouse did not answer in time, or refused, or the start was stopped; the message says which,
                and what to do.
            SchemaMismatch: the schema is not the models'.
            MigrationLocked: another process migrated all the time.
        """
        self.attempt()
        self.outcome.result()

    def attempt(self) -> None:
        """Do it all as :meth:`run` does; how it ended is in ``outcome`` alone."""

        def work() -> None:
            while (error := self._tried()) is not None:
                self._raise_if_final(error)
                self._pause(self._next_pause())

        self._to_its_end(work)

    def run_behind(self) -> None:
        """Do it in a daemon thread, for as long as it takes: no failure is final, since somebody may mend it."""

        def work() -> None:
            said = ""
            while (error := self._tried()) is not None:
                found = self._diagnosed(error)
                if not found.passes and found.evidence != said:
                    said = found.evidence
                    _LOG.error("ClickHouse is not ready: %s; %s", found.evidence, found.recommendation)
                self._pause(self._next_pause() if found.passes else _BACKGROUND_PAUSE)

        self.in_thread(lambda: self._to_its_end(work))

    def in_thread(self, work: Callable[[], None]) -> None:
        """Run ``work`` in a daemon thread."""
        threading.Thread(target=work, name="netra-chdb-startup", daemon=True).start()

    def _to_its_end(self, work: Callable[[], None]) -> None:
        teller = threading.Thread(target=self._tell, name="netra-chdb-startup-teller", daemon=True)
        teller.start()
        try:
            work()
            if self._stop.is_set():
                raise _Stopped
            self.phase, self.status, self.error = "ready", "ready", None
            waited = time.monotonic() - self._began
            _LOG.info("%s is ready after %.1f s and %d attempt(s) to connect", self._where, waited, self.attempts)
            self._when_ready()
            self._finish("ready", None)
        except _Stopped as stopped:
            self._finish("stopped", stopped)
        except Exception as error:
            self._finish("failed", error)
        except BaseException as error:
            # A key that was pressed, or a task that was cancelled: one caller's, not all who wait.
            self.stop(f"it was interrupted by {type(error).__name__}")
            self._finish("stopped", _Stopped())
            raise
        finally:
            teller.join()

    def _finish(self, phase: Phase, error: Exception | None) -> None:
        self.phase = phase
        if isinstance(error, _Stopped):
            why = f"the start was stopped: {self._why_stopped}"
            error = NotReady(f"{why}; it was at: {self.status}" if self.error is not None else why)
        if error is not None:
            self.error = error
        self._done.set()
        if error is None:
            self.outcome.set_result(None)
        else:
            self.outcome.set_exception(error)

    def _tell(self) -> None:
        while not self._done.wait(_TELL_EVERY):
            text = f"waiting {time.monotonic() - self._began:.0f} s for ClickHouse: {self.status}"
            _LOG.info("%s", text)
            for listener in self._listeners:
                try:
                    listener(text)
                except Exception:
                    _LOG.exception("on_wait failed")

    def _tried(self) -> Exception | None:
        """Try once; return what went wrong, or None."""
        if self._stop.is_set():
            raise _Stopped
        try:
            self._admit()
            if self._engine is not None:
                self._prepare(self._engine)
            else:
                self._with_own_engine()
        except Exception as error:
            self.error = error
            found = self._diagnosed(error)
            self.status = f"{found.evidence} ({found.recommendation})"
            return error
        return None

    def _with_own_engine(self) -> None:
        arguments: dict[str, Any] = {} if self._config.is_embedded else {"open_within": _ATTEMPT}
        url = self._config.sqlalchemy_url
        if url.database in migrations.DATABASES:
            url = url.set(database="")  # it may not be there yet; None would leave it
        on = {"clickhouse_cluster": self._config.cluster}
        engine = create_engine(url, poolclass=sa.NullPool, connect_args=arguments, execution_options=on)
        try:
            hosts = getattr(engine.dialect, "hosts", None)
            if hosts is not None and not goes_through_proxy(engine.url):
                # The driver logs a warning for each attempt that is refused; a start has many.
                self.attempts += 1
                reach(hosts.all, _ATTEMPT)
            self._prepare(engine)
        finally:
            engine.dispose()

    def _prepare(self, engine: sa.Engine) -> None:
        with self._asking(engine) as connection:
            connection.exec_driver_sql("SELECT 1")
        self.status = "looking at the schema"
        if (behind := migrations.behind(engine)) and (ahead := migrations.ahead(engine)):
            raise SchemaMismatch(
                f"{', '.join(ahead)} at a revision that this version of the application does not have: deploy the "
                "newer version, which has migrated it, or let that one `alembic downgrade` first"
            )
        if behind and self._migrate:
            self.status = f"migrating {', '.join(behind)} (or waiting for another process that does)"
            migrations.upgrade(engine, lock_timeout=self._left())
        elif behind:
            with self._asking(engine) as connection:
                if (unread := hidden(connection, behind)) is not None:
                    raise SchemaMismatch(f"{unread.evidence}; {unread.recommendation}")
            raise SchemaMismatch(
                f"{', '.join(behind)} not at the newest revision, and migrate=False: run `netra-chdb init` or "
                "`alembic upgrade head`"
            )
        self.status = "verifying the schema"
        verify(engine)

    @contextmanager
    def _asking(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        # A server that accepts connections and says nothing is given up as soon as one that refuses them.
        with engine.connect() as connection:
            line = connection.connection.dbapi_connection
            dialect: Any = engine.dialect
            dialect.limit_wait(line, _ATTEMPT)
            try:
                yield connection
            finally:
                dialect.limit_wait(line, None)

    # -- waiting ----------------------------------------------------------------

    def _diagnosed(self, error: BaseException) -> Diagnosis:
        if isinstance(error, MigrationLocked):
            return Diagnosis(Step.STATEMENT, str(error), "wait until the other process has migrated", passes=True)
        return diagnose(error, self._where)

    def _left(self) -> float:
        if self._seconds is None:
            return 600.0
        return max(1.0, self._began + self._seconds - time.monotonic())

    def _raise_if_final(self, error: Exception) -> None:
        waited = time.monotonic() - self._began
        found = self._diagnosed(error)
        in_time = self._seconds is None or waited < self._seconds
        may_become_known = found.step is Step.NAME and waited < _NAME_GRACE
        if in_time and not self._config.is_embedded and (found.passes or may_become_known):
            return
        if isinstance(error, NetraError) or not isinstance(error, sa_exc.SQLAlchemyError | OSError):
            raise error
        when = f" after {waited:.0f} s and {self.attempts} attempt(s)" if found.passes else ""
        raise NotReady(f"ClickHouse is not ready{when}: {found.evidence}; {found.recommendation}") from error

    def _next_pause(self) -> float:
        bound = min(_LONGEST_PAUSE, _FIRST_PAUSE * _FACTOR ** min(self.attempts, 32))
        pause = self._random.uniform(bound / 2, bound)
        return pause if self._seconds is None else min(pause, max(0.0, self._left()))

    def _pause(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise _Stopped


class _Stopped(Exception):
    """Somebody has ended the start."""


def verify(engine: sa.Engine) -> None:
    """Look whether every table and view of the models is there.

    Raises:
        SchemaMismatch: one is not.
        sqlalchemy.exc.DBAPIError: ClickHouse did not answer, or refused.
    """
    with engine.connect() as connection:
        inspector = sa.inspect(connection)
        for database, metadata in migrations.DATABASES.items():
            wanted = {table.name for table in metadata.tables.values()} | {view.name for view in views(metadata)}
            there = {
                *inspector.get_table_names(schema=database),
                *engine.dialect.get_materialized_view_names(connection, schema=database),
            }
            if missing := sorted(wanted - there):
                if aside := sorted(detached(connection, database).intersection(missing)):
                    attach = "; ".join(f"ATTACH TABLE {database}.{name}" for name in aside)
                    raise SchemaMismatch(
                        f"{database} is at the newest revision, but {', '.join(aside)} is detached: {attach}"
                    )
                raise SchemaMismatch(
                    f"{database} is at the newest revision, but has no {', '.join(missing)}: somebody removed it. "
                    "Put it back as `alembic upgrade head --sql` prints it"
                )
