"""The writer of a configuration, opened when it is first needed: who only reads makes no directory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb.config import Config
from netra_chdb.errors import NetraError, NotReady
from netra_chdb.ingest.backlog import Backlog
from netra_chdb.ingest.batch import BATCH_ROWS
from netra_chdb.ingest.drain import Drainer
from netra_chdb.ingest.locks import renew_in_child
from netra_chdb.ingest.spool import Spool
from netra_chdb.ingest.spool_file import NAME
from netra_chdb.ingest.target import target_of
from netra_chdb.ingest.writer import Writer
from netra_chdb.resilience.retry import RetryPolicy

__all__ = ["LazyWriter"]

_LOG: Final = logging.getLogger(__name__)


class LazyWriter:
    """Opens the spool and its writer once; calling it returns the writer.

    Args:
        config: where the spool is, and when to flush it.
        engine: gives the engine to write through: a synchronous one.
        policy: the delays after failures.
        is_degraded: whether ClickHouse is switched off.
    """

    def __init__(
        self,
        config: Config,
        engine: Callable[[], sa.Engine],
        policy: RetryPolicy,
        is_degraded: Callable[[], bool],
    ) -> None:
        self._config, self._engine, self._policy, self._is_degraded = config, engine, policy, is_degraded
        self.after_fork()
        renew_in_child(self)
        self._writer: Writer | None = None
        self._closed = False

    def after_fork(self) -> None:
        """Begin with a lock that nobody holds."""
        self._lock = threading.Lock()

    def __call__(self) -> Writer:
        """Return the writer.

        Raises:
            ConfigError: nothing can be kept in the spool's directory.
            NotReady: it is closed.
        """
        with self._lock:
            if self._writer is None and self._closed:
                raise NotReady("the data access is closed")
            if self._writer is None:
                config, engine = self._config, self._engine()
                spool = Spool(config.spool_dir, max_bytes=config.spool_max_bytes, target=target_of(engine))
                rows = min(config.flush_rows, BATCH_ROWS)
                self._writer = Writer(
                    engine,
                    spool,
                    flush_rows=rows,
                    flush_interval=config.flush_interval,
                    degraded=self._is_degraded(),
                    drainer=Drainer(engine, Backlog(spool), policy=self._policy, batch_rows=rows),
                )
            return self._writer

    def if_any(self) -> Writer | None:
        """Return the writer if it is open, or if an earlier process left a spool; else nothing is made."""
        if self._writer is None and not (self._config.spool_dir / NAME).exists():
            return None
        return self()

    def resume(self) -> None:
        """Go on with what an earlier process left; a spool that cannot be opened is named in the log alone."""
        try:
            writer = None if self._closed else self.if_any()
            if writer is not None:
                writer.start()
        except (NetraError, sa_exc.SQLAlchemyError) as error:
            # Who reads is none the worse for it, and the first write says so.
            _LOG.warning("what waits in %s is not sent: %s", self._config.spool_dir, error)

    def mode_changed(self) -> None:
        """ClickHouse was switched off, or on again."""
        with self._lock:
            if self._writer is not None:
                self._writer.degraded = self._is_degraded()

    def close(self) -> None:
        """Send what can be sent within some seconds, and close; what is left stays on disk."""
        with self._lock:
            writer, self._closed = self._writer, True
        if writer is not None:
            writer.close()
            writer.spool.close()
