"""Any order of calls, outcomes, waits and hands on the switch, against a simple model."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pybreaker
import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from netra_chdb.errors import BreakerOpen
from netra_chdb.resilience.breaker import CircuitBreaker, Permit

FAIL_MAX, CALLS, THRESHOLD, FIRST, FACTOR, LONGEST, LEASE = 3, 2, 3, 30, 2, 100, 50


@dataclass
class Call:
    episode: int
    trial: bool
    started: int
    ended: bool = False


@dataclass
class Model:
    """The breaker as one would explain it: a mode, when it began, and lists of calls."""

    mode: str = "closed"
    held: bool = False
    episode: int = 0
    began: int = 0
    reopened: int | None = None  # openings from half-open since the first opening
    failures: int = 0
    successes: int = 0
    openings: int = 0
    calls: list[Call] = field(default_factory=list)

    def enter(self, mode: str, now: int, *, by_other: bool = False) -> None:
        if mode == "open":
            self.openings += self.mode != "open"
            if self.reopened is None:
                self.reopened = 0
            elif self.mode == "half-open":
                self.reopened += 1
        if mode == "closed":
            self.reopened = None
        if not by_other:
            self.successes = 0
            self.failures = 0 if mode == "closed" else self.failures
        self.mode, self.began = mode, now
        self.episode += 1

    def wait(self, now: int) -> int:
        return max(0, self.began + min(LONGEST, int(FIRST * FACTOR ** (self.reopened or 0))) - now)

    def ask(self, now: int) -> Call | None:
        if self.held or (self.mode == "open" and self.wait(now)):
            return None
        if self.mode == "open":
            self.enter("half-open", now)
        trial = self.mode == "half-open"
        running = [c for c in self.calls if c.episode == self.episode and not c.ended and now < c.started + LEASE]
        if trial and len(running) >= CALLS:
            return None
        self.calls.append(Call(self.episode, trial, now))
        return self.calls[-1]

    def end(self, call: Call, how: str, now: int) -> None:
        if call.ended:
            return
        call.ended = True
        if how == "neither" or call.episode != self.episode or (call.trial and now >= call.started + LEASE):
            return
        if how == "failure":
            self.failures += 1
            if call.trial or self.failures >= FAIL_MAX:
                self.enter("open", now)
        else:
            self.failures = 0
            self.successes += call.trial
            if self.successes >= THRESHOLD:
                self.enter("closed", now)


ENDS: dict[str, tuple[str, Callable[[Permit], None]]] = {
    "success": ("success", Permit.succeed),
    "failure": ("failure", lambda permit: permit.fail(OSError())),
    "excluded": ("neither", lambda permit: permit.fail(KeyError())),
    "cancelled": ("neither", lambda permit: permit.fail(asyncio.CancelledError())),
    "released": ("neither", Permit.release),
}


class BreakerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.model = Model()
        self.asked = 0
        self.storage = pybreaker.CircuitMemoryStorage("closed")
        self.breaker = CircuitBreaker(
            *(FAIL_MAX, FIRST, THRESHOLD, [KeyError], None, self.storage),
            half_open_calls=CALLS,
            permit_lease=LEASE,
            reset_backoff=FACTOR,
            max_reset_timeout=LONGEST,
            jitter=0.0,
            clock=lambda: float(self.now),
        )
        self.pairs: list[tuple[Permit, Call]] = []

    def admit(self) -> tuple[Permit, Call] | None:
        self.asked += 1
        expected = self.model.ask(self.now)
        try:
            permit = self.breaker.admit()
        except BreakerOpen:
            assert expected is None
            return None
        assert expected is not None
        self.pairs.append((permit, expected))
        return self.pairs[-1]

    @rule()
    def start(self) -> None:
        self.admit()

    @rule(how=strategies.sampled_from(sorted(ENDS)), times=strategies.integers(1, 4))
    def whole_call(self, how: str, times: int) -> None:
        for _ in range(times):
            if pair := self.admit():
                self.finish(pair, how)

    @precondition(lambda self: self.pairs)
    @rule(how=strategies.sampled_from(sorted(ENDS)), data=strategies.data())
    def end(self, how: str, data: Any) -> None:
        self.finish(self.pairs[data.draw(strategies.integers(0, len(self.pairs) - 1))], how)

    def finish(self, pair: tuple[Permit, Call], how: str) -> None:
        meaning, act = ENDS[how]
        act(pair[0])
        self.model.end(pair[1], meaning, self.now)

    @rule(seconds=strategies.sampled_from([1, 20, LEASE - 1, LEASE, FIRST, 2 * FIRST, LONGEST]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(mode=strategies.sampled_from(["closed", "open", "half-open"]))
    def by_hand(self, mode: str) -> None:
        {"closed": self.breaker.close, "open": self.breaker.open, "half-open": self.breaker.half_open}[mode]()
        if not self.model.held:
            self.model.enter(mode, self.now)

    @rule(mode=strategies.sampled_from(["closed", "open", "half-open"]))
    def by_another_process(self, mode: str) -> None:
        self.storage.state = mode
        if not self.model.held and mode != self.model.mode:
            self.model.enter(mode, self.now, by_other=True)

    @rule()
    def force_open(self) -> None:
        self.breaker.force_open("held")
        self.model.enter("open", self.now)
        self.model.held = True

    @rule()
    def reset(self) -> None:
        self.breaker.reset()
        self.model.enter("closed", self.now)
        self.model.held = False

    @invariant()
    def agrees(self) -> None:
        model, snapshot = self.model, self.breaker.snapshot()
        is_open = model.mode == "open"
        assert snapshot.state == self.breaker.current_state == self.breaker.state.name == model.mode
        assert (snapshot.fail_counter, snapshot.success_counter) == (model.failures, model.successes)
        assert snapshot.opened_since == (self.now - model.began if is_open else None)
        assert snapshot.retry_after == (model.wait(self.now) if is_open and not model.held else None)
        assert (snapshot.forced is not None) == model.held
        assert (snapshot.times_opened, snapshot.generation) == (model.openings, model.episode)
        assert (snapshot.admitted, snapshot.refused) == (len(model.calls), self.asked - len(model.calls))
        assert len(self.breaker.history) == min(100, model.episode)
        assert math.isfinite(snapshot.retry_after or 0)


@pytest.mark.parametrize("schedules", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_the_breaker_does_what_the_model_says(schedules: int) -> None:
    run_state_machine_as_test(
        BreakerMachine, settings=settings(max_examples=schedules, stateful_step_count=40, deadline=None)
    )
