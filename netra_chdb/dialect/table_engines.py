"""ClickHouse's table engines: clickhouse-sqlalchemy's, made fit for ``Table`` copies and Alembic."""

from __future__ import annotations

import ast
import re
from typing import Any, Final

import sqlalchemy as sa
from clickhouse_sqlalchemy import engines as upstream

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
    "fragment",
    "read_engine",
    "read_key",
]


class _Engine:
    # Alembic asks every constraint of a table; upstream's classes are constraints without it.
    _type_bound = False
    _create_rule: Any = None
    #: Whether it describes a table that is there: with the server's own SETTINGS, and no others.
    is_reflected = False


class MergeTree(_Engine, upstream.MergeTree):
    """``MergeTree``; ``order_by`` is the sort key, keyword arguments beyond the clauses are its SETTINGS."""


class AggregatingMergeTree(_Engine, upstream.AggregatingMergeTree):
    """``AggregatingMergeTree``: merges the aggregate states of rows with one sort key."""


class ReplacingMergeTree(_Engine, upstream.ReplacingMergeTree):
    """``ReplacingMergeTree``: keeps the last row of each sort key; read it with FINAL."""


class SummingMergeTree(_Engine, upstream.SummingMergeTree):
    """``SummingMergeTree``."""


class ReplicatedMergeTree(_Engine, upstream.ReplicatedMergeTree):
    """``ReplicatedMergeTree``."""


class ReplicatedAggregatingMergeTree(_Engine, upstream.ReplicatedAggregatingMergeTree):
    """``ReplicatedAggregatingMergeTree``."""


class ReplicatedReplacingMergeTree(_Engine, upstream.ReplicatedReplacingMergeTree):
    """``ReplicatedReplacingMergeTree``."""


class Distributed(_Engine, upstream.Distributed):
    """``Distributed``: a view of one table on every shard of a cluster."""


class Memory(_Engine, upstream.Memory):
    """``Memory``: rows in RAM, gone with the process."""


class Verbatim(_Engine, upstream.Memory):
    """Any other table engine, as the server wrote it."""

    __visit_name__ = "verbatim_engine"

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


_CLAUSE: Final = re.compile(r"\s(PARTITION BY|PRIMARY KEY|ORDER BY|SAMPLE BY|TTL|SETTINGS)\s")
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


def fragment(sql: str) -> sa.TextClause:
    """Return SQL that the server wrote as an element; its colons are no parameters."""
    return sa.text(sql.replace("\\", "\\\\").replace(":", "\\:") if ":" in sql else sql)


def _split(full: str) -> tuple[str, dict[str, str]]:
    # Keywords inside quotes or brackets belong to an expression: split_arguments() passes over both.
    head, clauses, current = "", {}, None
    for word in re.split(r"(?<=\s)(?=(?:PARTITION BY|PRIMARY KEY|ORDER BY|SAMPLE BY|TTL|SETTINGS)\s)", full):
        match = _CLAUSE.match(f" {word}")
        text = head if current is None else clauses[current]
        if match is None or not _is_whole(text):
            text += word
        else:
            current, text = match[1], word[len(match[1]) :]
        if current is None:
            head = text
        else:
            clauses[current] = text
    return head.strip(), {name: text.strip() for name, text in clauses.items()}


def _is_whole(text: str) -> bool:
    """Whether no quote and no bracket is open at the end of ``text``."""
    return len(split_arguments(f"{text} \0end", "\0")) == 2


def _keys(text: str, columns: Any) -> list[Any]:
    inner = text[1:-1] if text.startswith("(") and len(split_arguments(text[1:-1], ")")) == 1 else text
    parts = [unquote(part) if unquote(part) in columns else fragment(part) for part in split_arguments(inner)]
    return parts if all(isinstance(part, str) for part in parts) or inner is not text else [fragment(text)]


def read_key(create: str) -> str:
    """Return the primary key of a CREATE TABLE statement, as it is written there."""
    _, clauses = _split(create.rpartition(" ENGINE = ")[2])
    key = clauses.get("PRIMARY KEY") or clauses.get("ORDER BY", "tuple()")
    key = split_arguments(f"{key} COMMENT ", " COMMENT ")[0]
    return "" if key == "tuple()" else key[1:-1] if key.startswith("(") else key


def _value(text: str) -> Any:
    if text.startswith("'"):
        return unquote(text)
    return {"true": 1, "false": 0}[text] if text in ("true", "false") else ast.literal_eval(text)


def read_engine(full: str, columns: Any) -> Any:
    """Return the table engine that ``system.tables.engine_full`` describes.

    Args:
        full: the text, with keys, TTL and SETTINGS.
        columns: the table's columns, by name.
    """
    head, clauses = _split(full)
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
    for setting in split_arguments(clauses.get("SETTINGS", "")):
        key, _, value = setting.partition("=")
        options[key.strip()] = _value(value.strip())
    if given and keyword:
        options[keyword] = unquote(given[0])
    engine = cls(**options)
    engine.is_reflected = True
    return engine
