"""Fixtures of the breaker's tests."""

from __future__ import annotations

import pytest

from netra_chdb.resilience.breaker import CircuitBreaker
from tests.resilience.breakers import Clock, build


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return build(clock)
