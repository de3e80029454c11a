"""How one statement runs: its SETTINGS, its streaming, and its INSERT as one block of columns."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import default
from sqlalchemy.engine.interfaces import ExecuteStyle

from netra_chdb.dialect.inserts import InsertBlock, insert_block

__all__ = ["ExecutionContext"]


class ExecutionContext(default.DefaultExecutionContext):
    """Carries what a statement asked for beyond SQL."""

    #: The columns of an executemany whose rows SQLAlchemy was spared; None where it prepared them itself.
    columns: list[list[Any]] | None = None

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
        if many and block is not None and len(block.rows) == 1 and not compiled.insert_prefetch:
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
        """SETTINGS for this statement: connection's, then the statement's own ``execution_options``."""
        settings = dict(getattr(self.compiled, "standard_settings", ()))
        settings.update(self.execution_options.get("settings") or {})
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
        if self.compiled is not None and not self.execution_options.get("schema_translate_map"):
            found: InsertBlock | None = getattr(self.compiled, "insert_block", None)
            return found
        # The compiled text holds a token in place of a schema that is translated; the final one has its name.
        return insert_block(self.statement or "")

    @property
    def is_streaming(self) -> bool:
        """Whether ``stream_results`` (or ``yield_per``) asked for rows as they come."""
        return bool(self.execution_options.get("stream_results", False))

    def create_server_side_cursor(self) -> Any:
        return self._dbapi_connection.cursor(streaming=True)


def _columns(compiled: Any, names: tuple[str, ...], rows: Any) -> list[list[Any]] | None:
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
        process = compiled._bind_processors.get(name)
        # What only puts a value into the form of a literal is not asked: the block checks its columns itself.
        if process is not None and not getattr(process, "for_literals_only", False):
            whole = getattr(process, "column", None)
            values = whole(values) if whole is not None else [process(value) for value in values]
        columns.append(values)
    return columns
