"""What is wrong, and what to do next: one rule for each thing that can be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pybreaker import STATE_CLOSED, STATE_OPEN

from netra_chdb.health.report import (
    Budget,
    Connection,
    Finding,
    PoolUse,
    Probe,
    Schema,
    SpoolStatus,
    State,
    StoreStatus,
)
from netra_chdb.resilience.permit import Snapshot

__all__ = ["findings", "state_of"]

_CLOCK_BOUND: Final = 5.0
_PATIENCE: Final = 10.0
_RETRY_COST: Final = 10
_LOGIN: Final = ("code 516", "code 192", "code 193", "code 194", "code 195")
_REFUSED: Final = ("ConnectionRefusedError", "NewConnectionError")
_UNKNOWN: Final = ("gaierror", "NameResolutionError")
_SILENT: Final = ("TimeoutError", "timeout", "Timeout", "no answer")
_MODE: Final = '{"mode": "normal"}'


def findings(
    *,
    mode: str,
    starting: str | None,
    breaker: Snapshot,
    connection: Connection,
    probes: tuple[Probe, ...],
    schema: Schema,
    pool_use: PoolUse,
    budget: Budget,
    spool: SpoolStatus | None,
    store: StoreStatus,
    spool_patience: float = _PATIENCE,
) -> tuple[Finding, ...]:
    """Return what is wrong, the worst first.

    Args:
        spool_patience: seconds that rows may wait before it is worth telling.
    """
    found = [
        *_of_start(starting),
        *_of_breaker(mode, breaker, connection, starting is not None),
        *(finding for probe in probes for finding in _of_probe(probe, connection)),
        *_of_schema(schema),
        *_of_clock(connection),
        *_of_process(pool_use, budget, store),
        *_of_spool(spool, spool_patience, mode == "normal" and breaker.state == STATE_CLOSED),
    ]
    return tuple(sorted(found, key=lambda finding: finding.severity != "critical"))


def state_of(mode: str, breaker: Snapshot, found: tuple[Finding, ...]) -> State:
    """Return the one word for it all."""
    about = {finding.about for finding in found}
    if mode == "normal" and breaker.state == STATE_OPEN and "start" not in about:
        return "open"
    if mode != "normal" or about - {"spool", "quarantine"} or any(one.severity == "critical" for one in found):
        return "degraded"
    return "spooling" if "spool" in about else "good"


def _of_start(starting: str | None) -> Iterator[Finding]:
    if starting is not None:
        yield Finding(
            "start",
            "warning",
            f"The application has not finished its start: {starting}",
            "It goes on by itself. Where it waits for long, `netra-chdb check` names what is wrong.",
        )


def _of_breaker(mode: str, breaker: Snapshot, connection: Connection, is_starting: bool) -> Iterator[Finding]:
    if mode != "normal":
        yield Finding(
            "mode",
            "warning",
            f"ClickHouse is {breaker.forced or 'switched off'}",
            f"When it may be used again, POST `{_MODE}` to `/health/clickhouse/mode`, or call `restore()`. Where "
            "`CLICKHOUSE_MODE=degraded` did it, take that away before the next start.",
        )
    elif breaker.forced is not None and is_starting:
        return  # it is the start that holds it
    elif breaker.forced is not None:
        yield Finding(
            "breaker",
            "critical",
            f"Somebody holds the breaker open: {breaker.forced}",
            "When ClickHouse may be used again, POST to `/health/clickhouse/breaker/reset`, or call `breaker.reset()`.",
        )
    elif breaker.state == STATE_OPEN:
        waits = f"; it lets trial calls through in {breaker.retry_after:.0f} s" if breaker.retry_after else ""
        yield Finding(
            "breaker",
            "critical",
            f"The breaker has been open for {breaker.opened_since or 0:.0f} s, and ClickHouse is not asked{waits}. "
            f"The last failure: {breaker.last_failure or 'a call to open()'}",
            f"Nothing that was accepted is lost. Look at the server at {connection.address}: `netra-chdb check` names "
            "what is wrong. The breaker closes by itself when trial calls succeed.",
        )
    elif breaker.state != STATE_CLOSED:
        yield Finding(
            "breaker",
            "warning",
            f"The breaker is half-open: trial calls find out whether ClickHouse is back (last failure: "
            f"{breaker.last_failure or 'none'})",
            "Wait for some seconds: it closes after three calls that succeed, and opens again with one that fails.",
        )


def _of_probe(probe: Probe, connection: Connection) -> Iterator[Finding]:
    if probe.state != "failed":
        return
    error = probe.error or "unknown"
    if probe.name == "schema":
        yield Finding(
            "schema",
            "warning",
            f"The schema could not be looked at: {error}",
            "The user needs SELECT on system.tables and on both databases: `netra-chdb check` names what is missing.",
        )
        return
    if any(code in error for code in _LOGIN):
        step = "Correct CLICKHOUSE_USER and CLICKHOUSE_PASSWORD (or the file that CLICKHOUSE_PASSWORD_FILE names)."
    elif any(name in error for name in _UNKNOWN):
        step = f"The name in {connection.address} does not resolve: correct CLICKHOUSE_HOST, or the DNS."
    elif any(name in error for name in _REFUSED):
        step = f"Nothing listens at {connection.address}: start it, or correct CLICKHOUSE_HOST and CLICKHOUSE_PORT."
    elif any(name in error for name in _SILENT):
        step = (
            f"The server at {connection.address} takes too long: look at its load, and at system.processes if you can."
        )
    elif connection.driver == "chdb":
        step = f"Is another process using {connection.address}? The embedded engine belongs to one process at a time."
    else:
        step = f"`netra-chdb check` goes from the name to the privileges and says where {connection.address} fails."
    what = f"ClickHouse gave {error}" if error.startswith("no answer") else f"ClickHouse did not answer: {error}"
    yield Finding("connection", "critical", what, step)


def _of_schema(schema: Schema) -> Iterator[Finding]:
    if schema.matches is not False:
        return
    if schema.missing:
        first, more = schema.missing[:3], len(schema.missing) - 3
        what = f"Missing are {', '.join(first)}" + (f" and {more} more" if more > 0 else "")
    else:
        at = ", ".join(f"{name} is at {'+'.join(heads) or 'nothing'}" for name, heads in schema.heads.items())
        what = f"{at}; this version of the application needs {'+'.join(schema.wanted)}"
    yield Finding(
        "schema",
        "critical",
        what,
        "Run `alembic upgrade head` (or `netra-chdb init`). Where the databases are ahead, deploy the newer version.",
    )


def _of_clock(connection: Connection) -> Iterator[Finding]:
    ahead = connection.clock_difference
    if ahead is not None and abs(ahead) > _CLOCK_BOUND:
        yield Finding(
            "clock",
            "warning",
            f"The server's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's",
            "Let both follow NTP: retention and time ranges go by these clocks.",
        )


def _of_process(pool_use: PoolUse, budget: Budget, store: StoreStatus) -> Iterator[Finding]:
    if pool_use.limit is not None and pool_use.in_use >= pool_use.limit:
        yield Finding(
            "pool",
            "warning",
            f"All {pool_use.limit} connections are in use: who wants one waits",
            "Find what holds them (a session that is not closed, a slow query), or raise CLICKHOUSE_POOL_SIZE.",
        )
    if budget.capacity and budget.tokens < min(_RETRY_COST, budget.capacity):
        yield Finding(
            "retry_budget",
            "warning",
            f"The retry budget is used up ({budget.refused} retries were not made): the first failure stands",
            "It fills with each success. Look at why so much fails, in the server's log and in system.query_log.",
        )
    if not store.available:
        yield Finding(
            "store",
            "warning",
            "Redis does not answer: there are no stored answers to read from while ClickHouse is away",
            "Look at the Redis that REDIS_URL names; nothing else depends on it.",
        )


def _of_spool(spool: SpoolStatus | None, patience: float, asked: bool) -> Iterator[Finding]:
    if spool is None:
        return
    if spool.error is not None:
        yield Finding(
            "spool",
            "critical",
            f"The spool cannot be read: {spool.error}",
            "Look at the disk below CLICKHOUSE_SPOOL_DIR: its space, its permissions, its health.",
        )
        return
    if spool.is_full:
        yield Finding(
            "spool",
            "critical",
            "The spool is full: further records are refused (SpoolFull)",
            "Bring ClickHouse back, or give it room: CLICKHOUSE_SPOOL_MAX_BYTES, or another CLICKHOUSE_SPOOL_DIR.",
        )
    if spool.oldest_seconds is not None and spool.oldest_seconds > patience:
        yield Finding(
            "spool",
            "warning",
            f"{spool.rows:,} rows wait on disk, the oldest for {spool.oldest_seconds:,.0f} s at least",
            "They go out by themselves; `netra-chdb spool status` says what holds them up."
            if asked
            else "They are safe, and go out by themselves when ClickHouse answers again.",
        )
    if spool.quarantined:
        yield Finding(
            "quarantine",
            "warning",
            f"{spool.quarantined:,} records that ClickHouse refused are in quarantine",
            "`netra-chdb spool quarantine` shows them with the reasons; mend them and put them back, or drop them.",
        )
