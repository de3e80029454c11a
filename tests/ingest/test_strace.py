"""Faults at each write of a deduplication log and each rename of a part: afterwards every number is exact.

The server notes a batch's token first and puts the part in its place some 400 microseconds later, in the table and
then in each summary. Chance does not hit that gap; strace does.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from netra_chdb import DataAccess
from netra_chdb.ingest.batch import Batch, RowChecker
from netra_chdb.ingest.queued import Attempt
from netra_chdb.ingest.send import send
from netra_chdb.models.analytics import PerformanceMetric, UserMetricsSummary
from tests.conftest import require
from tests.ingest.chaos import ROWS_OF_BATCH, access, assert_summaries, data_paths, ids, metric, rows_of, writer_on
from tests.servers import Missing, ModernServer, wait_for
from tests.strace import check_ptrace, inject

TABLE: sa.Table = PerformanceMetric.__table__
TARGET: sa.Table = UserMetricsSummary.__table__
KILL, FULL = "signal=KILL", "error=ENOSPC"

#: The how-manieth call, one table after the other: the base's, the summary's, the next batch's in the base, ...
ONE = [(1, place) for place in (1, 2)]
THREE = [(3, place) for place in range(1, 7)]
SWEEP = [
    (call, fault, batches, place)
    for call, fault, (batches, place) in itertools.product(("write", "rename"), (KILL, FULL), ONE + THREE)
]
#: What is quick, and has each kind of point in it.
SHORT = [("rename", KILL, 1, 1), ("rename", KILL, 3, 4), ("write", KILL, 1, 2), ("rename", FULL, 3, 3)]


def cases(short: list[tuple[str, str, int, int]]) -> list[Any]:
    return [
        pytest.param(*case, marks=[] if case in short else pytest.mark.slow, id=" ".join(map(str, case)))
        for case in SWEEP
    ]


@pytest.fixture(scope="module", autouse=True)
def _ptrace() -> None:
    try:
        check_ptrace()
    except Missing as missing:
        require(missing.component, missing.reason)


@pytest.fixture(params=["chnative", pytest.param("chhttp", marks=pytest.mark.slow)])
def data(request: pytest.FixtureRequest, server: ModernServer) -> Iterator[DataAccess]:
    with access(server.url(request.param)) as data:
        yield data
    server.query("SYSTEM START MERGES")


def logs(paths: list[Path]) -> list[Path]:
    """The deduplication logs of tables, and those that will follow them."""
    found = []
    for path in paths:
        last = max((int(log.stem.rpartition("_")[2]) for log in path.glob("deduplication_logs/*.txt")), default=0)
        found += [path / f"deduplication_logs/deduplication_log_{n}.txt" for n in range(1, last + 3)]
    return found


def is_exact(data: DataAccess, user_id: str, batches: int) -> bool:
    found = ids(data.engine, user_id)
    if sorted(found.elements()) != list(range(batches * ROWS_OF_BATCH)):
        return False
    condition = PerformanceMetric.user_id == user_id
    try:
        assert_summaries(data.engine, PerformanceMetric, condition, of=lambda target: target.user_id == user_id)
    except AssertionError:
        return False
    return True


@pytest.mark.parametrize(("call", "fault", "batches", "place"), cases(SHORT))
def test_a_server_that_dies_or_has_no_room(
    server: ModernServer,
    data: DataAccess,
    tmp_path: Path,
    user_id: str,
    call: str,
    fault: str,
    batches: int,
    place: int,
) -> None:
    paths = logs(data_paths(data.engine)) if call == "write" else []
    writer = writer_on(data.engine, tmp_path / "spool", flush_rows=ROWS_OF_BATCH)
    for batch in range(batches):
        writer.spool.append(TABLE, *rows_of(user_id, batch))
    try:
        with inject(server.pid, call, fault, place, tmp_path / "calls", paths=paths) as injection:
            writer.start()
            wait_for(lambda: injection.hit is not None, f"call {place} of {call}")
            if fault == FULL:
                writer.flush()
        if fault == KILL:
            server.restart()
        writer.flush()
        assert is_exact(data, user_id, batches), injection.hit
    finally:
        writer.close()
        writer.spool.close()


def frozen(user_id: str) -> Batch:
    checker = RowChecker(TABLE)
    return next(checker.batches([metric(user_id, number) for number in range(ROWS_OF_BATCH)]))


@pytest.mark.parametrize("data", ["chnative"], indirect=True)
@pytest.mark.parametrize(("fault", "place"), [(KILL, 1), (KILL, 2), (FULL, 1), (FULL, 2)])
def test_the_token_alone_is_not_enough(
    server: ModernServer, data: DataAccess, tmp_path: Path, user_id: str, fault: str, place: int
) -> None:
    """The same faults, and the batch sent again under its token: acknowledged, and not there."""
    data_paths(data.engine)
    batch = frozen(user_id)
    with (
        data.engine.connect() as connection,
        inject(server.pid, "rename", fault, place, tmp_path / "calls") as injection,
        pytest.raises(sa.exc.DBAPIError),
    ):
        send(connection, batch, Attempt(batch.token))
    assert injection.hit is not None
    if fault == KILL:
        server.restart()
        data.breaker.reset()
    with data.engine.connect() as connection:
        send(connection, batch, Attempt(batch.token))
    assert not is_exact(data, user_id, 1), injection.hit
    # The summary is the one that lacks it, or both.
    assert sorted(ids(data.engine, user_id)) == ([] if place == 1 else list(range(ROWS_OF_BATCH)))


# -- the embedded engine dies with its writer -------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedded")


def worker(home: Path, what: str, user_id: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.ingest.chaos", what, f"clickhouse+chdb:///{home}/netra.chdb"]
    return subprocess.Popen(
        [*command, str(home / "spool"), user_id, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def struck(home: Path, folder: Path, user_id: str, call: str, fault: str, batches: int, place: int) -> tuple[str, str]:
    """Return what a worker said that a fault came into, and the call; of no call if it did not come."""
    process = worker(home, "batches", user_id, batches)
    try:
        assert process.stdout is not None
        assert process.stdin is not None
        paths = [Path(path) for path in process.stdout.readline().split()]
        chosen = logs(paths) if call == "write" else []
        with inject(process.pid, call, fault, place, folder / user_id, paths=chosen) as injection:
            process.stdin.write("go\n")
            process.stdin.flush()
            # Not for longer: each thread of the engine would meet it once, and each attempt have a thread of its own.
            wait_for(lambda: injection.hit is not None or process.poll() is not None, f"call {place} of {call}", 60)
        said, _ = process.communicate(timeout=60)
        return said, injection.hit or ""
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("call", "fault", "batches", "place"), cases([("rename", KILL, 1, 1)]))
def test_an_embedded_engine_that_dies_or_has_no_room(
    home: Path, tmp_path: Path, call: str, fault: str, batches: int, place: int
) -> None:
    pytest.importorskip("chdb")
    # Calls are counted for each thread, and the engine may give its work to several: no one of them has so many then.
    for _ in range(5):
        user_id = f"user-{uuid.uuid4().hex}"
        said, hit = struck(home, tmp_path, user_id, call, fault, batches, place)
        if hit:
            break
    assert hit
    assert said.split() == ([] if fault == KILL else ["done"])
    checker = worker(home, "check", user_id, 0)
    found, _ = checker.communicate(timeout=120)
    assert checker.returncode == 0, hit
    assert sorted(map(int, found.split())) == list(range(batches * ROWS_OF_BATCH)), hit
