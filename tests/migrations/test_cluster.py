"""A real cluster of ClickHouse 18.16, 2 shards with 2 replicas each: what an upgrade makes there, and with a host away.

The models are reduced to what so old a server knows; the full schema's statements are in test_cluster_sql.
"""

from __future__ import annotations

import logging
import time
from ast import literal_eval
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from netra_chdb import Config, create_engine, dialect, migrations
from netra_chdb.errors import MigrationLocked, NotReady, SchemaMismatch, code_of
from netra_chdb.migrations.cluster_hosts import Hosts
from netra_chdb.migrations.cluster_lock import ClusterLock
from netra_chdb.migrations.journal import Journal
from tests.cluster import CLUSTER, Cluster, Node
from tests.conftest import started
from tests.migrations.history import History
from tests.servers import wait_for

DATABASE = "netra_analytics"

TABLES = """
op.create_table(
    "events", sa.Column("user_id", ch.String(), nullable=False), sa.Column("n", ch.UInt32(), nullable=False),
    ch.MergeTree(order_by=["user_id", "n"]), schema=database)
op.create_table(
    "per_user", sa.Column("user_id", ch.String(), nullable=False), sa.Column("total", ch.UInt64(), nullable=False),
    ch.SummingMergeTree(order_by=["user_id"]), schema=database)
op.create_materialized_view(
    "mv_per_user", to="per_user", schema=database,
    select=f"SELECT user_id, sum(n) AS total FROM {database}.events GROUP BY user_id")
"""
NO_TABLES = """
op.drop_materialized_view("mv_per_user", schema=database)
op.drop_table("per_user", schema=database)
op.drop_table("events", schema=database)
"""
CHANGES = """
op.run_sql(f"INSERT INTO {database}.events SELECT 'seed', number FROM numbers(3)", repeatable=True)
op.mutate("events", "DELETE WHERE user_id = 'seed' AND n = 2", schema=database)
op.add_column("events", sa.Column("kind", ch.String(), nullable=False, server_default="ui"), schema=database)
"""
NO_CHANGES = 'op.drop_column("events", "kind", schema=database)'

EVENTS = sa.table("events", sa.column("user_id", dialect.String()), sa.column("n", dialect.UInt32()), schema=DATABASE)
PER_USER = sa.table(
    "per_user", sa.column("user_id", dialect.String()), sa.column("total", dialect.UInt64()), schema=DATABASE
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    for running in started(Cluster(tmp_path_factory.mktemp("cluster"))):
        with running.mended():
            yield running


@pytest.fixture
def history(tmp_path: Path) -> History:
    history = History(tmp_path / "history")
    history.add("a", TABLES, NO_TABLES)
    history.add("b", CHANGES, NO_CHANGES)
    return history


class Site:
    """One database on the cluster, migrated from any of its hosts."""

    def __init__(self, cluster: Cluster, history: History) -> None:
        self.cluster, self.history = cluster, history
        self.engines: dict[str, sa.Engine] = {}

    def engine(self, node: Node) -> sa.Engine:
        if node.name not in self.engines:
            config = Config(url=node.url("chnative"), cluster=CLUSTER)
            self.engines[node.name] = create_engine(config, poolclass=sa.NullPool)
        return self.engines[node.name]

    def options(self, **more: Any) -> dict[str, Any]:
        scripts = self.history.path
        return {"scripts": scripts, "database": DATABASE, "allow_destructive": True, "lock_timeout": 20.0, **more}

    def upgrade(self, node: Node, revision: str = "head") -> None:
        self._moved(migrations.upgrade, node, revision)

    def downgrade(self, node: Node, revision: str) -> None:
        self._moved(migrations.downgrade, node, revision)

    def _moved(self, move: Callable[..., Any], node: Node, revision: str) -> None:
        for attempt in range(4):
            try:
                move(self.engine(node), revision, **self.options())
            except sa.exc.DatabaseError as error:
                # 18.16 gives up an ALTER that both replicas of a shard come to at the same moment.
                if attempt == 3 or code_of(error) != 48 or "run the same command again" not in str(error):
                    raise
            else:
                return

    def everywhere(self, sql: str) -> list[str]:
        """Ask each host by itself."""
        return [node.query(sql) for node in self.cluster.nodes]

    def tables(self) -> str:
        """Every table with its definition; the same on each host."""
        found = self.everywhere(
            f"SELECT name, create_table_query FROM system.tables WHERE database = '{DATABASE}' "
            "AND name NOT LIKE 'alembic%' ORDER BY name"
        )
        assert len(set(found)) == 1, found
        return found[0]

    def settled(self) -> None:
        for table in ("events_local", "per_user_local", "alembic_version_log"):
            self.everywhere(f"SYSTEM SYNC REPLICA {DATABASE}.{table}")


@pytest.fixture
def site(cluster: Cluster, history: History) -> Iterator[Site]:
    site = Site(cluster, history)
    yield site
    for node in cluster.nodes:
        if node._process is None:
            node.start()
    cluster.nodes[0].query(f"DROP DATABASE IF EXISTS {DATABASE} ON CLUSTER `{CLUSTER}`")
    for engine in site.engines.values():
        engine.dispose()


def killed_at(engine: sa.Engine, text: str, node: Node) -> Callable[[], None]:
    """Kill a node when a statement with ``text`` is about to be sent."""

    def kill(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        if text in statement and node._process is not None:
            node.kill()

    event.listen(engine, "before_cursor_execute", kill)
    return lambda: event.remove(engine, "before_cursor_execute", kill)


def test_up_written_read_and_down(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "alembic.netra_chdb")
    first, last = site.cluster.nodes[0], site.cluster.nodes[-1]
    site.upgrade(first)
    # Each host is reported.
    names = ", ".join(sorted(node.name for node in site.cluster.nodes))
    assert f"{DATABASE}: carried out on {names}" in caplog.text
    assert site.tables().count("\n") + 1 == 5  # two tables and their local ones, and a view
    # The application says nothing of a cluster.
    rows = [{"user_id": f"user-{n % 20}", "n": n} for n in range(100)]
    with site.engine(last).connect() as connection:
        connection.execute(sa.insert(EVENTS), rows)
        site.settled()
        # Sent to the shards by then: another host reads what this one wrote, once its replicas have it.
        assert first.query(f"SELECT count(), sum(n) FROM {DATABASE}.events WHERE user_id != 'seed'") == "100\t4950"
    with site.engine(first).connect() as connection:
        found = connection.execute(sa.select(EVENTS.c.n).where(EVENTS.c.user_id == "user-7").order_by(EVENTS.c.n))
        assert found.scalars().all() == [7, 27, 47, 67, 87]
        per_user = sa.select(PER_USER.c.user_id, sa.func.sum(PER_USER.c.total)).group_by(PER_USER.c.user_id)
        found_per_user = {user: total for user, total in connection.execute(per_user) if user != "seed"}
        assert found_per_user == {f"user-{k}": sum(range(k, 100, 20)) for k in range(20)}
        # A subquery over a distributed table, which the server refuses by itself.
        of_some = sa.select(EVENTS.c.user_id).where(EVENTS.c.n < 3)
        counted = sa.select(sa.func.count()).select_from(EVENTS).where(EVENTS.c.user_id.in_(of_some))
        assert connection.execute(counted).scalar_one() == 3 * 5 + 2
    # Each user's rows are on one shard, each row on both of its replicas.
    users = site.everywhere(f"SELECT groupUniqArray(user_id) FROM {DATABASE}.events_local")
    counts = site.everywhere(f"SELECT count() FROM {DATABASE}.events_local WHERE user_id != 'seed'")
    assert counts[0] == counts[1]
    assert counts[2] == counts[3]
    assert int(counts[0]) + int(counts[2]) == 100
    assert not set(literal_eval(users[0])) & set(literal_eval(users[2]))
    # 'seed' was inserted by the revision: one of three rows deleted on whichever shard has it.
    assert first.query(f"SELECT count() FROM {DATABASE}.events WHERE user_id = 'seed' AND kind = 'ui'") == "2"
    assert site.everywhere(f"SELECT version_num FROM {DATABASE}.alembic_version") == ["b"] * 4
    # From any host there is nothing to do, and the way back begins.
    before = last.query(f"SELECT count() FROM {DATABASE}.alembic_journal")
    site.upgrade(last)
    assert last.query(f"SELECT count() FROM {DATABASE}.alembic_journal") == before
    site.downgrade(last, "a")
    assert "kind" not in site.tables()
    assert first.query(f"SELECT sum(n) FROM {DATABASE}.events") == "4951"
    site.downgrade(first, "base")
    assert all(DATABASE not in databases for databases in site.everywhere("SHOW DATABASES"))
    # The paths in ZooKeeper are free again.
    site.upgrade(last, "a")


def test_a_replica_killed_in_the_middle_of_an_upgrade(site: Site) -> None:
    """The statement that it misses is refused by its name, a rerun too; when it is back a rerun completes."""
    first, dead = site.cluster.nodes[0], site.cluster.nodes[3]
    stop = killed_at(site.engine(first), "CREATE TABLE netra_analytics.per_user_local ON CLUSTER", dead)
    with pytest.raises(NotReady) as caught:
        site.upgrade(first)
    stop()
    assert f"{dead.name} of cluster 'test-cluster' has not carried out" in str(caught.value)
    assert "CREATE TABLE netra_analytics.per_user_local ON CLUSTER" in str(caught.value)
    assert "Start it, or take it out of the cluster" in str(caught.value)
    assert "run the same command again" in str(caught.value)

    # Now it is known before anything is sent.
    with pytest.raises(NotReady, match=f"{dead.name} of cluster 'test-cluster' is down"):
        site.upgrade(first)

    dead.start()
    site.upgrade(first)
    assert site.tables().count("\n") + 1 == 5
    assert site.everywhere(f"SELECT count() FROM {DATABASE}.alembic_version") == ["1"] * 4
    done = first.query(
        f"SELECT revision, step, argMax(state, written) FROM {DATABASE}.alembic_journal "
        "GROUP BY revision, step ORDER BY revision, step"
    )
    assert {line.split("\t")[2] for line in done.splitlines()} == {"done"}
    site.downgrade(dead, "base")


def test_a_host_that_refuses_a_statement(site: Site) -> None:
    """The others have carried it out: once the cause is mended, a rerun completes what is missing."""
    first, odd = site.cluster.nodes[0], site.cluster.nodes[2]
    site.upgrade(first, "a")
    odd.query(f"ALTER TABLE {DATABASE}.events_local ADD COLUMN kind UInt8")  # for its whole shard
    with pytest.raises((sa.exc.DBAPIError, SchemaMismatch), match="kind"):
        site.upgrade(first)
    odd.query(f"ALTER TABLE {DATABASE}.events_local DROP COLUMN kind")
    site.upgrade(first)
    assert len(set(site.everywhere(f"DESCRIBE TABLE {DATABASE}.events"))) == 1


def test_rows_that_may_have_been_inserted_are_asked_about(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """They went to whichever shard: this host's blocks say nothing."""
    first = site.cluster.nodes[0]
    site.upgrade(first, "a")
    site.history.add(
        "c", "op.run_sql(f\"INSERT INTO {database}.events SELECT 'x', number FROM numbers(5)\")", after="a"
    )

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "_finish", stop)  # as if killed there
        with pytest.raises(KeyboardInterrupt):
            site.upgrade(first, "c")
    with pytest.raises(SchemaMismatch, match="nothing shows whether it was carried out"):
        site.upgrade(first, "c")
    migrations.upgrade(site.engine(first), "c", **site.options(step="done"))
    assert first.query(f"SELECT count() FROM {DATABASE}.events") == "5"


def test_a_column_is_added_where_nothing_may_be_lost(site: Site) -> None:
    """So old a server gets a new distributed table for it; nothing is lost by that."""
    first = site.cluster.nodes[0]
    migrations.upgrade(site.engine(first), "a", **site.options(allow_destructive=False))
    site.history.add(
        "d", 'op.add_column("events", sa.Column("d", ch.String(), nullable=False), schema=database)', after="a"
    )
    migrations.upgrade(site.engine(first), "d", **site.options(allow_destructive=False))
    assert "`d` String" in site.tables() or "d String" in site.tables()
    with pytest.raises(SchemaMismatch, match="this would lose data for good"):
        migrations.downgrade(site.engine(first), "base", **site.options(allow_destructive=False))


def test_the_lock_holds_on_every_host(site: Site) -> None:
    here, there = site.engine(site.cluster.nodes[0]), site.engine(site.cluster.nodes[3])

    def lock(engine: sa.Engine, **times: float) -> ClusterLock:
        hosts = Hosts.on(engine, DATABASE, connects=True)
        assert hosts is not None
        return ClusterLock(engine, DATABASE, hosts, **{"wait": 0.5, "lease": 300.0, **times})

    with lock(here) as held, here.connect() as connection:
        held.check(connection)
        with pytest.raises(MigrationLocked, match=r"is being migrated by .*process \d+"), lock(there):
            pass
        held.check(connection)
    with lock(there) as zombie, there.connect() as connection:
        zombie.check(connection)
        time.sleep(1.1)
        # For somebody with another idea of a lease it is dead.
        with lock(here, lease=0.0, wait=10) as heir, here.connect() as other:
            heir._lease = 300
            heir.check(other)
            with pytest.raises(MigrationLocked, match="was taken over by"):
                zombie.check(connection)
            own, zombie._epoch = zombie._epoch, heir._epoch
            with pytest.raises(sa.exc.DBAPIError):
                zombie._refresh(connection, "held")
            zombie._epoch = own
    with lock(here):
        pass


@pytest.mark.slow
def test_a_host_that_comes_back_does_what_it_has_missed(site: Site) -> None:
    """By itself, from the queue: the refusal says so."""
    first, dead = site.cluster.nodes[0], site.cluster.nodes[1]
    stop = killed_at(site.engine(first), "CREATE TABLE netra_analytics.events_local ON CLUSTER", dead)
    with pytest.raises(NotReady):
        site.upgrade(first, "a")
    stop()
    dead.start()
    wait_for(
        lambda: dead.query(f"EXISTS TABLE {DATABASE}.events_local") == "1",
        "the table that was made while it was away",
    )
