"""The tables with users, and rows of them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa

from netra_chdb import models

__all__ = ["EVENTS", "LIGHT", "MINE", "OTHERS", "OTHER_TABLES", "USER_TABLES", "Event", "Metric", "Summary", "event_of"]

Event = models.analytics.Event
Metric = models.analytics.PerformanceMetric
Summary = models.analytics.UserMetricsSummary
EVENTS: Any = Event.__table__
LIGHT = sa.table("events", sa.column("user_id", sa.String), schema="netra_analytics")
MINE, OTHERS = 3, 5

USER_TABLES = [
    table
    for base in (models.analytics.Base, models.traces.Base)
    for table in base.metadata.sorted_tables
    if "user_id" in table.c
]
OTHER_TABLES = [
    table
    for base in (models.analytics.Base, models.traces.Base)
    for table in base.metadata.sorted_tables
    if "user_id" not in table.c
]


def event_of(user_id: str, name: str = "click") -> dict[str, Any]:
    return {"user_id": user_id, "timestamp": dt.datetime.now(dt.UTC), "event_type": "ui", "event_name": name}
