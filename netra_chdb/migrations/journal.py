"""The journal of one database's migrations: each statement of a revision is noted before and after it runs.

ClickHouse cannot take back a revision that ended half-way, so the next run goes on where it ended. What the journal
says of an attempt holds while the version has not changed: the change of version ends the attempt, by one write.
"""

from __future__ import annotations

import getpass
import hashlib
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from netra_chdb.dialect import ReplacingMergeTree, types
from netra_chdb.errors import Outcome, SchemaMismatch, classify, code_of
from netra_chdb.migrations.cluster_hosts import Hosts
from netra_chdb.migrations.evidence import Evidence, Verdict, adds_rows, is_of
from netra_chdb.migrations.options import Options
from netra_chdb.migrations.stuck import is_behind, judge, put_back, way_out
from netra_chdb.migrations.waiting import MutationFails, wait_for_mutations, wait_for_statements

__all__ = ["TABLE", "Attempt", "Journal", "digest_of"]

TABLE: Final = "alembic_journal"
# Of a statement that is stuck the mutation fails, or was killed.
_STARTED, _FAILED, _STUCK, _DONE = "started", "failed", "stuck", "done"
_SHOWN: Final = 120
# The one error of DDL that went further than being refused: a mutation that waits began, and fails.
_UNFINISHED: Final = 341
# Table, view or column exists.
_THERE_ALREADY: Final = frozenset({15, 44, 57})
_log = logging.getLogger("alembic.netra_chdb")


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one statement.

    Attributes:
        state: ``"started"``, ``"failed"``, ``"stuck"`` or ``"done"``.
        statement: its text.
        evidence: what the server held before it.
        written: how often the entry was written; the last one counts.
    """

    state: str
    statement: str
    evidence: str
    written: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One revision on its way up or down.

    Attributes:
        base: the number of the last change of version before it.
        revision: its id.
        direction: ``"upgrade"`` or ``"downgrade"``.
    """

    base: int
    revision: str
    direction: str

    def __str__(self) -> str:
        return f"{self.direction} {self.revision}"


class Journal:
    """Runs the statements of revisions, each of them once.

    Args:
        database: whose migrations these are.
        options: how long to wait, and what to do about a statement whose fate nobody can tell.
        check: raises where another process took over; asked before each statement.
        hosts: those of the cluster that it is on; None for one server.
    """

    def __init__(
        self,
        database: str,
        options: Options,
        check: Callable[[sa.Connection], None],
        hosts: Hosts | None = None,
    ) -> None:
        self.database = database
        self.options = options
        self._check = check
        self._hosts = hosts
        self._table = sa.Table(
            TABLE,
            sa.MetaData(),
            sa.Column("base", types.UInt64(), nullable=False),
            sa.Column("revision", types.String(), nullable=False),
            sa.Column("direction", types.String(), nullable=False),
            sa.Column("step", types.UInt32(), nullable=False),
            sa.Column("written", types.UInt32(), nullable=False),
            sa.Column("state", types.String(), nullable=False),
            sa.Column("statement", types.String(), nullable=False),
            sa.Column("evidence", types.String(), nullable=False),
            sa.Column("by", types.String(), nullable=False),
            sa.Column("at", types.DateTime(), nullable=False),
            ReplacingMergeTree(version="written", order_by=["base", "revision", "direction", "step"]),
            schema=database,
        )
        self._entries: dict[int, Entry] = {}
        self._step = 0
        self.attempt: Attempt | None = None
        #: Whether a statement of a revision may reach the server just now.
        self.is_executing = False

    def ensure(self, connection: sa.Connection) -> None:
        """Make the table where it is not there. Call it under the lock."""
        create = sa.schema.CreateTable(self._table, if_not_exists=True)
        if self._hosts is None:
            connection.execute(create)
        else:
            self._hosts.execute(connection, str(create.compile(dialect=connection.dialect)).strip())

    # -- an attempt -------------------------------------------------------------------------------------------------

    def begin(self, connection: sa.Connection, attempt: Attempt) -> None:
        """Start or go on with one revision.

        Raises:
            SchemaMismatch: another revision, or the other way, is half done.
        """
        rows = self._load(connection, attempt.base)
        # What the server refused at once has left nothing behind.
        unfinished = {key for key, entries in rows.items() if any(e.state != _FAILED for e in entries.values())}
        for revision, direction in sorted(unfinished - {(attempt.revision, attempt.direction)}):
            raise SchemaMismatch(
                f"{self.database} is in the middle of {direction} {revision}: finish that first, with "
                f"`alembic {direction} {revision if direction == 'upgrade' else '-1'}`; or, once you have mended the "
                "schema by hand, say where it stands with `alembic stamp`"
            )
        self._entries = rows.get((attempt.revision, attempt.direction), {})
        self._step = 0
        self.attempt = attempt
        done = sum(entry.state == _DONE for entry in self._entries.values())
        if self._entries:
            _log.info(
                "%s: %s was ended half-way, %d of its statements are done; going on", self.database, attempt, done
            )

    def _load(self, connection: sa.Connection, base: int) -> dict[tuple[str, str], dict[int, Entry]]:
        if self._hosts is not None:
            self._hosts.sync(connection, TABLE)
        column = self._table.c
        rows = connection.execute(
            sa.select(
                *(column.revision, column.direction, column.step, column.state, column.statement),
                *(column.evidence, column.written),
            )
            .where(column.base == base)
            .order_by(column.step, column.written)
        )
        found: dict[tuple[str, str], dict[int, Entry]] = {}
        # Without FINAL: of one statement's entries the one that was written last comes last.
        for revision, direction, step, *entry in rows:
            found.setdefault((revision, direction), {})[step] = Entry(*entry)
        return found

    def end(self) -> None:
        """Finish the attempt: its change of version may be written.

        Raises:
            SchemaMismatch: a statement was carried out that the revision has no more.
        """
        if (left := [step for step in self._entries if step > self._step]) and self.attempt:
            entry = self._entries[min(left)]
            if entry.state == _DONE:
                raise SchemaMismatch(
                    f"{self.database}: {self.attempt} was edited after it was carried out in part: its statement "
                    f"{min(left)}, “{_short(entry.statement)}”, is done and the revision has it no more. Put it back"
                )
        self.attempt = None

    # -- a statement ------------------------------------------------------------------------------------------------

    def run(
        self,
        connection: sa.Connection,
        statement: str,
        execute: Callable[[], Any],
        *,
        detail: str = "",
        repeatable: bool = False,
        again: Callable[[], Any] | None = None,
    ) -> Any:
        """Run one statement of the revision, unless an earlier run has done so.

        Args:
            connection: the connection that it runs on.
            statement: its text, for the journal.
            execute: runs it.
            detail: what tells it from another one of this text: a digest of its rows.
            repeatable: whether it may run once more where nobody can tell if it ran.
            again: runs it where some hosts of a cluster may have carried it out, and others not.

        Returns:
            What ``execute`` returned; None where there was nothing to do.

        Raises:
            SchemaMismatch: its text was edited after it was carried out, or nobody can tell whether it was.
        """
        self._step += 1
        step, attempt = self._step, self._current()
        text = f"{statement}{detail}"
        self._check(connection)
        if self._hosts is not None:
            self._hosts.check(connection)
        # The lock does not end what a holder that was thought dead has running on the server.
        wait_for_statements(connection, self.database, self.options.wait_timeout)
        entry = self._entries.get(step)
        if entry is not None and again is not None and entry.state == _STARTED:
            if entry.statement != text:
                raise self._edited(step, entry.statement, text)
            with self._executing():
                again()
            _log.info("%s: %s, statement %d is carried out everywhere: %s", self.database, attempt, step, _short(text))
            self._finish(connection, step, text, statement, Evidence.load(entry.evidence))
            return None
        if entry is not None and self._is_done(connection, step, entry, text, repeatable):
            return None
        evidence = Evidence.gather(connection, self.database, statement)
        self._write(connection, step, _STARTED, text, evidence.dump())
        began = time.monotonic()
        try:
            with self._executing():
                result = execute()
        except sa.exc.DBAPIError as error:
            if code_of(error) == _UNFINISHED:
                self._wait(connection, step, text, statement, evidence)  # says why, if it is there and fails
                if not evidence.mutated(connection, self.database, statement):
                    self._write(connection, step, _STUCK, text, evidence.dump())  # killed while it ran
            refused = code_of(error) not in (None, _UNFINISHED) or classify(error) is Outcome.REJECTED
            if self._hosts is not None:
                # One host has refused it; others may have carried it out.
                refused = refused and evidence.objects == Evidence.gather(connection, self.database, statement).objects
            if refused and classify(error) in (Outcome.PERMANENT, Outcome.REJECTED):
                self._write(connection, step, _FAILED, text, evidence.dump())
            stopped = f"{self.database}: {attempt} stopped at its statement {step}, “{_short(statement)}”"
            if code_of(error) in _THERE_ALREADY:
                raise SchemaMismatch(
                    f"{stopped}: a table, view or column of that name is there already, made by somebody else "
                    f"({error.orig}). Rename or drop it, and run the same command again: it goes on from here"
                ) from error
            error.add_note(f"{stopped}. What is done is in the journal: mend the cause, and run the same command again")
            raise
        self._finish(connection, step, text, statement, evidence)
        milliseconds = (time.monotonic() - began) * 1000
        _log.info("%s: %s, statement %d (%.0f ms): %s", self.database, attempt, step, milliseconds, _short(statement))
        return result

    @contextmanager
    def _executing(self) -> Iterator[None]:
        self.is_executing = True
        try:
            yield
        finally:
            self.is_executing = False

    def _is_done(self, connection: sa.Connection, step: int, entry: Entry, text: str, repeatable: bool) -> bool:
        """Say whether a statement that an earlier run began needs nothing more."""
        if entry.state == _DONE:
            if entry.statement != text:
                raise self._edited(step, entry.statement, text)
            return True
        if entry.state == _FAILED:
            return False  # refused by the server: what it names may have changed since, but not by it
        old = _without_digest(entry.statement)
        evidence = Evidence.load(entry.evidence)
        verdict = evidence.judge(connection, self.database, old, repeatable=repeatable)
        if entry.state == _STUCK or (verdict is Verdict.DONE and evidence.columns):
            self._wait(connection, step, entry.statement, old, evidence)
        if entry.state == _STUCK or (verdict is Verdict.DONE and is_behind(connection, self.database, evidence)):
            what = f"statement {step} of {self.attempt}, “{_short(old)}”"
            verdict = judge(connection, self.database, what, old, evidence, self._cluster, self.options.step)
        if self._hosts is not None and adds_rows(old) and not repeatable:
            verdict = Verdict.UNKNOWN  # rows go to other hosts, of whose blocks this one knows nothing
        if verdict is Verdict.UNKNOWN and self.options.step is not None:
            verdict = Verdict.DONE if self.options.step == "done" else Verdict.NOT_DONE
        if verdict is Verdict.UNKNOWN:
            raise SchemaMismatch(
                f"{self.database}: {self.attempt} was ended while its statement {step} ran, “{_short(old)}”, and "
                "nothing shows whether it was carried out. See for yourself; then run the same command again with "
                "`-x step=done` if it was, or with `-x step=again` to run it once more. An INSERT may have been "
                "carried out in part; for one that leaves out the rows that are there, and so does no harm twice, say "
                "`repeatable=True` to op.run_sql() in the revision"
            )
        if verdict is not Verdict.DONE:
            return False
        if entry.statement != text:
            raise self._edited(step, entry.statement, text)
        _log.info("%s: %s, statement %d was carried out after all: %s", self.database, self.attempt, step, _short(text))
        self._finish(connection, step, text, old, evidence)
        return True

    def _finish(self, connection: sa.Connection, step: int, text: str, statement: str, evidence: Evidence) -> None:
        self._wait(connection, step, text, statement, evidence)
        self._write(connection, step, _DONE, text, evidence.dump())

    def _wait(self, connection: sa.Connection, step: int, text: str, statement: str, evidence: Evidence) -> None:
        seconds = self.options.wait_timeout
        try:
            wait_for_mutations(connection, self.database, statement, evidence.mutations, seconds, self._cluster)
        except MutationFails as failing:
            back = ""
            if is_of(failing.command, statement):
                evidence.stuck = (failing.host, failing.table, failing.mutation)
                self._write(connection, step, _STUCK, text, evidence.dump())
                back = put_back(connection, self.database, statement, evidence, self._cluster)
            raise SchemaMismatch(
                f"{self.database}: {self.attempt} stopped at its statement {step}, “{_short(statement)}”: {failing}. "
                f"{way_out(self.database, failing, back, self._cluster)}"
            ) from failing

    @property
    def _cluster(self) -> str | None:
        return self._hosts.name if self._hosts is not None else None

    def _current(self) -> Attempt:
        if self.attempt is None:
            raise RuntimeError("a statement is journaled between begin() and end()")
        return self.attempt

    def _edited(self, step: int, old: str, new: str) -> SchemaMismatch:
        return SchemaMismatch(
            f"{self.database}: {self.attempt} was edited after it was carried out in part: its statement {step} was "
            f"“{_short(old)}”, and is “{_short(new)}” now. Put the old text back, and make the change in a revision "
            "of its own"
        )

    def _write(self, connection: sa.Connection, step: int, state: str, statement: str, evidence: str) -> None:
        attempt = self._current()
        before = self._entries.get(step)
        entry = Entry(state, statement, evidence, before.written + 1 if before else 1)
        row = {
            "base": attempt.base,
            "revision": attempt.revision,
            "direction": attempt.direction,
            "step": step,
            "written": entry.written,
            "state": state,
            "statement": statement,
            "evidence": evidence,
            "by": _me(),
        }
        # INSERT ... SELECT is never put off for others to join, as INSERT ... VALUES may be.
        values = sa.select(*(sa.bindparam(None, value) for value in row.values()), sa.func.now())
        connection.execute(self._table.insert().from_select([*row, "at"], values))
        self._entries[step] = entry


_DIGEST: Final = re.compile(r" /\* rows [0-9a-f]+ \*/\Z")


def digest_of(rows: Any) -> str:
    """Return what tells a statement with these rows from one with others, as a comment."""
    return f" /* rows {hashlib.sha256(repr(rows).encode()).hexdigest()[:16]} */"


def _without_digest(statement: str) -> str:
    return _DIGEST.sub("", statement)


def _short(statement: str) -> str:
    text = " ".join(statement.split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _me() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}, process {os.getpid()}"
