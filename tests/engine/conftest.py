"""A guarded engine over a proxy, on each driver with a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from netra_chdb import CircuitBreaker, create_engine
from netra_chdb.engine import guard
from netra_chdb.resilience.retry import RetryPolicy
from tests.engine.parts import QUICK
from tests.proxy import Proxy
from tests.servers import ModernServer


@pytest.fixture
def proxy(modern_server: ModernServer, driver: str) -> Iterator[Proxy]:
    with Proxy(modern_server.port(driver)) as proxy:
        yield proxy


@pytest.fixture
def make(modern_server: ModernServer, driver: str, proxy: Proxy) -> Iterator[Callable[..., sa.Engine]]:
    """Make guarded engines over the proxy, with one connection each."""
    made: list[sa.Engine] = []

    def make(breaker: CircuitBreaker | None = None, policy: dict[str, Any] | None = None, **options: Any) -> sa.Engine:
        query = options.pop("query", {})
        url = modern_server.url(driver, port=proxy.port, **query)
        engine = create_engine(url, **{"pool_size": 1, "max_overflow": 0, **options})
        guard(engine, breaker or CircuitBreaker(fail_max=1000), RetryPolicy(**{**QUICK, **(policy or {})}))
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.dispose()


@pytest.fixture
def gate(modern_server: ModernServer) -> Iterator[Callable[[int], str]]:
    """SQL that fails with a code of ClickHouse's until the gate is opened: ``opened()`` is its attribute."""
    modern_server.query("CREATE OR REPLACE TABLE gate (x UInt8) ENGINE = Memory")

    def condition(code: int) -> str:
        return f"throwIf((SELECT count() FROM gate) = 0, 'thrown by a test', toInt16({code}))"

    yield condition
    modern_server.query("DROP TABLE gate")
