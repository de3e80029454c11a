"""One test for each way in which pybreaker itself would have hurt; each shows that pybreaker does."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from abc import ABCMeta
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pybreaker
import pytest

from netra_chdb.resilience.breaker import CircuitBreaker


def stock(**options: Any) -> pybreaker.CircuitBreaker:
    return pybreaker.CircuitBreaker(**{"throw_new_error_on_trip": False, **options})


def fail(breaker: pybreaker.CircuitBreaker, error: BaseException | None = None) -> None:
    def work() -> None:
        raise error or OSError("gone")

    with pytest.raises(type(error) if error else OSError):
        breaker.call(work)


def ends_in_another_thread(work: Callable[[], object]) -> bool:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(10)
    return not thread.is_alive()


def lock_is_free(breaker: pybreaker.CircuitBreaker) -> bool:
    answers: list[bool] = []

    def ask() -> None:
        answers.append(breaker._lock.acquire(blocking=False))
        if answers[0]:
            breaker._lock.release()

    assert ends_in_another_thread(ask)
    return answers[0]


def test_the_lock_is_not_held_while_the_function_runs() -> None:
    for breaker, free in ((stock(), False), (CircuitBreaker(), True)):
        assert breaker.call(lock_is_free, breaker) is free


def test_manual_close_does_not_wait_for_a_running_call() -> None:
    breaker = CircuitBreaker()
    assert breaker.call(ends_in_another_thread, breaker.close)
    assert breaker.history[-1].cause == "close()"


def test_calling_limits_half_open() -> None:
    for breaker, limit in ((stock(), 16), (CircuitBreaker(), 3)):
        breaker.half_open()
        with contextlib.ExitStack() as stack:
            entered = 0
            for _ in range(16):
                with contextlib.suppress(pybreaker.CircuitBreakerError):
                    stack.enter_context(breaker.calling())
                    entered += 1
        assert entered == limit


def test_a_late_success_does_not_close_what_has_opened_again() -> None:
    for breaker, state in ((stock(), "closed"), (CircuitBreaker(success_threshold=1), "open")):
        breaker.half_open()
        with breaker.calling():
            fail(breaker)
            assert breaker.current_state == "open"
        assert breaker.current_state == state


def test_a_jump_of_the_wall_clock_does_not_end_the_open_time() -> None:
    for breaker, state in ((stock(), "closed"), (CircuitBreaker(success_threshold=1), "open")):
        breaker.open()
        breaker._state_storage.opened_at = datetime.now(UTC) - timedelta(days=1)
        with contextlib.suppress(pybreaker.CircuitBreakerError):
            breaker.call(len, "")
        assert breaker.current_state == state


def test_processes_that_open_together_do_not_all_try_together() -> None:
    now = 0.0
    breakers = [CircuitBreaker(clock=lambda: now) for _ in range(20)]
    for breaker in breakers:
        breaker.open()
    assert len({breaker.snapshot().retry_after for breaker in breakers}) == 20


def test_an_excluded_error_does_not_close_half_open() -> None:
    for breaker, state in (
        (stock(exclude=[KeyError]), "closed"),
        (CircuitBreaker(success_threshold=1, exclude=[KeyError]), "half-open"),
    ):
        breaker.half_open()
        fail(breaker, KeyError())
        assert breaker.current_state == state


def test_an_excluded_error_does_not_reset_the_failures() -> None:
    for breaker, counter in ((stock(exclude=[KeyError]), 0), (CircuitBreaker(exclude=[KeyError]), 1)):
        fail(breaker)
        fail(breaker, KeyError())
        assert breaker.fail_counter == counter


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_an_interrupted_call_is_not_a_failure(kind: type[BaseException]) -> None:
    for breaker, counter in ((stock(), 1), (CircuitBreaker(), 0)):
        fail(breaker, kind())
        assert breaker.fail_counter == counter


def test_closing_a_half_read_generator_is_not_a_failure() -> None:
    def rows() -> Iterator[int]:
        yield 1
        yield 2

    for breaker, counter in ((stock(), 1), (CircuitBreaker(), 0)):
        reader: Any = breaker.call(rows)
        next(reader)
        reader.close()
        assert breaker.fail_counter == counter


def test_listeners_run_after_the_storage_has_changed() -> None:
    class Listener(pybreaker.CircuitBreakerListener):
        def state_change(self, cb: pybreaker.CircuitBreaker, old_state: object, new_state: object) -> None:
            seen.append(cb.current_state)

    for breaker, state in ((stock(), "closed"), (CircuitBreaker(), "open")):
        seen: list[str] = []
        breaker.add_listener(Listener())
        breaker.open()
        assert seen == [state]


def test_a_listener_that_raises_does_not_stop_the_trip() -> None:
    class Listener(pybreaker.CircuitBreakerListener):
        def state_change(self, cb: object, old_state: object, new_state: object) -> None:
            raise RuntimeError("no metrics today")

    for breaker, state, error in (
        (stock(fail_max=1), "closed", RuntimeError()),
        (CircuitBreaker(1), "open", OSError()),
    ):
        breaker.add_listener(Listener())
        with pytest.raises(type(error)):
            breaker.call(open, "/no/such/file")
        assert breaker.current_state == state


def test_a_trip_raises_the_error_that_caused_it() -> None:
    for breaker, kind in ((pybreaker.CircuitBreaker(1), pybreaker.CircuitBreakerError), (CircuitBreaker(1), OSError)):
        with pytest.raises(kind):
            breaker.call(open, "/no/such/file")
        assert breaker.current_state == "open"
    with pytest.raises(TypeError):
        CircuitBreaker(throw_new_error_on_trip=True)  # type: ignore[call-arg]


def test_a_coroutine_function_is_guarded_while_it_runs() -> None:
    async def fetch() -> None:
        raise OSError("gone")

    for breaker, counter in ((stock(), 0), (CircuitBreaker(), 1)):
        with pytest.raises(OSError, match="gone"):
            asyncio.run(breaker(fetch)())
        assert breaker.fail_counter == counter


def test_an_excluded_class_with_a_metaclass_excludes_only_its_instances() -> None:
    class Abstract(Exception, metaclass=ABCMeta):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)

    for breaker, counter in ((stock(exclude=[Abstract]), 0), (CircuitBreaker(exclude=[Abstract]), 1)):
        fail(breaker)
        fail(breaker, Abstract())
        assert breaker.fail_counter == counter
