"""Several hosts behind one URL: which one a connection goes to, and which ones are left alone for a while.

One mechanism for every driver with a network. A pooled connection stays with its host; where a new one goes is
decided when it opens.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from sqlalchemy import exc as sa_exc

from netra_chdb.errors import classify

__all__ = ["STRATEGIES", "Address", "Hosts", "addresses"]

Address: TypeAlias = tuple[str, int]

STRATEGIES: Final = ("in_order", "round_robin", "random")


def addresses(text: str, default_port: int) -> list[Address]:
    """Read ``host:port,host,[::1]:port``.

    Raises:
        sqlalchemy.exc.ArgumentError: an item is not a host with or without a port.
    """
    found: list[Address] = []
    for item in filter(None, map(str.strip, text.split(","))):
        try:
            parts = urlsplit(f"//{item}")
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if host is None or parts.netloc != item or "@" in item:
            raise sa_exc.ArgumentError("alt_hosts holds an item that is not host, host:port or [IPv6]:port")
        found.append((host, default_port if port is None else port))
    return found


@dataclass(slots=True)
class _Aside:
    """A host that failed: how often in a row, and until when it is left alone."""

    failures: int = 0
    until: float = 0.0


@dataclass
class Hosts:
    """The hosts of one engine.

    Attributes:
        all: the hosts, at least one.
        strategy: ``in_order`` (the first that is not set aside), ``round_robin`` or ``random``.
        first_pause: seconds, the bound for which a host is set aside the first time; it doubles with each failure.
        longest_pause: seconds, the bound of every pause.
        clock: monotonic seconds.
        rng: source of the jitter and of ``random``.
    """

    all: Sequence[Address]
    strategy: str = "in_order"
    first_pause: float = 1.0
    longest_pause: float = 60.0
    clock: Callable[[], float] = time.monotonic
    rng: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise sa_exc.ArgumentError(
                f"connection_open_strategy is one of {', '.join(STRATEGIES)}, not {self.strategy!r}"
            )
        self._lock = threading.Lock()
        self._turn = itertools.count()
        self._aside: dict[Address, _Aside] = {}

    def order(self) -> list[Address]:
        """Return all hosts in the order to try them: those set aside come last, the one due soonest first."""
        hosts = list(dict.fromkeys(self.all))
        if self.strategy == "random":
            self.rng.shuffle(hosts)
        elif self.strategy == "round_robin":
            start = next(self._turn) % len(hosts)
            hosts = hosts[start:] + hosts[:start]
        now = self.clock()
        with self._lock:
            until = {host: aside.until for host, aside in self._aside.items() if now < aside.until}
        return sorted(hosts, key=lambda host: until.get(host, 0.0))

    def failed(self, address: Address) -> None:
        """Set a host aside: for longer each time, and not all clients for the same time."""
        with self._lock:
            aside = self._aside.setdefault(address, _Aside())
            bound = min(self.longest_pause, self.first_pause * 2 ** min(aside.failures, 32))
            aside.failures += 1
            aside.until = self.clock() + self.rng.uniform(bound / 2, bound)

    def answered(self, address: Address) -> None:
        """Forget what a host did before."""
        if self._aside:
            with self._lock:
                self._aside.pop(address, None)

    def connect(self, open_one: Callable[[str, int, float | None], Any], within: float | None = None) -> Any:
        """Return a connection to the first host that gives one; its ``address`` says which.

        Args:
            open_one: opens a connection to a host and a port, in so many seconds at most.
            within: seconds for all of it.

        Raises:
            Exception: what the last host raised; at once what says nothing about a host, as a wrong password does.
        """
        deadline = None if within is None else self.clock() + within
        failure: Exception = ConnectionError("no host to connect to")
        tried = False
        order = self.order()
        for place, address in enumerate(order):
            left = None if deadline is None else deadline - self.clock()
            if tried and left is not None and left <= 0:
                break
            try:
                # A host that says nothing must leave the next ones their share of the time.
                connection = open_one(*address, None if left is None else left / (len(order) - place))
            except Exception as error:
                if not classify(error).is_systemic:
                    raise
                self.failed(address)
                failure, tried = error, True
                continue
            connection.address = address
            self.answered(address)
            return connection
        raise failure
