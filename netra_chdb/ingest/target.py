"""Which ClickHouse the rows of a spool are for: noted in its file, so that they never get to another one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from netra_chdb.errors import ConfigError

__all__ = ["claim", "target_of"]

_USUAL_PORTS: Final = (8123, 8443, 9000, 9440)


def target_of(engine: sa.Engine) -> str:
    """Return what tells one ClickHouse from another: its address and database, or its directory; no credentials."""
    url, dialect = engine.url, engine.dialect
    hosts: Any = getattr(dialect, "hosts", None)
    if hosts is None:
        return os.path.realpath(url.database) if url.database else ":memory:"
    host, port = hosts.all[0]
    # A server has both protocols on one address: another driver finds the same tables there.
    at = "" if port in _USUAL_PORTS else f":{port}"
    return f"{f'[{host}]' if ':' in host else host}{at}/{url.database or 'default'}"


def claim(connection: sa.Connection, directory: Path, target: str, *, take_over: bool = False) -> None:
    """Note, inside a write to the file, that what it holds is for ``target``; an empty one may change hands.

    Args:
        connection: to the file.
        directory: where it is.
        target: see :func:`target_of`.
        take_over: whether to claim rows that are there for another one.

    Raises:
        ConfigError: it holds rows for another one.
    """
    cursor: Any = connection.connection.cursor()
    known = cursor.execute("SELECT value FROM meta WHERE name = 'target'").fetchone()
    if known == (target,):
        return
    # A file from before targets were noted is taken for ours.
    if known is not None and not take_over and _is_in_use(cursor):
        raise ConfigError(
            f"the spool in {str(directory)!r} holds rows for the ClickHouse at {known[0]}, and this one is {target}: "
            "nothing is accepted or sent. Drain it with the old address first (`netra-chdb spool drain`), or give this "
            "one another spool_dir (CLICKHOUSE_SPOOL_DIR). Where both are the same ClickHouse, or the rows shall go to "
            "this one all the same: `netra-chdb spool drain --take-over`"
        )
    cursor.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('target', ?)", (target,))


def _is_in_use(cursor: Any) -> bool:
    return bool(cursor.execute("SELECT EXISTS (SELECT 1 FROM entries) OR EXISTS (SELECT 1 FROM batches)").fetchone()[0])
