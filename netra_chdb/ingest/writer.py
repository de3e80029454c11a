"""The writer: what it has acknowledged is on disk or in ClickHouse, and gets there once.

``record()`` returns when the row is on this machine's disk; a thread sends rows as batches. ``insert()`` sends at
once. It notes in the spool what it sends before it does: if this process dies, whoever drains the spool next makes
sure that the summaries say what the table says. Such an insert was not acknowledged, and is stored whole or not at
all. Where ClickHouse is away or does not answer, an insert goes to the spool, rows and all.

Rows that are spooled keep their order, table by table; an ``insert()`` does not wait for them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Literal, Self

import sqlalchemy as sa

from netra_chdb.errors import InvalidRow, NotReady
from netra_chdb.ingest.backlog import Backlog
from netra_chdb.ingest.batch import Batch, RowChecker, to_rows
from netra_chdb.ingest.drain import Drainer
from netra_chdb.ingest.locks import renew_in_child
from netra_chdb.ingest.quarantine import Quarantine
from netra_chdb.ingest.queued import Attempt, State
from netra_chdb.ingest.receipt import Receipt
from netra_chdb.ingest.send import send
from netra_chdb.ingest.spool import Spool
from netra_chdb.ingest.verdict import Verdict, judge

__all__ = ["AsyncWriter", "Writer"]

_LOG: Final = logging.getLogger(__name__)
_POLL: Final = 0.02
#: Seconds after which flush() asks again for what was put off.
_HURRY_EACH: Final = 0.5
#: Seconds that close() gives a last pass.
_LAST_PASS: Final = 5.0


class Writer:
    """Writes to ClickHouse through a spool. Any thread may use it; nothing is started before the first use.

    Args:
        engine: of ClickHouse; what guards it guards the writer.
        spool: where rows wait.
        flush_rows: rows that make a flush.
        flush_interval: seconds that a row waits for a flush at most.
        degraded: ClickHouse is switched off: everything is spooled, nothing sent.
        drainer: sends what is spooled; by default one over ``engine``.

    Attributes:
        spool: where rows wait.
        quarantine: rows that were put aside.
        degraded: as given; may be set at any time.
    """

    def __init__(
        self,
        engine: sa.Engine,
        spool: Spool,
        *,
        flush_rows: int = 10_000,
        flush_interval: float = 1.0,
        degraded: bool = False,
        drainer: Drainer | None = None,
    ) -> None:
        self._engine = engine
        self.spool = spool
        self.quarantine = Quarantine(spool)
        self._backlog = Backlog(spool)
        self._drainer = drainer or Drainer(engine, self._backlog, batch_rows=flush_rows)
        self._flush_rows = flush_rows
        self._flush_interval = flush_interval
        self.degraded = degraded
        self._checkers: dict[sa.Table, RowChecker] = {}
        self.after_fork()
        renew_in_child(self)
        self._flusher: _Flusher | None = None
        self._recorded = 0
        self._closed = False

    def after_fork(self) -> None:
        """Begin with a lock that nobody holds."""
        self._start_lock = threading.Lock()

    # -- writing ---------------------------------------------------------------

    def record(self, table: Any, row: Any) -> None:
        """Keep one row on disk, to be sent with others; it is durable when this returns.

        Args:
            table: a table, or a model.
            row: a dict, dataclass or model instance.

        Raises:
            InvalidRow: the table can never accept it.
            SpoolFull: there is no room on disk.
            ConfigError: the spool holds rows for another ClickHouse.
        """
        self._check_open()
        checker = self._checker(table)
        mapping = row if type(row) is dict else next(iter(to_rows([row], checker.table)))
        values, problems = checker.check(0, mapping)
        if problems:
            raise InvalidRow(checker.table.fullname, problems)
        self.spool.append(checker.table, checker.columns, [values])
        flusher = self._running()
        self._recorded += 1
        if self._recorded >= self._flush_rows:
            self._recorded = 0
            flusher.wake.set()

    def insert(
        self,
        table: Any,
        rows: Any,
        *,
        on_invalid: Literal["raise", "quarantine"] = "raise",
        timeout: float | None = None,
    ) -> Receipt:
        """Send rows at once, in batches of up to ``BATCH_ROWS``; spool what ClickHouse cannot take now.

        Args:
            table: a table, or a model.
            rows: a list of dicts, dataclasses or model instances, an Arrow table or reader, or a data frame (pandas,
                polars, or any other that has ``__arrow_c_stream__``).
            on_invalid: with ``"quarantine"``, rows that the model or ClickHouse refuses are put aside and the others
                go in; for ClickHouse's the batch is spooled, and the bad rows are found in the background.
            timeout: seconds to wait for ClickHouse with each batch; then this one and those after it are spooled. By
                default it is the driver's own (``send_receive_timeout``, 300 s).

        Returns:
            The receipt: ``"stored"``; ``"spooled"`` where some of it is still on its way; ``"quarantined"`` where
            every row was put aside.

        Raises:
            InvalidRow: rows that the table can never accept; nothing was sent.
            ValueError: ``on_invalid`` is neither; nothing was sent.
            SpoolFull: ClickHouse is away, and there is no room on disk.
            ConfigError: the spool holds rows for another ClickHouse; nothing was sent.
            sqlalchemy.exc.DBAPIError: ClickHouse refused a batch; the error's notes say which ones are in.
        """
        self._check_open()
        if on_invalid not in ("raise", "quarantine"):
            raise ValueError(f"on_invalid is 'raise' or 'quarantine', not {on_invalid!r}")
        checker = self._checker(table)
        batches, bad, invalid = checker.sort(rows)
        if invalid.problems:
            if on_invalid == "raise":
                raise invalid
            self.quarantine.add(checker.table, bad, invalid)
        spooled = self.degraded
        for place, batch in enumerate(batches):
            try:
                # Once one is spooled the others follow it: their order is kept.
                if spooled:
                    self._keep(batch, "frozen", "ClickHouse is away")
                else:
                    spooled = not self._stored(batch, put_aside=on_invalid == "quarantine", timeout=timeout)
            except Exception as error:
                before = ", ".join(batch.token for batch in batches[:place]) or "none"
                error.add_note(f"{checker.table.fullname}: batches taken before are {before}; this is {batch.token}")
                raise
        ids = tuple(batch.token for batch in batches)
        state: Literal["stored", "spooled", "quarantined"] = "spooled" if spooled else "stored"
        if not batches:
            state = "quarantined" if invalid.problems else "stored"
        return Receipt(sum(batch.rows for batch in batches), ids, state, invalid.problems)

    def _stored(self, batch: Batch, *, put_aside: bool, timeout: float | None) -> bool:
        """Send a batch; says whether it is stored. Else it is spooled."""
        attempt = Attempt(batch.token)
        self.spool.intend(batch, attempt)
        try:
            connection = self._engine.connect()
        except Exception as error:
            self._keep(batch, "frozen", str(error), attempt)
            return False
        except BaseException:
            self.spool.forget(batch)
            raise
        try:
            with connection:
                send(connection, batch, attempt, timeout=timeout)
        except Exception as error:
            verdict = judge(error)
            refused = verdict in (Verdict.ROWS, Verdict.REFUSED, Verdict.STATEMENT)
            if refused and (verdict is Verdict.STATEMENT or not put_aside):
                # The caller is told. A view may have refused what its table has taken: that is found out later.
                self.spool.abandon(batch)
                self._running()
                raise
            self._keep(batch, "frozen" if verdict is Verdict.UNSENT else "sent", str(error), attempt)
            return False
        except BaseException:
            self.spool.abandon(batch)
            self._running()
            raise
        try:
            self.spool.forget(batch)
        except Exception as error:
            # It is stored: who was told otherwise would send it again. Whoever drains after this process looks at it.
            _LOG.warning("batch %s is stored, and its intent stays in the spool: %s", batch.token, error)
        return True

    def _keep(self, batch: Batch, state: State, reason: str, attempt: Attempt | None = None) -> None:
        try:
            self.spool.keep(batch, state, attempt or Attempt(batch.token), reason=reason[:500])
        except BaseException:
            self.spool.abandon(batch)
            raise
        finally:
            self._running()

    def _checker(self, table: Any) -> RowChecker:
        found: sa.Table = table if isinstance(table, sa.Table) else table.__table__
        if found not in self._checkers:
            self._checkers[found] = RowChecker(found)
        return self._checkers[found]

    def requeue(self, ids: list[int] | None = None) -> int:
        """Put rows of the quarantine back into the queue: all, or those of ``ids``; what a model refuses stays.

        Returns:
            How many.
        """

        def check(table: str, row: Mapping[str, Any]) -> tuple[tuple[str, ...], list[Any]] | None:
            checker = next((known for found, known in self._checkers.items() if found.fullname == table), None)
            if checker is None:
                return None
            values, problems = checker.check(0, row)
            return None if problems else (checker.columns, values)

        moved = self.quarantine.requeue(ids, check=check)
        self._running().wake.set()
        return moved

    # -- flushing --------------------------------------------------------------

    def flush(self, timeout: float = 60.0) -> None:
        """Wait until everything accepted so far, by any process on this spool, is in ClickHouse or in quarantine.

        Args:
            timeout: seconds to wait at most.

        Raises:
            NotReady: it is not, with the reason; nothing is lost, and the writer goes on trying.
        """
        self._check_open()
        mark = self._backlog.mark()
        deadline = time.monotonic() + timeout
        hurry_at = 0.0
        while left := self._backlog.left(mark):
            flusher = self._running()
            if time.monotonic() >= deadline or self.degraded:
                why = "ClickHouse is switched off (mode is degraded)" if self.degraded else "; ".join(
                    self._drainer.reasons()) or "somebody else drains the spool"  # fmt: skip
                raise NotReady(f"{left} rows or batches are not in ClickHouse after {timeout:g} s: {why}")
            if time.monotonic() >= hurry_at:
                flusher.hurry.set()
                flusher.wake.set()
                hurry_at = time.monotonic() + _HURRY_EACH
            time.sleep(_POLL)

    def start(self) -> None:
        """Begin to send what the spool holds from before; record() and insert() do so by themselves."""
        self._check_open()
        self._running()

    def _running(self) -> _Flusher:
        flusher = self._flusher
        if flusher is None or not flusher.lives():
            with self._start_lock:
                if self._flusher is None or not self._flusher.lives():
                    self._flusher = _Flusher(self.spool, self._drainer, self._flush_interval, lambda: self.degraded)
                    self._flusher.start()
                flusher = self._flusher
        return flusher

    # -- close -----------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise NotReady("the writer is closed")

    def close(self) -> None:
        """Send what can be sent within some seconds, and stop; what is left stays on disk.

        A second call does nothing.
        """
        if self._closed:
            return
        self._closed = True
        flusher = self._flusher
        if flusher is not None and flusher.lives():
            flusher.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Flusher(threading.Thread):
    """Drains the spool, whenever this process can be the one that does."""

    def __init__(self, spool: Spool, drainer: Drainer, interval: float, idle: Callable[[], bool]) -> None:
        # A daemon: a server that hangs must not hold up the interpreter's exit; nothing is lost by that.
        super().__init__(name="netra-chdb-flusher", daemon=True)
        self._spool, self._drainer, self._interval, self._idle = spool, drainer, interval, idle
        self._pid = os.getpid()
        self.wake = threading.Event()
        self.hurry = threading.Event()
        self._closing = threading.Event()
        self._ends_at = float("inf")

    def lives(self) -> bool:
        """Whether the thread is there: a forked child has none."""
        return self._pid == os.getpid() and self.is_alive()

    def run(self) -> None:
        wait = self._interval
        while not self._closing.is_set():
            self.wake.wait(wait)
            self.wake.clear()
            if not self._idle():
                wait = self._pass()
        if not self._idle():
            self._pass()

    def _pass(self) -> float:
        if not self._spool.drainer.acquire(wait=False):
            return self._interval
        try:
            if self.hurry.is_set():
                self.hurry.clear()
                self._drainer.hurry()
            next_in = self._drainer.run(lambda: time.monotonic() > self._ends_at)
            return self._interval if next_in is None else min(self._interval, max(next_in, _POLL))
        except Exception:
            _LOG.exception("the spool could not be drained; it is tried again in a second")
            return 1.0
        finally:
            self._spool.drainer.release()

    def finish(self) -> None:
        """Make a last pass and end."""
        self._ends_at = time.monotonic() + _LAST_PASS
        self._closing.set()
        self.hurry.set()
        self.wake.set()
        self.join(2 * _LAST_PASS)


class AsyncWriter:
    """A writer's face for asyncio: the same methods, run off the event loop.

    Args:
        writer: the writer.
    """

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    async def record(self, table: Any, row: Any) -> None:
        """See :meth:`Writer.record`."""
        await asyncio.to_thread(self.writer.record, table, row)

    async def insert(
        self,
        table: Any,
        rows: Any,
        *,
        on_invalid: Literal["raise", "quarantine"] = "raise",
        timeout: float | None = None,
    ) -> Receipt:
        """See :meth:`Writer.insert`; a task that is cancelled leaves the insert to go on."""
        return await asyncio.to_thread(self.writer.insert, table, rows, on_invalid=on_invalid, timeout=timeout)

    async def flush(self, timeout: float = 60.0) -> None:
        """See :meth:`Writer.flush`."""
        await asyncio.to_thread(self.writer.flush, timeout)

    async def close(self) -> None:
        """See :meth:`Writer.close`."""
        await asyncio.to_thread(self.writer.close)
