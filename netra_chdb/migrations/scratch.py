"""Databases that a comparison or a probe makes for a moment, where one that was killed has left them."""

from __future__ import annotations

import logging
from typing import Final

import sqlalchemy as sa

from netra_chdb.dialect.literals import quote
from netra_chdb.migrations.cluster_described import on_this_server

__all__ = ["drop_left_over"]

_LEFT: Final = sa.text(
    "SELECT d.name, d.comment, toUnixTimestamp(now()), toUnixTimestamp(max(t.metadata_modification_time)) "
    "FROM system.databases AS d LEFT JOIN system.tables AS t ON t.database = d.name "
    "WHERE match(d.name, '^(compare|probe)_[0-9a-f]{32}$') GROUP BY d.name, d.comment"
)
_SEEN: Final = "left over, seen at "
#: Where databases have comments.
_MODERN: Final = (25,)
_log = logging.getLogger("alembic.netra_chdb")


def drop_left_over(connection: sa.Connection, age: float = 3600) -> None:
    """Drop what has been there for ``age`` seconds by the server's clock: far longer than one is in use.

    A table tells when it was made, an empty database does not: it is marked when it is seen, and dropped by a later
    run. What the user has no right to drop stays.
    """
    if tuple(connection.dialect.server_version_info or ()) < _MODERN:
        return
    with on_this_server(connection):
        for name, comment, now, made in connection.execute(_LEFT).all():
            seen = comment.removeprefix(_SEEN) if comment.startswith(_SEEN) else ""
            since = made or (int(seen) if seen.isdecimal() else None)
            try:
                if since is None:
                    connection.exec_driver_sql(f"ALTER DATABASE {name} MODIFY COMMENT {quote(f'{_SEEN}{now}')}")
                elif now - since >= age:
                    connection.execute(sa.schema.DropSchema(name, if_exists=True))
                    _log.info("dropped %s, which a comparison that was killed has left", name)
            except sa.exc.DBAPIError as error:
                if error.connection_invalidated:
                    raise
                _log.debug("%s stays: %s", name, error.orig)
