"""Many requests at once, each on a connection of its own, from outside of the server's process."""

from __future__ import annotations

import contextlib
import selectors
import socket
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["READS", "Burst", "burst", "processor_seconds"]

#: Every path of the API that is read and has an end.
READS = (
    *(f"/health/clickhouse{name}" for name in ("", "/live", "/ready", "/connection", "/metrics")),
    *(f"/health/clickhouse{name}" for name in ("/dependencies", "/analytics", "/ui")),
    "/metrics",
)

_WITHIN: Final = 20.0


@dataclass(frozen=True, slots=True)
class Burst:
    """What a client saw of a burst.

    Attributes:
        seconds: from connecting to the last byte of the answer, by path.
        statuses: the status codes, by path.
    """

    seconds: dict[str, list[float]]
    statuses: dict[str, set[int]]

    def live(self) -> list[float]:
        """Return the seconds of each answer that says that the process lives."""
        return self.seconds["/health/clickhouse/live"]

    def all(self) -> list[float]:
        """Return the seconds of each answer."""
        return [took for path in self.seconds.values() for took in path]

    def __str__(self) -> str:
        def figures(seconds: list[float]) -> str:
            return f"{max(seconds) * 1e3:.1f} ms at most, {statistics.median(seconds) * 1e3:.1f} ms median"

        return f"{len(self.all())} at once: /live {figures(self.live())}; all {figures(self.all())}"


def burst(port: int, number: int = 200, paths: Sequence[str] = READS) -> Burst:
    """Ask for ``paths`` in turn, ``number`` times, without waiting for an answer in between.

    A thread or a task for each request would take more of the processor than the server: this is one loop over
    sockets, so that nearly all that is measured is the server's.
    """
    found = Burst({path: [] for path in paths}, {path: set() for path in paths})
    requests = [(path, f"GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".encode()) for path in paths]
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as lines:
        for place in range(number):
            path, request = requests[place % len(requests)]
            started = time.perf_counter()
            # It waits in the listener's queue: this does not wait for the server.
            line = lines.enter_context(socket.create_connection(("127.0.0.1", port), timeout=_WITHIN))
            line.sendall(request)
            selector.register(line, selectors.EVENT_READ, (path, started, bytearray()))
        deadline = time.perf_counter() + _WITHIN
        while waiting := len(selector.get_map()):
            ready = selector.select(_WITHIN)
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{waiting} of {number} requests are without an answer after {_WITHIN:.0f} s")
            for key, _ in ready:
                path, started, answer = key.data
                assert isinstance(key.fileobj, socket.socket)
                if part := key.fileobj.recv(1 << 20):
                    answer += part
                    continue
                found.seconds[path].append(time.perf_counter() - started)
                found.statuses[path].add(int(answer[9:12]))
                selector.unregister(key.fileobj)
    return found


def processor_seconds(pid: int) -> float:
    """Return what a process has taken of the processors so far, in all its threads (to 10 ms)."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / 100
