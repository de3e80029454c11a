"""What the HTTP API answers and is asked, as OpenAPI describes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

from netra_chdb.engine import PoolCounters
from netra_chdb.health.report import Budget, Connection, PoolUse, Probe, Queries, SpoolStatus, StoreStatus, Table
from netra_chdb.resilience.permit import Snapshot

__all__ = [
    "Analytics",
    "Counters",
    "Dependencies",
    "Dependency",
    "Done",
    "Line",
    "Live",
    "Problem",
    "Ready",
    "Switch",
]

# What ends up in logs has no line breaks.
_Words = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


@dataclass(frozen=True, slots=True)
class Live:
    """This process answers."""

    live: bool = True


@dataclass(frozen=True, slots=True)
class Ready:
    """Whether requests can be served; why not."""

    ready: bool
    reason: str | None


@dataclass(frozen=True, slots=True)
class Line:
    """The connection to ClickHouse."""

    connection: Connection
    probe: Probe
    pool: PoolCounters
    pool_use: PoolUse


@dataclass(frozen=True, slots=True)
class Counters:
    """What has been counted."""

    queries: Queries
    pool: PoolCounters
    pool_use: PoolUse
    breaker: Snapshot
    retry_budget: Budget
    spool: SpoolStatus | None
    store: StoreStatus
    probes: list[Probe]


@dataclass(frozen=True, slots=True)
class Dependency:
    """Something that the data layer needs; ``required`` where it cannot do its work for long without it."""

    name: Literal["clickhouse", "schema", "spool", "store"]
    required: bool
    state: Literal["ok", "failed", "unknown"]
    detail: str | None
    next_step: str | None


@dataclass(frozen=True, slots=True)
class Dependencies:
    """All of them."""

    dependencies: list[Dependency]


@dataclass(frozen=True, slots=True)
class Analytics:
    """The tables of netra_analytics, when they were last looked at."""

    state: Literal["ok", "failed", "unknown"]
    revision: list[str]
    missing: list[str]
    tables: list[Table]


@dataclass(frozen=True, slots=True)
class Done:
    """What was done."""

    done: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Why it was not."""

    detail: str


class Switch(BaseModel):
    """ClickHouse switched off (``degraded``) or on again (``normal``); ``reason`` is what errors and logs say."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["normal", "degraded"]
    reason: _Words = "asked for over HTTP"
