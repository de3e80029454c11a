"""Several hosts: the order in which they are tried, and for how long one that failed is left alone."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from netra_chdb import create_engine
from netra_chdb.dialect.hosts import STRATEGIES, Hosts, addresses
from tests.dialect.loop import ask, fresh
from tests.proxy import Proxy
from tests.resilience.breakers import Clock
from tests.servers import PASSWORD, ModernServer, free_port

A, B, C = ("a", 1), ("b", 2), ("c", 3)


class Rejected(Exception):
    """Says nothing about the host."""

    code = 516


def hosts(strategy: str = "in_order", **options: Any) -> tuple[Hosts, Clock]:
    clock = Clock()
    return Hosts([A, B, C], strategy, clock=clock, rng=random.Random(7), **options), clock


def test_addresses() -> None:
    assert addresses("one:9001, two ,[::1]:7,", 9000) == [("one", 9001), ("two", 9000), ("::1", 7)]
    assert addresses("", 9000) == []


@pytest.mark.parametrize("text", ["one:port", "one/two", "user@one", ":9000", "one:70000", "[::1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(sa.exc.ArgumentError, match="alt_hosts"):
        addresses(text, 9000)


def test_in_order() -> None:
    found, clock = hosts()
    assert found.order() == [A, B, C]
    found.failed(A)
    assert found.order() == [B, C, A]
    clock.advance(1.0)
    assert found.order() == [A, B, C]


def test_round_robin() -> None:
    found, _ = hosts("round_robin")
    assert [found.order()[0] for _ in range(6)] == [A, B, C, A, B, C]


def test_random_is_even() -> None:
    found, _ = hosts("random")
    first = Counter(found.order()[0] for _ in range(3000))
    assert set(first) == {A, B, C}
    # Six standard deviations of a fair draw.
    assert all(abs(count - 1000) < 6 * (3000 * 1 / 3 * 2 / 3) ** 0.5 for count in first.values())


def test_a_pause_grows_with_each_failure_and_is_bounded() -> None:
    found, clock = hosts(first_pause=1.0, longest_pause=8.0)
    for bound in (1, 2, 4, 8, 8, 8):
        found.failed(A)
        clock.advance(bound / 2 - 0.001)
        assert found.order()[-1] == A
        clock.advance(bound / 2 + 0.001)
        assert found.order()[0] == A
    found.answered(A)
    found.failed(A)
    clock.advance(1.0)
    assert found.order()[0] == A


@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.floats(0, 100)), max_size=30), st.sampled_from(STRATEGIES))
def test_every_host_is_tried_whatever_failed_before(failures: list[tuple[Any, float]], strategy: str) -> None:
    found, clock = hosts(strategy)
    for host, seconds in failures:
        found.failed(host)
        clock.advance(seconds)
    assert sorted(found.order()) == [A, B, C]
    aside = [host for host in found.order() if clock.now < found._aside.get(host, _Never).until]
    assert found.order()[len(found.all) - len(aside) :] == sorted(aside, key=lambda host: found._aside[host].until)


class _Never:
    until = float("-inf")


class Opened:
    address: Any = None


def test_the_next_host_is_tried_and_the_failed_one_set_aside() -> None:
    found, _ = hosts()
    tried: list[str] = []

    def open_one(host: str, port: int, seconds: float | None) -> Opened:
        tried.append(host)
        if host != "c":
            raise ConnectionRefusedError
        return Opened()

    assert found.connect(open_one).address == C
    assert tried == ["a", "b", "c"]
    assert found.connect(open_one).address == C
    assert tried == ["a", "b", "c", "c"]


def test_when_no_host_answers_the_last_error_is_raised() -> None:
    found, _ = hosts()
    failures = iter([ConnectionRefusedError("a"), TimeoutError("b"), EOFError("c")])

    def open_one(*_: Any) -> Any:
        raise next(failures)

    with pytest.raises(EOFError, match="c"):
        found.connect(open_one)


def test_what_says_nothing_about_a_host_is_raised_at_once() -> None:
    found, _ = hosts()
    tried: list[str] = []

    def open_one(host: str, *_: Any) -> Any:
        tried.append(host)
        raise Rejected

    with pytest.raises(Rejected):
        found.connect(open_one)
    assert tried == ["a"]
    assert found.order()[0] == A


def test_all_hosts_together_stay_within_the_time() -> None:
    found, clock = hosts()
    given_time: list[float | None] = []

    def open_one(host: str, port: int, seconds: float | None) -> Any:
        given_time.append(seconds)
        clock.advance(3.0)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        found.connect(open_one, 6.0)
    # A third of the six seconds, then half of the three that the first one left; the last one gets no turn.
    assert given_time == [2.0, 1.5]


@pytest.fixture
def lines(modern_server: ModernServer, driver: str) -> Iterator[list[Proxy]]:
    port = modern_server.port(driver)
    with Proxy(port) as one, Proxy(port) as two, Proxy(port) as three:
        yield [one, two, three]


def url(server: ModernServer, driver: str, ports: list[int], **query: Any) -> str:
    others = ",".join(f"127.0.0.1:{port}" for port in ports[1:])
    return server.url(driver, port=ports[0], alt_hosts=others, **query)


@pytest.mark.parametrize(
    ("query", "accepted"),
    [
        ({}, [6, 0, 0]),
        ({"round_robin": "true"}, [2, 2, 2]),
        ({"connection_open_strategy": "round_robin"}, [2, 2, 2]),
        ({"connection_open_strategy": "in_order"}, [6, 0, 0]),
    ],
)
def test_where_connections_go(
    modern_server: ModernServer, driver: str, lines: list[Proxy], query: dict[str, str], accepted: list[int]
) -> None:
    engine = create_engine(url(modern_server, driver, [line.port for line in lines], **query), pool_size=6)
    connections = [engine.connect() for _ in range(6)]
    for connection in connections:
        assert connection.scalar(sa.text("SELECT 42")) == 42
        connection.close()
    engine.dispose()
    assert [line.accepted for line in lines] == accepted


def test_a_host_that_is_gone_is_asked_once(modern_server: ModernServer, driver: str, lines: list[Proxy]) -> None:
    gone, (line, *_) = free_port(), lines
    engine = create_engine(url(modern_server, driver, [gone, line.port]), pool_size=6)
    connections = [engine.connect() for _ in range(6)]
    assert {connection.connection.driver_connection.address[1] for connection in connections} == {line.port}  # type: ignore[union-attr]
    for connection in connections:
        connection.close()
    engine.dispose()
    assert line.accepted == 6
    hosts: Any = engine.dialect.hosts  # type: ignore[attr-defined]
    assert hosts._aside[("127.0.0.1", gone)].failures < 6


def test_an_async_engine_goes_on_to_the_next_host(modern_server: ModernServer, driver: str, lines: list[Proxy]) -> None:
    where = url(modern_server, driver, [free_port(), *(line.port for line in lines)])

    async def run() -> list[int]:
        async with fresh(where, pool_size=6) as engine:
            return list(await asyncio.gather(*[ask(engine, "SELECT sleep(0.2) + :n", n=n) for n in range(6)]))

    assert asyncio.run(run()) == list(range(6))
    assert [line.accepted for line in lines] == [6, 0, 0]


@pytest.mark.parametrize(
    ("driver", "query", "match"),
    [
        ("chnative", "connection_open_strategy=best", "connection_open_strategy is one of"),
        ("chhttp", "round_robin=perhaps", "round_robin is true or false"),
        ("chnative", "alt_hosts=two:9440", "port 9440"),
        ("chhttp", "alt_hosts=two:8443", "port 8443"),
    ],
)
def test_wrong_arguments_are_refused(driver: str, query: str, match: str) -> None:
    with pytest.raises(sa.exc.ArgumentError, match=match) as caught:
        create_engine(f"clickhouse+{driver}://u:{PASSWORD.replace('/', '')}@one:9000/db?{query}")
    assert PASSWORD.replace("/", "") not in str(caught.value)


def test_hosts_without_a_port_get_the_first_ports_default() -> None:
    for driver, secure in itertools.product(("chhttp", "chnative"), ("true", "false")):
        engine = create_engine(f"clickhouse+{driver}://one/db?alt_hosts=two&secure={secure}")
        found: Any = engine.dialect.create_connect_args(engine.url)[1]["hosts"]
        default = {("chhttp", "true"): 8443, ("chhttp", "false"): 8123, ("chnative", "true"): 9440}.get(
            (driver, secure), 9000
        )
        assert found.all == [("one", default), ("two", default)]
