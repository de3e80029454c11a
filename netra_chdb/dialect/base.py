"""The dialect that every driver shares; drivers hold only what differs."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import sqlalchemy as sa
from clickhouse_sqlalchemy.drivers.base import ClickHouseDialect, ClickHouseIdentifierPreparer
from sqlalchemy import exc as sa_exc
from sqlalchemy import schema as sa_schema
from sqlalchemy.engine import URL

from netra_chdb.dialect import generic_types, types
from netra_chdb.dialect.compiler import SQLCompiler
from netra_chdb.dialect.context import ExecutionContext
from netra_chdb.dialect.ddl import DDLCompiler
from netra_chdb.dialect.hosts import Hosts
from netra_chdb.dialect.inserts import InsertBlock
from netra_chdb.dialect.reflection import Reflection
from netra_chdb.dialect.statement_cache import StatementCache
from netra_chdb.dialect.type_compiler import TypeCompiler

__all__ = ["Dialect"]

# Beyond the arguments that upstream registers under the dialect's name (cluster, codec, materialized, alias, after).
for _option, _default in {
    "ttl": None,
    "ephemeral": None,
    "statistics": None,
    "settings": None,
    # Of a dictionary's columns.
    "expression": None,
    "hierarchical": False,
    "injective": False,
    "object_id": False,
}.items():
    sa_schema.Column.argument_for("clickhouse", _option, _default)
sa_schema.CheckConstraint.argument_for("clickhouse", "assume", False)
sa_schema.Index.argument_for("clickhouse", "type", "minmax")
sa_schema.Index.argument_for("clickhouse", "granularity", 1)
for _statement in (sa.Delete, sa.Update):
    _statement.argument_for("clickhouse", "lightweight", False)


_NULLS_REFUSED: Final = (22,)
_MAY_BE_SET: Final = (
    "SELECT name FROM system.settings WHERE NOT readonly AND "
    "name IN ('insert_null_as_default', 'input_format_null_as_default', 'log_comment')"
)


class IdentifierPreparer(ClickHouseIdentifierPreparer):
    """Quotes with backticks, which every server version reads."""

    # "SELECT top.x" is read as SELECT TOP.
    reserved_words = ClickHouseIdentifierPreparer.reserved_words | {"top"}

    def __init__(self, dialect: Any, **kw: Any) -> None:
        super().__init__(dialect, initial_quote="`", final_quote="`", escape_quote="`")

    def _escape_identifier(self, value: str) -> str:
        return value.replace("\\", "\\\\").replace("`", "\\`").replace("%", "%%")


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
    # 3 / 2 is 1.5.
    div_is_floordiv = False
    default_schema_name = "default"

    #: SETTINGS that this server and this user let us set to 0, so that NULL is refused where a column has none.
    null_settings: tuple[str, ...] = ()

    #: Where connections go; None for a driver without a network.
    hosts: Hosts | None = None

    #: Whether the execution option ``log_comment`` is sent; the server says so when the first connection opens.
    takes_log_comment = False

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
        sa.JSON: generic_types.JSON,
        sa.JSON.JSONIndexType: generic_types.JSONIndex,
        sa.JSON.JSONPathType: generic_types.JSONPath,
        sa.LargeBinary: types.Bytes,
        sa.Time: generic_types.Time,
        sa.Interval: generic_types.Interval,
        # ClickHouse's own numbers are subclasses of SQLAlchemy's, and keep to their kind.
        **{cls: cls for cls in (types.Float32, types.Float64, types.Decimal)},
        sa.Float: generic_types.Float,
        sa.Numeric: generic_types.Numeric,
    }

    def __init__(self, json_serializer: Any = None, json_deserializer: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # SQLAlchemy's JSON type looks for them by these names.
        self._json_serializer = json_serializer
        self._json_deserializer = json_deserializer

    @classmethod
    def get_async_dialect_cls(cls, url: URL) -> type[Any]:
        from netra_chdb.dialect.aio import async_dialect

        return async_dialect(cls)

    @classmethod
    def engine_created(cls, engine: sa.Engine) -> None:
        # Told for each class of dialect that an engine has.
        if (cache := engine._compiled_cache) is not None and not isinstance(cache, StatementCache):
            engine._compiled_cache = StatementCache(cache.capacity, size_alert=cache.size_alert)  # type: ignore[attr-defined]

    def initialize(self, connection: Any) -> None:
        super().initialize(connection)
        # What the next statements compile depends on nothing that a second connection could see differently.
        self.supports_update = self.supports_delete = True
        if not self.server_before(*_NULLS_REFUSED):
            found = set(connection.exec_driver_sql(_MAY_BE_SET).scalars())
            self.takes_log_comment = "log_comment" in found
            self.null_settings = tuple(sorted(found - {"log_comment"}))

    # -- execution -----------------------------------------------------------

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        self._check(context)
        self._run(cursor, statement, parameters, context)

    def do_executemany(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        """Send the rows as one block; one by one where something in a row is an SQL expression, a default too."""
        block = context.insert_block if context is not None else None
        if block is None:
            self._check(context)
            for place, row in enumerate(parameters):
                if context is not None:
                    context.row = place
                self._run(cursor, statement, row, context)
        elif context.columns is not None:
            cursor.insert(block.table, list(block.columns), context.columns, settings=context.settings)
        else:
            self._insert(cursor, block, list(parameters), context)

    def do_execute_no_params(self, cursor: Any, statement: str, context: Any = None) -> None:
        self._run(cursor, statement, None, context)

    def _check(self, context: Any) -> None:
        if context is not None:
            try:
                context.check_values()
            except ValueError as error:
                raise self.loaded_dbapi.DataError(f"a value does not fit: {error}") from error

    def _run(self, cursor: Any, statement: str, parameters: Any, context: Any) -> None:
        block = context.insert_block if context is not None else None
        if block is not None and parameters:
            self._insert(cursor, block, [parameters], context)
        else:
            cursor.read_options = getattr(getattr(context, "compiled", None), "read_options", {})
            cursor.execute(statement, parameters, settings=context.settings if context is not None else {})

    def _insert(self, cursor: Any, block: InsertBlock, rows: list[Any], context: Any) -> None:
        try:
            data = block.columns_of(rows)
        except (LookupError, TypeError) as error:
            raise self.loaded_dbapi.DataError(f"a row lacks a value of the INSERT, or has too many: {error}") from error
        cursor.insert(block.table, list(block.columns), data, settings=context.settings)

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

    def do_rollback(self, dbapi_connection: Any) -> None:
        # Also what the pool calls when a connection comes back: a stream that was left open ends here.
        dbapi_connection.rollback()

    def do_begin(self, dbapi_connection: Any) -> None:
        """Nothing begins."""

    def do_savepoint(self, connection: Any, name: str) -> None:
        raise sa_exc.NotSupportedError(
            "SAVEPOINT", None, Exception("ClickHouse has no savepoints: each statement stands when it is done")
        )

    def do_cancel(self, dbapi_connection: Any) -> None:
        """End on the server what runs on a connection, over another one; it then fails. Any thread may call this."""
        raise NotImplementedError

    # -- lines that fail -------------------------------------------------------

    def limit_wait(self, dbapi_connection: Any, seconds: float | None, *, in_all: bool = False) -> None:
        """Wait at most so long for each next piece of an answer; None for what the URL says.

        With ``in_all``, everything until the next call of this has to come in so many seconds from now.
        """

    def connection_lost(self, dbapi_connection: Any) -> None:
        """Leave the host of a connection that was lost alone for a while."""
        connection = self.get_driver_connection(dbapi_connection)
        if self.hosts is not None and (address := getattr(connection, "address", None)) is not None:
            self.hosts.failed(address)

    def do_ping(self, dbapi_connection: Any) -> bool:
        dbapi_connection.ping()
        return True

    # -- the server ----------------------------------------------------------

    def server_before(self, *version: int) -> bool:
        """Whether the server is older than ``version``; one that was not asked yet is taken for a new one."""
        return () < tuple(self.server_version_info or ()) < version

    def _get_server_version_info(self, connection: Any) -> Any:
        version = str(connection.exec_driver_sql("SELECT version()").scalar())
        return tuple(int(part) if part.isdigit() else part for part in version.split("."))

    def _get_default_schema_name(self, connection: Any) -> str:
        return str(connection.exec_driver_sql("SELECT currentDatabase()").scalar())
