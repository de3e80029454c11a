"""The breaker's states: when it opens, how long, whom it lets through half-open."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import random
from collections.abc import Callable

import pybreaker
import pytest

from netra_chdb.errors import BreakerOpen, NetraError
from netra_chdb.resilience.breaker import CircuitBreaker, Permit
from tests.resilience.breakers import BadQuery, Clock, Refused, admitted, build, fail_once, raise_refused

# Closed


def test_it_is_a_pybreaker_and_its_refusal_is_both_errors(breaker: CircuitBreaker) -> None:
    assert isinstance(breaker, pybreaker.CircuitBreaker)
    breaker.open()
    with pytest.raises(pybreaker.CircuitBreakerError) as caught:
        breaker.admit()
    assert isinstance(caught.value, NetraError)


def test_it_opens_after_consecutive_failures_and_raises_the_real_error(breaker: CircuitBreaker) -> None:
    for _ in range(4):
        fail_once(breaker)
    assert breaker.call(len, "abc") == 3
    assert breaker.fail_counter == 0
    for _ in range(5):
        assert breaker.current_state == "closed"
        with pytest.raises(Refused):
            breaker.call(raise_refused)
    assert breaker.current_state == "open"
    ran: list[int] = []
    with pytest.raises(BreakerOpen):
        breaker.call(ran.append, 1)
    assert not ran


def test_an_excluded_error_is_neither_success_nor_failure(clock: Clock) -> None:
    breaker = build(clock, exclude=[BadQuery, lambda error: "harmless" in str(error)])
    fail_once(breaker)
    for error in (BadQuery(), ValueError("harmless")):
        with pytest.raises(type(error)), breaker.calling():
            raise error
        assert breaker.fail_counter == 1
    breaker.half_open()
    for _ in range(9):
        with pytest.raises(BadQuery), breaker.calling():
            raise BadQuery
    assert (breaker.current_state, breaker.success_counter) == ("half-open", 0)


def test_exclusions_can_change_later(breaker: CircuitBreaker) -> None:
    breaker.add_excluded_exception(Refused)
    fail_once(breaker)
    assert breaker.fail_counter == 0
    breaker.remove_excluded_exception(Refused)
    fail_once(breaker)
    assert breaker.fail_counter == 1


def test_an_exclusion_that_raises_excludes_nothing(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    breaker = build(clock, exclude=[lambda error: error.no_such_attribute])
    fail_once(breaker)
    assert breaker.fail_counter == 1
    assert "exclusion raised AttributeError in" in caplog.text
    assert "no_such_attribute" not in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError(),
        concurrent.futures.CancelledError(),
        KeyboardInterrupt(),
        SystemExit(),
        GeneratorExit(),
        BreakerOpen("a breaker further in"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("state", ["closed", "half-open"])
def test_no_news_about_the_system_is_neither_success_nor_failure(
    clock: Clock, error: BaseException, state: str
) -> None:
    breaker = build(clock, fail_max=2)
    fail_once(breaker)
    breaker.state = state
    before = breaker.snapshot()

    def work() -> None:
        raise error

    for _ in range(5):
        with pytest.raises(type(error)):
            breaker.call(work)
    assert breaker.snapshot() == dataclasses.replace(before, admitted=before.admitted + 5)


# Open


def test_a_refusal_says_how_long_and_the_class_of_the_last_failure(clock: Clock, breaker: CircuitBreaker) -> None:
    for _ in range(5):
        fail_once(breaker)
    clock.advance(17.5)
    with pytest.raises(BreakerOpen) as caught:
        breaker.admit()
    assert str(caught.value) == "breaker test is open, half-open in 12.5 s; last failure: Refused"


def test_the_open_time_grows_to_its_bound_and_starts_over_after_closing(clock: Clock) -> None:
    breaker = build(clock, fail_max=1, max_reset_timeout=200.0, success_threshold=1)
    for _ in range(2):
        fail_once(breaker)
        for wait in (30.0, 60.0, 120.0, 200.0, 200.0):
            assert breaker.snapshot().retry_after == wait
            clock.advance(wait - 0.5)
            assert not admitted(breaker, 1)
            clock.advance(0.5)
            fail_once(breaker)
        clock.advance(200.0)
        breaker.call(len, "")
        assert breaker.current_state == "closed"


def test_the_open_time_never_overflows(clock: Clock) -> None:
    breaker = build(clock, fail_max=1)
    for _ in range(3000):
        fail_once(breaker)
        clock.advance(300.0)
    assert breaker.snapshot().retry_after == 0.0


@pytest.mark.parametrize(("option", "low", "high"), [(30.0, 24.0, 36.0), (300.0, 200.0, 300.0), (400.0, 266.0, 400.0)])
def test_the_open_time_is_jittered_within_its_bound(clock: Clock, option: float, low: float, high: float) -> None:
    breaker = build(clock, reset_timeout=option, jitter=0.2, rng=random.Random(7))
    waits = []
    for _ in range(200):
        breaker.open()
        waits.append(breaker.snapshot().retry_after or 0.0)
        breaker.close()
    assert low <= min(waits)
    assert max(waits) <= high
    assert max(waits) - min(waits) > (high - low) / 2


def test_opening_again_by_hand_starts_the_same_open_time_anew(clock: Clock, breaker: CircuitBreaker) -> None:
    assert breaker.open() is False
    clock.advance(20.0)
    breaker.open()
    snapshot = breaker.snapshot()
    assert (snapshot.opened_since, snapshot.retry_after, snapshot.times_opened) == (0.0, 30.0, 1)


def test_a_first_opening_from_half_open_uses_the_first_open_time(breaker: CircuitBreaker) -> None:
    breaker.half_open()
    fail_once(breaker)
    assert breaker.snapshot().retry_after == 30.0


# Half-open


def test_half_open_admits_three_at_once_and_three_successes_close(clock: Clock, breaker: CircuitBreaker) -> None:
    breaker.open()
    clock.advance(30.0)
    first, second, third = admitted(breaker, 16)
    with pytest.raises(BreakerOpen, match="half-open, its 3 trial calls are running"):
        breaker.admit()
    first.succeed()
    (fourth,) = admitted(breaker, 16)
    second.succeed()
    assert breaker.current_state == "half-open"
    fourth.succeed()
    assert breaker.current_state == "closed"
    third.fail(Refused())
    assert breaker.fail_counter == 0


def test_one_failure_opens_again_and_late_results_are_ignored(clock: Clock, breaker: CircuitBreaker) -> None:
    stale_closed = breaker.admit()
    breaker.half_open()
    first, second, third = admitted(breaker, 3)
    first.fail(Refused())
    assert breaker.current_state == "open"
    clock.advance(30.0)
    new = admitted(breaker, 16)
    assert len(new) == 3
    for stale in (stale_closed, second):
        stale.succeed()
    third.fail(Refused())
    assert (breaker.current_state, breaker.success_counter) == ("half-open", 0)
    assert not admitted(breaker, 1)
    for permit in new:
        permit.succeed()
    assert breaker.current_state == "closed"


def test_a_released_permit_frees_its_place(breaker: CircuitBreaker) -> None:
    breaker.half_open()
    for permit in admitted(breaker, 3):
        permit.release()
    assert len(admitted(breaker, 16)) == 3
    assert (breaker.success_counter, breaker.current_state) == (0, "half-open")


def test_a_permit_that_outlives_its_lease_loses_its_place_and_its_say(clock: Clock) -> None:
    breaker = build(clock, permit_lease=10.0)
    breaker.half_open()
    hung = admitted(breaker, 3)
    clock.advance(9.5)
    assert not admitted(breaker, 1)
    hung[0].succeed()
    assert breaker.success_counter == 1
    (late,) = admitted(breaker, 16)
    clock.advance(0.5)
    assert len(admitted(breaker, 16)) == 2
    hung[1].fail(Refused())
    hung[2].succeed()
    assert (breaker.current_state, breaker.success_counter) == ("half-open", 1)
    late.succeed()
    assert breaker.success_counter == 2


def test_a_late_result_is_ignored_even_if_nobody_took_the_place(clock: Clock) -> None:
    breaker = build(clock, permit_lease=10.0)
    breaker.half_open()
    permit = breaker.admit()
    clock.advance(10.0)
    permit.fail(Refused())
    assert breaker.current_state == "half-open"


def test_a_closed_call_has_no_lease(clock: Clock) -> None:
    breaker = build(clock, permit_lease=10.0)
    permit = breaker.admit()
    clock.advance(3600.0)
    permit.fail(Refused())
    assert breaker.fail_counter == 1


@pytest.mark.parametrize("second", ["succeed", "fail", "release"])
@pytest.mark.parametrize("first", ["succeed", "fail", "release"])
def test_only_the_first_end_of_a_permit_counts(clock: Clock, first: str, second: str) -> None:
    ends: dict[str, Callable[[Permit], None]] = {
        "succeed": Permit.succeed,
        "fail": lambda permit: permit.fail(Refused()),
        "release": Permit.release,
    }
    breaker = build(clock)
    fail_once(breaker)
    permit = breaker.admit()
    ends[first](permit)
    after = breaker.snapshot()
    ends[second](permit)
    assert breaker.snapshot() == after
    breaker.half_open()
    permit = breaker.admit()
    ends["release"](permit)
    ends[second](permit)
    assert (breaker.current_state, breaker.success_counter) == ("half-open", 0)
