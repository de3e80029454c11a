"""What stands beside a table's columns and belongs to it: its engine, or what makes it a dictionary."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import schema

__all__ = ["TableItem"]


class TableItem:
    """Mixed into upstream's table engines, which forget that a ``Table`` can be copied.

    One stands among its table's constraints: so SQLAlchemy's ``to_metadata()`` and Alembic's operations take it along.
    """

    # Alembic asks every constraint of a table; upstream's classes are constraints without these.
    _type_bound = _column_flag = False
    deferrable = initially = comment = None
    parent: Any = None
    #: Whether it describes a table that is there: with the server's own SETTINGS, and no others.
    is_reflected = False

    def __init__(self, *args: Any, **options: Any) -> None:
        sa.util.set_creation_order(self)
        self._arguments = args, options
        super().__init__(*args, **options)

    @staticmethod
    def _create_rule(_compiler: Any) -> bool:
        # It is written behind the columns and constraints.
        return False

    def _set_parent(self, parent: Any, **kw: Any) -> None:
        parent.constraints.discard(getattr(parent, "engine", None))
        super()._set_parent(parent, **kw)  # type: ignore[misc]
        parent.constraints.add(self)

    def _copy(self, *, target_table: Any = None, **_: Any) -> Any:
        args, options = self._arguments

        def copied(value: Any) -> Any:
            if isinstance(value, list | tuple):
                return [copied(one) for one in value]
            value = value.__clause_element__() if hasattr(value, "__clause_element__") else value
            if isinstance(value, sa.Column) and value.table is self.parent:
                return value.name if target_table is None else target_table.c[value.key]
            if isinstance(value, sa.ClauseElement) and not isinstance(value, sa.Table):
                return schema._copy_expression(value, self.parent, target_table)  # type: ignore[arg-type]
            return value

        copy = type(self)(*map(copied, args), **{name: copied(value) for name, value in options.items()})
        copy.is_reflected = self.is_reflected
        return copy
