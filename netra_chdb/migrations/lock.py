"""The lock on one database's migrations, across processes and machines.

A lock is a table, since CREATE TABLE is the one atomic test-and-set of ClickHouse. Its name carries an epoch, and
whoever takes over from a holder that died creates the next epoch and no other: of several, one succeeds. The
heartbeat is the comment on a column named after the owner, so that a holder who was thought dead cannot refresh the
lock of the one who took over. Its age is told by the server's clock alone.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar, Final, Self

import sqlalchemy as sa

from netra_chdb.dialect.literals import quote
from netra_chdb.errors import MigrationLocked, Outcome, classify, code_of

__all__ = ["GONE", "NOBODY", "Lock"]

_TABLE: Final = "alembic_lock_"
_RELEASED: Final = "released"
# The database, the table or the column is not there.
GONE: Final = frozenset({81, 60, 44, 10, 16, 47})
NOBODY: Final[tuple[str, dict[str, Any]]] = ("", {"state": "unknown"})
_log = logging.getLogger("alembic.netra_chdb")


class Lock:
    """Held between ``with`` and its end, refreshed by a thread of its own.

    Args:
        engine: makes the connections: one to take the lock, one for the heartbeat.
        database: whose migrations it guards; created if it is not there.
        wait: seconds to wait for another holder.
        lease: seconds without a heartbeat after which a holder counts as dead.

    Raises:
        MigrationLocked: another process held it for all of ``wait``; or, from :meth:`check`, took it over.
    """

    #: What the server says to the second one that makes the table of an epoch.
    TAKEN: ClassVar[frozenset[int]] = frozenset({57})

    def __init__(self, engine: sa.Engine, database: str, *, wait: float = 600.0, lease: float = 30.0) -> None:
        self._engine = engine
        self._database = database
        self._wait = wait
        self._lease = lease
        self._owner = f"owner_{uuid.uuid4().hex}"
        self._epoch = 0
        self._beat = 0
        self._refreshed = 0.0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    # -- names ------------------------------------------------------------------------------------------------------

    def _name(self, epoch: int) -> str:
        quoted: str = self._engine.dialect.identifier_preparer.quote(self._database)
        return f"{quoted}.{_TABLE}{epoch}"

    def _comment(self, state: str) -> str:
        who = {"user": _user(), "host": socket.gethostname(), "pid": os.getpid(), "state": state, "beat": self._beat}
        return quote(json.dumps(who)).replace("%", "%%")

    # -- what it is kept in -----------------------------------------------------------------------------------------

    def _prepare(self, connection: sa.Connection) -> None:
        """Make the database where it is not there."""
        if not connection.dialect.has_schema(connection, self._database):
            connection.execute(sa.schema.CreateSchema(self._database, if_not_exists=True))

    def _make(self, connection: sa.Connection, epoch: int) -> None:
        """Make the table of an epoch: of several who try, one succeeds."""
        connection.exec_driver_sql(
            f"CREATE TABLE {self._name(epoch)} ({self._owner} UInt8) ENGINE = MergeTree ORDER BY tuple()"
        )

    def _drop(self, connection: sa.Connection, epoch: int) -> None:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {self._name(epoch)}")

    def _refresh(self, connection: sa.Connection, state: str) -> None:
        """Give a sign of life; it fails where the table is another's."""
        self._beat += 1
        connection.exec_driver_sql(
            f"ALTER TABLE {self._name(self._epoch)} COMMENT COLUMN {self._owner} {self._comment(state)}"
        )

    # -- what is there ----------------------------------------------------------------------------------------------

    def _tables(self, connection: sa.Connection) -> dict[int, float]:
        """Return each epoch's seconds since its last heartbeat."""
        rows = connection.execute(
            sa.text(
                "SELECT name, toInt64(toUnixTimestamp(now())) - toInt64(toUnixTimestamp(metadata_modification_time)) "
                "FROM system.tables WHERE database = :database AND name LIKE 'alembic\\_lock\\_%'"
            ),
            {"database": self._database},
        )
        numbered = ((re.fullmatch(rf"{_TABLE}(\d+)", name), age) for name, age in rows)
        return {int(match[1]): float(age) for match, age in numbered if match}

    def _holders(self, connection: sa.Connection) -> dict[int, tuple[str, dict[str, Any]]]:
        """Return for each epoch the owner's column and what it says of itself."""
        rows = connection.execute(
            sa.text(
                "SELECT table, name, comment FROM system.columns WHERE database = :database "
                "AND table LIKE 'alembic\\_lock\\_%' AND name LIKE 'owner\\_%'"
            ),
            {"database": self._database},
        )
        found = {}
        for table, owner, comment in rows:
            try:
                said = json.loads(comment)
            except ValueError:
                said = {"state": "unknown"}
            found[int(table.removeprefix(_TABLE))] = (str(owner), said)
        return found

    # -- taking it --------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        give_up = time.monotonic() + self._wait
        told = ""
        while True:
            with self._engine.connect() as connection:
                held_by = self._try(connection)
            if held_by is None:
                break
            if time.monotonic() >= give_up:
                raise MigrationLocked(
                    f"{self._database} is being migrated by {held_by}; waited {self._wait:.0f} s for it. Wait for it "
                    f"to end, or end it: {self._lease:.0f} s after its last sign of life the next one takes over"
                )
            if held_by.partition(";")[0] != told:
                told = held_by.partition(";")[0]
                _log.info("%s: waiting for %s", self._database, held_by)
            time.sleep(min(0.5, self._lease / 10, max(0.0, give_up - time.monotonic())))
        self._refreshed = time.monotonic()
        self._thread = threading.Thread(target=self._keep, name=f"lock on {self._database}", daemon=True)
        self._thread.start()
        return self

    def _try(self, connection: sa.Connection) -> str | None:
        """Take the lock and return None, or say who holds it."""
        self._prepare(connection)
        epochs = self._tables(connection)
        newest = max(epochs, default=0)
        if newest:
            owner, said = self._holders(connection).get(newest, NOBODY)
            if owner == self._owner:  # our CREATE was carried out, its answer lost
                self._epoch = newest
                return None
            age = epochs[newest]
            if said["state"] != _RELEASED and age <= self._lease:
                return (
                    f"{said.get('user', 'somebody')}@{said.get('host', 'an unknown host')}, process "
                    f"{said.get('pid', 'unknown')}; last sign of life {max(0, age):.0f} s ago"
                )
            if said["state"] != _RELEASED:
                _log.warning(
                    "%s: taking over from %s@%s, process %s, which gave no sign of life for %.0f s",
                    *(self._database, said.get("user"), said.get("host"), said.get("pid"), age),
                )
        epoch = newest + 1
        try:
            self._make(connection, epoch)
        except sa.exc.DBAPIError as error:
            # Another one was faster; or dropped the database meanwhile, going back to base.
            if code_of(error) in GONE | self.TAKEN:
                return "somebody who was faster; for less than a second"
            if classify(error) is Outcome.AMBIGUOUS:
                return "this process itself, maybe; for less than a second"  # the next look tells
            raise
        # Of older epochs the last one is kept: whoever still thinks it the newest fails to create this one. A slow
        # one can create an epoch that was tidied away; it sees a newer one, or not its predecessor.
        epochs = self._tables(connection)
        if max(epochs, default=0) != epoch or (epoch > 1 and epoch - 1 not in epochs):
            self._drop(connection, epoch)
            return "somebody who was faster; for less than a second"
        self._epoch = epoch
        self._refresh(connection, "held")
        for old in sorted(epochs):
            if old < epoch - 1:
                self._drop(connection, old)
        return None

    # -- keeping it -------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        while not self._ended.wait(self._lease / 5):
            began = time.monotonic()
            try:
                with self._engine.connect() as connection:
                    self._refresh(connection, "held")
            except sa.exc.DBAPIError as error:
                if code_of(error) in GONE:
                    return  # taken over, or dropped with the database: check() says so
                _log.warning("%s: the lock's heartbeat failed: %s", self._database, error.orig)
            except Exception as error:  # the thread must outlive a breaker that opens for a while
                _log.warning("%s: the lock's heartbeat failed: %s", self._database, error)
            else:
                self._refreshed = began

    def check(self, connection: sa.Connection) -> None:
        """Make sure that the lock is still ours: before each statement.

        Raises:
            MigrationLocked: somebody took it over, or may have.
        """
        holders = self._holders(connection)
        owner, said = holders.get(max(holders, default=0), NOBODY)
        if owner != self._owner:
            raise MigrationLocked(
                f"the lock on {self._database} was taken over by {said.get('user')}@{said.get('host')}, process "
                f"{said.get('pid')}, because this process gave no sign of life for {self._lease:.0f} s; it stops here"
            )
        if time.monotonic() - self._refreshed > self._lease:
            raise MigrationLocked(
                f"this process could not refresh its lock on {self._database} for {self._lease:.0f} s, so that another "
                "may have it by now; it stops here. Run it again"
            )

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=self._lease)
        # A lock that was taken over, or dropped with its database, needs no release; an unreachable server's expires.
        with suppress(Exception), self._engine.connect() as connection:
            self._refresh(connection, _RELEASED)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
