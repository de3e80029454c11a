"""The dialect that every driver shares; drivers hold only what differs."""

from __future__ import annotations

from typing import Any, ClassVar

import sqlalchemy as sa
from clickhouse_sqlalchemy.drivers.base import ClickHouseDialect, ClickHouseIdentifierPreparer
from sqlalchemy import exc as sa_exc
from sqlalchemy import schema as sa_schema
from sqlalchemy.engine import default

from netra_chdb.dialect import types
from netra_chdb.dialect.compiler import InsertBlock, SQLCompiler
from netra_chdb.dialect.ddl import DDLCompiler
from netra_chdb.dialect.reflection import Reflection
from netra_chdb.dialect.type_compiler import TypeCompiler

__all__ = ["Dialect"]

# Beyond the arguments that upstream registers under the dialect's name (cluster, codec, materialized, alias, after).
sa_schema.Column.argument_for("clickhouse", "ttl", None)
sa_schema.Index.argument_for("clickhouse", "type", "minmax")
sa_schema.Index.argument_for("clickhouse", "granularity", 1)


class IdentifierPreparer(ClickHouseIdentifierPreparer):
    """Quotes with backticks, which every server version reads."""

    def __init__(self, dialect: Any, **kw: Any) -> None:
        super().__init__(dialect, initial_quote="`", final_quote="`", escape_quote="`")

    def _escape_identifier(self, value: str) -> str:
        return value.replace("\\", "\\\\").replace("`", "\\`").replace("%", "%%")


class ExecutionContext(default.DefaultExecutionContext):
    """Carries what a statement asked for beyond SQL: SETTINGS, streaming, its INSERT as a block."""

    @property
    def settings(self) -> dict[str, Any]:
        """SETTINGS for this statement: connection's, then the statement's own ``execution_options``."""
        settings = dict(self.execution_options.get("settings") or {})
        statement = getattr(self, "invoked_statement", None)
        if statement is not None:
            settings.update(statement.get_execution_options().get("settings") or {})
        if (self.isupdate or self.isdelete) and "mutations_sync" not in settings:
            # Without it the ALTER returns before the rows have changed, and the next SELECT is wrong.
            settings["mutations_sync"] = 2
        return settings

    @property
    def insert_block(self) -> InsertBlock | None:
        """The statement as one block of columns; None when it needs expressions on the server."""
        return getattr(self.compiled, "insert_block", None) if self.isinsert else None

    @property
    def is_streaming(self) -> bool:
        """Whether ``stream_results`` (or ``yield_per``) asked for rows as they come."""
        return bool(self.execution_options.get("stream_results", False))

    def create_server_side_cursor(self) -> Any:
        return self._dbapi_connection.cursor(streaming=True)


class Dialect(Reflection, ClickHouseDialect):
    """clickhouse-sqlalchemy's dialect, corrected.

    A driver provides ``import_dbapi``, ``create_connect_args`` and a cursor with
    ``execute(sql, parameters, settings=)`` and ``insert(table, columns, data, settings=)``.
    """

    supports_statement_cache = True
    supports_native_uuid = True
    supports_server_side_cursors = True
    supports_schemas = True
    supports_multivalues_insert = True
    supports_default_values = False
    supports_empty_insert = False
    insert_returning = False
    use_insertmanyvalues = False
    cte_follows_insert = True
    default_schema_name = "default"

    #: SETTINGS that every MergeTree table gets from this driver's DDL.
    table_settings: ClassVar[dict[str, Any]] = {}

    preparer = IdentifierPreparer
    type_compiler_cls = TypeCompiler
    type_compiler = TypeCompiler
    statement_compiler = SQLCompiler
    ddl_compiler = DDLCompiler
    execution_ctx_cls = ExecutionContext

    colspecs: ClassVar[dict[Any, Any]] = {
        sa.DateTime: types.DateTime64,
        sa.JSON: types.JSONText,
        sa.Float: types.Float64,
    }

    def initialize(self, connection: Any) -> None:
        super().initialize(connection)
        # What the next statements compile depends on nothing that a second connection could see differently.
        self.supports_update = self.supports_delete = True

    # -- execution -----------------------------------------------------------

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        self._run(cursor, statement, [parameters] if parameters else [], parameters, context)

    def do_executemany(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        rows = list(parameters)
        if context is not None and context.insert_block is not None:
            self._run(cursor, statement, rows, None, context)
            return
        for row in rows:
            self._run(cursor, statement, [row], row, context)

    def do_execute_no_params(self, cursor: Any, statement: str, context: Any = None) -> None:
        self._run(cursor, statement, [], None, context)

    def _run(self, cursor: Any, statement: str, rows: list[Any], parameters: Any, context: Any) -> None:
        settings = context.settings if context is not None else {}
        block: InsertBlock | None = context.insert_block if context is not None else None
        if block is not None and rows:
            data = [[row[key] for row in rows for key in keys] for keys in zip(*block.rows, strict=True)]
            cursor.insert(block.table, [_unquoted(name) for name in block.columns], data, settings=settings)
        else:
            cursor.execute(statement, parameters, settings=settings)

    # -- transactions: ClickHouse has none, each statement stands when it is done -----

    def get_isolation_level_values(self, dbapi_connection: Any) -> list[str]:
        return ["AUTOCOMMIT"]

    def get_default_isolation_level(self, dbapi_conn: Any) -> Any:
        return "AUTOCOMMIT"

    def get_isolation_level(self, dbapi_connection: Any) -> Any:
        return "AUTOCOMMIT"

    def set_isolation_level(self, dbapi_connection: Any, level: str) -> None:
        """Accept AUTOCOMMIT, the only level there is."""

    def reset_isolation_level(self, dbapi_conn: Any) -> None:
        """Nothing to go back to."""

    def do_commit(self, dbapi_connection: Any) -> None:
        """Nothing is pending."""

    def do_begin(self, dbapi_connection: Any) -> None:
        """Nothing begins."""

    def do_savepoint(self, connection: Any, name: str) -> None:
        raise sa_exc.NotSupportedError(
            "SAVEPOINT", None, Exception("ClickHouse has no savepoints: each statement stands when it is done")
        )

    def do_ping(self, dbapi_connection: Any) -> bool:
        dbapi_connection.ping()
        return True

    # -- the server ----------------------------------------------------------

    def _get_server_version_info(self, connection: Any) -> Any:
        version = str(connection.exec_driver_sql("SELECT version()").scalar())
        return tuple(int(part) if part.isdigit() else part for part in version.split("."))

    def _get_default_schema_name(self, connection: Any) -> str:
        return str(connection.exec_driver_sql("SELECT currentDatabase()").scalar())


def _unquoted(name: str) -> str:
    if name.startswith("`"):
        return name[1:-1].replace("\\`", "`").replace("\\\\", "\\")
    return name
