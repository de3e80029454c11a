"""Health: what an operator, a load balancer and Prometheus want to know, gathered without getting in anyone's way.

A thread of its own asks ClickHouse, another one looks at this process; who wants a report gets what they found last.
So no question about health waits for ClickHouse, however many ask at once.
"""

from __future__ import annotations

from netra_chdb.health.monitor import HealthMonitor
from netra_chdb.health.report import Finding, HealthReport, Probe

__all__ = ["Finding", "HealthMonitor", "HealthReport", "Probe"]
