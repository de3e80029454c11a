"""ClickHouse's table engines: clickhouse-sqlalchemy's, made fit for ``Table`` copies and Alembic."""

from __future__ import annotations

import re
from typing import Any, Final

from clickhouse_sqlalchemy import engines as upstream

from netra_chdb.dialect.create_query import split_clauses
from netra_chdb.dialect.sql_fragments import fragment, read_settings
from netra_chdb.dialect.table_items import TableItem
from netra_chdb.dialect.type_parser import split_arguments, unquote

__all__ = [
    "AggregatingMergeTree",
    "Distributed",
    "Memory",
    "MergeTree",
    "ReplacingMergeTree",
    "ReplicatedAggregatingMergeTree",
    "ReplicatedMergeTree",
    "ReplicatedReplacingMergeTree",
    "SummingMergeTree",
    "Verbatim",
    "read_clauses",
    "read_engine",
    "read_key",
]


class MergeTree(TableItem, upstream.MergeTree):
    """``MergeTree``; ``order_by`` is the sort key, keyword arguments beyond the clauses are its SETTINGS."""


class AggregatingMergeTree(TableItem, upstream.AggregatingMergeTree):
    """``AggregatingMergeTree``: merges the aggregate states of rows with one sort key."""


class ReplacingMergeTree(TableItem, upstream.ReplacingMergeTree):
    """``ReplacingMergeTree``: keeps the last row of each sort key; read it with FINAL."""


class SummingMergeTree(TableItem, upstream.SummingMergeTree):
    """``SummingMergeTree``."""


class ReplicatedMergeTree(TableItem, upstream.ReplicatedMergeTree):
    """``ReplicatedMergeTree``."""


class ReplicatedAggregatingMergeTree(TableItem, upstream.ReplicatedAggregatingMergeTree):
    """``ReplicatedAggregatingMergeTree``."""


class ReplicatedReplacingMergeTree(TableItem, upstream.ReplicatedReplacingMergeTree):
    """``ReplicatedReplacingMergeTree``."""


class Distributed(TableItem, upstream.Distributed):
    """``Distributed``: a view of one table on every shard of a cluster."""


class Memory(TableItem, upstream.Memory):
    """``Memory``: rows in RAM, gone with the process."""


class Verbatim(TableItem, upstream.Memory):
    """Any other table engine, as the server wrote it."""

    __visit_name__ = "verbatim_engine"

    def __init__(self, text: str) -> None:
        TableItem.__init__(self)
        self._arguments = (text,), {}
        self.text = text


_CLAUSE: Final = re.compile(r"\s(PARTITION BY|PRIMARY KEY|ORDER BY|SAMPLE BY|TTL|SETTINGS)\b")
_KEYS: Final = {
    "PARTITION BY": "partition_by",
    "PRIMARY KEY": "primary_key",
    "ORDER BY": "order_by",
    "SAMPLE BY": "sample_by",
}
_ARGUMENT: Final = {"ReplacingMergeTree": "version", "SummingMergeTree": "columns"}
_READ: Final[dict[str, Any]] = {
    cls.__name__: cls for cls in (MergeTree, AggregatingMergeTree, ReplacingMergeTree, SummingMergeTree, Memory)
}


def _keys(text: str, columns: Any) -> list[Any]:
    inner = text[1:-1] if text.startswith("(") and len(split_arguments(text[1:-1], ")")) == 1 else text
    parts = [unquote(part) if unquote(part) in columns else fragment(part) for part in split_arguments(inner)]
    return parts if all(isinstance(part, str) for part in parts) or inner is not text else [fragment(text)]


def read_clauses(full: str) -> tuple[str, dict[str, str]]:
    """Return a table engine's name with its arguments, and its clauses by keyword."""
    return split_clauses(full, _CLAUSE)


def read_key(create: str) -> str:
    """Return the primary key of a CREATE TABLE statement, as it is written there."""
    _, clauses = read_clauses(create.rpartition(" ENGINE = ")[2])
    key = clauses.get("PRIMARY KEY") or clauses.get("ORDER BY", "tuple()")
    key = split_arguments(f"{key} COMMENT ", " COMMENT ")[0]
    return "" if key == "tuple()" else key[1:-1] if key.startswith("(") else key


def read_engine(full: str, columns: Any) -> Any:
    """Return the table engine that ``system.tables.engine_full`` describes.

    Args:
        full: the text, with keys, TTL and SETTINGS.
        columns: the table's columns, by name.
    """
    head, clauses = read_clauses(full)
    name, _, arguments = head.partition("(")
    cls = _READ.get(name)
    keyword = _ARGUMENT.get(name)
    given = split_arguments(arguments[:-1]) if arguments else []
    if cls is None or len(given) > (1 if keyword else 0) or any(unquote(part) not in columns for part in given):
        return Verbatim(full)
    if not issubclass(cls, upstream.MergeTree):
        return cls() if head == full.strip() else Verbatim(full)
    options: dict[str, Any] = {}
    for clause, option in _KEYS.items():
        if clauses.get(clause, "tuple()") != "tuple()":
            options[option] = _keys(clauses[clause], columns)
    if "TTL" in clauses:
        options["ttl"] = fragment(clauses["TTL"])
    options.update(read_settings(clauses.get("SETTINGS", "")))
    if given and keyword:
        options[keyword] = unquote(given[0])
    engine = cls(**options)
    engine.is_reflected = True
    return engine
