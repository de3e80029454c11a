"""Server-sent events: the report and the samples, as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from netra_chdb.health.history import Sample
from netra_chdb.health.monitor import HealthMonitor
from netra_chdb.health.report import plain

__all__ = ["MOST_STREAMS", "Streams"]

MOST_STREAMS: Final = 50
_LOOK_EVERY: Final = 1.0
# A browser opens another one by itself. A server that shuts down waits for open ones.
_LASTS: Final = 300.0
_SILENCE: Final = 10


class Streams:
    """The open streams, of which there are a bounded number.

    Args:
        monitor: what they tell of.
    """

    def __init__(self, monitor: HealthMonitor) -> None:
        self._monitor = monitor
        self.open = 0

    async def events(self, is_gone: Callable[[], Any]) -> AsyncIterator[str]:
        """Yield events: ``history`` once, then ``report`` and ``sample`` whenever there is something new.

        Args:
            is_gone: awaited to learn whether the client has left.
        """
        self.open += 1
        try:
            samples = self._monitor.history.since()
            yield "retry: 3000\n\n" + _event("history", [_row(sample) for sample in samples])
            last, told, quiet = (samples[-1].number if samples else 0), "", 0
            for _ in range(int(_LASTS / _LOOK_EVERY)):
                report = plain(self._monitor.report())
                text = json.dumps({name: value for name, value in report.items() if name != "at"})
                parts = []
                if text != told or quiet >= _SILENCE:
                    told, quiet = text, 0
                    parts.append(_event("report", report))
                for sample in self._monitor.history.since(last):
                    last = sample.number
                    parts.append(_event("sample", _row(sample)))
                quiet += 1
                if parts:
                    yield "".join(parts)
                if self._monitor.closed or await is_gone():
                    return
                await asyncio.sleep(_LOOK_EVERY)
        finally:
            self.open -= 1


def _row(sample: Sample) -> dict[str, Any]:
    found: dict[str, Any] = plain(sample)
    return found


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
