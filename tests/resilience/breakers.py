"""What the tests of the breaker share: a clock that is set by hand, and ways to fail."""

from __future__ import annotations

from typing import Any

import pytest

from netra_chdb.errors import BreakerOpen
from netra_chdb.resilience.breaker import CircuitBreaker, Permit


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Refused(Exception):
    """Counts as a failure."""


class BadQuery(Exception):
    """Excluded."""


def build(clock: Clock, **options: Any) -> CircuitBreaker:
    return CircuitBreaker(**{"clock": clock, "jitter": 0.0, "exclude": [BadQuery], "name": "test", **options})


def fail_once(breaker: CircuitBreaker) -> None:
    with pytest.raises(Refused), breaker.calling():
        raise Refused("secret")


def raise_refused(*_: object) -> None:
    raise Refused("secret")


def admitted(breaker: CircuitBreaker, tries: int) -> list[Permit]:
    permits = []
    for _ in range(tries):
        try:
            permits.append(breaker.admit())
        except BreakerOpen:
            continue
    return permits
