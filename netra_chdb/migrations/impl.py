"""Alembic's view of ClickHouse: DDL without transactions, so that each statement goes through the journal.

``clickhouse_sqlalchemy.alembic`` is not used: it does not import under current Alembic, and its version table
loses one of two heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from alembic.ddl.impl import DefaultImpl

from netra_chdb.dialect.sql_fragments import fragment
from netra_chdb.migrations.cluster import is_on_cluster
from netra_chdb.migrations.cluster_hosts import Hosts
from netra_chdb.migrations.columns import column_changes
from netra_chdb.migrations.evidence import is_put_off, mutates
from netra_chdb.migrations.journal import Journal, digest_of
from netra_chdb.migrations.losses import Losses
from netra_chdb.migrations.plan import Collected, refuse_destructive
from netra_chdb.migrations.version import VersionChange, VersionTable

__all__ = ["ClickHouseImpl"]

#: Options of ``context.configure`` that carry our parts to where statements run.
JOURNAL: Final = "netra_journal"
COLLECTED: Final = "netra_collected"
HOSTS: Final = "netra_hosts"


class ClickHouseImpl(DefaultImpl):
    """Registered with Alembic under the dialect's name when this module is imported."""

    __dialect__ = "clickhouse"
    transactional_ddl = False

    def version_table_impl(
        self, *, version_table: str, version_table_schema: str | None, version_table_pk: bool, **kw: Any
    ) -> Any:
        """The version table, which is a view over a log."""
        return VersionTable(version_table_schema, self.context_opts.get(HOSTS))

    def alter_column(self, table_name: str, column_name: str, **kw: Any) -> None:
        """Change a column; each change is a statement of its own, so that it is done or not done.

        Beyond Alembic's own arguments: ``clickhouse_codec`` and ``clickhouse_ttl``, where None takes it away.
        """
        for statement in column_changes(table_name, column_name, **kw):
            self._exec(statement)

    def _exec(
        self,
        construct: Any,
        execution_options: Mapping[str, Any] | None = None,
        multiparams: Sequence[Mapping[str, Any]] | None = None,
        params: Mapping[str, Any] = sa.util.immutabledict(),
    ) -> Any:
        if isinstance(construct, VersionChange):
            return None
        if isinstance(construct, str):
            construct = sa.text(construct)
        options = dict(execution_options or {})
        repeatable = bool(options.pop("repeatable", False))
        text = self._text(construct, params)
        hosts: Hosts | None = self.context_opts.get(HOSTS)
        if hosts is not None and multiparams is None and not params:
            forms = hosts.cluster.forms(text)
            if forms != [text]:
                for form in forms:
                    self._exec(fragment(form), execution_options)
                return None
        if self.as_sql:
            if multiparams is not None or params:
                raise TypeError("values cannot be bound in SQL that is printed: write them into the statement")
            self._print(text)
            return None
        journal: Journal | None = self.context_opts.get(JOURNAL)
        if mutates(text) and tuple(self.dialect.server_version_info or ()) > (20,):
            # Not held to the time that an answer may take: the journal waits for the mutation itself.
            settings = {"mutations_sync": 1 if journal is None else 0, **(options.get("settings") or {})}
            options["settings"] = settings
        again = None
        if hosts is not None and is_on_cluster(text):
            options["settings"] = {**(options.get("settings") or {}), **hosts.settings}
        execute = partial(super()._exec, construct, options or None, multiparams, params)
        if hosts is not None and self.connection is not None:
            execute = partial(hosts.watched, self.connection, text, execute)
            if (repeated := hosts.cluster.again(text)) is not None:
                repeat = partial(super()._exec, fragment(repeated), options or None)
                again = partial(hosts.repeated, self.connection, repeated, repeat)
        if journal is None or journal.attempt is None or self.connection is None:
            return execute()
        losses = Losses(self.connection, journal.database)
        refuse_destructive(journal.options, journal.database, [text], losses)
        detail = digest_of((multiparams, dict(params))) if multiparams or params else ""
        return journal.run(self.connection, text, execute, detail=detail, repeatable=repeatable, again=again)

    def _text(self, construct: Any, params: Mapping[str, Any]) -> str:
        """Return a statement as the server gets it, with its values where they can be written."""
        literal = not isinstance(construct, sa.schema.ExecutableDDLElement) and not params
        options: dict[str, Any] = {"compile_kwargs": {"literal_binds": True}} if literal else {}
        try:
            compiled = construct.compile(dialect=self.dialect, **options)
        except sa.exc.CompileError:
            if not literal or self.as_sql:
                raise
            compiled = construct.compile(dialect=self.dialect)
        # What is compiled doubles its percent signs for a cursor, which undoes it.
        return str(compiled).replace("\t", "    ").replace("%%", "%").strip()

    def _print(self, text: str) -> None:
        collected: Collected | None = self.context_opts.get(COLLECTED)
        if collected is not None:
            collected.append(text)
        else:
            # Who runs this has no journal that waits, and the next statement may need what a mutation does.
            text += "\nSETTINGS mutations_sync = 2" if is_put_off(text) else ""
            self.static_output(text + self.command_terminator)
