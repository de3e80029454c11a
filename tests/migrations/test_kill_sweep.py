"""Whatever a run is killed at, one rerun ends in the right schema, with each row written and changed once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from netra_chdb import create_engine
from tests.migrations.conftest import Site
from tests.migrations.history import EVERY_OPERATION, History, every_operation, small
from tests.migrations.worker import ROOT, Worker
from tests.servers import ModernServer


def points(seen: list[str], every: int = 1) -> list[tuple[int, str]]:
    """Before each statement that changes something, and after each of the history's own and each change of version."""
    found = []
    for number, statement in enumerate(seen, start=1):
        found.append((number, "before"))
        if statement.startswith("/*") or "alembic_version_log" in statement:
            found.append((number, "after"))
    return found[::every]


def sweep(site: Site, direction: str, start: str, end: str, every: int = 1) -> int:
    """Kill a run from ``start`` to ``end`` at each point, and run it again."""

    def prepare() -> None:
        site.clear()
        if start != "base":
            assert site.move("upgrade", start)["status"] == 0

    prepare()
    whole = site.move(direction, end)
    assert whole["status"] == 0, whole["error"]
    wanted = site.state()
    tried = points(whole["seen"], every)
    for number, when in tried:
        prepare()
        killed = site.move(direction, end, kill=number, when=when)
        assert killed["status"] == -signal.SIGKILL, (
            number,
            when,
            len(whole["seen"]),
            killed["error"],
            killed["seen"][-3:],
        )
        site.expire_locks()
        again = site.move(direction, end)
        at = f"killed {when} statement {number}: {whole['seen'][number - 1]}"
        assert again["status"] == 0, f"{at}: {again['error']}"
        assert site.state() == wanted, at
    return len(tried)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("written", [small, every_operation])
@pytest.mark.parametrize(("direction", "start", "end"), [("upgrade", "base", "head"), ("downgrade", "head", "base")])
def test_killed_at_every_statement(
    site: Site, written: Callable[[Path], History], direction: str, start: str, end: str
) -> None:
    written(site.history.path)
    assert sweep(site, direction, start, end) > 20


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("direction", "start", "end"), [("upgrade", "base", "head"), ("downgrade", "head", "base")])
def test_our_own_revisions_killed_at_every_statement(site: Site, direction: str, start: str, end: str) -> None:
    site.history.path = ROOT / "alembic"
    assert sweep(site, direction, start, end) > 20


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_server_killed_around_every_statement(worker: Worker, tmp_path: Path) -> None:
    with ModernServer(tmp_path / "server") as server:
        engine = create_engine(sa.make_url(server.url("chhttp")))
        site = Site(server, worker, engine, tmp_path / "history")
        small(site.history.path)
        whole = site.move("upgrade", "head")
        assert whole["error"] == ""
        wanted = site.state()
        for number, when in points(whole["seen"]):
            site.clear()
            # The one that lost its server waits for it in vain, a little while.
            failed = site.move("upgrade", "head", kill=number, when=when, server=server.pid)
            assert failed["status"] == 1, (number, when)
            server.restart()
            site.expire_locks()
            again = site.move("upgrade", "head")
            assert again["error"] == "", f"{when} statement {number}: {whole['seen'][number - 1]}"
            assert site.state() == wanted, f"{when} statement {number}: {whole['seen'][number - 1]}"
        engine.dispose()


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


def test_killed_around_a_mutation(site: Site) -> None:
    """The short form: a mutation that must run once, killed before and after each statement about it."""
    site.history.add(
        "a1",
        """
op.create_table("t", sa.Column("k", ch.UInt32(), nullable=False), sa.Column("n", ch.UInt32(), nullable=False),
    ch.MergeTree(order_by=["k"]), schema=database)
op.execute(f"INSERT INTO {database}.t VALUES (1, 1), (2, 2)")
""",
    )
    site.history.add("a2", 'op.execute(f"ALTER TABLE {database}.t UPDATE n = n + 1 WHERE 1")')
    assert sweep(site, "upgrade", "a1", "a2") >= 8
    assert site.server.query("SELECT groupArray(n) FROM (SELECT n FROM netra_traces.t ORDER BY k)") == "[2,3]"
