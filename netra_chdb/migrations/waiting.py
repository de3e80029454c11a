"""Waiting for what the server still does: statements of a migration that died, and mutations."""

from __future__ import annotations

import logging
import time
from typing import Final

import sqlalchemy as sa

from netra_chdb.dialect.literals import quote
from netra_chdb.errors import NotReady, SchemaMismatch
from netra_chdb.migrations.evidence import mutates, names_in, number_of

__all__ = ["MutationFails", "Patience", "mark", "on_hosts", "wait_for_mutations", "wait_for_statements"]

_log = logging.getLogger("alembic.netra_chdb")
_TELL_EVERY: Final = 5.0


def mark(database: str) -> str:
    """Return the comment that statements of a migration begin with, so that the next one finds them running."""
    return f"/* alembic {database.replace('*/', '')} */ "


class MutationFails(SchemaMismatch):
    """A mutation cannot succeed.

    Attributes:
        host: where it fails; empty for the one server.
        table: the table's name.
        mutation: its id.
        command: what it does.
    """

    def __init__(self, database: str, host: str, table: str, mutation: str, command: str, reason: str) -> None:
        super().__init__(f"the mutation {mutation} of {database}.{table} ({command}) fails: {reason}")
        self.host, self.table, self.mutation, self.command = host, table, mutation, command


class Patience:
    """Sleeps ever longer, tells now and then what it waits for, and ends."""

    def __init__(self, database: str, seconds: float) -> None:
        self._database = database
        self._seconds = seconds
        self._began = time.monotonic()
        self._told = self._began
        self._pause = 0.01

    def wait(self, what: str) -> None:
        now = time.monotonic()
        if now - self._began > self._seconds:
            raise NotReady(f"{self._database}: waited {self._seconds:.0f} s in vain for {what}; run it again later")
        if now - self._told >= _TELL_EVERY:
            self._told = now
            _log.info("%s: waiting %.0f s already for %s", self._database, now - self._began, what)
        time.sleep(self._pause)
        self._pause = min(1.0, self._pause * 1.5)


def wait_for_statements(connection: sa.Connection, database: str, seconds: float) -> None:
    """Return when no statement of an earlier migration runs on the server any more.

    Raises:
        NotReady: one still runs after ``seconds``.
    """
    patience = Patience(database, seconds)
    question = sa.text("SELECT query, elapsed FROM system.processes WHERE startsWith(query, :mark)")
    if tuple(connection.dialect.server_version_info or ()) < (20,):
        question = sa.text("SELECT query, elapsed FROM system.processes WHERE position(query, :mark) = 1")
    while running := connection.execute(question, {"mark": mark(database)}).all():
        statement = running[0][0].removeprefix(mark(database))
        patience.wait(f"a statement of an earlier run: {statement[:100]}")


def on_hosts(cluster: str | None) -> tuple[str, str]:
    """Return what tells a host in ``system.mutations``, and that table: the server's, or those of all hosts."""
    return (
        ("''", "system.mutations")
        if cluster is None
        else ("hostName()", f"cluster({quote(cluster)}, system.mutations)")
    )


def wait_for_mutations(
    connection: sa.Connection,
    database: str,
    statement: str,
    since: dict[str, int],
    seconds: float,
    cluster: str | None = None,
) -> None:
    """Return when the tables that ``statement`` names have no unfinished mutation that is newer than ``since``.

    On a cluster, whose shards number their mutations each for itself, when they have none.

    Raises:
        NotReady: one is unfinished after ``seconds``.
        MutationFails: one cannot succeed; the message has the server's reason.
    """
    if not mutates(statement):
        return
    asked = {"database": database, "names": tuple(names_in(statement))}
    modern = tuple(connection.dialect.server_version_info or ()) > (20,)
    reason = "latest_fail_reason" if modern else "''"
    host, mutations = on_hosts(cluster)
    since = since if cluster is None else {}
    question = sa.text(
        f"SELECT table, mutation_id, command, parts_to_do, {reason}, {host} FROM {mutations} "  # noqa: S608
        "WHERE database = :database AND table IN :names AND is_done = 0"
    )
    patience = Patience(database, seconds)
    while unfinished := [
        row for row in connection.execute(question, asked) if number_of(row[1]) > since.get(row[0], -bool(cluster))
    ]:
        for table, mutation, command, _, failure, where in unfinished:
            if failure:
                raise MutationFails(database, where, table, mutation, command, failure)
        table, _, command, parts, *_ = unfinished[0]
        patience.wait(f"{command} on {table}, {parts} parts to do")
