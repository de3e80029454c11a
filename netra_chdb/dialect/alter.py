"""ALTER TABLE: ClickHouse's own changes to a table that is there, several of them in one statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.sql.ddl import ExecutableDDLElement

from netra_chdb.dialect.projection import Projection

__all__ = ["Alter", "alter"]

_Render: TypeAlias = Callable[[Any], str]


def alter(table: Any, *, schema: str | None = None) -> Alter:
    """Begin an ``ALTER TABLE``: ``connection.execute(alter(table).drop_index("ix").modify_ttl(None))``.

    The changes of one statement are made together. ClickHouse needs that where one depends on another: a column can
    enter the sort key only in the statement that adds it.

    Args:
        table: a ``Table``, a mapped class, a :class:`~netra_chdb.dialect.View`, or a name.
        schema: the database, with a name.
    """
    return Alter(sa.table(table, schema=schema) if isinstance(table, str) else getattr(table, "__table__", table))


class Alter(ExecutableDDLElement):
    """The statement; each method returns a new one with one more change."""

    __visit_name__ = "alter"
    inherit_cache = False

    def __init__(self, element: Any, changes: tuple[_Render, ...] = (), last: tuple[_Render, ...] = ()) -> None:
        self.element = element
        self.changes = changes
        # A list without brackets takes what follows the next comma for one more of its own.
        self.last = last

    def _with(self, change: _Render, *, is_last: bool = False) -> Alter:
        if is_last and self.last:
            raise sa_exc.ArgumentError("TTL and SETTINGS are each changed in an ALTER TABLE of their own")
        if is_last:
            return Alter(self.element, self.changes, (change,))
        return Alter(self.element, (*self.changes, change), self.last)

    def render(self, compiler: Any) -> str:
        """Return the changes as SQL."""
        changes = [change(compiler) for change in (*self.changes, *self.last)]
        if not changes:
            raise sa_exc.CompileError(f"ALTER TABLE {self.element.name}: no change was given")
        return ", ".join(changes)

    # -- columns -------------------------------------------------------------------------------------------

    def add_column(
        self, column: sa.Column[Any], *, after: str | None = None, first: bool = False, if_not_exists: bool = False
    ) -> Alter:
        """``ADD COLUMN``, by default behind all others."""

        def render(compiler: Any) -> str:
            text = compiler.get_column_specification(column)
            return f"ADD COLUMN {_if('NOT EXISTS', if_not_exists)}{text}{_place(compiler, after, first)}"

        return self._with(render)

    def modify_column(
        self, column: sa.Column[Any], *, after: str | None = None, first: bool = False, if_exists: bool = False
    ) -> Alter:
        """``MODIFY COLUMN``: type, default, comment, codec and TTL become those of ``column``.

        What ``column`` does not have stays as it is; :meth:`remove` takes it away.
        """

        def render(compiler: Any) -> str:
            text = compiler.get_column_specification(column)
            return f"MODIFY COLUMN {_if('EXISTS', if_exists)}{text}{_place(compiler, after, first)}"

        return self._with(render)

    def remove(self, column: str, what: str) -> Alter:
        """``MODIFY COLUMN ... REMOVE``: DEFAULT, MATERIALIZED, ALIAS, EPHEMERAL, COMMENT, CODEC, TTL or SETTINGS."""
        if what not in _REMOVABLE:
            raise sa_exc.ArgumentError(f"what a column can lose is one of {', '.join(_REMOVABLE)}, not {what!r}")
        return self._with(lambda compiler: f"MODIFY COLUMN {compiler.preparer.quote(column)} REMOVE {what}")

    def drop_column(self, column: str, *, if_exists: bool = False) -> Alter:
        """``DROP COLUMN``."""
        return self._named("DROP COLUMN", column, if_exists)

    def rename_column(self, column: str, name: str, *, if_exists: bool = False) -> Alter:
        """``RENAME COLUMN``."""

        def render(compiler: Any) -> str:
            quote = compiler.preparer.quote
            return f"RENAME COLUMN {_if('EXISTS', if_exists)}{quote(column)} TO {quote(name)}"

        return self._with(render)

    def comment_column(self, column: str, comment: str) -> Alter:
        """``COMMENT COLUMN``."""
        return self._with(
            lambda compiler: f"COMMENT COLUMN {compiler.preparer.quote(column)} {compiler.text_literal(comment)}"
        )

    def materialize_column(self, column: str) -> Alter:
        """``MATERIALIZE COLUMN``: a mutation that stores what the default says in the rows that are there."""
        return self._named("MATERIALIZE COLUMN", column)

    # -- indexes, projections, constraints ----------------------------------------------------------------------

    def add_index(self, index: sa.Index, *, if_not_exists: bool = False) -> Alter:
        """``ADD INDEX``, for rows to come; :meth:`materialize_index` is for those that are there."""
        return self._with(
            lambda compiler: f"ADD INDEX {_if('NOT EXISTS', if_not_exists)}{compiler.index_definition(index)}"
        )

    def drop_index(self, name: str, *, if_exists: bool = False) -> Alter:
        """``DROP INDEX``."""
        return self._named("DROP INDEX", name, if_exists)

    def materialize_index(self, name: str) -> Alter:
        """``MATERIALIZE INDEX``: a mutation."""
        return self._named("MATERIALIZE INDEX", name)

    def clear_index(self, name: str) -> Alter:
        """``CLEAR INDEX``: its files go, the index stays."""
        return self._named("CLEAR INDEX", name)

    def add_projection(self, projection: Projection, *, if_not_exists: bool = False) -> Alter:
        """``ADD PROJECTION``, for rows to come; :meth:`materialize_projection` is for those that are there."""

        def render(compiler: Any) -> str:
            text = compiler.process(projection).removeprefix("PROJECTION ")
            return f"ADD PROJECTION {_if('NOT EXISTS', if_not_exists)}{text}"

        return self._with(render)

    def drop_projection(self, name: str, *, if_exists: bool = False) -> Alter:
        """``DROP PROJECTION``."""
        return self._named("DROP PROJECTION", name, if_exists)

    def materialize_projection(self, name: str) -> Alter:
        """``MATERIALIZE PROJECTION``: a mutation."""
        return self._named("MATERIALIZE PROJECTION", name)

    def clear_projection(self, name: str) -> Alter:
        """``CLEAR PROJECTION``: its files go, the projection stays."""
        return self._named("CLEAR PROJECTION", name)

    def add_constraint(self, constraint: sa.CheckConstraint, *, if_not_exists: bool = False) -> Alter:
        """``ADD CONSTRAINT``; rows that are there are not checked. The constraint needs a name."""

        def render(compiler: Any) -> str:
            name = compiler.preparer.quote(constraint.name)
            return f"ADD CONSTRAINT {_if('NOT EXISTS', if_not_exists)}{name} {compiler.define_check_body(constraint)}"

        return self._with(render)

    def drop_constraint(self, name: str, *, if_exists: bool = False) -> Alter:
        """``DROP CONSTRAINT``."""
        return self._named("DROP CONSTRAINT", name, if_exists)

    # -- the table ----------------------------------------------------------------------------------------------

    def modify_order_by(self, *keys: Any) -> Alter:
        """``MODIFY ORDER BY``: the old key, and behind it columns that the same statement adds; or less at its end."""
        return self._with(lambda compiler: f"MODIFY ORDER BY {compiler.expressions(keys)}")

    def modify_sample_by(self, key: Any) -> Alter:
        """``MODIFY SAMPLE BY``; None removes it."""
        if key is None:
            return self._with(lambda _: "REMOVE SAMPLE BY")
        return self._with(lambda compiler: f"MODIFY SAMPLE BY {compiler.expression(_clause(key))}")

    def modify_ttl(self, *ttl: Any) -> Alter:
        """``MODIFY TTL``, in all of its parts; None removes it."""
        if ttl == (None,):
            return self._with(lambda _: "REMOVE TTL")
        return self._with(
            lambda compiler: f"MODIFY TTL {', '.join(compiler.expression(_clause(part)) for part in ttl)}", is_last=True
        )

    def modify_setting(self, **settings: Any) -> Alter:
        """``MODIFY SETTING``."""
        return self._with(lambda compiler: f"MODIFY SETTING {compiler.settings(settings)}", is_last=True)

    def reset_setting(self, *names: str) -> Alter:
        """``RESET SETTING``: back to the server's defaults."""
        return self._with(
            lambda compiler: f"RESET SETTING {', '.join(map(compiler.preparer.quote, names))}", is_last=True
        )

    def modify_comment(self, comment: str) -> Alter:
        """``MODIFY COMMENT``; an empty one removes it."""
        return self._with(lambda compiler: f"MODIFY COMMENT {compiler.text_literal(comment)}")

    def modify_query(self, selectable: Any) -> Alter:
        """``MODIFY QUERY`` of a materialized view: rows that arrive meanwhile go through the old one or the new."""
        return self._with(lambda compiler: f"MODIFY QUERY {compiler.stored_query(_clause(selectable))}", is_last=True)

    def _named(self, what: str, name: str, if_exists: bool = False) -> Alter:
        return self._with(lambda compiler: f"{what} {_if('EXISTS', if_exists)}{compiler.preparer.quote(name)}")


_REMOVABLE = ("DEFAULT", "MATERIALIZED", "ALIAS", "EPHEMERAL", "COMMENT", "CODEC", "TTL", "SETTINGS")


def _clause(value: Any) -> Any:
    return sa.text(value) if isinstance(value, str) else value


def _if(what: str, wanted: bool) -> str:
    return f"IF {what} " if wanted else ""


def _place(compiler: Any, after: str | None, first: bool) -> str:
    if first:
        return " FIRST"
    return "" if after is None else f" AFTER {compiler.preparer.quote(after)}"
