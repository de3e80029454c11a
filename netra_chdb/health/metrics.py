"""The report as Prometheus wants it: gauges and counters in a registry of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Final

from netra_chdb.errors import ConfigError
from netra_chdb.health.report import HealthReport

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

__all__ = ["exposition", "registry"]

_PREFIX: Final = "netra_chdb"
_STATES: Final = ("good", "spooling", "degraded", "open")
_BREAKER_STATES: Final = ("closed", "half-open", "open")
_OUTCOMES: Final = ("ambiguous", "overload", "permanent", "refused", "rejected")


def registry(report: Callable[[], HealthReport]) -> CollectorRegistry:
    """Return a registry whose metrics say what ``report`` says at each scrape.

    Raises:
        ConfigError: the package prometheus-client is missing.
    """
    try:
        from prometheus_client import CollectorRegistry
    except ImportError as error:
        raise ConfigError("metrics need prometheus-client: pip install 'netra-chdb[metrics]'") from error
    made = CollectorRegistry()
    made.register(_Collector(report))
    return made


def exposition(of: CollectorRegistry) -> tuple[bytes, str]:
    """Return the metrics as text, and its content type."""
    from prometheus_client import exposition as formats

    return formats.generate_latest(of), formats.CONTENT_TYPE_LATEST


class _Collector:
    """Makes metrics of a report."""

    def __init__(self, report: Callable[[], HealthReport]) -> None:
        self._report = report

    def describe(self) -> Iterable[Metric]:
        """Nothing: a registry that has this does not ask for a report when it is made."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        report = self._report()
        yield from _state(report)
        yield from _probes(report)
        yield from _pool(report)
        yield from _breaker(report)
        yield from _queries(report)
        yield from _spool(report)
        yield from _store(report)


def _gauge(name: str, text: str, value: float | None) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    if value is not None:
        yield GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _one_of(name: str, text: str, label: str, all_of: Iterable[str], value: str) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=[label])
    for one in all_of:
        family.add_metric([one], float(one == value))
    return family


def _state(report: HealthReport) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    info = GaugeMetricFamily(
        f"{_PREFIX}_info", "What runs, and what it talks to.", labels=["service", "driver", "server_version"]
    )
    info.add_metric([report.service, report.connection.driver, report.connection.version or "unknown"], 1.0)
    yield info
    yield _one_of("state", "1 for the state of the data layer.", "state", _STATES, report.state)
    yield from _gauge("ready", "1 when requests can be served.", float(report.ready))
    yield from _gauge("up", "1 when ClickHouse answered when it was last asked.", float(report.answers))
    yield from _gauge("switched_off", "1 when an operator has switched ClickHouse off.", float(report.mode != "normal"))
    findings = GaugeMetricFamily(f"{_PREFIX}_findings", "Things that are wrong.", labels=["severity"])
    for severity in ("warning", "critical"):
        findings.add_metric([severity], sum(finding.severity == severity for finding in report.findings))
    yield findings


def _probes(report: HealthReport) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    well = GaugeMetricFamily(f"{_PREFIX}_probe_success", "1 when the probe was answered.", labels=["probe"])
    took = GaugeMetricFamily(f"{_PREFIX}_probe_seconds", "How long the probe's answer took.", labels=["probe"])
    for probe in report.probes:
        if probe.state in ("ok", "failed"):
            well.add_metric([probe.name], float(probe.state == "ok"))
        if probe.state == "ok" and probe.seconds is not None:
            took.add_metric([probe.name], probe.seconds)
    yield well
    yield took
    matches = report.schema.matches
    text = "1 when both databases have the schema that is needed."
    yield from _gauge("schema_matches", text, None if matches is None else float(matches))
    text = "Seconds by which the server's clock is ahead."
    yield from _gauge("clock_difference_seconds", text, report.connection.clock_difference)


def _pool(report: HealthReport) -> Iterator[Metric]:
    use = report.pool_use
    yield from _gauge("pool_in_use", "Connections handed out.", use.in_use)
    yield from _gauge("pool_idle", "Connections open and free.", use.idle)
    yield from _gauge("pool_limit", "Connections that may be handed out at once.", use.limit)
    for field in fields(report.pool):
        value = getattr(report.pool, field.name)
        if isinstance(value, int) and field.name not in ("consecutive_failures", "circuit_breaker_opens"):
            yield _counter(
                f"pool_{field.name.removeprefix('pool_')}", f"The pool's {field.name.replace('_', ' ')}.", value
            )
    text = "Attempts to connect that failed since the last success."
    yield from _gauge("pool_consecutive_failures", text, report.pool.consecutive_failures)


def _breaker(report: HealthReport) -> Iterator[Metric]:
    breaker = report.breaker
    yield _one_of("breaker_state", "1 for the breaker's state.", "state", _BREAKER_STATES, breaker.state)
    yield _counter("breaker_opens", "How often the breaker has opened.", breaker.times_opened)
    yield _counter("breaker_admitted", "Calls that the breaker let through.", breaker.admitted)
    yield _counter("breaker_refused", "Calls that the breaker refused.", breaker.refused)
    yield from _gauge("retry_budget_tokens", "Tokens left for retries.", report.retry_budget.tokens)
    yield from _gauge("retry_budget_capacity", "Tokens for retries at most.", report.retry_budget.capacity)
    yield _counter("retry_budget_refused", "Retries that there were no tokens for.", report.retry_budget.refused)


def _queries(report: HealthReport) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

    queries = report.queries
    buckets = [("+Inf" if bound is None else str(bound), float(count)) for bound, count in queries.buckets]
    yield HistogramMetricFamily(
        f"{_PREFIX}_query_seconds", "How long statements took that were answered.", buckets, sum_value=queries.seconds
    )
    errors = CounterMetricFamily(f"{_PREFIX}_query_errors", "Statements that failed.", labels=["outcome"])
    for outcome in sorted({*_OUTCOMES, *queries.errors}):
        errors.add_metric([outcome], queries.errors.get(outcome, 0))
    yield errors


def _spool(report: HealthReport) -> Iterator[Metric]:
    spool = report.spool
    if spool is None:
        return
    yield from _gauge("spool_rows", "Rows that are not in ClickHouse yet.", spool.rows)
    yield from _gauge("spool_bytes", "What the spool takes on disk.", spool.bytes)
    yield from _gauge("spool_max_bytes", "What the spool may take on disk.", spool.max_bytes)
    text = "How long the oldest row has waited at least."
    yield from _gauge("spool_oldest_seconds", text, spool.oldest_seconds or 0.0)
    yield from _gauge("spool_quarantined", "Records that ClickHouse refused for good.", spool.quarantined)
    yield from _gauge("spool_readable", "1 when the spool could be looked at.", float(spool.error is None))


def _store(report: HealthReport) -> Iterator[Metric]:
    store = report.store
    yield from _gauge("store_available", "1 when the store of answers answers.", float(store.available))
    yield from _gauge("store_bytes", "What stored answers take in this process.", store.bytes)
    for name in ("stored", "served", "missing", "unstorable", "failed"):
        yield _counter(f"store_{name}", f"Answers: {name}.", getattr(store, name))
