"""One breaker between many threads and asyncio tasks."""

from __future__ import annotations

import asyncio
import collections
import itertools
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pybreaker
import pytest

from netra_chdb.errors import BreakerOpen
from netra_chdb.resilience.breaker import CircuitBreaker, Transition

PATIENCE = 20.0
"""Seconds after which a thread that others wait for is taken to hang; nothing is measured."""


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def test_sixteen_closed_calls_are_inside_at_the_same_time() -> None:
    breaker = CircuitBreaker()
    meeting = threading.Barrier(16)
    in_threads(16, lambda _: breaker.call(meeting.wait, PATIENCE))
    assert breaker.snapshot().admitted == 16


def test_sixteen_closed_tasks_are_inside_at_the_same_time() -> None:
    breaker = CircuitBreaker()

    async def main() -> None:
        meeting = asyncio.Barrier(16)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(breaker.call_async(meeting.wait) for _ in range(16)))

    asyncio.run(main())
    assert breaker.snapshot().admitted == 16


def test_admissions_and_outcomes_hold_the_lock() -> None:
    free: dict[str, bool] = {}

    class Watched(pybreaker.CircuitMemoryStorage):
        def ask(self, what: str) -> None:
            def try_it() -> None:
                if free.setdefault(what, breaker._lock.acquire(blocking=False)):
                    breaker._lock.release()

            if what not in free:
                in_threads(1, lambda _: try_it())

        def acquire_permit(self, limit: int, lease: float) -> str:
            self.ask("acquire")
            return "token"

        def release_permit(self, token: str) -> None:
            self.ask("release")

        def increment_counter(self) -> None:
            self.ask("failure")

        def increment_success_counter(self) -> None:
            self.ask("success")

    breaker = CircuitBreaker(state_storage=Watched("half-open"))
    breaker.admit().succeed()
    breaker.admit().fail(OSError())
    assert free == {"acquire": False, "release": False, "success": False, "failure": False}


def test_half_open_admits_three_of_64_threads() -> None:
    breaker = CircuitBreaker()
    breaker.half_open()
    start, all_asked = threading.Barrier(64), threading.Barrier(64)

    def work(_: int) -> bool:
        start.wait(PATIENCE)
        try:
            permit = breaker.admit()
        except BreakerOpen:
            all_asked.wait(PATIENCE)
            return False
        all_asked.wait(PATIENCE)
        permit.succeed()
        return True

    assert sum(in_threads(64, work)) == 3
    assert breaker.current_state == "closed"


def test_half_open_admits_three_of_500_tasks() -> None:
    breaker = CircuitBreaker()
    breaker.half_open()

    async def main() -> collections.Counter[str]:
        asked, all_asked = itertools.count(1), asyncio.Event()

        def one_more() -> None:
            if next(asked) == 500:
                all_asked.set()

        async def inside() -> str:
            one_more()
            await all_asked.wait()
            return "admitted"

        async def work() -> str:
            await asyncio.sleep(0)
            try:
                return await breaker.call_async(inside)
            except BreakerOpen:
                one_more()
                return "refused"

        async with asyncio.timeout(PATIENCE):
            return collections.Counter(await asyncio.gather(*(work() for _ in range(500))))

    assert asyncio.run(main()) == {"admitted": 3, "refused": 497}
    assert breaker.current_state == "closed"


def test_cancelled_tasks_free_their_places() -> None:
    breaker = CircuitBreaker()
    breaker.half_open()

    async def main() -> None:
        for _ in range(9):
            task = asyncio.create_task(breaker.call_async(asyncio.Event().wait))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())
    assert (breaker.current_state, breaker.success_counter, breaker.snapshot().refused) == ("half-open", 0, 0)


def test_of_many_ends_of_one_permit_one_counts() -> None:
    breaker = CircuitBreaker(fail_max=10_000)
    for _ in range(50):
        permit, start = breaker.admit(), threading.Barrier(8)

        def end(_: int, permit: Any = permit, start: threading.Barrier = start) -> None:
            start.wait(PATIENCE)
            permit.fail(OSError())

        in_threads(8, end)
    assert breaker.fail_counter == 50


def test_threads_and_tasks_together() -> None:
    """A server that fails at times, asked by 64 threads and 500 tasks, under a clock that one thread pushes on."""
    now = itertools.count()
    heard: list[Transition] = []

    class Listener(pybreaker.CircuitBreakerListener):
        def transition(self, cb: CircuitBreaker, transition: Transition) -> None:
            heard.append(transition)

    breaker = CircuitBreaker(
        *(3, 40.0),
        clock=lambda: float(next(now)),  # each look at the clock is a second later: open times end, leases do not
        permit_lease=1e9,
        max_reset_timeout=80.0,
        listeners=[Listener()],
    )
    counting = threading.Lock()
    inside: collections.Counter[int] = collections.Counter()
    most_inside: collections.Counter[int] = collections.Counter()
    asked = ran = refused = 0

    def enter(generation: int) -> None:
        nonlocal ran
        with counting:
            ran += 1
            inside[generation] += 1
            most_inside[generation] = max(most_inside[generation], inside[generation])

    def leave(generation: int) -> None:
        with counting:
            inside[generation] -= 1

    def ask(dice: random.Random) -> bool:
        nonlocal asked, refused
        with counting:
            asked += 1
        if dice.random() < 0.01:
            dice.choice([breaker.open, breaker.close, breaker.half_open, breaker.reset, breaker.snapshot])()
        return dice.random() < 0.5

    def in_thread(seed: int) -> None:
        nonlocal refused
        dice = random.Random(seed)
        for _ in range(60):
            fails = ask(dice)
            try:
                with breaker.calling() as permit:
                    enter(permit._generation)
                    try:
                        if fails:
                            raise OSError
                    finally:
                        leave(permit._generation)
            except BreakerOpen:
                with counting:
                    refused += 1
            except OSError:
                pass

    async def in_task(seed: int) -> None:
        nonlocal refused
        dice = random.Random(seed)
        for _ in range(6):
            fails = ask(dice)
            try:
                with breaker.calling() as permit:
                    enter(permit._generation)
                    try:
                        await asyncio.sleep(0)
                        if fails:
                            raise OSError
                    finally:
                        leave(permit._generation)
            except BreakerOpen:
                with counting:
                    refused += 1
                await asyncio.sleep(0)
            except OSError:
                pass

    async def tasks() -> None:
        await asyncio.gather(*(in_task(1000 + number) for number in range(500)))

    breaker._history = collections.deque(maxlen=1_000_000)  # all of it, to compare
    loop_thread = threading.Thread(target=lambda: asyncio.run(tasks()))
    loop_thread.start()
    in_threads(64, in_thread)
    loop_thread.join()

    history = list(breaker.history)
    snapshot = breaker.snapshot()
    assert (snapshot.admitted, snapshot.refused) == (ran, refused)
    assert ran + refused == asked == 64 * 60 + 500 * 6
    assert heard == history, "told in order, none lost"
    assert [item.generation for item in history] == list(range(1, len(history) + 1))
    assert all(before.new == after.old for before, after in itertools.pairwise(history))
    half_open = {item.generation for item in history if item.new == "half-open"}
    assert len(half_open) > 3
    assert max(most_inside[generation] for generation in half_open) <= 3
    assert not any(most_inside[item.generation] for item in history if item.new == "open")
