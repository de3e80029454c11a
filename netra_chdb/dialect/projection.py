"""Projections: a table's rows kept a second time, in another order or already grouped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.sql import visitors

from netra_chdb.dialect.create_query import split_clauses
from netra_chdb.dialect.sql_fragments import fragment, read_settings

__all__ = ["Projection", "read_projection"]

_SETTINGS: Final = re.compile(r"\s(WITH SETTINGS)\b")


class Projection(sa.Constraint):
    """``PROJECTION name (SELECT ... [GROUP BY ...] [ORDER BY ...])``, an argument of ``Table``.

    A constraint to SQLAlchemy: it is written in CREATE TABLE, copied with its table, and
    ``sqlalchemy.schema.AddConstraint`` and ``DropConstraint`` add it to a table that is there and drop it.

    Args:
        name: the projection's name.
        selectable: a ``select()`` over the table's own columns, or its text; text that does not begin with SELECT or
            WITH stands without brackets (``"INDEX a TYPE basic"``).
        settings: MergeTree SETTINGS of the projection's own parts, such as ``index_granularity``.
    """

    __visit_name__ = "projection"
    _column_flag = False  # to_metadata() asks every constraint

    def __init__(
        self, name: str, selectable: sa.Select[Any] | sa.TextClause | str, *, settings: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(name=name)
        self.selectable = sa.text(selectable) if isinstance(selectable, str) else selectable
        self.settings = dict(settings or {})

    def __repr__(self) -> str:
        return f"Projection({self.name!r}, {str(self.selectable)!r})"

    @property
    def query(self) -> Any:
        """The query as ClickHouse writes it in a projection: over columns alone, without FROM."""

        def bare(element: Any, **_: Any) -> Any:
            return sa.column(element.name, element.type) if isinstance(element, sa.Column) else None

        return visitors.replacement_traverse(self.selectable, {}, bare)

    def _copy(self, **_: Any) -> Projection:
        return self._schema_item_copy(Projection(str(self.name), self.query, settings=self.settings))


def read_projection(name: str, text: str) -> Projection:
    """Return what stands behind a projection's name in CREATE TABLE."""
    body, clauses = split_clauses(text, _SETTINGS)
    settings = read_settings(clauses["WITH SETTINGS"][1:-1]) if clauses else None
    return Projection(name, fragment(body[1:-1] if body.startswith("(") else body), settings=settings)
