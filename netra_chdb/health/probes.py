"""Asking ClickHouse how it is: on a connection of its own, with a limit, one question at a time."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from netra_chdb import migrations
from netra_chdb.config import Config
from netra_chdb.dialect.view import views
from netra_chdb.engine import create_engine, guard
from netra_chdb.health.report import Connection, Probe, Schema, Table
from netra_chdb.migrations.options import Options
from netra_chdb.migrations.runner import configuration
from netra_chdb.resilience.breaker import CircuitBreaker
from netra_chdb.resilience.retry import RetryPolicy

__all__ = ["LIMIT", "Probes", "described"]

#: Seconds that ClickHouse gets for one answer.
LIMIT: Final = 5.0
_NOT_ALLOWED: Final = 164
_NEVER: Final = 2**31
_SCHEMA: Final = "version_table_schema"
_TABLES: Final = sa.table("tables", *map(sa.column, ("database", "name", "total_rows", "total_bytes")), schema="system")


class Probes:
    """What ClickHouse was asked last, and what it said. One thread asks; any thread may read.

    Args:
        config: where ClickHouse is.
        limit: seconds that it gets for one answer.
        engine: an engine to ask through in place of an own one.
        schema: whether to look at the schema.
    """

    def __init__(
        self, config: Config, limit: float = LIMIT, *, engine: sa.Engine | None = None, schema: bool = True
    ) -> None:
        self._limit = limit
        self._options: dict[str, Any] = {"timeout": limit}
        self._has_schema = schema
        self._is_own = engine is None
        # Not the application's pool: it may be exhausted, and that is one of the things to find out.
        self._engine = create_engine(config, pool_size=1, max_overflow=0) if engine is None else engine
        if self._is_own:
            once = RetryPolicy(max_attempts=1, attempt_timeout=limit, connect_within=limit)
            # Behind the application's breaker nobody would see that ClickHouse is back.
            guard(self._engine, CircuitBreaker(_NEVER, name="health probes"), once)
        self.connection = _described(config)
        self.schema = Schema()
        self._found = {name: Probe(name) for name in ("connection", "schema")}
        self._asking: tuple[str, float, dt.datetime] | None = None
        self._wanted: tuple[str, ...] | None = None

    def ask(self) -> bool:
        """Ask everything; says whether all is well. Never raises."""
        if self._ask("connection", self._ask_connection) and self._has_schema:
            return self._ask("schema", self._ask_schema)
        self._found["schema"] = Probe("schema", "skipped")
        return self._found["connection"].state == "ok"

    def skip(self) -> None:
        """Note that ClickHouse is not to be asked."""
        for name in self._found:
            self._found[name] = Probe(name, "skipped")

    def read(self) -> tuple[Probe, ...]:
        """Return what was found last; what takes longer than its limit has failed already."""
        found, asking = dict(self._found), self._asking
        if asking is not None and (took := time.monotonic() - asking[1]) > self._limit + 1:
            name, _, at = asking
            found[name] = Probe(name, "failed", None, at, f"no answer for {took:.0f} s")
        return tuple(found.values())

    def _ask(self, name: str, question: Callable[[sa.Connection], None]) -> bool:
        at, started = dt.datetime.now(dt.UTC), time.monotonic()
        self._asking = (name, started, at)
        try:
            self._answered(question)
        except Exception as error:
            self._found[name] = Probe(name, "failed", time.monotonic() - started, at, described(error))
            return False
        finally:
            self._asking = None
        self._found[name] = Probe(name, "ok", time.monotonic() - started, at)
        return True

    def _answered(self, question: Callable[[sa.Connection], None]) -> None:
        try:
            self._run(question)
        except sa.exc.DBAPIError as error:
            # A user with readonly=1 may not set a limit.
            if getattr(error.orig, "code", None) != _NOT_ALLOWED or not self._options:
                raise
            self._options = {}
            self._run(question)

    def _run(self, question: Callable[[sa.Connection], None]) -> None:
        with self._engine.connect() as connection:
            question(connection.execution_options(**self._options))

    def _ask_connection(self, connection: sa.Connection) -> None:
        before = time.time()
        version, uptime, clock = connection.exec_driver_sql("SELECT version(), uptime(), toUnixTimestamp(now())").one()
        # The server's clock has whole seconds here: a difference below one is none.
        ahead = clock + 0.5 - (before + time.time()) / 2
        known = self.connection
        self.connection = Connection(
            known.driver, known.address, known.database, str(version), int(uptime), 0.0 if abs(ahead) < 1 else ahead
        )

    def _ask_schema(self, connection: sa.Connection) -> None:
        databases = migrations.DATABASES
        statement = sa.select(_TABLES).where(_TABLES.c.database.in_(list(databases))).order_by(*_TABLES.c[:2])
        tables = tuple(Table(*row) for row in connection.execute(statement))
        there = {f"{table.database}.{table.name}" for table in tables}
        needed = {
            f"{database}.{name}"
            for database, metadata in databases.items()
            for name in [table.name for table in metadata.tables.values()] + [view.name for view in views(metadata)]
        }
        if self._wanted is None:
            script = ScriptDirectory.from_config(configuration(self._engine, None, Options()))
            self._wanted = tuple(sorted(script.get_heads()))
        heads = {
            database: tuple(
                sorted(MigrationContext.configure(connection, opts={_SCHEMA: database}).get_current_heads())
            )
            for database in databases
        }
        missing = tuple(sorted(needed - there))
        matches = not missing and all(found == self._wanted for found in heads.values())
        self.schema = Schema(heads, self._wanted, missing, matches, tables)

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        with contextlib.suppress(Exception):  # it may be in use by a question that hangs
            if self._is_own:
                self._engine.dispose()


def _described(config: Config) -> Connection:
    url = config.sqlalchemy_url
    driver = url.get_driver_name() if "+" in url.drivername else url.drivername
    if config.is_embedded:
        return Connection(driver, url.database or "(memory)")
    more = url.query.get("alt_hosts", ())
    hosts = [f"{url.host}:{url.port}" if url.port else str(url.host), *([more] if isinstance(more, str) else more)]
    return Connection(driver, ", ".join(hosts), url.database)


def described(error: BaseException) -> str:
    """Return the kind of an error, with ClickHouse's code; never its text, which may quote what was sent."""
    inner = getattr(error, "orig", None) or error
    code, name = getattr(inner, "code", None), getattr(inner, "name", None)
    causes: list[str] = []
    cause: BaseException | None = inner
    while cause is not None and len(causes) < 8:
        causes.append(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    if isinstance(code, int):
        return f"{causes[0]}: code {code}" + (f" ({name})" if isinstance(name, str) and name.isidentifier() else "")
    return " from ".join(dict.fromkeys(causes))
