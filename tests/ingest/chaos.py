"""A writer under load in a process of its own, and the two questions that are asked when it is over."""

from __future__ import annotations

import datetime as dt
import itertools
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from netra_chdb import Config, DataAccess
from netra_chdb.ingest.backlog import Backlog
from netra_chdb.ingest.batch import RowChecker
from netra_chdb.ingest.drain import SUMMARIES, Drainer
from netra_chdb.ingest.spool import Spool
from netra_chdb.ingest.writer import Writer
from netra_chdb.models.analytics import PerformanceMetric
from netra_chdb.resilience.retry import RetryPolicy

__all__ = [
    "ROWS_OF_BATCH",
    "access",
    "assert_exact",
    "assert_summaries",
    "data_paths",
    "ids",
    "metric",
    "rows_of",
    "writer_on",
]

ROWS_OF_BATCH = 20
NOW = dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC)


def access(url: str) -> DataAccess:
    """The data layer with delays for a test."""
    return DataAccess(
        Config(
            url=url,
            breaker_reset_timeout=0.2,
            retry_max_attempts=2,
            retry_initial_delay=0.01,
            retry_max_delay=0.05,
        )
    )


def writer_on(engine: sa.Engine, directory: Path, **options: Any) -> Writer:
    """A writer with delays for a test."""
    spool = Spool(directory)
    policy = RetryPolicy(initial_delay=0.02, max_delay=0.3)
    drainer = Drainer(
        engine,
        Backlog(spool),
        policy=policy,
        grace=options.pop("grace", 0.2),
        batch_rows=options.get("flush_rows", 10_000),
    )
    return Writer(engine, spool, flush_interval=options.pop("flush_interval", 0.05), drainer=drainer, **options)


def metric(user_id: str, number: int, **more: Any) -> dict[str, Any]:
    """A row that no other row equals."""
    return {
        "user_id": user_id,
        "metric_id": f"{number}",
        "timestamp": NOW,
        "metric_type": ("latency", "llm", "network")[number % 3],
        "metric_name": "m",
        "value": float(number * number % 1009),
        "total_tokens": number % 17,
        **more,
    }


def rows_of(user_id: str, batch: int) -> tuple[tuple[str, ...], list[list[Any]]]:
    """Columns and values of the rows of one of several batches, as the spool takes them."""
    checker = RowChecker(PerformanceMetric.__table__)
    numbers = range(batch * ROWS_OF_BATCH, (batch + 1) * ROWS_OF_BATCH)
    return checker.columns, [checker.check(0, metric(user_id, number))[0] for number in numbers]


def data_paths(engine: sa.Engine) -> list[Path]:
    """Where the table and its summary lie; merges, which rename parts as well, are stopped."""
    with engine.connect() as connection:
        connection.execute(sa.text("SYSTEM STOP MERGES"))
        found = connection.execute(
            sa.text(
                "SELECT data_paths[1] FROM system.tables WHERE database = 'netra_analytics' AND name IN "
                "('performance_metrics', 'user_metrics_summary')"
            )
        )
        return [Path(path).absolute() for path in found.scalars()]


def ids(engine: sa.Engine, user_id: str) -> Counter[int]:
    """How often each of a user's rows is there."""
    with engine.connect() as connection:
        found = connection.execute(sa.select(PerformanceMetric.metric_id).where(PerformanceMetric.user_id == user_id))
        return Counter(map(int, found.scalars()))


def assert_summaries(engine: sa.Engine, source: Any, condition: Any, *, of: Any) -> None:
    """Every summary of ``source`` says what the source says.

    Args:
        engine: of ClickHouse.
        source: a model.
        condition: on the source's rows.
        of: for a summary's target, the same condition.
    """
    with engine.connect() as connection:
        for summary in SUMMARIES:
            if summary.source is source:
                said = connection.execute(summary.query.where(of(summary.target))).all()
                true = connection.execute(summary.source_query.where(condition)).all()
                assert sorted(map(rounded, said)) == sorted(map(rounded, true)), summary.name


def assert_exact(data: DataAccess, user_id: str, numbers: Any) -> None:
    """A user's rows are these, each once, and the summaries say what they say."""
    found = ids(data.engine, user_id)
    assert sorted(found) == sorted(numbers)
    assert set(found.values()) <= {1}, "rows that are there twice"
    condition = PerformanceMetric.user_id == user_id
    assert_summaries(data.engine, PerformanceMetric, condition, of=lambda target: target.user_id == user_id)


def rounded(row: Any) -> tuple[Any, ...]:
    return tuple(float(f"{value:.10g}") if isinstance(value, float) else value for value in row)


def load(data: DataAccess, directory: Path, user_id: str, start: int) -> None:
    """Write rows for ever, and print the number of each one that was acknowledged."""
    writer = writer_on(data.engine, directory, flush_rows=50)
    writer.start()
    print("ready", flush=True)
    number = start
    while True:
        for _ in range(20):
            writer.record(PerformanceMetric, metric(user_id, number))
            print(number, flush=True)
            number += 1
        rows = [metric(user_id, number + place) for place in range(30)]
        writer.insert(PerformanceMetric, rows)
        print(" ".join(str(number + place) for place in range(30)), flush=True)
        number += 30


def batches(data: DataAccess, directory: Path, user_id: str, count: int) -> None:
    """Send a few batches, at the word of who started this."""
    writer = writer_on(data.engine, directory, flush_rows=ROWS_OF_BATCH)
    for batch in range(count):
        writer.spool.append(PerformanceMetric.__table__, *rows_of(user_id, batch))
    print(*data_paths(data.engine), flush=True)
    sys.stdin.readline()
    writer.start()
    writer.flush()
    writer.close()
    print("done", flush=True)


def drain(data: DataAccess, directory: Path, user_id: str, stop: int) -> None:
    """Send what is left in batches of five; say so and stand still when the one asked for is stored, not yet noted."""
    sent = itertools.count(1)

    def look(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO") and next(sent) == stop:
            print("half", flush=True)
            time.sleep(3600)

    sa.event.listen(data.engine, "after_cursor_execute", look)
    writer = writer_on(data.engine, directory, flush_rows=5)
    writer.flush()
    writer.close()


def check(data: DataAccess, directory: Path, user_id: str, start: int) -> None:
    """Drain what is left, compare the summaries, and print the rows that are there, as often as they are."""
    writer = writer_on(data.engine, directory)
    writer.start()
    writer.flush()
    writer.close()
    condition = PerformanceMetric.user_id == user_id
    assert_summaries(data.engine, PerformanceMetric, condition, of=lambda target: target.user_id == user_id)
    print(" ".join(map(str, ids(data.engine, user_id).elements())))


def main(what: str, url: str, directory: str, user_id: str, start: str) -> None:
    """Do one of these in a process of its own."""
    with access(url) as data:
        data.initialize()
        {"load": load, "batches": batches, "check": check, "drain": drain}[what](
            data, Path(directory), user_id, int(start)
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
