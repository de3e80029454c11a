"""How one statement runs: its SETTINGS, its streaming, and its INSERT as one block of columns."""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy.engine import default
from sqlalchemy.engine.interfaces import ExecuteStyle
from sqlalchemy.sql.elements import BindParameter

from netra_chdb.dialect.blocks import write_columns
from netra_chdb.dialect.ddl import render_type
from netra_chdb.dialect.inserts import InsertBlock, insert_block
from netra_chdb.dialect.sql_text import first_keyword

__all__ = ["ExecutionContext"]

_TOKENS: Final = (22,)
_LARGEST_FLOAT32: Final = (2 - 2**-23) * 2.0**127
# On a cluster a subquery over a distributed table is answered once, for all shards; else the server refuses it. The
# first replica that is there is asked and written to, so that who has written reads it.
_READS_ON_CLUSTER: Final = {"distributed_product_mode": "global", "load_balancing": "in_order"}
# An INSERT ends when the shards have the rows: else one host keeps them, and sends them when it likes to. By the
# setting's first name, which every server knows.
_WRITES_ON_CLUSTER: Final = {**_READS_ON_CLUSTER, "insert_distributed_sync": 1}


class ExecutionContext(default.DefaultExecutionContext):
    """Carries what a statement asked for beyond SQL."""

    dialect: Any

    #: The columns of an executemany whose rows SQLAlchemy was spared; None where it prepared them itself.
    columns: list[list[Any]] | None = None

    #: Which row of an executemany is being sent, where they are sent one by one.
    row: int | None = None
    _own_token: str | None = None

    #: Seconds left until the caller's deadline; set anew for each attempt by who tries again.
    time_limit: float | None = None

    @classmethod
    def _init_ddl(
        cls, dialect: Any, connection: Any, dbapi_connection: Any, execution_options: Any, compiled_ddl: Any
    ) -> Any:
        cluster = execution_options.get("clickhouse_cluster")
        if cluster is not None:
            # SQLAlchemy compiles DDL without the options that an engine or a connection has.
            statement = compiled_ddl.statement.execution_options(clickhouse_cluster=cluster)
            translate = execution_options.get("schema_translate_map")
            compiled_ddl = statement.compile(dialect=dialect, schema_translate_map=translate)
        return super()._init_ddl(dialect, connection, dbapi_connection, execution_options, compiled_ddl)

    @classmethod
    def _init_compiled(
        cls,
        dialect: Any,
        connection: Any,
        dbapi_connection: Any,
        execution_options: Any,
        compiled: Any,
        parameters: Any,
        *args: Any,
        **kw: Any,
    ) -> Any:
        # SQLAlchemy makes two dicts of each row before the rows become columns again: two thirds of the time of an
        # insert. Where a row is nothing but its values, the columns are taken from the caller's dicts directly.
        many = parameters if parameters is not None and len(parameters) > 1 else None
        block: InsertBlock | None = getattr(compiled, "insert_block", None)
        columns = None
        whole = execution_options.get("insert_columns")
        if whole is not None and block is not None:
            # Who has columns already passes them whole, with one set of parameters that names them.
            many, columns = parameters, [whole[name] for name in block.columns]
        elif many and block is not None and len(block.rows) == 1 and not compiled.insert_prefetch:
            columns = _columns(compiled, block.rows[0], many)
        if columns is None:
            return super()._init_compiled(
                dialect, connection, dbapi_connection, execution_options, compiled, parameters, *args, **kw
            )
        self: Any = super()._init_compiled(
            dialect, connection, dbapi_connection, execution_options, compiled, parameters[:1], *args, **kw
        )
        self.execute_style = ExecuteStyle.EXECUTEMANY
        self.compiled_parameters = self.parameters = many
        self.columns = columns
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """SETTINGS for this statement: the connection's, the statement's own, the call's; the later ones prevail.

        A setting that is None is left out.
        """
        settings = {**getattr(self.compiled, "standard_settings", {}), **self._asked_settings()}
        if self.execution_options.get("clickhouse_cluster"):
            settings = {**(_WRITES_ON_CLUSTER if self._is_insert_of_any else _READS_ON_CLUSTER), **settings}
        if (self.isupdate or self.isdelete) and "mutations_sync" not in settings:
            # Without it the ALTER returns before the rows have changed, and the next SELECT is wrong.
            settings["mutations_sync"] = 2
        if self._is_insert:
            if "insert_deduplication_token" not in settings:
                settings["insert_deduplication_token"] = self._token()
            if self.insert_block is None:
                # Else the server stores '' or 0 for a NULL that an expression, a SELECT or a text brings.
                settings = {**dict.fromkeys(self.dialect.null_settings, 0), **settings}
        comment = self.execution_options.get("log_comment")
        if comment is not None and self.dialect.takes_log_comment:
            settings.setdefault("log_comment", comment() if callable(comment) else comment)
        limit = self.time_limit if self.time_limit is not None else self.execution_options.get("timeout")
        if limit is not None:
            own = float(settings.get("max_execution_time") or 0)
            settings["max_execution_time"] = self._seconds(min(own, limit) if own else limit)
        return {name: value for name, value in settings.items() if value is not None}

    def _asked_settings(self) -> dict[str, Any]:
        # SQLAlchemy keeps one value of an option, the nearest to the call; the SETTINGS of all three count.
        statement = getattr(self, "invoked_statement", None)
        owners = (self.root_connection, statement) if statement is not None else (self.root_connection,)
        given = [owner.get_execution_options().get("settings") for owner in owners]
        nearest = self.execution_options.get("settings")
        if not any(nearest is one for one in given):
            given.append(nearest)
        return {name: value for one in given if one for name, value in one.items()}

    @property
    def _is_insert_of_any(self) -> bool:
        by_hand = self.compiled is None or self.is_text
        return self.isinsert or (by_hand and first_keyword(self.statement or "") == "INSERT")

    @property
    def _is_insert(self) -> bool:
        # Servers from before 2022 do not know the setting.
        return self._is_insert_of_any and not self.dialect.server_before(*_TOKENS)

    def _token(self) -> str:
        """The token of an INSERT that was given none: its own, so that rows inserted twice on purpose are stored twice.

        It stays the same over retries. Rows that are sent one by one have one each.
        """
        if self._own_token is None:
            self._own_token = str(uuid.uuid4())
        return self._own_token if self.row is None else f"{self._own_token}-{self.row}"

    def _seconds(self, limit: float) -> float:
        # Zero would mean: no limit. An old server knows whole seconds only.
        return max(1, math.ceil(limit)) if self.dialect.server_before(20) else max(0.001, round(limit, 3))

    @property
    def insert_block(self) -> InsertBlock | None:
        """The statement as one block of columns; None when it needs expressions on the server."""
        if self.compiled is not None and not self.execution_options.get("schema_translate_map"):
            found: InsertBlock | None = getattr(self.compiled, "insert_block", None)
            return found
        # The compiled text holds a token in place of a schema that is translated; the final one has its name.
        return insert_block(self.statement or "")

    def check_values(self) -> None:
        """Refuse a value that its column cannot hold: an UPDATE, or an INSERT with expressions, would let it wrap.

        What a WHERE compares with a column changes nothing, and may be any value.

        Raises:
            ValueError: names the column and the value.
        """
        if not (self.isinsert or self.isupdate) or self.compiled is None or self.insert_block is not None:
            return
        compiled: Any = self.compiled
        table = getattr(getattr(compiled, "statement", None), "table", None)
        if table is None:
            return
        kinds = {id(column.type): column for column in table.columns}
        stored = self._stored(table)
        for bind, name in compiled.bind_names.items():
            column = stored.get(name)
            if column is None and (bind._is_crud or self._is_values):
                # A value for the column itself: those inside expressions have types of their own.
                column = kinds.get(id(bind.type))
            if column is not None:
                type_name, values = render_type(column, self.dialect), self._values(bind, name)
                write_columns([column.name], [type_name], [values])
                _check_floats(column.name, type_name, values)

    @property
    def _is_values(self) -> bool:
        statement: Any = self.compiled.statement  # type: ignore[union-attr]
        return self.isinsert and statement.select is None

    def _stored(self, table: Any) -> dict[str, Any]:
        """Columns by the bound value that is stored in them, where its type does not tell."""
        compiled: Any = self.compiled
        if self.isinsert:
            # What a SELECT compares with a column is not stored in it: only defaults are.
            return {column.key: column for column in compiled.insert_prefetch}
        statement = compiled.statement
        given = [*(statement._values or {}).items(), *(getattr(statement, "_ordered_values", None) or ())]
        found = {}
        for key, value in given:
            column = table.columns.get(getattr(key, "key", key))
            if column is not None and isinstance(value, BindParameter):
                found[compiled.bind_names.get(value, column.key)] = column
        return found

    def _values(self, bind: Any, name: str) -> list[Any]:
        compiled: Any = self.compiled
        if bind not in compiled.literal_execute_params:
            return _processed(compiled, name, [row[name] for row in self.compiled_parameters])
        # It is in the text by now, and no parameter any more.
        value = compiled.construct_params(extracted_parameters=self.extracted_parameters)[name]
        process = bind.type._cached_bind_processor(self.dialect)
        return [value if process is None or getattr(process, "for_literals_only", False) else process(value)]

    @property
    def is_streaming(self) -> bool:
        """Whether ``stream_results`` (or ``yield_per``) asked for rows as they come."""
        return bool(self.execution_options.get("stream_results", False))

    def create_server_side_cursor(self) -> Any:
        return self._dbapi_connection.cursor(streaming=True)


def _check_floats(name: str, type_name: str, values: list[Any]) -> None:
    # In a block its codec refuses them; as SQL they would be infinite.
    if type_name in ("Float32", "Nullable(Float32)"):
        for value in values:
            if value is not None and math.isfinite(value) and abs(value) > _LARGEST_FLOAT32:
                raise ValueError(f"column {name!r}: {value!r} is no {type_name}: it goes to {_LARGEST_FLOAT32!r}")


def _columns(compiled: Any, names: Sequence[Any], rows: Any) -> list[list[Any]] | None:
    """Return the rows' values by column; None where SQLAlchemy has to say what a row lacks."""
    escaped = {new: old for old, new in (compiled.escaped_bind_names or {}).items()}
    columns = []
    for placeholder in names:
        name = escaped.get(placeholder, placeholder)
        bind = compiled.binds.get(name)
        if bind is None or not bind.required:
            return None
        key = bind.key
        try:
            values = [row[key] for row in rows]
        except (KeyError, TypeError):
            return None
        columns.append(_processed(compiled, name, values))
    return columns


def _processed(compiled: Any, name: str, values: list[Any]) -> list[Any]:
    process = compiled._bind_processors.get(name)
    # What only puts a value into the form of a literal is not asked: the block checks its columns itself.
    if process is None or getattr(process, "for_literals_only", False):
        return values
    whole = getattr(process, "column", None)
    return list(whole(values)) if whole is not None else [process(value) for value in values]
