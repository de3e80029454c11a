"""The spool: rows are there when append() has returned, in order, once; whatever happens to file, disk or process."""

from __future__ import annotations

import datetime as dt
import decimal
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import exc as sa_exc

from netra_chdb.errors import ConfigError, NetraError, SpoolFull
from netra_chdb.ingest.backlog import Backlog, Damaged
from netra_chdb.ingest.batch import Batch
from netra_chdb.ingest.encoding import decode, encode
from netra_chdb.ingest.quarantine import Quarantine
from netra_chdb.ingest.queued import Attempt
from netra_chdb.ingest.spool import Spool
from netra_chdb.ingest.spool_file import NAME

TABLE = sa.table("t", sa.column("n"), schema="d")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
OTHER = sa.table("other", sa.column("n"), schema="d")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool")
    yield spool
    spool.close()


def drained(spool: Spool, table: sa.TableClause = TABLE, limit: int = 7) -> list[Any]:
    """Take everything of a table out, batch by batch."""
    backlog, found = Backlog(spool), list[Any]()
    while True:
        queued = backlog.next_batch("d", table.name)
        if queued is None:
            frozen = backlog.freeze("d", table.name, limit)
            if frozen is None:
                return found
            queued, batch = frozen
            assert batch.own_rows() == backlog.load(queued).own_rows()
        found += [row[0] for row in backlog.load(queued).own_rows()]
        backlog.done(queued)


def put(spool: Spool, *numbers: Any, table: sa.TableClause = TABLE) -> None:
    spool.append(table, ["n"], [[number] for number in numbers])


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


_WRITER = """
import sys
from pathlib import Path
import sqlalchemy as sa
from netra_chdb.ingest.spool import Spool
spool = Spool(Path(sys.argv[1]))
table = sa.table("t", schema="d")
for n in range(int(sys.argv[2]), int(sys.argv[2]) + int(sys.argv[3])):
    spool.append(table, ["n"], [[n]])
    print(n, flush=True)
"""


def writer(directory: Path, start: int, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(directory), str(start), str(count)], stdout=subprocess.PIPE, text=True
    )


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


# -- the disk --------------------------------------------------------------------


def test_files_are_for_their_owner_alone(spool: Spool) -> None:
    before = os.umask(0)
    try:
        put(spool, 1)
        assert spool.drainer.acquire(wait=False)
    finally:
        os.umask(before)
    files = list(spool.directory.iterdir())
    assert {f"{NAME}-wal", NAME} <= {path.name for path in files}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(spool.directory.stat().st_mode) == 0o700


def test_a_full_spool_says_so_and_has_room_when_it_is_drained(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=200_000)
    accepted = 0

    def fill() -> None:
        nonlocal accepted
        for accepted in range(1000):  # noqa: B007
            put(spool, "x" * 1000)

    with pytest.raises(SpoolFull, match=r"of 200000 \(spool_max_bytes\).*nothing was accepted"):
        fill()
    assert 50 < accepted < 200
    assert len(drained(spool)) == accepted
    put(spool, 1)
    assert drained(spool) == [1]
    spool.close()


def test_a_disk_without_space_refuses_and_loses_nothing(tmp_path: Path) -> None:
    code = """
        import resource, signal, sys
        from pathlib import Path
        import sqlalchemy as sa
        from netra_chdb.errors import SpoolFull
        from netra_chdb.ingest.spool import Spool
        spool = Spool(Path(sys.argv[1]))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
        table = sa.table("t", schema="d")
        kept = 0
        try:
            while True:
                spool.append(table, ["n"], [[f"{kept:01000}"]])
                kept += 1
        except (SpoolFull, sa.exc.DBAPIError) as error:
            print(kept, type(error).__name__)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        spool.append(table, ["n"], [["after"]])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=True, capture_output=True, text=True
    )
    kept = int(done.stdout.split()[0])
    assert kept > 5
    spool = Spool(tmp_path)
    assert drained(spool, limit=1000) == [*(f"{n:01000}" for n in range(kept)), "after"]
    spool.close()


def test_a_directory_that_cannot_be_written_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="spool_dir is"):
        Spool(tmp_path / "file" / "spool")


def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    Spool(tmp_path).close()
    with sqlite3.connect(tmp_path / NAME) as connection:
        connection.execute("PRAGMA user_version = 1000")
    connection.close()
    with pytest.raises(NetraError, match="has format 1000"):
        Spool(tmp_path)
    assert (tmp_path / NAME).exists()


def test_rubbish_behind_the_log_is_ignored(tmp_path: Path) -> None:
    process = writer(tmp_path, 0, 100_000)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    with (tmp_path / f"{NAME}-wal").open("ab") as log:
        log.write(random.randbytes(5000))
    spool = Spool(tmp_path)
    assert set(range(20)) <= set(drained(spool, limit=1000))
    assert spool.file.damaged() == []
    spool.close()


@pytest.mark.parametrize("damage", ["header", "page", "cut"])
def test_a_damaged_file_is_set_aside_and_blocks_nothing(tmp_path: Path, damage: str) -> None:
    spool = Spool(tmp_path)
    other = Spool(tmp_path)
    for number in range(200):
        put(spool, f"{number:01000}")
    spool.close()
    other.close()
    path = tmp_path / NAME
    content = bytearray(path.read_bytes())
    if damage == "header":
        content[:16] = b"no database here"
    elif damage == "page":
        content[4096 * 3 : 4096 * 6] = random.randbytes(4096 * 3)
    else:
        del content[len(content) // 2 :]
    path.write_bytes(content)
    put(spool, "new")
    put(other, "newer")
    (aside,) = spool.file.damaged()
    assert aside.read_bytes()[:4096] == bytes(content[:4096]) or damage != "header"
    assert drained(other) == ["new", "newer"]
    spool.close()
    other.close()


def test_who_has_the_damaged_file_open_goes_on_in_the_new_one(tmp_path: Path) -> None:
    mine, other = Spool(tmp_path), Spool(tmp_path)
    put(mine, 1)
    put(other, 2)
    mine.file.set_aside(RuntimeError("said so by the test"))
    put(other, 3)
    put(mine, 4)
    assert drained(mine) == [3, 4]
    mine.close()
    other.close()


def test_a_changed_entry_goes_to_quarantine_and_holds_nobody_up(spool: Spool) -> None:
    for number in range(5):
        put(spool, number)
    spool.file.write(lambda connection: connection.exec_driver_sql("UPDATE entries SET payload = '[[7]]' WHERE id = 3"))
    backlog = Backlog(spool)
    with pytest.raises(Damaged) as caught:
        backlog.freeze("d", "t", 100)
    backlog.put_damaged_aside(caught.value)
    assert drained(spool) == [0, 1, 3, 4]
    (row,) = Quarantine(spool).rows()
    assert (row.row, row.text) == (None, "[[7]]")


def test_a_failing_commit_fails_all_who_shared_it(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    put(spool, 1)

    def refuse(*_: Any) -> None:
        raise sa_exc.OperationalError("INSERT", None, sqlite3.OperationalError("disk I/O error"))

    monkeypatch.setattr(spool, "_insert", refuse)
    with pytest.raises(sa_exc.OperationalError, match="disk I/O error"):
        put(spool, 2)
    monkeypatch.undo()
    put(spool, 3)
    assert drained(spool) == [1, 3]


def test_a_clock_that_jumps_back_changes_no_order(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    put(spool, 1)
    assert Backlog(spool).freeze("d", "t", 1) is not None
    before = time.time()
    monkeypatch.setattr(time, "time", lambda: before - 3600)
    put(spool, 2)
    assert drained(spool) == [1, 2]
