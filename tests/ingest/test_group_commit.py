"""Threads that share a write: interrupted by signals, or forked away in the middle of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from netra_chdb.ingest.group_commit import GroupCommit
from netra_chdb.ingest.spool import Spool
from tests.ingest.spools import put


class Ended(Exception):
    """What a signal's handler raises."""


def run(script: str, *arguments: object) -> Any:
    """Run a script in a process whose main thread is free to take signals, and return what it printed."""
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_child_forked_while_threads_write_can_write(tmp_path: Path) -> None:
    spool, ended = Spool(tmp_path), threading.Event()

    def write() -> None:
        while not ended.is_set():
            put(spool, 1)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(10):
            time.sleep(0.01)
            child = os.fork()
            if not child:
                try:
                    put(spool, f"child {number}")
                finally:
                    os._exit(0)
            deadline = time.monotonic() + 20
            while os.waitpid(child, os.WNOHANG) == (0, 0):
                if time.monotonic() > deadline:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    pytest.fail(f"child {number} hangs")
                time.sleep(0.005)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    found = spool.file.read(
        lambda connection: connection.exec_driver_sql("SELECT payload FROM entries WHERE payload LIKE '%child%'").all()
    )
    assert sorted(json.loads(payload)[0][0] for (payload,) in found) == [f"child {number}" for number in range(10)]
    assert spool.file.generation == 1
    spool.close()


HANDLER_WRITES = """
    import json, os, signal, sys, threading, time
    from pathlib import Path
    import sqlalchemy as sa
    from netra_chdb.ingest.spool import Spool
    spool, table = Spool(Path(sys.argv[1])), sa.table("t", sa.column("n"), schema="d")
    refused, kept, late = [], [], 0
    def handler(*_):
        try:
            spool.append(table, ["n"], [["handler"]])
            kept.append(1)
        except RuntimeError as error:
            refused.append(str(error))
    signal.signal(signal.SIGUSR1, handler)
    def poke():
        for _ in range(200):
            time.sleep(0.003)
            os.kill(os.getpid(), signal.SIGUSR1)
    thread = threading.Thread(target=poke)
    thread.start()
    written = 0
    while thread.is_alive():
        spool.append(table, ["n"], [[written]])
        written += 1
    print(json.dumps([written, len(kept), sorted(set(refused)), spool.counts()[0]]))
"""


def test_a_handler_that_writes_in_the_middle_of_a_write_is_refused(tmp_path: Path) -> None:
    written, kept, refused, there = run(HANDLER_WRITES, tmp_path)
    assert len(refused) == 1
    assert "a signal's handler" in refused[0]
    assert there == written + kept


HANDLER_RAISES = """
    import json, os, signal, sys, threading, time
    from pathlib import Path
    import sqlalchemy as sa
    from netra_chdb.ingest.spool import Spool
    class Ended(Exception): pass
    armed = False
    def handler(*_):
        if armed:
            raise Ended
    spool, table = Spool(Path(sys.argv[1])), sa.table("t", sa.column("n"), schema="d")
    ended, told, errors = threading.Event(), [], []
    def write(name):
        number = 0
        while not ended.is_set():
            number += 1
            try:
                spool.append(table, ["n"], [[f"{name} {number}"]])
                told.append(f"{name} {number}")
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")
    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in threads: thread.start()
    signal.signal(signal.SIGUSR1, handler)
    def poke():
        for _ in range(150):
            time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGUSR1)
    poking = threading.Thread(target=poke)
    poking.start()
    interrupted = number = 0
    while poking.is_alive():
        number += 1
        try:
            armed = True
            spool.append(table, ["n"], [[f"main {number}"]])
            armed = False
            told.append(f"main {number}")
        except Ended:
            armed = False
            interrupted += 1
    ended.set()
    for thread in threads: thread.join(20)
    alive = sum(thread.is_alive() for thread in threads)
    kept = spool.file.read(lambda c: [json.loads(p)[0][0] for (p,) in c.exec_driver_sql("SELECT payload FROM entries")])
    lost = len(set(told) - set(kept))
    print(json.dumps([interrupted, alive, lost, len(kept) - len(set(kept)), sorted(set(errors))]), flush=True)
    os._exit(0)
"""


def test_a_handler_that_raises_ends_its_own_thread_alone(tmp_path: Path) -> None:
    interrupted, alive, lost, twice, errors = run(HANDLER_RAISES, tmp_path)
    assert interrupted > 20
    assert (alive, lost, twice) == (0, 0, 0)
    # Those who shared the interrupted write: it was over, or not, nobody knows.
    assert errors in ([], ["RuntimeError: the thread that wrote this was interrupted: it may be kept, or not"])


def test_interrupted_anywhere_it_goes_on() -> None:
    """A signal every half millisecond of processor time, in the middle of everything."""
    group = GroupCommit[int](lambda items: None, ())
    armed = False

    def end(*_: object) -> None:
        if armed:
            raise Ended

    before = signal.signal(signal.SIGPROF, end)
    interrupted, deadline = 0, time.monotonic() + 60
    signal.setitimer(signal.ITIMER_PROF, 0.0005, 0.0007)
    try:
        while interrupted < 300 and time.monotonic() < deadline:
            try:
                armed = True
                while True:
                    group.submit(1)
            except Ended:
                armed = False
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    assert interrupted == 300
    done = threading.Thread(target=group.submit, args=(1,), daemon=True)
    done.start()
    done.join(10)
    assert not done.is_alive()


def test_what_a_write_raises_is_told_to_all_who_shared_it() -> None:
    started, go = threading.Event(), threading.Event()
    seen: list[list[int]] = []

    def write(items: list[int]) -> None:
        seen.append(items)
        if items == [0]:
            started.set()
            go.wait(10)
        else:
            raise OSError("the disk is gone")

    group = GroupCommit[int](write, (OSError,))
    errors: list[str] = []

    def submit(item: int) -> None:
        try:
            group.submit(item)
        except OSError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=submit, args=(item,)) for item in range(5)]
    threads[0].start()
    started.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(group._waiting) < 4:
        time.sleep(0.001)
    go.set()
    for thread in threads:
        thread.join(10)
    assert sorted(map(len, seen)) == [1, 4]
    assert errors == ["the disk is gone"] * 4
