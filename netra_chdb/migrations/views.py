"""Operations on views: made, dropped, and given another query while rows arrive."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic.operations import MigrateOperation, Operations

from netra_chdb.dialect.alter import alter
from netra_chdb.dialect.literals import quote
from netra_chdb.dialect.sql_fragments import fragment
from netra_chdb.dialect.view import CreateView, DropView, MaterializedView, View
from netra_chdb.migrations.operations import OnObject, Reversible, execute_reversible, named

__all__ = ["MakeView", "ReplaceView"]


@Operations.register_operation("create_materialized_view")
@Operations.register_operation("create_view")
@Operations.register_operation("drop_materialized_view")
@Operations.register_operation("drop_view")
class MakeView(Reversible):
    """Create a view, or drop it: ``op.create_materialized_view(name, to=, select=, schema=)`` and its kin."""

    def __init__(
        self,
        name: str,
        select: str,
        *,
        to: str | None = None,
        schema: str | None = None,
        comment: str | None = None,
        create: bool = True,
    ) -> None:
        metadata = sa.MetaData()
        query = fragment(select)
        view: View
        if to is None:
            view = View(name, metadata, query, schema=schema, comment=comment)
        else:
            view = MaterializedView(name, sa.Table(to, metadata, schema=schema), query, comment=comment)
        make, drop = CreateView(view), DropView(view)
        super().__init__(*((make, drop if select else None) if create else (drop, make if select else None)))
        self.name, self.select, self.to, self.schema, self.create = name, select, to, schema, create
        self.comment = comment

    def reverse(self) -> MigrateOperation:
        """Return the operation that takes this one back."""
        if not self.select:
            return super().reverse()
        return MakeView(
            self.name, self.select, to=self.to, schema=self.schema, comment=self.comment, create=not self.create
        )

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` prints."""
        return ("add_view" if self.create else "remove_view", f"{self.schema}.{self.name}")

    @classmethod
    def create_materialized_view(
        cls,
        operations: Operations,
        name: str,
        *,
        to: str,
        select: str,
        schema: str | None = None,
        comment: str | None = None,
    ) -> Any:
        """Create a view that writes what ``select`` finds in each new block into the table ``to``."""
        return operations.invoke(cls(name, select, to=to, schema=schema, comment=comment))

    @classmethod
    def drop_materialized_view(
        cls,
        operations: Operations,
        name: str,
        *,
        schema: str | None = None,
        to: str = "",
        select: str = "",
        comment: str | None = None,
    ) -> Any:
        """Drop a view; the table it wrote to keeps its rows. With ``to`` and ``select`` it can be made again."""
        return operations.invoke(cls(name, select, to=to or None, schema=schema, comment=comment, create=False))

    @classmethod
    def create_view(
        cls,
        operations: Operations,
        name: str,
        *,
        select: str,
        schema: str | None = None,
        comment: str | None = None,
    ) -> Any:
        """Create a view that is a stored query."""
        return operations.invoke(cls(name, select, schema=schema, comment=comment))

    @classmethod
    def drop_view(
        cls,
        operations: Operations,
        name: str,
        *,
        schema: str | None = None,
        select: str = "",
        comment: str | None = None,
    ) -> Any:
        """Drop a view; with ``select`` it can be made again."""
        return operations.invoke(cls(name, select, schema=schema, comment=comment, create=False))


@Operations.register_operation("replace_view")
class ReplaceView(Reversible):
    """``op.replace_view(name, select=, old_select=, schema=, materialized=True)``."""

    def __init__(
        self,
        name: str,
        select: str,
        old_select: str,
        *,
        schema: str | None = None,
        materialized: bool = True,
        comment: str | None = None,
    ) -> None:
        self.name, self.schema, self.materialized, self.comment = name, schema, materialized, comment
        self.select, self.old_select = select, old_select
        super().__init__(self._with(select), self._with(old_select) if old_select else None)

    def _with(self, select: str) -> Any:
        view = named(self.name, self.schema)
        if self.materialized:
            return alter(view).modify_query(fragment(select))
        end = f"AS {select} COMMENT {quote(self.comment)}" if self.comment else f"AS {select}"
        return OnObject("CREATE OR REPLACE VIEW", view, end=end.replace("%", "%%"))

    def reverse(self) -> MigrateOperation:
        """Return the operation that takes this one back."""
        if not self.old_select:
            return super().reverse()
        return ReplaceView(
            self.name,
            self.old_select,
            self.select,
            schema=self.schema,
            materialized=self.materialized,
            comment=self.comment,
        )

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return what ``alembic check`` prints."""
        return ("replace_view", f"{self.schema}.{self.name}", self.select)

    @classmethod
    def replace_view(
        cls,
        operations: Operations,
        name: str,
        *,
        select: str,
        old_select: str = "",
        schema: str | None = None,
        materialized: bool = True,
        comment: str | None = None,
    ) -> Any:
        """Give a view another query, in place: each row that arrives meanwhile goes through the old or the new one.

        Columns that the new query fills have to be in the target before. A plain view is made anew, so that its
        ``comment`` has to be said again.
        """
        return operations.invoke(
            cls(name, select, old_select, schema=schema, materialized=materialized, comment=comment)
        )


for _operation in (MakeView, ReplaceView):
    Operations.implementation_for(_operation)(execute_reversible)
