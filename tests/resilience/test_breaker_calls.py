"""The ways to make a call: function, with block, decorator, coroutine, generator."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncGenerator, Generator, Iterator
from typing import Any

import pybreaker
import pytest

from netra_chdb.errors import BreakerOpen
from netra_chdb.resilience.breaker import CircuitBreaker
from tests.resilience.breakers import Refused, admitted, fail_once


def test_a_function_may_have_parameters_of_any_name(breaker: CircuitBreaker) -> None:
    heard: list[dict[str, Any]] = []

    class Listener(pybreaker.CircuitBreakerListener):
        def before_call(self, cb: object, func: Any, *args: Any, **kwargs: Any) -> None:
            heard.append(kwargs)

    breaker.add_listener(Listener())

    @breaker
    def record(event: str, hook: str) -> str:
        return event + hook

    assert record(event="a", hook="b") == "ab"
    assert heard == [{"event": "a", "hook": "b"}]
    assert breaker(lambda func: func)(func=3) == 3

    async def same(func: int) -> int:
        return func

    assert asyncio.run(breaker.call_async(same, func=3)) == 3


def test_decorated_functions_keep_their_name_and_kind(breaker: CircuitBreaker) -> None:
    @breaker
    def plain() -> str:
        """Plain."""
        return "plain"

    @breaker()
    async def coroutine() -> str:
        return "coroutine"

    @breaker
    def generator() -> Iterator[int]:
        yield 1

    @breaker
    async def async_generator() -> AsyncGenerator[int, None]:
        yield 1
        yield 2

    async def main() -> list[Any]:
        return [await coroutine(), [item async for item in async_generator()]]

    assert (plain.__name__, plain.__doc__, plain()) == ("plain", "Plain.", "plain")
    assert asyncio.iscoroutinefunction(coroutine)
    assert asyncio.run(main()) == ["coroutine", [1, 2]]
    assert list(generator()) == [1]
    breaker.open()
    for refused in (plain, generator, async_generator):
        with pytest.raises(BreakerOpen):
            refused()
    with pytest.raises(BreakerOpen):
        asyncio.run(coroutine())


def test_a_function_that_returns_an_awaitable_is_named_as_such(breaker: CircuitBreaker) -> None:
    @breaker(__pybreaker_call_async=True)
    def submit() -> asyncio.Future[None]:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(Refused())
        return future

    async def main() -> None:
        with pytest.raises(Refused):
            await submit()

    asyncio.run(main())
    assert breaker.fail_counter == 1


def test_a_with_block_may_end_its_permit_itself(breaker: CircuitBreaker) -> None:
    with breaker.calling() as permit:
        permit.fail(Refused())
    assert breaker.fail_counter == 1


def test_a_generator_is_guarded_to_its_end(breaker: CircuitBreaker) -> None:
    def talk() -> Generator[str, str, str]:
        heard = yield "hello"
        try:
            yield heard
        except KeyError:
            yield "caught"
        return "bye"

    def run() -> Generator[str, str, None]:
        result = yield from breaker.call(talk)
        yield result

    fail_once(breaker)
    conversation = run()
    assert [next(conversation), conversation.send("echo"), conversation.throw(KeyError())] == [
        "hello",
        "echo",
        "caught",
    ]
    assert breaker.fail_counter == 1
    assert next(conversation) == "bye"
    assert breaker.fail_counter == 0


def test_errors_of_late_results_count(breaker: CircuitBreaker) -> None:
    def rows() -> Iterator[int]:
        yield 1
        raise Refused

    async def arows() -> AsyncGenerator[int, None]:
        yield 1
        raise Refused

    async def fetch() -> None:
        raise Refused

    async def read() -> None:
        async for _ in breaker.call(arows):
            pass

    with pytest.raises(Refused):
        list(breaker.call(rows))
    with pytest.raises(Refused):
        asyncio.run(read())
    with pytest.raises(Refused):
        asyncio.run(breaker.call(fetch))
    with pytest.raises(Refused):
        asyncio.run(breaker.call_async(fetch))
    assert breaker.fail_counter == 4


@pytest.mark.parametrize("read", [0, 1])
@pytest.mark.parametrize("end", ["closed", "dropped", "collected"])
def test_a_generator_not_read_to_its_end_frees_its_place(breaker: CircuitBreaker, read: int, end: str) -> None:
    def rows() -> Iterator[int]:
        yield from range(9)

    breaker.half_open()
    for _ in range(4):
        reader: Any = breaker.call(rows)
        for _ in range(read):
            next(reader)
        if end == "closed":
            reader.close()
        elif end == "collected":
            cycle = [reader]
            cycle.append(cycle)
            del cycle
        del reader
        if end == "collected":
            gc.collect()
    assert len(admitted(breaker, 16)) == 3
    assert (breaker.current_state, breaker.success_counter) == ("half-open", 0)


def test_an_async_generator_half_read_and_closed_frees_its_place(breaker: CircuitBreaker) -> None:
    closed = []

    async def rows() -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    async def main() -> None:
        for _ in range(9):
            reader = breaker.call(rows)
            await anext(reader)
            await reader.aclose()
            assert closed.pop()

    breaker.half_open()
    asyncio.run(main())
    assert (breaker.current_state, breaker.success_counter) == ("half-open", 0)


def test_closing_a_generator_waits_for_no_lock(breaker: CircuitBreaker) -> None:
    """The garbage collector may do it in the very thread that holds one."""

    def rows() -> Iterator[int]:
        yield from range(9)

    breaker.half_open()
    reader: Any = breaker.call(rows)
    next(reader)
    with breaker._lock:
        closer = threading.Thread(target=reader.close, daemon=True)
        closer.start()
        closer.join(10)
        assert not closer.is_alive()
    assert len(admitted(breaker, 16)) == 3
