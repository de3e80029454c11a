"""Materialized views that write into a table of their own: declared beside it, created and dropped with it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import MetaData, Table, event
from sqlalchemy.sql.ddl import ExecutableDDLElement

__all__ = ["CreateMaterializedView", "DropMaterializedView", "MaterializedView"]


class MaterializedView:
    """``CREATE MATERIALIZED VIEW name TO target AS select``.

    Upstream's view drops the schema of its target, is skipped by ``create_all`` and is known by name alone.

    Args:
        name: the view's name; it lives in its target's database.
        target: the table that the view writes to.
        selectable: the query over the source; its labels are the target's columns.
    """

    def __init__(self, name: str, target: Table, selectable: Any) -> None:
        self.name = name
        self.target = target
        self.selectable = selectable
        self.schema = target.schema
        metadata: MetaData = target.metadata
        views(metadata).append(self)
        event.listen(metadata, "after_create", self._create)
        event.listen(metadata, "before_drop", self._drop)

    def __repr__(self) -> str:
        return f"MaterializedView({self.fullname!r}, to={self.target.fullname!r})"

    @property
    def fullname(self) -> str:
        """``database.name``, or the name alone without a database."""
        return f"{self.schema}.{self.name}" if self.schema else self.name

    def _create(self, _metadata: Any, connection: Any, tables: Any = None, **_: Any) -> None:
        if tables is None or self.target in tables:
            connection.execute(CreateMaterializedView(self, if_not_exists=True))

    def _drop(self, _metadata: Any, connection: Any, tables: Any = None, **_: Any) -> None:
        if tables is None or self.target in tables:
            connection.execute(DropMaterializedView(self, if_exists=True))


def views(metadata: MetaData) -> list[MaterializedView]:
    """Return the materialized views declared on ``metadata``, in order of declaration."""
    found: list[MaterializedView] = metadata.info.setdefault("materialized_views", [])
    return found


class CreateMaterializedView(ExecutableDDLElement):
    """The statement that creates a view."""

    __visit_name__ = "create_materialized_view"
    inherit_cache = False

    def __init__(self, element: MaterializedView, *, if_not_exists: bool = False) -> None:
        self.element = element
        self.if_not_exists = if_not_exists


class DropMaterializedView(ExecutableDDLElement):
    """The statement that drops a view; its target keeps its rows."""

    __visit_name__ = "drop_materialized_view"
    inherit_cache = False

    def __init__(self, element: MaterializedView, *, if_exists: bool = False) -> None:
        self.element = element
        self.if_exists = if_exists
