"""Create every table, summary and view of both databases.

Revision ID: 0001
Revises:
Create Date: 2026-11-20
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from netra_chdb import dialect as ch

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade(engine_name: str) -> None:
    globals()[f"upgrade_{engine_name}"]()


def downgrade(engine_name: str) -> None:
    globals()[f"downgrade_{engine_name}"]()


def upgrade_netra_traces() -> None:
    op.create_table(
        "agent_events",
        sa.Column("event_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("trace_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("execution_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("correlation_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("user_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("timestamp", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="Delta(8), ZSTD(1)"),
        sa.Column(
            "event_type",
            ch.Enum8(
                "agent_started",
                "agent_thinking",
                "tool_executing",
                "tool_completed",
                "agent_completed",
                "websocket_sent",
                "websocket_received",
                "error_occurred",
                "custom",
            ),
            nullable=False,
        ),
        sa.Column("event_name", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("event_category", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("event_payload", ch.String(), nullable=False, server_default="{}", clickhouse_codec="ZSTD(3)"),
        sa.Column("tool_name", ch.LowCardinality(ch.String()), nullable=True),
        sa.Column("tool_input", ch.String(), nullable=True, clickhouse_codec="ZSTD(3)"),
        sa.Column("tool_output", ch.String(), nullable=True, clickhouse_codec="ZSTD(3)"),
        sa.Column("duration_ms", ch.Float64(), nullable=True, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("sequence_number", ch.UInt32(), nullable=False, clickhouse_codec="T64, ZSTD(1)"),
        sa.Column("session_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("client_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("metadata", ch.String(), nullable=False, server_default="{}", clickhouse_codec="ZSTD(3)"),
        sa.Column("created_at", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="DoubleDelta, ZSTD(1)"),
        sa.Column("batch_id", ch.UUID(), nullable=False, clickhouse_codec="ZSTD(1)"),
        ch.MergeTree(
            partition_by=sa.text("toYYYYMM(created_at)"),
            order_by=["trace_id", "timestamp", "sequence_number"],
            ttl=sa.text("toDate(created_at) + toIntervalDay(60)"),
            non_replicated_deduplication_window=10000,
        ),
        schema="netra_traces",
    )
    op.create_index(
        "ix_correlation_id",
        "agent_events",
        ["correlation_id"],
        schema="netra_traces",
        clickhouse_type="bloom_filter(0.01)",
        clickhouse_granularity=4,
    )
    op.create_index(
        "ix_execution_id",
        "agent_events",
        ["execution_id"],
        schema="netra_traces",
        clickhouse_type="bloom_filter(0.01)",
        clickhouse_granularity=4,
    )
    op.create_index(
        "ix_session_id",
        "agent_events",
        ["session_id"],
        schema="netra_traces",
        clickhouse_type="bloom_filter(0.01)",
        clickhouse_granularity=4,
    )
    op.create_index(
        "ix_timestamp",
        "agent_events",
        ["timestamp"],
        schema="netra_traces",
        clickhouse_type="minmax",
        clickhouse_granularity=1,
    )
    op.create_index(
        "ix_user_id",
        "agent_events",
        ["user_id"],
        schema="netra_traces",
        clickhouse_type="bloom_filter(0.01)",
        clickhouse_granularity=4,
    )
    op.create_table(
        "agent_executions",
        sa.Column("trace_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("execution_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("correlation_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("user_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("organization_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("agent_type", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("agent_name", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("agent_version", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("parent_agent_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("status", ch.Enum8("pending", "running", "completed", "failed", "cancelled"), nullable=False),
        sa.Column("start_time", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="Delta(8), ZSTD(1)"),
        sa.Column("end_time", ch.DateTime64(3, "UTC"), nullable=True, clickhouse_codec="Delta(8), ZSTD(1)"),
        sa.Column("duration_ms", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("request_payload", ch.String(), nullable=False, server_default="{}", clickhouse_codec="ZSTD(3)"),
        sa.Column("response_payload", ch.String(), nullable=False, server_default="{}", clickhouse_codec="ZSTD(3)"),
        sa.Column("error_message", ch.String(), nullable=True, clickhouse_codec="ZSTD(3)"),
        sa.Column("error_stack", ch.String(), nullable=True, clickhouse_codec="ZSTD(3)"),
        sa.Column("cpu_time_ms", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("memory_mb", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("token_count", ch.UInt64(), nullable=False, clickhouse_codec="T64, ZSTD(1)"),
        sa.Column("tool_calls_count", ch.UInt64(), nullable=False, clickhouse_codec="T64, ZSTD(1)"),
        sa.Column("environment", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("service_version", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("metadata", ch.String(), nullable=False, server_default="{}", clickhouse_codec="ZSTD(3)"),
        sa.Column("tags", ch.Array(ch.LowCardinality(ch.String())), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("created_at", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="DoubleDelta, ZSTD(1)"),
        sa.Column("batch_id", ch.UUID(), nullable=False, clickhouse_codec="ZSTD(1)"),
        ch.MergeTree(
            partition_by=sa.text("toYYYYMM(created_at)"),
            order_by=["trace_id", "start_time"],
            ttl=sa.text("toDate(created_at) + toIntervalDay(90)"),
            non_replicated_deduplication_window=10000,
        ),
        schema="netra_traces",
    )
    op.create_index(
        "ix_correlation_id",
        "agent_executions",
        ["correlation_id"],
        schema="netra_traces",
        clickhouse_type="bloom_filter(0.01)",
        clickhouse_granularity=4,
    )
    op.create_index(
        "ix_execution_id",
        "agent_executions",
        ["execution_id"],
        schema="netra_traces",
        clickhouse_type="bloom_filter(0.01)",
        clickhouse_granularity=4,
    )
    op.create_index(
        "ix_organization_id",
        "agent_executions",
        ["organization_id"],
        schema="netra_traces",
        clickhouse_type="bloom_filter(0.01)",
        clickhouse_granularity=4,
    )
    op.create_index(
        "ix_parent_agent_id",
        "agent_executions",
        ["parent_agent_id"],
        schema="netra_traces",
        clickhouse_type="bloom_filter(0.01)",
        clickhouse_granularity=4,
    )
    op.create_index(
        "ix_start_time",
        "agent_executions",
        ["start_time"],
        schema="netra_traces",
        clickhouse_type="minmax",
        clickhouse_granularity=1,
    )
    op.create_index(
        "ix_user_id",
        "agent_executions",
        ["user_id"],
        schema="netra_traces",
        clickhouse_type="bloom_filter(0.01)",
        clickhouse_granularity=4,
    )
    op.create_table(
        "agent_interactions",
        sa.Column("day", ch.Date(), nullable=False),
        sa.Column("parent_agent_type", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("child_agent_type", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column(
            "relationship_type",
            ch.Enum8("parent_child", "sibling", "dependency", "triggered_by", "related"),
            nullable=False,
        ),
        sa.Column("interaction_count", ch.SimpleAggregateFunction("sum", ch.UInt64()), nullable=False),
        sa.Column("avg_overlap_ms", ch.AggregateFunction("avg", ch.Float64()), nullable=False),
        sa.Column("max_depth_level", ch.SimpleAggregateFunction("max", ch.UInt32()), nullable=False),
        sa.Column("created_on", ch.Date(), nullable=False),
        ch.AggregatingMergeTree(
            order_by=["day", "parent_agent_type", "child_agent_type", "relationship_type", "created_on"],
            ttl=sa.text("created_on + toIntervalDay(60)"),
            non_replicated_deduplication_window=10000,
        ),
        schema="netra_traces",
    )
    op.create_table(
        "error_logs",
        sa.Column("error_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("trace_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("execution_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("user_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("timestamp", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="Delta(8), ZSTD(1)"),
        sa.Column(
            "error_type",
            ch.Enum8(
                "validation",
                "authentication",
                "authorization",
                "network",
                "database",
                "llm",
                "tool",
                "timeout",
                "rate_limit",
                "system",
                "unknown",
            ),
            nullable=False,
        ),
        sa.Column("error_code", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("error_category", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("severity", ch.Enum8("debug", "info", "warning", "error", "critical"), nullable=False),
        sa.Column("error_message", ch.String(), nullable=False, clickhouse_codec="ZSTD(3)"),
        sa.Column("error_stack", ch.String(), nullable=False, clickhouse_codec="ZSTD(3)"),
        sa.Column("error_context", ch.String(), nullable=False, server_default="{}", clickhouse_codec="ZSTD(3)"),
        sa.Column("service_name", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("component_name", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("function_name", ch.String(), nullable=False, clickhouse_codec="ZSTD(3)"),
        sa.Column("file_path", ch.String(), nullable=False, clickhouse_codec="ZSTD(3)"),
        sa.Column("line_number", ch.UInt32(), nullable=False, clickhouse_codec="T64, ZSTD(1)"),
        sa.Column("is_recoverable", ch.Boolean(), nullable=False),
        sa.Column("retry_count", ch.UInt32(), nullable=False, clickhouse_codec="T64, ZSTD(1)"),
        sa.Column("max_retries", ch.UInt32(), nullable=False, clickhouse_codec="T64, ZSTD(1)"),
        sa.Column("recovery_action", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("affected_users", ch.UInt64(), nullable=False, clickhouse_codec="T64, ZSTD(1)"),
        sa.Column(
            "affected_features", ch.Array(ch.LowCardinality(ch.String())), nullable=False, clickhouse_codec="ZSTD(1)"
        ),
        sa.Column("business_impact", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("environment", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("version", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("metadata", ch.String(), nullable=False, server_default="{}", clickhouse_codec="ZSTD(3)"),
        sa.Column("tags", ch.Array(ch.LowCardinality(ch.String())), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("created_at", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="DoubleDelta, ZSTD(1)"),
        sa.Column("batch_id", ch.UUID(), nullable=False, clickhouse_codec="ZSTD(1)"),
        ch.MergeTree(
            partition_by=sa.text("toYYYYMM(created_at)"),
            order_by=["trace_id", "timestamp", "severity"],
            ttl=sa.text("toDate(created_at) + toIntervalDay(90)"),
            non_replicated_deduplication_window=10000,
        ),
        schema="netra_traces",
    )
    op.create_index(
        "ix_execution_id",
        "error_logs",
        ["execution_id"],
        schema="netra_traces",
        clickhouse_type="bloom_filter(0.01)",
        clickhouse_granularity=4,
    )
    op.create_index(
        "ix_timestamp",
        "error_logs",
        ["timestamp"],
        schema="netra_traces",
        clickhouse_type="minmax",
        clickhouse_granularity=1,
    )
    op.create_index(
        "ix_user_id",
        "error_logs",
        ["user_id"],
        schema="netra_traces",
        clickhouse_type="bloom_filter(0.01)",
        clickhouse_granularity=4,
    )
    op.create_table(
        "error_patterns",
        sa.Column("day", ch.Date(), nullable=False),
        sa.Column(
            "error_type",
            ch.Enum8(
                "validation",
                "authentication",
                "authorization",
                "network",
                "database",
                "llm",
                "tool",
                "timeout",
                "rate_limit",
                "system",
                "unknown",
            ),
            nullable=False,
        ),
        sa.Column("error_code", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("error_category", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("severity", ch.Enum8("debug", "info", "warning", "error", "critical"), nullable=False),
        sa.Column("error_count", ch.SimpleAggregateFunction("sum", ch.UInt64()), nullable=False),
        sa.Column("unique_users", ch.AggregateFunction("uniqExact", ch.String()), nullable=False),
        sa.Column("unique_traces", ch.AggregateFunction("uniqExact", ch.String()), nullable=False),
        sa.Column(
            "sample_message",
            ch.AggregateFunction("argMin", ch.String(), ch.Tuple(ch.DateTime64(3, "UTC"), ch.String())),
            nullable=False,
        ),
        sa.Column("created_on", ch.Date(), nullable=False),
        ch.AggregatingMergeTree(
            order_by=["day", "error_type", "error_code", "error_category", "severity", "created_on"],
            ttl=sa.text("created_on + toIntervalDay(90)"),
            non_replicated_deduplication_window=10000,
        ),
        schema="netra_traces",
    )
    op.create_table(
        "performance_metrics",
        sa.Column("trace_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("user_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column(
            "metric_type",
            ch.Enum8("latency", "throughput", "resource", "llm", "database", "network", "custom"),
            nullable=False,
        ),
        sa.Column("metric_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("execution_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("timestamp", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="Delta(8), ZSTD(1)"),
        sa.Column("metric_name", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("metric_category", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("value", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("unit", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("total_time_ms", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("llm_time_ms", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("tool_time_ms", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("database_time_ms", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("network_time_ms", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("processing_time_ms", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("cpu_percent", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("memory_mb", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("disk_io_mb", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("network_io_mb", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("prompt_tokens", ch.UInt64(), nullable=False, clickhouse_codec="T64, ZSTD(1)"),
        sa.Column("completion_tokens", ch.UInt64(), nullable=False, clickhouse_codec="T64, ZSTD(1)"),
        sa.Column("total_tokens", ch.UInt64(), nullable=False, clickhouse_codec="T64, ZSTD(1)"),
        sa.Column("model_name", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("operation_name", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("component_name", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("metadata", ch.String(), nullable=False, server_default="{}", clickhouse_codec="ZSTD(3)"),
        sa.Column("created_at", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="DoubleDelta, ZSTD(1)"),
        sa.Column("batch_id", ch.UUID(), nullable=False, clickhouse_codec="ZSTD(1)"),
        ch.MergeTree(
            partition_by=sa.text("toMonday(created_at)"),
            order_by=["trace_id", "timestamp", "metric_type"],
            ttl=sa.text("toDate(created_at) + toIntervalDay(30)"),
            non_replicated_deduplication_window=10000,
        ),
        schema="netra_traces",
    )
    op.create_index(
        "ix_execution_id",
        "performance_metrics",
        ["execution_id"],
        schema="netra_traces",
        clickhouse_type="bloom_filter(0.01)",
        clickhouse_granularity=4,
    )
    op.create_index(
        "ix_timestamp",
        "performance_metrics",
        ["timestamp"],
        schema="netra_traces",
        clickhouse_type="minmax",
        clickhouse_granularity=1,
    )
    op.create_index(
        "ix_user_id",
        "performance_metrics",
        ["user_id"],
        schema="netra_traces",
        clickhouse_type="bloom_filter(0.01)",
        clickhouse_granularity=4,
    )
    op.create_table(
        "performance_trends",
        sa.Column("day", ch.Date(), nullable=False),
        sa.Column("hour", ch.UInt8(), nullable=False),
        sa.Column(
            "metric_type",
            ch.Enum8("latency", "throughput", "resource", "llm", "database", "network", "custom"),
            nullable=False,
        ),
        sa.Column("component_name", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("metric_count", ch.SimpleAggregateFunction("sum", ch.UInt64()), nullable=False),
        sa.Column("avg_value", ch.AggregateFunction("avg", ch.Float64()), nullable=False),
        sa.Column(
            "value_percentiles", ch.AggregateFunction("quantilesExact(0.5, 0.95, 0.99)", ch.Float64()), nullable=False
        ),
        sa.Column("max_value", ch.SimpleAggregateFunction("max", ch.Float64()), nullable=False),
        sa.Column("created_on", ch.Date(), nullable=False),
        ch.AggregatingMergeTree(
            order_by=["day", "hour", "metric_type", "component_name", "created_on"],
            ttl=sa.text("created_on + toIntervalDay(30)"),
            non_replicated_deduplication_window=10000,
        ),
        schema="netra_traces",
    )
    op.create_table(
        "trace_correlations",
        sa.Column("correlation_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("parent_trace_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("child_trace_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("timestamp", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="Delta(8), ZSTD(1)"),
        sa.Column(
            "relationship_type",
            ch.Enum8("parent_child", "sibling", "dependency", "triggered_by", "related"),
            nullable=False,
        ),
        sa.Column("relationship_name", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("parent_agent_type", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("child_agent_type", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("depth_level", ch.UInt32(), nullable=False, clickhouse_codec="T64, ZSTD(1)"),
        sa.Column("parent_start_time", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="Delta(8), ZSTD(1)"),
        sa.Column("child_start_time", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="Delta(8), ZSTD(1)"),
        sa.Column("overlap_duration_ms", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("context", ch.String(), nullable=False, server_default="{}", clickhouse_codec="ZSTD(3)"),
        sa.Column("tags", ch.Array(ch.LowCardinality(ch.String())), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("created_at", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="DoubleDelta, ZSTD(1)"),
        sa.Column("batch_id", ch.UUID(), nullable=False, clickhouse_codec="ZSTD(1)"),
        ch.MergeTree(
            partition_by=sa.text("toYYYYMM(created_at)"),
            order_by=["parent_trace_id", "child_trace_id"],
            ttl=sa.text("toDate(created_at) + toIntervalDay(60)"),
            non_replicated_deduplication_window=10000,
        ),
        schema="netra_traces",
    )
    op.create_index(
        "ix_child_trace_id",
        "trace_correlations",
        ["child_trace_id"],
        schema="netra_traces",
        clickhouse_type="bloom_filter(0.01)",
        clickhouse_granularity=4,
    )
    op.create_index(
        "ix_correlation_id",
        "trace_correlations",
        ["correlation_id"],
        schema="netra_traces",
        clickhouse_type="bloom_filter(0.01)",
        clickhouse_granularity=4,
    )
    op.create_index(
        "ix_timestamp",
        "trace_correlations",
        ["timestamp"],
        schema="netra_traces",
        clickhouse_type="minmax",
        clickhouse_granularity=1,
    )
    op.create_table(
        "user_execution_summary",
        sa.Column("user_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("day", ch.Date(), nullable=False),
        sa.Column("agent_type", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("execution_count", ch.SimpleAggregateFunction("sum", ch.UInt64()), nullable=False),
        sa.Column("avg_duration_ms", ch.AggregateFunction("avg", ch.Float64()), nullable=False),
        sa.Column("max_duration_ms", ch.SimpleAggregateFunction("max", ch.Float64()), nullable=False),
        sa.Column("min_duration_ms", ch.SimpleAggregateFunction("min", ch.Float64()), nullable=False),
        sa.Column("total_tokens", ch.SimpleAggregateFunction("sum", ch.UInt64()), nullable=False),
        sa.Column("total_tool_calls", ch.SimpleAggregateFunction("sum", ch.UInt64()), nullable=False),
        sa.Column("completed_count", ch.SimpleAggregateFunction("sum", ch.UInt64()), nullable=False),
        sa.Column("failed_count", ch.SimpleAggregateFunction("sum", ch.UInt64()), nullable=False),
        sa.Column("created_on", ch.Date(), nullable=False),
        ch.AggregatingMergeTree(
            order_by=["user_id", "day", "agent_type", "created_on"],
            ttl=sa.text("created_on + toIntervalDay(90)"),
            non_replicated_deduplication_window=10000,
        ),
        schema="netra_traces",
    )
    op.create_materialized_view(
        "mv_user_execution_summary",
        to="user_execution_summary",
        schema="netra_traces",
        select="""
        SELECT netra_traces.agent_executions.user_id AS user_id, toDate(netra_traces.agent_executions.start_time) AS day, netra_traces.agent_executions.agent_type AS agent_type, toDate(netra_traces.agent_executions.created_at) AS created_on, count(*) AS execution_count, avgState(netra_traces.agent_executions.duration_ms) AS avg_duration_ms, max(netra_traces.agent_executions.duration_ms) AS max_duration_ms, min(netra_traces.agent_executions.duration_ms) AS min_duration_ms, sum(netra_traces.agent_executions.token_count) AS total_tokens, sum(netra_traces.agent_executions.tool_calls_count) AS total_tool_calls, countIf(netra_traces.agent_executions.status = 'completed') AS completed_count, countIf(netra_traces.agent_executions.status = 'failed') AS failed_count
        FROM netra_traces.agent_executions GROUP BY netra_traces.agent_executions.user_id, toDate(netra_traces.agent_executions.start_time), netra_traces.agent_executions.agent_type, toDate(netra_traces.agent_executions.created_at)
    """,
    )
    op.create_materialized_view(
        "mv_error_patterns",
        to="error_patterns",
        schema="netra_traces",
        select="""
        SELECT toDate(netra_traces.error_logs.timestamp) AS day, netra_traces.error_logs.error_type AS error_type, netra_traces.error_logs.error_code AS error_code, netra_traces.error_logs.error_category AS error_category, netra_traces.error_logs.severity AS severity, toDate(netra_traces.error_logs.created_at) AS created_on, count(*) AS error_count, uniqExactState(netra_traces.error_logs.user_id) AS unique_users, uniqExactState(netra_traces.error_logs.trace_id) AS unique_traces, argMinState(netra_traces.error_logs.error_message, tuple(netra_traces.error_logs.timestamp, netra_traces.error_logs.error_id)) AS sample_message
        FROM netra_traces.error_logs GROUP BY toDate(netra_traces.error_logs.timestamp), netra_traces.error_logs.error_type, netra_traces.error_logs.error_code, netra_traces.error_logs.error_category, netra_traces.error_logs.severity, toDate(netra_traces.error_logs.created_at)
    """,
    )
    op.create_materialized_view(
        "mv_performance_trends",
        to="performance_trends",
        schema="netra_traces",
        select="""
        SELECT toDate(netra_traces.performance_metrics.timestamp) AS day, toHour(netra_traces.performance_metrics.timestamp) AS hour, netra_traces.performance_metrics.metric_type AS metric_type, netra_traces.performance_metrics.component_name AS component_name, toDate(netra_traces.performance_metrics.created_at) AS created_on, count(*) AS metric_count, avgState(netra_traces.performance_metrics.value) AS avg_value, quantilesExactState(0.5, 0.95, 0.99)(netra_traces.performance_metrics.value) AS value_percentiles, max(netra_traces.performance_metrics.value) AS max_value
        FROM netra_traces.performance_metrics GROUP BY toDate(netra_traces.performance_metrics.timestamp), toHour(netra_traces.performance_metrics.timestamp), netra_traces.performance_metrics.metric_type, netra_traces.performance_metrics.component_name, toDate(netra_traces.performance_metrics.created_at)
    """,
    )
    op.create_materialized_view(
        "mv_agent_interactions",
        to="agent_interactions",
        schema="netra_traces",
        select="""
        SELECT toDate(netra_traces.trace_correlations.timestamp) AS day, netra_traces.trace_correlations.parent_agent_type AS parent_agent_type, netra_traces.trace_correlations.child_agent_type AS child_agent_type, netra_traces.trace_correlations.relationship_type AS relationship_type, toDate(netra_traces.trace_correlations.created_at) AS created_on, count(*) AS interaction_count, avgState(netra_traces.trace_correlations.overlap_duration_ms) AS avg_overlap_ms, max(netra_traces.trace_correlations.depth_level) AS max_depth_level
        FROM netra_traces.trace_correlations GROUP BY toDate(netra_traces.trace_correlations.timestamp), netra_traces.trace_correlations.parent_agent_type, netra_traces.trace_correlations.child_agent_type, netra_traces.trace_correlations.relationship_type, toDate(netra_traces.trace_correlations.created_at)
    """,
    )


def downgrade_netra_traces() -> None:
    op.drop_materialized_view("mv_agent_interactions", schema="netra_traces")
    op.drop_materialized_view("mv_performance_trends", schema="netra_traces")
    op.drop_materialized_view("mv_error_patterns", schema="netra_traces")
    op.drop_materialized_view("mv_user_execution_summary", schema="netra_traces")
    op.drop_table("user_execution_summary", schema="netra_traces")
    op.drop_table("trace_correlations", schema="netra_traces")
    op.drop_table("performance_trends", schema="netra_traces")
    op.drop_table("performance_metrics", schema="netra_traces")
    op.drop_table("error_patterns", schema="netra_traces")
    op.drop_table("error_logs", schema="netra_traces")
    op.drop_table("agent_interactions", schema="netra_traces")
    op.drop_table("agent_executions", schema="netra_traces")
    op.drop_table("agent_events", schema="netra_traces")


def upgrade_netra_analytics() -> None:
    op.create_table(
        "error_analytics",
        sa.Column("error_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("user_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("trace_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("timestamp", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="Delta(8), ZSTD(1)"),
        sa.Column("error_type", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("error_code", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("error_message", ch.String(), nullable=False, clickhouse_codec="ZSTD(3)"),
        sa.Column(
            "severity",
            ch.Enum8("debug", "info", "warning", "error", "critical"),
            nullable=False,
            server_default="error",
        ),
        sa.Column("service_name", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("component_name", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("function_name", ch.String(), nullable=False, clickhouse_codec="ZSTD(3)"),
        sa.Column("metadata", ch.String(), nullable=False, server_default="{}", clickhouse_codec="ZSTD(3)"),
        sa.Column("created_at", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="DoubleDelta, ZSTD(1)"),
        sa.Column("batch_id", ch.UUID(), nullable=False, clickhouse_codec="ZSTD(1)"),
        ch.MergeTree(
            partition_by=sa.text("toMonday(created_at)"),
            order_by=["user_id", "timestamp", "error_type"],
            ttl=sa.text("toDate(created_at) + toIntervalDay(30)"),
            non_replicated_deduplication_window=10000,
        ),
        schema="netra_analytics",
    )
    op.create_index(
        "ix_timestamp",
        "error_analytics",
        ["timestamp"],
        schema="netra_analytics",
        clickhouse_type="minmax",
        clickhouse_granularity=1,
    )
    op.create_index(
        "ix_trace_id",
        "error_analytics",
        ["trace_id"],
        schema="netra_analytics",
        clickhouse_type="bloom_filter(0.01)",
        clickhouse_granularity=4,
    )
    op.create_table(
        "events",
        sa.Column("event_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("user_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("session_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("timestamp", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="Delta(8), ZSTD(1)"),
        sa.Column("event_type", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("event_name", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("event_category", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("data", ch.String(), nullable=False, server_default="{}", clickhouse_codec="ZSTD(3)"),
        sa.Column("created_at", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="DoubleDelta, ZSTD(1)"),
        sa.Column("batch_id", ch.UUID(), nullable=False, clickhouse_codec="ZSTD(1)"),
        ch.MergeTree(
            partition_by=sa.text("toYYYYMM(created_at)"),
            order_by=["user_id", "timestamp", "event_type"],
            ttl=sa.text("toDate(created_at) + toIntervalDay(90)"),
            non_replicated_deduplication_window=10000,
        ),
        schema="netra_analytics",
    )
    op.create_index(
        "ix_session_id",
        "events",
        ["session_id"],
        schema="netra_analytics",
        clickhouse_type="bloom_filter(0.01)",
        clickhouse_granularity=4,
    )
    op.create_index(
        "ix_timestamp",
        "events",
        ["timestamp"],
        schema="netra_analytics",
        clickhouse_type="minmax",
        clickhouse_granularity=1,
    )
    op.create_table(
        "performance_metrics",
        sa.Column("user_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("trace_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("metric_type", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("metric_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("execution_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("timestamp", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="Delta(8), ZSTD(1)"),
        sa.Column("metric_name", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("metric_category", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("value", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("unit", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("total_time_ms", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("llm_time_ms", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("tool_time_ms", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("database_time_ms", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("network_time_ms", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("processing_time_ms", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("cpu_percent", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("memory_mb", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("disk_io_mb", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("network_io_mb", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("prompt_tokens", ch.UInt64(), nullable=False, clickhouse_codec="T64, ZSTD(1)"),
        sa.Column("completion_tokens", ch.UInt64(), nullable=False, clickhouse_codec="T64, ZSTD(1)"),
        sa.Column("total_tokens", ch.UInt64(), nullable=False, clickhouse_codec="T64, ZSTD(1)"),
        sa.Column("model_name", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("operation_name", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("component_name", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("metadata", ch.String(), nullable=False, server_default="{}", clickhouse_codec="ZSTD(3)"),
        sa.Column("created_at", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="DoubleDelta, ZSTD(1)"),
        sa.Column("batch_id", ch.UUID(), nullable=False, clickhouse_codec="ZSTD(1)"),
        ch.MergeTree(
            partition_by=sa.text("toMonday(created_at)"),
            order_by=["user_id", "timestamp", "metric_type"],
            ttl=sa.text("toDate(created_at) + toIntervalDay(30)"),
            non_replicated_deduplication_window=10000,
        ),
        schema="netra_analytics",
    )
    op.create_index(
        "ix_execution_id",
        "performance_metrics",
        ["execution_id"],
        schema="netra_analytics",
        clickhouse_type="bloom_filter(0.01)",
        clickhouse_granularity=4,
    )
    op.create_index(
        "ix_timestamp",
        "performance_metrics",
        ["timestamp"],
        schema="netra_analytics",
        clickhouse_type="minmax",
        clickhouse_granularity=1,
    )
    op.create_index(
        "ix_trace_id",
        "performance_metrics",
        ["trace_id"],
        schema="netra_analytics",
        clickhouse_type="bloom_filter(0.01)",
        clickhouse_granularity=4,
    )
    op.create_table(
        "system_health_metrics",
        sa.Column("metric_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("service_name", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("instance_id", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("timestamp", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="Delta(8), ZSTD(1)"),
        sa.Column("status", ch.Enum8("healthy", "degraded", "unhealthy"), nullable=False),
        sa.Column("health_score", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("cpu_usage", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("memory_usage", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("disk_usage", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("network_latency", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("request_rate", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("error_rate", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("success_rate", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("avg_response_time", ch.Float64(), nullable=False, clickhouse_codec="Gorilla(8), ZSTD(1)"),
        sa.Column("metadata", ch.String(), nullable=False, server_default="{}", clickhouse_codec="ZSTD(3)"),
        sa.Column("created_at", ch.DateTime64(3, "UTC"), nullable=False, clickhouse_codec="DoubleDelta, ZSTD(1)"),
        sa.Column("batch_id", ch.UUID(), nullable=False, clickhouse_codec="ZSTD(1)"),
        ch.MergeTree(
            partition_by=sa.text("toYYYYMMDD(created_at)"),
            order_by=["service_name", "timestamp"],
            ttl=sa.text("toDate(created_at) + toIntervalDay(7)"),
            non_replicated_deduplication_window=10000,
        ),
        schema="netra_analytics",
    )
    op.create_index(
        "ix_timestamp",
        "system_health_metrics",
        ["timestamp"],
        schema="netra_analytics",
        clickhouse_type="minmax",
        clickhouse_granularity=1,
    )
    op.create_table(
        "user_metrics_summary",
        sa.Column("user_id", ch.String(), nullable=False, clickhouse_codec="ZSTD(1)"),
        sa.Column("day", ch.Date(), nullable=False),
        sa.Column("metric_type", ch.LowCardinality(ch.String()), nullable=False),
        sa.Column("metric_count", ch.SimpleAggregateFunction("sum", ch.UInt64()), nullable=False),
        sa.Column("avg_value", ch.AggregateFunction("avg", ch.Float64()), nullable=False),
        sa.Column("max_value", ch.SimpleAggregateFunction("max", ch.Float64()), nullable=False),
        sa.Column("min_value", ch.SimpleAggregateFunction("min", ch.Float64()), nullable=False),
        sa.Column("total_tokens", ch.SimpleAggregateFunction("sum", ch.UInt64()), nullable=False),
        sa.Column("created_on", ch.Date(), nullable=False),
        ch.AggregatingMergeTree(
            order_by=["user_id", "day", "metric_type", "created_on"],
            ttl=sa.text("created_on + toIntervalDay(30)"),
            non_replicated_deduplication_window=10000,
        ),
        schema="netra_analytics",
    )
    op.create_materialized_view(
        "mv_user_metrics_summary",
        to="user_metrics_summary",
        schema="netra_analytics",
        select="""
        SELECT netra_analytics.performance_metrics.user_id AS user_id, toDate(netra_analytics.performance_metrics.timestamp) AS day, netra_analytics.performance_metrics.metric_type AS metric_type, toDate(netra_analytics.performance_metrics.created_at) AS created_on, count(*) AS metric_count, avgState(netra_analytics.performance_metrics.value) AS avg_value, max(netra_analytics.performance_metrics.value) AS max_value, min(netra_analytics.performance_metrics.value) AS min_value, sum(netra_analytics.performance_metrics.total_tokens) AS total_tokens
        FROM netra_analytics.performance_metrics GROUP BY netra_analytics.performance_metrics.user_id, toDate(netra_analytics.performance_metrics.timestamp), netra_analytics.performance_metrics.metric_type, toDate(netra_analytics.performance_metrics.created_at)
    """,
    )


def downgrade_netra_analytics() -> None:
    op.drop_materialized_view("mv_user_metrics_summary", schema="netra_analytics")
    op.drop_table("user_metrics_summary", schema="netra_analytics")
    op.drop_table("system_health_metrics", schema="netra_analytics")
    op.drop_table("performance_metrics", schema="netra_analytics")
    op.drop_table("events", schema="netra_analytics")
    op.drop_table("error_analytics", schema="netra_analytics")
