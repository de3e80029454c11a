"""Declarative models, one module per database: ``models.analytics`` and ``models.traces``.

Both have a ``PerformanceMetric``, over tables of one name in two databases: each module has its own ``MetaData``,
each table carries its database.
"""

from __future__ import annotations

from netra_chdb.models import analytics, traces

__all__ = ["analytics", "traces"]
