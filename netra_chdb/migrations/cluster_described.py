"""What a database on a cluster is, told as on one server: so that it can be compared with the models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import sqlalchemy as sa

from netra_chdb.dialect.description import Description, describe
from netra_chdb.dialect.type_parser import split_arguments
from netra_chdb.migrations.cluster import LOCAL

__all__ = ["describe_database", "on_this_server"]

_ENGINE: Final = re.compile(r"Replicated(\w*MergeTree)(?:\((.*)\))?", re.DOTALL)
_WINDOW: Final = "replicated_deduplication_window"


@contextmanager
def on_this_server(connection: sa.Connection) -> Iterator[None]:
    """Run DDL on the server of ``connection`` alone: what is made for a look is not made everywhere."""
    cluster = connection.get_execution_options().get("clickhouse_cluster")
    connection.execution_options(clickhouse_cluster=False)
    try:
        yield
    finally:
        connection.execution_options(clickhouse_cluster=cluster)


def describe_database(connection: sa.Connection, database: str) -> dict[str, Description]:
    """Describe what a database holds, by name; a distributed table and its local one are one table without either."""
    found = describe(connection, database)
    pairs = {
        name.removesuffix(LOCAL)
        for name in found
        if name.endswith(LOCAL)
        and (over := found.get(name.removesuffix(LOCAL))) is not None
        and over.parts.get(("engine", ""), "").startswith("Distributed(")
    }
    told = {}
    for name, one in found.items():
        if name in pairs:
            told[name] = _as_one(found[name + LOCAL], one.name)
        elif name.removesuffix(LOCAL) not in pairs:
            told[name] = _without_local(one, database, pairs)
    return told


def _as_one(local: Description, name: str) -> Description:
    parts = {key: text for key, text in local.parts.items() if key != ("setting", f"{_WINDOW}_seconds")}
    if window := parts.pop(("setting", _WINDOW), None):
        parts["setting", f"non_{_WINDOW}"] = window
    if match := _ENGINE.fullmatch(parts["engine", ""]):
        # Behind its path and its replica stand the arguments that it has on one server.
        arguments = ", ".join(split_arguments(match[2] or "")[2:])
        parts["engine", ""] = f"{match[1]}({arguments})" if arguments else match[1]
    return replace(local, name=name, parts=parts)


def _without_local(view: Description, database: str, pairs: set[str]) -> Description:
    """Return a view as it reads and writes the tables that have a local one."""
    parts = dict(view.parts)
    for key in (("query", ""), ("target", "")):
        for name in pairs if key in parts else ():
            local = rf"(?<![\w.`]){re.escape(f'{database}.{name}{LOCAL}')}(?!\w)"
            parts[key] = re.sub(local, f"{database}.{name}", parts[key])
    return replace(view, parts=parts)
