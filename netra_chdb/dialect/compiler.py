"""SQL: clickhouse-sqlalchemy's compiler, corrected where it renders something else than was asked."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import sqlalchemy as sa
from clickhouse_sqlalchemy.drivers.compilers.sqlcompiler import ClickHouseSQLCompiler
from sqlalchemy import exc as sa_exc
from sqlalchemy.sql import compiler, sqltypes
from sqlalchemy.sql.elements import Slice

from netra_chdb.dialect.arithmetic import ArithmeticCompiler
from netra_chdb.dialect.clause_compiler import ClauseCompiler
from netra_chdb.dialect.functions import ParametricFunction
from netra_chdb.dialect.in_lists import InListCompiler
from netra_chdb.dialect.inserts import InsertBlock, insert_block
from netra_chdb.dialect.literals import literal
from netra_chdb.dialect.sources import SourcesCompiler
from netra_chdb.dialect.standard_sql import StandardSQL
from netra_chdb.dialect.subqueries import SubqueryCompiler
from netra_chdb.dialect.type_dynamic import holds_json

__all__ = ["SQLCompiler"]


class SQLCompiler(
    SubqueryCompiler,
    SourcesCompiler,
    InListCompiler,
    ArithmeticCompiler,
    StandardSQL,
    ClauseCompiler,
    ClickHouseSQLCompiler,
):
    """Compiles SELECT, INSERT, UPDATE and DELETE."""

    insert_block: InsertBlock | None = None

    #: Whether the text names the members of an enumeration; see :mod:`netra_chdb.dialect.statement_cache`.
    names_enum = False

    @cached_property
    def read_options(self) -> dict[str, Any]:
        """How clickhouse-connect is to be asked for columns of the result; see :mod:`netra_chdb.dialect.columns`."""
        columns, as_text = self._result_columns, {"String": "string"}
        if documents := {entry.keyname: as_text for entry in columns if holds_json(entry.type)}:
            return {"column_formats": documents}
        strings = {entry.keyname: as_text for entry in columns if isinstance(entry.type, sqltypes.String)}
        return {"column_formats": strings, "encoding": "latin-1"} if strings else {}

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
        changed = _with_where(update_stmt)
        text: str = compiler.SQLCompiler.visit_update(self, changed, visiting_cte, include_table=False, **kw)
        if self._is_lightweight(update_stmt):
            return text
        table, assignments = text.removeprefix("UPDATE ").split(" SET ", 1)
        return f"ALTER TABLE {table} UPDATE {assignments}"

    def visit_delete(self, delete_stmt: Any, visiting_cte: Any = None, **kw: Any) -> str:
        changed = _with_where(delete_stmt)
        text: str = compiler.SQLCompiler.visit_delete(self, changed, visiting_cte, include_table=False, **kw)
        if self._is_lightweight(delete_stmt):
            return text
        table, where = text.removeprefix("DELETE FROM ").split(" WHERE ", 1)
        return f"ALTER TABLE {table} DELETE WHERE {where}"

    @staticmethod
    def _is_lightweight(statement: Any) -> bool:
        # DELETE and UPDATE of their own mark rows or write patches; the ALTERs rewrite whole parts.
        return bool(statement.dialect_options["clickhouse"]["lightweight"])

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
        split = func.parameter_count
        if not split:
            return f"({', '.join(clauses)})"
        return f"({', '.join(clauses[:split])})({', '.join(clauses[split:])})"

    def render_literal_value(self, value: Any, type_: Any) -> str:
        process = type_.dialect_impl(self.dialect).bind_processor(self.dialect)
        value = process(value) if process else value
        # The steps of a path into a JSON document are arguments of their own.
        parts = value if isinstance(type_, sqltypes.JSON.JSONPathType) else (value,)
        return ", ".join(map(literal, parts)).replace("%", "%%")

    def visit_typeclause(self, typeclause: Any, **kw: Any) -> str:
        text = str(super().visit_typeclause(typeclause, **kw))
        self.names_enum = self.names_enum or "Enum8(" in text or "Enum16(" in text
        return text

    def visit_getitem_binary(self, binary: Any, operator: Any, **kw: Any) -> str:
        if isinstance(binary.right, Slice):
            raise sa_exc.CompileError("ClickHouse has no slices of arrays; use func.arraySlice(array, offset, length)")
        return f"arrayElement({self.process(binary.left, **kw)}, {self.process(binary.right, **kw)})"

    def visit_empty_set_expr(self, element_types: Any, **kw: Any) -> str:
        return str(super().visit_empty_set_expr(element_types))

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


def _with_where(statement: Any) -> Any:
    # ClickHouse wants a WHERE in each.
    return statement if statement._where_criteria else statement.where(sa.true())
