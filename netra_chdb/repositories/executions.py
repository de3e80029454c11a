"""What agents did, in ``netra_traces``: executions, their steps, how traces belong together, and errors."""

from __future__ import annotations

import datetime as dt

from netra_chdb.models import traces
from netra_chdb.repositories.base import Reading, Repository, UserScope

__all__ = [
    "AgentEventsRepository",
    "AgentExecutionsRepository",
    "ErrorLogsRepository",
    "TraceCorrelationsRepository",
]


class AgentExecutionsRepository(Repository[traces.AgentExecution]):
    """Inserts and reads of ``netra_traces.agent_executions``."""

    model = traces.AgentExecution
    time_column = "start_time"

    def user_summary(
        self, *, user_id: UserScope, since: dt.date | None = None, until: dt.date | None = None
    ) -> Reading:
        """Return executions by user, day and type of agent; see ``models.traces.UserExecutionSummary``.

        Args:
            user_id: whose rows.
            since: from this day on, inclusive.
            until: up to this day, exclusive.
        """
        return self._daily(traces.UserExecutionSummary, user_id, since, until)


class AgentEventsRepository(Repository[traces.AgentEvent]):
    """Inserts and reads of ``netra_traces.agent_events``."""

    model = traces.AgentEvent


class TraceCorrelationsRepository(Repository[traces.TraceCorrelation]):
    """Inserts and reads of ``netra_traces.trace_correlations``; its rows are no user's."""

    model = traces.TraceCorrelation

    def interactions(
        self, *, user_id: UserScope, since: dt.date | None = None, until: dt.date | None = None
    ) -> Reading:
        """Return which agents work together, by day; see ``models.traces.AgentInteraction``.

        Args:
            user_id: EVERYONE; the summary knows no users.
            since: from this day on, inclusive.
            until: up to this day, exclusive.
        """
        return self._daily(traces.AgentInteraction, user_id, since, until)


class ErrorLogsRepository(Repository[traces.ErrorLog]):
    """Inserts and reads of ``netra_traces.error_logs``."""

    model = traces.ErrorLog

    def patterns(self, *, user_id: UserScope, since: dt.date | None = None, until: dt.date | None = None) -> Reading:
        """Return errors of one kind together, by day; see ``models.traces.ErrorPattern``.

        Args:
            user_id: EVERYONE; the summary knows no users.
            since: from this day on, inclusive.
            until: up to this day, exclusive.
        """
        return self._daily(traces.ErrorPattern, user_id, since, until)
