"""What a run is going to do, known before it does any of it: its revisions and their statements.

Rendering a revision as SQL runs none of it. What has to be refused is refused while nothing has changed yet.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from netra_chdb.errors import ConfigError, NotReady, SchemaMismatch
from netra_chdb.migrations.cluster import NO_ROWS
from netra_chdb.migrations.cluster_hosts import Hosts
from netra_chdb.migrations.evidence import bare
from netra_chdb.migrations.losses import Losses
from netra_chdb.migrations.options import Options

__all__ = ["Collected", "announce", "check_signature", "is_destructive", "refuse_destructive"]

#: The statements of one revision, as SQL.
Collected = list[str]

_DESTRUCTIVE: Final = re.compile(
    r"\s*DROP\s+(?:TEMPORARY\s+)?(?:TABLE|DATABASE)\b|\s*TRUNCATE\b|\s*DELETE\s+FROM\b"
    r"|\s*ALTER\s+TABLE\b.*?\b(?:(?:DROP|CLEAR)\s+COLUMN|DROP\s+(?:DETACHED\s+)?PART(?:ITION)?|DELETE\s+(?:IN|WHERE)"
    r"|REPLACE\s+PARTITION)\b",
    re.IGNORECASE | re.DOTALL,
)
_log = logging.getLogger("alembic.netra_chdb")


def is_destructive(statement: str) -> bool:
    """Whether a statement loses rows or columns that nothing brings back."""
    if statement.startswith(NO_ROWS):
        return False
    return bool(_DESTRUCTIVE.match(re.sub(r"'(?:[^'\\]|\\.|'')*'", "''", bare(statement))))


def refuse_destructive(options: Options, database: str, statements: Iterable[str], losses: Losses) -> None:
    """Raise for the statements that lose something, unless the run was asked for with that in mind.

    Raises:
        SchemaMismatch: naming them.
    """
    if options.allow_destructive:
        return
    lost: list[str] = []
    for statement in statements:
        shown = " ".join(statement.split())[:120]
        narrowed = list(losses.find(statement))
        lost += [shown] if is_destructive(statement) else narrowed
    if lost:
        shown = "; ".join(lost[:5]) + (f"; and {len(lost) - 5} more" if len(lost) > 5 else "")
        raise SchemaMismatch(
            f"{database}: this would lose data for good: {shown}. Nothing of it was run. If that is what you want, "
            "say so with `-x allow-destructive`"
        )


def check_signature(step: Any) -> None:
    """Raise for a revision that does not take the database's name.

    Raises:
        ConfigError: with the signature that it needs.
    """
    function = step.migration_fn
    try:
        inspect.signature(function).bind(engine_name="")
    except TypeError:
        name = getattr(function, "__name__", "upgrade")
        raise ConfigError(
            f"revision {step.revision.revision}: its {name}() is called once for each database, with the database's "
            f"name; write `def {name}(engine_name: str) -> None:` and return where it is another database's"
        ) from None


def announce(
    connection: sa.Connection, database: str, steps: Iterable[Any], options: Options, hosts: Hosts | None = None
) -> None:
    """Say what is going to happen, and refuse what must not.

    Raises:
        ConfigError: a revision does not take the database's name.
        SchemaMismatch: a statement would lose data, and nobody allowed it.
        NotReady: a revision needs a newer server.
    """
    losses = Losses(connection, database)
    for step in steps:
        if not hasattr(step, "revision"):
            continue
        check_signature(step)
        module = step.revision.module
        needed = getattr(module, "requires_clickhouse", None)
        server = tuple(connection.dialect.server_version_info or ())
        if needed is not None and server < tuple(needed):
            raise NotReady(
                f"revision {step.revision.revision} needs ClickHouse {'.'.join(map(str, needed))} or newer, this "
                f"server is {'.'.join(map(str, server))}: upgrade it first. Nothing was changed"
            )
        collected = _statements(connection, database, step, hosts)
        direction = "upgrade" if step.is_upgrade else "downgrade"
        if collected is None:
            _log.info("%s: plan: %s %s", database, direction, step.revision.revision)
            continue
        refuse_destructive(options, database, collected, losses)
        _log.info("%s: plan: %s %s, %d statements", database, direction, step.revision.revision, len(collected))


def _statements(connection: sa.Connection, database: str, step: Any, hosts: Hosts | None) -> Collected | None:
    """Return a revision's statements; None for one that asks the server what to do."""
    collected: Collected = []
    context = MigrationContext.configure(
        dialect=connection.dialect,
        opts={
            "as_sql": True,
            "literal_binds": True,
            "version_table_schema": database,
            "netra_collected": collected,
            "netra_hosts": hosts,
        },
    )
    with Operations.context(context):
        try:
            step.migration_fn(engine_name=database)
        except Exception:  # what it needs to run, such as an answer of the server, is not there
            return None
    return collected
