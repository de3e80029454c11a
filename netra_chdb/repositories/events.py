"""``netra_analytics.events``: what users did."""

from __future__ import annotations

from netra_chdb.models import analytics
from netra_chdb.repositories.base import Repository

__all__ = ["EventsRepository"]


class EventsRepository(Repository[analytics.Event]):
    """Inserts and reads of ``netra_analytics.events``."""

    model = analytics.Event
