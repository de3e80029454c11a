"""Views: declared beside their tables, created and dropped with them."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, MetaData, Table, event, text
from sqlalchemy.exc import UnreflectableTableError
from sqlalchemy.sql.ddl import ExecutableDDLElement

from netra_chdb.dialect.create_query import read_create_query
from netra_chdb.dialect.sql_fragments import fragment
from netra_chdb.dialect.type_parser import split_arguments, unquote

__all__ = [
    "CreateMaterializedView",
    "CreateView",
    "DropMaterializedView",
    "DropView",
    "MaterializedView",
    "View",
    "reflect_views",
    "views",
]


class View:
    """``CREATE VIEW name AS select``, made by ``create_all()`` behind the tables.

    Args:
        name: the view's name.
        metadata: where it is declared.
        selectable: the query; labels are the view's columns.
        schema: the view's database; by default that of ``metadata``.
        comment: the view's comment.
        cluster: the cluster that it is made on; else that of the execution options.
    """

    kind = "VIEW"
    target: Table | None = None
    _use_schema_map = True  # schema_translate_map asks for it

    def __init__(
        self,
        name: str,
        metadata: MetaData,
        selectable: Any,
        *,
        schema: str | None = None,
        comment: str | None = None,
        cluster: str | None = None,
    ) -> None:
        self.name = name
        self.metadata = metadata
        self.selectable = selectable
        self.schema = schema or metadata.schema
        self.comment = comment
        self.cluster = cluster
        views(metadata).append(self)
        event.listen(metadata, "after_create", self._create)
        event.listen(metadata, "before_drop", self._drop)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.fullname!r})"

    @property
    def fullname(self) -> str:
        """``database.name``, or the name alone without a database."""
        return f"{self.schema}.{self.name}" if self.schema else self.name

    def _is_meant(self, runner: Any, tables: Any) -> bool:
        # What the caller asked for is the runner's; the event has only the tables that are not there yet.
        asked = tables if runner is None else runner.tables
        return asked is None or (self.target is not None and self.target in asked)

    def _create(self, _metadata: Any, connection: Any, tables: Any = None, _ddl_runner: Any = None, **_: Any) -> None:
        if self._is_meant(_ddl_runner, tables):
            connection.execute(CreateView(self, if_not_exists=True))

    def _drop(self, _metadata: Any, connection: Any, tables: Any = None, _ddl_runner: Any = None, **_: Any) -> None:
        if self._is_meant(_ddl_runner, tables):
            connection.execute(DropView(self, if_exists=True))


class MaterializedView(View):
    """``CREATE MATERIALIZED VIEW name TO target AS select``.

    Upstream's view drops the schema of its target, is skipped by ``create_all`` and is known by name alone.

    Args:
        name: the view's name; it lives in its target's database.
        target: the table that the view writes to, or the class mapped to it.
        selectable: the query over the source; its labels are the target's columns.
        comment: the view's comment.
        cluster: the cluster that it is made on; by default its target's.
    """

    kind = "MATERIALIZED VIEW"

    def __init__(
        self, name: str, target: Any, selectable: Any, *, comment: str | None = None, cluster: str | None = None
    ) -> None:
        table: Table = getattr(target, "__table__", target)
        self.target: Table = table
        cluster = cluster or table.dialect_options["clickhouse"]["cluster"]
        super().__init__(name, table.metadata, selectable, schema=table.schema, comment=comment, cluster=cluster)

    def __repr__(self) -> str:
        return f"MaterializedView({self.fullname!r}, to={self.target.fullname!r})"


def views(metadata: MetaData) -> list[View]:
    """Return the views declared on ``metadata``, in order of declaration."""
    found: list[View] = metadata.info.setdefault("views", [])
    return found


def reflect_views(metadata: MetaData, connection: Connection, schema: str | None = None) -> list[View]:
    """Declare on ``metadata`` the views of a database, as the server has them; the targets are reflected with them.

    Args:
        metadata: where they are declared, with the tables that it has already.
        connection: to the server.
        schema: the database; by default the connection's own.

    Raises:
        sqlalchemy.exc.UnreflectableTableError: a materialized view keeps its rows in itself or is refreshed by the
            clock; those are made with SQL of one's own.
    """
    rows = connection.execute(
        text(
            "SELECT name, create_table_query, as_select, comment FROM system.tables WHERE database = :database "
            "AND engine IN ('View', 'MaterializedView') ORDER BY metadata_modification_time, name"
        ),
        {"database": schema or connection.dialect.default_schema_name},
    ).all()
    found: list[View] = []
    for name, create, select, comment in rows:
        query = read_create_query(create)
        if create.startswith("CREATE VIEW "):
            view = View(name, metadata, fragment(select), schema=schema, comment=comment or None)
            view.schema = schema
        elif not query.target or query.is_refreshed:
            raise UnreflectableTableError(f"{schema}.{name} is no materialized view that writes to a table: {create}")
        else:
            database, table = map(unquote, split_arguments(query.target, "."))
            place = None if schema is None and database == connection.dialect.default_schema_name else database
            target = Table(table, metadata, schema=place, autoload_with=connection, keep_existing=True)
            view = MaterializedView(name, target, fragment(select), comment=comment or None)
            view.schema = schema
        found.append(view)
    return found


class CreateView(ExecutableDDLElement):
    """The statement that creates a view."""

    __visit_name__ = "create_view"
    inherit_cache = False

    def __init__(self, element: View, *, if_not_exists: bool = False) -> None:
        self.element = element
        self.if_not_exists = if_not_exists


class DropView(ExecutableDDLElement):
    """The statement that drops a view; the target of a materialized one keeps its rows."""

    __visit_name__ = "drop_view"
    inherit_cache = False

    def __init__(self, element: View, *, if_exists: bool = False) -> None:
        self.element = element
        self.if_exists = if_exists


CreateMaterializedView: Final = CreateView
DropMaterializedView: Final = DropView
