"""Several upgrades at once: one works, the others wait; a holder that died is followed, and cannot come back."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from netra_chdb import create_engine
from netra_chdb.errors import MigrationLocked, NotReady
from netra_chdb.migrations.lock import Lock
from netra_chdb.migrations.waiting import mark
from tests.conftest import started
from tests.migrations.conftest import DATABASE, Site
from tests.migrations.history import small
from tests.migrations.worker import Worker
from tests.servers import ModernServer, wait_for


class LoggedServer(ModernServer):
    """A server that keeps ``system.query_log``."""

    def _command(self) -> tuple[list[str], dict[str, str]]:
        found = super()._command()
        config = self.base / "home" / ".clickhouse-local" / "config.xml"
        log = "<query_log><database>system</database><table>query_log</table></query_log>"
        config.write_text(config.read_text().replace("</clickhouse>", f"{log}</clickhouse>"))
        return found


@pytest.fixture
def logged_site(worker: Worker, tmp_path: Path) -> Iterator[Site]:
    for server in started(LoggedServer(tmp_path / "server")):
        engine = create_engine(sa.make_url(server.url("chhttp")))
        yield Site(server, worker, engine, tmp_path / "history")
        engine.dispose()


def at_once(site: Site, number: int) -> list[dict[str, Any]]:
    workers = [Worker().__enter__() for _ in range(number)]
    try:
        with ThreadPoolExecutor(number) as pool:
            jobs = [
                pool.submit(worker.run, **site.job("upgrade", "head", options={"lock_timeout": 120}))
                for worker in workers
            ]
            return [job.result() for job in jobs]
    finally:
        for worker in workers:
            worker.__exit__(None, None, None)


@pytest.mark.parametrize("number", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_many_upgrades_at_once_run_each_statement_once(logged_site: Site, number: int) -> None:
    site = logged_site
    small(site.history.path)
    done = at_once(site, number)
    assert [one["error"] for one in done] == [""] * number
    ran = [statement for one in done for statement in one["seen"] if statement.startswith("/*")]
    assert len(ran) == len(set(ran)), "a statement ran twice"
    assert sum(any(statement.startswith("/*") for statement in one["seen"]) for one in done) == 1
    journal = f"SELECT count(), uniqExact((revision, step)) FROM {DATABASE}.alembic_journal WHERE state = 'done'"
    assert site.server.query(journal) == f"{len(ran)}\t{len(ran)}"
    # The server's own account of it, of what it began and what it ended.
    site.server.query("SYSTEM FLUSH LOGS")
    for kind in ("QueryStart", "QueryFinish"):
        logged = site.server.query(
            "SELECT query FROM system.query_log "
            f"WHERE type = '{kind}' AND startsWith(query, '{mark(DATABASE)}') FORMAT TSVRaw"
        )
        counts = {query: logged.count(query) for query in ran}
        assert counts == dict.fromkeys(ran, 1)
        assert logged.count(mark(DATABASE)) == len(ran)
    # Rows that were inserted once and changed once.
    assert site.server.query(f"SELECT count(), sum(n) FROM {DATABASE}.t") == "10\t55"


def test_a_holder_that_was_killed_is_followed_within_its_lease(site: Site) -> None:
    small(site.history.path)
    killed = site.move("upgrade", "head", kill=12, when="before", options={"lease": 2})
    assert killed["status"] == -signal.SIGKILL
    began = time.monotonic()
    again = site.move("upgrade", "head", options={"lease": 2, "lock_timeout": 60})
    assert again["error"] == ""
    # Its age is told in whole seconds.
    assert time.monotonic() - began > 1
    assert site.heads() == ["a4"]


def test_the_holder_is_named(site: Site) -> None:
    with (
        Lock(site.engine, DATABASE),
        pytest.raises(MigrationLocked, match=rf"{DATABASE} is being migrated by .*process \d+"),
    ):
        Lock(site.engine, DATABASE, wait=0.2).__enter__()


def test_a_release_lets_the_next_one_in_at_once(site: Site) -> None:
    for _ in range(3):
        with Lock(site.engine, DATABASE, wait=1, lease=300):
            pass
    # Two epochs are kept: the newest, and the one before.
    assert site.tables("alembic_lock_") == ["alembic_lock_2", "alembic_lock_3"]


def test_a_holder_thought_dead_neither_works_on_nor_refreshes(site: Site) -> None:
    zombie = Lock(site.engine, DATABASE, lease=300)
    with zombie:
        # Its lease runs out for somebody with another idea of it: as after a pause of this process.
        time.sleep(1.1)
        with Lock(site.engine, DATABASE, lease=0.0, wait=10) as heir, site.engine.connect() as connection:
            with pytest.raises(MigrationLocked, match="was taken over by"):
                zombie.check(connection)
            heir._lease = 300
            heir.check(connection)
            own, zombie._epoch = zombie._epoch, heir._epoch
            with pytest.raises(Exception, match=r"NOT_FOUND_COLUMN_IN_BLOCK|UNKNOWN_TABLE"):
                zombie._refresh(connection, "held")
            zombie._epoch = own
    # The zombie's end released nothing of another's: the heir's own end did.
    with Lock(site.engine, DATABASE, wait=2, lease=300):
        pass


def test_a_late_creator_of_a_tidied_epoch_does_not_win(site: Site) -> None:
    for _ in range(2):
        with Lock(site.engine, DATABASE):
            pass
    late = Lock(site.engine, DATABASE, lease=300, wait=0)
    look = late._tables
    # First what it saw before it was paused: no lock at all.
    looks: Any = iter([lambda connection: {}])
    late._tables = lambda connection: next(looks, look)(connection)  # type: ignore[method-assign]
    with Lock(site.engine, DATABASE), site.engine.connect() as connection:
        assert site.tables("alembic_lock_") == ["alembic_lock_2", "alembic_lock_3"]
        assert late._try(connection) is not None
        assert site.tables("alembic_lock_") == ["alembic_lock_2", "alembic_lock_3"]


def test_a_statement_of_a_dead_holder_is_waited_for(site: Site) -> None:
    site.history.add("a", 'op.execute(f"CREATE TABLE {database}.t (n UInt32) ENGINE = Memory")')
    left = f"/* alembic {DATABASE} */ SELECT sleepEachRow(1) FROM numbers(60) SETTINGS max_block_size = 1"
    running = "SELECT count() FROM system.processes WHERE startsWith(query, '/* alembic')"
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(site.server.query, left)
        wait_for(lambda: site.server.query(running) == "1", "the statement")
        try:
            with pytest.raises(NotReady, match="a statement of an earlier run: SELECT sleepEachRow"):
                site.upgrade(wait_timeout=0.5)
            assert "t" not in site.tables()
        finally:
            site.server.query("KILL QUERY WHERE startsWith(query, '/* alembic') SYNC")
        assert sent.exception() is not None
    site.upgrade()
    assert "t" in site.tables()
