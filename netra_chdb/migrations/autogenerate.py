"""What ``alembic revision --autogenerate`` and ``alembic check`` compare, and how it is written into a revision.

Both sides are described by the server: what the database has, and what the models make in a scratch database. Alembic's
own comparison is blind to most of what a ClickHouse table is; it is shown nothing. The user needs the right to create
and drop databases.
"""

from __future__ import annotations

import logging
import uuid
from typing import Any, Final

import sqlalchemy as sa
from alembic.autogenerate import comparators, renderers
from alembic.operations import MigrateOperation

from netra_chdb.dialect.description import describe_models
from netra_chdb.migrations.alterations import alterations, creation
from netra_chdb.migrations.cluster_described import describe_database, on_this_server
from netra_chdb.migrations.definitions import DefineTable
from netra_chdb.migrations.dictionaries import MakeDictionary, ReplaceDictionary
from netra_chdb.migrations.operations import AlterTable, ExchangeTables, Refuse
from netra_chdb.migrations.scratch import drop_left_over
from netra_chdb.migrations.version import OURS
from netra_chdb.migrations.views import MakeView, ReplaceView

__all__ = ["comparing"]

_MARK: Final = "netra_compares"
_ORDER: Final = {"table": 0, "dictionary": 1, "view": 2, "materialized view": 3}
_log = logging.getLogger("alembic.netra_chdb")


def comparing(database: str) -> dict[str, Any]:
    """Return the options of ``context.configure`` that decide what is compared."""

    def nothing(*_: Any) -> bool:
        return False

    def only_ours(name: str | None, kind: str, parents: Any) -> bool:
        return kind == "schema" and name == database

    return {
        "include_name": only_ours,
        "include_object": nothing,
        "upgrade_token": f"{database}_upgrades",
        "downgrade_token": f"{database}_downgrades",
        _MARK: database,
    }


@comparators.dispatch_for("schema")
def _compare(autogen_context: Any, upgrade_ops: Any, schemas: Any) -> None:
    database = autogen_context.migration_context.opts.get(_MARK)
    if database is None:
        return
    with on_this_server(autogen_context.connection):
        _find_changes(autogen_context, upgrade_ops, database)


def _find_changes(autogen_context: Any, upgrade_ops: Any, database: str) -> None:
    connection: sa.Connection = autogen_context.connection
    drop_left_over(connection)
    wanted = {
        one.name: one
        for one in describe_models(connection, autogen_context.metadata).values()
        if one.name.startswith(f"{database}.")
    }
    found = {one.name: one for name, one in describe_database(connection, database).items() if not OURS.fullmatch(name)}
    both = [name for name in wanted if name in found]
    new = sorted((one for name, one in wanted.items() if name not in found), key=lambda one: _ORDER[one.kind])
    gone = sorted((one for name, one in found.items() if name not in wanted), key=lambda one: -_ORDER[one.kind])
    operations = [creation(one, connection, create=False) for one in gone if one.kind.endswith("view")]
    operations += [creation(one, connection) for one in new if not one.kind.endswith("view")]
    drops: list[MigrateOperation] = []
    scratch = f"compare_{uuid.uuid4().hex}"
    connection.execute(sa.schema.CreateSchema(scratch))
    try:
        for name in sorted(both, key=lambda name: _ORDER[wanted[name].kind]):
            changes = list(alterations(wanted[name], found[name], connection, scratch))
            last = next((place for place, change in enumerate(changes) if _drops_a_column(change)), len(changes))
            operations += changes[:last]
            drops += changes[last:]
    finally:
        connection.execute(sa.schema.DropSchema(scratch))
    # A view reads the columns that it is going to read no more, until its query is another one.
    operations += drops
    operations += [creation(one, connection) for one in new if one.kind.endswith("view")]
    operations += [creation(one, connection, create=False) for one in gone if not one.kind.endswith("view")]
    for operation in operations:
        _log.info("%s: %s", database, " ".join(map(str, operation.to_diff_tuple())))
    upgrade_ops.ops.extend(operations)


def _drops_a_column(operation: MigrateOperation) -> bool:
    return isinstance(operation, AlterTable) and operation.changes[0].startswith("DROP COLUMN ")


def _call(function: str, *arguments: Any, **options: Any) -> str:
    texts = [repr(argument) for argument in arguments]
    texts += [f"{name}={value!r}" for name, value in options.items() if value is not None and value != ()]
    return f"op.{function}({', '.join(texts)})"


@renderers.dispatch_for(AlterTable)
def _alter_table(autogen_context: Any, operation: AlterTable) -> str:
    undo: Any = operation.undo[0] if len(operation.undo) == 1 else operation.undo
    return _call("alter_table", operation.table, *operation.changes, reverse=undo, schema=operation.schema)


@renderers.dispatch_for(DefineTable)
def _define_table(autogen_context: Any, operation: DefineTable) -> str:
    if not operation.create:
        return _call("drop_table", operation.name, schema=operation.schema)
    elements = "".join(f"        {element!r},\n" for element in operation.elements)
    options = {"engine": operation.engine, "settings": operation.settings, "comment": operation.comment}
    texts = [f"    {name}={value!r},\n" for name, value in {**options, "schema": operation.schema}.items() if value]
    return f"op.define_table(\n    {operation.name!r},\n    [\n{elements}    ],\n{''.join(texts)})"


@renderers.dispatch_for(MakeView)
def _make_view(autogen_context: Any, operation: MakeView) -> str:
    verb = "create" if operation.create else "drop"
    kind = "materialized_view" if operation.to else "view"
    names = ("to", "select", "schema", "comment")
    return _call(f"{verb}_{kind}", operation.name, **{name: getattr(operation, name) for name in names})


@renderers.dispatch_for(ReplaceView)
def _replace_view(autogen_context: Any, operation: ReplaceView) -> str:
    return _call(
        "replace_view",
        operation.name,
        select=operation.select,
        old_select=operation.old_select,
        schema=operation.schema,
        comment=operation.comment,
        **({} if operation.materialized else {"materialized": False}),
    )


@renderers.dispatch_for(MakeDictionary)
def _make_dictionary(autogen_context: Any, operation: MakeDictionary) -> str:
    if operation.create:
        return _call("create_dictionary", operation.name, operation.definition, schema=operation.schema)
    return _call("drop_dictionary", operation.name, definition=operation.definition, schema=operation.schema)


@renderers.dispatch_for(ReplaceDictionary)
def _replace_dictionary(autogen_context: Any, operation: ReplaceDictionary) -> str:
    old = operation.old_definition
    return _call(
        "replace_dictionary", operation.name, operation.definition, old_definition=old, schema=operation.schema
    )


@renderers.dispatch_for(ExchangeTables)
def _exchange_tables(autogen_context: Any, operation: ExchangeTables) -> str:
    return _call("exchange_tables", operation.one, operation.other, schema=operation.schema)


@renderers.dispatch_for(Refuse)
def _refuse(autogen_context: Any, operation: Refuse) -> str:
    return _call("refuse", operation.reason)
