"""Any sequence of appends, drains, failures and restarts against lists in memory: order and number are kept."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from netra_chdb.ingest.backlog import Backlog
from netra_chdb.ingest.batch import Batch
from netra_chdb.ingest.quarantine import Quarantine
from netra_chdb.ingest.queued import Attempt
from netra_chdb.ingest.spool import Spool

TABLES = {name: sa.table(name, schema="d") for name in ("a", "b")}
names = st.sampled_from(sorted(TABLES))


class SpoolMachine(RuleBasedStateMachine):
    """``waiting`` is what must come out of each table's queue, in order; ``arrived`` what a server would have."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.spool = Spool(self.directory)
        self.waiting: dict[str, list[int]] = {name: [] for name in TABLES}
        self.arrived: dict[str, list[int]] = {name: [] for name in TABLES}
        self.aside: list[int] = []
        self.number = 0

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.directory)

    def new(self, count: int) -> list[int]:
        self.number += count
        return list(range(self.number - count, self.number))

    def front(self, name: str, limit: int = 4) -> tuple[Any, Batch] | None:
        """The batch that a drainer would send next, frozen now if need be."""
        backlog = Backlog(self.spool)
        queued = backlog.next_batch("d", name)
        if queued is None:
            return backlog.freeze("d", name, limit)
        return queued, backlog.load(queued)

    @rule(name=names, count=st.integers(1, 5))
    def append(self, name: str, count: int) -> None:
        numbers = self.new(count)
        self.spool.append(TABLES[name], ["n"], [[number] for number in numbers])
        self.waiting[name] += numbers

    @rule(name=names, count=st.integers(1, 5))
    def append_with_other_columns(self, name: str, count: int) -> None:
        numbers = self.new(count)
        self.spool.append(TABLES[name], ["n", "m"], [[number, "m"] for number in numbers])
        self.waiting[name] += numbers

    @rule(name=names, count=st.integers(1, 5), sent=st.booleans())
    def keep(self, name: str, count: int, sent: bool) -> None:
        numbers = self.new(count)
        batch = Batch.of(TABLES[name], ["n"], [[number] for number in numbers])
        self.spool.intend(batch, Attempt(batch.token))
        self.spool.keep(batch, "sent" if sent else "frozen", Attempt(batch.token), reason="away")
        self.waiting[name] += numbers

    @rule(name=names, suspect=st.booleans())
    def send(self, name: str, suspect: bool) -> None:
        front = self.front(name)
        if front is None:
            assert self.waiting[name] == []
            return
        queued, batch = front
        rows = [row[0] for row in batch.own_rows()]
        assert rows == self.waiting[name][: len(rows)]
        self.arrived[name] += rows
        del self.waiting[name][: len(rows)]
        if suspect:
            Backlog(self.spool).stored(queued)
        else:
            Backlog(self.spool).done(queued)

    @rule(name=names)
    def send_and_die(self, name: str) -> None:
        """The batch is frozen and what was sent is noted; nothing came of it."""
        before = self.front(name)
        self.restart()
        after = self.front(name)
        assert (before is None) == (after is None)
        if before is not None and after is not None:
            assert (after[0].batch_id, after[0].created_at) == (before[0].batch_id, before[0].created_at)
            assert after[1].data == before[1].data

    @rule(name=names)
    def split(self, name: str) -> None:
        front = self.front(name)
        if front is not None and front[0].rows > 1:
            Backlog(self.spool).split(*front)

    @rule(name=names)
    def put_aside(self, name: str) -> None:
        front = self.front(name, limit=2)
        if front is not None:
            Backlog(self.spool).put_aside(*front, "bad")
            rows = [row[0] for row in front[1].own_rows()]
            self.aside += rows
            del self.waiting[name][: len(rows)]

    @precondition(lambda self: self.aside)
    @rule()
    def requeue(self) -> None:
        quarantine = Quarantine(self.spool)
        for row in list(quarantine.rows()):
            assert row.row is not None
            self.waiting[row.table.removeprefix("d.")].append(row.row["n"])
        assert quarantine.requeue() == len(self.aside)
        self.aside = []

    @rule()
    def restart(self) -> None:
        self.spool.close()
        self.spool = Spool(self.directory)

    @rule()
    def compare(self) -> None:
        backlog = Backlog(self.spool)
        for queued in backlog.loose():
            backlog.done(queued)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        everything = [*self.aside]
        for name in TABLES:
            everything += self.waiting[name] + self.arrived[name]
        assert sorted(everything) == list(range(self.number))
        assert len(Quarantine(self.spool)) == len(self.aside)
        waiting = {("d", name) for name, numbers in self.waiting.items() if numbers}
        assert set(Backlog(self.spool).tables()) == waiting
        with_rows = self.spool.file.read(
            lambda connection: connection.exec_driver_sql("SELECT coalesce(sum(rows), 0) FROM entries").scalar_one()
        )
        # A split batch's entry stays until its last part is gone.
        assert with_rows >= sum(map(len, self.waiting.values()))


TestSpoolModel = SpoolMachine.TestCase
TestSpoolModel.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
