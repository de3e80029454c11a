"""DDL: clickhouse-sqlalchemy's compiler with NULLs, TTLs, skip indexes, projections, views and clusters put right."""

from __future__ import annotations

import copy
from typing import Any

import sqlalchemy as sa
from clickhouse_sqlalchemy.drivers.compilers.ddlcompiler import ClickHouseDDLCompiler
from sqlalchemy import exc as sa_exc

from netra_chdb.dialect import table_engines, types
from netra_chdb.dialect.dictionary import Dictionary
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
    engine = getattr(column.table, "engine", None)
    if isinstance(engine, Dictionary):
        return column.name in engine.primary_key
    order_by = getattr(engine, "order_by", None)
    return order_by is not None and any(column is key for key in order_by.get_expressions_or_columns())


def _column_checks(table: Any) -> list[Any]:
    return [one for column in table.columns for one in column.constraints if isinstance(one, sa.CheckConstraint)]


class DDLCompiler(ClickHouseDDLCompiler):
    """Compiles CREATE, ALTER and DROP."""

    # -- where a statement runs ----------------------------------------------------

    def on_cluster(self, element: Any = None) -> str:
        """Return `` ON CLUSTER name``, or nothing: the table's own cluster, else that of the execution options.

        The option ``clickhouse_cluster=False`` is for this server alone, whatever the table says.
        """
        option = self.execution_options.get("clickhouse_cluster")
        if option is False:
            return ""
        if isinstance(element, sa.Table):
            if "TEMPORARY" in element._prefixes:
                return ""
            cluster = element.dialect_options["clickhouse"]["cluster"]
        else:
            cluster = getattr(element, "cluster", None)
        cluster = cluster or option
        return f" ON CLUSTER {self.preparer.quote(cluster)}" if cluster else ""

    def alter_table(self, table: Any) -> str:
        """Return ``ALTER TABLE name``, on its cluster."""
        return f"ALTER TABLE {self.preparer.format_table(table, name=table.name)}{self.on_cluster(table)}"

    def visit_alter(self, statement: Any, **kw: Any) -> str:
        return f"{self.alter_table(statement.element)} {statement.render(self)}"

    def create_table_suffix(self, table: Any) -> str:
        return self.on_cluster(table).strip()

    # -- columns ---------------------------------------------------------------------

    def get_column_specification(self, column: Any, **kw: Any) -> str:
        options = column.dialect_options["clickhouse"]
        parts = [self.preparer.format_column(column), render_type(column, self.dialect)]
        if isinstance(column.server_default, sa.Identity):
            raise sa_exc.CompileError(f"ClickHouse has no IDENTITY: column {column.name!r} has to be given its values")
        if isinstance(column.server_default, sa.Computed):
            kind = "ALIAS" if column.server_default.persisted is False else "MATERIALIZED"
            parts.append(f"{kind} {self.expression(column.server_default.sqltext)}")
        elif column.server_default is not None:
            parts.append("DEFAULT " + self.expression(column.server_default.arg))
        elif options["materialized"] is not None:
            parts.append("MATERIALIZED " + self.expression(options["materialized"]))
        elif options["alias"] is not None:
            parts.append("ALIAS " + self.expression(options["alias"]))
        elif options["ephemeral"] is True:
            parts.append("EPHEMERAL")
        elif options["ephemeral"] is not None:
            parts.append("EPHEMERAL " + self.expression(options["ephemeral"]))
        if isinstance(getattr(column.table, "engine", None), Dictionary):
            return " ".join(parts + self._attribute(options))
        if column.comment is not None:
            parts.append("COMMENT " + self.text_literal(column.comment))
        if options["codec"] is not None:
            codec = options["codec"]
            parts.append(f"CODEC({codec if isinstance(codec, str) else ', '.join(codec)})")
        if options["statistics"] is not None:
            parts.append(f"STATISTICS({options['statistics']})")
        if options["ttl"] is not None:
            parts.append("TTL " + self.expression(options["ttl"]))
        if options["settings"]:
            parts.append(f"SETTINGS ({self.settings(options['settings'])})")
        if options["after"] is not None:
            parts.append("AFTER " + self.expression(options["after"]))
        return " ".join(parts)

    def _attribute(self, options: Any) -> list[str]:
        """Return what only a dictionary's column has."""
        parts = []
        if options["expression"] is not None:
            parts.append("EXPRESSION " + self.expression(options["expression"]))
        words = {"hierarchical": "HIERARCHICAL", "injective": "INJECTIVE", "object_id": "IS_OBJECT_ID"}
        return parts + [word for option, word in words.items() if options[option]]

    def visit_create_column(self, create: Any, first_pk: bool = False, **kw: Any) -> str | None:
        # Upstream sets column.nullable for the time of the call: seen by every other thread.
        return None if create.element.system else self.get_column_specification(create.element)

    def expression(self, default: Any) -> str:
        """Return an expression, or a plain value, as it stands in DDL: with its values, without tables' names."""
        if isinstance(default, str):
            return self.text_literal(default)
        if not hasattr(default, "_compiler_dispatch"):
            return literal(default).replace("%", "%%")
        return str(self.sql_compiler.process(default, literal_binds=True, include_table=False))

    def stored_query(self, selectable: Any) -> str:
        """Return a query that the server runs by itself, with the SETTINGS under which it means what it says."""
        sql_compiler: Any = self.sql_compiler
        sql_compiler.writes_settings = True
        try:
            return str(sql_compiler.process(selectable, literal_binds=True))
        finally:
            sql_compiler.writes_settings = False

    def expressions(self, keys: Any) -> str:
        """Return a key: names of columns, or expressions."""
        parts = [self.preparer.quote(key) if isinstance(key, str) else self.expression(key) for key in keys]
        return parts[0] if len(parts) == 1 else f"({', '.join(parts)})"

    @staticmethod
    def text_literal(value: str) -> str:
        """Return a text as a literal."""
        return quote(value).replace("%", "%%")

    @staticmethod
    def settings(settings: Any) -> str:
        """Return SETTINGS, in order of their names."""
        return ", ".join(
            f"{key} = {quote(value) if isinstance(value, str) else literal(value)}"
            for key, value in sorted(settings.items())
        ).replace("%", "%%")

    # -- tables ------------------------------------------------------------------------

    def visit_create_table(self, create: Any, **kw: Any) -> str:
        text = str(super().visit_create_table(create, **kw))
        if isinstance(getattr(create.element, "engine", None), Dictionary):
            return text.replace("TABLE ", "DICTIONARY ", 1)
        return text

    def visit_merge_tree(self, engine: Any, **kw: Any) -> str:
        # A table that was reflected is made again as it was.
        defaults = {} if getattr(engine, "is_reflected", False) else self.dialect.table_settings
        settings = {**defaults, **engine.settings}
        bare = copy.copy(engine)
        bare.settings = {}
        text = str(super().visit_merge_tree(bare)).rstrip()
        if engine.order_by is None and engine.primary_key is None:
            text += "\n ORDER BY tuple()"
        return f"{text}\n SETTINGS {self.settings(settings)}" if settings else text

    def visit_verbatim_engine(self, engine: Any, **kw: Any) -> str:
        if not engine.text:
            raise sa_exc.CompileError(f"{engine.parent.fullname} is a table of the server's own, which makes it itself")
        return str(engine.text).replace("%", "%%")

    def visit_dictionary(self, dictionary: Any, **kw: Any) -> str:
        # Names, not texts, say which table: so that a schema can be translated.
        quoted = self.preparer.quote
        source = dictionary.source
        if isinstance(source, sa.Table):
            schema = self.preparer.schema_for_object(source)
            database = f"DB {self.preparer.quote_schema(schema)} " if schema else ""
            text = f"CLICKHOUSE({database}TABLE {quoted(source.name)})"
        elif isinstance(source, sa.TextClause):
            text = self.expression(source)
        else:
            text = f"CLICKHOUSE(QUERY {self.text_literal(self.stored_query(source).replace('%%', '%'))})"
        key = dictionary.primary_key or [column.name for column in dictionary.parent.primary_key]
        parts = [f"PRIMARY KEY {', '.join(map(quoted, key))}", f"SOURCE({text})"]
        if dictionary.lifetime is not None:
            parts.append("LIFETIME(MIN {} MAX {})".format(*dictionary.lifetime))
        parts.append(f"LAYOUT({dictionary.layout})")
        if dictionary.range is not None:
            parts.append("RANGE(MIN {} MAX {})".format(*map(quoted, dictionary.range)))
        if dictionary.settings:
            parts.append(f"SETTINGS({self.settings(dictionary.settings)})")
        return "\n ".join(parts)

    def post_create_table(self, table: Any) -> str:
        engine = getattr(table, "engine", None)
        if engine is None:
            # A plain SQLAlchemy table: its primary key becomes the sort key.
            engine = table_engines.MergeTree(order_by=list(table.primary_key.columns) or None)
        text = f"\n {self.process(engine)}" if isinstance(engine, Dictionary) else f" ENGINE = {self.process(engine)}"
        return text if table.comment is None else f"{text} COMMENT {self.text_literal(table.comment)}"

    # -- indexes ---------------------------------------------------------------------

    def index_definition(self, index: Any) -> str:
        """Return what stands behind INDEX: name, expression, TYPE and GRANULARITY."""
        if index.unique:
            raise sa_exc.CompileError("ClickHouse has no UNIQUE index")
        options = index.dialect_options["clickhouse"]
        expressions = [
            self.sql_compiler.process(expression, include_table=False, literal_binds=True)
            for expression in index.expressions
        ]
        text = f"{self.preparer.quote(index.name)} "
        text += expressions[0] if len(expressions) == 1 else f"({', '.join(expressions)})"
        return f"{text} TYPE {options['type'].replace('%', '%%')} GRANULARITY {options['granularity']}"

    def visit_create_index(self, create: Any, **kw: Any) -> str:
        if_not_exists = "IF NOT EXISTS " if create.if_not_exists else ""
        definition = self.index_definition(create.element)
        return f"{self.alter_table(create.element.table)} ADD INDEX {if_not_exists}{definition}"

    def visit_drop_index(self, drop: Any, **kw: Any) -> str:
        if_exists = "IF EXISTS " if drop.if_exists else ""
        index = drop.element
        return f"{self.alter_table(index.table)} DROP INDEX {if_exists}{self.preparer.quote(index.name)}"

    # -- views -----------------------------------------------------------------------

    def visit_create_view(self, create: Any, **kw: Any) -> str:
        view = create.element
        text = f"CREATE {view.kind} {'IF NOT EXISTS ' if create.if_not_exists else ''}"
        text += f"{self.preparer.format_table(view, name=view.name)}{self.on_cluster(view)}"
        if view.target is not None:
            text += f" TO {self.preparer.format_table(view.target)}"
        text += f" AS {self.stored_query(view.selectable)}"
        return text if view.comment is None else f"{text} COMMENT {self.text_literal(view.comment)}"

    def visit_drop_view(self, drop: Any, **kw: Any) -> str:
        view = drop.element
        if_exists = "IF EXISTS " if drop.if_exists else ""
        name = self.preparer.format_table(view, name=view.name)
        return f"DROP VIEW {if_exists}{name}{self.on_cluster(view)}"

    # -- databases, DROP ---------------------------------------------------------------

    def visit_create_schema(self, create: Any, **kw: Any) -> str:
        if_not_exists = "IF NOT EXISTS " if create.if_not_exists else ""
        return f"CREATE DATABASE {if_not_exists}{self.preparer.format_schema(create.element)}{self.on_cluster()}"

    def visit_drop_schema(self, drop: Any, **kw: Any) -> str:
        if_exists = "IF EXISTS " if drop.if_exists else ""
        return f"DROP DATABASE {if_exists}{self.preparer.format_schema(drop.element)}{self.on_cluster()}"

    def visit_drop_table(self, drop: Any, **kw: Any) -> str:
        table = drop.element
        kind = "DICTIONARY" if isinstance(getattr(table, "engine", None), Dictionary) else "TABLE"
        if_exists = "IF EXISTS " if drop.if_exists else ""
        # SYNC: an Atomic database otherwise keeps the table's name and data for eight minutes.
        return f"DROP {kind} {if_exists}{self.preparer.format_table(table)}{self.on_cluster(table)} SYNC"

    # -- comments ----------------------------------------------------------------------

    def visit_set_table_comment(self, create: Any, **kw: Any) -> str:
        return f"{self.alter_table(create.element)} MODIFY COMMENT {self.text_literal(create.element.comment)}"

    def visit_drop_table_comment(self, drop: Any, **kw: Any) -> str:
        return f"{self.alter_table(drop.element)} MODIFY COMMENT ''"

    def visit_set_column_comment(self, create: Any, **kw: Any) -> str:
        column = create.element
        name = self.preparer.format_column(column)
        return f"{self.alter_table(column.table)} COMMENT COLUMN {name} {self.text_literal(column.comment or '')}"

    def visit_drop_column_comment(self, drop: Any, **kw: Any) -> str:
        name = self.preparer.format_column(drop.element)
        return f"{self.alter_table(drop.element.table)} COMMENT COLUMN {name} ''"

    # -- constraints, and what SQLAlchemy takes for one ------------------------------------

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

    def visit_add_constraint(self, create: Any, **kw: Any) -> str:
        return f"{self.alter_table(create.element.table)} ADD {self.process(create.element)}"

    def visit_drop_constraint(self, drop: Any, **kw: Any) -> str:
        constraint = drop.element
        kind = "PROJECTION" if constraint.__visit_name__ == "projection" else "CONSTRAINT"
        if_exists = "IF EXISTS " if drop.if_exists else ""
        return f"{self.alter_table(constraint.table)} DROP {kind} {if_exists}{self._constraint_name(constraint)}"

    def visit_projection(self, projection: Any, **kw: Any) -> str:
        text = self.expression(projection.query)
        if text.upper().startswith(("SELECT", "WITH")):
            text = f"({text})"
        if projection.settings:
            text += f" WITH SETTINGS ({self.settings(projection.settings)})"
        return f"PROJECTION {self.preparer.quote(projection.name)} {text}"

    def define_check_body(self, constraint: Any, **kw: Any) -> str:
        # SQLAlchemy puts brackets around it, which the server keeps: what it prints then is not what was declared.
        word = "ASSUME" if constraint.dialect_options["clickhouse"]["assume"] else "CHECK"
        return f"{word} {self.expression(constraint.sqltext)}"

    def visit_column_check_constraint(self, constraint: Any, **kw: Any) -> str:
        return self.visit_check_constraint(constraint, **kw)

    def visit_check_constraint(self, constraint: Any, **kw: Any) -> str:
        return f"CONSTRAINT {self._constraint_name(constraint)} {self.define_check_body(constraint)}"

    def _constraint_name(self, constraint: Any) -> str:
        name = self.preparer.format_constraint(constraint) if constraint.name is not None else None
        if name is not None:
            return str(name)
        # ClickHouse wants a name: as MySQL gives one, by table and place.
        table = constraint.parent if isinstance(constraint.parent, sa.Table) else constraint.parent.table
        checks = [one for one in table._sorted_constraints if isinstance(one, sa.CheckConstraint)]
        checks += _column_checks(table)
        return str(self.preparer.quote(f"{table.name}_chk_{checks.index(constraint) + 1}"))
