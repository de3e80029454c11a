"""What the breaker hands out: permits for single calls, events for transitions."""

from __future__ import annotations

import contextlib
import itertools
import math
import types
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

if TYPE_CHECKING:
    from netra_chdb.resilience.breaker import CircuitBreaker

__all__ = ["Permit", "PermitStorage", "Snapshot", "Transition"]


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state, also from open to open and the like: these start a generation too."""

    old: str
    new: str
    cause: str
    at: datetime
    generation: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The breaker at one moment.

    Attributes:
        opened_since: seconds since it opened; None when it is not open.
        retry_after: seconds until it lets trial calls through; None when it is not open, or held open.
        forced: the reason given to ``force_open()``; None when it is not held open.
        last_failure: the class of the last failure that counted.
    """

    state: str
    fail_counter: int
    success_counter: int
    opened_since: float | None
    retry_after: float | None
    forced: str | None
    last_failure: str | None
    times_opened: int
    admitted: int
    refused: int
    generation: int


@runtime_checkable
class PermitStorage(Protocol):
    """What a pybreaker storage offers besides to count half-open calls over all processes.

    It forgets its permits when its state changes, so that each half-open period starts with all of them. When it
    cannot be reached it lends nothing, rather than raise.
    """

    def acquire_permit(self, limit: int, lease: float) -> str | None:
        """Return a token, or None if ``limit`` permits younger than ``lease`` seconds are out."""

    def release_permit(self, token: str) -> None:
        """Take a permit back; unknown tokens are ignored."""


class LocalPermits:
    """The half-open permits of one process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._expiry: dict[str, float] = {}
        self._tokens = map(str, itertools.count())

    def acquire_permit(self, limit: int, lease: float) -> str | None:
        """Return a token, or None if ``limit`` permits younger than ``lease`` seconds are out."""
        now = self._clock()
        self._expiry = {token: expiry for token, expiry in self._expiry.items() if now < expiry}
        if len(self._expiry) >= limit:
            return None
        token = next(self._tokens)
        self._expiry[token] = now + lease
        return token

    def release_permit(self, token: str) -> None:
        """Take a permit back; unknown tokens are ignored."""
        self._expiry.pop(token, None)

    def forget(self) -> None:
        """Take all of them back."""
        self._expiry.clear()


class Permit:
    """Leave to make one call. The first of ``succeed``, ``fail`` and ``release`` ends it; later ones do nothing."""

    __slots__ = ("_breaker", "_expires", "_generation", "_token", "_unused")

    def __init__(
        self, breaker: CircuitBreaker, generation: int, token: str | None = None, expires: float = math.inf
    ) -> None:
        self._breaker = breaker
        self._generation = generation
        self._token = token
        self._expires = expires
        self._unused = {"unused": True}

    def succeed(self) -> None:
        """The call worked."""
        if self._claim():
            self._breaker._settle(self, None)

    def fail(self, error: BaseException) -> None:
        """The call raised ``error``; one that ``is_system_error`` does not count makes this a ``release``."""
        if not self._breaker.is_system_error(error):
            self.release()
        elif self._claim():
            self._breaker._settle(self, error)

    def release(self) -> None:
        """The call says nothing about the system.

        Takes no lock: the garbage collector, closing a generator that nobody finished, may get here in any thread.
        """
        if self._claim() and self._token is not None:
            self._breaker._returned.append(self._token)

    def _claim(self) -> bool:
        return self._unused.pop("unused", False)  # atomic: of two threads exactly one ends the permit

    def __enter__(self) -> Permit:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.succeed() if error is None else self.fail(error)


def _guard_generator(permit: Permit, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    def guarded() -> Generator[Any, Any, Any]:
        with permit:
            yield
            return (yield from generator)

    primed = guarded()
    next(primed)  # a generator closed before its first step runs nothing, and would not release its permit
    return primed


async def _guard_coroutine(permit: Permit, coroutine: Coroutine[Any, Any, Any]) -> Any:
    with permit:
        return await coroutine


async def _guard_async_generator(permit: Permit, generator: AsyncGenerator[Any, Any]) -> AsyncGenerator[Any, None]:
    with permit:
        async with contextlib.aclosing(generator):
            async for item in generator:
                yield item


# Results that have yet to run: the call ends when they do.
UNFINISHED: Final[dict[type, Callable[[Permit, Any], Any]]] = {
    types.GeneratorType: _guard_generator,
    types.CoroutineType: _guard_coroutine,
    types.AsyncGeneratorType: _guard_async_generator,
}
