"""Faults made by hand in both databases: each is named, alone, and what is recommended mends it."""

from __future__ import annotations

import datetime as dt
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from netra_chdb import Config, DataAccess, errors, models
from netra_chdb.validation.result import Report
from tests.servers import ModernServer
from tests.validation.conftest import ONE_DRIVER

PART = "system.parts WHERE active AND database = 'netra_analytics' AND table = 'performance_metrics'"
#: Advice that is a statement, which can be run.
CAN_BE_RUN = ("ADD COLUMN", "MODIFY COLUMN", "MODIFY TTL", "ADD INDEX", "MODIFY SETTING", "COMMENT")


def problems(report: Report) -> dict[str, str]:
    """The state of what is not well, by name."""
    return {result.name: result.state for result in report.results if result.state not in ("ok", "skipped")}


def create_query(server: ModernServer, table: str) -> str:
    return server.query(
        f"SELECT create_table_query FROM system.tables WHERE concat(database, '.', name) = '{table}' FORMAT TSVRaw"
    )


def test_a_fresh_schema_is_what_the_models_say(data: DataAccess) -> None:
    report = data.consistency()
    assert problems(report) == {}
    assert report.ok
    assert {"schema netra_traces", "writable netra_analytics", "summary netra_traces.error_patterns"} <= {
        result.name for result in report.results
    }


@ONE_DRIVER
def test_nothing_is_left_behind(data: DataAccess, server: ModernServer) -> None:
    def all_of_it() -> list[str]:
        return [
            server.query("SELECT name FROM system.databases ORDER BY name"),
            server.query(
                "SELECT database, table, name FROM system.parts WHERE active AND database LIKE 'n%' ORDER BY 3"
            ),
        ]

    before = all_of_it()
    data.consistency()
    assert all_of_it() == before


def replaced(server: ModernServer, table: str, old: str, new: str) -> list[str]:
    """The statements that make a table anew with another text in it."""
    made = create_query(server, table)
    assert old in made
    return [f"DROP TABLE {table} SYNC", made.replace(old, new)]


# What is broken, by what its result is called. Each in a table of its own, so that one run shows that none hides
# another and that nothing else is named.
FAULTS: dict[str, tuple[Callable[[ModernServer], list[str]], str, str]] = {
    "column netra_analytics.events.event_category": (
        lambda server: ["ALTER TABLE netra_analytics.events DROP COLUMN event_category"],
        "is missing",
        "ADD COLUMN",
    ),
    "column netra_analytics.error_analytics.severity": (
        lambda server: ["ALTER TABLE netra_analytics.error_analytics MODIFY COLUMN severity String"],
        "is String",
        "MODIFY COLUMN",
    ),
    "clause netra_analytics.performance_metrics.TTL": (
        lambda server: [
            "ALTER TABLE netra_analytics.performance_metrics MODIFY TTL toDate(created_at) + toIntervalDay(99)"
        ],
        "toIntervalDay(99)",
        "MODIFY TTL",
    ),
    "index netra_analytics.system_health_metrics.ix_timestamp": (
        lambda server: ["ALTER TABLE netra_analytics.system_health_metrics DROP INDEX ix_timestamp"],
        "is missing",
        "ADD INDEX",
    ),
    "materialized view netra_analytics.mv_user_metrics_summary": (
        lambda server: ["DROP VIEW netra_analytics.mv_user_metrics_summary SYNC"],
        "is missing",
        "alembic upgrade head --sql",
    ),
    "engine netra_traces.trace_correlations": (
        lambda server: replaced(server, "netra_traces.trace_correlations", "= MergeTree", "= ReplacingMergeTree"),
        "ReplacingMergeTree",
        "cannot be changed in place",
    ),
    "setting netra_traces.agent_events.non_replicated_deduplication_window": (
        lambda server: ["ALTER TABLE netra_traces.agent_events MODIFY SETTING non_replicated_deduplication_window = 5"],
        "is 5",
        "MODIFY SETTING",
    ),
    "column netra_traces.error_logs.error_message": (
        lambda server: ["ALTER TABLE netra_traces.error_logs MODIFY COLUMN error_message CODEC(NONE)"],
        "NONE",
        "MODIFY COLUMN",
    ),
    "column netra_traces.agent_executions.environment": (
        lambda server: ["ALTER TABLE netra_traces.agent_executions MODIFY COLUMN environment DEFAULT 'prod'"],
        "prod",
        "MODIFY COLUMN",
    ),
    "query netra_traces.mv_error_patterns": (
        lambda server: ["ALTER TABLE netra_traces.mv_error_patterns MODIFY QUERY " + only_errors(server)],
        "WHERE severity = 'error'",
        "replace_view",
    ),
    "clause netra_traces.performance_trends.ORDER BY": (
        lambda server: replaced(
            server, "netra_traces.performance_trends", "ORDER BY (day, hour,", "ORDER BY (hour, day,"
        ),
        "hour, day",
        "cannot be changed in place",
    ),
    "clause netra_traces.error_patterns.TTL": (
        lambda server: ["ALTER TABLE netra_traces.error_patterns REMOVE TTL"],
        "is missing",
        "MODIFY TTL",
    ),
    "clause netra_traces.user_execution_summary.PARTITION BY": (
        lambda server: replaced(
            server, "netra_traces.user_execution_summary", " ORDER BY", " PARTITION BY toYYYYMM(day) ORDER BY"
        ),
        "toYYYYMM(day)",
        "cannot be changed in place",
    ),
    "comment netra_traces.performance_metrics": (
        lambda server: ["ALTER TABLE netra_traces.performance_metrics MODIFY COMMENT 'mine'"],
        "mine",
        "COMMENT",
    ),
    "table netra_traces.agent_interactions": (
        lambda server: ["DROP TABLE netra_traces.agent_interactions SYNC"],
        "is missing",
        "alembic upgrade head --sql",
    ),
}


def only_errors(server: ModernServer) -> str:
    query = server.query("SELECT as_select FROM system.tables WHERE name = 'mv_error_patterns' FORMAT TSVRaw")
    return query.replace(" GROUP BY", " WHERE severity = 'error' GROUP BY")


@contextmanager
def rebuilt_after(server: ModernServer) -> Iterator[None]:
    try:
        yield
    finally:
        for database in ("netra_traces", "netra_analytics"):
            server.query(f"DROP DATABASE IF EXISTS {database} SYNC")
        with DataAccess(Config(url=server.url("chhttp"))) as data:
            data.initialize()


def test_each_difference_is_named_and_the_advice_mends_it(data: DataAccess, server: ModernServer) -> None:
    with rebuilt_after(server):
        for make, _, _ in FAULTS.values():
            for statement in make(server):
                server.query(statement)
        server.query("CREATE TABLE netra_traces.mine (a UInt8) ENGINE = MergeTree ORDER BY a")
        server.query(
            "ALTER TABLE netra_analytics.user_metrics_summary ADD COLUMN mine SimpleAggregateFunction(any, String)"
        )
        report = data.consistency()
        found = problems(report)
        # The view into the table that is gone fails each INSERT into its source.
        assert found.pop("writable netra_traces") == "failed"
        assert "trace_correlations cannot be written to" in report["writable netra_traces"].evidence
        assert found.pop("readable netra_traces") == "failed"
        assert "agent_interactions cannot be read" in report["readable netra_traces"].evidence
        # What is there besides harms nobody.
        assert found.pop("table netra_traces.mine") == "warning"
        extra = "column netra_analytics.user_metrics_summary.mine"
        assert found.pop(extra) == "warning"
        assert "if nobody needs it: ALTER TABLE" in report[extra].recommendation
        assert found.pop("schema netra_traces") == found.pop("schema netra_analytics") == "failed"
        assert found == dict.fromkeys(FAULTS, "failed")
        for name, (_, evidence, recommendation) in FAULTS.items():
            assert evidence in report[name].evidence, name
            assert recommendation in report[name].recommendation, name
        for result in report.failed:
            if match := re.fullmatch(r"(ALTER TABLE .*); `alembic .*", result.recommendation):
                server.query(match[1])
        left = problems(data.consistency())
        mended = {name for name, (_, _, advice) in FAULTS.items() if advice in CAN_BE_RUN}
        assert not mended & set(left)


def test_a_table_that_cannot_be_copied_hides_nothing(data: DataAccess, server: ModernServer) -> None:
    """ALTER takes a column here that CREATE refuses."""
    summary, events = "netra_analytics.user_metrics_summary", "netra_analytics.events"
    server.query(f"ALTER TABLE {summary} ADD COLUMN mine String")
    server.query(f"ALTER TABLE {events} ADD COLUMN mine String")
    try:
        report = data.consistency()
    finally:
        for table in (summary, events):
            server.query(f"ALTER TABLE {table} DROP COLUMN mine")
    found = problems(report)
    assert found.pop("writable netra_analytics") == "failed"
    assert found == {f"column {table}.mine": "warning" for table in (summary, events)}
    assert "by hand" in report[f"column {summary}.mine"].recommendation
    assert "ALTER TABLE netra_analytics.events DROP COLUMN mine" in report[f"column {events}.mine"].recommendation


@ONE_DRIVER
class TestAdviceLosesNothing:
    """Each line of the report is run by itself, and none drops what another line is about."""

    TABLE = "netra_analytics.error_analytics"

    def test_a_column_that_was_renamed(self, data: DataAccess, server: ModernServer) -> None:
        row = {"user_id": "u", "timestamp": dt.datetime.now(dt.UTC), "error_type": "t", "error_message": "m"}
        data.error_analytics.insert([{**row, "severity": "critical"}])
        server.query(f"ALTER TABLE {self.TABLE} RENAME COLUMN severity TO sev")
        try:
            report = data.consistency()
            lost, more = report[f"column {self.TABLE}.severity"], report[f"column {self.TABLE}.sev"]
            assert (lost.state, more.state) == ("failed", "warning")
            assert lost.recommendation == more.recommendation
            assert "ADD" not in lost.recommendation.partition("keeps")[0]
            change = re.search(r"ALTER TABLE \S+ RENAME COLUMN sev TO severity", lost.recommendation)
            assert change is not None
            server.query(change[0])
            assert server.query(f"SELECT severity FROM {self.TABLE} WHERE user_id = 'u'") == "critical"
        finally:
            if "sev" in server.query(f"SELECT name FROM system.columns WHERE table = '{self.TABLE[16:]}'").split():
                server.query(f"ALTER TABLE {self.TABLE} RENAME COLUMN sev TO severity")
            server.query(f"TRUNCATE TABLE {self.TABLE}")
        assert problems(data.consistency()) == {}

    def test_drops_are_only_where_something_is_more(self, data: DataAccess, server: ModernServer) -> None:
        table = self.TABLE
        with rebuilt_after(server):
            for change in (
                "ADD COLUMN extra UInt64",
                "ADD INDEX mine user_id TYPE minmax",
                "MODIFY COLUMN error_message CODEC(NONE)",
                "DROP COLUMN severity",
                "MODIFY COMMENT 'mine'",
                "REMOVE TTL",
            ):
                server.query(f"ALTER TABLE {table} {change}")
            report = data.consistency()
            for result in report.failed:
                assert "DROP" not in result.recommendation, result
            changes = {
                "column extra": "DROP COLUMN extra",
                "index mine": "DROP INDEX mine",
                "column severity": "ADD COLUMN severity",
                "column error_message": "MODIFY COLUMN error_message",
                "comment ": "MODIFY COMMENT",
                "clause TTL": "MODIFY TTL",
            }
            for name, change in changes.items():
                what, _, part = name.partition(" ")
                advice = report[f"{what} {table}{'.' if part else ''}{part}"].recommendation
                assert change in advice
                assert not [other for other in changes.values() if other != change and other in advice]
            assert "lost for good" in report[f"column {table}.extra"].recommendation
            for result in report.failed:
                if match := re.match(r"(ALTER TABLE .*); `alembic ", result.recommendation):
                    server.query(match[1])
            assert problems(data.consistency()) == {
                f"column {table}.extra": "warning",
                f"index {table}.mine": "warning",
            }

    def test_columns_that_stand_together_come_back_in_order(self, data: DataAccess, server: ModernServer) -> None:
        with rebuilt_after(server):
            columns = "SELECT name FROM system.columns WHERE database = 'netra_analytics' AND table = 'events'"
            before = server.query(columns).split()
            free = server.query(
                f"{columns} AND NOT is_in_sorting_key AND NOT is_in_partition_key AND name LIKE 'event_%'"
            )
            for name in free.split()[:2]:
                server.query(f"ALTER TABLE netra_analytics.events DROP COLUMN {name}")
            for result in data.consistency().failed:
                if match := re.match(r"(ALTER TABLE .*); `alembic ", result.recommendation):
                    server.query(match[1])
            assert len(free.split()) >= 2
            assert server.query(columns).split() == before
            assert problems(data.consistency()) == {}

    @pytest.mark.parametrize("name", ["error_analytics", "mv_user_metrics_summary"])
    def test_what_was_detached_is_attached(self, data: DataAccess, server: ModernServer, name: str) -> None:
        full = f"netra_analytics.{name}"
        kind = "materialized view" if name.startswith("mv") else "table"
        server.query(f"DETACH TABLE {full} PERMANENTLY SYNC")
        try:
            found = data.consistency()[f"{kind} {full}"]
            with pytest.raises(errors.SchemaMismatch, match=f"{name} is detached: ATTACH TABLE {full}"):
                data.initialize()
        finally:
            advised = re.match(r"ATTACH TABLE [\w.]+", found.recommendation)
            server.query(f"ATTACH TABLE {full}")
        assert found.state == "failed"
        assert advised is not None
        assert advised[0] == f"ATTACH TABLE {full}"
        assert "detached" in found.evidence
        assert problems(data.consistency()) == {}


@ONE_DRIVER
class TestRows:
    @pytest.fixture(autouse=True)
    def rows(self, data: DataAccess, server: ModernServer) -> Iterator[None]:
        now = dt.datetime.now(dt.UTC)
        data.performance_metrics.insert(
            [
                {"user_id": f"u{n % 5}", "trace_id": "t", "timestamp": now, "metric_type": "latency",
                 "metric_name": "m", "value": float(n)}
                for n in range(50)
            ]
        )  # fmt: skip
        yield
        for table in ("performance_metrics", "user_metrics_summary"):
            server.query(f"TRUNCATE TABLE netra_analytics.{table}")
            for name in server.query(
                f"SELECT name FROM system.detached_parts WHERE database = 'netra_analytics' AND table = '{table}'"
            ).split():
                server.query(
                    f"ALTER TABLE netra_analytics.{table} DROP DETACHED PART '{name}' SETTINGS allow_drop_detached = 1"
                )

    def test_a_summary_that_agrees(self, data: DataAccess) -> None:
        report = data.consistency()
        assert problems(report) == {}
        assert report["summary netra_analytics.user_metrics_summary"].evidence == "equal to its source for 5 keys"

    @pytest.mark.parametrize("fault", ["a row is missing", "rows are there twice", "the source has lost rows"])
    def test_a_summary_that_differs(self, data: DataAccess, server: ModernServer, fault: str) -> None:
        name = "netra_analytics.user_metrics_summary"
        wait = "SETTINGS mutations_sync = 2"
        if fault == "a row is missing":
            server.query(f"ALTER TABLE {name} DELETE WHERE user_id = 'u3' {wait}")
        elif fault == "rows are there twice":
            server.query(f"INSERT INTO {name} SELECT * FROM {name}")
        else:
            server.query(f"ALTER TABLE netra_analytics.performance_metrics DELETE WHERE user_id = 'u4' {wait}")
        report = data.consistency()
        assert problems(report) == {f"summary {name}": "failed"}
        many = 5 if fault == "rows are there twice" else 1
        assert report[f"summary {name}"].evidence.startswith(f"{many} of 5 keys differ")
        assert "mv_user_metrics_summary" in report[f"summary {name}"].recommendation

    def test_a_detached_part(self, data: DataAccess, server: ModernServer) -> None:
        table = "netra_analytics.performance_metrics"
        part = server.query(f"SELECT name FROM {PART}")
        server.query(f"ALTER TABLE {table} DETACH PART '{part}'")
        report = data.consistency()
        found = problems(report)
        assert found == {
            "parts netra_analytics": "warning",
            "summary netra_analytics.user_metrics_summary": "failed",  # its source has lost the rows
        }
        assert part in report["parts netra_analytics"].evidence
        advice = re.search(r"ALTER TABLE \S+ ATTACH PART '\S+'", report["parts netra_analytics"].recommendation)
        assert advice is not None
        server.query(advice[0])
        assert problems(data.consistency()) == {}

    def test_a_broken_part(self, data: DataAccess, server: ModernServer) -> None:
        path = server.query(f"SELECT path FROM {PART}")
        broken = Path(path).parent / "detached" / "broken-on-start_all_1_1_0"
        shutil.copytree(path, broken)
        report = data.consistency()
        assert problems(report) == {"parts netra_analytics": "failed"}
        assert "broken-on-start" in report["parts netra_analytics"].evidence
        assert "DROP DETACHED PART" in report["parts netra_analytics"].recommendation


def test_a_server_that_is_away_is_one_failure(server: ModernServer, driver: str) -> None:
    with DataAccess(Config(url=server.url(driver, port=1))) as data:
        report = data.consistency()
    assert problems(report) == {"connection": "failed"}
    assert "connection refused" in report["connection"].evidence


def test_a_user_who_may_not_is_told(server: ModernServer, driver: str) -> None:
    with DataAccess(Config(url=server.url(driver, user="limited"))) as data:
        report = data.consistency()
    failed = {result.name for result in report.failed}
    assert {"schema netra_traces", "writable netra_analytics"} <= failed
    assert "GRANT" in report["writable netra_analytics"].recommendation


def test_the_embedded_engine(embedded_url: str) -> None:
    with DataAccess(Config(url=embedded_url)) as data:
        data.initialize()
        report = data.consistency()
    # Other tests write to this database, and may have been ended with a summary short.
    assert {name for name in problems(report) if not name.startswith("summary")} == set()


@ONE_DRIVER
def test_the_models_are_asked_not_a_copy(data: DataAccess, server: ModernServer) -> None:
    """A model that is changed without a migration is found, too."""
    name = f"extra_{uuid.uuid4().hex[:8]}"
    metadata = models.analytics.Base.metadata
    table = sa.Table(name, metadata, sa.Column("a", sa.Integer), schema="netra_analytics")
    from netra_chdb.dialect import MergeTree

    MergeTree(order_by=["a"])._set_parent(table)
    try:
        report = data.consistency()
    finally:
        metadata.remove(table)
    assert report[f"table netra_analytics.{name}"].state == "failed"
