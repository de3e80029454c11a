"""The spool: rows are there when append() has returned, in order, once; whatever happens to threads or processes."""

from __future__ import annotations

import datetime as dt
import decimal
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netra_chdb.ingest.backlog import Backlog
from netra_chdb.ingest.batch import Batch
from netra_chdb.ingest.encoding import decode, encode
from netra_chdb.ingest.quarantine import Quarantine
from netra_chdb.ingest.queued import Attempt
from netra_chdb.ingest.spool import Spool
from tests.ingest.spools import OTHER, TABLE, drained, put, writer

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def test_rows_come_out_in_order_and_once(spool: Spool) -> None:
    for number in range(20):
        put(spool, number)
        put(spool, -number, -number, table=OTHER)
    assert Backlog(spool).tables() == [("d", "t"), ("d", "other")]
    assert drained(spool) == list(range(20))
    assert drained(spool) == []
    assert drained(spool, OTHER) == [-number for number in range(20) for _ in range(2)]
    assert Backlog(spool).tables() == []


def test_columns_that_change_end_a_batch_and_keep_the_order(spool: Spool) -> None:
    put(spool, 1, 2)
    spool.append(TABLE, ["n", "m"], [[3, "three"]])
    put(spool, 4)
    backlog, found = Backlog(spool), []
    while (frozen := backlog.freeze("d", "t", 100)) is not None:
        found.append((frozen[1].own_columns, frozen[1].own_rows()))
        backlog.done(frozen[0])
    assert found == [(("n",), [(1,), (2,)]), (("n", "m"), [(3, "three")]), (("n",), [(4,)])]


def test_a_batch_is_frozen_across_processes_and_restarts(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    put(spool, *range(5))
    frozen = Backlog(spool).freeze("d", "t", 3)
    assert frozen is None or frozen[0].rows == 5, "an entry is not torn apart"
    assert frozen is not None
    put(spool, 99)
    spool.close()
    again = Spool(tmp_path)
    queued = Backlog(again).next_batch("d", "t")
    assert queued is not None
    assert (queued.batch_id, queued.created_at, queued.state) == (frozen[1].batch_id, frozen[1].created_at, "sent")
    assert Backlog(again).load(queued).data == frozen[1].data
    assert queued.attempt.token == str(queued.batch_id)
    assert queued.attempt.query_id
    again.close()


def test_a_kept_batch_takes_its_place_in_the_queue(spool: Spool) -> None:
    put(spool, 1)
    batch = Batch.of(TABLE, ["n"], [[2], [3]])
    spool.keep(batch, "sent", Attempt(batch.token), reason="away")
    put(spool, 4)
    backlog = Backlog(spool)
    assert backlog.next_batch("d", "t") is None, "1 comes first"
    first = backlog.freeze("d", "t", 100)
    assert first is not None
    assert first[1].own_rows() == [(1,)]
    backlog.done(first[0])
    second = backlog.next_batch("d", "t")
    assert second is not None
    assert (second.batch_id, second.state, second.reason) == (batch.batch_id, "sent", "away")
    assert backlog.load(second).data == batch.data
    assert drained(spool) == [2, 3, 4]


def test_a_split_batch_is_two_new_ones_in_order(spool: Spool) -> None:
    put(spool, *range(7))
    put(spool, 7, 8)
    backlog = Backlog(spool)
    frozen = backlog.freeze("d", "t", 100)
    assert frozen is not None
    backlog.split(*frozen)
    half = backlog.next_batch("d", "t")
    assert half is not None
    assert half.batch_id != frozen[1].batch_id
    assert half.attempt.token == str(half.batch_id)
    backlog.split(half, backlog.load(half))
    quarter = backlog.next_batch("d", "t")
    assert quarter is not None
    assert backlog.load(quarter).own_rows() == [(0,), (1,)]
    backlog.put_aside(quarter, backlog.load(quarter), "no")
    assert drained(spool) == [2, 3, 4, 5, 6, 7, 8]
    quarantine = Quarantine(spool)
    assert [(row.row, row.reason, row.table) for row in quarantine.rows()] == [
        ({"n": 0}, "no", "d.t"),
        ({"n": 1}, "no", "d.t"),
    ]
    assert quarantine.requeue() == 2
    assert len(quarantine) == 0
    assert drained(spool) == [0, 1]


def test_an_intent_belongs_to_its_process_while_that_lives(tmp_path: Path) -> None:
    mine, other = Spool(tmp_path), Spool(tmp_path)
    batch = Batch.of(TABLE, ["n"], [[1]])
    mine.intend(batch, Attempt(batch.token))
    assert Backlog(mine).loose() == Backlog(other).loose() == []
    mine.file.close()
    owner = mine._owner
    assert owner is not None
    owner[2].close()  # what the kernel does when the process ends
    (orphan,) = Backlog(other).loose()
    assert (orphan.batch_id, orphan.rows, orphan.state) == (batch.batch_id, 1, "sent")
    assert list(tmp_path.glob("owner-*.lock"))
    other.forget(batch)
    assert Backlog(other).loose() == []
    assert not list(tmp_path.glob("owner-*.lock"))
    other.close()
    mine.close()


@given(
    st.lists(
        st.lists(
            st.one_of(
                st.none(),
                st.booleans(),
                st.integers(-(2**127), 2**128),
                st.floats(allow_nan=False),
                TEXTS,
                st.binary(),
                st.uuids(),
                st.dates(),
                st.datetimes(timezones=st.just(dt.UTC)),
                st.decimals(allow_nan=False, allow_infinity=False),
                st.lists(st.datetimes(timezones=st.just(dt.UTC))),
                st.dictionaries(
                    st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.integers()), st.uuids()
                ),
            )
        ),
        min_size=1,
    )
)
def test_values_come_back_equal_and_of_their_class(rows: list[list[Any]]) -> None:
    back = decode([encode(rows[:1]), *([encode(rows[1:])] if rows[1:] else [])])
    assert back == rows
    assert [[type(value) for value in row] for row in back] == [[type(value) for value in row] for row in rows]


def test_not_a_number_and_tuples_come_back() -> None:
    (row,) = decode([encode([[float("nan"), float("-inf"), (1, decimal.Decimal("1.50"))]])])
    assert row[0] != row[0]
    assert row[1:] == [float("-inf"), [1, decimal.Decimal("1.50")]]


def test_what_cannot_be_read_back_is_refused(spool: Spool) -> None:
    with pytest.raises(TypeError, match="cannot be spooled"):
        put(spool, object())
    assert drained(spool) == []


# -- threads and processes -----------------------------------------------------


def test_threads_share_commits_and_lose_nothing(spool: Spool) -> None:
    commits = 0
    write = spool.file.write

    def counted(*args: Any, **kw: Any) -> Any:
        nonlocal commits
        commits += 1
        time.sleep(0.002)  # a disk slow enough for others to queue up
        return write(*args, **kw)

    spool.file.write = counted  # type: ignore[method-assign]

    def run(first: int) -> None:
        for number in range(first, first + 50):
            put(spool, number)

    threads = [threading.Thread(target=run, args=(first,)) for first in range(0, 8000, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert commits < 8 * 50
    spool.file.write = write  # type: ignore[method-assign]
    found = drained(spool)
    assert sorted(found) == [number for first in range(0, 8000, 1000) for number in range(first, first + 50)]
    for first in range(0, 8000, 1000):
        assert [number for number in found if first <= number < first + 1000] == list(range(first, first + 50))


def test_two_processes_share_a_directory(tmp_path: Path) -> None:
    processes = [writer(tmp_path, start, 200) for start in (0, 1000)]
    for process in processes:
        assert process.communicate()[0].count("\n") == 200
    spool = Spool(tmp_path)
    assert sorted(drained(spool)) == [*range(200), *range(1000, 1200)]
    spool.close()


@pytest.mark.parametrize("rounds", [1, pytest.param(60, marks=pytest.mark.slow)])
def test_what_a_killed_process_was_told_is_there(tmp_path: Path, rounds: int) -> None:
    told: list[int] = []
    for number in range(rounds):
        process = writer(tmp_path, number * 100_000, 100_000)
        assert process.stdout is not None
        told.append(int(process.stdout.readline()))
        time.sleep(random.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        told += [int(line) for line in process.stdout.read().splitlines()]
        process.wait()
        process.stdout.close()
    spool = Spool(tmp_path)
    found = drained(spool, limit=1000)
    assert len(found) == len(set(found))
    assert set(told) <= set(found)
    assert len(set(found) - set(told)) <= rounds, "at most the one in flight of each"
    spool.close()


def test_one_drainer_at_a_time(tmp_path: Path) -> None:
    mine, other = Spool(tmp_path), Spool(tmp_path)
    assert mine.drainer.acquire(wait=False)
    assert not other.drainer.acquire(wait=False)
    mine.drainer.release()
    assert other.drainer.acquire(wait=False)
    mine.close()
    other.close()


def test_a_forked_child_writes_on_a_connection_of_its_own(tmp_path: Path) -> None:
    code = """
        import os, sys
        from pathlib import Path
        import sqlalchemy as sa
        from netra_chdb.ingest.spool import Spool
        spool = Spool(Path(sys.argv[1]))
        spool.drainer.acquire()
        table = sa.table("t", schema="d")
        spool.append(table, ["n"], [[1]])
        child = os.fork()
        spool.append(table, ["n"], [[3 if child else 2]])
        if child:
            assert os.waitpid(child, 0)[1] == 0
        os._exit(0)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=True, timeout=60)
    spool = Spool(tmp_path)
    assert sorted(drained(spool)) == [1, 2, 3]
    spool.close()
