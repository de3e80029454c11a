"""What a user may do, and what to grant where something is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc

from netra_chdb import migrations
from netra_chdb.errors import code_of
from netra_chdb.validation.diagnosis import told
from netra_chdb.validation.result import Finding, bad, good, odd, skipped

__all__ = ["hidden", "not_shown", "rights"]

_SYNTAX: Final = 62
_REFUSED: Final = 497
#: What the application needs, and what only migrations do.
_NEEDS: Final = ("SELECT", "INSERT")
_MIGRATES: Final = ("CREATE TABLE", "CREATE VIEW", "ALTER TABLE", "ALTER VIEW", "DROP TABLE", "DROP VIEW")
#: Servers can be told to ask for these as well; those that are not let everybody.
_ENGINES: Final = ("MergeTree", "ReplacingMergeTree", "AggregatingMergeTree")
_SYSTEM: Final = re.compile(r"grant SELECT(?:\([^)]*\))? ON (system\.\w+)")


def _is_granted(connection: sa.Connection, right: str) -> bool:
    sql = f"CHECK GRANT {right}"
    line: Any = connection.connection.driver_connection
    client = getattr(line, "client", None)
    if client is None:
        return bool(connection.exec_driver_sql(sql).scalar())
    # clickhouse-connect asks for a FORMAT behind each query, which this statement does not take.
    try:
        return int(client.command(sql)) == 1
    except connection.dialect.loaded_dbapi.Error as error:
        raise sa_exc.DBAPIError.instance(sql, None, error, connection.dialect.loaded_dbapi.Error) from error


def _lacks(connection: sa.Connection, rights: Iterable[str], place: str) -> list[str] | None:
    """Return those of ``rights`` that the user does not have there; None for a server that cannot be asked."""
    try:
        return [right for right in rights if not _is_granted(connection, f"{right} ON {place}")]
    except sa_exc.DBAPIError as error:
        if code_of(error) != _SYNTAX:
            raise
        return None


def rights(connection: sa.Connection) -> Finding:
    """Look whether the user may do what the application does, and what migrations do."""
    if connection.dialect.driver == "chdb":
        return skipped("the embedded engine has no users")
    # What a profile forbids, no GRANT gives.
    readonly = connection.exec_driver_sql(
        "SELECT toUInt64(value) FROM system.settings WHERE name = 'readonly'"
    ).scalar()
    user = connection.exec_driver_sql("SELECT currentUser()").scalar()
    if readonly:
        return bad(
            f"user {user} has the setting readonly = {readonly}: it may only read",
            f"give {user} a profile without readonly, or use another user",
        )
    missing: dict[str, list[str]] = {}
    for database in migrations.DATABASES:
        place = f"{database}.*"
        create = () if connection.dialect.has_schema(connection, database) else ("CREATE DATABASE",)
        lacked = _lacks(connection, (*_NEEDS, *create, *_MIGRATES), place)
        if lacked is None:
            return skipped("this server cannot be asked what a user may: it is older than CHECK GRANT")
        if lacked:
            missing[place] = lacked
    for engine in _ENGINES:
        if _lacks(connection, ("TABLE ENGINE",), engine):
            missing[engine] = ["TABLE ENGINE"]
    if not missing:
        return good(f"user {user} may read, write and migrate {' and '.join(migrations.DATABASES)}")
    # Who lacks what the application needs is told of that alone: to migrate may be another user's.
    needed = {place: [right for right in lacked if right in _NEEDS] for place, lacked in missing.items()}
    needed = {place: lacked for place, lacked in needed.items() if lacked}
    lists = {place: ", ".join(lacked) for place, lacked in (needed or missing).items()}
    evidence = f"user {user} lacks {'; '.join(f'{listed} ON {place}' for place, listed in lists.items())}"
    name = connection.dialect.identifier_preparer.quote(str(user))
    advice = "as an administrator: "
    advice += "; ".join(f"GRANT {listed} ON {place} TO {name}" for place, listed in lists.items())
    if not needed:
        return odd(f"{evidence}: it may not migrate", f"let another user migrate (`netra-chdb init`); or {advice}")
    return bad(evidence, advice)


def hidden(connection: sa.Connection, databases: Iterable[str]) -> Finding | None:
    """Say so when the user may not read ``databases``: to this user they look as if nobody had migrated them."""
    if connection.dialect.driver == "chdb":
        return None
    unread = [database for database in databases if _lacks(connection, ("SELECT",), f"{database}.*")]
    if not unread:
        return None
    user = connection.exec_driver_sql("SELECT currentUser()").scalar()
    name = connection.dialect.identifier_preparer.quote(str(user))
    grants = "; ".join(f"GRANT {', '.join(_NEEDS)} ON {database}.* TO {name}" for database in unread)
    return bad(
        f"user {user} may not read {' and '.join(unread)}: whether they are there, and at which revision, is not shown "
        "to it",
        f"as an administrator: {grants}; a user who may has to migrate them first (`netra-chdb init`)",
    )


def not_shown(error: BaseException) -> Finding | None:
    """Return what it means that a table of the server's own is refused; None for any other error.

    The application reads none of these: somebody who looks after the server does.
    """
    match = _SYSTEM.search(told(error, 2000)) if code_of(error) == _REFUSED else None
    if match is None:
        return None
    advice = f"GRANT SELECT ON {match[1]} to the user to see this here; the application does not need it"
    return odd(f"{match[1]} is not shown to this user", advice)
