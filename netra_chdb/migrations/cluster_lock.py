"""The lock on a cluster: its table is the same on every replica, and ZooKeeper says who was first.

A comment on a column, the heartbeat on one server, is no part of what is replicated (an old server even loses the
table's columns over it). Here it is a row: its column is named after the owner, so that nobody else can write it.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

import sqlalchemy as sa

from netra_chdb.errors import code_of
from netra_chdb.migrations.cluster_hosts import Hosts
from netra_chdb.migrations.lock import GONE, NOBODY, Lock

__all__ = ["ClusterLock"]


class ClusterLock(Lock):
    """As :class:`~netra_chdb.migrations.lock.Lock`.

    Args:
        engine, database, wait, lease: of the lock.
        hosts: the cluster's.

    Raises:
        NotReady: a host of the cluster is down.
    """

    # Exists on this host; in ZooKeeper with another owner's column; as this replica.
    TAKEN: ClassVar[frozenset[int]] = frozenset({57, 122, 253})

    def __init__(self, engine: sa.Engine, database: str, hosts: Hosts, *, wait: float, lease: float) -> None:
        super().__init__(engine, database, wait=wait, lease=lease)
        self._hosts = hosts
        self._prepared = False

    def _prepare(self, connection: sa.Connection) -> None:
        # Not at each look: everything that is done ON CLUSTER stays in the queue for a week.
        if not self._prepared:
            self._hosts.check(connection)
            schema = self._engine.dialect.identifier_preparer.quote(self._database)
            statement = f"CREATE DATABASE IF NOT EXISTS {schema}"
            self._hosts.execute(connection, statement)
            self._prepared = True

    def _make(self, connection: sa.Connection, epoch: int) -> None:
        statement = (
            f"CREATE TABLE {self._name(epoch)} ({self._owner} String, beat UInt32, at DateTime) "
            "ENGINE = MergeTree ORDER BY tuple()"
        )
        try:
            self._hosts.execute(connection, statement)
        except sa.exc.DBAPIError as error:
            self._prepared = code_of(error) not in GONE
            raise

    def _drop(self, connection: sa.Connection, epoch: int) -> None:
        self._hosts.execute(connection, f"DROP TABLE IF EXISTS {self._name(epoch)}")

    def _refresh(self, connection: sa.Connection, state: str) -> None:
        self._beat += 1
        connection.exec_driver_sql(
            f"INSERT INTO {self._name(self._epoch)} ({self._owner}, beat, at) "
            f"SELECT {self._comment(state)}, {self._beat}, now()"
        )

    def _tables(self, connection: sa.Connection) -> dict[int, float]:
        epochs = super()._tables(connection)
        newest = max(epochs, default=0)
        if newest and epochs[newest] > self._lease:
            # A replica that lags must not take the holder for dead.
            name = self._name(newest)
            connection.exec_driver_sql(f"SYSTEM SYNC REPLICA {name}")
            asked = f"SELECT toInt64(toUnixTimestamp(now())) - toInt64(toUnixTimestamp(max(at))) FROM {name}"  # noqa: S608
            epochs[newest] = min(epochs[newest], float(connection.exec_driver_sql(asked).scalar() or 0))
        return epochs

    def _holders(self, connection: sa.Connection) -> dict[int, tuple[str, dict[str, Any]]]:
        found = super()._holders(connection)
        newest = max(found, default=0)
        if newest:
            owner, _ = found[newest]
            asked = f"SELECT {owner} FROM {self._name(newest)} ORDER BY beat DESC LIMIT 1"  # noqa: S608
            last = connection.exec_driver_sql(asked).scalar()
            found[newest] = (owner, json.loads(last) if last else NOBODY[1])
        return found
