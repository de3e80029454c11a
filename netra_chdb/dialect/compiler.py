"""SQL: clickhouse-sqlalchemy's compiler, corrected where it renders something else than was asked."""

from __future__ import annotations

from typing import Any, Final

from clickhouse_sqlalchemy.drivers.compilers.sqlcompiler import ClickHouseSQLCompiler
from sqlalchemy import exc as sa_exc
from sqlalchemy.sql import COLLECT_CARTESIAN_PRODUCTS, WARN_LINTING, compiler
from sqlalchemy.sql.selectable import _from_objects  # type: ignore[attr-defined]

from netra_chdb.dialect.functions import ParametricFunction
from netra_chdb.dialect.inserts import InsertBlock, insert_block
from netra_chdb.dialect.literals import literal
from netra_chdb.dialect.select import Select

__all__ = ["SQLCompiler"]

_NOTHING: Final = Select()


class SQLCompiler(ClickHouseSQLCompiler):
    """Compiles SELECT, INSERT, UPDATE and DELETE."""

    insert_block: InsertBlock | None = None

    def visit_insert(self, insert_stmt: Any, *args: Any, **kw: Any) -> str:
        text: str = super().visit_insert(insert_stmt, *args, **kw)
        if not self.stack:
            self.insert_block = insert_block(text)
        return text

    def visit_textclause(self, textclause: Any, *args: Any, **kw: Any) -> str:
        text: str = super().visit_textclause(textclause, *args, **kw)
        if not self.stack and not self.literal_execute_params:
            self.insert_block = insert_block(text)
        return text

    # ClickHouse changes rows with ALTER TABLE. SQLAlchemy's own methods set what the ORM later reads
    # (isupdate, isdelete, compile_state); upstream's leave it out, and ORM updates fail after they ran.

    def visit_update(self, update_stmt: Any, visiting_cte: Any = None, **kw: Any) -> str:
        text = compiler.SQLCompiler.visit_update(self, update_stmt, visiting_cte, include_table=False, **kw)
        table, assignments = text.removeprefix("UPDATE ").split(" SET ", 1)
        return f"ALTER TABLE {table} UPDATE {self._with_where(assignments)}"

    def visit_delete(self, delete_stmt: Any, visiting_cte: Any = None, **kw: Any) -> str:
        text = compiler.SQLCompiler.visit_delete(self, delete_stmt, visiting_cte, include_table=False, **kw)
        table, _, where = text.removeprefix("DELETE FROM ").partition(" WHERE ")
        return f"ALTER TABLE {table} DELETE WHERE {where or 'true'}"

    @staticmethod
    def _with_where(text: str) -> str:
        return text if " WHERE " in text else f"{text} WHERE true"

    def update_from_clause(self, *args: Any, **kw: Any) -> str:
        raise sa_exc.CompileError("ClickHouse cannot UPDATE from other tables; use a subquery in SET or WHERE")

    def delete_extra_from_clause(self, *args: Any, **kw: Any) -> str:
        raise sa_exc.CompileError("ClickHouse cannot DELETE with other tables; use a subquery in WHERE")

    def returning_clause(self, *args: Any, **kw: Any) -> str:
        raise sa_exc.CompileError("ClickHouse has no RETURNING")

    def function_argspec(self, func: Any, **kwargs: Any) -> str:
        if not isinstance(func, ParametricFunction):
            return str(super().function_argspec(func, **kwargs))
        clauses = [clause._compiler_dispatch(self, **kwargs) for clause in func.clauses]
        split = len(clauses) - func.argument_count
        return f"({', '.join(clauses[:split])})({', '.join(clauses[split:])})"

    def render_literal_value(self, value: Any, type_: Any) -> str:
        process = type_.dialect_impl(self.dialect).bind_processor(self.dialect)
        return literal(process(value) if process else value).replace("%", "%%")

    def visit_is_distinct_from_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return f"NOT ({self.visit_is_not_distinct_from_binary(binary, operator, **kw)})"

    def visit_is_not_distinct_from_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        return f"{self.process(binary.left, **kw)} <=> {self.process(binary.right, **kw)}"

    def limit_clause(self, select: Any, **kw: Any) -> str:
        text = ""
        if select._limit_clause is not None:
            text += f"\n LIMIT {self.process(select._limit_clause, **kw)}"
        if select._offset_clause is not None:
            text += f"\n OFFSET {self.process(select._offset_clause, **kw)}"
        return text

    # ClickHouse's clauses come from the statement as it was written: for ORM entities SQLAlchemy compiles a plain
    # Select made from it, which is where upstream's FINAL, SAMPLE and LIMIT BY get lost.

    def _compose_select_body(
        self,
        text: str,
        select: Any,
        compile_state: Any,
        inner_columns: Any,
        froms: Any,
        byfrom: Any,
        toplevel: bool,
        kwargs: Any,
    ) -> str:
        asked = getattr(compile_state, "select_statement", select)
        asked = asked if isinstance(asked, Select) else _NOTHING
        if asked._final:
            byfrom = {**(byfrom or {}), **{table: "FINAL" for from_ in froms for table in _from_objects(from_)}}
        text += ", ".join(inner_columns)
        linter = compiler.FromLinter({}, set()) if self.linting & COLLECT_CARTESIAN_PRODUCTS else None
        if linter is not None and toplevel:
            self.from_linter = linter
        if froms:
            hints = {"fromhints": byfrom} if byfrom else {}
            text += " \nFROM " + ", ".join(
                from_._compiler_dispatch(self, asfrom=True, from_linter=linter, **hints, **kwargs) for from_ in froms
            )
        else:
            text += self.default_from()
        if asked._sample is not None:
            text += f" \nSAMPLE {self.process(asked._sample, **kwargs)}"
        if getattr(select, "_array_join", None) is not None:
            text += select._array_join._compiler_dispatch(self, **kwargs)
        text += self._conditions("PREWHERE", asked._prewhere, from_linter=linter, **kwargs)
        text += self._conditions("WHERE", select._where_criteria, from_linter=linter, **kwargs)
        if linter is not None and self.linting & WARN_LINTING:
            linter.warn()
        if select._group_by_clauses:
            text += self.group_by_clause(select, **kwargs)
        text += self._conditions("HAVING", select._having_criteria, **kwargs)
        if select._order_by_clauses:
            text += self.order_by_clause(select, **kwargs)
        if asked._limit_by:
            limit, offset, columns = (self.process(clause, **kwargs) for clause in asked._limit_by)
            text += f" \nLIMIT {limit} OFFSET {offset} BY {columns}"
        if select._has_row_limiting_clause:
            text += self._row_limit_clause(select, **kwargs)
        if asked._settings:
            text += " \nSETTINGS " + ", ".join(
                f"{name} = {literal(value).replace('%', '%%')}" for name, value in asked._settings
            )
        return text

    def _conditions(self, keyword: str, criteria: Any, **kw: Any) -> str:
        text = self._generate_delimited_and_list(criteria, **kw) if criteria else ""
        return f" \n{keyword} {text}" if text else ""

    def format_from_hint_text(self, sqltext: Any, table: Any, hint: Any, iscrud: bool) -> Any:
        return f"{sqltext} {hint}"
