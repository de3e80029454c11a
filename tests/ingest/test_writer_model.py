"""Any sequence of records, inserts, flushes, crashes and outages against a model of what was acknowledged.

A crash is the end of one writer's world at a write to its spool: the write happens or not, and nothing that this
writer does later, in any of its threads, reaches the disk. The next writer finds what is there.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from netra_chdb import DataAccess
from netra_chdb.errors import NotReady
from netra_chdb.models.analytics import PerformanceMetric
from tests.ingest.chaos import access, assert_summaries, ids, metric, writer_on
from tests.proxy import Proxy
from tests.servers import ModernServer


class Crash(BaseException):
    """The process is gone."""


class Line(Proxy):
    """A line to a server that may be away."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._port = port

    def break_off(self) -> None:
        """Nobody answers any more."""
        self._target = 1  # nobody listens there
        self.cut()

    def mend(self) -> None:
        """The server is back."""
        self._target = self._port


class Process:
    """A writer that can die at each write to its spool."""

    def __init__(self, data: DataAccess, directory: Path) -> None:
        self.writer = writer_on(data.engine, directory, grace=0.05, flush_rows=4, flush_interval=0.02)
        self.dead = False
        self.writes_left = 0
        self.is_last_done = False
        self._write = self.writer.spool.file.write
        self.writer.spool.file.write = self._counted  # type: ignore[method-assign]

    def _counted(self, run: Any, **options: Any) -> Any:
        if not self.dead and self.writes_left != 1:
            self.writes_left = max(0, self.writes_left - 1)
            return self._write(run, **options)
        is_done, self.dead = self.is_last_done and not self.dead, True
        if is_done:
            self._write(run, **options)
        raise Crash

    def end(self) -> None:
        """Let go what the kernel takes from a process that is gone."""
        self.dead = True
        flusher, spool = self.writer._flusher, self.writer.spool
        if flusher is not None:
            flusher._closing.set()
            flusher.wake.set()
            flusher.join(60)
            assert not flusher.is_alive()
        spool.file.close()
        spool.drainer.close()
        if spool._owner is not None:
            spool._owner[2].close()


class WriterMachine(RuleBasedStateMachine):
    """``told``: what the writer acknowledged; ``asides``: rows put aside; ``unsure``: what it died over."""

    def __init__(self, data: DataAccess, line: Line) -> None:
        super().__init__()
        self.data, self.line = data, line
        self.directory = Path(tempfile.mkdtemp())
        self.user_id = f"user-{uuid.uuid4().hex}"
        self.process = Process(data, self.directory)
        self.is_away = False
        self.number = 0
        self.asides = 0
        self.told: set[int] = set()
        self.unsure: list[frozenset[int]] = []

    def teardown(self) -> None:
        self.line.mend()
        try:
            self.compare()
        finally:
            self.process.end()
            shutil.rmtree(self.directory)

    def write(self, count: int, act: Callable[[list[dict[str, Any]]], Any]) -> bool:
        """Write rows that no other rows equal; says whether the writer lived to acknowledge them."""
        numbers = frozenset(range(self.number, self.number + count))
        self.number += count
        try:
            act([metric(self.user_id, number) for number in sorted(numbers)])
        except Crash:
            self.unsure.append(numbers)
            self.begin_again()
            return False
        self.told |= numbers
        return True

    def begin_again(self) -> None:
        self.process.end()
        self.process = Process(self.data, self.directory)

    @rule(count=st.integers(1, 6))
    def record(self, count: int) -> None:
        for _ in range(count):
            self.write(1, lambda rows: self.process.writer.record(PerformanceMetric, rows[0]))

    @rule(count=st.integers(1, 6))
    def insert(self, count: int) -> None:
        self.write(count, lambda rows: self.process.writer.insert(PerformanceMetric, rows))

    @rule(count=st.integers(1, 3))
    def insert_with_a_bad_row(self, count: int) -> None:
        bad = {"user_id": self.user_id, "value": "many"}

        def act(rows: list[dict[str, Any]]) -> None:
            receipt = self.process.writer.insert(PerformanceMetric, [bad, *rows], on_invalid="quarantine")
            assert (receipt.rows, {problem.row for problem in receipt.quarantined}) == (count, {0})

        if self.write(count, act):
            self.asides += 1
        else:
            self.asides = len(self.process.writer.quarantine)  # put aside or not, nobody was told

    @rule(left=st.integers(1, 6), is_last_done=st.booleans())
    def die_soon(self, left: int, is_last_done: bool) -> None:
        self.process.is_last_done, self.process.writes_left = is_last_done, left

    @rule()
    def die(self) -> None:
        self.begin_again()

    @rule(count=st.integers(1, 6))
    def insert_and_lose_the_answer(self, count: int) -> None:
        self.line.drop_answer(b"INSERT INTO", lambda: True)
        self.insert(count)

    @rule()
    def go_away(self) -> None:
        self.is_away = True
        self.line.break_off()

    @precondition(lambda self: self.is_away)
    @rule()
    def come_back(self) -> None:
        self.is_away = False
        self.line.mend()

    @precondition(lambda self: self.is_away)
    @rule()
    def flush_in_vain(self) -> None:
        with contextlib.suppress(NotReady, Crash):
            self.process.writer.flush(0.05)
            # An insert that its writer died over was promised to nobody.
            assert self.process.writer.spool.counts()[0] == 0
        if self.process.dead:
            self.begin_again()

    @precondition(lambda self: not self.is_away)
    @rule()
    def compare(self) -> None:
        if self.process.dead:
            self.begin_again()
        self.process.writes_left = 0
        self.process.writer.start()
        self.process.writer.flush(60)
        found = ids(self.data.engine, self.user_id)
        assert set(found.values()) <= {1}, "rows that are there twice"
        for numbers in self.unsure:
            assert numbers <= set(found) or not numbers & set(found), "half of an insert"
            self.told |= numbers & set(found)
        self.unsure = []
        assert set(found) == self.told
        assert len(self.process.writer.quarantine) == self.asides
        condition = PerformanceMetric.user_id == self.user_id
        assert_summaries(
            self.data.engine, PerformanceMetric, condition, of=lambda target: target.user_id == self.user_id
        )


@pytest.mark.parametrize(
    ("examples", "steps"),
    [(6, 15), pytest.param(150, 40, marks=[pytest.mark.slow, pytest.mark.timeout(7200)])],
    ids=["few", "many"],
)
@pytest.mark.parametrize("driver", ["chhttp", "chnative"])
def test_any_sequence_keeps_what_was_acknowledged(
    server: ModernServer, driver: str, examples: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = threading.excepthook
    # A thread that dies with its process has nothing to say.
    monkeypatch.setattr(threading, "excepthook", lambda said: None if said.exc_type is Crash else told(said))
    port = server.http_port if driver == "chhttp" else server.tcp_port
    with Line(port) as line, access(server.url(driver, port=line.port, connect_timeout=2)) as data:
        run_state_machine_as_test(
            lambda: WriterMachine(data, line),  # type: ignore[arg-type]
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
