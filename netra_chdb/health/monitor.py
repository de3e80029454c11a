"""What puts the report together: probes, samples and the parts' own counters."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
from pybreaker import CircuitBreakerListener
from sqlalchemy.ext import asyncio as sa_asyncio
from sqlalchemy.pool import QueuePool

from netra_chdb.config import Config
from netra_chdb.engine import pool_counters, sync_engine
from netra_chdb.health.findings import findings, state_of
from netra_chdb.health.history import History, Sample
from netra_chdb.health.meter import QueryMeter, quantile
from netra_chdb.health.probes import LIMIT, Probes
from netra_chdb.health.report import Budget, HealthReport, PoolUse, Queries, SpoolStatus, StoreStatus
from netra_chdb.health.schedule import Schedule
from netra_chdb.health.spooled import SpoolWatch
from netra_chdb.ingest.spool import Spool
from netra_chdb.resilience.breaker import CircuitBreaker
from netra_chdb.resilience.permit import Snapshot
from netra_chdb.resilience.retry import RetryPolicy
from netra_chdb.resilience.store import AnswerStore

__all__ = ["HealthMonitor"]

#: Seconds between two looks at this process; no more than between two probes, and no less than that.
_SAMPLE_EVERY: Final = 5.0
_SAMPLE_AT_LEAST: Final = 0.1
#: Seconds between two probes while ClickHouse does not answer, where the interval is longer.
_AGAIN: Final = 5.0
#: A look at a very long spool may take this share of the time.
_SHARE: Final = 10


class HealthMonitor:
    """Watches one data layer. Nothing is started before :meth:`start` or the first report.

    Args:
        config: its configuration.
        engine: its engine, guarded.
        breaker: what guards it.
        retry: how it tries again.
        answers: its store of last good answers.
        mode: tells whether ClickHouse is switched off.
        spool: tells where its rows wait; None while it has nowhere.
        starting: tells what a start waits for; None when none is under way.
    """

    def __init__(
        self,
        config: Config,
        engine: sa.Engine | sa_asyncio.AsyncEngine,
        breaker: CircuitBreaker,
        retry: RetryPolicy,
        answers: AnswerStore,
        mode: Callable[[], str],
        *,
        spool: Callable[[], Spool | None] = lambda: None,
        starting: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._engine = sync_engine(engine)
        self._config, self._breaker, self._retry, self._answers = config, breaker, retry, answers
        self._every = min(_SAMPLE_EVERY, max(_SAMPLE_AT_LEAST, config.health_check_interval))
        self._mode, self._starting, self._find_spool = mode, starting, spool
        # Of a database in memory there is one for each engine; that of an async engine no thread can ask.
        in_memory = config.is_embedded and not config.sqlalchemy_url.database
        is_async = isinstance(engine, sa_asyncio.AsyncEngine)
        shared = self._engine if in_memory and not is_async else None
        self._has_schema = not (in_memory and is_async)
        limit = min(LIMIT, config.attempt_timeout)
        self._probes = Probes(config, limit, engine=shared, schema=self._has_schema)
        self._meter = QueryMeter(self._engine)
        self._watch: SpoolWatch | None = None
        self._spool: SpoolStatus | None = None
        self.history = History(self._every)
        self._before = Queries()
        self._number = 0
        self._was_ready = False
        #: Whether nothing new will come.
        self.closed = False
        self._asked = threading.Event()
        self._prober = Schedule("netra-chdb-health", self._ask)
        self._sampler = Schedule("netra-chdb-samples", self._sample)
        breaker.add_listener(_Waker(self._prober))

    def start(self) -> None:
        """Begin to watch; a second call does nothing."""
        self._sampler.start()
        self._prober.start()

    def refresh(self) -> None:
        """Ask ClickHouse soon, and not only when it is due."""
        self._asked.clear()
        self._prober.wake()

    def report(self, wait: float = 0.0) -> HealthReport:
        """Return how everything stands; it never asks ClickHouse and never raises.

        Args:
            wait: seconds to wait at most for the first answer of the probes, where there has been none yet.
        """
        self.start()
        if wait:
            self._asked.wait(wait)
        mode, snapshot = self._mode(), self._breaker.snapshot()
        connection, schema, probes = self._probes.connection, self._probes.schema, self._probes.read()
        pool_use, budget, store = self._pool_use(), self._budget(), self._store()
        found = findings(
            mode=mode,
            starting=self._starting(),
            breaker=snapshot,
            connection=connection,
            probes=probes,
            schema=schema,
            pool_use=pool_use,
            budget=budget,
            spool=self._spool,
            store=store,
            spool_patience=max(10.0, 5 * self._config.flush_interval),
        )
        not_ready = self._not_ready(mode)
        return HealthReport(
            state=state_of(mode, snapshot, found),
            live=True,
            ready=not_ready is None,
            not_ready=not_ready,
            at=dt.datetime.now(dt.UTC),
            service=self._config.service,
            mode=mode,
            findings=found,
            connection=connection,
            probes=probes,
            pool=pool_counters(self._engine),
            pool_use=pool_use,
            breaker=snapshot,
            transitions=tuple(self._breaker.history),
            retry_budget=budget,
            queries=self._queries(snapshot),
            spool=self._spool,
            store=store,
            schema=schema,
        )

    def _not_ready(self, mode: str) -> str | None:
        if self._spool is not None and (self._spool.is_full or self._spool.error is not None):
            return "no more rows can be taken: " + (self._spool.error or "the spool is full")
        # Once ready it stays so while ClickHouse is away: taken out by a load balancer, it could not even fall back.
        if self._was_ready or mode != "normal":
            return None
        if (status := self._starting()) is not None:
            return f"starting: {status}"
        if self._probes.schema.matches is False:
            return "the databases are not at the schema that this version needs"
        return "ClickHouse has not answered yet"

    def _pool_use(self) -> PoolUse:
        pool = self._engine.pool
        if not isinstance(pool, QueuePool):
            return PoolUse()  # it keeps no count
        return PoolUse(pool.checkedout(), pool.checkedin(), pool.size() + self._config.max_overflow)

    def _queries(self, breaker: Snapshot) -> Queries:
        # What the breaker refuses before there is a connection is no error of SQLAlchemy's.
        found = self._meter.read()
        return dataclasses.replace(found, errors={**found.errors, "refused": breaker.refused})

    def _budget(self) -> Budget:
        budget = self._retry.budget
        return Budget(budget.tokens, budget.capacity, budget.refused)

    def _store(self) -> StoreStatus:
        counts = self._answers.counters()
        asked = counts["served"] + counts["missing"]
        return StoreStatus(
            "redis" if self._answers.remote else "process",
            self._answers.available,
            self._answers.size,
            **counts,
            hit_rate=counts["served"] / asked if asked else None,
        )

    # -- in the background -----------------------------------------------------

    def _ask(self) -> float:
        if self._mode() != "normal":
            self._probes.skip()  # switched off: it is not even connected to
            well = True
        else:
            well = self._probes.ask()
            seen = bool(self._probes.schema.matches) or not self._has_schema
            self._was_ready = self._was_ready or (well and seen)
            well = well and self._was_ready
        self._asked.set()
        interval = self._config.health_check_interval
        return interval if well else min(interval, _AGAIN)

    def _sample(self) -> float:
        started = time.monotonic()
        self._spool = self._look()
        now, before = self._queries(self._breaker.snapshot()), self._before
        self._before = now
        recent = self._meter.take_recent()
        refused = now.errors.get("refused", 0) - before.errors.get("refused", 0)
        report = self.report()
        self._number += 1
        self.history.add(
            Sample(
                number=self._number,
                at=time.time(),
                queries=now.count - before.count,
                errors=sum(now.errors.values()) - sum(before.errors.values()) - refused,
                refused=refused,
                p50=quantile(recent, 0.5),
                p95=quantile(recent, 0.95),
                probe=report.probe("connection").seconds if report.probe("connection").state == "ok" else None,
                pool_in_use=report.pool_use.in_use,
                pool_limit=report.pool_use.limit,
                spool_rows=report.spool.rows if report.spool is not None else 0,
                spool_age=(report.spool.oldest_seconds or 0.0) if report.spool is not None else 0.0,
                breaker=report.breaker.state if report.mode == "normal" else "switched off",
                state=report.state,
            )
        )
        return max(self._every, _SHARE * (time.monotonic() - started))

    def _look(self) -> SpoolStatus | None:
        try:
            spool = self._find_spool()
        except Exception as error:  # nothing can be kept in its directory
            return SpoolStatus(error=type(error).__name__)
        if spool is None:
            return None
        if self._watch is None or self._watch.spool is not spool:
            self._watch = SpoolWatch(spool)
        return self._watch.look()

    def close(self) -> None:
        """Stop watching; a second call does nothing."""
        self.closed = True
        self._prober.close()
        self._sampler.close()
        self._probes.close()


class _Waker(CircuitBreakerListener):
    """Has ClickHouse asked when the breaker opens or closes."""

    def __init__(self, prober: Schedule) -> None:
        self._prober = prober

    def transition(self, breaker: Any, transition: Any) -> None:
        self._prober.wake()
