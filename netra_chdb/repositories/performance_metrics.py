"""The two tables ``performance_metrics``: what was measured for users and in traces, and their daily summaries."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from netra_chdb.dialect import select
from netra_chdb.errors import NetraError
from netra_chdb.models import analytics, traces
from netra_chdb.repositories.base import Model, Reading, Repository, UserScope

__all__ = ["Percentile", "PerformanceMetricsRepository", "TracePerformanceMetricsRepository"]


class Percentile(NamedTuple):
    """One percentile of a metric's values."""

    level: float
    value: float


class _Measurements(Repository[Model]):
    """What both tables answer."""

    def percentiles(
        self,
        metric_type: str,
        *,
        user_id: UserScope,
        levels: Sequence[float] = (0.5, 0.95, 0.99),
        metric_name: str | None = None,
        since: dt.datetime | None = None,
        until: dt.datetime | None = None,
    ) -> Reading:
        """Return percentiles of ``value``, interpolated linearly between neighbours (as NumPy's default does).

        Args:
            metric_type: the type of the metric.
            user_id: whose rows.
            levels: each from 0 to 1.
            metric_name: only metrics of this name.
            since: from this time on, inclusive.
            until: up to this time, exclusive.

        Returns:
            A reading whose rows are :class:`Percentile`, in the order of ``levels``; no rows without values.

        Raises:
            NetraError: a level is outside 0 to 1, or there are none.
        """
        if not levels or not all(0 <= level <= 1 for level in levels):
            raise NetraError(f"levels must be numbers from 0 to 1, not {tuple(levels)!r}")
        value = self.model.value
        statement = self._scoped(
            select(sa.func.count(), sa.func.quantilesExactInclusive(*levels, value)), user_id, since, until
        )
        statement = self._of(statement, metric_type, metric_name)
        reading = self._read(statement, user_id)
        ((count, values),) = reading.rows
        found = [Percentile(level, value) for level, value in zip(levels, values, strict=True)] if count else []
        return dataclasses.replace(reading, rows=found)

    def time_series(
        self,
        metric_type: str,
        *,
        user_id: UserScope,
        interval: dt.timedelta = dt.timedelta(minutes=5),
        metric_name: str | None = None,
        since: dt.datetime | None = None,
        until: dt.datetime | None = None,
    ) -> Reading:
        """Return ``value`` over time, one row for each interval that has values.

        Args:
            metric_type: the type of the metric.
            user_id: whose rows.
            interval: width of a bucket, whole seconds; buckets begin at multiples of it since 1970 UTC.
            metric_name: only metrics of this name.
            since: from this time on, inclusive.
            until: up to this time, exclusive.

        Returns:
            A reading whose rows carry ``time`` (start of the bucket, aware UTC), ``count``, ``average``, ``minimum``
            and ``maximum``, in order of time.

        Raises:
            NetraError: ``interval`` is not a positive number of whole seconds.
        """
        seconds = interval.total_seconds() if isinstance(interval, dt.timedelta) else 0
        if seconds < 1 or seconds != int(seconds):
            raise NetraError(f"interval must be a positive number of whole seconds, not {interval!r}")
        value = self.model.value
        width = int(seconds)
        # Whole seconds since 1970, divided: toStartOfInterval counts weeks from a Monday, and months unevenly.
        bucket = sa.func.toDateTime(
            sa.func.intDiv(sa.func.toUnixTimestamp(self.model.timestamp), width) * width, "UTC", type_=sa.DateTime()
        ).label("time")
        statement = self._scoped(
            select(
                bucket,
                sa.func.count().label("count"),
                sa.func.avg(value, type_=sa.Float()).label("average"),
                sa.func.min(value).label("minimum"),
                sa.func.max(value).label("maximum"),
            ),
            user_id,
            since,
            until,
        )
        return self._read(self._of(statement, metric_type, metric_name).group_by(bucket).order_by(bucket), user_id)

    def _of(self, statement: Any, metric_type: str, metric_name: str | None) -> Any:
        statement = statement.where(self.model.metric_type == metric_type)
        return statement if metric_name is None else statement.where(self.model.metric_name == metric_name)


class PerformanceMetricsRepository(_Measurements[analytics.PerformanceMetric]):
    """Inserts and reads of ``netra_analytics.performance_metrics``."""

    model = analytics.PerformanceMetric

    def user_summary(
        self, *, user_id: UserScope, since: dt.date | None = None, until: dt.date | None = None
    ) -> Reading:
        """Return the daily summary that ClickHouse keeps up to date with each insert.

        Args:
            user_id: whose rows.
            since: from this day on, inclusive.
            until: up to this day, exclusive.

        Returns:
            A reading whose rows carry ``user_id``, ``day``, ``metric_type``, ``metric_count``, ``avg_value``,
            ``max_value``, ``min_value`` and ``total_tokens``, in order of user, day and type.
        """
        return self._daily(analytics.UserMetricsSummary, user_id, since, until)


class TracePerformanceMetricsRepository(_Measurements[traces.PerformanceMetric]):
    """Inserts and reads of ``netra_traces.performance_metrics``."""

    model = traces.PerformanceMetric

    def trends(self, *, user_id: UserScope, since: dt.date | None = None, until: dt.date | None = None) -> Reading:
        """Return the hourly summary that ClickHouse keeps of all users' rows.

        Args:
            user_id: EVERYONE; the summary knows no users.
            since: from this day on, inclusive.
            until: up to this day, exclusive.

        Returns:
            A reading whose rows carry ``day``, ``hour``, ``metric_type``, ``component_name``, averages, percentiles
            and counts, in order of the first four.
        """
        return self._daily(traces.PerformanceTrend, user_id, since, until)
