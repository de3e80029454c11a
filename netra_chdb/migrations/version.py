"""The version of one database: a view over a log, so that a step's change of version is one INSERT.

ClickHouse has no atomic UPDATE. A change made of INSERT and DELETE can leave two heads for ever; a single block that
holds the new head and a tombstone for the old one is there as a whole or not at all. Reads use FINAL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import expression

from netra_chdb.dialect import ReplacingMergeTree, types
from netra_chdb.dialect.literals import quote
from netra_chdb.migrations.cluster_hosts import Hosts

__all__ = ["LOG", "OURS", "VIEW", "VersionChange", "VersionTable", "Versions", "verbatim"]

#: What Alembic knows as its version table: a view.
VIEW: Final = "alembic_version"
#: What is under it.
LOG: Final = "alembic_version_log"
#: The tables that migrations keep for themselves.
OURS: Final = re.compile(rf"{VIEW}|{LOG}|alembic_journal|alembic_lock_\d+")


class VersionChange(expression.Executable, expression.ClauseElement):
    """Stands in for Alembic's own INSERT, UPDATE and DELETE on its version table, of which a step makes several.

    What is written instead, once a step: :meth:`Versions.write`.
    """

    inherit_cache = False

    def where(self, *_: Any) -> VersionChange:
        return self

    def values(self, **_: Any) -> VersionChange:
        return self


@compiles(VersionChange)
def _nothing(element: VersionChange, compiler: Any, **kw: Any) -> str:
    # `stamp --purge` executes one past Alembic's implementation of a dialect.
    return "SELECT 1"


def verbatim(statement: str) -> sa.TextClause:
    """Return a statement for a cursor, with its percent signs doubled, as an element that compiles to the same."""
    return sa.text(statement.replace("%%", "%").replace(":", "\\:"))


def _text(head: str) -> str:
    return quote(head).replace("%", "%%")


class VersionTable:
    """What Alembic's context takes for its version table."""

    def __init__(self, schema: str | None, hosts: Hosts | None = None) -> None:
        self._hosts = hosts
        self._view = sa.table(VIEW, sa.column("version_num", types.String()), schema=schema)
        self._schema = schema
        self.c = self._view.c

    def create(self, bind: Any, checkfirst: bool = False) -> None:
        """Only offline: a connected run has made it before anything else."""
        if not isinstance(bind, sa.Connection) and self._schema is not None:
            for statement in Versions(self._schema, self._hosts).ddl(bind.dialect):
                bind.execute(verbatim(statement))

    def insert(self) -> VersionChange:
        return VersionChange()

    update = delete = insert


class Versions:
    """Reads and writes the heads of one database.

    Args:
        database: its name.
        hosts: those of the cluster that it is on; None for one server.
    """

    def __init__(self, database: str, hosts: Hosts | None = None) -> None:
        self.database = database
        self._hosts = hosts
        self._log = sa.Table(
            LOG,
            sa.MetaData(),
            sa.Column("version_num", types.String(), nullable=False),
            sa.Column("is_head", types.UInt8(), nullable=False),
            sa.Column("change", types.UInt64(), nullable=False),
            ReplacingMergeTree(version="change", order_by=["version_num"]),
            schema=database,
        )

    def _name(self, dialect: Any, table: str) -> str:
        preparer = dialect.identifier_preparer
        return f"{preparer.quote(self.database)}.{preparer.quote(table)}"

    def ddl(self, dialect: Any) -> list[str]:
        """Return the statements that make the log and the view where they are not there."""
        log = str(sa.schema.CreateTable(self._log, if_not_exists=True).compile(dialect=dialect)).strip()
        made = [
            log,
            f"CREATE VIEW IF NOT EXISTS {self._name(dialect, VIEW)} AS "  # noqa: S608
            f"SELECT version_num FROM {self._name(dialect, LOG)} FINAL WHERE is_head = 1",
        ]
        return made if self._hosts is None else [self._hosts.cluster.bookkeeping(statement) for statement in made]

    def ensure(self, connection: sa.Connection) -> None:
        """Make what is missing; a version table that is a plain table hands its rows over. Call it under the lock."""
        make_log, make_view = self.ddl(connection.dialect)
        self._execute(connection, make_log)
        found = connection.execute(
            sa.text("SELECT engine FROM system.tables WHERE database = :database AND name = :name"),
            {"database": self.database, "name": VIEW},
        ).scalar()
        if found is not None and found != "View":
            # The table counts until it is dropped, so that this can be done again from any point.
            plain = connection.exec_driver_sql(
                f"SELECT version_num FROM {self._name(connection.dialect, VIEW)}"  # noqa: S608
            )
            self.write(connection, {str(row[0]).rstrip("\0") for row in plain})
            self._execute(connection, f"DROP TABLE {self._name(connection.dialect, VIEW)}")
        self._execute(connection, make_view)

    def _execute(self, connection: sa.Connection, statement: str) -> None:
        if self._hosts is None:
            connection.exec_driver_sql(statement)
        else:
            self._hosts.execute(connection, statement)

    def _caught_up(self, connection: sa.Connection) -> None:
        """On a cluster, any replica may be asked: it first gets what others have written."""
        if self._hosts is not None:
            self._hosts.sync(connection, LOG)

    def heads(self, connection: sa.Connection) -> set[str]:
        """Return the heads that the log holds."""
        self._caught_up(connection)
        statement = f"SELECT version_num FROM {self._name(connection.dialect, LOG)} FINAL WHERE is_head = 1"  # noqa: S608
        return {str(row[0]) for row in connection.exec_driver_sql(statement)}

    def last_change(self, connection: sa.Connection) -> int:
        """Return the number of the last change; it tells one attempt at a step from an earlier one."""
        self._caught_up(connection)
        statement = f"SELECT max(change) FROM {self._name(connection.dialect, LOG)}"  # noqa: S608
        return int(connection.exec_driver_sql(statement).scalar() or 0)

    def change(self, dialect: Any, before: Iterable[str], after: Iterable[str]) -> str | None:
        """Return the one INSERT that makes ``after`` the heads where ``before`` were; None where nothing changes."""
        added, removed = sorted(set(after) - set(before)), sorted(set(before) - set(after))
        if not added and not removed:
            return None
        pairs = [f"({_text(head)}, 1)" for head in added] + [f"({_text(head)}, 0)" for head in removed]
        log = self._name(dialect, LOG)
        return (
            f"INSERT INTO {log} (version_num, is_head, change) "  # noqa: S608
            f"SELECT pair.1, pair.2, (SELECT max(change) + 1 FROM {log}) "
            f"FROM (SELECT arrayJoin([{', '.join(pairs)}]) AS pair)"
        )

    def write(self, connection: sa.Connection, heads: Iterable[str]) -> None:
        """Make ``heads`` the heads, whatever they were, by one write."""
        statement = self.change(connection.dialect, self.heads(connection), heads)
        if statement is not None:
            connection.exec_driver_sql(statement)
