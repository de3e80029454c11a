"""ClickHouse switched off: nothing touches it, reads come from the store, and only the own hold is let go."""

from __future__ import annotations

import datetime as dt
import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from netra_chdb import CircuitBreaker, Config, DataAccess, errors, models
from netra_chdb.resilience.mode import Mode

Event = models.analytics.Event


@pytest.fixture
def access(url: str, data: DataAccess) -> Iterator[DataAccess]:
    with DataAccess(Config(url=url)) as access:
        yield access


def test_reads_come_from_the_store_and_go_back(access: DataAccess, user_id: str) -> None:
    row = {"user_id": user_id, "timestamp": dt.datetime.now(dt.UTC), "event_type": "ui", "event_name": "click"}
    access.events.insert([row])
    before = access.events.recent(user_id=user_id)
    access.degrade("maintenance")
    checkouts = access.pool().connection_attempts
    assert access.mode == "degraded"
    stale = access.events.recent(user_id=user_id)
    assert (stale.stale, stale.as_of, len(stale.rows)) == (True, before.as_of, 1)
    with pytest.raises(errors.BreakerOpen, match="switched off: maintenance"):
        access.events.count(user_id=user_id)
    assert access.events.insert([row]).state == "spooled"
    access.events.record(row)
    with pytest.raises(errors.NotReady, match="switched off"):
        access.flush()
    with access.session() as session, pytest.raises(errors.BreakerOpen):
        session.scalars(sa.select(Event))
    assert access.pool().connection_attempts == checkouts
    access.restore()
    assert access.mode == "normal"
    access.flush()
    assert access.events.count(user_id=user_id) == 3
    assert not access.events.recent(user_id=user_id).stale


@pytest.mark.parametrize("driver", ["chhttp", "chnative"])
def test_a_server_that_is_switched_off_is_not_even_connected_to(driver: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        port = listener.getsockname()[1]
        with DataAccess(Config(url=f"clickhouse+{driver}://u:p@127.0.0.1:{port}/d", mode="degraded")) as access:
            assert access.mode == "degraded"
            started = time.monotonic()
            for run in (
                lambda: access.events.recent(user_id="u1"),
                lambda: access.session(user_id="u1").scalars(sa.select(Event)),
                lambda: access.engine.connect(),
                access.initialize,
            ):
                with pytest.raises(errors.BreakerOpen, match="CLICKHOUSE_MODE=degraded"):
                    run()
            assert time.monotonic() - started < 5
            with pytest.raises(TimeoutError):
                listener.accept()
            assert access.pool().connection_attempts == 0


def test_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKHOUSE_MODE", "degraded")
    with DataAccess(Config(url="clickhouse+chhttp://127.0.0.1:1/")) as access:
        assert access.mode == "degraded"
        access.restore()
        assert access.breaker.current_state == "closed"


def test_one_warning_when_it_starts_and_one_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    mode = Mode(CircuitBreaker())
    with caplog.at_level(logging.INFO, "netra_chdb.resilience.mode"):
        mode.restore()
        mode.degrade("first")
        mode.degrade("second")
        mode.restore()
        mode.restore()
    events = [record for record in caplog.records if record.name == "netra_chdb.resilience.mode"]
    assert [(record.levelname, record.getMessage()) for record in events] == [
        ("WARNING", "ClickHouse is switched off: first"),
        ("WARNING", "ClickHouse is switched on again, after 0 s"),
    ]


class TestHolds:
    @pytest.fixture
    def breaker(self) -> CircuitBreaker:
        return CircuitBreaker()

    def test_another_hold_from_before_comes_back(self, breaker: CircuitBreaker) -> None:
        breaker.force_open("the operator's")
        mode = Mode(breaker)
        mode.degrade("mine")
        mode.degrade("mine still")
        assert breaker.snapshot().forced == "switched off: mine still"
        mode.restore()
        assert breaker.snapshot().forced == "the operator's"

    def test_another_hold_from_since_stays(self, breaker: CircuitBreaker) -> None:
        mode = Mode(breaker)
        mode.degrade("mine")
        breaker.force_open("the operator's")
        mode.restore()
        assert breaker.snapshot().forced == "the operator's"
        assert mode.name == "normal"

    def test_one_that_was_reset_in_between_is_left_alone(self, breaker: CircuitBreaker) -> None:
        mode = Mode(breaker)
        mode.degrade("mine")
        breaker.reset()
        breaker.open()
        mode.restore()
        assert breaker.current_state == "open"

    @pytest.mark.parametrize("reason", ["", None, 7])
    def test_it_needs_a_reason(self, breaker: CircuitBreaker, reason: Any) -> None:
        mode = Mode(breaker)
        with pytest.raises(errors.ConfigError, match="needs a reason"):
            mode.degrade(reason)
        assert (mode.name, breaker.current_state) == ("normal", "closed")

    def test_from_many_threads(self, breaker: CircuitBreaker, caplog: pytest.LogCaptureFixture) -> None:
        mode = Mode(breaker)
        for change in (lambda: mode.degrade("threads"), mode.restore):
            threads = [threading.Thread(target=change) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert (mode.name, breaker.current_state) == ("normal", "closed")
        assert sum(record.name == "netra_chdb.resilience.mode" for record in caplog.records) == 2
