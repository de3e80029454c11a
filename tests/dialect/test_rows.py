"""Large results: the garbage collector waits while rows are made, and only then."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from netra_chdb.dialect.rows import Rows, _Pause, collector_paused

MANY = 120_000


USUAL = gc.get_threshold()


def held_back() -> bool:
    """Whether the collector waits; it is never off."""
    assert gc.isenabled()
    return gc.get_threshold()[0] > USUAL[0]


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    assert not held_back()
    yield
    enabled, threshold = gc.isenabled(), gc.get_threshold()
    gc.enable()
    gc.set_threshold(*USUAL)
    assert enabled, "the collector was left off"
    assert threshold == USUAL, "the collector was left waiting"


def test_going_through_many_rows_pauses_the_collector() -> None:
    rows = Rows((number,) for number in range(MANY))
    seen = [(row, held_back()) for row in rows]
    assert [row for row, _ in seen] == list(rows)
    assert all(waiting for _, waiting in seen)


def test_going_through_few_does_not() -> None:
    assert not any(held_back() for _ in Rows((number,) for number in range(1000)))


def test_blocks_without_rows_cost_nothing() -> None:
    """The native protocol ends a result with one: the collector is not held back for it."""
    rows = Rows()
    seen: list[bool] = []

    def block(size: int) -> list[tuple[int]]:
        seen.append(held_back())
        return [(number,) for number in range(size)]

    rows.take(map(block, (0, 10, 0, 0)))
    assert (len(rows), seen) == (10, [False] * 4)


def test_a_result_given_up_half_way_lets_it_run_again() -> None:
    with pytest.raises(ZeroDivisionError):
        [1 // (row[0] - 70_000) for row in Rows((number,) for number in range(MANY))]
    assert not held_back()


def test_an_error_that_is_kept_does_not_keep_the_collector_waiting(engine: sa.Engine) -> None:
    class Failing(sa.TypeDecorator[int]):
        impl = sa.BigInteger
        cache_ok = True

        def process_result_value(self, value: int | None, dialect: sa.Dialect) -> int:
            if value == 100_000:
                raise ValueError("this one cannot be read")
            return value or 0

    kept = None
    statement = sa.text("SELECT number FROM numbers(:many)").columns(number=Failing).bindparams(many=MANY)
    try:
        with engine.connect() as connection:
            connection.execute(statement).all()
    except ValueError as error:
        kept = error
    assert kept is not None
    assert gc.isenabled()
    # Nobody goes through the rows any more: the collector runs late once, and then as it used to.
    new: list[list[int]] = []
    while held_back() and len(new) < 2_000_000:
        new.append([])
    assert not held_back()


def test_who_switched_it_off_finds_it_off() -> None:
    gc.disable()
    with collector_paused():
        assert not gc.isenabled()
    assert not gc.isenabled()
    assert gc.get_threshold() == USUAL
    gc.enable()


def test_the_last_of_several_threads_switches_it_on() -> None:
    first_in, second_done = threading.Event(), threading.Event()
    states: list[bool] = []

    def first() -> None:
        with collector_paused():
            first_in.set()
            second_done.wait(10)
            states.append(held_back())

    thread = threading.Thread(target=first)
    thread.start()
    first_in.wait(10)
    with collector_paused():
        pass
    states.append(held_back())
    second_done.set()
    thread.join()
    assert states == [True, True]


def test_rows_put_aside_are_not_looked_at_again() -> None:
    with collector_paused() as put_aside:
        rows = [(number,) for number in range(10)]
        put_aside()
        assert any(found is rows[0] for found in gc.get_objects(generation=2))


class Cycle:
    def __init__(self) -> None:
        self.myself = self


def test_garbage_that_was_put_aside_with_them_is_found_in_the_end() -> None:
    gone = weakref.ref(Cycle())
    for _ in range(1000):
        with collector_paused() as put_aside:
            put_aside()
        if gone() is None:
            break
    assert gone() is None


def test_what_an_application_has_frozen_stays_frozen() -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    try:
        garbage = weakref.ref(Cycle())
        with collector_paused() as put_aside:
            put_aside()
        # Some of it may have died by now, and nothing but that.
        assert gc.get_freeze_count() > frozen // 2 > 0
        assert garbage() is None
    finally:
        gc.unfreeze()
        _Pause.frozen = False


def test_a_large_result_is_whole_and_in_order(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        statement = sa.text("SELECT number, toString(number) FROM numbers(:many) ORDER BY number")
        rows = connection.execute(statement, {"many": MANY}).all()
    assert [tuple(row) for row in rows] == [(number, str(number)) for number in range(MANY)]
