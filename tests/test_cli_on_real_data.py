"""Real series and logs, imported and read back: every row, every time, the percentiles that NumPy finds.

The files are not part of the project; without them there is nothing to test here.
"""

from __future__ import annotations

import calendar
import csv
import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from netra_chdb import Config, DataAccess, models
from netra_chdb.cli import application
from netra_chdb.dialect import select

SHARED = Path(os.environ.get("NETRA_SHARED") or Path(__file__).parents[2] / "shared")
METRICS = sorted((SHARED / "data" / "metrics").glob("*.csv"))
LOGS = sorted((SHARED / "data" / "events").glob("*_2k.csv"))
TIME_OF = {"Apache_2k": "Time", "OpenStack_2k": "Date+Time", "Zookeeper_2k": "Date+Time"}

pytestmark = pytest.mark.skipif(not (METRICS and LOGS), reason=f"no series and logs in {SHARED}")


@pytest.fixture(scope="module")
def stored(embedded_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DataAccess, str]]:
    """All files, imported by the commands that a user types, for a user of their own."""
    user = f"user-{uuid.uuid4().hex}"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("CLICKHOUSE_")]:
            patch.delenv(name)
        patch.setenv("CLICKHOUSE_URL", embedded_url)
        patch.chdir(tmp_path_factory.mktemp("import"))
        commands = [["metrics", *map(str, METRICS)]]
        commands += [["events", str(path), "--map", f"timestamp={TIME_OF[path.stem]}"] for path in LOGS]
        for command in commands:
            result = CliRunner().invoke(application(), ["import", *command, "--user", user])
            assert result.exit_code == 0, result.output
        with DataAccess(Config()) as data:
            yield data, user


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def milliseconds(row: dict[str, str]) -> int:
    """The time of a line, read without the code under test."""
    if "timestamp" in row:
        return int(np.datetime64(row["timestamp"], "ms").astype(int))
    if "Date" in row:
        return int(np.datetime64(f"{row['Date']}T{row['Time'].replace(',', '.')}", "ms").astype(int))
    return calendar.timegm(time.strptime(row["Time"])) * 1000


def test_every_row_is_there(stored: tuple[DataAccess, str]) -> None:
    data, user = stored
    assert data.performance_metrics.count(user_id=user) == sum(len(rows_of(path)) for path in METRICS) == 24_890
    assert data.events.count(user_id=user) == sum(len(rows_of(path)) for path in LOGS) == 6_000


@pytest.mark.parametrize("path", METRICS, ids=lambda path: path.stem)
def test_every_value_has_its_time(stored: tuple[DataAccess, str], path: Path) -> None:
    data, user = stored
    metric = models.analytics.PerformanceMetric
    with data.session() as session:
        found = session.execute(
            select(metric.timestamp, metric.value).where(metric.user_id == user, metric.metric_name == path.stem)
        ).all()
    expected = [(milliseconds(row), float(row["value"])) for row in rows_of(path)]
    assert sorted((round(row.timestamp.timestamp() * 1000), row.value) for row in found) == sorted(expected)
    assert all(row.timestamp.microsecond == 0 for row in found)


@pytest.mark.parametrize("path", METRICS, ids=lambda path: path.stem)
def test_percentiles_are_numpys(stored: tuple[DataAccess, str], path: Path) -> None:
    data, user = stored
    levels = (0.0, 0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
    reading = data.performance_metrics.percentiles("resource", metric_name=path.stem, user_id=user, levels=levels)
    values = [float(row["value"]) for row in rows_of(path)]
    assert [row.level for row in reading.rows] == list(levels)
    assert [row.value for row in reading.rows] == pytest.approx(
        np.percentile(values, [100 * level for level in levels]).tolist(), rel=1e-9
    )


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_every_line_of_a_log_has_its_time_and_its_fields(stored: tuple[DataAccess, str], path: Path) -> None:
    data, user = stored
    event = models.analytics.Event
    with data.session() as session:
        found = session.execute(
            select(event.timestamp, event.data).where(event.user_id == user, event.event_name == path.stem)
        ).all()
    used = set(re.split(r"\+", TIME_OF[path.stem]))
    expected = {
        row["LineId"]: (milliseconds(row), {name: text for name, text in row.items() if name not in used})
        for row in rows_of(path)
    }
    assert {row.data["LineId"]: (round(row.timestamp.timestamp() * 1000), row.data) for row in found} == expected
    assert len(found) == len(expected) == 2000


def test_the_daily_summary_adds_up(stored: tuple[DataAccess, str]) -> None:
    data, user = stored
    by_day: dict[str, list[float]] = {}
    for path in METRICS:
        for row in rows_of(path):
            by_day.setdefault(row["timestamp"][:10], []).append(float(row["value"]))
    rows = data.performance_metrics.user_summary(user_id=user).rows
    assert {str(row.day): row.metric_count for row in rows} == {day: len(values) for day, values in by_day.items()}
    for row in rows:
        values = by_day[str(row.day)]
        assert (row.min_value, row.max_value) == (min(values), max(values))
        assert row.avg_value == pytest.approx(np.mean(values), rel=1e-12)
