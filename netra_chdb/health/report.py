"""The health report: one frozen object that says how everything stands at one moment."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from netra_chdb.engine import PoolCounters
from netra_chdb.resilience.permit import Snapshot, Transition

__all__ = [
    "Budget",
    "Connection",
    "Finding",
    "HealthReport",
    "PoolUse",
    "Probe",
    "Queries",
    "Schema",
    "SpoolStatus",
    "State",
    "StoreStatus",
    "Table",
    "plain",
]

State = Literal["good", "spooling", "degraded", "open"]


@dataclass(frozen=True, slots=True)
class Probe:
    """One question that was asked in the background.

    Attributes:
        name: what was asked.
        state: ``"ok"``, ``"failed"``, ``"skipped"`` (not to be asked now), ``"waiting"`` (never asked yet).
        seconds: how long the answer took; None without one.
        at: when it was asked, aware UTC.
        error: the kind of error and ClickHouse's code, never its text, which may quote what was sent.
    """

    name: str
    state: Literal["ok", "failed", "skipped", "waiting"] = "waiting"
    seconds: float | None = None
    at: dt.datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Connection:
    """Where ClickHouse is and what it says of itself.

    Attributes:
        driver: ``"chdb"``, ``"chhttp"`` or ``"chnative"``.
        address: host and port; the directory of the embedded engine.
        database: the database of the URL; None without one.
        version: the server's, when it last answered.
        uptime: seconds that it had been up then.
        clock_difference: seconds by which its clock was ahead of this machine's then.
    """

    driver: str
    address: str
    database: str | None = None
    version: str | None = None
    uptime: int | None = None
    clock_difference: float | None = None


@dataclass(frozen=True, slots=True)
class PoolUse:
    """Connections at this moment.

    Attributes:
        in_use: handed out.
        idle: open and free.
        limit: how many there may be in use; None without a limit.
    """

    in_use: int = 0
    idle: int = 0
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """The retry budget: tokens left, tokens at most, and retries that there were none for."""

    tokens: int
    capacity: int
    refused: int


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """What waits on disk.

    Attributes:
        rows: rows that are not in ClickHouse yet.
        bytes: what the file takes, free pages not counted.
        max_bytes: what it may take.
        oldest_seconds: how long the oldest row has waited at least; None when nothing waits.
        quarantined: entries that ClickHouse will never accept.
        error: why it could not be looked at.
    """

    rows: int = 0
    bytes: int = 0
    max_bytes: int = 0
    oldest_seconds: float | None = None
    quarantined: int = 0
    error: str | None = None

    @property
    def is_full(self) -> bool:
        """Whether a row more may be refused."""
        return self.max_bytes > 0 and self.bytes >= 0.99 * self.max_bytes


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The store of last good answers.

    Attributes:
        place: ``"process"`` or ``"redis"``.
        available: whether it answers.
        bytes: what it takes in this process; None in Redis.
        stored, served, missing, unstorable, failed: how often.
        hit_rate: the share of stand-ins asked for that it had; None before the first.
    """

    place: Literal["process", "redis"]
    available: bool
    bytes: int | None
    stored: int
    served: int
    missing: int
    unstorable: int
    failed: int
    hit_rate: float | None


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the server counts it."""

    database: str
    name: str
    rows: int | None
    bytes: int | None


@dataclass(frozen=True, slots=True)
class Schema:
    """The databases against the models, when they were last looked at.

    Attributes:
        heads: the revisions that each database stands at.
        wanted: the revision that this version of the package needs.
        missing: tables and views of the models that are not there, by their full names.
        matches: whether nothing is missing and the revisions are right; None before the first look.
        tables: the tables there are.
    """

    heads: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    wanted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    matches: bool | None = None
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True, slots=True)
class Queries:
    """The application's statements so far.

    Attributes:
        count: statements that were answered.
        errors: statements that failed, by what is known of them (``errors.Outcome``), ``"refused"`` by the breaker.
        seconds: all answers' time together.
        buckets: answers by time: how many took at most so many seconds; None for any.
    """

    count: int = 0
    errors: Mapping[str, int] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    buckets: tuple[tuple[float | None, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong, and what to do next.

    Attributes:
        about: the part that it is about: ``"start"``, ``"mode"``, ``"breaker"``, ``"connection"``, ``"schema"``,
            ``"clock"``, ``"pool"``, ``"retry_budget"``, ``"spool"``, ``"quarantine"`` or ``"store"``.
        severity: how bad it is.
        what: what is wrong.
        next_step: what to do about it.
    """

    about: str
    severity: Literal["warning", "critical"]
    what: str
    next_step: str


@dataclass(frozen=True, slots=True)
class HealthReport:
    """How everything stands.

    Attributes:
        state: ``"open"``: ClickHouse is not asked; ``"degraded"``: something does not work, or ClickHouse is switched
            off; ``"spooling"``: all works, and rows wait longer than they should; ``"good"``.
        live: this process answers. True in every report: it never depends on ClickHouse.
        ready: ClickHouse has answered once with the schema that the models need, and rows can be taken.
        not_ready: why not; None when ready.
        at: when, aware UTC.
        service: the name in ``log_comment`` and metrics.
        mode: ``"normal"``, or ``"degraded"``: switched off by an operator.
        findings: what is wrong, the worst first.
        transitions: of the breaker, oldest first, 100 at most.
    """

    state: State
    live: bool
    ready: bool
    not_ready: str | None
    at: dt.datetime
    service: str
    mode: str
    findings: tuple[Finding, ...]
    connection: Connection
    probes: tuple[Probe, ...]
    pool: PoolCounters
    pool_use: PoolUse
    breaker: Snapshot
    transitions: tuple[Transition, ...]
    retry_budget: Budget
    queries: Queries
    spool: SpoolStatus | None
    store: StoreStatus
    schema: Schema

    @property
    def answers(self) -> bool:
        """Whether ClickHouse answered when it was last asked, and may be asked."""
        return self.state != "open" and self.mode == "normal" and self.probe("connection").state == "ok"

    def probe(self, name: str) -> Probe:
        """Return a probe by its name."""
        return next((probe for probe in self.probes if probe.name == name), Probe(name))

    def as_dict(self) -> dict[str, Any]:
        """Return the whole as JSON knows it: dicts, lists, strings, numbers; times as ISO 8601."""
        found: dict[str, Any] = plain(self)
        return found


def plain(value: Any) -> Any:
    """Return ``value`` with dataclasses as dicts, tuples as lists, times as ISO 8601."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return value
