"""The hosts of a cluster: statements wait for all of them, and name those that are down.

A statement ON CLUSTER is put into a queue in ZooKeeper; each host carries out what stands there in its order, also
when it comes back after a while. So a statement that all hosts have answered tells that they have done all before it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

import sqlalchemy as sa

from netra_chdb.dialect.literals import quote
from netra_chdb.errors import ConfigError, NotReady, code_of
from netra_chdb.migrations.cluster import LOCAL, Cluster, is_on_cluster
from netra_chdb.migrations.evidence import names_in
from netra_chdb.migrations.waiting import Patience

__all__ = ["Hosts"]

#: The table whose replicas tell which hosts are there: every host has one.
_EVERYWHERE: Final = "alembic_version_log"
_TIMEOUT: Final = 159
#: There is such a column, or none.
_HAS_IT: Final = frozenset({15, 44, 10})
_TASK: Final = re.compile(r"(/\S+/query-\d+)")
_LISTED: Final = re.compile(r"^hosts: \[(.*)\]$", re.MULTILINE)
_ACTIVE: Final = re.compile(r"^(?:host|tcp_port): (\S+)$", re.MULTILINE)
_log = logging.getLogger("alembic.netra_chdb")


class Hosts:
    """Every replica of every shard of one cluster, as one connection sees them.

    Args:
        name: the cluster's name.
        database: whose migrations these are.
        is_old: whether its servers are from before 2020.
        wait: seconds to wait for a host that is there and has not finished.
    """

    def __init__(self, name: str, database: str, *, is_old: bool = False, wait: float = 3600.0) -> None:
        self.name = name
        self.database = database
        self._is_old = is_old
        self._wait = wait
        self._connection: sa.Connection | None = None
        self.cluster = Cluster(name, is_old=is_old, sharded_by=self._sharded_by)

    @classmethod
    def on(cls, engine: sa.Engine, database: str, *, connects: bool, wait: float = 3600.0) -> Hosts | None:
        """Return the hosts of the cluster that ``engine`` was made for; None where it was made for one server."""
        name = engine.get_execution_options().get("clickhouse_cluster")
        if not name:
            return None
        if engine.dialect.driver == "chdb" and connects:
            raise ConfigError(
                f"CLICKHOUSE_CLUSTER is {name!r}, and the embedded engine is no part of a cluster: say with "
                "CLICKHOUSE_URL where a server of it is, or leave the cluster away"
            )
        if connects:
            engine.connect().close()  # so that the server's version is known
        version = tuple(engine.dialect.server_version_info or ())
        return cls(name, database, is_old=() < version < (20,), wait=wait)

    def bind(self, connection: sa.Connection) -> None:
        """Ask the server over ``connection`` from now on."""
        self._connection = connection

    # -- statements ---------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> dict[str, Any]:
        """SETTINGS of a statement ON CLUSTER: it ends when all hosts are done, and fails when one has failed."""
        # The driver cannot send signed numbers to an old server; an old one knows no other way to answer.
        return {} if self._is_old else {"distributed_ddl_output_mode": "throw", "alter_sync": 2, "mutations_sync": 2}

    def execute(self, connection: sa.Connection, statement: str) -> None:
        """Run a statement on what migrations keep for themselves, everywhere.

        Raises:
            NotReady: a host is down.
            sqlalchemy.exc.DBAPIError: a host refused it.
        """
        statement = self.cluster.bookkeeping(statement)
        text = sa.text(statement.replace(":", "\\:"))
        options = {"settings": self.settings}
        self.watched(connection, statement, lambda: connection.execute(text, execution_options=options))

    def watched(self, connection: sa.Connection, statement: str, execute: Callable[[], Any]) -> Any:
        """Run what executes ``statement``, and wait until every host has carried it out.

        Raises:
            NotReady: a host is down; the message names it, and the way out.
        """
        if not is_on_cluster(statement):
            return execute()
        try:
            result = execute()
        except sa.exc.DBAPIError as error:
            task = _TASK.search(str(error.orig))
            if code_of(error) != _TIMEOUT:
                raise
            self._wait_for(connection, statement, task[1] if task else None)
            result = None
        # The server answers without an error when every host has.
        _log.info("%s: carried out on %s", self.database, ", ".join(self._all(connection)))
        return result

    def repeated(self, connection: sa.Connection, statement: str, execute: Callable[[], Any]) -> Any:
        """Run what executes ``statement`` once more, where some hosts have carried it out and others may have not.

        Raises:
            sqlalchemy.exc.DBAPIError: a host refuses it, and not because it has it.
        """
        try:
            return self.watched(connection, statement, execute)
        except sa.exc.DBAPIError as error:
            # An old server knows no IF EXISTS in ALTER TABLE, and tells the first refusal only.
            if not self._is_old or code_of(error) not in _HAS_IT or not self._is_same(connection, statement):
                raise
            return None

    def _is_same(self, connection: sa.Connection, statement: str) -> bool:
        """Whether the tables that a statement names have the same columns on every shard."""
        names = {"cluster": self.name, "database": self.database, "names": tuple(names_in(statement))}
        differing = sa.text(
            f"SELECT name FROM cluster({quote(self.name)}, system.columns) "  # noqa: S608
            "WHERE database = :database AND table IN :names GROUP BY table, name, type, default_expression "
            "HAVING count() != (SELECT uniqExact(shard_num) FROM system.clusters WHERE cluster = :cluster)"
        )
        return not connection.execute(differing, names).all()

    def _wait_for(self, connection: sa.Connection, statement: str, task: str | None) -> None:
        """Wait for hosts that are slow, and give up for one that is down."""
        patience = Patience(self.database, self._wait)
        while unfinished := self._unfinished(connection, task):
            down = self._down(connection)
            if down or down is None:
                raise self._refusal(unfinished, f"has not carried out “{' '.join(statement.split())[:120]}”")
            patience.wait(f"{', '.join(unfinished)} to carry out {statement[:120]!r}")

    def _unfinished(self, connection: sa.Connection, task: str | None) -> list[str]:
        """Return the hosts that have not finished a task of the queue."""
        if task is None:
            return self._all(connection)
        parent, _, name = task.rpartition("/")
        listed = connection.execute(
            sa.text("SELECT value FROM system.zookeeper WHERE path = :path AND name = :name"),
            {"path": parent, "name": name},
        ).scalar()
        match = _LISTED.search(listed or "")
        hosts = [unquote(one.strip(" '")) for one in match[1].split(",")] if match else self._all(connection)
        finished = connection.execute(
            sa.text("SELECT name FROM system.zookeeper WHERE path = :path"), {"path": f"{task}/finished"}
        ).scalars()
        return sorted(set(hosts) - {unquote(one) for one in finished})

    def _all(self, connection: sa.Connection) -> list[str]:
        rows = connection.execute(
            sa.text("SELECT host_name, port FROM system.clusters WHERE cluster = :name"), {"name": self.name}
        )
        return sorted(f"{host}:{port}" for host, port in rows)

    def _refusal(self, hosts: list[str], what: str) -> NotReady:
        return NotReady(
            f"{self.database}: {', '.join(hosts)} of cluster {self.name!r} {what}. Start it, or take it out of the "
            "cluster (remote_servers); then run the same command again: it goes on from here, and a host that comes "
            "back does by itself what it has missed"
        )

    # -- hosts --------------------------------------------------------------------------------------------------------

    def check(self, connection: sa.Connection) -> None:
        """Make sure that no host is down: before each statement.

        Raises:
            NotReady: one is; the message names it.
        """
        if down := self._down(connection):
            raise self._refusal(down, "is down: its replicas are not active")

    def _down(self, connection: sa.Connection) -> list[str] | None:
        """Return the hosts whose replicas are not active; None where nothing tells."""
        row = connection.execute(
            sa.text(
                "SELECT zookeeper_path, total_replicas, active_replicas, is_readonly FROM system.replicas "
                "WHERE database = :database AND table = :name"
            ),
            {"database": self.database, "name": _EVERYWHERE},
        ).first()
        if row is None:
            return None
        path, total, active, is_readonly = row
        if is_readonly:
            return ["the host that this is connected to (it has no session with ZooKeeper)"]
        if total == active:
            return []
        names = connection.execute(
            sa.text("SELECT name FROM system.zookeeper WHERE path = :path"), {"path": f"{path}/replicas"}
        ).scalars()
        found = []
        for name in sorted(names):
            of_one = sa.text("SELECT name, value FROM system.zookeeper WHERE path = :path")
            nodes = dict(map(tuple, connection.execute(of_one, {"path": f"{path}/replicas/{name}"})))
            if "is_active" not in nodes:
                found.append(":".join(_ACTIVE.findall(nodes.get("host", ""))) or name)
        return found

    def sync(self, connection: sa.Connection, *tables: str) -> None:
        """Wait until the replica that this is connected to has everything that is in these tables of ours."""
        quoted = connection.dialect.identifier_preparer.quote
        for table in tables:
            connection.exec_driver_sql(f"SYSTEM SYNC REPLICA {quoted(self.database)}.{quoted(table)}")

    def _sharded_by(self, database: str, table: str) -> str | None:
        """Return the sharding key that a table was made with."""
        if self._connection is None:
            return None
        names = {"database": database, "name": table + LOCAL}
        columns = self._connection.execute(
            sa.text("SELECT name FROM system.columns WHERE database = :database AND table = :name"), names
        ).scalars()
        there = set(columns)
        for column in ("user_id", "trace_id"):
            if column in there:
                return f"cityHash64({column})"
        key = self._connection.execute(
            sa.text("SELECT sorting_key FROM system.tables WHERE database = :database AND name = :name"), names
        ).scalar()
        return f"cityHash64({key.split(',')[0].strip()})" if key else None
