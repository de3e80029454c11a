"""The spool's file: full, damaged, of another version, on a disk that fails; what was acknowledged is there."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import exc as sa_exc

from netra_chdb.errors import ConfigError, NetraError, SpoolFull
from netra_chdb.ingest.backlog import Backlog, Damaged
from netra_chdb.ingest.quarantine import Quarantine
from netra_chdb.ingest.spool import Spool
from netra_chdb.ingest.spool_file import NAME
from tests.ingest.spools import drained, put, writer


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
