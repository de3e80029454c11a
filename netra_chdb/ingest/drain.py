"""From the spool to ClickHouse: each table's batches in order, settled where their fate is unknown.

A pass does what can be done now. A table whose batch has to wait (ClickHouse is away, a query still runs) is held
for a while, with the delays of the retry policy, and holds no other table up.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import sqlalchemy as sa

from netra_chdb.errors import Advice, BreakerOpen, ConfigError, Statement, advise, classify
from netra_chdb.ingest import settle
from netra_chdb.ingest.backlog import Backlog, Damaged
from netra_chdb.ingest.batch import Batch
from netra_chdb.ingest.queued import Attempt, Queued
from netra_chdb.ingest.send import send
from netra_chdb.ingest.verdict import Verdict, judge
from netra_chdb.models import analytics, traces
from netra_chdb.models.base import DEDUPLICATION_WINDOW
from netra_chdb.models.summary import Summary
from netra_chdb.resilience.retry import RetryPolicy

__all__ = ["SUMMARIES", "Drainer"]

_LOG: Final = logging.getLogger(__name__)
#: Every summary of the models.
SUMMARIES: Final[tuple[Summary, ...]] = (*analytics.SUMMARIES, *traces.SUMMARIES)
#: A batch that is refused for an unknown reason is given up after so many attempts.
_ATTEMPTS: Final = 3
#: How long a cluster's tables remember a batch, unless others insert more than sixteen batches a second meanwhile.
_SURELY_REMEMBERED: Final = dt.timedelta(minutes=10)

Key: TypeAlias = tuple[str, str]


@dataclass(slots=True)
class _Hold:
    """Why nothing is done about a table until some time."""

    until: float
    failures: int
    reason: str


class _Wait(Exception):
    """This table has to wait."""

    def __init__(
        self, reason: str, seconds: float | None = None, *, advice: Advice = Advice.RETRY, attempts: int = 1
    ) -> None:
        self.reason, self.seconds, self.advice, self.attempts = reason, seconds, advice, attempts
        super().__init__(reason)


class Drainer:
    """Sends what a spool holds. Only who holds the drainer's lock of the spool may run it.

    Args:
        engine: of ClickHouse; with a guard, the breaker is asked before each statement.
        backlog: the spool's.
        summaries: what is compared with its source after an uncertain end.
        policy: the delays after failures.
        batch_rows: how many rows to freeze into one batch.
        grace: seconds between the server's first answer after an uncertain end and the counting of rows, in which
            what still lay in its sockets begins to run.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        engine: sa.Engine,
        backlog: Backlog,
        *,
        summaries: Sequence[Summary] = SUMMARIES,
        policy: RetryPolicy | None = None,
        batch_rows: int = 10_000,
        grace: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._backlog = backlog
        self._summaries: dict[Key, list[Summary]] = defaultdict(list)
        for summary in summaries:
            table = summary.source.__table__
            self._summaries[str(table.schema or ""), table.name].append(summary)
        self._policy = policy or RetryPolicy()
        self._batch_rows = batch_rows
        self._grace = grace
        self._clock = clock
        self._holds: dict[Key | str, _Hold] = {}
        self._errors: dict[uuid.UUID, BaseException] = {}
        self._answered: dict[str, float] = {}
        self._short: dict[tuple[str, frozenset[int]], frozenset[Queued]] = {}
        self._warned, self._counted_at = False, 0

    @property
    def _is_sharded(self) -> bool:
        return bool(self._engine.get_execution_options().get("clickhouse_cluster"))

    def run(self, stopped: Callable[[], bool] = lambda: False) -> float | None:
        """Do what can be done now.

        Args:
            stopped: says between two batches whether to end.

        Returns:
            Seconds until something that was held can go on; None when nothing is held.
        """
        if self._guarded("spool", self._claim):
            self._warn()
            self._guarded("loose", self._settle_loose)
            for key in self._backlog.tables():
                while not stopped() and self._guarded(key, lambda: self._step(*key)):  # noqa: B023
                    pass
            self._guarded("loose", self._settle_loose)
        now = self._clock()
        return min((max(0.0, hold.until - now) for hold in self._holds.values()), default=None)

    def hurry(self) -> None:
        """Wait for nothing that is only a delay: somebody asks for everything now."""
        for hold in self._holds.values():
            hold.until = self._clock()

    def reasons(self) -> list[str]:
        """Why tables are held."""
        return sorted({hold.reason for hold in self._holds.values()})

    def _guarded(self, key: Key | str, act: Callable[[], bool]) -> bool:
        """Do one step unless the table is held; hold it where the step has to wait. Says whether to go on."""
        hold = self._holds.get(key)
        if hold is not None and hold.until > self._clock():
            return False
        try:
            try:
                more = act()
            except ConfigError as error:  # the rows are another ClickHouse's
                raise _Wait(str(error)) from error
        except _Wait as wait:
            failures = max(wait.attempts, hold.failures + 1 if hold is not None else 1)
            seconds = wait.seconds
            if seconds is None:
                bound = self._policy.bound(failures, wait.advice)
                seconds = self._policy.rng.uniform(bound / 2, bound) if self._policy.jitter else bound
            self._holds[key] = _Hold(self._clock() + seconds, failures, wait.reason)
            _LOG.log(logging.WARNING if failures == 1 else logging.DEBUG, "%s waits: %s", key, wait.reason)
            return False
        self._holds.pop(key, None)
        return more

    def _claim(self) -> bool:
        self._backlog.claim()
        return True

    # -- one table's queue ---------------------------------------------------

    def _step(self, schema: str, name: str) -> bool:
        """Do the next thing for a table; says whether there may be more."""
        queued = self._backlog.next_batch(schema, name)
        if queued is None:
            try:
                frozen = self._backlog.freeze(schema, name, self._batch_rows)
            except Damaged as damaged:
                self._backlog.put_damaged_aside(damaged)
                return True
            if frozen is None:
                return False
            self._send(*frozen, frozen[0].attempt)
        elif queued.state == "sent":
            self._settle(queued)
        else:
            batch = self._load(queued)
            if batch is not None:
                attempt = Attempt(queued.attempt.token)
                self._backlog.sending(queued, attempt)
                self._send(queued, batch, attempt)
        return True

    def _load(self, queued: Queued) -> Batch | None:
        try:
            return self._backlog.load(queued)
        except Damaged as damaged:
            self._backlog.put_damaged_aside(damaged, queued)
            return None

    def _warn(self) -> None:
        span = self._backlog.span()
        # To count a backlog is to read it: again when it is a quarter larger, or half as large.
        if self._warned or self._counted_at / 2 <= span <= self._counted_at * 1.25:
            return
        self._counted_at = span
        if (batches := self._backlog.batches(self._batch_rows)) > DEDUPLICATION_WINDOW:
            self._warned = True
            _LOG.warning(
                "the spool holds %d batches, more than the %d that a table's deduplication window remembers",
                batches,
                DEDUPLICATION_WINDOW,
            )

    def _connect(self) -> sa.Connection:
        try:
            return self._engine.connect()
        except Exception as error:
            raise _away(error) from error

    def _send(self, queued: Queued, batch: Batch, attempt: Attempt) -> None:
        try:
            connection = self._connect()
        except _Wait as wait:
            self._backlog.unsent(queued, attempt.token, wait.reason)
            raise
        try:
            with connection:
                send(connection, batch, attempt)
        except Exception as error:
            verdict, reason = judge(error), _reason(error)
            if verdict is Verdict.UNSENT:
                self._backlog.unsent(queued, attempt.token, reason)
                raise _away(error) from error
            # Also after a refusal: a view's may come when the table has its part already.
            self._backlog.unknown(queued, reason)
            self._errors[queued.batch_id] = error
            if verdict is Verdict.UNKNOWN:
                raise _away(error, queued.attempts + 1) from error
        else:
            if queued.suspect:
                self._backlog.stored(queued)
            else:
                self._backlog.done(queued)

    def _settle(self, queued: Queued) -> None:
        """Find out what became of a batch whose rows are in the spool, and go on from there."""
        error = self._errors.get(queued.batch_id)
        verdict = judge(error) if error is not None else Verdict.UNKNOWN
        count = self._fate(queued, wait=verdict in (Verdict.UNKNOWN, Verdict.TOO_LARGE))
        if count and (count == queued.rows or not self._is_sharded):
            self._errors.pop(queued.batch_id, None)
            self._fill_views(queued)
            return
        reason = queued.reason or "its sender is gone"
        # The old token may be noted without its part: the same rows would be dropped under it. Not on a cluster, where
        # one write notes both: each shard takes what it lacks, whatever a replica that lags has counted.
        self._backlog.unknown(queued, reason)
        self._backlog.unsent(queued, queued.attempt.token if self._is_sharded else str(uuid.uuid4()), reason)
        if error is None or verdict is Verdict.UNKNOWN:
            return
        if verdict is Verdict.STATEMENT or count:  # one shard has its part, so that it cannot be split
            raise _Wait(reason, advice=Advice.RETRY_LATER)
        batch = self._load(queued)
        if batch is None:
            return
        self._errors.pop(queued.batch_id, None)
        if queued.rows > 1:
            self._backlog.split(queued, batch)
        elif verdict is Verdict.ROWS or (verdict is Verdict.REFUSED and queued.attempts >= _ATTEMPTS):
            self._backlog.put_aside(queued, batch, reason)
        else:
            later = Advice.RETRY_LATER if verdict is Verdict.TOO_LARGE else Advice.RETRY
            raise _Wait(reason, advice=later, attempts=queued.attempts)

    def _fate(self, queued: Queued, *, wait: bool) -> int:
        """Count a batch's rows once it is sure that nobody is sending it."""
        query_id = queued.attempt.query_id
        connection = self._connect()
        try:
            with connection:
                if not settle.stop(connection, query_id):
                    raise _Wait(f"query {query_id} is still running")
                since = self._clock() - self._answered_at(queued)
                if wait and since < self._grace:
                    raise _Wait(f"batch {queued.batch_id} may still arrive", self._grace - since)
                count = settle.count_rows(connection, queued)
        except _Wait:
            raise
        except Exception as error:
            self._answered.clear()  # a server that went away counts from its next answer
            raise _away(error) from error
        self._answered.pop(query_id, None)
        if count not in (0, queued.rows) and not self._is_sharded:
            _LOG.warning("%s.%s has %d of the %d rows of batch %s: somebody deleted some",
                         queued.schema, queued.name, count, queued.rows, queued.batch_id)  # fmt: skip
        return count

    def _answered_at(self, queued: Queued) -> float:
        """When the server first answered after a batch's uncertain end: now, if nothing is known of it."""
        if queued.attempt.query_id not in self._answered:
            # Those behind it in the queue ended before now as well: they all wait at the same time.
            others = self._backlog.settling(queued.schema, queued.name)
            self._answered = {**dict.fromkeys([queued.attempt.query_id, *others], self._clock()), **self._answered}
        return self._answered[queued.attempt.query_id]

    def _fill_views(self, queued: Queued) -> None:
        """Send a stored batch again under its token, which fills views that are short, where that adds nothing else."""
        connection = self._connect()
        try:
            with connection:
                if self._is_remembered(connection, queued) and (batch := self._load(queued)) is not None:
                    attempt = Attempt(queued.attempt.token)
                    self._backlog.sending(queued, attempt)
                    send(connection, batch, attempt)
        except Exception as error:
            self._backlog.unknown(queued, _reason(error))
            raise _away(error) from error
        self._backlog.stored(queued)

    def _is_remembered(self, connection: sa.Connection, queued: Queued) -> bool:
        if self._is_sharded:
            # Each shard has a window of its own, and numbers that this host does not see.
            return dt.datetime.now(dt.UTC) - queued.created_at < _SURELY_REMEMBERED
        return settle.is_remembered(connection, queued)

    # -- batches without rows in the spool -------------------------------------

    def _settle_loose(self) -> bool:
        stored: dict[Key, list[Queued]] = defaultdict(list)
        waits: list[_Wait] = []
        unsettled: set[Key] = set()
        for queued in self._backlog.loose():
            try:
                if queued.state == "stored":
                    stored[queued.schema, queued.name].append(queued)
                elif self._fate(queued, wait=True):
                    self._backlog.stored(queued)
                    stored[queued.schema, queued.name].append(queued)
                else:
                    self._backlog.done(queued)  # it was not acknowledged to anybody
            except _Wait as wait:
                waits.append(wait)
                unsettled.add((queued.schema, queued.name))
        # What is not settled yet may be in its table and not in a summary: nothing else would explain the difference.
        for key in stored.keys() - unsettled:
            if not self._backlog.settling(*key):
                try:
                    self._compare(key, stored[key])
                except _Wait as wait:
                    waits.append(wait)
        if waits:
            raise waits[0]
        return False

    def _compare(self, key: Key, batches: Sequence[Queued]) -> None:
        """Compare the summaries that batches touched with their source, and mend what is missing there."""
        connection = self._connect()
        try:
            with connection:
                for queued in batches:
                    # A mending whose sender died may be running.
                    if not settle.stop(connection, queued.attempt.query_id):
                        raise _Wait(f"query {queued.attempt.query_id} is still running")
                for summary in self._summaries[key]:
                    self._compare_one(connection, summary, batches)
        except _Wait:
            raise
        except Exception as error:
            raise _away(error) from error
        for queued in batches:
            self._backlog.done(queued)

    def _compare_one(self, connection: sa.Connection, summary: Summary, batches: Sequence[Queued]) -> None:
        seen = (summary.name, frozenset(queued.seq for queued in batches))
        before = self._short.pop(seen, None)
        lacking = settle.missing(connection, summary, batches)
        if lacking is None:
            raise _Wait(f"{summary.name} and its source differ by more than the batches that are being settled")
        if not lacking:
            return
        if lacking != before:
            # Somebody's insert may be between table and view just now: look twice.
            self._short[seen] = lacking
            raise _Wait(f"{summary.name} lacks {len(lacking)} batches: looking again", self._grace)
        for queued in sorted(lacking, key=lambda queued: queued.seq):
            attempt = Attempt(str(uuid.uuid4()))
            self._backlog.sending(queued, attempt)
            settle.mend(connection, summary, queued, attempt)
            _LOG.warning("%s lacked batch %s and was mended", summary.name, queued.batch_id)
        raise _Wait(f"{summary.name} was mended: looking again", 0.0)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(getattr(error, 'orig', None) or error)[:500]}"


def _away(error: Exception, attempts: int = 1) -> _Wait:
    if isinstance(error, _Wait):
        return error
    if isinstance(error, BreakerOpen):
        return _Wait(_reason(error), 1.0)
    later = advise(error, Statement.READ) is Advice.RETRY_LATER or not classify(error).is_systemic
    return _Wait(_reason(error), advice=Advice.RETRY_LATER if later else Advice.RETRY, attempts=attempts)
