"""Changing the breaker's state by hand, and what it tells of itself."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest

from netra_chdb.errors import BreakerOpen, ConfigError
from netra_chdb.resilience.breaker import CircuitBreaker, Snapshot
from tests.resilience.breakers import Clock, Refused, admitted, build, fail_once


def test_forced_open_stays_until_reset(clock: Clock, breaker: CircuitBreaker, caplog: pytest.LogCaptureFixture) -> None:
    running = breaker.admit()
    breaker.force_open("maintenance")
    clock.advance(1e6)
    with pytest.raises(BreakerOpen, match=r"held open until reset\(\): maintenance"):
        breaker.admit()
    running.succeed()
    for change in (breaker.close, breaker.half_open, breaker.open):
        change()
    breaker.state = "closed"
    breaker._state_storage.state = "half-open"  # another process
    assert (breaker.current_state, breaker.state.name) == ("open", "open")
    assert caplog.text.count("held open until reset()") >= 4
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.forced, snapshot.retry_after) == ("open", "maintenance", None)
    assert snapshot.opened_since == 1e6
    breaker.reset()
    assert (breaker.current_state, breaker.snapshot().forced, breaker.call(len, "")) == ("closed", None, 0)
    assert [item.cause for item in breaker.history] == ["force_open(): maintenance", "reset()"]


def test_reset_starts_as_if_new(clock: Clock) -> None:
    breaker = build(clock, fail_max=1)
    for _ in range(4):
        fail_once(breaker)
        clock.advance(300.0)
    running = breaker.admit()
    breaker.reset()
    running.fail(Refused())
    snapshot = breaker.snapshot()
    assert (snapshot.state, snapshot.fail_counter, snapshot.last_failure) == ("closed", 0, None)
    fail_once(breaker)
    assert breaker.snapshot().retry_after == 30.0


def test_closing_by_hand_clears_the_counters(clock: Clock, breaker: CircuitBreaker) -> None:
    for _ in range(4):
        fail_once(breaker)
    breaker.half_open()
    breaker.admit().succeed()
    breaker.half_open()
    assert breaker.success_counter == 0
    breaker.admit().succeed()
    breaker.close()
    assert (breaker.fail_counter, breaker.success_counter) == (0, 0)


def test_an_unknown_state_changes_nothing(breaker: CircuitBreaker) -> None:
    with pytest.raises(ValueError, match="Unknown state 'ajar'"):
        breaker.state = "ajar"
    assert (breaker.current_state, len(breaker.history), breaker.snapshot().generation) == ("closed", 0, 0)


def test_every_change_is_an_event_with_its_cause(clock: Clock) -> None:
    breaker = build(clock, fail_max=2)
    before = datetime.now(UTC)
    fail_once(breaker)
    fail_once(breaker)
    clock.advance(31.0)
    fail_once(breaker)
    clock.advance(60.0)
    for _ in range(3):
        breaker.call(len, "")
    breaker.open()
    breaker.half_open()
    breaker.close()
    breaker.state = "open"
    breaker.reset()
    history = breaker.history
    assert [(item.old, item.new, item.cause) for item in history] == [
        ("closed", "open", "2 failures in a row, the last: Refused"),
        ("open", "half-open", "open for 31.0 s"),
        ("half-open", "open", "a trial call failed: Refused"),
        ("open", "half-open", "open for 60.0 s"),
        ("half-open", "closed", "3 trial calls succeeded"),
        ("closed", "open", "open()"),
        ("open", "half-open", "half_open()"),
        ("half-open", "closed", "close()"),
        ("closed", "open", "assigned"),
        ("open", "closed", "reset()"),
    ]
    assert [item.generation for item in history] == list(range(1, 11))
    assert all(item.at.tzinfo is UTC and before <= item.at <= datetime.now(UTC) for item in history)
    with pytest.raises(dataclasses.FrozenInstanceError):
        history[0].cause = ""  # type: ignore[misc]


def test_history_is_bounded_and_a_copy(breaker: CircuitBreaker) -> None:
    for _ in range(60):
        breaker.open()
        breaker.close()
    assert (len(breaker.history), breaker.history.maxlen) == (100, 100)
    breaker.history.clear()
    assert breaker.history[-1].generation == 120


def test_snapshot_tells_all(clock: Clock) -> None:
    breaker = build(clock, fail_max=1)
    breaker.call(len, "")
    assert breaker.snapshot() == Snapshot(
        state="closed",
        fail_counter=0,
        success_counter=0,
        opened_since=None,
        retry_after=None,
        forced=None,
        last_failure=None,
        times_opened=0,
        admitted=1,
        refused=0,
        generation=0,
    )
    fail_once(breaker)
    clock.advance(10.0)
    admitted(breaker, 2)
    assert breaker.snapshot() == Snapshot(
        state="open",
        fail_counter=1,
        success_counter=0,
        opened_since=10.0,
        retry_after=20.0,
        forced=None,
        last_failure="Refused",
        times_opened=1,
        admitted=2,
        refused=2,
        generation=1,
    )


@pytest.mark.parametrize(
    "option",
    [
        {"fail_max": 0},
        {"success_threshold": 0},
        {"half_open_calls": 0},
        {"reset_backoff": 0.5},
        {"reset_timeout": -1.0},
        {"max_reset_timeout": -1.0},
        {"permit_lease": 0.0},
        {"jitter": -0.1},
        {"jitter": 1.0},
    ],
    ids=repr,
)
def test_settings_out_of_range_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        CircuitBreaker(**option)


def test_the_defaults_are_usable() -> None:
    breaker = CircuitBreaker()
    breaker.open()
    assert (breaker.snapshot().retry_after or 99.0) <= 36.0
    with pytest.raises(BreakerOpen, match=r"breaker \(unnamed\) is open"):
        breaker.admit()
