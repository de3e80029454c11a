"""Large results: the garbage collector waits while rows are made, and only then."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from netra_chdb.dialect.rows import Rows, collector_paused

MANY = 120_000


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    assert gc.isenabled()
    yield
    running = gc.isenabled()
    gc.enable()
    assert running, "the collector was left off"


def test_going_through_many_rows_pauses_the_collector() -> None:
    rows = Rows((number,) for number in range(MANY))
    seen = [(row, gc.isenabled()) for row in rows]
    assert [row for row, _ in seen] == list(rows)
    assert not any(enabled for _, enabled in seen)


def test_going_through_few_does_not() -> None:
    assert all(gc.isenabled() for _ in Rows((number,) for number in range(1000)))


def test_a_result_given_up_half_way_lets_it_run_again() -> None:
    with pytest.raises(ZeroDivisionError):
        [1 // (row[0] - 70_000) for row in Rows((number,) for number in range(MANY))]
    assert gc.isenabled()


def test_who_switched_it_off_finds_it_off() -> None:
    gc.disable()
    with collector_paused():
        pass
    assert not gc.isenabled()
    gc.enable()


def test_the_last_of_several_threads_switches_it_on() -> None:
    first_in, second_done = threading.Event(), threading.Event()
    states: list[bool] = []

    def first() -> None:
        with collector_paused():
            first_in.set()
            second_done.wait(10)
            states.append(gc.isenabled())

    thread = threading.Thread(target=first)
    thread.start()
    first_in.wait(10)
    with collector_paused():
        pass
    states.append(gc.isenabled())
    second_done.set()
    thread.join()
    assert states == [False, False]


def test_a_large_result_is_whole_and_in_order(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        statement = sa.text("SELECT number, toString(number) FROM numbers(:many) ORDER BY number")
        rows = connection.execute(statement, {"many": MANY}).all()
    assert [tuple(row) for row in rows] == [(number, str(number)) for number in range(MANY)]
