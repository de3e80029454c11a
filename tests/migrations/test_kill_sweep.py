"""Whatever a run is killed at, one rerun ends in the right schema, with each row written and changed once."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.operations import Operations

from netra_chdb import create_engine
from netra_chdb.migrations import DATABASES
from tests.migrations.conftest import Site
from tests.migrations.history import EVERY_OPERATION, every_operation, small
from tests.migrations.worker import ROOT, Worker
from tests.servers import ModernServer

UP_AND_DOWN = pytest.mark.parametrize("direction", ["upgrade", "downgrade"])
BACK = {"upgrade": "downgrade", "downgrade": "upgrade"}


def points(seen: list[str]) -> Iterator[tuple[int, str]]:
    """Before each statement that changes something, and after each of the history's own and each change of version."""
    for number, statement in enumerate(seen, start=1):
        yield number, "before"
        if statement.startswith("/*") or "alembic_version_log" in statement:
            yield number, "after"


def of_the_step(seen: list[str]) -> Iterator[tuple[int, str]]:
    """Only what is the step's own: the lock and the tables of migrations come before its first entry."""
    entry = re.compile(r"\s*INSERT INTO \S+\.alembic_(journal|version_log)\b")
    first = next(number for number, one in enumerate(seen, start=1) if entry.match(one))
    return ((number, when) for number, when in points(seen) if number >= first)


class Sweep:
    """Kills runs, or the server under them, and runs them again."""

    def __init__(self, site: Site, *, kills_server: bool = False, **options: Any) -> None:
        self.site, self.kills_server, self.options = site, kills_server, options
        self.killed = 0

    def move(self, direction: str, revision: str, **job: Any) -> list[str]:
        done = self.site.move(direction, revision, options=self.options, **job)
        assert done["error"] == ""
        return list(done["seen"])

    def over(
        self,
        direction: str,
        end: str,
        prepare: Callable[[], object],
        choose: Callable[[list[str]], Iterator[tuple[int, str]]] = points,
    ) -> None:
        """Kill a run to ``end`` at each point, each time from where ``prepare`` brings the database."""
        prepare()
        seen = self.move(direction, end)
        wanted = self.site.state()
        for number, when in choose(seen):
            prepare()
            self._kill(direction, end, number, when)
            again = self.site.move(direction, end, options=self.options)
            at = f"killed {when} statement {number}: {seen[number - 1]}"
            assert again["error"] == "", at
            assert self.site.state() == wanted, at
            self.killed += 1

    def _kill(self, direction: str, end: str, number: int, when: str) -> None:
        victim = {"server": self.site.server.pid} if self.kills_server else {}
        ended = self.site.move(direction, end, options=self.options, kill=number, when=when, **victim)
        # One that lost its server waits for it in vain, a little while; unless only its lock was left to give back.
        expected = (0, 1) if self.kills_server else (-signal.SIGKILL,)
        assert ended["status"] in expected, (number, when, ended["error"], ended["seen"][-3:])
        if self.kills_server:
            self.site.server.restart()
        self.site.expire_locks()

    def whole(self, direction: str) -> None:
        """Kill a run over the whole history at each point."""

        def prepare() -> None:
            self.site.clear()
            if direction == "downgrade":
                self.move("upgrade", "head")

        self.over(direction, "head" if direction == "upgrade" else "base", prepare)

    def by_steps(self, direction: str, revisions: list[str]) -> None:
        """Kill each revision's own run at each point; what it starts from is where the one before it ended.

        That is every point of a run over all of them, for a run of one revision each.
        """
        if direction == "downgrade":
            revisions = revisions[::-1]
        self.site.clear()
        self.move("upgrade", revisions[0])
        for start, end in pairwise(revisions):
            went = False

            def prepare(start: str = start) -> None:
                nonlocal went
                if went:
                    self.move(BACK[direction], start)
                went = True

            self.over(direction, end, prepare, of_the_step)


@pytest.fixture(params=["process", "server"])
def sweep(request: pytest.FixtureRequest, worker: Worker, tmp_path: Path) -> Iterator[Sweep]:
    """A sweep that kills the one or the other; over a server of its own, which may be killed."""
    with ModernServer(tmp_path / "server") as server:
        engine = create_engine(sa.make_url(server.url("chhttp")))
        sweep = Sweep(Site(server, worker, engine, tmp_path / "history"), kills_server=request.param == "server")
        yield sweep
        engine.dispose()
    print(f"{request.node.name}: {sweep.killed} times killed and run again")


@pytest.mark.slow
@pytest.mark.timeout(7200)
@UP_AND_DOWN
def test_killed_at_every_statement(sweep: Sweep, direction: str) -> None:
    """A history with branches and a merge."""
    small(sweep.site.history.path)
    sweep.whole(direction)
    assert sweep.killed > 40


@pytest.mark.slow
@pytest.mark.timeout(7200)
@UP_AND_DOWN
def test_every_operation_killed_at_every_statement(sweep: Sweep, direction: str) -> None:
    every_operation(sweep.site.history.path)
    sweep.by_steps(direction, [f"r{number:02}" for number in range(len(EVERY_OPERATION) + 1)])
    assert sweep.killed > 5 * len(EVERY_OPERATION)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@UP_AND_DOWN
@pytest.mark.parametrize("database", DATABASES)
def test_our_own_revisions_killed_at_every_statement(sweep: Sweep, direction: str, database: str) -> None:
    sweep.site.history.path, sweep.site.database = ROOT / "alembic", database
    sweep.whole(direction)
    assert sweep.killed > 20


MUTATION = (
    """
op.create_table("t", sa.Column("k", ch.UInt32(), nullable=False), sa.Column("n", ch.UInt32(), nullable=False),
    ch.MergeTree(order_by=["k"]), schema=database)
op.execute(f"INSERT INTO {database}.t VALUES (1, 1), (2, 2)")
""",
    'op.mutate("t", "UPDATE n = n + 1 WHERE 1", schema=database)',
    'op.mutate("t", "UPDATE n = n - 1 WHERE 1", schema=database)',
)


def test_killed_around_a_mutation(sweep: Sweep) -> None:
    """The short form: a mutation that must run once, and its own entries in the journal."""
    table, up, down = MUTATION
    sweep.site.history.add("a1", table)
    sweep.site.history.add("a2", up, down)
    sweep.by_steps("upgrade", ["a1", "a2"])
    assert sweep.killed >= 6
    assert sweep.site.server.query("SELECT groupArray(n) FROM (SELECT n FROM netra_traces.t ORDER BY k)") == "[2,3]"


#: What ClickHouse has nothing for, what runs no statement, and rows: a killed INSERT of values is asked about.
NOT_IN_THE_HISTORY = {
    *("create_foreign_key", "create_primary_key", "create_unique_constraint", "create_exclude_constraint"),
    *("refuse", "bulk_insert"),
}


def test_the_history_has_every_operation(tmp_path: Path) -> None:
    text = "".join(path.read_text() for path in (every_operation(tmp_path).path / "versions").iterdir())
    # Alembic makes a method of each operation's class, which is a name there.
    operations = {name for name in dir(Operations) if "op_cls" in getattr(getattr(Operations, name), "__globals__", {})}
    assert {name for name in operations if f"op.{name}(" not in text} == NOT_IN_THE_HISTORY


@pytest.mark.slow
def test_every_operation_up_and_down(site: Site) -> None:
    """The history of the slow sweep, unharmed: what it does is taken back."""
    every_operation(site.history.path)
    done = site.move("upgrade", "r00")
    assert done["error"] == ""
    before = site.state()
    assert site.move("upgrade", "head")["error"] == ""
    assert site.heads() == [f"r{len(EVERY_OPERATION):02}"]
    assert site.move("downgrade", "r00")["error"] == ""
    # A sort key that was once longer leaves the primary key written out.
    assert site.state().replace("PRIMARY KEY k ", "") == before
