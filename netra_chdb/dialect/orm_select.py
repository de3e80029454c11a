"""From a select over ORM entities to one over tables, ClickHouse's clauses included.

SQLAlchemy compiles a statement over entities by making a plain ``Select`` of it; upstream's FINAL, SAMPLE and LIMIT BY
get lost there. Where eager joins wrap the rows to be limited in a subquery, the clauses belong inside.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm.context import ORMSelectCompileState
from sqlalchemy.sql.base import CompileState
from sqlalchemy.sql.selectable import SelectState

from netra_chdb.dialect.select import CLAUSES, Select

__all__ = ["EntitySelectState"]

CompileState.plugin_for("default", "clickhouse_select")(SelectState)


@CompileState.plugin_for("orm", "clickhouse_select")
class EntitySelectState(ORMSelectCompileState):
    """What SQLAlchemy makes of a select over entities, with ClickHouse's clauses carried over."""

    select_statement: Any
    statement: Any

    @property
    def _should_nest_selectable(self) -> bool:
        # LIMIT BY counts entities, not the rows that eager joins make of them.
        return bool(self.select_statement._limit_by or super()._should_nest_selectable)

    def _select_statement(self, *args: Any, **kw: Any) -> Select:
        plain = super()._select_statement(*args, **kw)
        statement = Select.__new__(Select)
        statement.__dict__.update(plain.__dict__)
        adapt = self._get_current_adapter()
        for name, _ in CLAUSES:
            value = getattr(self.select_statement, name)
            if adapt and isinstance(value, tuple):
                value = tuple(adapt(element, True) for element in value)
            if value:
                setattr(statement, name, value)
        return statement

    def _compound_eager_statement(self) -> Select:
        outer = super()._compound_eager_statement()
        statement = Select.__new__(Select)
        statement.__dict__.update(outer.__dict__)
        statement._settings = self.select_statement._settings
        return statement
