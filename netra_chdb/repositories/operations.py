"""What operators look at in ``netra_analytics``: how services are doing, and what went wrong."""

from __future__ import annotations

from netra_chdb.models import analytics
from netra_chdb.repositories.base import Repository

__all__ = ["ErrorAnalyticsRepository", "SystemHealthMetricsRepository"]


class SystemHealthMetricsRepository(Repository[analytics.SystemHealthMetric]):
    """Inserts and reads of ``netra_analytics.system_health_metrics``; its rows are no user's."""

    model = analytics.SystemHealthMetric


class ErrorAnalyticsRepository(Repository[analytics.ErrorAnalytics]):
    """Inserts and reads of ``netra_analytics.error_analytics``."""

    model = analytics.ErrorAnalytics
