"""``netra_analytics``: business metrics and events."""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

import sqlalchemy as sa
from sqlalchemy import func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from netra_chdb.dialect import Date, Float64
from netra_chdb.models import summary
from netra_chdb.models.base import (
    Amount,
    Count,
    Day,
    Greatest,
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
    OtherId,
    OwnId,
    PerformanceMetricColumns,
    Row,
    SummaryRow,
    Timestamp,
    Total,
    aggregating_merge_tree,
    merge_tree,
    one_of,
    pruned_by,
    state,
)
from netra_chdb.models.base import Severity

