"""Runs migrations for both databases: from code, and for ``alembic/env.py``.

One history serves both databases; each has its own version table. A connection names no database, since the one
to migrate may not exist yet.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext

import netra_chdb.migrations.impl  # noqa: F401  # registers ClickHouse with Alembic
from netra_chdb.dialect import types
from netra_chdb.engine import create_engine
from netra_chdb.errors import SchemaMismatch, code_of
from netra_chdb.models import analytics, traces

__all__ = ["DATABASES", "current", "downgrade", "run_env", "upgrade"]

#: Database name to the metadata of its models, in the order of migration.
DATABASES: Final[dict[str, sa.MetaData]] = {
    "netra_traces": traces.Base.metadata,
    "netra_analytics": analytics.Base.metadata,
}

# Alembic's context is the module's own: two migrations in one process take turns.
_one_at_a_time: Final = threading.Lock()
# Table, view or column exists.
_THERE_ALREADY: Final = frozenset({15, 44, 57})
_log = logging.getLogger("alembic.netra_chdb")


def _scripts() -> Path:
    """The migration scripts: inside an installed package, beside it in a checkout."""
    packaged = Path(__file__).parent / "scripts"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "alembic"


def _configuration(engine: sa.Engine) -> AlembicConfig:
    configuration = AlembicConfig()
    configuration.set_main_option("script_location", str(_scripts()).replace("%", "%%"))
    configuration.attributes["engine"] = engine
    return configuration


def upgrade(engine: sa.Engine, revision: str = "head") -> None:
    """Bring both databases to ``revision``, creating them where they do not exist."""
    with _one_at_a_time, _half_done_explained():
        command.upgrade(_configuration(engine), revision)


def downgrade(engine: sa.Engine, revision: str = "base") -> None:
    """Take both databases back to ``revision``."""
    with _one_at_a_time:
        command.downgrade(_configuration(engine), revision)


def current(engine: sa.Engine) -> dict[str, tuple[str, ...]]:
    """Return the heads that each database stands at; empty for one that was never migrated."""
    found = {}
    with engine.connect() as connection:
        for database in DATABASES:
            context = MigrationContext.configure(connection, opts={"version_table_schema": database})
            found[database] = context.get_current_heads()
    return found


def run_env(context: Any) -> None:
    """Do what ``alembic/env.py`` is asked for: run the migrations of one database after the other.

    Args:
        context: Alembic's ``context`` module, inside a run of a command.
    """
    engine: sa.Engine = context.config.attributes.get("engine") or create_engine()
    for database, metadata in DATABASES.items():
        options = {
            "target_metadata": metadata,
            "version_table_schema": database,
            "include_schemas": True,
            "include_name": _only(database),
            "compare_type": _differ,
        }
        if context.is_offline_mode():
            context.configure(url=engine.url, literal_binds=True, **options)
            context.get_context().impl.static_output(f"CREATE DATABASE IF NOT EXISTS {database};\n")
            context.run_migrations(engine_name=database)
            continue
        with engine.connect() as connection:
            connection.execute(sa.schema.CreateSchema(database, if_not_exists=True))
            context.configure(connection=connection, **options)
            before = context.get_context().get_current_heads()
            context.run_migrations(engine_name=database)
            after = context.get_context().get_current_heads()
            if before and not after:
                _drop_if_empty(connection, database)
        if before == after:
            _log.info("%s: at %s, nothing to do", database, _named(after))
        else:
            _log.info("%s: %s -> %s", database, _named(before), _named(after))


def _named(heads: tuple[str, ...]) -> str:
    return ", ".join(heads) or "base"


def _drop_if_empty(connection: sa.Connection, database: str) -> None:
    """Drop a database that holds nothing but its version table; what others put there stays."""
    inspector = sa.inspect(connection)
    left = {*inspector.get_table_names(schema=database), *inspector.get_view_names(schema=database)}
    if left <= {"alembic_version"}:
        connection.execute(sa.schema.DropSchema(database, if_exists=True))


def _differ(context: Any, _in_database: Any, _in_model: Any, found: Any, wanted: Any) -> bool:
    """Whether two types are different DDL: a document is a String to ClickHouse."""
    render = context.dialect.type_compiler_instance.process
    return bool(render(types.unwrap(found)) != render(types.unwrap(wanted)))


@contextmanager
def _half_done_explained() -> Iterator[None]:
    try:
        yield
    except sa.exc.DBAPIError as error:
        if code_of(error) in _THERE_ALREADY:
            raise SchemaMismatch(
                f"a table of this migration is there already ({error.orig}). Most likely an earlier run was ended "
                "half-way; ClickHouse cannot take such a run back. If the databases hold nothing to keep, drop "
                f"{' and '.join(DATABASES)} (embedded: remove the directory) and migrate again; else drop the tables "
                "that the interrupted migration made"
            ) from error
        raise


def _only(database: str) -> Any:
    def include(name: str | None, type_: str, _parents: Any) -> bool:
        return type_ != "schema" or name == database

    return include
