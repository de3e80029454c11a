"""Whole tables and dictionaries in the server's own words: what autogenerate writes, exact to the codec.

What belongs to a driver (an embedded database is synced to disk) is added when the revision runs, so that one
revision serves every server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.ddl import ExecutableDDLElement

from netra_chdb.dialect.literals import quote
from netra_chdb.migrations.operations import OnObject, Reversible, execute_reversible

__all__ = ["DefineTable"]


class TableDefinition(ExecutableDDLElement):
    """``CREATE TABLE`` of texts."""

    inherit_cache = False

    def __init__(
        self,
        table: sa.TableClause,
        elements: Sequence[str],
        engine: str,
        settings: Mapping[str, str],
        comment: str | None,
    ) -> None:
        self.table, self.elements, self.engine = table, elements, engine
        self.settings, self.comment = settings, comment


@compiles(TableDefinition, "clickhouse")
def _definition(element: TableDefinition, compiler: Any, **kw: Any) -> str:
    settings = dict(element.settings)
    if "MergeTree" in element.engine.split("(")[0].split()[0]:
        settings = {**{name: str(value) for name, value in compiler.dialect.table_settings.items()}, **settings}
    text = ",\n    ".join(element.elements)
    text = f"(\n    {text}\n) ENGINE = {element.engine}"
    if settings:
        text += "\nSETTINGS " + ", ".join(f"{name} = {value}" for name, value in sorted(settings.items()))
    if element.comment:
        text += f"\nCOMMENT {quote(element.comment)}"
    name = compiler.preparer.format_table(element.table)
    return f"CREATE TABLE {name}{compiler.on_cluster(element.table)} {text.replace('%', '%%')}"


@Operations.register_operation("define_table")
class DefineTable(Reversible):
    """``op.define_table(name, elements, engine=, settings=, comment=, schema=)``, and its reverse."""

    def __init__(
        self,
        name: str,
        elements: Sequence[str],
        *,
        engine: str,
        settings: Mapping[str, str] | None = None,
        comment: str | None = None,
        schema: str | None = None,
        create: bool = True,
    ) -> None:
        named = sa.table(name, schema=schema)
        self.name, self.elements, self.engine = name, tuple(elements), engine
        self.settings, self.comment, self.schema, self.create = dict(settings or {}), comment, schema, create
        make = TableDefinition(named, self.elements, engine, self.settings, comment)
        drop = OnObject("DROP TABLE", named, end="SYNC")
        super().__init__(*((make, drop) if create else (drop, make)))

    def reverse(self) -> DefineTable:
        """Return the operation that takes this one back."""
        return DefineTable(
            self.name,
            self.elements,
            engine=self.engine,
            settings=self.settings,
            comment=self.comment,
            schema=self.schema,
            create=not self.create,
        )

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` prints."""
        return ("add_table" if self.create else "remove_table", f"{self.schema}.{self.name}")

    @classmethod
    def define_table(
        cls,
        operations: Operations,
        name: str,
        elements: Sequence[str],
        *,
        engine: str,
        settings: Mapping[str, str] | None = None,
        comment: str | None = None,
        schema: str | None = None,
    ) -> Any:
        """Create a table from ClickHouse's own words.

        Args:
            operations: given by Alembic.
            name: the table's name.
            elements: columns, indexes, projections and constraints, as they stand in CREATE TABLE.
            engine: the engine with its keys and TTL.
            settings: the table's SETTINGS, as they are written there.
            comment: the table's comment.
            schema: the database.
        """
        return operations.invoke(cls(name, elements, engine=engine, settings=settings, comment=comment, schema=schema))


Operations.implementation_for(DefineTable)(execute_reversible)
