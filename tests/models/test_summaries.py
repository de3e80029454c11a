"""Each summary answers what a query over its source answers, and what Python computes from the rows that were sent.

The rows come in fifty inserts, as a writer sends them: each insert with one ``created_at``, on several days, so that
states meet in merges, and one group is large. Asked before and after ``OPTIMIZE ... FINAL``.
"""

from __future__ import annotations

import collections
import datetime as dt
import math
import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest
import sqlalchemy as sa

from netra_chdb.models import analytics, traces
from netra_chdb.models.base import now
from netra_chdb.models.summary import Summary

INSERTS = 50
SMALL, LARGE = 20, 400  # rows of an insert: in small groups, and in the one group that gets 20,000 in all
SUMMARIES: dict[str, Summary] = {summary.name: summary for summary in (*analytics.SUMMARIES, *traces.SUMMARIES)}
Row: TypeAlias = dict[str, Any]
Answer: TypeAlias = dict[tuple[Any, ...], Row]

START = now()


def metric(chance: random.Random, moment: dt.datetime, large: bool, types: Sequence[str]) -> Row:
    return {
        "metric_id": uuid.UUID(int=chance.getrandbits(128)).hex,
        "trace_id": f"trace-{chance.randrange(300)}",
        "user_id": "heavy" if large else f"user-{chance.randrange(4)}",
        "timestamp": moment,
        "metric_type": types[0] if large else chance.choice(types),
        "metric_name": "response",
        "component_name": "api" if large else chance.choice(["api", "worker", ""]),
        "value": chance.choice([chance.lognormvariate(3, 1), chance.uniform(-5, 5), 0.1, 1e9 * chance.random()]),
        "total_tokens": chance.randrange(5000),
    }


def analytics_metric(chance: random.Random, moment: dt.datetime, large: bool) -> Row:
    return metric(chance, moment, large, ["latency", "tokens", "eigener Typ"])


def traces_metric(chance: random.Random, moment: dt.datetime, large: bool) -> Row:
    return metric(chance, moment, large, ["latency", "llm", "database"])


def execution(chance: random.Random, moment: dt.datetime, large: bool) -> Row:
    return {
        "trace_id": uuid.UUID(int=chance.getrandbits(128)).hex,
        "execution_id": uuid.UUID(int=chance.getrandbits(128)).hex,
        "user_id": "heavy" if large else f"user-{chance.randrange(4)}",
        "start_time": moment,
        "agent_type": "supervisor" if large else chance.choice(["supervisor", "triage"]),
        "agent_name": "agent",
        "status": chance.choice(["pending", "running", "completed", "completed", "failed", "cancelled"]),
        "duration_ms": chance.expovariate(0.001),
        "token_count": chance.randrange(100_000),
        "tool_calls_count": chance.randrange(9),
    }


def error(chance: random.Random, moment: dt.datetime, large: bool) -> Row:
    error_id = uuid.UUID(int=chance.getrandbits(128)).hex
    return {
        "error_id": error_id,
        "trace_id": f"trace-{chance.randrange(5000)}",
        "user_id": f"user-{chance.randrange(700)}",
        # Only so many moments that several errors are the earliest: the id decides.
        "timestamp": moment.replace(minute=0, second=chance.randrange(3), microsecond=0),
        "error_type": "timeout" if large else chance.choice(["timeout", "llm", "unknown"]),
        "error_code": "504" if large else chance.choice(["504", "", "E-1"]),
        "error_category": "upstream" if large else chance.choice(["upstream", "local"]),
        "severity": "error" if large else chance.choice(["error", "critical"]),
        "error_message": f"it broke in {error_id}",
    }


def correlation(chance: random.Random, moment: dt.datetime, large: bool) -> Row:
    return {
        "correlation_id": uuid.UUID(int=chance.getrandbits(128)).hex,
        "parent_trace_id": f"trace-{chance.randrange(500)}",
        "child_trace_id": f"trace-{chance.randrange(500)}",
        "timestamp": moment,
        "relationship_type": "parent_child" if large else chance.choice(["sibling", "parent_child"]),
        "parent_agent_type": "supervisor" if large else chance.choice(["supervisor", ""]),
        "child_agent_type": "triage" if large else chance.choice(["triage", "data"]),
        "depth_level": chance.randrange(12),
        "parent_start_time": moment,
        "child_start_time": moment,
        "overlap_duration_ms": chance.expovariate(0.01),
    }


# -- the same in Python ----------------------------------------------------------------------------------------------


def mean(rows: list[Row], column: str) -> float:
    return math.fsum(row[column] for row in rows) / len(rows)


def percentile(rows: list[Row], column: str, level: float) -> float:
    """``quantileExact``: the element at ``floor(level * n)`` of the sorted values."""
    values = sorted(float(row[column]) for row in rows)
    return values[int(level * len(values))]


def user_metrics(rows: list[Row]) -> Row:
    values = [row["value"] for row in rows]
    return {
        "metric_count": len(rows),
        "avg_value": mean(rows, "value"),
        "max_value": max(values),
        "min_value": min(values),
        "total_tokens": sum(row["total_tokens"] for row in rows),
    }


def user_executions(rows: list[Row]) -> Row:
    durations = [row["duration_ms"] for row in rows]
    states = [row["status"] for row in rows]
    return {
        "execution_count": len(rows),
        "avg_duration_ms": mean(rows, "duration_ms"),
        "max_duration_ms": max(durations),
        "min_duration_ms": min(durations),
        "total_tokens": sum(row["token_count"] for row in rows),
        "total_tool_calls": sum(row["tool_calls_count"] for row in rows),
        "completed_count": states.count("completed"),
        "failed_count": states.count("failed"),
    }


def error_pattern(rows: list[Row]) -> Row:
    return {
        "error_count": len(rows),
        "unique_users": len({row["user_id"] for row in rows}),
        "unique_traces": len({row["trace_id"] for row in rows}),
        "sample_message": min(rows, key=lambda row: (row["timestamp"], row["error_id"]))["error_message"],
    }


def performance_trend(rows: list[Row]) -> Row:
    return {
        "metric_count": len(rows),
        "avg_value": mean(rows, "value"),
        "p50": percentile(rows, "value", 0.5),
        "p95": percentile(rows, "value", 0.95),
        "p99": percentile(rows, "value", 0.99),
        "max_value": max(row["value"] for row in rows),
    }


def interaction(rows: list[Row]) -> Row:
    return {
        "interaction_count": len(rows),
        "avg_overlap_ms": mean(rows, "overlap_duration_ms"),
        "max_depth_level": max(row["depth_level"] for row in rows),
    }


@dataclass(frozen=True)
class Case:
    make: Callable[[random.Random, dt.datetime, bool], Row]
    compute: Callable[[list[Row]], Row]


CASES = {
    "user_metrics_summary": Case(analytics_metric, user_metrics),
    "user_execution_summary": Case(execution, user_executions),
    "error_patterns": Case(error, error_pattern),
    "performance_trends": Case(traces_metric, performance_trend),
    "agent_interactions": Case(correlation, interaction),
}


def key_of(summary: Summary, row: Row) -> tuple[Any, ...]:
    time = row["start_time"] if "start_time" in row else row["timestamp"]
    derived = {"day": time.date(), "hour": time.hour}
    return tuple(derived[key] if key in derived else row[key] for key in summary.keys)


# -- writing and asking ----------------------------------------------------------------------------------------------


def insert(connection: sa.Connection, summary: Summary, rows: list[Row], created_at: dt.datetime) -> None:
    # As columns, past SQLAlchemy's defaults for each value: what is not given is empty all the same.
    frozen = {"created_at": created_at, "batch_id": uuid.uuid4()}
    data = [[row[name] for row in rows] for name in rows[0]] + [[value] * len(rows) for value in frozen.values()]
    cursor: Any = connection.connection.cursor()
    cursor.insert(summary.source.__table__.fullname, [*rows[0], *frozen], data)


def ask(connection: sa.Connection, summary: Summary, query: sa.Select[Any]) -> Answer:
    answer: Answer = {}
    for row in connection.execute(query).mappings():
        key = tuple(row[name] for name in summary.keys)
        assert key not in answer
        answer[key] = {name: value for name, value in row.items() if name not in summary.keys}
    return answer


def stored(connection: sa.Connection, model: Any) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(model.__table__)).scalar_one())


def on_both(connection: sa.Connection, summary: Summary, statement: str) -> None:
    for model in (summary.source, summary.target):
        connection.execute(sa.text(statement.format(model.__table__.fullname)))


@pytest.fixture(params=list(SUMMARIES))
def summary(schema: sa.Engine, request: pytest.FixtureRequest) -> Iterator[Summary]:
    """Each summary in turn, with both tables empty and not merging by themselves."""
    found = SUMMARIES[request.param]
    with schema.connect() as connection:
        on_both(connection, found, "SYSTEM STOP MERGES {}")
        # What reaches the disk, and when, is not asked here.
        on_both(connection, found, "ALTER TABLE {} MODIFY SETTING fsync_after_insert = 0, fsync_part_directory = 0")
    yield found
    with schema.connect() as connection:
        on_both(connection, found, "TRUNCATE TABLE {}")
        on_both(connection, found, "SYSTEM START MERGES {}")


def merge(connection: sa.Connection, summary: Summary) -> None:
    on_both(connection, summary, "SYSTEM START MERGES {}")
    on_both(connection, summary, "OPTIMIZE TABLE {} FINAL")


def assert_same(found: Answer, expected: Answer) -> None:
    """Averages within 1e-12, all else equal."""
    assert found.keys() == expected.keys()
    for key, numbers in expected.items():
        assert found[key].keys() == numbers.keys()
        for name, value in numbers.items():
            if name.startswith("avg_"):
                assert math.isclose(found[key][name], value, rel_tol=1e-12), (key, name)
            else:
                assert found[key][name] == value, (key, name)


def test_summary_equals_its_source_and_python_before_and_after_merges(schema: sa.Engine, summary: Summary) -> None:
    case, chance = CASES[summary.name], random.Random(summary.name)
    midday = START.replace(hour=12, minute=0, second=0, microsecond=0)
    groups: dict[tuple[Any, ...], list[Row]] = collections.defaultdict(list)
    pieces = set()  # keys with their days of creation
    with schema.connect() as connection:
        for number in range(INSERTS):
            created_at = START - dt.timedelta(days=number % 5, seconds=number)
            rows = [
                case.make(chance, midday - dt.timedelta(hours=chance.randrange(0, 72, 9)), False) for _ in range(SMALL)
            ] + [case.make(chance, midday - dt.timedelta(days=1, minutes=-number), True) for _ in range(LARGE)]
            chance.shuffle(rows)
            insert(connection, summary, rows, created_at)
            for row in rows:
                key = key_of(summary, row)
                groups[key].append(row)
                pieces.add((*key, created_at.date()))
        assert max(map(len, groups.values())) >= INSERTS * LARGE == 20_000
        assert len(groups) > 10
        expected = {key: case.compute(rows) for key, rows in groups.items()}
        for merged in (False, True):
            if merged:
                merge(connection, summary)
                assert stored(connection, summary.target) == len(pieces)
            else:
                assert stored(connection, summary.target) > len(pieces)
            answer = ask(connection, summary, summary.query)
            assert_same(answer, ask(connection, summary, summary.source_query))
            assert_same(answer, expected)


def test_both_sides_forget_a_row_on_the_same_day(schema: sa.Engine, summary: Summary) -> None:
    """A group that has rows of an expired and of an unexpired batch keeps those of the second alone."""
    case, chance = CASES[summary.name], random.Random(summary.name)
    moment = START - dt.timedelta(days=200)  # long ago: what counts is when a row was created
    old, young = ([case.make(chance, moment, True) for _ in range(rows)] for rows in (3, 2))
    expected = {key_of(summary, young[0]): case.compute(young)}
    with schema.connect() as connection:
        insert(connection, summary, old, START - dt.timedelta(days=summary.source.kept_days + 2))
        insert(connection, summary, young, START - dt.timedelta(days=summary.source.kept_days - 2))
        assert (stored(connection, summary.source), stored(connection, summary.target)) == (5, 2)
        for merged in (False, True):
            if merged:
                merge(connection, summary)
                assert (stored(connection, summary.source), stored(connection, summary.target)) == (2, 1)
            for query in (summary.query, summary.source_query):
                assert_same(ask(connection, summary, query), expected)


@pytest.mark.parametrize("summary", ["performance_trends"], indirect=True)
def test_percentiles_are_elements_at_floor_of_level_times_n(schema: sa.Engine, summary: Summary) -> None:
    """Ten values 1 to 10: the median is element 5 of 0 to 9, which is 6, and both high percentiles are the last."""
    chance = random.Random(0)
    rows = [{**traces_metric(chance, START, True), "value": float(value)} for value in range(1, 11)]
    with schema.connect() as connection:
        for start in range(0, 10, 3):
            insert(connection, summary, rows[start : start + 3], START)
        [answer] = ask(connection, summary, summary.query).values()
    assert (answer["p50"], answer["p95"], answer["p99"], answer["metric_count"]) == (6.0, 10.0, 10.0, 10)


def test_a_batch_sent_twice_counts_once(schema: sa.Engine, summary: Summary) -> None:
    rows = [CASES[summary.name].make(random.Random(number), START, False) for number in range(20)]
    batch_id = uuid.uuid4()
    statement = sa.insert(summary.source.__table__).execution_options(
        settings={"insert_deduplication_token": str(batch_id)}
    )
    with schema.connect() as connection:
        for _ in range(2):
            connection.execute(statement, [{**row, "created_at": START, "batch_id": batch_id} for row in rows])
        assert stored(connection, summary.source) == len(rows)
        groups: dict[tuple[Any, ...], list[Row]] = collections.defaultdict(list)
        for row in rows:
            groups[key_of(summary, row)].append(row)
        expected = {key: CASES[summary.name].compute(rows) for key, rows in groups.items()}
        assert_same(ask(connection, summary, summary.query), expected)
