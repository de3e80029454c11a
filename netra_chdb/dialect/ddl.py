"""DDL: clickhouse-sqlalchemy's compiler with NULLs, TTLs, skip indexes and views put right."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from clickhouse_sqlalchemy.drivers.compilers.ddlcompiler import ClickHouseDDLCompiler
from sqlalchemy import exc as sa_exc
from sqlalchemy.sql import compiler

from netra_chdb.dialect import table_engines, types
from netra_chdb.dialect.literals import literal, quote
from netra_chdb.dialect.type_containers import is_nullable

__all__ = ["DDLCompiler"]

# Types that can stand inside Nullable(...): containers, states and documents cannot.
_NEVER_NULL = (sa.ARRAY, types.Array, types.Map, types.Tuple, types.AggregateFunction, types.SimpleAggregateFunction)


def render_type(column: Any, dialect: Any) -> str:
    """Return the column's type with its nullability: ``Optional`` is ``Nullable``, keys never are.

    ClickHouse refuses NULLs in a sort key, and SQLAlchemy's ``nullable`` says nothing for containers.
    """
    type_ = column.type
    text: str = dialect.type_compiler_instance.process(type_, type_expression=column)
    if not column.nullable or column.primary_key or _is_key(column):
        return text
    if isinstance(types.unwrap(type_), _NEVER_NULL) or text.startswith(("JSON", "Nested", "Variant", "Dynamic")):
        return text
    if is_nullable(type_):
        return text
    if isinstance(type_, types.LowCardinality):
        return f"LowCardinality(Nullable({text.removeprefix('LowCardinality(')[:-1]}))"
    return f"Nullable({text})"


def _is_key(column: Any) -> bool:
    order_by = getattr(getattr(column.table, "engine", None), "order_by", None)
    return order_by is not None and any(column is key for key in order_by.get_expressions_or_columns())


def _column_checks(table: Any) -> list[Any]:
    return [one for column in table.columns for one in column.constraints if isinstance(one, sa.CheckConstraint)]


class DDLCompiler(ClickHouseDDLCompiler):
    """Compiles CREATE, ALTER and DROP."""

    def get_column_specification(self, column: Any, **kw: Any) -> str:
        options = column.dialect_options["clickhouse"]
        parts = [self.preparer.format_column(column), render_type(column, self.dialect)]
        if isinstance(column.server_default, sa.Identity):
            raise sa_exc.CompileError(f"ClickHouse has no IDENTITY: column {column.name!r} has to be given its values")
        if isinstance(column.server_default, sa.Computed):
            kind = "ALIAS" if column.server_default.persisted is False else "MATERIALIZED"
            parts.append(f"{kind} {self._expression(column.server_default.sqltext)}")
        elif column.server_default is not None:
            parts.append("DEFAULT " + self._expression(column.server_default.arg))
        elif options["materialized"] is not None:
            parts.append("MATERIALIZED " + self._expression(options["materialized"]))
        elif options["alias"] is not None:
            parts.append("ALIAS " + self._expression(options["alias"]))
        if column.comment is not None:
            parts.append("COMMENT " + self._text(column.comment))
        if options["codec"] is not None:
            codec = options["codec"]
            parts.append(f"CODEC({codec if isinstance(codec, str) else ', '.join(codec)})")
        if options["ttl"] is not None:
            parts.append("TTL " + self._expression(options["ttl"]))
        if options["after"] is not None:
            parts.append("AFTER " + self._expression(options["after"]))
        return " ".join(parts)

    def visit_create_column(self, create: Any, first_pk: bool = False, **kw: Any) -> str | None:
        # Upstream sets column.nullable for the time of the call: seen by every other thread.
        return None if create.element.system else self.get_column_specification(create.element)

    def _expression(self, default: Any) -> str:
        if isinstance(default, str):
            return self._text(default)
        if not hasattr(default, "_compiler_dispatch"):
            return literal(default).replace("%", "%%")
        return str(self.sql_compiler.process(default, literal_binds=True, include_table=False))

    @staticmethod
    def _text(value: str) -> str:
        return quote(value).replace("%", "%%")

    def visit_merge_tree(self, engine: Any, **kw: Any) -> str:
        # A table that was reflected is made again as it was.
        defaults = {} if getattr(engine, "is_reflected", False) else self.dialect.table_settings
        settings = {**defaults, **engine.settings}
        stated, engine.settings = engine.settings, {}
        try:
            text = str(super().visit_merge_tree(engine)).rstrip()
        finally:
            engine.settings = stated
        if engine.order_by is None and engine.primary_key is None:
            text += "\n ORDER BY tuple()"
        if settings:
            rendered = (
                f"{key} = {quote(value) if isinstance(value, str) else literal(value)}"
                for key, value in sorted(settings.items())
            )
            text += "\n SETTINGS " + ", ".join(rendered)
        return text

    def visit_verbatim_engine(self, engine: Any, **kw: Any) -> str:
        return str(engine.text).replace("%", "%%")

    def post_create_table(self, table: Any) -> str:
        if getattr(table, "engine", None) is None:
            # A plain SQLAlchemy table: its primary key becomes the sort key.
            key = list(table.primary_key.columns)
            table_engines.MergeTree(order_by=key or None)._set_parent(table)
        return str(super().post_create_table(table))

    def visit_create_index(self, create: Any, **kw: Any) -> str:
        index = create.element
        if index.unique:
            raise sa_exc.CompileError("ClickHouse has no UNIQUE index")
        options = index.dialect_options["clickhouse"]
        expressions = [
            self.sql_compiler.process(expression, include_table=False, literal_binds=True)
            for expression in index.expressions
        ]
        if_not_exists = "IF NOT EXISTS " if create.if_not_exists else ""
        text = f"ALTER TABLE {self.preparer.format_table(index.table)} ADD INDEX {if_not_exists}"
        text += f"{self.preparer.quote(index.name)} "
        text += expressions[0] if len(expressions) == 1 else f"({', '.join(expressions)})"
        return f"{text} TYPE {options['type']} GRANULARITY {options['granularity']}"

    def visit_drop_index(self, drop: Any, **kw: Any) -> str:
        index = drop.element
        if_exists = "IF EXISTS " if drop.if_exists else ""
        table = self.preparer.format_table(index.table)
        return f"ALTER TABLE {table} DROP INDEX {if_exists}{self.preparer.quote(index.name)}"

    def visit_create_materialized_view(self, create: Any, **kw: Any) -> str:
        view = create.element
        if_not_exists = "IF NOT EXISTS " if create.if_not_exists else ""
        name = self.preparer.format_table(view, name=view.name)
        select = self.sql_compiler.process(view.selectable, literal_binds=True)
        target = self.preparer.format_table(view.target)
        return f"CREATE MATERIALIZED VIEW {if_not_exists}{name} TO {target} AS {select}"

    def visit_drop_materialized_view(self, drop: Any, **kw: Any) -> str:
        if_exists = "IF EXISTS " if drop.if_exists else ""
        return f"DROP VIEW {if_exists}{self.preparer.format_table(drop.element, name=drop.element.name)}"

    def visit_create_schema(self, create: Any, **kw: Any) -> str:
        if_not_exists = "IF NOT EXISTS " if create.if_not_exists else ""
        return f"CREATE DATABASE {if_not_exists}{self.preparer.format_schema(create.element)}"

    def visit_drop_schema(self, drop: Any, **kw: Any) -> str:
        if_exists = "IF EXISTS " if drop.if_exists else ""
        return f"DROP DATABASE {if_exists}{self.preparer.format_schema(drop.element)}"

    def visit_drop_table(self, drop: Any, **kw: Any) -> str:
        # SYNC: an Atomic database otherwise keeps the table's name and data for eight minutes.
        return f"{str(super().visit_drop_table(drop)).strip()} SYNC"

    def visit_unique_constraint(self, constraint: Any, **kw: Any) -> str:
        raise sa_exc.CompileError("ClickHouse has no UNIQUE constraint")

    def create_table_constraints(self, table: Any, **kw: Any) -> str:
        # Upstream leaves out what stands at a column: ClickHouse has constraints of tables alone.
        texts = [super().create_table_constraints(table, **kw)]
        texts += [
            self.process(constraint)
            for constraint in _column_checks(table)
            if constraint._should_create_for_compiler(self)
        ]
        return ", \n\t".join(text for text in texts if text)

    def visit_column_check_constraint(self, constraint: Any, **kw: Any) -> str:
        return self.visit_check_constraint(constraint, **kw)

    def visit_check_constraint(self, constraint: Any, **kw: Any) -> str:
        text = str(compiler.DDLCompiler.visit_check_constraint(self, constraint, **kw))
        if constraint.name is not None:
            return text
        # ClickHouse wants a name: as MySQL gives one, by table and place.
        table = constraint.parent if isinstance(constraint.parent, sa.Table) else constraint.parent.table
        checks = [one for one in table._sorted_constraints if isinstance(one, sa.CheckConstraint)]
        checks += _column_checks(table)
        name = f"{table.name}_chk_{checks.index(constraint) + 1}"
        return f"CONSTRAINT {self.preparer.quote(name)} {text}"
