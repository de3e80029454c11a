"""Alembic's view of ClickHouse: DDL without transactions, a version table that ClickHouse can hold.

``clickhouse_sqlalchemy.alembic`` is not used: it does not import under current Alembic, and its version table
loses one of two heads.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic.ddl.impl import DefaultImpl
from alembic.operations import MigrateOperation, Operations

from netra_chdb.dialect import MergeTree, types
from netra_chdb.dialect.view import CreateMaterializedView, DropMaterializedView, MaterializedView

__all__ = ["ClickHouseImpl"]


class ClickHouseImpl(DefaultImpl):
    """Registered with Alembic under the dialect's name when this module is imported."""

    __dialect__ = "clickhouse"
    transactional_ddl = False

    def version_table_impl(
        self, *, version_table: str, version_table_schema: str | None, version_table_pk: bool, **kw: Any
    ) -> sa.Table:
        """The version table: no sort key, since ClickHouse cannot update a column of one."""
        return sa.Table(
            version_table,
            sa.MetaData(),
            sa.Column("version_num", types.String(), nullable=False),
            MergeTree(),
            schema=version_table_schema,
        )


@Operations.register_operation("create_materialized_view")
class CreateView(MigrateOperation):
    """``op.create_materialized_view(name, to=, select=, schema=)``."""

    def __init__(self, name: str, *, to: str, select: str, schema: str | None = None) -> None:
        self.name, self.to, self.select, self.schema = name, to, select, schema

    @classmethod
    def create_materialized_view(
        cls, operations: Operations, name: str, *, to: str, select: str, schema: str | None = None
    ) -> Any:
        """Create a view that writes what ``select`` finds in each new block into the table ``to``."""
        return operations.invoke(cls(name, to=to, select=select, schema=schema))

    def reverse(self) -> MigrateOperation:
        return DropView(self.name, to=self.to, select=self.select, schema=self.schema)

    def view(self) -> MaterializedView:
        target = sa.Table(self.to, sa.MetaData(), schema=self.schema)
        return MaterializedView(self.name, target, sa.text(self.select))


@Operations.register_operation("drop_materialized_view")
class DropView(CreateView):
    """``op.drop_materialized_view(name, schema=)``; the table it wrote to keeps its rows."""

    def __init__(self, name: str, *, schema: str | None = None, to: str = "", select: str = "") -> None:
        super().__init__(name, to=to, select=select, schema=schema)

    @classmethod
    def drop_materialized_view(
        cls, operations: Operations, name: str, *, schema: str | None = None, to: str = "", select: str = ""
    ) -> Any:
        """Drop a view; give ``to`` and ``select`` so that it can be made again."""
        return operations.invoke(cls(name, schema=schema, to=to, select=select))

    def reverse(self) -> MigrateOperation:
        return CreateView(self.name, to=self.to, select=self.select, schema=self.schema)


@Operations.implementation_for(CreateView)
def _create(operations: Operations, operation: CreateView) -> None:
    operations.execute(CreateMaterializedView(operation.view()))


@Operations.implementation_for(DropView)
def _drop(operations: Operations, operation: DropView) -> None:
    operations.execute(DropMaterializedView(operation.view()))
