"""The writer's process is killed, alone or with its server: what it was told is there, once, and the sums are exact."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netra_chdb import DataAccess
from netra_chdb.ingest.writer import Writer
from tests.ingest.chaos import assert_exact, ids
from tests.proxy import Proxy
from tests.servers import ModernServer


def slow(rounds: int) -> list[Any]:
    marks = [pytest.mark.slow, pytest.mark.timeout(7200)]
    return [pytest.param(driver, rounds, marks=marks) for driver in ("chhttp", "chnative")]


def load(url: str, directory: Path, user_id: str, start: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.ingest.chaos", "load", url, str(directory), user_id, str(start)],
        stdout=subprocess.PIPE,
        text=True,
    )


def run_and_kill(
    url: str, directory: Path, user_id: str, start: int, upset: Callable[[], None], *, after: float | None = None
) -> set[int]:
    """Run a writer, kill it after ``upset``, or so many seconds into it, and return what it was told is safe."""
    process = load(url, directory, user_id, start)
    # From a thread: a server ends with the thread that has started it.
    early = threading.Timer(after or 0, process.kill)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if after is not None:
            early.start()
        upset()
    finally:
        early.cancel()
        process.send_signal(signal.SIGKILL)
        told, _ = process.communicate()
    complete = told[: told.rfind("\n") + 1]
    return {int(number) for number in complete.split()}


def check_after_crashes(data: DataAccess, writer: Writer, user_id: str, told: set[int], crashes: int) -> None:
    writer.start()
    writer.flush(timeout=120 + 10 * crashes)  # what was inserted during outages goes in one by one
    found = ids(data.engine, user_id)
    assert told <= set(found), f"lost: {sorted(told - set(found))[:20]}"
    # In flight when it died: one record, or one insert of thirty rows, whole or not at all.
    assert len(set(found) - told) <= 31 * crashes
    assert_exact(data, user_id, list(found))


@pytest.mark.parametrize(("driver", "rounds"), [("chhttp", 1), *slow(300)])
def test_a_writer_that_is_killed_loses_nothing(
    data: DataAccess, url: str, writer: Writer, tmp_path: Path, user_id: str, rounds: int
) -> None:
    told: set[int] = set()
    for number in range(rounds):
        told |= run_and_kill(url, tmp_path / "spool", user_id, number * 1_000_000, lambda: time.sleep(random.random()))
    check_after_crashes(data, writer, user_id, told, rounds)


@pytest.mark.slow  # its short form is that of test_strace
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("rounds", [3, 300])
def test_an_embedded_engine_that_dies_with_its_writer_loses_nothing(tmp_path: Path, user_id: str, rounds: int) -> None:
    pytest.importorskip("chdb")
    url, directory = f"clickhouse+chdb:///{tmp_path}/netra.chdb", tmp_path / "spool"
    told: set[int] = set()
    for number in range(rounds):
        told |= run_and_kill(url, directory, user_id, number * 1_000_000, lambda: time.sleep(random.random()))
    command = [sys.executable, "-m", "tests.ingest.chaos", "check", url, str(directory), user_id, "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [int(number) for number in done.stdout.split()]
    assert len(found) == len(set(found)), "rows that are there twice"
    assert told <= set(found)
    assert len(set(found) - told) <= 31 * rounds


WAYS = ["kill", "stop", "cut", "drop"]


def upset(server: ModernServer, proxy: Proxy, way: str) -> None:
    """Make the server fail in one of several ways; it is there again when this returns."""
    time.sleep(random.random() * 0.5)
    if way == "kill":
        server.kill()
        time.sleep(random.random() * 0.3)
        server.start()
    elif way == "stop":
        server.pause()
        time.sleep(random.random() * 3)
        server.resume()
    elif way == "cut":
        proxy.cut()
    else:
        proxy.drop_answer(b"INSERT INTO", lambda: True)
    time.sleep(random.random() * 0.5)


@pytest.mark.parametrize(("driver", "rounds"), [("chnative", 2), *slow(300)])
def test_a_server_that_is_killed_stopped_and_cut_off_loses_nothing(
    server: ModernServer,
    proxy: Proxy,
    data: DataAccess,
    url: str,
    writer: Writer,
    tmp_path: Path,
    user_id: str,
    rounds: int,
) -> None:
    told: set[int] = set()
    ways = random.sample(WAYS, 4)
    # One writer lives through ten of them, so that its own settling is upset as well.
    for start in range(0, rounds, 10):

        def several(start: int = start) -> None:
            for number in range(start, min(rounds, start + 10)):
                upset(server, proxy, ways[number % 4])

        told |= run_and_kill(url, tmp_path / "spool", user_id, start * 1_000_000, several)
    check_after_crashes(data, writer, user_id, told, rounds)


@pytest.mark.parametrize(("driver", "rounds"), [("chhttp", 2), *slow(300)])
def test_a_writer_that_dies_while_its_server_does_loses_nothing(
    server: ModernServer,
    proxy: Proxy,
    data: DataAccess,
    url: str,
    writer: Writer,
    tmp_path: Path,
    user_id: str,
    rounds: int,
) -> None:
    told: set[int] = set()
    ways = random.sample(WAYS, 4)
    for number in range(rounds):

        def once(number: int = number) -> None:
            upset(server, proxy, ways[number % 4])

        spool = tmp_path / "spool"
        told |= run_and_kill(url, spool, user_id, number * 1_000_000, once, after=random.random() * 1.5)
    check_after_crashes(data, writer, user_id, told, rounds)
