"""Runs migrations for both databases: from code, and for ``alembic/env.py``.

One history serves both databases; each has its own version, journal and lock. A connection names no database, since
the one to migrate may not exist yet.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import event

import netra_chdb.migrations.views  # noqa: F401  # registers what revisions call as op.something()
from netra_chdb.dialect.sql_text import returns_rows
from netra_chdb.engine import create_engine
from netra_chdb.errors import ConfigError, NetraError, SchemaMismatch
from netra_chdb.migrations import impl, plan
from netra_chdb.migrations.autogenerate import comparing
from netra_chdb.migrations.cluster_hosts import Hosts
from netra_chdb.migrations.cluster_lock import ClusterLock
from netra_chdb.migrations.journal import Attempt, Journal
from netra_chdb.migrations.lock import Lock
from netra_chdb.migrations.options import Options
from netra_chdb.migrations.turns import Turns
from netra_chdb.migrations.version import OURS, Versions, verbatim
from netra_chdb.migrations.waiting import mark
from netra_chdb.models import analytics, traces

__all__ = ["DATABASES", "ahead", "behind", "current", "downgrade", "run_env", "upgrade"]

#: Database name to the metadata of its models, in the order of migration.
DATABASES: Final[dict[str, sa.MetaData]] = {
    "netra_traces": traces.Base.metadata,
    "netra_analytics": analytics.Base.metadata,
}

# Alembic's context is the module's own: two migrations in one process take turns.
_one_at_a_time: Final = Turns()
_log = logging.getLogger("alembic.netra_chdb")


def _scripts() -> Path:
    """The migration scripts: inside an installed package, beside it in a checkout."""
    packaged = Path(__file__).parent / "scripts"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "alembic"


def configuration(engine: sa.Engine, scripts: Path | None, options: Options) -> AlembicConfig:
    """Return what Alembic's commands are given.

    Its attribute ``databases`` may hold other databases, with their metadata, than :data:`DATABASES`.
    """
    made = AlembicConfig()
    made.set_main_option("script_location", str(scripts or _scripts()).replace("%", "%%"))
    made.attributes["engine"] = engine
    made.attributes["options"] = options
    return made


def upgrade(engine: sa.Engine, revision: str = "head", *, scripts: Path | None = None, **options: Any) -> None:
    """Bring both databases to ``revision``, creating them where they do not exist.

    Args:
        engine: the engine.
        revision: the revision to go to.
        scripts: a directory of migration scripts; by default our own.
        options: those of :class:`~netra_chdb.migrations.options.Options`.

    Raises:
        MigrationLocked: another process migrates, and did so for all of ``lock_timeout``.
        SchemaMismatch: an earlier run was ended half-way, and this one cannot go on; the message says why.
    """
    with _one_at_a_time:
        command.upgrade(configuration(engine, scripts, Options(**options)), revision)


def downgrade(engine: sa.Engine, revision: str = "base", *, scripts: Path | None = None, **options: Any) -> None:
    """Take both databases back to ``revision``; as :func:`upgrade`.

    Raises:
        SchemaMismatch: it would drop tables or columns, and ``allow_destructive`` was not given.
    """
    with _one_at_a_time:
        command.downgrade(configuration(engine, scripts, Options(**options)), revision)


def current(engine: sa.Engine) -> dict[str, tuple[str, ...]]:
    """Return the heads that each database stands at; empty for one that was never migrated."""
    found = {}
    with engine.connect() as connection:
        for database in DATABASES:
            context = MigrationContext.configure(connection, opts={"version_table_schema": database})
            found[database] = tuple(sorted(context.get_current_heads()))
    return found


def behind(engine: sa.Engine) -> list[str]:
    """Return the databases that do not stand at the newest revision."""
    newest = tuple(sorted(ScriptDirectory.from_config(configuration(engine, None, Options())).get_heads()))
    return [database for database, heads in current(engine).items() if heads != newest]


def ahead(engine: sa.Engine) -> list[str]:
    """Return the databases at revisions that this package does not have: a newer one has migrated them."""
    scripts = ScriptDirectory.from_config(configuration(engine, None, Options()))
    known = {script.revision for script in scripts.walk_revisions()}
    return [database for database, heads in current(engine).items() if not known.issuperset(heads)]


def run_env(context: Any) -> None:
    """Do what ``alembic/env.py`` is asked for: run the migrations of one database after the other.

    Args:
        context: Alembic's ``context`` module, inside a run of a command.

    Raises:
        alembic.util.CommandError: for our own errors, on the command line: Alembic prints it as one sentence.
    """
    try:
        _run_all(context)
    except NetraError as error:
        if context.config.cmd_opts is None:  # called by code, which has to know the one from the other
            raise
        raise CommandError(str(error)) from error


def _run_all(context: Any) -> None:
    attributes = context.config.attributes
    all_databases: dict[str, sa.MetaData] = attributes.get("databases") or DATABASES
    options: Options = attributes.get("options") or Options.read(context.get_x_argument(as_dictionary=True))
    if options.database is not None and options.database not in all_databases:
        raise ConfigError(f"-x database is {options.database!r}; allowed: {', '.join(all_databases)}")
    databases = {name: data for name, data in all_databases.items() if options.database in (None, name)}
    given: sa.Engine | None = attributes.get("engine")
    engine = given or create_engine()
    summary = []
    # What the command does with each revision, and whether it only shows something: configure() keeps what it is
    # given for the next call.
    asked: dict[str, Any] = {}
    try:
        for database, metadata in databases.items():
            run = _Run(context, engine, database, metadata, options, asked)
            if context.is_offline_mode():
                run.offline()
            else:
                summary.append(run.online())
    finally:
        if given is None:
            engine.dispose()
    for line in filter(None, summary):
        _log.info("%s", line)


class _Run:
    """One command on one database."""

    def __init__(
        self,
        context: Any,
        engine: sa.Engine,
        database: str,
        metadata: sa.MetaData,
        options: Options,
        asked: dict[str, Any],
    ) -> None:
        self.context = context
        self.engine = engine
        self.database = database
        self.options = options
        self._asked = asked
        connects = not context.is_offline_mode()
        self.hosts = Hosts.on(engine, database, connects=connects, wait=options.wait_timeout)
        self.versions = Versions(database, self.hosts)
        self.configured = {
            "target_metadata": metadata,
            "version_table_schema": database,
            "include_schemas": True,
            **comparing(database),
            impl.HOSTS: self.hosts,
        }

    def _configure(self, **more: Any) -> MigrationContext:
        self.context.configure(**self.configured, **more)
        found: MigrationContext = self.context.get_context()
        if not self._asked:
            self._asked.update(found.opts)
        return found

    def work(self, heads: Any, migration: Any) -> Any:
        """Return the steps that the command takes from ``heads``; other commands do all of their work here."""
        return self._asked["fn"](heads, migration)

    # -- offline ----------------------------------------------------------------------------------------------------

    def offline(self) -> None:
        """Print what would run; each change of version is one INSERT here as well."""
        heads: list[set[str]] = []

        def write(ctx: MigrationContext, **kw: Any) -> None:
            after = set(kw["heads"])
            if statement := self.versions.change(ctx.dialect, heads[-1], after):
                ctx.impl._exec(verbatim(statement))
            heads.append(after)

        def work(revisions: Any, ctx: Any) -> Iterator[Any]:
            heads.append(set(revisions))
            for step in self.work(revisions, ctx):
                if hasattr(step, "revision"):
                    plan.check_signature(step)
                yield step

        self._configure(url=self.engine.url, literal_binds=True, on_version_apply=())
        migration = self._configure(url=self.engine.url, literal_binds=True, on_version_apply=(write,), fn=work)
        create = f"CREATE DATABASE IF NOT EXISTS {self.database}"
        migration.impl.static_output((self.hosts.cluster.bookkeeping(create) if self.hosts else create) + ";\n")
        self.context.run_migrations(engine_name=self.database)

    # -- online -----------------------------------------------------------------------------------------------------

    def online(self) -> str | None:
        """Run the command, and return a line that says what it did."""
        with self.engine.connect() as connection:
            self._configure(connection=connection, on_version_apply=())
            if "destination_rev" not in self._asked:
                # current, check, revision: they change nothing, and create nothing.
                if self._asked.get("dont_mutate"):
                    self.context.config.print_stdout(f"{self.database}:")
                self._configure(connection=connection, on_version_apply=(), fn=self.work, dont_mutate=True)
                self.context.run_migrations(engine_name=self.database)
                return None
        with self._locked() as check, self.engine.connect() as connection:
            return self._migrate(connection, Journal(self.database, self.options, check, self.hosts))

    @contextmanager
    def _locked(self) -> Iterator[Any]:
        if self.engine.dialect.driver == "chdb":
            # The embedded engine belongs to one process at a time, and within it migrations take turns anyway.
            with nullcontext():
                yield lambda connection: None
            return
        times = {"wait": self.options.lock_timeout, "lease": self.options.lease}
        lock = Lock(self.engine, self.database, **times)
        if self.hosts is not None:
            lock = ClusterLock(self.engine, self.database, self.hosts, **times)
        with lock:
            yield lock.check

    def _migrate(self, connection: sa.Connection, journal: Journal) -> str:
        if self.hosts is not None:
            self.hosts.bind(connection)
        elif not connection.dialect.has_schema(connection, self.database):
            # Of one that is there the right to create it is not asked.
            connection.execute(sa.schema.CreateSchema(self.database, if_not_exists=True))
        self.versions.ensure(connection)
        journal.ensure(connection)
        before = self.versions.heads(connection)
        is_written = went_down = False

        def write(ctx: MigrationContext, **kw: Any) -> None:
            nonlocal is_written
            journal.end()
            self.versions.write(connection, kw["heads"])
            is_written = True

        def work(heads: Any, ctx: MigrationContext) -> Iterator[Any]:
            nonlocal went_down
            for step in list(self.work(heads, ctx)):
                if not step.info.is_stamp:
                    went_down = step.is_downgrade
                    direction = "upgrade" if step.is_upgrade else "downgrade"
                    base = self.versions.last_change(connection)
                    journal.begin(connection, Attempt(base, step.revision.revision, direction))
                yield step

        migration = self._configure(
            connection=connection, on_version_apply=(write,), fn=work, **{impl.JOURNAL: journal}
        )
        if not migration.purge:
            heads = migration.get_current_heads()
            plan.announce(connection, self.database, self.work(heads, migration), self.options, self.hosts)
        with _only_through(journal, connection):
            self.context.run_migrations(engine_name=self.database)
        if migration.purge and not is_written:
            self.versions.write(connection, ())
        after = self.versions.heads(connection)
        if went_down and not after:
            self._drop_if_empty(connection)
        if before == after:
            return f"{self.database}: at {_named(after)}, nothing to do"
        return f"{self.database}: {_named(before)} -> {_named(after)}"

    def _drop_if_empty(self, connection: sa.Connection) -> None:
        """Drop a database that holds nothing but what migrations keep; what others put there stays."""
        names = connection.execute(
            sa.text("SELECT name FROM system.tables WHERE database = :database"), {"database": self.database}
        ).scalars()
        if all(OURS.fullmatch(name) for name in names):
            self._drop_database(connection)

    def _drop_database(self, connection: sa.Connection) -> None:
        if self.hosts is None:
            connection.execute(sa.schema.DropSchema(self.database, if_exists=True))
        else:
            self.hosts.execute(connection, f"DROP DATABASE IF EXISTS {self.database}")


@contextmanager
def _only_through(journal: Journal, connection: sa.Connection) -> Iterator[None]:
    """Refuse statements of a revision that pass the journal, and mark the others for whoever comes after."""

    def before(
        conn: sa.Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
    ) -> tuple[str, Any]:
        if journal.is_executing:
            # An INSERT of values is a block of columns, not a text.
            is_block = getattr(context, "insert_block", None) is not None
            return (statement if is_block else mark(journal.database) + statement), parameters
        ours = OURS.search(statement) is not None
        if journal.attempt is not None and not ours and not returns_rows(statement):
            raise SchemaMismatch(
                f"{journal.database}: {journal.attempt} runs a statement past the journal, so that it could not be "
                f"resumed: {statement[:120]}. Run it with op.execute()"
            )
        return statement, parameters

    event.listen(connection, "before_cursor_execute", before, retval=True)
    try:
        yield
    finally:
        event.remove(connection, "before_cursor_execute", before)


def _named(heads: set[str]) -> str:
    return ", ".join(sorted(heads)) or "base"
