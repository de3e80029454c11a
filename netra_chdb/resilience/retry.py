"""Trying again: when, how often, and how much all callers together may.

A budget of tokens is shared by the process, so that a dead server costs a bounded number of extra attempts however
many callers there are. A retry takes tokens, a success gives one back; without tokens the first failure stands.
The scheme is that of the AWS SDKs' retry quota.
"""

from __future__ import annotations

import functools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import tenacity

from netra_chdb.errors import Advice, ConfigError, Statement, advise

__all__ = ["RetryBudget", "RetryPolicy", "process_budget"]

T = TypeVar("T")

_AGAIN: Final = (Advice.RETRY, Advice.RETRY_LATER, Advice.RETRY_ONCE)
# A sleeping retry looks up this often, in seconds, whether the breaker has opened meanwhile.
_SLICE: Final = 0.25


class RetryBudget:
    """Tokens for retries, shared by everyone who is given this budget.

    Args:
        tokens: how many there are at most, and at first.
        retry_cost: what a retry takes.
        timeout_cost: what a retry after a time-out takes: it has cost the server more.
        success_refund: what a success gives back.
    """

    def __init__(
        self, tokens: int = 500, *, retry_cost: int = 5, timeout_cost: int = 10, success_refund: int = 1
    ) -> None:
        if min(tokens, success_refund) < 0 or min(retry_cost, timeout_cost) < 1:
            raise ConfigError("retry budget: tokens and the refund start at 0, costs at 1")
        self.capacity = tokens
        self._tokens = tokens
        self._retry_cost, self._timeout_cost, self._refund = retry_cost, timeout_cost, success_refund
        self._lock = threading.Lock()
        self._refused = 0

    @property
    def tokens(self) -> int:
        """How many tokens are left."""
        return self._tokens

    @property
    def refused(self) -> int:
        """How many retries there were no tokens for."""
        return self._refused

    def take(self, error: BaseException) -> bool:
        """Take the tokens for a retry after ``error``; False when they are not there."""
        cost = self._timeout_cost if _is_timeout(error) else self._retry_cost
        with self._lock:
            if self._tokens < cost:
                self._refused += 1
                return False
            self._tokens -= cost
            return True

    def give_back(self) -> None:
        """Count a success."""
        with self._lock:
            self._tokens = min(self.capacity, self._tokens + self._refund)


@functools.cache
def process_budget(tokens: int) -> RetryBudget:
    """Return the budget that everybody in this process shares who asks for as many tokens."""
    return RetryBudget(tokens)


def _is_timeout(error: BaseException) -> bool:
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, TimeoutError):
            return True
        current = getattr(current, "orig", None) or current.__cause__
    return False


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a statement is tried again: exponential delays with full jitter, inside a deadline and a budget.

    Attributes:
        max_attempts: attempts in all, the first one included.
        initial_delay: seconds, the bound of the first delay.
        max_delay: seconds, the bound of every delay; what an overloaded server gets.
        exponential_base: factor from one bound to the next.
        jitter: whether a delay is random between 0 and its bound (full jitter), or the bound itself.
        attempt_timeout: seconds that one attempt to connect may take.
        connect_within: seconds that connecting may take, with all attempts and delays.
        budget: the shared budget.
        clock: monotonic seconds.
        rng: source of the jitter.
    """

    max_attempts: int = 5
    initial_delay: float = 1.0
    max_delay: float = 30.0
    exponential_base: float = 2.0
    jitter: bool = True
    attempt_timeout: float = 15.0
    connect_within: float = 60.0
    budget: RetryBudget = field(default_factory=RetryBudget)
    clock: Callable[[], float] = time.monotonic
    rng: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.exponential_base < 1 or not 0 <= self.initial_delay <= self.max_delay:
            raise ConfigError(
                "retry: max_attempts and exponential_base start at 1, and initial_delay is from 0 to max_delay; "
                f"they are {self.max_attempts}, {self.exponential_base}, {self.initial_delay} and {self.max_delay}"
            )
        if min(self.attempt_timeout, self.connect_within) <= 0:
            raise ConfigError(
                "retry: attempt_timeout and connect_within are seconds, more than 0; "
                f"they are {self.attempt_timeout} and {self.connect_within}"
            )

    def bound(self, attempt: int, advice: Advice) -> float:
        """Return the longest delay, in seconds, after the ``attempt``-th attempt (from 1)."""
        if advice is Advice.RETRY_LATER:
            return self.max_delay
        # Not 2 ** attempt for any attempt: the power of a large one is no float any more.
        doublings = min(attempt - 1, 64)
        return float(min(self.max_delay, self.initial_delay * self.exponential_base**doublings))

    def run(
        self,
        attempt: Callable[[], T],
        *,
        statement: Statement,
        deadline: float | None = None,
        sleep: Callable[[float], Any] = time.sleep,
        before_retry: Callable[[BaseException, float], Any] | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> T:
        """Call ``attempt`` until it succeeds or its error stands.

        Args:
            attempt: makes one attempt.
            statement: what kind of statement it is; ``BATCH`` is never tried again here while its fate is unknown.
            deadline: by ``clock``, when the caller wants its answer or error; a delay never goes beyond it.
            sleep: waits that many seconds; in a greenlet, without blocking the event loop.
            before_retry: told the error and the delay before it is slept.
            stopped: whether to give up, asked before each further attempt and, while one sleeps, several times a
                second.

        Returns:
            What ``attempt`` returned.

        Raises:
            Exception: the last attempt's, as it was raised.
        """
        try:
            result = attempt()
        except Exception as error:
            if advise(error, statement) not in _AGAIN:
                raise
            # Out of the except clause, or this error would be the context of all that follow.
            failure: Exception = error
        else:
            self.budget.give_back()
            return result
        try:
            result = self._run_again(failure, attempt, statement, deadline, sleep, before_retry, stopped or _never)
        finally:
            del failure  # its traceback leads to this frame
        self.budget.give_back()
        return result

    def _run_again(
        self,
        failure: Exception,
        attempt: Callable[[], T],
        statement: Statement,
        deadline: float | None,
        sleep: Callable[[float], Any],
        before_retry: Callable[[BaseException, float], Any] | None,
        stopped: Callable[[], bool],
    ) -> T:
        last = [failure]

        def again() -> T:
            # The first attempt is made already, without the cost of all this; a later one may have become useless.
            if not last[1:]:
                last.append(failure)
                raise failure
            if stopped():
                raise last[-1]
            try:
                return attempt()
            except Exception as error:
                last[-1] = error
                raise

        def wanted(state: tenacity.RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome is not None else None
            if not isinstance(error, Exception):
                return False
            advice = advise(error, statement)
            if advice not in _AGAIN or (advice is Advice.RETRY_ONCE and state.attempt_number > 1):
                return False
            if state.attempt_number >= self.max_attempts or stopped():
                return False
            if deadline is not None and self.clock() >= deadline:
                return False
            return self.budget.take(error)

        def delay(state: tenacity.RetryCallState) -> float:
            bound = self.bound(state.attempt_number, advise(last[-1], statement))
            if deadline is not None:
                bound = min(bound, max(0.0, deadline - self.clock()))
            return self.rng.uniform(0, bound) if self.jitter else bound

        def told(state: tenacity.RetryCallState) -> None:
            if before_retry is not None and state.next_action is not None:
                before_retry(last[-1], state.next_action.sleep)

        def pause(seconds: float) -> None:
            while seconds > _SLICE and not stopped():
                sleep(_SLICE)
                seconds -= _SLICE
            if not stopped():
                sleep(seconds)

        retrying = tenacity.Retrying(
            retry=wanted,
            wait=delay,
            stop=tenacity.stop_never,
            sleep=sleep if stopped is _never else pause,
            before_sleep=told,
            reraise=True,
        )
        try:
            return retrying(again)
        finally:
            last.clear()


def _never() -> bool:
    return False
