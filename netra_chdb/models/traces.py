"""``netra_traces``: the telemetry of agent runs."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import sqlalchemy as sa
from sqlalchemy import func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from netra_chdb.dialect import Date, DateTime64, Float64, String, Tuple, UInt8
from netra_chdb.models.base import (
    Amount,
    Count,
    Day,
    Deepest,
    Flag,
    Greatest,
    Hour,
    Id,
    JSONDict,
    Key,
    KeyId,
    Least,
    LowCardinalityStr,
    Message,
    Milliseconds,
    Model,
    Name,
    Number,
    OptionalJSON,
    OptionalLowCardinalityStr,
    OptionalMilliseconds,
    OptionalStr,
    OptionalTimestamp,
    OtherId,
    OwnId,
    PerformanceMetricColumns,
    Position,
    Row,
    Str,
    SummaryRow,
    Tags,
    Timestamp,
    Total,
    aggregating_merge_tree,
    merge_tree,
    one_of,
    pruned_by,
    state,
)
from netra_chdb.models.summary import Summary, average, count, distinct, earliest, greatest, least, percentiles, total
from netra_chdb.models.vocabulary import ErrorType, EventType, ExecutionStatus, MetricType, RelationshipType, Severity

__all__ = [
    "SCHEMA",
    "SUMMARIES",
    "AgentEvent",
    "AgentExecution",
    "AgentInteraction",
    "Base",
    "ErrorLog",
    "ErrorPattern",
    "PerformanceMetric",
    "PerformanceTrend",
    "TraceCorrelation",
    "UserExecutionSummary",
]

SCHEMA: Final = "netra_traces"


class Base(Model, DeclarativeBase):
    """The models of ``netra_traces``."""

    metadata = sa.MetaData(schema=SCHEMA)


class AgentExecution(Row, Base):
    """One report on one execution of an agent. Required: trace, execution, user, agent, status, start.

    Rows are never changed: an execution reported as running and again as completed has two rows, and the summary
    counts both. Report each one once, when it has ended, where executions are to be counted.
    """

    __tablename__ = "agent_executions"
    kept_days: ClassVar[int] = 90
    __table_args__ = (
        merge_tree("trace_id", "start_time", days=kept_days),
        *pruned_by("start_time", "execution_id", "correlation_id", "user_id", "organization_id", "parent_agent_id"),
    )

    trace_id: Mapped[KeyId]
    execution_id: Mapped[KeyId]
    correlation_id: Mapped[OtherId]
    user_id: Mapped[KeyId]
    organization_id: Mapped[OtherId]
    agent_type: Mapped[Name]
    agent_name: Mapped[Name]
    agent_version: Mapped[LowCardinalityStr]
    parent_agent_id: Mapped[OtherId]
    status: Mapped[ExecutionStatus] = one_of(ExecutionStatus, primary_key=True)
    start_time: Mapped[Timestamp]
    end_time: Mapped[OptionalTimestamp]
    duration_ms: Mapped[Milliseconds]
    request_payload: Mapped[JSONDict]
    response_payload: Mapped[JSONDict]
    error_message: Mapped[OptionalStr]
    error_stack: Mapped[OptionalStr]
    cpu_time_ms: Mapped[Milliseconds]
    memory_mb: Mapped[Amount]
    token_count: Mapped[Count]
    tool_calls_count: Mapped[Count]
    environment: Mapped[LowCardinalityStr]
    service_version: Mapped[LowCardinalityStr]
    metadata_: Mapped[JSONDict] = mapped_column("metadata")
    tags: Mapped[Tags]


class AgentEvent(Row, Base):
    """One step of an execution. Required: trace, execution, user, type, name, time, place in the sequence."""

    __tablename__ = "agent_events"
    kept_days: ClassVar[int] = 60
    __table_args__ = (
        merge_tree("trace_id", "timestamp", "sequence_number", days=kept_days),
        *pruned_by("timestamp", "execution_id", "correlation_id", "user_id", "session_id"),
    )

    event_id: Mapped[OwnId]
    trace_id: Mapped[KeyId]
    execution_id: Mapped[Id]
    correlation_id: Mapped[OtherId]
    user_id: Mapped[KeyId]
    timestamp: Mapped[Timestamp]
    event_type: Mapped[EventType] = one_of(EventType)
    event_name: Mapped[Name]
    event_category: Mapped[LowCardinalityStr]
    event_payload: Mapped[JSONDict]
    tool_name: Mapped[OptionalLowCardinalityStr]
    tool_input: Mapped[OptionalJSON]
    tool_output: Mapped[OptionalJSON]
    duration_ms: Mapped[OptionalMilliseconds]
    sequence_number: Mapped[Position]
    session_id: Mapped[OtherId]
    client_id: Mapped[OtherId]
    metadata_: Mapped[JSONDict] = mapped_column("metadata")


class PerformanceMetric(PerformanceMetricColumns, Base):
    """One measurement in one trace. Required: trace, user, time, type, name, value."""

    __tablename__ = "performance_metrics"
    kept_days: ClassVar[int] = 30
    __table_args__ = (
        merge_tree("trace_id", "timestamp", "metric_type", days=kept_days),
        *pruned_by("timestamp", "execution_id", "user_id"),
    )

    trace_id: Mapped[KeyId]
    user_id: Mapped[KeyId]
    metric_type: Mapped[MetricType] = one_of(MetricType)


class TraceCorrelation(Row, Base):
    """How two traces belong together. Required: both traces, relationship, when it was seen and both starts.

    It names no user.
    """

    __tablename__ = "trace_correlations"
    kept_days: ClassVar[int] = 60
    __table_args__ = (
        merge_tree("parent_trace_id", "child_trace_id", days=kept_days),
        *pruned_by("timestamp", "correlation_id", "child_trace_id"),
    )

    correlation_id: Mapped[OwnId]
    parent_trace_id: Mapped[KeyId]
    child_trace_id: Mapped[KeyId]
    timestamp: Mapped[Timestamp]
    relationship_type: Mapped[RelationshipType] = one_of(RelationshipType)
    relationship_name: Mapped[LowCardinalityStr]
    parent_agent_type: Mapped[LowCardinalityStr]
    child_agent_type: Mapped[LowCardinalityStr]
    depth_level: Mapped[Number]
    parent_start_time: Mapped[Timestamp]
    child_start_time: Mapped[Timestamp]
    overlap_duration_ms: Mapped[Milliseconds]
    context: Mapped[JSONDict]
    tags: Mapped[Tags]


class ErrorLog(Row, Base):
    """An error in a trace. Required: trace, user, time, type, severity, message."""

    __tablename__ = "error_logs"
    kept_days: ClassVar[int] = 90
    __table_args__ = (
        merge_tree("trace_id", "timestamp", "severity", days=kept_days),
        *pruned_by("timestamp", "execution_id", "user_id"),
    )

    error_id: Mapped[OwnId]
    trace_id: Mapped[KeyId]
    execution_id: Mapped[OtherId]
    user_id: Mapped[KeyId]
    timestamp: Mapped[Timestamp]
    error_type: Mapped[ErrorType] = one_of(ErrorType)
    error_code: Mapped[LowCardinalityStr]
    error_category: Mapped[LowCardinalityStr]
    severity: Mapped[Severity] = one_of(Severity)
    error_message: Mapped[Message]
    error_stack: Mapped[Str]
    error_context: Mapped[JSONDict]
    service_name: Mapped[LowCardinalityStr]
    component_name: Mapped[LowCardinalityStr]
    function_name: Mapped[Str]
    file_path: Mapped[Str]
    line_number: Mapped[Number]
    is_recoverable: Mapped[Flag]
    retry_count: Mapped[Number]
    max_retries: Mapped[Number]
    recovery_action: Mapped[LowCardinalityStr]
    affected_users: Mapped[Count]
    affected_features: Mapped[Tags]
    business_impact: Mapped[LowCardinalityStr]
    environment: Mapped[LowCardinalityStr]
    version: Mapped[LowCardinalityStr]
    metadata_: Mapped[JSONDict] = mapped_column("metadata")
    tags: Mapped[Tags]


class UserExecutionSummary(SummaryRow, Base):
    """``agent_executions`` by user, day of their start and type of agent."""

    __tablename__ = "user_execution_summary"
    kept_days: ClassVar[int] = AgentExecution.kept_days
    __table_args__ = (aggregating_merge_tree("user_id", "day", "agent_type", days=kept_days),)

    user_id: Mapped[KeyId]
    day: Mapped[Day]
    agent_type: Mapped[Key]
    execution_count: Mapped[Total]
    avg_duration_ms: Mapped[bytes] = state("avg", Float64)
    max_duration_ms: Mapped[Greatest]
    min_duration_ms: Mapped[Least]
    total_tokens: Mapped[Total]
    total_tool_calls: Mapped[Total]
    completed_count: Mapped[Total]
    failed_count: Mapped[Total]


class ErrorPattern(SummaryRow, Base):
    """``error_logs`` by day, type, code, category and severity; the sample is the earliest error's message."""

    __tablename__ = "error_patterns"
    kept_days: ClassVar[int] = ErrorLog.kept_days
    __table_args__ = (
        aggregating_merge_tree("day", "error_type", "error_code", "error_category", "severity", days=kept_days),
    )

    day: Mapped[Day]
    error_type: Mapped[ErrorType] = one_of(ErrorType, primary_key=True)
    error_code: Mapped[Key]
    error_category: Mapped[Key]
    severity: Mapped[Severity] = one_of(Severity, primary_key=True)
    error_count: Mapped[Total]
    unique_users: Mapped[bytes] = state("uniqExact", String)
    unique_traces: Mapped[bytes] = state("uniqExact", String)
    sample_message: Mapped[bytes] = state("argMin", String, Tuple(DateTime64(3, "UTC"), String))


class PerformanceTrend(SummaryRow, Base):
    """``performance_metrics`` by day, hour, type and component."""

    __tablename__ = "performance_trends"
    kept_days: ClassVar[int] = PerformanceMetric.kept_days
    __table_args__ = (aggregating_merge_tree("day", "hour", "metric_type", "component_name", days=kept_days),)

    day: Mapped[Day]
    hour: Mapped[Hour]
    metric_type: Mapped[MetricType] = one_of(MetricType, primary_key=True)
    component_name: Mapped[Key]
    metric_count: Mapped[Total]
    avg_value: Mapped[bytes] = state("avg", Float64)
    value_percentiles: Mapped[bytes] = state("quantilesExact(0.5, 0.95, 0.99)", Float64)
    max_value: Mapped[Greatest]


class AgentInteraction(SummaryRow, Base):
    """``trace_correlations`` by day, types of the two agents and relationship."""

    __tablename__ = "agent_interactions"
    kept_days: ClassVar[int] = TraceCorrelation.kept_days
    __table_args__ = (
        aggregating_merge_tree("day", "parent_agent_type", "child_agent_type", "relationship_type", days=kept_days),
    )

    day: Mapped[Day]
    parent_agent_type: Mapped[Key]
    child_agent_type: Mapped[Key]
    relationship_type: Mapped[RelationshipType] = one_of(RelationshipType, primary_key=True)
    interaction_count: Mapped[Total]
    avg_overlap_ms: Mapped[bytes] = state("avg", Float64)
    max_depth_level: Mapped[Deepest]


def _day(time: Any) -> Any:
    return func.toDate(time, type_=Date)


#: The summaries of this database.
SUMMARIES: Final = (
    Summary.declare(
        "mv_user_execution_summary",
        AgentExecution,
        UserExecutionSummary,
        keys={
            "user_id": AgentExecution.user_id,
            "day": _day(AgentExecution.start_time),
            "agent_type": AgentExecution.agent_type,
        },
        measures=[
            count(UserExecutionSummary.execution_count),
            average(UserExecutionSummary.avg_duration_ms, AgentExecution.duration_ms),
            greatest(UserExecutionSummary.max_duration_ms, AgentExecution.duration_ms),
            least(UserExecutionSummary.min_duration_ms, AgentExecution.duration_ms),
            total(UserExecutionSummary.total_tokens, AgentExecution.token_count),
            total(UserExecutionSummary.total_tool_calls, AgentExecution.tool_calls_count),
            count(UserExecutionSummary.completed_count, where=AgentExecution.status == "completed"),
            count(UserExecutionSummary.failed_count, where=AgentExecution.status == "failed"),
        ],
    ),
    Summary.declare(
        "mv_error_patterns",
        ErrorLog,
        ErrorPattern,
        keys={
            "day": _day(ErrorLog.timestamp),
            "error_type": ErrorLog.error_type,
            "error_code": ErrorLog.error_code,
            "error_category": ErrorLog.error_category,
            "severity": ErrorLog.severity,
        },
        measures=[
            count(ErrorPattern.error_count),
            distinct(ErrorPattern.unique_users, ErrorLog.user_id),
            distinct(ErrorPattern.unique_traces, ErrorLog.trace_id),
            earliest(ErrorPattern.sample_message, ErrorLog.error_message, ErrorLog.timestamp, ErrorLog.error_id),
        ],
    ),
    Summary.declare(
        "mv_performance_trends",
        PerformanceMetric,
        PerformanceTrend,
        keys={
            "day": _day(PerformanceMetric.timestamp),
            "hour": func.toHour(PerformanceMetric.timestamp, type_=UInt8),
            "metric_type": PerformanceMetric.metric_type,
            "component_name": PerformanceMetric.component_name,
        },
        measures=[
            count(PerformanceTrend.metric_count),
            average(PerformanceTrend.avg_value, PerformanceMetric.value),
            percentiles(PerformanceTrend.value_percentiles, PerformanceMetric.value, p50=0.5, p95=0.95, p99=0.99),
            greatest(PerformanceTrend.max_value, PerformanceMetric.value),
        ],
    ),
    Summary.declare(
        "mv_agent_interactions",
        TraceCorrelation,
        AgentInteraction,
        keys={
            "day": _day(TraceCorrelation.timestamp),
            "parent_agent_type": TraceCorrelation.parent_agent_type,
            "child_agent_type": TraceCorrelation.child_agent_type,
            "relationship_type": TraceCorrelation.relationship_type,
        },
        measures=[
            count(AgentInteraction.interaction_count),
            average(AgentInteraction.avg_overlap_ms, TraceCorrelation.overlap_duration_ms),
            greatest(AgentInteraction.max_depth_level, TraceCorrelation.depth_level),
        ],
    ),
)
