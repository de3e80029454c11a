"""The names that enumerated columns accept; a table numbers them 1, 2, 3, ... in this order, so new ones go last."""

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = [
    "ErrorType",
    "EventType",
    "ExecutionStatus",
    "HealthStatus",
    "MetricType",
    "RelationshipType",
    "Severity",
]

#: How bad an error is.
Severity: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]

#: How an instance of a service is doing.
HealthStatus: TypeAlias = Literal["healthy", "degraded", "unhealthy"]

#: How far an execution came.
ExecutionStatus: TypeAlias = Literal["pending", "running", "completed", "failed", "cancelled"]

#: What an agent did.
EventType: TypeAlias = Literal[
    "agent_started",
    "agent_thinking",
    "tool_executing",
    "tool_completed",
    "agent_completed",
    "websocket_sent",
    "websocket_received",
    "error_occurred",
    "custom",
]

#: What was measured in a trace.
MetricType: TypeAlias = Literal["latency", "throughput", "resource", "llm", "database", "network", "custom"]

#: How a trace belongs to another.
RelationshipType: TypeAlias = Literal["parent_child", "sibling", "dependency", "triggered_by", "related"]

#: Where an error comes from.
ErrorType: TypeAlias = Literal[
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
]
