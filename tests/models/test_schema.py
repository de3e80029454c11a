"""What ``create_all`` makes is what the models say, and what the models say is what the tables are meant to be."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa

from netra_chdb.dialect.ddl import render_type
from netra_chdb.models import analytics, traces
from netra_chdb.models.base import DEDUPLICATION_WINDOW

MODELS: list[Any] = [mapper.class_ for module in (analytics, traces) for mapper in module.Base.registry.mappers]
ALL = sorted(MODELS, key=lambda model: str(model.__table__.fullname))
SUMMARIES = (*analytics.SUMMARIES, *traces.SUMMARIES)
TARGETS = [summary.target for summary in SUMMARIES]
SOURCES = [model for model in ALL if model not in TARGETS]


def name(model: Any) -> str:
    return str(model.__table__.fullname)


class Meant(NamedTuple):
    sorting_key: str
    days: int
    partition_key: str
    bloom: str = ""
    time: str = "timestamp"


TABLES = {
    "netra_analytics.performance_metrics": Meant(
        "user_id, timestamp, metric_type", 30, "toMonday(created_at)", "execution_id trace_id"
    ),
    "netra_analytics.events": Meant("user_id, timestamp, event_type", 90, "toYYYYMM(created_at)", "session_id"),
    "netra_analytics.system_health_metrics": Meant("service_name, timestamp", 7, "toYYYYMMDD(created_at)"),
    "netra_analytics.error_analytics": Meant("user_id, timestamp, error_type", 30, "toMonday(created_at)", "trace_id"),
    "netra_traces.agent_executions": Meant(
        "trace_id, start_time",
        90,
        "toYYYYMM(created_at)",
        "correlation_id execution_id organization_id parent_agent_id user_id",
        "start_time",
    ),
    "netra_traces.agent_events": Meant(
        "trace_id, timestamp, sequence_number",
        60,
        "toYYYYMM(created_at)",
        "correlation_id execution_id session_id user_id",
    ),
    "netra_traces.performance_metrics": Meant(
        "trace_id, timestamp, metric_type", 30, "toMonday(created_at)", "execution_id user_id"
    ),
    "netra_traces.trace_correlations": Meant(
        "parent_trace_id, child_trace_id", 60, "toYYYYMM(created_at)", "child_trace_id correlation_id"
    ),
    "netra_traces.error_logs": Meant(
        "trace_id, timestamp, severity", 90, "toYYYYMM(created_at)", "execution_id user_id"
    ),
}

TARGET_TABLES = {
    "netra_analytics.user_metrics_summary": Meant("user_id, day, metric_type, created_on", 30, ""),
    "netra_traces.user_execution_summary": Meant("user_id, day, agent_type, created_on", 90, ""),
    "netra_traces.error_patterns": Meant("day, error_type, error_code, error_category, severity, created_on", 90, ""),
    "netra_traces.performance_trends": Meant("day, hour, metric_type, component_name, created_on", 30, ""),
    "netra_traces.agent_interactions": Meant(
        "day, parent_agent_type, child_agent_type, relationship_type, created_on", 60, ""
    ),
}


def described(connection: sa.Connection, model: Any) -> Any:
    return connection.execute(
        sa.text(
            "SELECT engine, sorting_key, partition_key, primary_key, engine_full FROM system.tables "
            "WHERE database = :database AND name = :name"
        ),
        {"database": model.__table__.schema, "name": model.__table__.name},
    ).one()


def clause(engine_full: str, keyword: str) -> str:
    found = re.search(rf" {keyword} (.*?)(?= (?:PARTITION BY|ORDER BY|PRIMARY KEY|TTL|SETTINGS) |$)", engine_full)
    return found[1] if found else ""


def test_the_list_of_tables_is_complete() -> None:
    assert {name(model) for model in SOURCES} == set(TABLES)
    assert {name(model) for model in TARGETS} == set(TARGET_TABLES)


@pytest.mark.parametrize("module", [analytics, traces], ids=lambda module: str(module.SCHEMA))
def test_create_all_makes_every_table_and_view_and_nothing_else(schema: sa.Engine, module: Any) -> None:
    seen = sa.inspect(schema)
    assert set(seen.get_table_names(module.SCHEMA)) == {table.name for table in module.Base.metadata.tables.values()}
    assert set(seen.get_materialized_view_names(module.SCHEMA)) == {summary.view.name for summary in module.SUMMARIES}
    assert seen.get_view_names(module.SCHEMA) == []
    assert {table.schema for table in module.Base.metadata.tables.values()} == {module.SCHEMA}


@pytest.mark.parametrize("module", [analytics, traces], ids=lambda module: str(module.SCHEMA))
def test_drop_all_leaves_nothing_and_create_all_may_be_repeated(schema: sa.Engine, module: Any) -> None:
    with schema.connect() as connection:
        before = sa.inspect(connection).get_table_names(module.SCHEMA)
        module.Base.metadata.drop_all(connection)
        emptied = sa.inspect(connection)
        assert emptied.get_table_names(module.SCHEMA) == []
        assert emptied.get_materialized_view_names(module.SCHEMA) == []
        module.Base.metadata.create_all(connection)
        module.Base.metadata.create_all(connection)
        assert sa.inspect(connection).get_table_names(module.SCHEMA) == before


@pytest.mark.parametrize("model", SOURCES, ids=name)
def test_table_is_sorted_partitioned_and_kept_as_meant(schema: sa.Engine, model: Any) -> None:
    meant = TABLES[name(model)]
    with schema.connect() as connection:
        table = described(connection, model)
    assert table.engine == "MergeTree"
    assert table.sorting_key == table.primary_key == meant.sorting_key
    assert table.partition_key == meant.partition_key
    assert clause(table.engine_full, "TTL") == f"toDate(created_at) + toIntervalDay({meant.days})"
    assert model.kept_days == meant.days
    settings = clause(table.engine_full, "SETTINGS")
    assert f"non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}" in settings


@pytest.mark.parametrize("model", TARGETS, ids=name)
def test_target_has_every_key_no_partition_and_its_sources_days(schema: sa.Engine, model: Any) -> None:
    meant = TARGET_TABLES[name(model)]
    [summary] = [summary for summary in SUMMARIES if summary.target is model]
    with schema.connect() as connection:
        table = described(connection, model)
    assert table.engine == "AggregatingMergeTree"
    assert table.sorting_key == meant.sorting_key == ", ".join((*summary.keys, "created_on"))
    assert table.partition_key == ""
    assert clause(table.engine_full, "TTL") == f"created_on + toIntervalDay({meant.days})"
    assert model.kept_days == meant.days == TABLES[name(summary.source)].days
    settings = clause(table.engine_full, "SETTINGS")
    assert f"non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}" in settings
    keys = {*summary.keys, "created_on"}
    assert {column.name for column in model.__table__.primary_key} == keys
    for column in model.__table__.columns:
        stored = render_type(column, schema.dialect)
        assert (column.name in keys) != stored.startswith(("AggregateFunction(", "SimpleAggregateFunction(")), stored


@pytest.mark.parametrize("model", ALL, ids=name)
def test_columns_are_stored_as_declared(schema: sa.Engine, model: Any) -> None:
    table = model.__table__
    with schema.connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT name, type, compression_codec, default_kind, default_expression FROM system.columns "
                "WHERE database = :database AND table = :name ORDER BY position"
            ),
            {"database": table.schema, "name": table.name},
        ).all()
    declared = []
    for column in table.columns:
        codec = column.dialect_options["clickhouse"]["codec"]
        default = column.server_default
        declared.append(
            (
                column.name,
                render_type(column, schema.dialect),
                f"CODEC({codec})" if codec else "",
                "DEFAULT" if default is not None else "",
                f"'{default.arg}'" if default is not None else "",
            )
        )
    assert [tuple(row) for row in rows] == declared


@pytest.mark.parametrize("model", SOURCES, ids=name)
def test_numbers_times_and_texts_have_codecs_and_words_are_dictionaries(schema: sa.Engine, model: Any) -> None:
    for column in model.__table__.columns:
        stored = render_type(column, schema.dialect)
        compressed = not stored.startswith(("LowCardinality(", "Enum8(", "Bool"))
        assert bool(column.dialect_options["clickhouse"]["codec"]) == compressed, (column.name, stored)
        if column.name.endswith(("_type", "_category", "_name", "severity", "environment")) and (
            column.name != "function_name"
        ):
            assert stored.startswith(("LowCardinality(", "Enum8(")), (column.name, stored)


@pytest.mark.parametrize("model", SOURCES, ids=name)
def test_skip_indexes_are_what_was_meant(schema: sa.Engine, model: Any) -> None:
    meant = TABLES[name(model)]
    expected = {(f"ix_{meant.time}", meant.time, "minmax", 1)}
    expected |= {(f"ix_{id_}", id_, "bloom_filter(0.01)", 4) for id_ in meant.bloom.split()}
    with schema.connect() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT name, expr, type_full, granularity FROM system.data_skipping_indices "
                "WHERE database = :database AND table = :name"
            ),
            {"database": model.__table__.schema, "name": model.__table__.name},
        ).all()
    assert {tuple(row) for row in rows} == expected
    declared = {
        (
            index.name,
            index.columns[0].name,
            index.dialect_options["clickhouse"]["type"],
            index.dialect_options["clickhouse"]["granularity"],
        )
        for index in model.__table__.indexes
    }
    assert declared == expected


@pytest.mark.parametrize("model", SOURCES, ids=name)
def test_every_row_says_when_it_was_frozen_and_in_which_batch(schema: sa.Engine, model: Any) -> None:
    columns = model.__table__.columns
    for time in ("created_at", TABLES[name(model)].time):
        assert render_type(columns[time], schema.dialect) == "DateTime64(3, 'UTC')"
    assert render_type(columns["batch_id"], schema.dialect) == "UUID"
    # The server must never choose: a retry after midnight would land in another partition.
    assert columns["created_at"].server_default is None
    assert columns["batch_id"].server_default is None


@pytest.mark.parametrize("summary", SUMMARIES, ids=lambda summary: str(summary.view.name))
def test_view_reads_its_source_and_writes_its_target(schema: sa.Engine, summary: Any) -> None:
    with schema.connect() as connection:
        created = connection.execute(sa.text(f"SHOW CREATE TABLE {summary.view.fullname}")).scalar_one()
    assert f" TO {name(summary.target)}\n" in created
    assert f"\nFROM {name(summary.source)}\n" in created
    written = re.findall(r" AS (\w+)", created.partition("\nAS SELECT\n")[2])
    assert sorted(written) == sorted(column.name for column in summary.target.__table__.columns)


def test_two_tables_of_one_name_stay_apart(schema: sa.Engine) -> None:
    ours: list[Any] = [analytics.PerformanceMetric, traces.PerformanceMetric]
    assert ours[0].__table__.name == ours[1].__table__.name == "performance_metrics"
    assert ours[0].metadata is not ours[1].metadata
    metadata = sa.MetaData()
    keys = []
    for model in ours:
        table = model.__table__
        found = sa.Table(table.name, metadata, schema=table.schema, autoload_with=schema)
        assert [column.name for column in found.columns] == [column.name for column in table.columns]
        for column in found.columns:
            assert render_type(column, schema.dialect) == render_type(table.columns[column.name], schema.dialect)
        keys.append([column.name for column in found.primary_key])
    assert keys == [["user_id", "timestamp", "metric_type"], ["trace_id", "timestamp", "metric_type"]]
    assert sorted(metadata.tables) == ["netra_analytics.performance_metrics", "netra_traces.performance_metrics"]
