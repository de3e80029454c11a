"""Operations that revisions call as ``op.something()``, beside Alembic's own.

Each is one statement, so that it is done or not done, and knows the statement that takes it back. What stands here
as text is ClickHouse's SQL behind ``ALTER TABLE name``; on a cluster ``ON CLUSTER`` is put in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from alembic.ddl.base import RenameTable
from alembic.operations import MigrateOperation, Operations
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.ddl import ExecutableDDLElement

from netra_chdb.dialect.alter import alter
from netra_chdb.dialect.projection import Projection
from netra_chdb.dialect.sql_fragments import fragment
from netra_chdb.errors import SchemaMismatch

__all__ = ["AlterTable", "ExchangeTables", "OnObject", "Refuse", "Reversible", "execute_reversible", "named"]


class Alteration(ExecutableDDLElement):
    """``ALTER TABLE name`` and what follows, as text."""

    inherit_cache = False

    def __init__(self, table: sa.TableClause, changes: Sequence[str]) -> None:
        self.table, self.changes = table, changes


@compiles(Alteration, "clickhouse")
def _alteration(element: Alteration, compiler: Any, **kw: Any) -> str:
    changes = ", ".join(element.changes).replace("%", "%%")
    return f"{compiler.alter_table(element.table)} {changes}"


class OnObject(ExecutableDDLElement):
    """``<verb> name [and another name] [ON CLUSTER] <end>``."""

    inherit_cache = False

    def __init__(self, verb: str, *tables: sa.TableClause, between: str = "", end: str = "") -> None:
        self.verb, self.tables, self.between, self.end = verb, tables, between, end


@compiles(OnObject, "clickhouse")
def _on_object(element: OnObject, compiler: Any, **kw: Any) -> str:
    names = f" {element.between} ".join(compiler.preparer.format_table(table) for table in element.tables)
    return f"{element.verb} {names}{compiler.on_cluster(element.tables[0])} {element.end}".rstrip()


@compiles(RenameTable, "clickhouse")
def _rename_table(element: Any, compiler: Any, **kw: Any) -> str:
    # Alembic's own is ALTER TABLE ... RENAME TO, which ClickHouse reads as the renaming of a column.
    tables = [named(name, element.schema) for name in (element.table_name, element.new_table_name)]
    return _on_object(OnObject("RENAME TABLE", *tables, between="TO"), compiler)


def named(name: str, schema: str | None) -> sa.TableClause:
    """Return a table as a name."""
    return sa.table(name, schema=schema)


class Reversible(MigrateOperation):
    """One statement, and the one that takes it back.

    Args:
        statement: what to execute.
        back: what takes it back; None where nothing does.
        repeatable: whether it may run once more where nobody can tell if it ran.
    """

    def __init__(self, statement: Any, back: Any = None, *, repeatable: bool = False) -> None:
        self.statement, self.back, self.repeatable = statement, back, repeatable

    def reverse(self) -> MigrateOperation:
        """Return the operation that takes this one back.

        Raises:
            NotImplementedError: nothing takes it back.
        """
        if self.back is None:
            raise NotImplementedError(f"nothing was given that takes this {type(self).__name__} back")
        return Reversible(self.back, self.statement, repeatable=self.repeatable)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` prints."""
        return (type(self).__name__,)


@Operations.register_operation("alter_table")
@Operations.register_operation("mutate")
class AlterTable(Reversible):
    """``op.alter_table(table, change, ..., reverse=[change, ...], schema=)``."""

    def __init__(
        self,
        table: str,
        changes: Sequence[str],
        reverse: Sequence[str] = (),
        *,
        schema: str | None = None,
        repeatable: bool = False,
        irreversible: str | None = None,
    ) -> None:
        altered = named(table, schema)
        back = Alteration(altered, reverse) if reverse else None
        super().__init__(Alteration(altered, changes), back, repeatable=repeatable)
        self.table, self.schema, self.changes, self.undo = table, schema, tuple(changes), tuple(reverse)
        self.irreversible = irreversible

    def reverse(self) -> MigrateOperation:
        """Return the operation that takes this one back."""
        if self.irreversible is not None:
            return Refuse(self.irreversible)
        if not self.undo:
            return super().reverse()
        return AlterTable(self.table, self.undo, self.changes, schema=self.schema, repeatable=self.repeatable)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` prints."""
        return ("alter_table", f"{self.schema}.{self.table}", *self.changes)

    @classmethod
    def alter_table(
        cls,
        operations: Operations,
        table: str,
        *changes: str,
        reverse: str | Sequence[str] = (),
        schema: str | None = None,
        repeatable: bool = False,
    ) -> Any:
        """Change a table: columns, indexes, projections, keys, TTL, settings, partitions, in ClickHouse's own words."""
        back = (reverse,) if isinstance(reverse, str) else reverse
        return operations.invoke(cls(table, changes, back, schema=schema, repeatable=repeatable))

    @classmethod
    def mutate(
        cls, operations: Operations, table: str, command: str, *, reverse: str | None = None, schema: str | None = None
    ) -> Any:
        """Run a mutation, such as ``UPDATE a = 1 WHERE b = 2``, and wait until all parts have it."""
        return operations.invoke(cls(table, [command], [reverse] if reverse else (), schema=schema))


@Operations.register_operation("refuse")
class Refuse(MigrateOperation):
    """``op.refuse(reason)``: stops a revision before anything of it is run."""

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def reverse(self) -> MigrateOperation:
        """A refusal both ways."""
        return self

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` prints."""
        return ("refuse", self.reason)

    @classmethod
    def refuse(cls, operations: Operations, reason: str) -> Any:
        """Stop: somebody has to write this change by hand."""
        return operations.invoke(cls(reason))


@Operations.implementation_for(Refuse)
def _refuse(operations: Operations, operation: Refuse) -> None:
    raise SchemaMismatch(operation.reason)


@Operations.register_operation("exchange_tables")
class ExchangeTables(Reversible):
    """``op.exchange_tables(one, other, schema=)``, which takes itself back."""

    def __init__(self, one: str, other: str, *, schema: str | None = None) -> None:
        swap = OnObject("EXCHANGE TABLES", named(one, schema), named(other, schema), between="AND")
        super().__init__(swap, swap)
        self.one, self.other, self.schema = one, other, schema

    def reverse(self) -> ExchangeTables:
        """Return the operation that takes this one back."""
        return ExchangeTables(self.one, self.other, schema=self.schema)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` prints."""
        return ("exchange_tables", f"{self.schema}.{self.one}", f"{self.schema}.{self.other}")

    @classmethod
    def exchange_tables(cls, operations: Operations, one: str, other: str, *, schema: str | None = None) -> Any:
        """Let two tables, or two views, trade their names, at once."""
        return operations.invoke(cls(one, other, schema=schema))


@Operations.register_operation("detach_table")
@Operations.register_operation("attach_table")
@Operations.register_operation("create_database")
@Operations.register_operation("drop_database")
@Operations.register_operation("run_sql")
class Whole(Reversible):
    """Operations on whole tables and databases, and raw SQL."""

    @classmethod
    def detach_table(cls, operations: Operations, name: str, *, schema: str | None = None) -> Any:
        """Detach a table for good: it stays away after a restart of the server, its rows stay on disk."""
        gone, back = _detach(name, schema), OnObject("ATTACH TABLE", named(name, schema))
        return operations.invoke(cls(gone, back))

    @classmethod
    def attach_table(cls, operations: Operations, name: str, *, schema: str | None = None) -> Any:
        """Attach a table that was detached."""
        return operations.invoke(cls(OnObject("ATTACH TABLE", named(name, schema)), _detach(name, schema)))

    @classmethod
    def create_database(cls, operations: Operations, name: str) -> Any:
        """Create a database, if it is not there."""
        make, drop = sa.schema.CreateSchema(name, if_not_exists=True), sa.schema.DropSchema(name, if_exists=True)
        return operations.invoke(cls(make, drop))

    @classmethod
    def drop_database(cls, operations: Operations, name: str) -> Any:
        """Drop a database, if it is there."""
        make, drop = sa.schema.CreateSchema(name, if_not_exists=True), sa.schema.DropSchema(name, if_exists=True)
        return operations.invoke(cls(drop, make))

    @classmethod
    def run_sql(cls, operations: Operations, sql: str, *, reverse: str | None = None, repeatable: bool = False) -> Any:
        """Run one statement as it stands, colons and percent signs included.

        Args:
            operations: given by Alembic.
            sql: the statement.
            reverse: the one that takes it back.
            repeatable: whether it does no harm twice. A killed INSERT of which nobody can tell whether it was
                carried out is then run again, and else refused.
        """
        back = None if reverse is None else fragment(reverse)
        return operations.invoke(cls(fragment(sql), back, repeatable=repeatable))


def _detach(name: str, schema: str | None) -> OnObject:
    return OnObject("DETACH TABLE", named(name, schema), end="PERMANENTLY SYNC")


@Operations.register_operation("add_projection")
@Operations.register_operation("drop_projection")
@Operations.register_operation("materialize_projection")
@Operations.register_operation("materialize_index")
@Operations.register_operation("modify_order_by")
@Operations.register_operation("modify_ttl")
@Operations.register_operation("modify_settings")
class Parts(Reversible):
    """Operations on parts of a table."""

    @classmethod
    def add_projection(
        cls, operations: Operations, table: str, name: str, select: str, *, schema: str | None = None
    ) -> Any:
        """Add a projection for rows to come."""
        return operations.invoke(cls(*_projection(table, name, select, schema)))

    @classmethod
    def drop_projection(
        cls, operations: Operations, table: str, name: str, *, select: str = "", schema: str | None = None
    ) -> Any:
        """Drop a projection; with ``select`` it can be made again."""
        make, drop = _projection(table, name, select or "SELECT 1", schema)
        return operations.invoke(cls(drop, make if select else None))

    @classmethod
    def materialize_projection(cls, operations: Operations, table: str, name: str, *, schema: str | None = None) -> Any:
        """Build a projection for the rows that are there, and wait for it."""
        begun = alter(table, schema=schema)
        return operations.invoke(cls(begun.materialize_projection(name), begun.clear_projection(name)))

    @classmethod
    def materialize_index(cls, operations: Operations, table: str, name: str, *, schema: str | None = None) -> Any:
        """Build a skip index for the rows that are there, and wait for it."""
        begun = alter(table, schema=schema)
        return operations.invoke(cls(begun.materialize_index(name), begun.clear_index(name)))

    @classmethod
    def modify_order_by(
        cls,
        operations: Operations,
        table: str,
        keys: Sequence[str],
        *,
        old: Sequence[str] = (),
        schema: str | None = None,
    ) -> Any:
        """Change the sort key, as far as ClickHouse can: columns at its end, added by the same statement."""
        begun = alter(table, schema=schema)
        back = begun.modify_order_by(*map(fragment, old)) if old else None
        return operations.invoke(cls(begun.modify_order_by(*map(fragment, keys)), back))

    @classmethod
    def modify_ttl(
        cls,
        operations: Operations,
        table: str,
        ttl: str | None,
        *,
        old: str | None = None,
        schema: str | None = None,
    ) -> Any:
        """Change how long rows are kept; None keeps them for ever."""
        begun = alter(table, schema=schema)
        new, back = (begun.modify_ttl(None if text is None else fragment(text)) for text in (ttl, old))
        return operations.invoke(cls(new, back))

    @classmethod
    def modify_settings(
        cls,
        operations: Operations,
        table: str,
        settings: Mapping[str, Any],
        *,
        old: Mapping[str, Any] | None = None,
        schema: str | None = None,
    ) -> Any:
        """Change SETTINGS of a table; without ``old`` the reverse goes back to the server's defaults."""
        begun = alter(table, schema=schema)
        back = begun.modify_setting(**old) if old else begun.reset_setting(*settings)
        return operations.invoke(cls(begun.modify_setting(**settings), back))


def _projection(table: str, name: str, select: str, schema: str | None) -> tuple[Any, Any]:
    begun = alter(table, schema=schema)
    return begun.add_projection(Projection(name, fragment(select))), begun.drop_projection(name)


def execute_reversible(operations: Operations, operation: Reversible) -> None:
    """Run an operation's statement."""
    operations.execute(operation.statement, execution_options={"repeatable": True} if operation.repeatable else None)


for _operation in (Reversible, AlterTable, ExchangeTables, Whole, Parts):
    Operations.implementation_for(_operation)(execute_reversible)
