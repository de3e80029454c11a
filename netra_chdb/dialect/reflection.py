"""Reflection from ``system.*``: each question names its database, and views are told from tables."""

from __future__ import annotations

import re
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import reflection

from netra_chdb.dialect.create_query import CreateQuery, read_create_query, split_clauses
from netra_chdb.dialect.dictionary import read_dictionary
from netra_chdb.dialect.projection import Projection, read_projection
from netra_chdb.dialect.sql_fragments import fragment, read_settings
from netra_chdb.dialect.table_engines import read_engine, read_key
from netra_chdb.dialect.type_containers import is_nullable
from netra_chdb.dialect.type_parser import parse_type, split_arguments, unquote

__all__ = ["Reflection"]

_DEFAULT_KINDS = {
    "MATERIALIZED": "clickhouse_materialized",
    "ALIAS": "clickhouse_alias",
    "EPHEMERAL": "clickhouse_ephemeral",
}
_INDEX_CLAUSE = re.compile(r"\s(TYPE|GRANULARITY)\b")
_WORDS = {
    "HIERARCHICAL": "clickhouse_hierarchical",
    "INJECTIVE": "clickhouse_injective",
    "IS_OBJECT_ID": "clickhouse_object_id",
}


class Inspector(reflection.Inspector):
    """What ``inspect()`` returns.

    Upstream's swaps the table in the ``MetaData`` for another of its own class: who asked keeps one without a key.
    """

    def reflect_table(self, table: Any, *args: Any, **kw: Any) -> None:
        """Load all that the table has: what ``create()`` makes of it is the same table again."""
        super().reflect_table(table, *args, **kw)
        found = self.get_engine(table.name, table.schema)
        declared = {constraint.name for constraint in table.constraints}
        for projection in self.get_projections(table.name, table.schema):
            if projection.name not in declared:
                table.append_constraint(projection)
        if getattr(table, "engine", None) is not None or found["engine"].endswith("View"):
            return
        if found["engine"] == "Dictionary":
            read_dictionary(self._create_query(table.name, table.schema).clauses)._set_parent(table)
        elif not found["engine_full"] and self._create_query(table.name, table.schema).columns:
            raise sa_exc.UnreflectableTableError(
                f"{table.fullname} was made AS a table function ({found['engine']}), and has no engine to be made "
                "again with; declare its columns to select from it"
            )
        else:
            # The server's own tables, as in system, have no engine that a statement could name.
            read_engine(found["engine_full"], table.columns)._set_parent(table)

    def get_projections(self, table_name: str, schema: str | None = None) -> list[Projection]:
        """Return a table's projections, in the order of declaration.

        Raises:
            sqlalchemy.exc.NoSuchTableError: there is no such table.
        """
        found = self._create_query(table_name, schema).projections
        return [read_projection(name, text) for name, text in found.items()]

    def _create_query(self, table_name: str, schema: str | None) -> CreateQuery:
        with self._operation_context() as connection:
            dialect: Any = self.dialect
            query: CreateQuery = dialect.get_create_query(
                connection, table_name, schema=schema, info_cache=self.info_cache
            )
        return query

    def _reflect_column(self, table: Any, col_d: Any, *args: Any, **kw: Any) -> None:
        # get_columns() says it both in SQLAlchemy's way and in ours; a column is declared in one.
        column: Any = {key: value for key, value in col_d.items() if key != "computed"}
        super()._reflect_column(table, column, *args, **kw)

    def _reflect_indexes(self, _reflect_info: Any, table_key: Any, *args: Any, **kw: Any) -> None:
        # SQLAlchemy makes text() of an expression, which takes a colon inside quotes for a parameter.
        _reflect_info.indexes[table_key] = [
            {**index, "expressions": [text.replace(":", "\\:") for text in index["expressions"]]}
            if "expressions" in index
            else index
            for index in _reflect_info.indexes.get(table_key, ())
        ]
        super()._reflect_indexes(_reflect_info, table_key, *args, **kw)

    def get_engine(self, table_name: str, schema: str | None = None, **kw: Any) -> dict[str, Any]:
        """Return the table's engine with its keys, as ``system.tables`` has them."""
        with self._operation_context() as connection:
            dialect: Any = self.dialect
            found: dict[str, Any] = dialect.get_engine(
                connection, table_name, schema=schema, info_cache=self.info_cache, **kw
            )
        return found


class Reflection:
    """What the dialect answers to ``inspect()``.

    Upstream asked for a primary key by table name alone, so two databases with a table of one name got each
    other's; it kept the quotes of time zones, and left out codecs, indexes and MATERIALIZED columns.
    """

    inspector = Inspector
    default_schema_name: str

    def _rows(self, connection: Any, sql: str, **parameters: Any) -> Any:
        return connection.execute(sa.text(sql), parameters).all()

    def _one(self, connection: Any, columns: str, table_name: str, schema: str | None) -> Any:
        rows = self._rows(
            connection,
            # A temporary table is in no database, and stands before one of its name that is.
            f"SELECT {columns} FROM system.tables WHERE database IN :databases AND name = :name ORDER BY database",  # noqa: S608
            databases=(schema,) if schema else ("", self.default_schema_name),
            name=table_name,
        )
        if not rows:
            raise sa_exc.NoSuchTableError(f"{schema}.{table_name}" if schema else table_name)
        return rows[0]

    @reflection.cache
    def has_table(self, connection: Any, table_name: str, schema: str | None = None, **kw: Any) -> bool:
        try:
            self._one(connection, "name", table_name, schema)
        except sa_exc.NoSuchTableError:
            return False
        return True

    @reflection.cache
    def has_schema(self, connection: Any, schema_name: str, **kw: Any) -> bool:
        return bool(self._rows(connection, "SELECT 1 FROM system.databases WHERE name = :name", name=schema_name))

    @reflection.cache
    def get_schema_names(self, connection: Any, **kw: Any) -> list[str]:
        return [row[0] for row in self._rows(connection, "SELECT name FROM system.databases ORDER BY name")]

    def _names(self, connection: Any, schema: str | None, condition: str) -> list[str]:
        rows = self._rows(
            connection,
            "SELECT name FROM system.tables WHERE database = :database AND NOT is_temporary "  # noqa: S608
            f"AND {condition} AND name NOT LIKE '.inner%' ORDER BY name",
            database=schema or self.default_schema_name,
        )
        return [row[0] for row in rows]

    @reflection.cache
    def get_table_names(self, connection: Any, schema: str | None = None, **kw: Any) -> list[str]:
        return self._names(connection, schema, "engine NOT LIKE '%View'")

    @reflection.cache
    def get_view_names(self, connection: Any, schema: str | None = None, **kw: Any) -> list[str]:
        return self._names(connection, schema, "engine = 'View'")

    @reflection.cache
    def get_materialized_view_names(self, connection: Any, schema: str | None = None, **kw: Any) -> list[str]:
        return self._names(connection, schema, "engine = 'MaterializedView'")

    @reflection.cache
    def get_view_definition(self, connection: Any, view_name: str, schema: str | None = None, **kw: Any) -> str:
        select, engine = self._one(connection, "as_select, engine", view_name, schema)
        if not engine.endswith("View"):
            raise sa_exc.NoSuchTableError(f"{schema}.{view_name}" if schema else view_name)
        return str(select)

    @reflection.cache
    def get_create_query(self, connection: Any, table_name: str, schema: str | None = None, **kw: Any) -> CreateQuery:
        """Return the statement that would make the table again, taken apart."""
        return read_create_query(self._one(connection, "create_table_query", table_name, schema)[0])

    @reflection.cache
    def get_columns(self, connection: Any, table_name: str, schema: str | None = None, **kw: Any) -> list[Any]:
        database = self._one(connection, "database", table_name, schema)[0]
        preparer: Any = self.identifier_preparer  # type: ignore[attr-defined]
        table = preparer.quote_identifier(table_name)
        if database:
            table = f"{preparer.quote_identifier(database)}.{table}"
        # DESCRIBE alone knows a column's TTL, and older servers answer it with fewer columns.
        rows = connection.exec_driver_sql(f"DESCRIBE TABLE {table}").mappings().all()
        query = self.get_create_query(connection, table_name, schema, **kw)
        return [self._column(row, query.column_clauses(row["name"])) for row in rows]

    @staticmethod
    def _column(row: Any, clauses: dict[str, str]) -> dict[str, Any]:
        type_ = parse_type(row["type"])
        kind, expression = row["default_type"], row["default_expression"]
        column: dict[str, Any] = {
            "name": row["name"],
            "type": type_,
            "nullable": is_nullable(type_),
            "default": None,
            "comment": row.get("comment") or None,
        }
        options: dict[str, Any] = {}
        if kind == "DEFAULT":
            column["default"] = fragment(expression) if ":" in expression else expression
        elif kind == "EPHEMERAL" and expression.startswith("defaultValueOfTypeName("):
            options["clickhouse_ephemeral"] = True
        elif kind in _DEFAULT_KINDS:
            options[_DEFAULT_KINDS[kind]] = fragment(expression)
        elif "DEFAULT" in clauses:
            # DESCRIBE leaves it out for a dictionary.
            column["default"] = fragment(clauses["DEFAULT"])
        if row.get("codec_expression"):
            codec: str = row["codec_expression"]
            options["clickhouse_codec"] = codec[6:-1] if codec.startswith("CODEC(") else codec
        if row.get("ttl_expression"):
            options["clickhouse_ttl"] = fragment(row["ttl_expression"])
        if "STATISTICS" in clauses:
            options["clickhouse_statistics"] = clauses["STATISTICS"][1:-1]
        if "SETTINGS" in clauses:
            options["clickhouse_settings"] = read_settings(clauses["SETTINGS"][1:-1])
        if "EXPRESSION" in clauses:
            options["clickhouse_expression"] = fragment(clauses["EXPRESSION"])
        options.update({option: True for word, option in _WORDS.items() if word in clauses})
        if kind in ("MATERIALIZED", "ALIAS"):
            column["computed"] = {"sqltext": expression, "persisted": kind == "MATERIALIZED"}
        if options:
            column["dialect_options"] = options
        return column

    @reflection.cache
    def get_pk_constraint(self, connection: Any, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        database, key, engine = self._one(connection, "database, primary_key, engine", table_name, schema)
        if engine == "Dictionary":
            query = self.get_create_query(connection, table_name, schema)
            return {"constrained_columns": list(read_dictionary(query.clauses).primary_key), "name": None}
        if not database:
            # system.tables has the keys of a temporary table in its statement alone.
            key = read_key(self._one(connection, "create_table_query", table_name, schema)[0])
        columns = {column["name"] for column in self.get_columns(connection, table_name, schema)}
        names = [unquote(part) for part in split_arguments(key or "")]
        return {"constrained_columns": [name for name in names if name in columns], "name": None}

    @reflection.cache
    def get_indexes(self, connection: Any, table_name: str, schema: str | None = None, **kw: Any) -> list[Any]:
        known = {column["name"] for column in self.get_columns(connection, table_name, schema)}
        found = []
        # system.data_skipping_indices has also those that a setting of the table makes by itself.
        for name, text in self.get_create_query(connection, table_name, schema).indexes.items():
            expression, clauses = split_clauses(text, _INDEX_CLAUSE)
            if expression.startswith("(") and len(split_arguments(expression[1:-1], ")")) == 1:
                expression = expression[1:-1]
            parts = [unquote(part) for part in split_arguments(expression)]
            index: dict[str, Any] = {
                "name": name,
                "column_names": [part if part in known else None for part in parts],
                "unique": False,
                "dialect_options": {
                    "clickhouse_type": clauses["TYPE"],
                    "clickhouse_granularity": int(clauses.get("GRANULARITY", 1)),
                },
            }
            if None in index["column_names"]:
                index["expressions"] = parts
            found.append(index)
        return sorted(found, key=lambda index: str(index["name"]))

    @reflection.cache
    def get_table_comment(self, connection: Any, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        return {"text": self._one(connection, "comment", table_name, schema)[0] or None}

    @reflection.cache
    def get_engine(self, connection: Any, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        columns = "name, engine, engine_full, partition_key, sorting_key, primary_key, sampling_key"
        return dict(self._one(connection, columns, table_name, schema)._mapping)

    def get_table_options(self, connection: Any, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        # The table engine is an object of its own: see Inspector.get_engine().
        return self._nothing({}, connection, table_name, schema)

    def _nothing(self, answer: Any, connection: Any, table_name: str, schema: str | None) -> Any:
        """Return ``answer`` for a table that is there."""
        self._one(connection, "name", table_name, schema)
        return answer

    def get_foreign_keys(self, connection: Any, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        return self._nothing([], connection, table_name, schema)

    def get_unique_constraints(self, connection: Any, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        return self._nothing([], connection, table_name, schema)

    @reflection.cache
    def get_check_constraints(self, connection: Any, table_name: str, schema: str | None = None, **kw: Any) -> Any:
        found = []
        for name, text in self.get_create_query(connection, table_name, schema).constraints.items():
            word, _, expression = text.partition(" ")
            check: dict[str, Any] = {"name": name, "sqltext": expression}
            if ":" in expression:
                check["sqltext"] = fragment(expression)
            if word == "ASSUME":
                check["clickhouse_assume"] = True
            found.append(check)
        return sorted(found, key=lambda check: str(check["name"]))

    @reflection.cache
    def get_temp_table_names(self, connection: Any, schema: str | None = None, **kw: Any) -> list[str]:
        return self._temporary(connection, "NOT LIKE")

    @reflection.cache
    def get_temp_view_names(self, connection: Any, schema: str | None = None, **kw: Any) -> list[str]:
        return self._temporary(connection, "LIKE")

    def _temporary(self, connection: Any, like: str) -> list[str]:
        sql = f"SELECT name FROM system.tables WHERE is_temporary AND engine {like} '%View' ORDER BY name"  # noqa: S608
        return [row[0] for row in self._rows(connection, sql)]
