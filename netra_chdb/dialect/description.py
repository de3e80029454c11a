"""What a table, view or dictionary is, in the server's own words: so that two can be compared.

A model is described by making it in a database of its own for a moment: the server writes types, codecs, defaults
and queries in its one normal form, and fills in what was left to it. Two descriptions are equal if and only if the
same statement would have made both.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from clickhouse_sqlalchemy.engines.replicated import ReplicatedEngineMixin

from netra_chdb.dialect.create_query import read_create_query
from netra_chdb.dialect.dictionary import split_dictionary
from netra_chdb.dialect.sql_fragments import split_settings
from netra_chdb.dialect.table_engines import read_clauses
from netra_chdb.dialect.view import CreateView, View, views

__all__ = ["Description", "Difference", "compare", "describe", "describe_models", "differences"]


@dataclass(frozen=True, slots=True)
class Description:
    """One table, view or dictionary.

    Attributes:
        name: ``database.name``.
        kind: ``"table"``, ``"view"``, ``"materialized view"`` or ``"dictionary"``.
        columns: names of the columns, in order.
        parts: text of each part by what it is and its name: ``("column", "id")``, ``("index", "ix")``,
            ``("constraint", ...)``, ``("projection", ...)``, ``("setting", ...)``, ``("clause", "ORDER BY")``,
            ``("engine", "")``, ``("comment", "")``, ``("query", "")``, ``("target", "")``.
    """

    name: str
    kind: str
    columns: tuple[str, ...]
    parts: Mapping[tuple[str, str], str]


@dataclass(frozen=True, slots=True)
class Difference:
    """One part that is not as it is wanted.

    Attributes:
        table: ``database.name`` of the table, view or dictionary.
        what: what differs, as in :attr:`Description.parts`; or ``"table"``, ``"view"``, ... for the whole of it, and
            ``"order of columns"``.
        name: which one of them, where there are several.
        wanted: its text as the model has it; None if it is to be away.
        found: its text as the database has it; None if it is missing.
    """

    table: str
    what: str
    name: str
    wanted: str | None
    found: str | None

    def __str__(self) -> str:
        which = f"{self.what} {self.name}".strip()
        if self.found is None:
            return f"{self.table}: {which} is missing: {self.wanted}"
        if self.wanted is None:
            return f"{self.table}: {which} is not in the model: {self.found}"
        return f"{self.table}: {which} is {self.found}, the model has {self.wanted}"


# ALTER writes the default of the type, CREATE leaves it out.
_EPHEMERAL = re.compile(r"\bEPHEMERAL defaultValueOfTypeName\('(?:[^'\\]|\\.)*'\)")
_COLUMNS = "name, engine, engine_full, create_table_query, as_select, comment"


def describe(connection: sa.Connection, schema: str, names: Iterable[str] | None = None) -> dict[str, Description]:
    """Describe what a database holds, by name.

    Args:
        connection: to the server.
        schema: the database.
        names: the tables, views and dictionaries to describe; by default all.
    """
    return _described(connection, schema, schema, names)


def _described(
    connection: sa.Connection, schema: str, called: str, names: Iterable[str] | None = None
) -> dict[str, Description]:
    rows = connection.execute(
        sa.text(
            f"SELECT {_COLUMNS} FROM system.tables WHERE database = :schema AND name NOT LIKE '.inner%' ORDER BY name"  # noqa: S608
        ),
        {"schema": schema},
    ).all()
    wanted = None if names is None else set(names)
    quoted = called.replace("\\", "\\\\").replace("`", "\\`")
    printed = called if re.fullmatch(r"[A-Za-z_]\w*", called, re.ASCII) else f"`{quoted}`"
    found = {}
    for name, *texts in rows:
        if wanted is None or name in wanted:
            if schema != called:
                # What was made in a database for the purpose speaks of that database.
                texts = [text.replace(f"/{schema}", "").replace(schema, printed) for text in texts]
            found[name] = _describe(f"{called}.{name}", *texts)
    return found


def _describe(name: str, engine: str, engine_full: str, create: str, select: str, comment: str) -> Description:
    query = read_create_query(create)
    parts = {("column", column): _EPHEMERAL.sub("EPHEMERAL", text) for column, text in query.columns.items()}
    parts |= {("index", index): text for index, text in query.indexes.items()}
    parts |= {("constraint", constraint): text for constraint, text in query.constraints.items()}
    parts |= {("projection", projection): text for projection, text in query.projections.items()}
    if engine in ("View", "MaterializedView"):
        kind = "view" if engine == "View" else "materialized view"
        clauses: dict[str, str] = {}
        # The columns are those of the query.
        parts = {("query", ""): select}
        if query.target:
            parts["target", ""] = query.target
    elif engine == "Dictionary":
        kind, clauses = "dictionary", split_dictionary(query.clauses)
        settings = clauses.pop("SETTINGS", "")[1:-1]
    else:
        kind, (head, clauses) = "table", read_clauses(engine_full)
        settings = clauses.pop("SETTINGS", "")
        parts["engine", ""] = head
    if engine not in ("View", "MaterializedView"):
        parts |= {("setting", setting): text for setting, text in split_settings(settings).items()}
    clauses.pop("COMMENT", None)
    parts |= {("clause", clause): text for clause, text in clauses.items()}
    if comment:
        parts["comment", ""] = comment
    return Description(name, kind, tuple(query.columns), parts)


def differences(wanted: Description, found: Description) -> Iterator[Difference]:
    """Yield what has to change in ``found`` to make it ``wanted``."""
    if wanted.kind != found.kind:
        yield Difference(wanted.name, "kind", "", wanted.kind, found.kind)
        return
    for key in [*wanted.parts, *(key for key in found.parts if key not in wanted.parts)]:
        here, there = wanted.parts.get(key), found.parts.get(key)
        if here != there:
            yield Difference(wanted.name, *key, here, there)
    order, other = wanted.columns, found.columns
    if wanted.kind == "table" and set(order) == set(other) and order != other:
        yield Difference(wanted.name, "order of columns", "", ", ".join(order), ", ".join(other))


def compare(
    connection: sa.Connection, metadata: sa.MetaData, *, ignore: Iterable[str] = (), schema: str | None = None
) -> list[Difference]:
    """Compare what ``metadata`` declares with what the server has, and return what differs; nothing if they agree.

    Args:
        connection: to the server; it may create and drop databases.
        metadata: tables, views and dictionaries that are wanted, and nothing else in their databases.
        ignore: ``database.name`` of what may be there beside them.
        schema: the database of what has none; by default the connection's own.
    """
    schema = schema or str(connection.dialect.default_schema_name)
    wanted = describe_models(connection, metadata, schema=schema)
    found: dict[str, Description] = {}
    declared: list[sa.Table | View] = [*metadata.tables.values(), *views(metadata)]
    for database in {one.schema or schema for one in declared}:
        found |= {one.name: one for one in describe(connection, database).values()}
    result: list[Difference] = []
    for name, description in wanted.items():
        if name in found:
            result += differences(description, found[name])
        else:
            result.append(Difference(name, description.kind, "", name, None))
    ignored = set(ignore)
    result += [
        Difference(name, description.kind, "", None, name)
        for name, description in found.items()
        if name not in wanted and name not in ignored
    ]
    return result


def describe_models(
    connection: sa.Connection,
    metadata: sa.MetaData,
    *,
    schema: str | None = None,
) -> dict[str, Description]:
    """Describe what ``metadata`` declares, by ``database.name``, as the server would have it.

    It is made in databases of its own on the server of ``connection``, which are dropped again.

    Args:
        connection: to the server; it may create and drop databases.
        metadata: the tables, views and dictionaries.
        schema: the database of what has none; by default the connection's own.
    """
    default = schema or str(connection.dialect.default_schema_name)
    found: dict[str, Description] = {}
    declared: list[sa.Table | View] = [*metadata.sorted_tables, *views(metadata)]
    with _databases(connection, {one.schema for one in declared}) as places:
        # SQLAlchemy writes a name of its own into the map. ON CLUSTER would make them everywhere.
        options: Any = {"schema_translate_map": dict(places), "clickhouse_cluster": False}
        for one in declared:
            for statement in _statements(one, places[one.schema]):
                connection.execute(statement, execution_options=options)
        for place, scratch in places.items():
            described = _described(connection, scratch, place or default)
            found |= {description.name: description for description in described.values()}
    return found


def _statements(declared: sa.Table | View, scratch: str) -> list[Any]:
    if isinstance(declared, View):
        return [CreateView(declared)]
    table = declared
    if isinstance(getattr(table, "engine", None), ReplicatedEngineMixin):
        # A replica of its own: under the table's path it would be one more of the table itself.
        table = declared.to_metadata(sa.MetaData(), schema=declared.schema)  # type: ignore[arg-type]
        engine: Any = table.engine  # type: ignore[attr-defined]
        engine.table_path += f"/{scratch}"
    return [sa.schema.CreateTable(table), *map(sa.schema.CreateIndex, table.indexes)]


@contextmanager
def _databases(connection: sa.Connection, schemas: Iterable[str | None]) -> Iterator[dict[str | None, str]]:
    """Make an empty database for each of ``schemas``; they are dropped with all that is in them."""
    places = {schema: f"compare_{uuid.uuid4().hex}" for schema in schemas}
    made: list[Any] = []
    try:
        for scratch in places.values():
            connection.execute(sa.schema.CreateSchema(scratch))
            made.append(scratch)
        yield places
    finally:
        for scratch in made:
            connection.execute(sa.schema.DropSchema(scratch))
