"""Retries: the table decides, the budget and the deadline bound them."""

from __future__ import annotations

import http.client
import random
import socket
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netra_chdb.errors import Advice, ConfigError, Outcome, Statement, advise, classify
from netra_chdb.resilience.retry import RetryBudget, RetryPolicy, process_budget


class Failure(Exception):
    def __init__(self, code: int | None = None) -> None:
        super().__init__(code)
        self.code = code


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def failing(*errors: BaseException, then: Any = "answer") -> Any:
    left = list(errors)
    calls: list[int] = []

    def attempt() -> Any:
        calls.append(1)
        if left:
            raise left.pop(0)
        return then

    attempt.calls = calls  # type: ignore[attr-defined]
    return attempt


# The table as a user reads it, written down a second time by hand: code, read, batch, any other statement.
TABLE = [
    (210, "retry", "settle", "no"),
    (202, "retry", "retry", "retry"),
    (439, "retry", "retry", "retry"),
    (209, "retry", "settle", "no"),
    (279, "retry", "settle", "no"),
    (1001, "retry", "settle", "no"),
    (242, "retry", "settle", "no"),
    (159, "no", "settle", "no"),
    (160, "no", "settle", "no"),
    (252, "later", "settle", "no"),
    (243, "later", "settle", "no"),
    (241, "once", "settle", "no"),
    (394, "no", "settle", "no"),
    (516, "no", "no", "no"),
    (60, "no", "no", "no"),
    (62, "no", "no", "no"),
    (195, "no", "no", "no"),
    (424_242, "no", "settle", "no"),
]
WORDS = {
    Advice.RETRY: "retry",
    Advice.RETRY_LATER: "later",
    Advice.RETRY_ONCE: "once",
    Advice.SETTLE: "settle",
    Advice.NO: "no",
}


@pytest.mark.parametrize(("code", "read", "batch", "other"), TABLE)
def test_the_table(code: int, read: str, batch: str, other: str) -> None:
    found = [WORDS[advise(Failure(code), statement)] for statement in Statement]
    assert found == [read, batch, other]


def test_without_a_code_the_line_decides() -> None:
    assert advise(ConnectionRefusedError(), Statement.OTHER) is Advice.RETRY
    assert advise(socket.gaierror(), Statement.OTHER) is Advice.RETRY
    assert advise(ConnectionResetError(), Statement.OTHER) is Advice.NO
    assert advise(ConnectionResetError(), Statement.READ) is Advice.RETRY
    assert advise(EOFError(), Statement.BATCH) is Advice.SETTLE
    assert advise(http.client.IncompleteRead(b""), Statement.READ) is Advice.RETRY
    assert advise(ValueError(), Statement.READ) is Advice.NO
    assert classify(ImportError()) is Outcome.PERMANENT


def test_a_read_is_repeated_until_it_is_answered() -> None:
    clock = Clock()
    policy = RetryPolicy(jitter=False, clock=clock)
    attempt = failing(Failure(210), Failure(209), Failure(999))
    assert policy.run(attempt, statement=Statement.READ, sleep=clock.sleep) == "answer"
    assert clock.slept == [1.0, 2.0, 4.0]
    # Three retries at 5 tokens, one success.
    assert policy.budget.tokens == 500 - 15 + 1


def test_the_last_error_is_raised_as_it_was() -> None:
    clock = Clock()
    errors = [Failure(210) for _ in range(9)]
    attempt = failing(*errors)
    with pytest.raises(Failure) as caught:
        RetryPolicy(max_attempts=3, clock=clock).run(attempt, statement=Statement.READ, sleep=clock.sleep)
    assert caught.value is errors[2]
    assert len(attempt.calls) == 3


@pytest.mark.parametrize(
    ("code", "statement", "attempts"),
    [(62, "READ", 1), (210, "OTHER", 1), (210, "BATCH", 1), (241, "READ", 2), (202, "OTHER", 5), (None, "READ", 1)],
)
def test_how_often(code: int | None, statement: str, attempts: int) -> None:
    clock = Clock()
    attempt = failing(*[Failure(code) for _ in range(9)])
    with pytest.raises(Failure):
        RetryPolicy(clock=clock).run(attempt, statement=Statement[statement], sleep=clock.sleep)
    assert len(attempt.calls) == attempts


def test_an_overloaded_server_waits_for_the_longest_delay_at_once() -> None:
    clock = Clock()
    policy = RetryPolicy(jitter=False, clock=clock)
    policy.run(failing(Failure(202), Failure(252)), statement=Statement.READ, sleep=clock.sleep)
    assert clock.slept == [1.0, 30.0]


def test_a_delay_never_goes_beyond_the_deadline() -> None:
    clock = Clock()
    attempt = failing(*[Failure(202) for _ in range(9)])
    with pytest.raises(Failure):
        RetryPolicy(jitter=False, clock=clock).run(
            attempt, statement=Statement.READ, sleep=clock.sleep, deadline=clock.now + 4.5
        )
    assert clock.slept == [1.0, 2.0, 1.5]
    assert len(attempt.calls) == 4


def test_a_dead_server_costs_a_bounded_number_of_extra_attempts() -> None:
    """100 threads, 10 calls each: 1,000 first attempts, and retries for 500 tokens at 5 each."""
    budget = RetryBudget(500)
    policy = RetryPolicy(initial_delay=0, max_delay=0, budget=budget)
    attempts = [0] * 100

    def caller(index: int) -> None:
        def attempt() -> None:
            attempts[index] += 1
            raise Failure(210)

        for _ in range(10):
            with pytest.raises(Failure):
                policy.run(attempt, statement=Statement.READ)

    threads = [threading.Thread(target=caller, args=(index,)) for index in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(attempts) == 1000 + 100
    assert budget.tokens == 0
    # A call that had all four of its retries was not refused a fifth: there are 25 of these at most.
    assert 1000 - 25 <= budget.refused < 1000


def test_a_time_out_costs_more() -> None:
    budget = RetryBudget(20)
    outer = Failure(None)
    outer.__cause__ = TimeoutError()
    assert budget.take(outer)
    assert budget.tokens == 10


def test_before_a_retry_the_listener_is_told() -> None:
    clock = Clock()
    told: list[tuple[BaseException, float]] = []
    error = Failure(202)
    RetryPolicy(jitter=False, clock=clock).run(
        failing(error), statement=Statement.READ, sleep=clock.sleep, before_retry=lambda e, s: told.append((e, s))
    )
    assert told == [(error, 1.0)]


def test_the_budget_of_the_process_is_one() -> None:
    assert process_budget(77) is process_budget(77)
    assert process_budget(77).capacity == 77


def test_who_is_stopped_sleeps_no_longer_and_tries_no_more() -> None:
    clock = Clock()
    error = Failure(202)
    attempt = failing(error, Failure(202))
    policy = RetryPolicy(jitter=False, initial_delay=10, clock=clock)
    with pytest.raises(Failure) as caught:
        policy.run(attempt, statement=Statement.READ, sleep=clock.sleep, stopped=lambda: clock.now >= 1003)
    assert caught.value is error
    assert len(attempt.calls) == 1
    assert sum(clock.slept) == 3.0


def test_who_is_stopped_before_takes_nothing_of_the_budget() -> None:
    policy = RetryPolicy()
    with pytest.raises(Failure):
        policy.run(failing(Failure(202)), statement=Statement.READ, stopped=lambda: True)
    assert policy.budget.tokens == 500


def test_what_is_no_exception_is_not_caught() -> None:
    with pytest.raises(KeyboardInterrupt):
        RetryPolicy().run(failing(KeyboardInterrupt()), statement=Statement.READ)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"exponential_base": 0.5},
        {"initial_delay": 50.0},
        {"attempt_timeout": 0.0},
        {"connect_within": -1.0},
    ],
)
def test_a_wrong_policy_says_so(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="retry: "):
        RetryPolicy(**wrong)


def test_a_wrong_budget_says_so() -> None:
    with pytest.raises(ConfigError, match="retry budget"):
        RetryBudget(-1)
    with pytest.raises(ConfigError, match="retry budget"):
        RetryBudget(5, retry_cost=0)


@given(st.integers(1, 10_000), st.floats(0, 5), st.floats(5, 100), st.floats(1, 10), st.integers())
def test_full_jitter_stays_within_its_bound(
    attempt: int, initial: float, longest: float, base: float, seed: int
) -> None:
    policy = RetryPolicy(initial_delay=initial, max_delay=longest, exponential_base=base, rng=random.Random(seed))
    bound = policy.bound(attempt, Advice.RETRY)
    assert min(initial, longest) <= bound <= longest
    assert policy.bound(attempt, Advice.RETRY_LATER) == longest


@given(st.lists(st.booleans(), max_size=300), st.integers(0, 60))
def test_the_budget_is_never_negative_nor_above_its_capacity(successes: list[bool], tokens: int) -> None:
    budget = RetryBudget(tokens)
    expected = tokens
    for success in successes:
        if success:
            budget.give_back()
            expected = min(tokens, expected + 1)
        else:
            assert budget.take(Failure(210)) is (expected >= 5)
            expected -= 5 if expected >= 5 else 0
        assert budget.tokens == expected
