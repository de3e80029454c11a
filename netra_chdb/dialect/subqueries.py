"""SELECTs inside other statements: which table each of their columns belongs to."""

from __future__ import annotations

from typing import Any

from sqlalchemy import exc as sa_exc
from sqlalchemy.sql import compiler
from sqlalchemy.sql.selectable import AliasedReturnsRows

__all__ = ["SubqueryCompiler"]


class SubqueryCompiler(compiler.SQLCompiler):
    """Names the tables of a subquery, and refuses references out of it that the server takes for others."""

    def visit_select(self, select_stmt: Any, *args: Any, **kw: Any) -> str:
        # UPDATE, DELETE and DDL leave out the name of the one table that they are about. A subquery has tables of its
        # own: without their names, "parent.id = child.id" is "id = id", and true for every row.
        kw.pop("include_table", None)
        return str(super().visit_select(select_stmt, *args, **kw))

    def visit_column(self, column: Any, *args: Any, **kw: Any) -> str:
        if len(self.stack) > 1 and (table := getattr(column, "table", None)) is not None:
            self._check_correlation(column, table)
        return str(super().visit_column(column, *args, **kw))

    def _check_correlation(self, column: Any, table: Any) -> None:
        aliased = False
        for entry in reversed(self.stack):
            froms: Any = entry["asfrom_froms"]
            if entry is self.stack[0] and (self.isupdate or self.isdelete):
                if table in froms and len(self.stack) > 1:
                    raise sa_exc.CompileError(
                        f"{column} in a subquery is of the table that is changed, and ClickHouse has no correlated "
                        "subqueries in UPDATE and DELETE: choose the rows by IN over a subquery of its own"
                    )
            elif table in froms:
                break
            aliased = aliased or any(isinstance(one, AliasedReturnsRows) and one.element is table for one in froms)
        else:
            return
        if aliased:
            # The server knows an aliased table by its own name as well, and takes the nearest.
            raise sa_exc.CompileError(
                f"{column} in a subquery over an alias of {table} means the alias to ClickHouse: "
                "select from an alias outside of the subquery too"
            )
