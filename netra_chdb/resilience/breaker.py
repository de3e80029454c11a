"""The circuit breaker: pybreaker's, corrected by subclassing.

A call has three steps, and only the first and the last hold the lock::

    permit = breaker.admit()  # raises BreakerOpen
    ...  # the call itself
    permit.succeed()  # or permit.fail(error), or permit.release(): neither

``call``, ``calling``, ``call_async`` and the decorator are these steps. Every change of state starts a new
*generation*; the outcome of a call that was admitted in an earlier one is ignored.

Limits: half-open calls are counted per process, unless the storage is a ``PermitStorage``. ``force_open()`` holds
this process; others that share the storage see it open, and half-open it in their own time. A shared storage is
asked under the lock: it needs a short time-out of its own.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import inspect
import logging
import random
import threading
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar, cast, overload

import pybreaker
from pybreaker import STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN

from netra_chdb.errors import BreakerOpen, ConfigError
from netra_chdb.resilience.permit import UNFINISHED, LocalPermits, Permit, PermitStorage, Snapshot, Transition

__all__ = ["CircuitBreaker", "Permit", "PermitStorage", "Snapshot", "Transition"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
_log = logging.getLogger(__name__)


class CircuitBreaker(pybreaker.CircuitBreaker):
    """A ``pybreaker.CircuitBreaker`` for threads and asyncio tasks alike.

    Listeners are pybreaker's; one with a method ``transition(breaker, transition)`` gets that too. They run outside
    the lock, after the storage has changed, transitions one at a time in order. What they raise is logged.

    Args (besides pybreaker's; ``reset_timeout`` is the first open time, ``exclude`` is neither success nor failure):
        half_open_calls: calls let through at once when half-open.
        permit_lease: seconds after which a half-open call loses its place and its outcome is ignored. Not a failure:
            the cause may as well be a slow reader. The default is more than a statement takes with all its retries.
        reset_backoff: factor of the open time at each opening from half-open.
        max_reset_timeout: bound of the open time, jitter included; never below ``reset_timeout``.
        jitter: share of the open time that is random, both ways, so that processes do not try all at once.
        clock: monotonic seconds.
        rng: source of the jitter.
    """

    def __init__(
        self,
        fail_max: int = 5,
        reset_timeout: float = 30.0,
        success_threshold: int = 3,
        exclude: Iterable[type[BaseException] | Callable[[Any], bool]] | None = None,
        listeners: Sequence[pybreaker.CircuitBreakerListener] | None = None,
        state_storage: pybreaker.CircuitBreakerStorage | None = None,
        name: str | None = None,
        *,
        half_open_calls: int = 3,
        permit_lease: float = 120.0,
        reset_backoff: float = 2.0,
        max_reset_timeout: float = 300.0,
        jitter: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        at_least_1 = min(fail_max, success_threshold, half_open_calls, reset_backoff) >= 1
        if not (at_least_1 and min(reset_timeout, max_reset_timeout) >= 0 < permit_lease and 0 <= jitter < 1):
            raise ConfigError("breaker: counts and reset_backoff start at 1, times at 0; jitter is from 0 to below 1")
        self._forced: str | None = None
        self._refusal = BreakerOpen
        super().__init__(fail_max, reset_timeout, success_threshold, exclude, listeners, state_storage, name, False)
        self._half_open_calls, self._permit_lease = half_open_calls, permit_lease
        self._backoff, self._longest, self._jitter = reset_backoff, max_reset_timeout, jitter
        self._clock, self._random = clock, rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._local_permits = LocalPermits(clock)
        shared = self._state_storage if isinstance(self._state_storage, PermitStorage) else None
        self._permits: PermitStorage = shared or self._local_permits
        self._returned: deque[str] = deque()
        self._history: deque[Transition] = deque(maxlen=100)
        self._unannounced: deque[tuple[Any, Any, Transition]] = deque()
        self._announcing = threading.Lock()
        self._last_failure: str | None = None
        self._generation = self._times_opened = self._admitted = self._refused = 0
        self._open_time = self._opened = self._open_until = 0.0  # _open_time: without jitter, 0 after it was closed
        if self._state.name == STATE_OPEN:
            self._start_open_time(STATE_CLOSED)

    def admit(self) -> Permit:
        """Return the permit for one call, or raise ``BreakerOpen``; whoever gets it ends it."""
        return self._admit(self.admit, (), {})

    def _admit(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Permit:
        with self._lock:
            permit = self._decide()
            self._admitted += isinstance(permit, Permit)
            self._refused += isinstance(permit, str)
        if isinstance(permit, str):
            self._announce()
            refusal = self._refusal if self._forced is not None else BreakerOpen
            raise refusal(f"breaker {self.name or '(unnamed)'} {permit}; last failure: {self._last_failure}")
        if not (self._unannounced or self._listeners):
            return permit
        try:
            self._announce()
            self._tell("before_call", func, *args, **kwargs)
        except BaseException:  # a listener was interrupted
            permit.release()
            raise
        return permit

    def _decide(self) -> Permit | str:
        """Return a permit, or why there is none; the lock is held."""
        state = self._follow()
        if state == STATE_CLOSED:
            return Permit(self, self._generation)
        if self._forced is not None:
            return f"is held open until reset(): {self._forced}"
        now = self._clock()
        if state == STATE_OPEN:
            if now < self._open_until:
                return f"is open, half-open in {self._open_until - now:.1f} s"
            self._move(STATE_HALF_OPEN, f"open for {now - self._opened:.1f} s")
        self._take_back()
        token = self._permits.acquire_permit(self._half_open_calls, self._permit_lease)
        if token is None:
            return f"is half-open, its {self._half_open_calls} trial calls are running"
        return Permit(self, self._generation, token, now + self._permit_lease)

    def _take_back(self) -> None:
        while self._returned:
            self._permits.release_permit(self._returned.popleft())

    def _settle(self, permit: Permit, failure: BaseException | None) -> None:
        if permit._token is not None:
            self._returned.append(permit._token)
        with self._lock:
            self._take_back()
            state = self._follow()
            in_time = permit._token is None or self._clock() < permit._expires
            counts = in_time and permit._generation == self._generation
            if counts:
                self._count(state, failure)
        if counts and self._listeners:
            self._tell("success") if failure is None else self._tell("failure", failure)
        self._announce()

    def _count(self, state: str, failure: BaseException | None) -> None:
        storage = self._state_storage
        if failure is None:
            storage.reset_counter()
            if state == STATE_HALF_OPEN:
                storage.increment_success_counter()
                if (count := storage.success_counter) >= self.success_threshold:
                    self._move(STATE_CLOSED, f"{count} trial calls succeeded")
        else:
            self._last_failure = type(failure).__name__  # never the text: it may hold a password
            storage.increment_counter()
            if state == STATE_HALF_OPEN:
                self._move(STATE_OPEN, f"a trial call failed: {self._last_failure}")
            elif (count := storage.counter) >= self.fail_max:
                self._move(STATE_OPEN, f"{count} failures in a row, the last: {self._last_failure}")

    def is_system_error(self, exception: BaseException) -> bool:
        """Say whether ``exception`` counts: not when excluded, cancelled, or refused by a breaker further in."""
        no_news = (pybreaker.CircuitBreakerError, concurrent.futures.CancelledError)
        if not isinstance(exception, Exception) or isinstance(exception, no_news):
            return False  # not an Exception: it ends the process, the task or the greenlet
        for exclusion in self.excluded_exceptions:
            if isinstance(exclusion, type):  # pybreaker takes a class with a metaclass for a predicate
                if isinstance(exception, exclusion):
                    return False
            elif self._guarded(exclusion, exception):
                return False
        return True

    # "func" is positional only in both, so that the function may have a parameter of that name.
    def call(self, func: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:  # type: ignore[override]
        """Return ``func(*args, **kwargs)``; a generator or coroutine that it returns is guarded to its end."""
        permit = self._admit(func, args, kwargs)
        try:
            result = func(*args, **kwargs)
        except BaseException as error:
            permit.fail(error)
            raise
        guard = UNFINISHED.get(type(result))
        if guard is not None:
            return cast(T, guard(permit, result))
        permit.succeed()
        return result

    @contextlib.contextmanager
    def calling(self) -> Iterator[Permit]:
        """Guard a ``with`` block, which may end the permit itself."""
        with self._admit(self.calling, (), {}) as permit:
            yield permit

    async def call_async(  # type: ignore[override]
        self, func: Callable[..., Awaitable[T]], /, *args: Any, **kwargs: Any
    ) -> T:
        """Return ``await func(*args, **kwargs)``."""
        with self._admit(func, args, kwargs):
            return await func(*args, **kwargs)

    @overload  # type: ignore[override]
    def __call__(self, func: F, /) -> F: ...
    @overload
    def __call__(self, /, **options: bool) -> Callable[[F], F]: ...
    def __call__(self, /, *functions: Any, **options: bool) -> Any:
        """Decorate a function of any kind: ``@breaker`` or ``@breaker()``."""
        if not functions:
            return functools.partial(self, **options)
        (func,) = functions

        @functools.wraps(func)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return self.call(func, *args, **kwargs)

        @functools.wraps(func)
        async def guarded_async(*args: Any, **kwargs: Any) -> Any:
            return await self.call_async(func, *args, **kwargs)

        is_async = options.get("__pybreaker_call_async", False) or inspect.iscoroutinefunction(func)
        return guarded_async if is_async else guarded

    @property
    def current_state(self) -> str:
        """The state's name; takes no lock."""
        return self._state_storage.state if self._forced is None else STATE_OPEN

    @property
    def state(self) -> pybreaker.CBStateType:
        """The state object, after a look at the storage; assign a name to change the state."""
        with self._lock:
            self._follow()
            state = self._state
        self._announce()
        return state

    @state.setter
    def state(self, state_str: str) -> None:
        self._change(state_str, "assigned")

    def open(self) -> bool:
        """Open it for one open time; returns False: the error of the call is what its caller gets."""
        self._change(STATE_OPEN, "open()")
        return False

    def half_open(self) -> None:
        """Let trial calls through."""
        self._change(STATE_HALF_OPEN, "half_open()")

    def close(self) -> None:
        """Let all calls through; never waits for a running one."""
        self._change(STATE_CLOSED, "close()")

    def force_open(self, reason: str, error: type[BreakerOpen] = BreakerOpen) -> None:
        """Hold it open until ``reset()``, refusing calls with ``error``; other changes of state only log that."""
        with self._lock:
            self._move(STATE_OPEN, f"force_open(): {reason}")
            self._forced, self._refusal = reason, error
        self._announce()

    def reset(self) -> None:
        """Close it as if new, also when it is held open."""
        with self._lock:
            self._move(STATE_CLOSED, "reset()")
            self._forced = self._last_failure = None
        self._announce()

    def _change(self, new: str, cause: str) -> None:
        with self._lock:
            held = self._forced is not None
            if not held:
                self._follow()
                self._move(new, cause)
        if held:
            _log.warning("breaker %s: no %s, it is held open until reset()", self.name, cause)
        self._announce()

    def _follow(self) -> str:
        """Go where another process has taken a shared storage, and say where that is; the lock is held."""
        if self._forced is None and (stored := self._state_storage.state) != self._state.name:
            self._move(stored, "seen in the storage", publish=False)
        return self._state.name

    def _move(self, new: str, cause: str, *, publish: bool = True) -> None:
        """Change the state: every change comes through here; the lock is held.

        Args:
            publish: False when the storage is there already. Its counters are then left alone: who moved it has
                reset them, and may have counted since.
        """
        old = self._state
        state = self._create_new_state(new)  # without "notify", which calls listeners first, and under the lock
        if publish:
            storage = self._state_storage
            storage.reset_success_counter()
            if new == STATE_CLOSED:
                storage.reset_counter()
            elif new == STATE_OPEN:
                storage.opened_at = datetime.now(UTC)  # for other processes; this one goes by its monotonic clock
            storage.state = new
        self._state = state
        self._generation += 1
        self._local_permits.forget()
        if new == STATE_OPEN:
            self._times_opened += old.name != STATE_OPEN
            self._start_open_time(old.name)
        elif new == STATE_CLOSED:
            self._open_time = 0.0
        transition = Transition(old.name, new, cause, datetime.now(UTC), self._generation)
        self._history.append(transition)
        self._unannounced.append((old, state, transition))

    def _start_open_time(self, old: str) -> None:
        if not self._open_time:
            self._open_time = self.reset_timeout
        elif old == STATE_HALF_OPEN:
            self._open_time *= self._backoff
        # The bound comes before the jitter: the longest open times, too, should differ between processes.
        longest = max(self._longest, self.reset_timeout) / (1 + self._jitter)
        spread = self._random.uniform(1 - self._jitter, 1 + self._jitter)
        self._opened = self._clock()
        self._open_until = self._opened + min(self._open_time, longest) * spread

    def _announce(self) -> None:
        """Tell the listeners of changes of state; the lock is not held.

        One thread at a time, so that they hear of them in order; one that finds another at it leaves it the work.
        """
        while self._unannounced and self._announcing.acquire(blocking=False):
            try:
                while self._unannounced:
                    old, new, event = self._unannounced.popleft()
                    level = logging.WARNING if event.new == STATE_OPEN else logging.INFO
                    _log.log(level, "breaker %s: %s to %s: %s", self.name, event.old, event.new, event.cause)
                    self._tell("state_change", old, new)
                    self._tell("transition", event)
            finally:
                self._announcing.release()

    def _tell(self, event: str, /, *args: Any, **kwargs: Any) -> None:
        for listener in self.listeners:
            hook = getattr(listener, event, None)
            if hook is not None:
                self._guarded(hook, self, *args, **kwargs)

    def _guarded(self, hook: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        try:
            return hook(*args, **kwargs)
        except Exception as error:
            # Its class and where, not its text, which may quote the failed statement.
            where = traceback.extract_tb(error.__traceback__)[-1]
            raised = f"{type(error).__name__} in {where.filename}:{where.lineno}"
            _log.warning("breaker %s: a listener or exclusion raised %s", self.name, raised)
            return None

    @property
    def history(self) -> deque[Transition]:
        """The last 100 changes of state, oldest first: a copy."""
        with self._lock:
            return self._history.copy()

    def snapshot(self) -> Snapshot:
        """Return state, counters and times, all of one moment."""
        with self._lock:
            state, now = self._follow(), self._clock()
            waits = state == STATE_OPEN and self._forced is None
            snapshot = Snapshot(
                state=state,
                fail_counter=self.fail_counter,
                success_counter=self.success_counter,
                opened_since=now - self._opened if state == STATE_OPEN else None,
                retry_after=max(0.0, self._open_until - now) if waits else None,
                forced=self._forced,
                last_failure=self._last_failure,
                times_opened=self._times_opened,
                admitted=self._admitted,
                refused=self._refused,
                generation=self._generation,
            )
        self._announce()
        return snapshot
