"""The main job, shown on a fresh embedded database; every number on the screen is measured while it runs.

Imported by the command line only: it needs the extra ``cli``.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from pydantic import SecretStr
from rich.console import Console
from rich.table import Column, Table
from sqlalchemy import exc as sa_exc

from netra_chdb import migrations, models
from netra_chdb.access import DataAccess
from netra_chdb.chart import Point, svg_line_chart, terminal_chart
from netra_chdb.config import Config
from netra_chdb.dialect import select
from netra_chdb.errors import BreakerOpen, ConfigError, NetraError
from netra_chdb.ingest.importer import Importer, Rejects
from netra_chdb.ingest.mapping import Plan
from netra_chdb.ingest.source import open_source

__all__ = ["run"]

USER: Final = "demo"
_MEASURING_SECONDS: Final = 3.0
_LATENCY: Final = "select_latency"
# Widths of what one point of a chart stands for.
_STEPS: Final = (1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 7 * 86400, 28 * 86400)


def run(
    directory: Path | None = None, *, keep: bool = False, metrics: Sequence[Path] = (), svg: Path | None = None
) -> int:
    """Run the demonstration.

    Args:
        directory: takes database and chart, and stays; by default a temporary folder, whose database is removed.
        keep: whether a temporary folder's database stays too.
        metrics: files of metrics to show; by default this machine and process are measured.
        svg: where the chart is saved; by default ``chart.svg`` in the folder.

    Returns:
        The exit code.

    Raises:
        ConfigError: the folder is not empty, or a file does not fit.
    """
    if directory is not None and directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ConfigError(f"{directory}: is not an empty folder; the demonstration begins with a fresh one")
    folder = directory if directory is not None else Path(tempfile.mkdtemp(prefix="netra-chdb-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    svg = svg if svg is not None else folder / "chart.svg"
    if not svg.parent.is_dir():
        raise ConfigError(f"{svg}: there is no folder {svg.parent}")
    # What goes wrong is shown where it belongs; without a handler, logging would print it once more.
    logging.getLogger().addHandler(logging.NullHandler())
    # What the environment says of a server is not meant for this.
    config = Config(
        url=None, host=None, port=None, path=folder / "netra.chdb", spool_dir=folder / "netra.spool", mode="normal"
    )
    try:
        _Demo(Console(highlight=False), config, svg).show(metrics)
    finally:
        if directory is None and not keep:
            shutil.rmtree(config.path, ignore_errors=True)
            shutil.rmtree(config.spool_dir, ignore_errors=True)
            with contextlib.suppress(OSError):
                folder.rmdir()  # where nothing else is in it
    return 0


@dataclass
class _Watch:
    """How long something took."""

    milliseconds: float = 0.0


@contextlib.contextmanager
def _timed() -> Iterator[_Watch]:
    watch = _Watch()
    begin = time.perf_counter()
    try:
        yield watch
    finally:
        watch.milliseconds = (time.perf_counter() - begin) * 1000


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


# -- measuring -------------------------------------------------------------------------------------------------------


def _machine_ticks() -> tuple[int, int] | None:
    """Return the machine's busy and total processor ticks, where the system tells (Linux)."""
    try:
        with open("/proc/stat") as file:  # noqa: PTH123 - read many times a second
            ticks = [int(text) for text in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)  # idle, waiting for disks


def _memory_mb() -> float | None:
    """Return this process's resident memory, where the system tells (Linux)."""
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            pages = int(file.read().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@dataclass
class _Sampler:
    """Takes measurements of this machine, this process, and of what is asked while they are taken."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def _add(self, metric_type: str, metric_name: str, value: float | None, unit: str) -> None:
        if value is not None:
            row = {"metric_type": metric_type, "metric_name": metric_name, "value": value, "unit": unit}
            self.rows.append({"user_id": USER, "timestamp": _utc_now(), **row})

    def sample(self, ask: Callable[[], object], seconds: float) -> None:
        """Measure for some seconds, while calling ``ask`` again and again."""
        end = time.perf_counter() + seconds
        before = _machine_ticks(), time.process_time(), time.perf_counter()
        while time.perf_counter() < end:
            with _timed() as watch:
                ask()
            self._add("latency", _LATENCY, watch.milliseconds, "ms")
            if time.perf_counter() - before[2] >= 0.1:
                after = _machine_ticks(), time.process_time(), time.perf_counter()
                self._processors(before, after)
                self._add("resource", "process_memory", _memory_mb(), "MB")
                self._add("resource", "load_1m", os.getloadavg()[0] if hasattr(os, "getloadavg") else None, "")
                before = after
            time.sleep(0.015)

    def _processors(self, before: Any, after: Any) -> None:
        (ticks, cpu, clock), (ticks_now, cpu_now, clock_now) = before, after
        self._add("resource", "process_cpu", (cpu_now - cpu) / (clock_now - clock) * 100, "%")
        if ticks and ticks_now and ticks_now[1] > ticks[1]:
            busy = (ticks_now[0] - ticks[0]) / (ticks_now[1] - ticks[1]) * 100
            self._add("resource", "machine_cpu", busy, "%")


# -- showing ---------------------------------------------------------------------------------------------------------


class _Demo:
    def __init__(self, console: Console, config: Config, svg: Path) -> None:
        self.console = console
        self.config = config
        self.svg = svg

    def show(self, metrics: Sequence[Path]) -> None:
        begin = time.perf_counter()
        with DataAccess(self.config) as data:
            self._database(data)
            if metrics:
                self._import(data, metrics)
            else:
                self._measure(data)
            name, metric_type = self._stored(data)
            self._chart(data, name, metric_type)
            self._summary(data)
            self._pool(data)
            self._away(data)
            self._events(data)
        self.console.print(f"\nDone in {time.perf_counter() - begin:.1f} s. The chart: {self.svg}", soft_wrap=True)

    def _heading(self, text: str) -> None:
        self.console.print()
        self.console.rule(f"[bold]{text}", align="left")

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def _note(self, data: DataAccess, name: str, **details: Any) -> None:
        row = {"user_id": USER, "timestamp": _utc_now(), "event_type": "demo", "event_name": name, "data": details}
        data.events.insert([row])

    def _database(self, data: DataAccess) -> None:
        self._heading("1  A fresh database")
        with _timed() as watch:
            data.initialize()
        with data.engine.connect() as connection:
            version = connection.scalar(select(sa.func.version()))
        tables = sum(len(metadata.tables) for metadata in migrations.DATABASES.values())
        self._say(f"ClickHouse {version}, embedded in this process, in {self.config.path}")
        self._say(f"{tables} tables in {' and '.join(migrations.DATABASES)}, migrated in {watch.milliseconds:,.0f} ms")
        self._note(data, "migrated", tables=tables, milliseconds=round(watch.milliseconds, 1))

    # -- writing -------------------------------------------------------------

    def _measure(self, data: DataAccess) -> None:
        self._heading(f"2  Measuring this machine and this process for {_MEASURING_SECONDS:.0f} s")
        sampler = _Sampler()
        sampler.sample(lambda: data.performance_metrics.count(user_id=USER), _MEASURING_SECONDS)
        with _timed() as watch:
            receipt = data.performance_metrics.insert(sampler.rows)
        self._say(
            f"{receipt.rows:,} measurements {receipt.state} in {watch.milliseconds:.1f} ms as batch {receipt.batch_id}"
        )
        self._note(data, "measured", rows=receipt.rows, milliseconds=round(watch.milliseconds, 1))

    def _import(self, data: DataAccess, paths: Sequence[Path]) -> None:
        self._heading(f"2  Importing {len(paths)} file(s)")
        plan = Plan(
            models.analytics.PerformanceMetric.__table__,
            constants={"user_id": USER},
            fallbacks={"metric_type": "resource"},
            rest="metadata",
        )
        sources = [open_source(path) for path in paths]
        files = [(source, plan.for_source(source, {"metric_name": source.path.stem})) for source in sources]
        with _timed() as watch, Rejects(self.config.path.parent / "rejects.csv") as rejects:
            results = Importer(data.performance_metrics.insert_batch, rejects).run(files)
        for result in results:
            if result.failure is not None:
                raise result.failure
            self._say(f"{result.path.name}: {result.stored:,} rows stored, {result.rejected:,} rejected")
        rows = sum(result.stored for result in results)
        self._say(
            f"{rows:,} rows in {watch.milliseconds / 1000:.2f} s, {rows / watch.milliseconds * 1000:,.0f} a second"
        )
        if rejects.created:
            self._say(f"rejected lines with their reasons: {rejects.path}")
        if not rows:
            raise NetraError(f"no row of these files could be stored; the reasons are in {rejects.path}")
        self._note(data, "imported", rows=rows, files=len(results), milliseconds=round(watch.milliseconds, 1))

    # -- reading -------------------------------------------------------------

    def _stored(self, data: DataAccess) -> tuple[str, str]:
        """Show counts and percentiles; return name and type of the metric to draw."""
        self._heading("3  What is stored, read back")
        table = Table(
            Column("metric", overflow="fold"), "type", "unit", *(_right(name) for name in ("rows", "p50", "p95", "p99"))
        )
        with _timed() as watch:
            counts = data.performance_metrics.count_by("metric_name", "metric_type", "unit", user_id=USER).rows
            for row in counts:
                found = data.performance_metrics.percentiles(
                    row.metric_type, metric_name=row.metric_name, user_id=USER
                ).rows
                cells = (row.metric_name, row.metric_type, row.unit, f"{row.count:,}")
                table.add_row(*cells, *(_figure(item.value) for item in found))
        self.console.print(table)
        self._say(f"{1 + len(counts)} queries in {watch.milliseconds:.0f} ms; percentiles are exact")
        drawn = next((row for row in counts if row.metric_name == _LATENCY), counts[0])
        return drawn.metric_name, drawn.metric_type

    def _chart(self, data: DataAccess, name: str, metric_type: str) -> None:
        metric = models.analytics.PerformanceMetric
        is_this = (metric.user_id == USER, metric.metric_name == name, metric.metric_type == metric_type)
        with data.session() as session:
            first, last, unit = session.execute(
                select(sa.func.min(metric.timestamp), sa.func.max(metric.timestamp), sa.func.any(metric.unit)).where(
                    *is_this
                )
            ).one()
            seconds = (last - first).total_seconds() / 150
            if seconds < 1:
                rows = session.execute(
                    select(metric.timestamp, metric.value).where(*is_this).order_by(metric.timestamp)
                ).all()
                points, note = [Point(row.timestamp, row.value) for row in rows], f"{len(rows):,} values"
            else:
                width = dt.timedelta(seconds=next((step for step in _STEPS if step >= seconds), _STEPS[-1]))
                reading = data.performance_metrics.time_series(
                    metric_type, metric_name=name, user_id=USER, interval=width
                )
                points = [Point(row.time, row.average, row.minimum, row.maximum) for row in reading.rows]
                note = f"averages of {width} (h:mm:ss), band from least to greatest"
        self._heading(f"4  {name}{f', {unit},' if unit else ''} over time (UTC)")
        self._say(terminal_chart(points, min(self.console.width, 110), 14))
        self.svg.write_text(svg_line_chart(points, name, unit, note=note), encoding="utf-8")
        self._say(f"{note}; saved as {self.svg}")

    def _summary(self, data: DataAccess) -> None:
        self._heading("5  The user's daily summary, kept by a materialized view")
        with _timed() as watch:
            rows = data.performance_metrics.user_summary(user_id=USER).rows
        table = Table("user", "day", "type", *(_right(name) for name in ("count", "average", "least", "greatest")))
        for row in rows[:8]:
            numbers = (f"{row.metric_count:,}", *map(_figure, (row.avg_value, row.min_value, row.max_value)))
            table.add_row(row.user_id, str(row.day), row.metric_type, *numbers)
        self.console.print(table)
        more = f"{len(rows) - 8} more rows; " if len(rows) > 8 else ""
        total = sum(row.metric_count for row in rows)
        counted = data.performance_metrics.count(user_id=USER)
        self._say(f"{more}read in {watch.milliseconds:.1f} ms; adds up to {total:,} rows, the table has {counted:,}")

    def _pool(self, data: DataAccess) -> None:
        self._heading("6  Pool and breaker")
        pool, breaker = data.pool(), data.breaker.snapshot()
        table = Table("pool", _right(""), "breaker", _right(""))
        table.add_row("connections opened", f"{pool.successful_connections}", "state", breaker.state)
        table.add_row("checkouts", f"{pool.checkouts:,}", "statements let through", f"{breaker.admitted:,}")
        table.add_row("of these, already open", f"{pool.pool_hits:,}", "statements refused", f"{breaker.refused:,}")
        table.add_row("given back", f"{pool.checkins:,}", "times opened", f"{breaker.times_opened}")
        self.console.print(table)

    # -- ClickHouse away -----------------------------------------------------

    def _away(self, data: DataAccess) -> None:
        self._heading("7  When ClickHouse is away")
        # Bound and not listening: nobody else can take the port, and it refuses every connection.
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"clickhouse+chhttp://127.0.0.1:{taken.getsockname()[1]}/"
            self._say(f"a second DataAccess asks {url}, where nothing listens; one attempt a call")
            config = self.config.model_copy(update={"url": SecretStr(url), "retry_max_attempts": 1})
            with DataAccess(config) as away:
                self._fail(data, away)
        with _timed() as watch:
            count = data.performance_metrics.count(user_id=USER)
        state = data.breaker.current_state
        answer = f"{count:,} rows, in {watch.milliseconds:.1f} ms"
        self._say(f"meanwhile the embedded database answers: {answer}; its own breaker: {state}")

    def _fail(self, data: DataAccess, away: DataAccess) -> None:
        table = Table("call", "what the caller gets", _right("took"), "breaker then")
        for call in range(1, self.config.breaker_fail_max + 2):
            with _timed() as watch:
                error = _error_of(lambda: away.performance_metrics.count(user_id=USER))
            took = f"{watch.milliseconds:,.2f} ms"
            table.add_row(f"{call}", _in_words(error), took, away.breaker.current_state)
            self._note(data, "call_failed", call=call, error=type(error).__name__, breaker=away.breaker.current_state)
        self.console.print(table)
        times = []
        for _ in range(1000):
            with _timed() as watch:
                _error_of(lambda: away.performance_metrics.count(user_id=USER))
            times.append(watch.milliseconds * 1000)
        self._say(
            f"{len(times):,} more calls, each refused in {statistics.median(times):,.0f} µs (median; the slowest in "
            f"{max(times):,.0f} µs) without touching the network; {away.breaker.snapshot().refused:,} refused so far"
        )
        for transition in away.breaker.history:
            self._say(f"breaker: {transition.old} to {transition.new}, since {transition.cause}")

    def _events(self, data: DataAccess) -> None:
        self._heading("8  What this demonstration recorded of itself: events")
        table = Table("time (UTC)", "event", "data")
        for event in reversed(data.events.recent(20, user_id=USER).rows):
            details = ", ".join(f"{key} {value}" for key, value in event.data.items())
            table.add_row(
                f"{event.timestamp:%H:%M:%S}.{event.timestamp.microsecond // 1000:03}", event.event_name, details
            )
        self.console.print(table)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.3f}"


def _right(name: str) -> Column:
    return Column(name, justify="right")


def _error_of(call: Callable[[], object]) -> Exception:
    """Return what ``call`` raises because ClickHouse is away."""
    try:
        call()
    except (sa_exc.DBAPIError, BreakerOpen) as error:
        return error
    raise AssertionError("nothing listens there, and yet there was an answer")


def _in_words(error: Exception) -> str:
    """Name the error and what it goes back to, without the layers between them."""
    text = " ".join(str(error).split())
    if isinstance(error, sa_exc.DBAPIError):
        root: BaseException = error
        while (below := root.__cause__ or root.__context__) is not None:
            root = below
        text = f"{type(root).__name__}: {' '.join(str(root).split())}"
    return f"{type(error).__name__}: {text if len(text) <= 160 else text[:157] + '...'}"
