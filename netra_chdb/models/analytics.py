"""``netra_analytics``: business metrics and events."""

from __future__ import annotations

from typing import ClassVar, Final

import sqlalchemy as sa
from sqlalchemy import func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from netra_chdb.dialect import Date, Float64
from netra_chdb.models.base import (
    Amount,
    Day,
    Greatest,
    JSONDict,
    Key,
    KeyId,
    Least,
    LowCardinalityStr,
    Message,
    Milliseconds,
    Model,
    Name,
    OtherId,
    OwnId,
    PerformanceMetricColumns,
    Row,
    Str,
    SummaryRow,
    Timestamp,
    Total,
    aggregating_merge_tree,
    merge_tree,
    one_of,
    pruned_by,
    state,
)
from netra_chdb.models.summary import Summary, average, count, greatest, least, total
from netra_chdb.models.vocabulary import HealthStatus, Severity

__all__ = [
    "SCHEMA",
    "SUMMARIES",
    "Base",
    "ErrorAnalytics",
    "Event",
    "PerformanceMetric",
    "SystemHealthMetric",
    "UserMetricsSummary",
]

SCHEMA: Final = "netra_analytics"


class Base(Model, DeclarativeBase):
    """The models of ``netra_analytics``."""

    metadata = sa.MetaData(schema=SCHEMA)


class PerformanceMetric(PerformanceMetricColumns, Base):
    """One measurement for one user. Required: user, time, type, name, value."""

    __tablename__ = "performance_metrics"
    kept_days: ClassVar[int] = 30
    __table_args__ = (
        merge_tree("user_id", "timestamp", "metric_type", days=kept_days),
        *pruned_by("timestamp", "trace_id", "execution_id"),
    )

    user_id: Mapped[KeyId]
    trace_id: Mapped[OtherId]
    metric_type: Mapped[Name]


class Event(Row, Base):
    """Something a user did, or that happened to one. Required: user, time, type, name."""

    __tablename__ = "events"
    kept_days: ClassVar[int] = 90
    __table_args__ = (
        merge_tree("user_id", "timestamp", "event_type", days=kept_days),
        *pruned_by("timestamp", "session_id"),
    )

    event_id: Mapped[OwnId]
    user_id: Mapped[KeyId]
    session_id: Mapped[OtherId]
    timestamp: Mapped[Timestamp]
    event_type: Mapped[Name]
    event_name: Mapped[Name]
    event_category: Mapped[LowCardinalityStr]
    data: Mapped[JSONDict]


class SystemHealthMetric(Row, Base):
    """How one instance of a service was doing. Required: service, time, status. It belongs to no user."""

    __tablename__ = "system_health_metrics"
    kept_days: ClassVar[int] = 7
    __table_args__ = (merge_tree("service_name", "timestamp", days=kept_days), *pruned_by("timestamp"))

    metric_id: Mapped[OwnId]
    service_name: Mapped[Name] = mapped_column(primary_key=True)
    instance_id: Mapped[LowCardinalityStr]
    timestamp: Mapped[Timestamp]
    status: Mapped[HealthStatus] = one_of(HealthStatus)
    health_score: Mapped[Amount]
    cpu_usage: Mapped[Amount]
    memory_usage: Mapped[Amount]
    disk_usage: Mapped[Amount]
    network_latency: Mapped[Milliseconds]
    request_rate: Mapped[Amount]
    error_rate: Mapped[Amount]
    success_rate: Mapped[Amount]
    avg_response_time: Mapped[Milliseconds]
    metadata_: Mapped[JSONDict] = mapped_column("metadata")


class ErrorAnalytics(Row, Base):
    """An error that a user met. Required: user, time, type, message; severity is ``error`` where nothing is said."""

    __tablename__ = "error_analytics"
    kept_days: ClassVar[int] = 30
    __table_args__ = (
        merge_tree("user_id", "timestamp", "error_type", days=kept_days),
        *pruned_by("timestamp", "trace_id"),
    )

    error_id: Mapped[OwnId]
    user_id: Mapped[KeyId]
    trace_id: Mapped[OtherId]
    timestamp: Mapped[Timestamp]
    error_type: Mapped[Name]
    error_code: Mapped[LowCardinalityStr]
    error_message: Mapped[Message]
    severity: Mapped[Severity] = one_of(Severity, insert_default="error", server_default="error")
    service_name: Mapped[LowCardinalityStr]
    component_name: Mapped[LowCardinalityStr]
    function_name: Mapped[Str]
    metadata_: Mapped[JSONDict] = mapped_column("metadata")


class UserMetricsSummary(SummaryRow, Base):
    """``performance_metrics`` by user, day and type."""

    __tablename__ = "user_metrics_summary"
    kept_days: ClassVar[int] = PerformanceMetric.kept_days
    __table_args__ = (aggregating_merge_tree("user_id", "day", "metric_type", days=kept_days),)

    user_id: Mapped[KeyId]
    day: Mapped[Day]
    metric_type: Mapped[Key]
    metric_count: Mapped[Total]
    avg_value: Mapped[bytes] = state("avg", Float64)
    max_value: Mapped[Greatest]
    min_value: Mapped[Least]
    total_tokens: Mapped[Total]


#: The summaries of this database.
SUMMARIES: Final = (
    Summary.declare(
        "mv_user_metrics_summary",
        PerformanceMetric,
        UserMetricsSummary,
        keys={
            "user_id": PerformanceMetric.user_id,
            "day": func.toDate(PerformanceMetric.timestamp, type_=Date),
            "metric_type": PerformanceMetric.metric_type,
        },
        measures=[
            count(UserMetricsSummary.metric_count),
            average(UserMetricsSummary.avg_value, PerformanceMetric.value),
            greatest(UserMetricsSummary.max_value, PerformanceMetric.value),
            least(UserMetricsSummary.min_value, PerformanceMetric.value),
            total(UserMetricsSummary.total_tokens, PerformanceMetric.total_tokens),
        ],
    ),
)
