"""Who listens to the breaker, and who shares its storage."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pybreaker
import pytest

from netra_chdb.resilience.breaker import CircuitBreaker, PermitStorage, Transition
from tests.resilience.breakers import BadQuery, Clock, Refused, admitted, build, fail_once, raise_refused

# Listeners


class Recorder(pybreaker.CircuitBreakerListener):
    """Writes down what it hears and the state it sees meanwhile."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.transitions: list[Transition] = []

    def before_call(self, cb: pybreaker.CircuitBreaker, func: Any, *args: Any, **kwargs: Any) -> None:
        self.heard.append(("before_call", func.__name__, args, kwargs))

    def success(self, cb: pybreaker.CircuitBreaker) -> None:
        self.heard.append(("success",))

    def failure(self, cb: pybreaker.CircuitBreaker, exc: BaseException) -> None:
        self.heard.append(("failure", exc))

    def state_change(self, cb: pybreaker.CircuitBreaker, old_state: Any, new_state: Any) -> None:
        self.heard.append(("state_change", old_state.name, new_state.name, cb.current_state, cb.state.name))

    def transition(self, cb: CircuitBreaker, transition: Transition) -> None:
        self.transitions.append(transition)


def test_listeners_hear_calls_outcomes_and_changes(clock: Clock) -> None:
    recorder = Recorder()
    breaker = build(clock, fail_max=1, success_threshold=1, listeners=[recorder, pybreaker.CircuitBreakerListener()])
    error = Refused()
    breaker.call(max, 1, 2, key=abs)
    with pytest.raises(Refused), breaker.calling():
        raise error
    clock.advance(30.0)
    stale = breaker.admit()
    breaker.admit().succeed()
    stale.succeed()
    with pytest.raises(BadQuery), breaker.calling():
        raise BadQuery
    assert recorder.heard == [
        ("before_call", "max", (1, 2), {"key": abs}),
        ("success",),
        ("before_call", "calling", (), {}),
        ("failure", error),
        ("state_change", "closed", "open", "open", "open"),
        ("state_change", "open", "half-open", "half-open", "half-open"),
        ("before_call", "admit", (), {}),
        ("before_call", "admit", (), {}),
        ("success",),
        ("state_change", "half-open", "closed", "closed", "closed"),
        ("before_call", "calling", (), {}),
    ]
    assert recorder.transitions == list(breaker.history)


def test_a_listener_that_raises_stops_nothing(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return raise_refused

    recorder = Recorder()
    breaker = build(clock, fail_max=1, success_threshold=1, listeners=[Broken(), recorder])
    with caplog.at_level(logging.INFO):
        assert breaker.call(len, "abc") == 3
        fail_once(breaker)
        clock.advance(30.0)
        assert breaker.call(len, "abc") == 3
    assert [item.new for item in recorder.transitions] == ["open", "half-open", "closed"]
    assert "a listener or exclusion raised Refused in" in caplog.text
    assert "secret" not in caplog.text
    assert "breaker test: closed to open: 1 failures in a row, the last: Refused" in caplog.text


def test_an_interrupted_listener_costs_no_place_and_no_change(clock: Clock) -> None:
    class Interrupted(Recorder):
        def state_change(self, cb: object, old_state: object, new_state: object) -> None:
            raise KeyboardInterrupt

    listener = Interrupted()
    recorder = Recorder()
    breaker = build(clock, listeners=[listener, recorder])
    with pytest.raises(KeyboardInterrupt):
        breaker.open()
    clock.advance(30.0)
    with pytest.raises(KeyboardInterrupt):
        breaker.admit()
    assert breaker.current_state == "half-open"
    breaker.remove_listener(listener)
    assert len(admitted(breaker, 16)) == 3
    breaker.close()
    assert [item.new for item in recorder.transitions] == ["closed"]


def test_a_listener_may_ask_and_change_the_breaker_from_any_thread(clock: Clock) -> None:
    seen: list[Any] = []

    class Curious(pybreaker.CircuitBreakerListener):
        def state_change(self, cb: Any, old_state: object, new_state: Any) -> None:
            def ask() -> None:
                seen.append((cb.current_state, cb.state.name, cb.snapshot().state))

            ask()
            thread = threading.Thread(target=ask, daemon=True)
            thread.start()
            thread.join(10)
            assert not thread.is_alive()
            if new_state.name == "open":
                cb.half_open()

    recorder = Recorder()
    breaker = build(clock, listeners=[Curious(), recorder])
    breaker.open()
    assert seen == [("open",) * 3] * 2 + [("half-open",) * 3] * 2
    assert [item.new for item in recorder.transitions] == ["open", "half-open"]


def test_a_slow_listener_holds_up_no_other_thread(clock: Clock) -> None:
    entered, leave = threading.Event(), threading.Event()

    class Slow(pybreaker.CircuitBreakerListener):
        def state_change(self, cb: object, old_state: object, new_state: Any) -> None:
            entered.set()
            assert leave.wait(20)

    recorder = Recorder()
    breaker = build(clock, listeners=[Slow(), recorder])
    opener = threading.Thread(target=breaker.open)
    opener.start()
    assert entered.wait(20)
    breaker.close()
    assert breaker.call(len, "abc") == 3
    assert not recorder.transitions
    leave.set()
    opener.join()
    assert [item.new for item in recorder.transitions] == ["open", "closed"], "told later, in order, by the other one"


# Storages


class Shared(pybreaker.CircuitMemoryStorage):
    """A storage of several breakers, as Redis is of several processes."""

    def __init__(self) -> None:
        super().__init__("closed")


class SharedWithPermits(Shared):
    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.issued = 0
        super().__init__()

    @property
    def state(self) -> str:
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        self.tokens.clear()
        self._state = state

    def acquire_permit(self, limit: int, lease: float) -> str | None:
        if len(self.tokens) >= limit:
            return None
        self.issued += 1
        self.tokens.append(str(self.issued))
        return self.tokens[-1]

    def release_permit(self, token: str) -> None:
        if token in self.tokens:
            self.tokens.remove(token)


def test_breakers_of_one_storage_follow_each_other(clock: Clock) -> None:
    storage, recorder = Shared(), Recorder()
    here = build(clock, fail_max=2, state_storage=storage)
    there = build(clock, fail_max=2, state_storage=storage, listeners=[recorder])
    running = there.admit()
    fail_once(here)
    fail_once(there)
    assert (here.current_state, there.snapshot().fail_counter) == ("open", 2)
    clock.advance(10.0)
    running.succeed()
    assert not admitted(here, 1)
    assert here.history[-1] == dataclasses.replace(
        here.history[-1], old="closed", new="open", cause="seen in the storage", generation=1
    )
    clock.advance(20.0)
    assert not admitted(here, 1), "its open time is measured from when it was first seen here"
    clock.advance(10.0)
    assert len(admitted(here, 16)) == 3
    here.half_open()
    here.admit().succeed()
    assert (there.state.name, there.success_counter) == ("half-open", 1)
    there.close()
    assert here.snapshot().state == "closed"
    assert [item.new for item in recorder.transitions] == ["open", "half-open", "closed"]


def test_what_another_process_changed_makes_results_here_stale(clock: Clock) -> None:
    storage = Shared()
    here = build(clock, state_storage=storage)
    running = here.admit()
    storage.state = "half-open"
    running.fail(Refused())
    assert (storage.state, storage.counter) == ("half-open", 0)


@pytest.mark.parametrize(
    "look",
    [lambda breaker: admitted(breaker, 1), lambda breaker: breaker.state, lambda breaker: breaker.snapshot()],
    ids=["admit", "state", "snapshot"],
)
@pytest.mark.parametrize("state", ["open", "half-open"])
def test_whoever_notices_a_change_tells_it(clock: Clock, state: str, look: Callable[[CircuitBreaker], object]) -> None:
    storage, recorder = Shared(), Recorder()
    breaker = build(clock, state_storage=storage, listeners=[recorder])
    storage.state = state
    look(breaker)
    assert [item.new for item in recorder.transitions] == [state]


def test_opening_by_hand_follows_the_storage_first(clock: Clock) -> None:
    storage = Shared()
    here = build(clock, state_storage=storage)
    storage.state = "half-open"
    here.open()
    assert [(item.old, item.new) for item in here.history] == [("closed", "half-open"), ("half-open", "open")]


def test_opened_at_is_written_for_other_processes(clock: Clock, breaker: CircuitBreaker) -> None:
    before = datetime.now(UTC)
    breaker.open()
    opened_at = breaker._state_storage.opened_at
    assert opened_at is not None
    assert before <= opened_at <= datetime.now(UTC)


def test_a_storage_found_open_is_waited_for(clock: Clock) -> None:
    storage = Shared()
    storage.state = "open"
    breaker = build(clock, state_storage=storage)
    assert breaker.snapshot().retry_after == 30.0
    clock.advance(30.0)
    assert len(admitted(breaker, 16)) == 3


def test_without_permits_in_the_storage_each_process_counts_its_own(clock: Clock) -> None:
    storage = Shared()
    assert not isinstance(storage, PermitStorage)
    breakers = [build(clock, state_storage=storage) for _ in range(2)]
    breakers[0].half_open()
    assert [len(admitted(breaker, 16)) for breaker in breakers] == [3, 3]


def test_permits_in_the_storage_are_counted_over_all_processes(clock: Clock) -> None:
    storage = SharedWithPermits()
    here, there = (build(clock, state_storage=storage) for _ in range(2))
    here.half_open()
    first, second = admitted(here, 2)
    (third,) = admitted(there, 16)
    assert not admitted(here, 1)
    assert len(storage.tokens) == 3
    third.succeed()
    assert len(storage.tokens) == 2
    second.release()
    assert len(admitted(here, 1) + admitted(there, 16)) == 2
    first.fail(Refused())
    assert (storage.state, storage.tokens, there.snapshot().state) == ("open", [], "open")
