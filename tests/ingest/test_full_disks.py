"""The spool on disks that are full, that fail or cannot be written any more: nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import exc as sa_exc

from netra_chdb.errors import ConfigError, NetraError, SpoolFull
from netra_chdb.ingest.spool import Spool
from tests.conftest import require
from tests.ingest.spools import drained, put


def _mount(*arguments: str) -> None:
    if subprocess.run(["mount", *arguments], capture_output=True).returncode:
        require("mount", "a small disk needs the right to mount one")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a megabyte."""
    path = tmp_path / "disk"
    path.mkdir()
    _mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path))
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(spool: Spool, kept: list[str], rows: int = 1) -> None:
    """Put rows of a kilobyte into the spool until it refuses; note those that it has acknowledged."""
    while True:
        some = [f"{len(kept) + place:01000}" for place in range(rows)]
        put(spool, *some)
        kept += some


@pytest.mark.parametrize("rows", [1, 100], ids=["text", "packed"])
def test_a_full_disk_is_said_and_loses_nothing(disk: Path, rows: int) -> None:
    spool, kept = Spool(disk / "spool"), list[str]()
    with pytest.raises(SpoolFull, match=r"the disk below .* is full"):
        fill(spool, kept, rows)
    assert len(kept) > 20
    with pytest.raises(SpoolFull):
        put(spool, "x" * 300_000)
    # Space comes back: what was refused is not there, what comes now is.
    _mount("-o", "remount,size=8m", str(disk))
    put(spool, "after")
    spool.close()
    spool = Spool(disk / "spool")
    assert drained(spool, limit=1000) == [*kept, "after"]
    spool.close()


def test_a_full_disk_is_drained_when_there_is_space(disk: Path) -> None:
    """To mark and to drop what was sent takes room in SQLite's log, of which there may be none: then it waits."""
    spool, kept = Spool(disk / "spool"), list[str]()
    with pytest.raises(SpoolFull):
        fill(spool, kept)
    with contextlib.suppress(SpoolFull):
        drained(spool, limit=1)
    _mount("-o", "remount,size=8m", str(disk))
    left = drained(spool)
    assert left == kept[len(kept) - len(left) :], "the end of the queue, in its order"
    assert (spool.counts(), spool.file.damaged()) == ((0, 0), [])
    spool.close()


def test_a_spool_cannot_be_made_on_a_full_disk(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
        while ballast.write(b"x" * 4096):
            pass
    with pytest.raises((ConfigError, SpoolFull), match=r"full|No space left"):
        Spool(disk / "spool")
    (disk / "ballast").unlink()
    spool = Spool(disk / "spool")
    put(spool, 1)
    assert drained(spool) == [1]
    spool.close()


def test_a_disk_that_becomes_read_only_refuses_and_goes_on_when_it_is_well(disk: Path) -> None:
    """As Linux does with a disk that fails; ``mount`` does it only while nobody has a file open to write."""
    spool = Spool(disk / "spool")
    put(spool, 1)
    spool.close()
    _mount("-o", "remount,ro", str(disk))
    for number in range(3):
        with pytest.raises((sa_exc.DBAPIError, NetraError, OSError), match=r"(?i)read-?only"):
            put(spool, number)
    with pytest.raises(ConfigError, match=r"(?i)where nothing can be kept: .*read-?only"):
        Spool(disk / "spool")
    _mount("-o", "remount,rw", str(disk))
    put(spool, 2)
    assert spool.file.damaged() == []
    assert drained(spool) == [1, 2]
    spool.close()


_SCRIPT = """
import os, sys
from pathlib import Path
import sqlalchemy as sa
from netra_chdb.ingest.spool import Spool
directory, table = Path(sys.argv[1]), sa.table("t", schema="d")
if os.geteuid() == 0:  # root may write everywhere
    os.chown(directory, 65534, 65534)
    os.seteuid(65534)

def append(number):
    try:
        spool.append(table, ["n"], [[number]])
        print("kept", number)
    except Exception as error:
        print(type(error).__name__, str(error).splitlines()[0])

spool = Spool(directory / "spool")
append(0)
spool.directory.chmod(0o500)
append(1)
spool.directory.chmod(0o700)
spool.close()
spool.directory.chmod(0o500)
append(2)
try:
    Spool(spool.directory)
except Exception as error:
    print(type(error).__name__, error)
spool.directory.chmod(0o700)
append(3)
"""


def test_a_directory_that_becomes_read_only() -> None:
    """Who has its files open goes on; who has to make them is told what is wrong, and goes on when it is mended."""
    # Not below pytest's directories, which are for their owner alone.
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        done = subprocess.run([sys.executable, "-c", _SCRIPT, name], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        *said, last = done.stdout.splitlines()
        assert said[:2] == ["kept 0", "kept 1"]
        assert said[2].startswith("OperationalError"), said
        assert said[3].startswith(f"ConfigError spool_dir is '{directory / 'spool'}', where nothing can be kept"), said
        assert all("attempt to write a readonly database" in line for line in said[2:4]), said
        assert last == "kept 3"
        spool = Spool(directory / "spool")
        assert drained(spool) == [0, 1, 3]
        spool.close()
